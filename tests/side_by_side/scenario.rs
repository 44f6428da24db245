//! The paths, what is measured on them, and the table.

use crate::cable::Cable;
use crate::common::{Need, trial};
use crate::host::{Kind, Pair, Stream};
use hopline::device::virtual_link::Impairments;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const NEEDS: &[Need] = &[Need::Namespaces, Need::Program("ethtool")];
/// Every path's bottleneck, each way.
const RATE: u64 = 100_000_000;
/// Bytes of a question, and of its answer: ten segments, so that a loss is mostly one near the tail.
const QUESTION: usize = 100;
const ANSWER: usize = 14_000;

/// What is measured on a path.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// Megabits per second of payload that arrive within so long, slow start included.
    Goodput(Duration),
    /// The 99th percentile of so many exchanges, in milliseconds.
    Exchanges(usize),
}

/// A path and what is done on it.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    round_trip: Duration,
    loss: f64,
    reordering: f64,
    measure: Measure,
    /// Runs, each with its own seed.
    runs: u64,
    /// Of those, at once.
    at_once: u64,
}

/// Sender, receiver.
const PAIRS: [[Kind; 2]; 3] = [[Kind::Kernel, Kind::Kernel], [Kind::Hopline, Kind::Kernel], [Kind::Hopline, Kind::Hopline]];

fn scenarios() -> Vec<Scenario> {
    let goodput = |name, millis, loss, reordering, seconds, runs, at_once| Scenario {
        name,
        round_trip: Duration::from_millis(millis),
        loss,
        reordering,
        measure: Measure::Goodput(Duration::from_secs(seconds)),
        runs,
        at_once,
    };
    let exchanges =
        Scenario { measure: Measure::Exchanges(500), ..goodput("10 ms, 2 % loss, request/response p99", 10, 0.02, 0.0, 0, 8, 8) };
    vec![
        goodput("20 ms, 0.1 % loss", 20, 0.001, 0.0, 12, 6, 3),
        goodput("20 ms, 1 % loss", 20, 0.01, 0.0, 12, 8, 8),
        goodput("100 ms, 1 % loss", 100, 0.01, 0.0, 20, 16, 16),
        goodput("50 ms, 1 % reordering", 50, 0.0, 0.01, 8, 2, 2),
        exchanges,
    ]
}

impl Scenario {
    /// The way from the sender to the receiver is the bad one, and the queue holds a bandwidth-delay product.
    fn impairments(&self) -> [Impairments; 2] {
        let back = Impairments {
            delay: self.round_trip / 2,
            rate_bits_per_second: Some(RATE),
            queue_bytes: (RATE / 8 * self.round_trip.as_millis() as u64 / 1_000) as usize,
            ..Impairments::default()
        };
        let there = Impairments { loss: self.loss, reordering: self.reordering, reordering_delay: self.round_trip / 5, ..back.clone() };
        [there, back]
    }

    /// The figure of one run.
    fn run(&self, kinds: [Kind; 2], seed: u64) -> f64 {
        let cable = Cable::new(self.impairments(), seed);
        let pair = Pair::new(&cable, kinds);
        match self.measure {
            Measure::Goodput(duration) => goodput(pair, duration),
            Measure::Exchanges(count) => percentile_of_exchanges(pair, count),
        }
    }

    /// All runs, a few at once: they wait most of the time.
    fn all_runs(&self, kinds: [Kind; 2]) -> Vec<f64> {
        let seeds: Vec<u64> = (1..=self.runs).collect();
        let batches = seeds.chunks(self.at_once as usize);
        let run_batch = |batch: &[u64]| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = batch.iter().map(|&seed| scope.spawn(move || self.run(kinds, seed))).collect();
                threads.into_iter().map(|thread| thread.join().expect("the run ends well")).collect::<Vec<f64>>()
            })
        };
        batches.flat_map(run_batch).collect()
    }

    /// The larger, the better: of rates, or of the inverses of times.
    fn ratio(&self, ours: f64, kernels: f64) -> f64 {
        if matches!(self.measure, Measure::Goodput(_)) { ours / kernels } else { kernels / ours }
    }
}

