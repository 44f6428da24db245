//! Paths on which nothing is lost but what overflows the queue: the rate has to be reached.
//!
//! Measured where the reading program is, after slow start, over at least 50 round trips, as a share of what the rate leaves for payload. Without
//! impairments a seed changes nothing but initial sequence numbers, so there are few of them.
//!
//! Two things about the path decide what can be asked of anyone, and are worked out from it:
//!
//! - *Windows are whole segments* ([`Tooth`]). Where the product is a few of them, halving a window costs more than the tenth that is allowed: the goal there is
//!   what a sender of RFC 5681 reaches that does everything right.
//! - *The first flight* is ten segments at once (RFC 6928). A queue that is smaller loses some of them, whoever sends, so slow start ends with a window of a few
//!   segments, and congestion avoidance has all the way to go. Its first way up is no steady state: it is waited for ([`reach_the_top`]).

use crate::covering::{pairwise, part_of_product};
use crate::exchange::{End, Exchange, Step};
use crate::path::Path;
use crate::table;
use hopline::socket::StreamInfo;
use hopline::time::Instant;
use libtest_mimic::Trial;
use std::time::Duration;

/// Round trips in which the goodput is measured.
const ROUND_TRIPS: f64 = 50.0;
/// Packets in which it is measured at least.
const LEAST_PACKETS: f64 = 2_000.0;
/// Round trips after which slow start is taken to be over, whatever the connection says.
const LONGEST_SLOW_START: u32 = 60;
/// The share of the payload rate that is to be reached, where whole segments do not forbid it.
const GOAL: f64 = 0.9;
/// Where a sawtooth reaches below the product it is measured over so many of its teeth (a slow start that went too far costs the first one something), or over one, if
/// that takes more round trips than [`LONGEST_TOOTH`]. If one takes more packets than [`MOST_PACKETS`]: over [`ROUND_TRIPS`], as everything else, and that is what the
/// goal is worked out from.
const TEETH: f64 = 3.0;
const LONGEST_TOOTH: f64 = 150.0;
const MOST_PACKETS: f64 = 1e6;
/// The same for CUBIC, whose teeth take seconds, not round trips: the product is bounded, and so are they.
const CUBIC_TEETH: f64 = 2.0;
/// The whole product has 640 cells, in so many trials.
const PARTS: usize = 32;
/// By a queue of this many bandwidth-delay products or more, with the algorithm.
const ALGORITHMS: [(&str, f64); 2] = [("cubic", 0.1), ("newreno", 0.5)];

const DELAY_MILLIS: [u64; 5] = [0, 1, 10, 50, 300];
const RATE_MEGABITS: [u64; 4] = [1, 10, 100, 1_000];
const QUEUE: [f64; 4] = [0.1, 0.5, 1.0, 4.0];
const MTU: [usize; 4] = [576, 1_500, 9_000, 65_535];

/// Cells that only the product has, and that have missed their aim before: 20 and 100 ms, a gigabit, a tenth of the product as queue, the largest packets.
const MORE: [[usize; 5]; 2] = [[2, 3, 0, 3, 0], [3, 3, 0, 3, 0]];

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

/// A sawtooth of congestion avoidance in whole segments, on one path: between a window that overflows the queue and what a loss leaves of it.
struct Tooth {
    /// Segments of a window that fills the path and no queue: what goes in a round trip.
    pipe: f64,
    /// Segments of the largest window that surely loses nothing: those on the way, and those in the queue. (One more fits while the receiver holds an acknowledgement back.)
    top: f64,
    /// Segments of the window after a loss.
    bottom: f64,
    /// Segments by which it grows in a round trip.
    step: f64,
    /// Round trips of CUBIC's way up (RFC 9438 §4.2: K), where that is faster.
    cubic: Option<f64>,
}

impl Tooth {
    fn new(path: &Path, algorithm: &str) -> Tooth {
        let segments = |bytes: f64| bytes / path.mtu as f64;
        let round_trip = path.round_trip().as_secs_f64();
        let top = segments(path.product() as f64 + path.queue_bytes() as f64).floor();
        let pipe = segments(path.rate() as f64 / 8.0 * round_trip);
        // What was lost was in flight as well. RFC 5681 §3.1; RFC 9438 §4.6 and §4.3, α.
        match algorithm {
            "newreno" => Tooth { pipe, top, bottom: ((top + 1.0) / 2.0).floor().max(2.0), step: 1.0, cubic: None },
            _ => {
                let bottom = ((top + 1.0) * 0.7).floor().max(2.0);
                Tooth { pipe, top, bottom, step: 9.0 / 17.0, cubic: Some(((top - bottom) / 0.4).cbrt() / round_trip) }
            }
        }
    }

    /// Round trips from the bottom to the top.
    fn round_trips(&self) -> f64 {
        let rounds = (self.top - self.bottom) / self.step;
        self.cubic.map_or(rounds, |cubic| cubic.min(rounds))
    }

