//! Whole stacks against the kernel of Linux: each test in network namespaces of its own, real time, kernel sockets and programs as peers.
//!
//! Read `host.rs` first: it lays the networks. A trial that needs a privilege or a program which is absent is reported as ignored, with the reason.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;

#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod captures;
#[cfg(target_os = "linux")]
mod datagrams;
#[cfg(target_os = "linux")]
mod ecn;
#[cfg(target_os = "linux")]
mod endings;
#[cfg(target_os = "linux")]
mod fast_open;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod lifecycle;
#[cfg(target_os = "linux")]
mod paths;
#[cfg(target_os = "linux")]
mod ping;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod serving;
#[cfg(target_os = "linux")]
mod transfer;

/// Tests at once: most of them wait most of the time, but namespaces and the machine's cores are few.
#[cfg(target_os = "linux")]
const TESTS_AT_ONCE: usize = 3;
/// After this time something hangs for good: the whole run takes a few minutes at most on a slow machine.
#[cfg(target_os = "linux")]
const LONGEST_RUN: std::time::Duration = std::time::Duration::from_secs(900);

#[cfg(target_os = "linux")]
fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
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
        ecn::trials,
        fast_open::trials,
        lifecycle::trials,
        captures::trials,
        processes::trials,
    ];
    let trials = || -> Vec<libtest_mimic::Trial> { files.iter().flat_map(|trials| trials()).collect() };
    common::run_in_each_handoff(&arguments, trials);
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: the kernel of Linux as a peer needs Linux");
}
