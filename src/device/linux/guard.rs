//! What makes this kernel silent about a guarded port.
//!
//! Owns the filter on guard sockets. A listening TCP socket and a bound UDP socket are found by the kernel for every packet to their port, and the filter then
//! discards it without an answer (`tcp_v4_rcv` runs `tcp_filter` first). Read [`crate::device::port_guard`] first.

use super::sys;
use crate::device::filter::{Filter, PortSet};
use socket2::Socket;
use std::io;
use std::net::Ipv4Addr;

/// A TCP socket is only found while it listens.
pub(in crate::device) const LISTENS: bool = true;

/// Nothing but the guards themselves is needed.
pub(in crate::device) struct HostSilence;

impl HostSilence {
    /// For ports of `address`.
    pub(in crate::device) fn new(_address: Ipv4Addr) -> io::Result<HostSilence> {
        Ok(HostSilence)
    }

    /// The ports in use are now these.
    pub(in crate::device) fn cover(&self, _ports: &PortSet) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a socket discard all that it receives, for ever. With `reuse` remains of former connections on its port do not matter.
pub(in crate::device) fn prepare(socket: &Socket, reuse: bool) -> io::Result<()> {
    sys::attach_filter(socket, Filter::drop_all().instructions())?;
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)?;
    socket.set_reuse_address(reuse)
}

/// How many guards there may be: descriptors, once the soft limit is raised to the hard one.
pub(in crate::device) fn most_descriptors() -> io::Result<usize> {
    sys::raise_descriptor_limit()
}