    /// How many are measured.
    fn count(&self) -> f64 {
        match self.cubic {
            _ if self.bottom >= self.pipe => 0.0,
            Some(_) => CUBIC_TEETH,
            None if self.round_trips() <= LONGEST_TOOTH => TEETH,
            None if self.round_trips() * self.top <= MOST_PACKETS => 1.0,
            None => 0.0,
        }
    }

    /// The share of the rate that it makes, if nothing goes wrong: a window in each round, which takes a round trip, or as long as the window takes to pass. It grows
    /// from round to round; a round passes before the loss is known; in one more what was lost goes again with the smaller window, and in a second one
    /// if the window has grown meanwhile by another segment, which was lost then as well. Of a tooth that is not measured whole, its beginning counts.
    fn share(&self) -> f64 {
        let recovery = if self.step < 1.0 { 1 } else { 2 };
        let growing = (0..).map(|round| self.bottom + f64::from(round) * self.step).take_while(|&window| window <= self.top);
        let windows = std::iter::repeat_n(self.bottom, recovery).chain(growing).chain([self.top]).map(f64::floor);
        let rounds = if self.count() > 0.0 { usize::MAX } else { ROUND_TRIPS as usize };
        let (sent, time) = windows.take(rounds).fold((0.0, 0.0), |(sent, time), window| (sent + window, time + window.max(self.pipe)));
        sent / time
    }
}

/// What is to be reached.
fn goal(path: &Path, algorithm: &str) -> f64 {
    GOAL.min(Tooth::new(path, algorithm).share())
}

/// The share of the payload rate that one flow reaches.
pub(crate) fn share(path: &Path, algorithm: &str, seed: u64) -> f64 {
    let mut exchange = Exchange::open(path, seed, [&[Step::Send(usize::MAX)], &[]], algorithm);
    exchange.ends[0].stream.set_congestion_control(algorithm).unwrap();
    leave_slow_start(&mut exchange, path);
    let tooth = Tooth::new(path, algorithm);
    if overflows_at_first(path) {
        reach_the_top(&mut exchange, path, &tooth);
    }
    let duration = path.round_trip().mul_f64(round_trips(&tooth)).max(time_for_packets(path));
    let (start, before) = (exchange.world.now(), exchange.ends[1].read);
    let end = start + duration;
    exchange.run_until(duration * 2 + Duration::from_secs(60), |_, now| now >= end);
    let elapsed = exchange.world.now().since(start).as_secs_f64();
    (exchange.ends[1].read - before) as f64 * 8.0 / elapsed / path.payload_rate()
}

/// Round trips to measure in.
fn round_trips(tooth: &Tooth) -> f64 {
    (tooth.count() * tooth.round_trips()).max(ROUND_TRIPS)
}

/// Whether the queue is too small for what a sender may send at once at the beginning (RFC 6928 §2).
fn overflows_at_first(path: &Path) -> bool {
    let first = (10 * path.mtu).min((2 * path.mtu).max(14_600));
    path.queue_bytes() < first
}

/// Until the window has grown from slow start's early end to where the queue overflows again, or would have by the slowest growth there is.
fn reach_the_top(exchange: &mut Exchange, path: &Path, tooth: &Tooth) {
    let end = exchange.world.now() + path.round_trip().mul_f64(2.0 * tooth.top / tooth.step);
    let threshold = |ends: &[End; 2]| ends[0].stream.info().unwrap().slow_start_threshold;
    let first = threshold(&exchange.ends);
    exchange.run_until(Duration::from_secs(36_000), |ends, now| now >= end || threshold(ends) != first);
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
    let (share, goal) = (share(path, name, 1), goal(path, name));
    if is_claimed(path, algorithm) && share < goal { Err(format!("goodput {name} {path}: {share:.3} of {goal:.3}")) } else { Ok(share) }
}

/// Also notes what is missing: the smaller, the better.
fn check(number: usize, path: &Path, algorithm: usize) -> Result<(), String> {
    let (name, _) = ALGORITHMS[algorithm];
    let missing = (1.0 - measure(path, algorithm)?).max(0.0);
    let note = if is_claimed(path, algorithm) { "" } else { " (not claimed)" };
    table::check(&format!("goodput {number:02}"), &format!("{name:>7} {path}"), &format!("{missing:.3} of the rate is missing{note}"))
}

pub(crate) fn trials() -> Vec<Trial> {
    let rows = pairwise(&LEVELS).into_iter().chain(MORE.map(Vec::from)).enumerate();
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
    let failures: Vec<String> =
        rows.iter().filter_map(|row| measure(&case(row).0, case(row).1).inspect_err(|error| println!("{error}")).err()).collect();
    println!("goodput product {part:02}: {} cells, {claimed} claimed, {} failed", rows.len(), failures.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}
