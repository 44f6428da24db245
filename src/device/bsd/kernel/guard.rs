//! What makes this kernel silent about a guarded port: rules of its packet filter, pf(4), in an anchor of our own.
//!
//! Owns the anchor and its life. `/dev/bpf` has its copy of a packet before pf sees it; pf then drops the host's. The anchor goes with
//! [`HostSilence`], at the stack's end; one that a crash left behind goes when the next stack starts. Read [`crate::device::port_guard`] first.

use super::platform::{ANCHOR, CAN_ENABLE};
use super::sys;
use crate::device::bsd::pf_rules::{anchor, evaluates, is_enabled, rules, stale_anchors, token};
use crate::device::filter::PortSet;
use socket2::Socket;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

const PFCTL: &str = "/sbin/pfctl";

/// A bound socket keeps other programs off the port; the rules do the rest.
pub(in crate::device) const LISTENS: bool = false;

/// Prepares a guard before it is bound. With `reuse` remains of former connections on its port do not matter.
pub(in crate::device) fn prepare(socket: &Socket, reuse: bool) -> io::Result<()> {
    socket.set_reuse_address(reuse)
}

/// How many guards there may be: descriptors, once the soft limit is raised as far as it goes.
pub(in crate::device) fn most_descriptors() -> io::Result<usize> {
    sys::raise_descriptor_limit()
}

/// Our anchor in the host's packet filter.
pub(in crate::device) struct HostSilence {
    address: Ipv4Addr,
    anchor: String,
    /// What `pfctl -E` gave, to give back.
    token: Option<String>,
}

impl HostSilence {
    /// For ports of `address`. Clears away what processes that are gone left behind.
    pub(in crate::device) fn new(address: Ipv4Addr) -> io::Result<HostSilence> {
        let listing = pfctl(&["-v", "-s", "Anchors"], "")?;
        for stale in stale_anchors(&listing, ANCHOR, sys::process_exists) {
            flush(&stale)?;
        }
        let token = if CAN_ENABLE { enable()? } else { expect_ready()? };
        Ok(HostSilence { address, anchor: anchor(ANCHOR, std::process::id()), token })
    }

    /// The ports in use are now these.
    pub(in crate::device) fn cover(&self, ports: &PortSet) -> io::Result<()> {
        pfctl(&["-a", &self.anchor, "-f", "-"], &rules(self.address, ports)).map(drop)
    }
}

impl Drop for HostSilence {
    fn drop(&mut self) {
        // If this fails, the next stack to start clears it away.
        let _ = flush(&self.anchor);
        if let Some(token) = &self.token {
            let _ = pfctl(&["-X", token], "");
        }
    }
}

/// Counts us among those who need the packet filter.
fn enable() -> io::Result<Option<String>> {
    let output = pfctl(&["-E"], "")?;
    Ok(token(&output).map(str::to_owned))
}

/// The packet filter has to run and to know our anchors: the administrator decides both.
fn expect_ready() -> io::Result<Option<String>> {
    let text = if !is_enabled(&pfctl(&["-s", "info"], "")?) {
        "sharing the host's address needs the packet filter pf: switch it on (sysrc pf_enable=YES; service pf start), or use an own address"
    } else if !evaluates(&pfctl(&["-s", "rules"], "")?, ANCHOR) {
        "sharing the host's address needs the line `anchor \"hopline/*\"` in /etc/pf.conf (then: service pf reload), or use an own address"
    } else {
        return Ok(None);
    };
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

fn flush(anchor: &str) -> io::Result<()> {
    pfctl(&["-a", anchor, "-F", "all"], "").map(drop)
}

/// Runs pfctl with `input`; gives what it said, on both of its outputs.
fn pfctl(arguments: &[&str], input: &str) -> io::Result<String> {
    let mut command = Command::new(PFCTL);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{PFCTL}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if status.success() { Ok(said) } else { Err(io::Error::other(format!("{PFCTL} {}: {}", arguments.join(" "), said.trim()))) }
}
