//! Covering arrays: few rows in which every two levels of any two factors meet at least once.
//!
//! Greedy and deterministic, as AETG does it without its dice: each row begins with a pair that has not met yet, and takes for every other factor the
//! level that makes the most new pairs.

use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;

/// A level of one factor and a level of another one, the lower factor first.
type Pair = ((usize, usize), (usize, usize));

/// Rows of levels, one for each factor, in which all pairs meet.
pub(crate) fn pairwise(levels: &[usize]) -> Vec<Vec<usize>> {
    let mut missing = all_pairs(levels);
    let mut rows = Vec::new();
    while let Some(&seed) = missing.first() {
        let row = grow(levels, seed, &missing, rows.len());
        for pair in pairs_of(&row) {
            missing.remove(&pair);
        }
        rows.push(row);
    }
    rows
}

/// Every combination.
pub(crate) fn product(levels: &[usize]) -> Vec<Vec<usize>> {
    levels.iter().fold(vec![Vec::new()], |rows, &count| {
        let longer = |row: Vec<usize>| (0..count).map(move |level| [row.clone(), vec![level]].concat());
        rows.into_iter().flat_map(longer).collect()
    })
}

fn all_pairs(levels: &[usize]) -> BTreeSet<Pair> {
    let factors = (0..levels.len()).flat_map(|first| (first + 1..levels.len()).map(move |second| (first, second)));
    let meet = |(first, second): (usize, usize)| {
        (0..levels[first]).flat_map(move |one| (0..levels[second]).map(move |other| ((first, one), (second, other))))
    };
    factors.flat_map(meet).collect()
}

fn pairs_of(row: &[usize]) -> BTreeSet<Pair> {
    let indices = 0..row.len();
    indices.flat_map(|first| (first + 1..row.len()).map(move |second| ((first, row[first]), (second, row[second])))).collect()
}

fn pair(one: (usize, usize), other: (usize, usize)) -> Pair {
    if one.0 < other.0 { (one, other) } else { (other, one) }
}

/// A row with `seed` in it. `turn` varies which of equal levels is taken.
fn grow(levels: &[usize], seed: Pair, missing: &BTreeSet<Pair>, turn: usize) -> Vec<usize> {
    let mut chosen = vec![seed.0, seed.1];
    for factor in (0..levels.len()).filter(|&factor| factor != seed.0.0 && factor != seed.1.0) {
        let gain = |level: usize| chosen.iter().filter(|&&other| missing.contains(&pair((factor, level), other))).count();
        let order = (0..levels[factor]).map(|level| (level + turn) % levels[factor]);
        let best = order.max_by_key(|&level| gain(level)).unwrap_or(0);
        chosen.push((factor, best));
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|(_, level)| level).collect()
}

pub(crate) fn trials() -> Vec<Trial> {
    let covers = || {
        for levels in [&crate::matrix::LEVELS[..], &crate::goodput::LEVELS[..]] {
            let rows = pairwise(levels);
            let met: BTreeSet<Pair> = rows.iter().flat_map(|row| pairs_of(row)).collect();
            assert_eq!(met, all_pairs(levels));
            let (two_largest, bound) = (largest_product(levels), 3 * largest_product(levels));
            assert!((two_largest..bound).contains(&rows.len()), "{} rows", rows.len());
        }
        Ok::<(), Failed>(())
    };
    vec![Trial::test("the_arrays_cover_every_pair", covers)]
}

fn largest_product(levels: &[usize]) -> usize {
    let mut sorted = levels.to_vec();
    sorted.sort_unstable();
    sorted.iter().rev().take(2).product()
}
