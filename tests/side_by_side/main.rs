//! Side by side with Linux: the kernel's TCP (CUBIC) and ours over identical emulated paths, in real time.
//!
//! `cable.rs` joins two TAP interfaces, each in a network namespace of its own, through our link emulator; `host.rs` puts the kernel, or Hopline on a packet
//! socket, on either of them; `scenario.rs` has the paths and what is measured. Without arguments a short smoke test runs. The comparison itself:
//!
//! ```sh
//! cargo test --release --test side_by_side -- --ignored --nocapture      # about ten minutes, on an otherwise idle machine
//! ```

#[cfg(target_os = "linux")]
mod cable;
#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod scenario;

#[cfg(target_os = "linux")]
fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // What runs beside a measurement disturbs it.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, scenario::trials()).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: the kernel to compare with is Linux");
}
