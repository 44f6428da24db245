//! Running code in another network namespace.
//!
//! Owns nothing: a thread is moved there for as long as a closure runs. What it opens (packet sockets, TUN/TAP, port guards) stays in that
//! namespace, and so do the threads that it starts. Needs CAP_SYS_ADMIN.

use super::sys;
use std::fs::File;
use std::io;
use std::path::Path;

/// Runs `body` on a thread of its own inside the network namespace at `path` (`/run/netns/NAME`, `/proc/PID/ns/net`).
pub fn run_in<T: Send>(path: &Path, body: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    let enter_and_run = || {
        sys::enter_network_namespace(&namespace)?;
        Ok(body())
    };
    std::thread::scope(|scope| match scope.spawn(enter_and_run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
