//! How connections start: how soon the path is full, and what slow start loses at its end (RFC 9406).
//!
//! Where the queue holds what the path holds, and the round trip is long enough to tell a queue from the noise that RFC 9406 §4.3 allows for, it is to end before the
//! queue overflows. What shorter queues lose, and how much of the rate every start takes, is in the table.

use crate::exchange::{Exchange, Step};
use crate::path::Path;
use crate::table;
use libtest_mimic::Trial;
use std::time::Duration;

/// What is sent in the first ones of so many round trips is measured.
const ROUND_TRIPS: [u32; 3] = [15, 30, 60];
/// The runs of a path that reorders. Others need one: nothing of them is chance.
const SEEDS: u64 = 8;

/// One start: the shares of the payload rate, and the segments taken for lost by the first of the times.
fn start(path: &Path, algorithm: &str, seed: u64) -> ([f64; 3], u64) {
    let mut exchange = Exchange::open(path, seed, [&[Step::Send(usize::MAX)], &[]], algorithm);
    exchange.ends[0].stream.set_congestion_control(algorithm).unwrap();
    let begin = exchange.world.now();
    let mut lost = None;
    let shares = ROUND_TRIPS.map(|count| {
        let time = path.round_trip() * count;
        exchange.run_until(time + Duration::from_secs(60), |_, now| now.since(begin) >= time);
        lost.get_or_insert_with(|| exchange.ends[0].stream.info().unwrap().lost);
        exchange.ends[1].read as f64 * 8.0 / path.payload_rate() / time.as_secs_f64()
    });
    (shares, lost.unwrap_or_default())
}

/// Notes what is missing and lost, as means over all seeds; none may be lost where `is_lossless`.
fn check(number: usize, path: &Path, algorithm: &str, is_lossless: bool) -> Result<(), String> {
    let seeds = if path.reordering > 0.0 { SEEDS } else { 1 };
    let starts: Vec<_> = (1..=seeds).map(|seed| start(path, algorithm, seed)).collect();
    let mean = |sum: f64| sum / seeds as f64;
    let missing = [0, 1, 2].map(|index: usize| mean(starts.iter().map(|(shares, _)| 1.0 - shares[index]).sum()));
    let lost = mean(starts.iter().map(|&(_, lost)| lost as f64).sum());
    if is_lossless && lost > 0.0 {
        return Err(format!("{algorithm} {path}: slow start lost {lost} segments"));
    }
    let [first, second, third] = missing;
    let value =
        format!("{first:.3}, {second:.3}, {third:.3} of the rate is missing after 15, 30, 60 round trips, {lost:.0} lost in the first");
    table::check(&format!("start {number:02}"), &format!("{algorithm:>7} {path}"), &value)
}

pub(crate) fn trials() -> Vec<Trial> {
    let lossless = [15, 18, 22, 25, 30, 36, 45, 60, 80, 100, 150, 300].map(|millis| (millis, 100_000_000, 1.0, 0.0, "cubic", true));
    let reno = [25, 100].map(|millis| (millis, 100_000_000, 1.0, 0.0, "newreno", true));
    let reordering = [(25, 100_000_000, 1.0, 0.01, "cubic", false), (10, 100_000_000, 1.0, 0.01, "cubic", false)];
    let queues = [0.1, 0.5, 4.0].map(|queue| (25, 100_000_000, queue, 0.0, "cubic", false));
    let others = [
        (1, 1_000_000_000, 1.0, 0.0, "cubic", false),
        (10, 1_000_000_000, 0.5, 0.0, "cubic", false),
        (10, 100_000_000, 0.5, 0.0, "cubic", false),
        (50, 10_000_000, 0.5, 0.0, "cubic", false),
        (5, 100_000_000, 2.0, 0.0, "cubic", false),
        (300, 10_000_000, 0.1, 0.0, "cubic", false),
        (300, 100_000_000, 0.5, 0.0, "cubic", false),
    ];
    let all = lossless.into_iter().chain(reno).chain(reordering).chain(queues).chain(others).enumerate();
    let trial = |(number, (delay_millis, rate, queue, reordering, algorithm, is_lossless))| {
        let path = Path { delay_millis, rate, queue, reordering, ..Path::default() };
        Trial::test(format!("start_{number:02}"), move || Ok(check(number, &path, algorithm, is_lossless)?))
    };
    all.map(trial).collect()
}
