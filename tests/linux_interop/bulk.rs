//! Large transfers, bit by bit, without a loss inside.

use crate::common::trial;
use crate::host::{Medium, NAMESPACES, Network};
use crate::transfer::{LARGE, both_at_once, there_and_back};
use libtest_mimic::Trial;

/// What is moved over one medium.
type Transfer = (&'static str, fn(Medium));

pub(crate) fn trials() -> Vec<Trial> {
    Medium::ALL
        .into_iter()
        .flat_map(|medium| {
            let transfers: [Transfer; 3] = [
                ("the_kernel_connects_and_large_transfers_are_exact", kernel_connects),
                ("hopline_connects_and_large_transfers_are_exact", hopline_connects),
                ("both_directions_at_once_are_exact", both_directions),
            ];
            transfers.map(|(name, transfer)| trial(&format!("{name}_over_{}", medium.name()), NAMESPACES, move || transfer(medium)))
        })
        .collect()
}

fn kernel_connects(medium: Medium) {
    let network = Network::new(medium);
    let (mut theirs, mut ours) = network.kernel_connects();
    there_and_back(&mut theirs, &mut ours, LARGE, LARGE);
    network.assert_nothing_lost();
}

fn hopline_connects(medium: Medium) {
    let network = Network::new(medium);
    let (mut theirs, mut ours) = network.hopline_connects();
    there_and_back(&mut ours, &mut theirs, LARGE, LARGE);
    network.assert_nothing_lost();
}

fn both_directions(medium: Medium) {
    let network = Network::new(medium);
    let (theirs, ours) = network.hopline_connects();
    let (mut theirs_too, mut ours_too) = (theirs.try_clone().unwrap(), ours.try_clone().unwrap());
    let (mut theirs, mut ours) = (theirs, ours);
    both_at_once((&mut theirs, &mut theirs_too), (&mut ours, &mut ours_too), LARGE / 2);
    network.assert_nothing_lost();
}