fn goodput(pair: Pair, duration: Duration) -> f64 {
    let Pair { streams: [mut sender, mut receiver], .. } = pair;
    let start = Instant::now();
    let bytes = std::thread::scope(|scope| {
        scope.spawn(move || {
            let chunk = vec![7; 64 << 10];
            // It ends when the receiver goes.
            while start.elapsed() < duration && sender.write(&chunk).is_ok() {}
        });
        let (mut bytes, mut buffer) = (0, vec![0; 256 << 10]);
        while start.elapsed() < duration {
            bytes += receiver.read(&mut buffer).expect("data arrives");
        }
        drop(receiver);
        bytes
    });
    bytes as f64 * 8.0 / start.elapsed().min(duration).as_secs_f64() / 1e6
}

fn percentile_of_exchanges(pair: Pair, count: usize) -> f64 {
    let Pair { streams: [mut answers, mut asks], .. } = pair;
    let mut times = std::thread::scope(|scope| {
        scope.spawn(move || {
            let answer = vec![7; ANSWER];
            while read_exactly(&mut *answers, QUESTION) {
                answers.write_all(&answer).expect("the answer goes");
            }
        });
        let times: Vec<Duration> = (0..count).map(|_| exchange(&mut *asks)).collect();
        drop(asks);
        times
    });
    times.sort_unstable();
    times[times.len() * 99 / 100].as_secs_f64() * 1e3
}

fn exchange(asks: &mut dyn Stream) -> Duration {
    let start = Instant::now();
    asks.write_all(&[1; QUESTION]).expect("the question goes");
    assert!(read_exactly(asks, ANSWER), "the answer ends early");
    start.elapsed()
}

fn read_exactly(stream: &mut dyn Read, length: usize) -> bool {
    stream.read_exact(&mut vec![0; length]).is_ok()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Runs a scenario with each pair, and tells the ratios to the kernel: of Hopline to the kernel, of Hopline to Hopline.
fn compare(scenario: &Scenario) -> [f64; 2] {
    let figures: Vec<Vec<f64>> = PAIRS.iter().map(|&kinds| scenario.all_runs(kinds)).collect();
    let [kernel, mixed, own] = [0, 1, 2].map(|pair: usize| mean(&figures[pair]));
    let ratios = [scenario.ratio(mixed, kernel), scenario.ratio(own, kernel)];
    let unit = if matches!(scenario.measure, Measure::Goodput(_)) { "Mbit/s" } else { "ms" };
    println!(
        "{:<40} kernel {kernel:>7.2} {unit}, Hopline to kernel {mixed:>7.2} (ratio {:.2}), Hopline to Hopline {own:>7.2} (ratio {:.2})",
        scenario.name, ratios[0], ratios[1]
    );
    for (kinds, runs) in PAIRS.iter().zip(&figures) {
        let runs: Vec<String> = runs.iter().map(|figure| format!("{figure:.1}")).collect();
        println!("    {kinds:?}: {}", runs.join(" "));
    }
    ratios
}

pub(crate) fn trials() -> Vec<Trial> {
    let smoke = || {
        let measures = [Measure::Goodput(Duration::from_secs(2)), Measure::Exchanges(40)];
        for measure in measures {
            let scenario = Scenario { name: "smoke", measure, runs: 2, at_once: 2, ..scenarios()[1] };
            let ratios = compare(&scenario);
            // Two short runs on a machine that does other things as well: that it works, not how well.
            assert!(ratios.iter().all(|&ratio| ratio > 0.1), "{ratios:?}");
        }
    };
    let mut trials = vec![trial("the_kernel_and_hopline_share_an_emulated_path", NEEDS, smoke)];
    let comparisons = scenarios().into_iter().map(|scenario| {
        let name = format!("comparison_{}", scenario.name.replace([' ', ',', '%', '/', '.'], "_"));
        trial(&name, NEEDS, move || drop(compare(&scenario).to_vec())).with_ignored_flag(true)
    });
    trials.extend(comparisons);
    trials
}
