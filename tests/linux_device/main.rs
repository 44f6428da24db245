//! The Linux devices against the kernel: packet sockets, TUN/TAP, guards, filters, captures. Needs root; says so where it is skipped.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod frames;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod rings;
#[cfg(target_os = "linux")]
mod sharing;
#[cfg(target_os = "linux")]
mod toy;
#[cfg(target_os = "linux")]
mod waits;

#[cfg(target_os = "linux")]
fn main() {
    if sharing::open_interface_if_asked() {
        return;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = frames::trials().into_iter().chain(sharing::trials()).chain(waits::trials());
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let trials = trials.chain(rings::trials());
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: the devices of Linux need Linux");
}
