//! Paths on which nothing is lost but what overflows the queue: the rate has to be reached.
//!
//! Measured where the reading program is, after slow start, over at least 50 round trips, as a share of what the rate leaves for payload. Without
//! impairments a seed changes nothing but initial sequence numbers, so there are few of them.

use crate::covering::{pairwise, part_of_product};
use crate::exchange::{End, Exchange, Step};
use crate::path::Path;
use crate::table;
use hopline::socket::StreamInfo;
use hopline::time::Instant;
use libtest_mimic::Trial;
use std::time::Duration;

/// Round trips in which the goodput is measured.
const ROUND_TRIPS: u32 = 50;
/// Packets in which it is measured at least.
const LEAST_PACKETS: f64 = 2_000.0;
/// Round trips after which slow start is taken to be over, whatever the connection says.
const LONGEST_SLOW_START: u32 = 60;
/// The share of the payload rate that is to be reached.
const GOAL: f64 = 0.9;
/// NewReno grows by a segment for each round trip. Where one of its teeth takes at most so many, it is measured over several; where it takes hours, over what follows
/// slow start, as everything else.
const LONGEST_TOOTH: u32 = 150;
const TEETH: u32 = 3;
/// The whole product has 640 cells, in so many trials.
const PARTS: usize = 32;
/// By a queue of this many bandwidth-delay products or more, with the algorithm.
const ALGORITHMS: [(&str, f64); 2] = [("cubic", 0.1), ("newreno", 0.5)];

const DELAY_MILLIS: [u64; 5] = [0, 1, 10, 50, 300];
const RATE_MEGABITS: [u64; 4] = [1, 10, 100, 1_000];
const QUEUE: [f64; 4] = [0.1, 0.5, 1.0, 4.0];
const MTU: [usize; 4] = [576, 1_500, 9_000, 65_535];

/// How many levels each factor has.
pub(crate) const LEVELS: [usize; 5] = [DELAY_MILLIS.len(), RATE_MEGABITS.len(), QUEUE.len(), MTU.len(), ALGORITHMS.len()];

fn case(row: &[usize]) -> (Path, usize) {
    let path = Path {
        delay_millis: DELAY_MILLIS[row[0]],
        rate: RATE_MEGABITS[row[1]] * 1_000_000,
        queue: QUEUE[row[2]],
        mtu: MTU[row[3]],
        ..Path::default()
    };
    (path, row[4])
}

/// The share of the payload rate that one flow reaches.
pub(crate) fn share(path: &Path, algorithm: &str, seed: u64) -> f64 {
    let mut exchange = Exchange::open(path, seed, [&[Step::Send(usize::MAX)], &[]], algorithm);
    exchange.ends[0].stream.set_congestion_control(algorithm).unwrap();
    leave_slow_start(&mut exchange, path);
    let round_trips =
        if algorithm == "newreno" && tooth(path) <= LONGEST_TOOTH { ROUND_TRIPS.max(TEETH * tooth(path)) } else { ROUND_TRIPS };
    let duration = (path.round_trip() * round_trips).max(time_for_packets(path));
    let (start, before) = (exchange.world.now(), exchange.ends[1].read);
    let end = start + duration;
    exchange.run_until(duration * 2 + Duration::from_secs(60), |_, now| now >= end);
    let elapsed = exchange.world.now().since(start).as_secs_f64();
    (exchange.ends[1].read - before) as f64 * 8.0 / elapsed / path.payload_rate()
}

/// Round trips from half of the largest window to all of it, with a segment more in each.
fn tooth(path: &Path) -> u32 {
    ((path.product() + path.queue_bytes() as u64) / path.mtu as u64 / 2) as u32
}

/// Whether the goal is to be reached.
fn is_claimed(path: &Path, algorithm: usize) -> bool {
    path.queue >= ALGORITHMS[algorithm].1
}

fn time_for_packets(path: &Path) -> Duration {
    Duration::from_secs_f64(LEAST_PACKETS * path.mtu as f64 * 8.0 / path.rate() as f64)
}

/// Until slow start is over and all that was in flight then has been read.
fn leave_slow_start(exchange: &mut Exchange, path: &Path) {
    let limit = exchange.world.now() + path.round_trip() * LONGEST_SLOW_START + Duration::from_secs(5);
    let mut goal = usize::MAX;
    exchange.run_until(Duration::from_secs(3_600), |ends: &[End; 2], now: Instant| {
        let info = ends[0].stream.info().unwrap();
        if goal == usize::MAX && (is_beyond_slow_start(&info) || now > limit) {
            goal = ends[1].read + info.in_flight;
        }
        ends[1].read >= goal
    });
}

fn is_beyond_slow_start(info: &StreamInfo) -> bool {
    info.slow_start_threshold != usize::MAX && info.congestion_window >= info.slow_start_threshold
}

/// Runs a case; the error is that it misses the goal where it is to be reached.
fn measure(path: &Path, algorithm: usize) -> Result<f64, String> {
    let (name, _) = ALGORITHMS[algorithm];
    let share = share(path, name, 1);
    if is_claimed(path, algorithm) && share < GOAL { Err(format!("goodput {name} {path}: {share:.3}")) } else { Ok(share) }
}

/// Also notes what is missing: the smaller, the better.
fn check(number: usize, path: &Path, algorithm: usize) -> Result<(), String> {
    let (name, _) = ALGORITHMS[algorithm];
    let missing = (1.0 - measure(path, algorithm)?).max(0.0);
    let note = if is_claimed(path, algorithm) { "" } else { " (not claimed)" };
    table::check(&format!("goodput {number:02}"), &format!("{name:>7} {path}"), &format!("{missing:.3} of the rate is missing{note}"))
}

pub(crate) fn trials() -> Vec<Trial> {
    let rows = pairwise(&LEVELS).into_iter().enumerate();
    let mut trials: Vec<Trial> = rows
        .map(|(number, row)| {
            let (path, algorithm) = case(&row);
            Trial::test(format!("goodput_{number:02}_reaches_the_rate"), move || Ok(check(number, &path, algorithm)?))
        })
        .collect();
    let part =
        |part: usize| Trial::test(format!("goodput_product_{part:02}_of_{PARTS}"), move || Ok(product(part)?)).with_ignored_flag(true);
    trials.extend((0..PARTS).map(part));
    trials
}

fn product(part: usize) -> Result<(), String> {
    let rows = part_of_product(&LEVELS, part, PARTS);
    let claimed = rows.iter().filter(|row| is_claimed(&case(row).0, case(row).1)).count();
    let failures: Vec<String> = rows.iter().filter_map(|row| measure(&case(row).0, case(row).1).err()).collect();
    println!("goodput product {part:02}: {} cells, {claimed} claimed, {} failed", rows.len(), failures.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}
