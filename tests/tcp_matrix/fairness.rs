//! Two flows through one bottleneck share it (Jain's index, RFC 5166 §2.3.2).

use crate::exchange::{End, Step, accept};
use crate::path::Path;
use crate::table;
use hopline::simulation::World;
use hopline::time::Instant;
use libtest_mimic::Trial;
use std::time::Duration;

/// Jain's index that has to be reached.
const GOAL: f64 = 0.95;
/// That two different algorithms have to reach in the worst start; over all starts they reach the goal as well.
const LEAST_OF_TWO: f64 = 0.85;
/// The second flow starts so much later than the first.
const LEAD: Duration = Duration::from_secs(5);
/// Time to converge.
const CONVERGENCE: Duration = Duration::from_secs(60);
/// Time over which the shares are taken.
const MEASURE: Duration = Duration::from_secs(120);
/// Starts of the second flow: with a queue that drops at its tail, chance decides who loses.
const SEEDS: u64 = 3;
/// So many are run behind `--ignored`, where what is asserted is the mean of their indices, and not the worst of them.
const MANY_SEEDS: u64 = 30;

/// Two flows, as bytes per second after convergence.
fn flows(path: &Path, algorithms: [&str; 2], seed: u64) -> [f64; 2] {
    let (mut world, hosts) = path.world(seed);
    let listener = world[hosts[1]].listen("192.0.2.2:80").unwrap();
    let mut ends: Vec<[End; 2]> = Vec::new();
    for (index, algorithm) in algorithms.into_iter().enumerate() {
        let client = world[hosts[0]].connect("192.0.2.2:80").unwrap();
        client.set_congestion_control(algorithm).unwrap();
        let server = accept(&mut world, &listener, |_| ()).expect("a connection");
        let now = world.now();
        ends.push([End::new(client, &[Step::Send(usize::MAX)], true, now), End::new(server, &[], false, now)]);
        let lead = LEAD + Duration::from_millis(37 * seed);
        let until = now + if index == 0 { lead } else { CONVERGENCE };
        run_until(&mut world, &mut ends, until);
    }
    let before: Vec<usize> = ends.iter().map(|pair| pair[1].read).collect();
    let until = world.now() + MEASURE;
    run_until(&mut world, &mut ends, until);
    [0, 1].map(|index: usize| (ends[index][1].read - before[index]) as f64 / MEASURE.as_secs_f64())
}

fn run_until(world: &mut World, ends: &mut [[End; 2]], until: Instant) {
    while world.now() < until {
        for end in ends.iter_mut().flatten() {
            end.turn(world.now()).unwrap();
        }
        world.settle();
        world.step();
    }
}

fn jain(shares: [f64; 2]) -> f64 {
    let (sum, squares) = (shares.iter().sum::<f64>(), shares.iter().map(|share| share * share).sum::<f64>());
    sum * sum / (2.0 * squares)
}

/// The shares over all starts have to be fair, and those of each start by itself: for two different algorithms by a lower measure.
fn check(path: &Path, algorithms: [&str; 2]) -> Result<(), String> {
    let all: Vec<[f64; 2]> = (0..SEEDS).map(|seed| flows(path, algorithms, seed)).collect();
    let mean = jain([0, 1].map(|index: usize| all.iter().map(|shares| shares[index]).sum::<f64>() / SEEDS as f64));
    let worst = all.iter().map(|&shares| jain(shares)).fold(1.0, f64::min);
    println!("fairness {algorithms:?} {path}: Jain {mean:.3}, {worst:.3} in the worst of {SEEDS}");
    let key = format!("fairness {} {} {} Mbit/s {} ms", algorithms[0], algorithms[1], path.rate / 1_000_000, path.delay_millis);
    table::check(&key, &path.to_string(), &format!("{:.3} missing, {:.3} in the worst of {SEEDS}", 1.0 - mean, 1.0 - worst))?;
    let least = if algorithms[0] == algorithms[1] { GOAL } else { LEAST_OF_TWO };
    if mean < GOAL || worst < least { Err(format!("Jain's index is {mean:.3}, {worst:.3} in the worst")) } else { Ok(()) }
}

/// The mean of the indices of many starts has to reach the goal. Prints how far they are spread.
fn check_many(path: &Path, algorithms: [&str; 2]) -> Result<(), String> {
    let mut indices: Vec<f64> = (0..MANY_SEEDS).map(|seed| jain(flows(path, algorithms, seed))).collect();
    println!("{indices:.3?}");
    indices.sort_unstable_by(f64::total_cmp);
    let mean = indices.iter().sum::<f64>() / MANY_SEEDS as f64;
    let [worst, tenth, median] = [0, indices.len() / 10, indices.len() / 2].map(|index| indices[index]);
    let text = format!("Jain's indices of {MANY_SEEDS} starts: mean {mean:.3}, median {median:.3}, tenth {tenth:.3}, worst {worst:.3}");
    println!("fairness {algorithms:?} {path}: {text}");
    if mean < GOAL { Err(text) } else { Ok(()) }
}

pub(crate) fn trials() -> Vec<Trial> {
    let path = |megabits: u64, delay_millis, queue| Path { rate: megabits * 1_000_000, delay_millis, queue, ..Path::default() };
    let same = [path(2, 50, 1.0), path(10, 10, 1.0), path(20, 25, 2.0)];
    // Where CUBIC is in its Reno-friendly region (RFC 9438 §4.3); beyond it, it takes what NewReno leaves.
    let mixed = [path(2, 50, 1.0), path(5, 10, 1.0), path(10, 10, 1.0)];
    let cases = same.map(|path| (path, ["cubic", "cubic"])).into_iter().chain(mixed.map(|path| (path, ["cubic", "newreno"])));
    let trials = |(path, algorithms): (Path, [&'static str; 2])| {
        let name = format!("fair_{}_{}_{}_mbit_{}_ms", algorithms[0], algorithms[1], path.rate / 1_000_000, path.delay_millis);
        let many = Trial::test(format!("{name}_over_{MANY_SEEDS}_starts"), move || Ok(check_many(&path, algorithms)?));
        [Trial::test(name, move || Ok(check(&path, algorithms)?)), many.with_ignored_flag(true)]
    };
    cases.flat_map(trials).collect()
}
