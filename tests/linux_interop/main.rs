//! Whole stacks against the kernel of Linux: each test in network namespaces of its own, real time, kernel sockets and programs as peers.
//!
//! Read `host.rs` first: it lays the networks. A trial that needs a privilege or a program which is absent is reported as ignored, with the reason.

#[path = "../common/mod.rs"]
mod common;

mod bulk;
mod captures;
mod datagrams;
mod endings;
mod host;
mod lifecycle;
mod paths;
mod ping;
mod processes;
mod serving;
mod transfer;

use libtest_mimic::{Arguments, Trial};
use std::time::Duration;

/// Tests at once: most of them wait most of the time, but namespaces and the machine's cores are few.
const TESTS_AT_ONCE: usize = 3;
/// After this time something hangs for good: the whole run takes a few minutes at most on a slow machine.
const LONGEST_RUN: Duration = Duration::from_secs(900);

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST_RUN);
        eprintln!("the tests hang: giving up");
        std::process::exit(2);
    });
    let files = [
        ping::trials,
        bulk::trials,
        serving::trials,
        paths::trials,
        datagrams::trials,
        endings::trials,
        lifecycle::trials,
        captures::trials,
        processes::trials,
    ];
    let trials: Vec<Trial> = files.iter().flat_map(|trials| trials()).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
