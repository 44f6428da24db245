//! Ports: who hands them out, and what has to be held while one is in use.
//!
//! Owns the [`PortProvider`] trait and the lease. With an own address the transport layer itself chooses ephemeral ports (RFC 6056); with an
//! address shared with the host, each port is guarded by a kernel socket, and the provider hands out guarded ports.

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
