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

/// How many combinations there are.
pub(crate) fn combinations(levels: &[usize]) -> usize {
    levels.iter().product()
}

/// Part `part` of `parts` of all combinations: every one is in one part, and each part is spread over all of them, so that a few parts already say something about
/// the whole.
pub(crate) fn part_of_product(levels: &[usize], part: usize, parts: usize) -> Vec<Vec<usize>> {
    let count = combinations(levels);
    let stride = (count * 5 / 8..).find(|&stride| greatest_common_divisor(stride, count) == 1).unwrap_or(1);
    (count * part / parts..count * (part + 1) / parts).map(|index| combination(levels, index * stride % count)).collect()
}

/// The combination with this number, the last factor's level being its last digit.
fn combination(levels: &[usize], number: usize) -> Vec<usize> {
    let (mut row, mut rest) = (Vec::new(), number);
    for &count in levels.iter().rev() {
        row.push(rest % count);
        rest /= count;
    }
    row.reverse();
    row
}

fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
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
    let parts = || {
        let rows: BTreeSet<Vec<usize>> = (0..7).flat_map(|part| part_of_product(&crate::goodput::LEVELS, part, 7)).collect();
        assert_eq!(rows.len(), combinations(&crate::goodput::LEVELS), "every combination is in a part, and in one alone");
        Ok::<(), Failed>(())
    };
    vec![Trial::test("the_arrays_cover_every_pair", covers), Trial::test("the_parts_make_the_product", parts)]
}

fn largest_product(levels: &[usize]) -> usize {
    let mut sorted = levels.to_vec();
    sorted.sort_unstable();
    sorted.iter().rev().take(2).product()
}
