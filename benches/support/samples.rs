//! Single measurements, kept to tell their percentiles: a mean hides the tail that a waiting program sees.

use std::time::{Duration, Instant};

/// The time that each of many runs took.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Runs `round` `count` times and keeps how long each took, as it says itself; gives the sum, which is what criterion wants.
    pub(crate) fn collect(&mut self, count: u64, mut round: impl FnMut() -> Duration) -> Duration {
        (0..count).map(|_| self.keep(round())).sum()
    }

    fn keep(&mut self, time: Duration) -> Duration {
        self.0.push(time);
        time
    }

    /// Prints the percentiles, in microseconds.
    pub(crate) fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let at = |share: f64| self.0.get((self.0.len() as f64 * share) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let count = self.0.len();
        println!("{name:<44} p50 {p50:8.2}  p90 {p90:8.2}  p99 {p99:8.2}  p99.9 {p999:8.2} µs  ({count} runs)");
    }
}

/// How long `run` takes.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(run());
    start.elapsed()
}
