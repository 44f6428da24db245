//! Questions and answers over a lossy path: how long the unlucky ones take. Ten segments for an answer, so that a loss is mostly near its tail.

use crate::exchange::Exchange;
use crate::matrix::dialogue;
use crate::path::Path;
use crate::table;
use libtest_mimic::Trial;
use std::time::Duration;

const EXCHANGES: usize = 500;
const SEEDS: u64 = 8;
const QUESTION: usize = 100;
const ANSWER: usize = 14_000;
const LIMIT: Duration = Duration::from_secs(3_600);

/// The times of all exchanges of one connection, in milliseconds. Data flows from the first host, which answers.
fn times(path: &Path, seed: u64) -> Vec<f64> {
    let [asking, answering] = dialogue(EXCHANGES, QUESTION, ANSWER, Duration::ZERO);
    let mut exchange = Exchange::open(path, seed, [&answering, &asking], "latency");
    let start = exchange.world.now();
    exchange.finish(LIMIT);
    let had = &exchange.ends[1].had;
    let starts = std::iter::once(&start).chain(had);
    had.iter().zip(starts).map(|(end, start)| end.since(*start).as_secs_f64() * 1e3).collect()
}

fn check(path: &Path) -> Result<(), String> {
    let mut all: Vec<f64> = (0..SEEDS).flat_map(|seed| times(path, seed)).collect();
    all.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| all[(all.len() as f64 * share) as usize];
    let key = format!("latency {} ms, {} %", 2 * path.delay_millis, path.loss * 100.0);
    table::check(
        &key,
        &path.to_string(),
        &format!("p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms", at(0.5), at(0.9), at(0.99), at(0.999)),
    )
}

pub(crate) fn trials() -> Vec<Trial> {
    let paths = [(5, 0.02), (5, 0.1), (50, 0.01)];
    let trial = |(delay_millis, loss): (u64, f64)| {
        let path = Path { delay_millis, loss, ..Path::default() };
        Trial::test(format!("latency_{}_ms_{}_percent", 2 * delay_millis, loss * 100.0), move || Ok(check(&path)?))
    };
    paths.map(trial).into()
}
