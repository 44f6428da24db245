//! The matrix: every pair of impairments, path properties and workloads, 20 seeds each; the whole product behind `--ignored`, in parts.

use crate::covering::{pairwise, part_of_product};
use crate::exchange::{Exchange, Step};
use crate::path::Path;
use crate::table;
use libtest_mimic::Trial;
use std::time::Duration;

/// Of each row.
const SEEDS: u64 = 20;
/// The whole product has 345,600 cells, one seed each: in so many trials of a few minutes.
const PARTS: usize = 96;
/// A cell's seed is its part times this, and its place there.
const SEEDS_OF_A_PART: u64 = 1_000_000;
/// Virtual time after which an exchange is said to stall.
const LIMIT: Duration = Duration::from_secs(7_200);

const LOSS: [f64; 5] = [0.0, 0.001, 0.01, 0.03, 0.1];
const BURSTS: [bool; 2] = [false, true];
const REORDERING: [f64; 3] = [0.0, 0.01, 0.1];
const DUPLICATION: [f64; 3] = [0.0, 0.01, 0.1];
const ACK_LOSS: [f64; 3] = [0.0, 0.05, 0.2];
const DELAY_MILLIS: [u64; 5] = [0, 1, 10, 50, 300];
const RATE_MEGABITS: [u64; 4] = [1, 10, 100, 1_000];
const QUEUE: [f64; 4] = [0.1, 0.5, 1.0, 4.0];
const MTU: [usize; 4] = [576, 1_500, 9_000, 65_535];
const WORKLOADS: [Workload; 4] = [Workload::Bulk, Workload::RequestResponse, Workload::IdleRestart, Workload::Bidirectional];

/// How many levels each factor has.
pub(crate) const LEVELS: [usize; 10] = [
    LOSS.len(),
    BURSTS.len(),
    REORDERING.len(),
    DUPLICATION.len(),
    ACK_LOSS.len(),
    DELAY_MILLIS.len(),
    RATE_MEGABITS.len(),
    QUEUE.len(),
    MTU.len(),
    WORKLOADS.len(),
];

/// What the programs at both ends do.
#[derive(Clone, Copy, Debug)]
enum Workload {
    /// One sends as much as it can.
    Bulk,
    /// Small questions, answers of a few segments.
    RequestResponse,
    /// Bulk, a rest that is longer than any timeout, bulk again.
    IdleRestart,
    /// Both send as much as they can.
    Bidirectional,
}

impl Workload {
    fn scripts(self, path: &Path) -> [Vec<Step>; 2] {
        let bytes = (20 * path.product() as usize).clamp(200_000, 4_000_000);
        match self {
            Workload::Bulk => [vec![Step::Send(bytes)], vec![]],
            Workload::Bidirectional => [vec![Step::Send(bytes / 2)], vec![Step::Send(bytes / 2)]],
            Workload::RequestResponse => dialogue(50, 300, 6_000, Duration::ZERO),
            Workload::IdleRestart => dialogue(3, bytes / 4, 1, Duration::from_secs(20)),
        }
    }
}

/// `rounds` questions and answers, with a rest behind each.
pub(crate) fn dialogue(rounds: usize, question: usize, answer: usize, rest: Duration) -> [Vec<Step>; 2] {
    let asking = (1..=rounds).flat_map(|round| [Step::Send(question), Step::Await(round * answer), Step::Rest(rest)]);
    let answering = (1..=rounds).flat_map(|round| [Step::Await(round * question), Step::Send(answer)]);
    [asking.collect(), answering.collect()]
}

fn case(row: &[usize]) -> (Path, Workload) {
    let path = Path {
        loss: LOSS[row[0]],
        bursts: BURSTS[row[1]],
        reordering: REORDERING[row[2]],
        duplication: DUPLICATION[row[3]],
        ack_loss: ACK_LOSS[row[4]],
        delay_millis: DELAY_MILLIS[row[5]],
        rate: RATE_MEGABITS[row[6]] * 1_000_000,
        queue: QUEUE[row[7]],
        mtu: MTU[row[8]],
    };
    (path, WORKLOADS[row[9]])
}

/// Runs one case to its end and tells how long it took, without the rests.
fn run(path: &Path, workload: Workload, seed: u64) -> Duration {
    let [first, second] = workload.scripts(path);
    let mut exchange = Exchange::open(path, seed, [&first, &second], &format!("{workload:?}"));
    let start = exchange.world.now();
    exchange.finish(LIMIT);
    let rested: Duration = first.iter().map(|step| if let Step::Rest(rest) = step { *rest } else { Duration::ZERO }).sum();
    exchange.world.now().since(start).saturating_sub(rested)
}

pub(crate) fn trials() -> Vec<Trial> {
    let rows = pairwise(&LEVELS).into_iter().enumerate();
    let mut trials: Vec<Trial> = rows.map(|(number, row)| row_trial(number, &row)).collect();
    let part =
        |part: usize| Trial::test(format!("product_{part:02}_of_{PARTS}_never_stalls"), move || Ok(product(part)?)).with_ignored_flag(true);
    trials.extend((0..PARTS).map(part));
    trials.extend(wanted_cells().map(|seed| Trial::test(format!("cell_{seed}_never_stalls"), move || Ok(replay(seed)?))));
    trials
}

/// Cells of the product to be run alone, by the seeds that failures print: `HOPLINE_CELLS="22001603 5001219"`, `-- cell_`.
fn wanted_cells() -> impl Iterator<Item = u64> {
    let text = std::env::var("HOPLINE_CELLS").unwrap_or_default();
    let seeds: Vec<u64> = text.split_whitespace().map(|seed| seed.parse().expect("a cell's seed")).collect();
    seeds.into_iter()
}

fn replay(seed: u64) -> Result<(), String> {
    let (part, index) = (seed / SEEDS_OF_A_PART, seed % SEEDS_OF_A_PART);
    let rows = part_of_product(&LEVELS, part as usize, PARTS);
    let row = rows.get(index as usize).ok_or("the product has no such cell")?;
    let (path, workload) = case(row);
    println!("cell {seed}: {workload:?} {path}: {:.2} s", run(&path, workload, seed).as_secs_f64());
    Ok(())
}

fn row_trial(number: usize, row: &[usize]) -> Trial {
    let (path, workload) = case(row);
    Trial::test(format!("row_{number:02}_never_stalls"), move || {
        let mut times: Vec<Duration> = (0..SEEDS).map(|seed| run(&path, workload, seed)).collect();
        times.sort_unstable();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let value = format!("median {:>8.2} s, longest {:>8.2} s", median.as_secs_f64(), longest.as_secs_f64());
        Ok(table::check(&format!("matrix {number:02}"), &format!("{workload:<15?} {path}"), &value)?)
    })
}

/// Runs all cells of a part, whatever fails, and tells of all that do. The seed differs from cell to cell.
fn product(part: usize) -> Result<(), String> {
    let rows = part_of_product(&LEVELS, part, PARTS);
    let count = rows.len();
    let cells = rows.into_iter().zip(part as u64 * SEEDS_OF_A_PART..);
    let failures: Vec<String> = cells.filter_map(|(row, seed)| failure(&row, seed)).collect();
    println!("product {part:02}: {count} cells, {} failed", failures.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn failure(row: &[usize], seed: u64) -> Option<String> {
    let (path, workload) = case(row);
    let panic = std::panic::catch_unwind(|| run(&path, workload, seed)).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| format!("{workload:?} {path} seed {seed}: a panic")))
}
