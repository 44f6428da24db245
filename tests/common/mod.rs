//! What the tests against Linux share: network namespaces that vanish with their guard, and trials that say why they were skipped.
//!
//! Each test file is its own crate and uses its own part of this one.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "every test crate uses its own part")]

pub mod handoff;
pub mod namespace;
pub mod trace;

pub use namespace::{Namespace, Process, veth};

use hopline::socket::Handoff;
use libtest_mimic::{Arguments, Failed, Trial};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::OnceLock;

/// What a test cannot do without.
#[derive(Copy, Clone, Debug)]
pub enum Need {
    /// To make network namespaces and open packet sockets: root, and `ip`.
    Namespaces,
    /// A program in the path.
    Program(&'static str),
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Need::Namespaces => namespace::unavailable().map(str::to_owned),
            Need::Program(name) => (!has_program(name)).then(|| format!("{name} is not installed")),
        }
    }
}

/// A trial that is reported as ignored, with the reason printed, where something that it needs is missing. The body fails by panicking.
pub fn trial(name: &str, needs: &[Need], body: impl FnOnce() + Send + 'static) -> Trial {
    let missing = needs.iter().find_map(|need| need.missing());
    if let Some(reason) = &missing {
        eprintln!("skipped: {name}: {reason}");
    }
    Trial::test(name, move || {
        body();
        Ok::<(), Failed>(())
    })
    .with_ignored_flag(missing.is_some())
}

/// Runs the trials in one hand-off after the other; exits if one failed.
pub fn run_in_each_handoff(arguments: &Arguments, trials: impl Fn() -> Vec<Trial>) {
    for handoff in Handoff::ALL {
        if arguments.list {
            return libtest_mimic::run(arguments, trials()).exit_if_failed();
        }
        println!("\nhandoff: {}", handoff.name());
        handoff::set_for_all_threads(handoff);
        libtest_mimic::run(arguments, trials()).exit_if_failed();
    }
}

/// Whether a program of this name is in the path.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|folder| folder.join(name).is_file())
}

/// Reads once, and again where a signal came between: a program that is stopped and goes on finds the kernel's calls with a time limit interrupted.
pub fn read(stream: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until `condition` holds, at most a minute. For what other processes do: there is no event to wait for.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Finds nothing wrong in a capture: no malformed packet, no bad checksum (tshark's checksum checks are off by default).
#[track_caller]
pub fn assert_capture_is_clean(file: &Path) {
    // The kernel's software writes 0xffff where a TCP checksum comes out as 0x0000 (`skb_checksum_help`); it is the same sum.
    let tcp = "(tcp.checksum.status == 0 && !tcp.checksum.ffff)";
    let bad = tshark(file, &format!("_ws.malformed || ip.checksum.status == 0 || {tcp} || udp.checksum.status == 0"));
    assert!(bad.is_empty(), "tshark finds in {}:\n{bad}", file.display());
}

/// The packets of a capture that a display filter selects, one line each, with every checksum checked.
#[track_caller]
pub fn tshark(file: &Path, filter: &str) -> String {
    let checks = ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"];
    let mut command = std::process::Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-Y", filter]);
    // An ephemeral port may be one that some protocol is known by: what a test sends there is none of that.
    command.args(["-d", "tcp.port==1024-65535,data"]);
    checks.iter().for_each(|check| {
        command.args(["-o", check]);
    });
    let output = command.output().expect("tshark starts");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A number that differs in each run and each call: for names.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: OnceLock<AtomicUsize> = OnceLock::new();
    let count = NEXT.get_or_init(AtomicUsize::default).fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}", std::process::id())
}
