//! System calls behind safe functions: the one place of the Linux devices with `unsafe`.
//!
//! Owns lifetimes and lengths of what the kernel reads and writes. Refuses to decide anything: results come back as the kernel gave them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The answer of a system call that says -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves the calling thread into another network namespace.
pub(super) fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, which `namespace` keeps open, and touches no memory of ours.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
