//! What makes this system silent about a guarded port.
//!
//! Owns little: the firewall's stealth mode swallows what the system would answer for a port that nobody listens on, and
//! [`shared_address_warning`](crate::device::host::shared_address_warning) says if it is off. A guard is bound, so that no other program gets the port,
//! and does not listen. Read [`crate::device::port_guard`] first.

use crate::device::filter::PortSet;
use socket2::Socket;
use std::io;
use std::net::Ipv4Addr;
use std::os::windows::io::AsRawSocket;
use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOL_SOCKET, setsockopt};

/// A listener would answer.
pub(in crate::device) const LISTENS: bool = false;
/// Sockets are handles, of which a process may have millions; this is what guards may use of the ports.
const MOST_GUARDS: usize = 16_384;

/// Nothing but the firewall is needed.
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

/// Keeps every other program off the port that the socket is going to be bound to. Remains of former connections do not matter here.
pub(in crate::device) fn prepare(socket: &Socket, _reuse: bool) -> io::Result<()> {
    let on = 1_i32;
    // SAFETY: the socket is open; pointer and length describe `on`, which the system only reads.
    let result = unsafe {
        setsockopt(socket.as_raw_socket() as usize, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (&raw const on).cast(), size_of::<i32>() as i32)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many sockets there may be: guards take half of it.
pub(in crate::device) fn most_descriptors() -> io::Result<usize> {
    Ok(2 * MOST_GUARDS)
}
