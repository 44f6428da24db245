//! The paths, what is measured on them, and the table.

use crate::cable::Cable;
use crate::common::{Need, read, trial};
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
    /// The 99th percentile of the times of so many exchanges in each run, in milliseconds, over all runs.
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

/// Sender, receiver; first the one to compare with.
const PAIRS: [[Kind; 2]; 4] =
    [[Kind::Kernel, Kind::Kernel], [Kind::Kernel, Kind::Hopline], [Kind::Hopline, Kind::Kernel], [Kind::Hopline, Kind::Hopline]];
/// What is told of the times of exchanges, in shares of one.
const QUANTILES: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.999, 1.0];

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
        Scenario { measure: Measure::Exchanges(2_000), ..goodput("10 ms, 2 % loss, request/response p99", 10, 0.02, 0.0, 0, 12, 12) };
    vec![
        goodput("20 ms, 0.1 % loss", 20, 0.001, 0.0, 12, 6, 3),
        goodput("20 ms, 1 % loss", 20, 0.01, 0.0, 12, 8, 8),
        goodput("100 ms, 1 % loss", 100, 0.01, 0.0, 20, 16, 16),
        goodput("50 ms, 1 % reordering", 50, 0.0, 0.01, 8, 12, 2),
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

    /// What one run measures: a rate, or the time of each exchange.
    fn run(&self, kinds: [Kind; 2], seed: u64) -> Vec<f64> {
        let cable = Cable::new(self.impairments(), seed);
        let pair = Pair::new(&cable, kinds);
        match self.measure {
            Measure::Goodput(duration) => vec![goodput(pair, duration)],
            Measure::Exchanges(count) => times_of_exchanges(pair, count),
        }
    }

    /// All runs of each pair, a few at once, for they wait most of the time; the pairs by turns, so that what else the machine does meets all of them.
    fn all_runs(&self) -> [Vec<Vec<f64>>; 4] {
        let mut runs = PAIRS.map(|_| Vec::new());
        let seeds: Vec<u64> = (1..=self.runs).collect();
        for batch in seeds.chunks(self.at_once as usize) {
            for (kinds, runs) in PAIRS.into_iter().zip(&mut runs) {
                runs.extend(self.run_batch(kinds, batch));
            }
        }
        runs
    }

    fn run_batch(&self, kinds: [Kind; 2], seeds: &[u64]) -> Vec<Vec<f64>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = seeds.iter().map(|&seed| scope.spawn(move || self.run(kinds, seed))).collect();
            threads.into_iter().map(|thread| thread.join().expect("the run ends well")).collect()
        })
    }

    /// The figure to compare: the mean of rates, or the 99th percentile of all times.
    fn figure(&self, runs: &[Vec<f64>]) -> f64 {
        let values = runs.concat();
        match self.measure {
            Measure::Goodput(_) => values.iter().sum::<f64>() / values.len() as f64,
            Measure::Exchanges(_) => quantile(values, 0.99),
        }
    }

    /// What the runs of one pair were like.
    fn details(&self, runs: &[Vec<f64>]) -> String {
        let list = |figures: Vec<f64>| figures.iter().map(|figure| format!("{figure:.1}")).collect::<Vec<_>>().join(" ");
        match self.measure {
            Measure::Goodput(_) => format!("median {:.1} of {}", quantile(runs.concat(), 0.5), list(runs.concat())),
            Measure::Exchanges(_) => {
                let all = QUANTILES.map(|share| quantile(runs.concat(), share)).to_vec();
                let each = runs.iter().map(|run| quantile(run.clone(), 0.99)).collect();
                format!("p50, p90, p95, p99, p99.9, longest: {}; p99 of each run: {}", list(all), list(each))
            }
        }
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
            while start.elapsed() < duration && sender.write_all(&chunk).is_ok() {}
        });
        let (mut bytes, mut buffer) = (0, vec![0; 256 << 10]);
        while start.elapsed() < duration {
            bytes += read(&mut *receiver, &mut buffer).expect("data arrives");
        }
        drop(receiver);
        bytes
    });
    bytes as f64 * 8.0 / start.elapsed().min(duration).as_secs_f64() / 1e6
}

/// In milliseconds.
fn times_of_exchanges(pair: Pair, count: usize) -> Vec<f64> {
    let Pair { streams: [mut answers, mut asks], .. } = pair;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let answer = vec![7; ANSWER];
            while read_exactly(&mut *answers, QUESTION) {
                answers.write_all(&answer).expect("the answer goes");
            }
        });
        let times = (0..count).map(|_| exchange(&mut *asks).as_secs_f64() * 1e3).collect();
        drop(asks);
        times
    })
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

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}

/// Runs a scenario with each pair, and tells the ratios of the others to the kernel on both ends.
fn compare(scenario: &Scenario) -> Vec<f64> {
    let runs = scenario.all_runs();
    let figures: Vec<f64> = runs.iter().map(|runs| scenario.figure(runs)).collect();
    let unit = if matches!(scenario.measure, Measure::Goodput(_)) { "Mbit/s" } else { "ms" };
    println!("{}, in {unit}", scenario.name);
    let ratios: Vec<f64> = figures.iter().map(|&figure| scenario.ratio(figure, figures[0])).collect();
    for (index, [sender, receiver]) in PAIRS.iter().enumerate() {
        let pair = format!("{sender:?} to {receiver:?}");
        println!("    {pair:<18} {:>7.2} (ratio {:.2}): {}", figures[index], ratios[index], scenario.details(&runs[index]));
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
        trial(&name, NEEDS, move || drop(compare(&scenario))).with_ignored_flag(true)
    });
    trials.extend(comparisons);
    trials
}
