//! Ports: who hands them out, and what has to be held while one is in use.
//!
//! Owns the [`PortProvider`] trait and the lease. With an own address the transport layer itself chooses ephemeral ports (RFC 6056); with an
//! address shared with the host, each port is guarded by a kernel socket, and the provider hands out guarded ports.

use crate::random::SecretRandom;
use crate::wire::Protocol;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Something that must stay alive while the port is in use: a guard socket. Dropped when the last connection on the port is gone, TIME-WAIT
/// included.
pub trait PortGuard: Send + Sync {}

/// A port that may be used.
#[derive(Clone, Default)]
pub struct PortLease {
    /// The port; 0 leaves the choice to the transport layer.
    pub port: u16,
    /// What keeps others off it.
    pub guard: Option<Arc<dyn PortGuard>>,
}

impl std::fmt::Debug for PortLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "port {}{}", self.port, if self.guard.is_some() { " (guarded)" } else { "" })
    }
}

/// Hands out ports. Called from program threads, never from a layer; may do system calls.
pub trait PortProvider: Send + Sync {
    /// A port for an outgoing TCP connection to `remote`, or for a datagram socket (`remote` is `None`); `wanted` 0 means any.
    fn lease(&self, protocol: Protocol, wanted: u16, remote: Option<SocketAddr>) -> io::Result<PortLease>;
    /// A port for a listener.
    fn lease_listener(&self, wanted: u16) -> io::Result<PortLease>;
}

/// The provider for addresses that are ours alone: whatever port the program wants, else the transport layer's choice.
#[derive(Copy, Clone, Debug, Default)]
pub struct OwnPorts;

impl PortProvider for OwnPorts {
    fn lease(&self, _protocol: Protocol, wanted: u16, _remote: Option<SocketAddr>) -> io::Result<PortLease> {
        Ok(PortLease { port: wanted, guard: None })
    }

    fn lease_listener(&self, wanted: u16) -> io::Result<PortLease> {
        Ok(PortLease { port: wanted, guard: None })
    }
}

/// The transport layer's own choice of ephemeral ports.
#[derive(Debug)]
pub(super) struct EphemeralPorts {
    first: u16,
    count: u16,
}

impl EphemeralPorts {
    /// Ports from `first` to `last`, both included.
    pub(super) fn new((first, last): (u16, u16)) -> EphemeralPorts {
        let first = first.max(1);
        EphemeralPorts { first, count: last.saturating_sub(first).saturating_add(1) }
    }

    /// A port for a datagram socket: random, then the next free one (RFC 6056 §3.3.1).
    pub(super) fn choose_any(&self, random: &mut SecretRandom, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let start = random.next_u32() >> 1;
        (0..u32::from(self.count)).map(|step| self.at(start + step)).find(|&port| is_free(port))
    }

    fn at(&self, step: u32) -> u16 {
        let offset = step % u32::from(self.count.max(1));
        self.first.saturating_add(offset as u16)
    }
}
