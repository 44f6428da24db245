//! Ports: who hands them out, and what has to be held while one is in use.
//!
//! Owns the [`PortProvider`] trait and the lease. With an own address the transport layer itself chooses ephemeral ports (RFC 6056); with an
//! address shared with the host, each port is guarded by a kernel socket, and the provider hands out guarded ports.

use crate::random::SecretRandom;
use crate::wire::Protocol;
use std::hash::Hasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
    /// The stack has ended: nothing of ours is to stay on the host. May be called more than once.
    fn close(&self) {}
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
    next: u32,
}

impl EphemeralPorts {
    /// Ports from `first` to `last`, both included.
    pub(super) fn new((first, last): (u16, u16)) -> EphemeralPorts {
        let first = first.max(1);
        EphemeralPorts { first, count: last.saturating_sub(first).saturating_add(1), next: 0 }
    }

    /// A port for a connection from `local` to `remote` that `is_free` accepts: the simple hash-based selection of RFC 6056 §3.3.3, where each
    /// pair of ends has its own secret starting point and ports are used again as late as possible.
    pub(super) fn choose(
        &mut self,
        random: &SecretRandom,
        local: IpAddr,
        remote: SocketAddr,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let offset = random.keyed_hash(|hasher| feed(hasher, local, remote)) as u32 >> 1;
        for _ in 0..self.count {
            let port = self.at(offset + self.next);
            self.next = (self.next + 1) % u32::from(self.count.max(1));
            if is_free(port) {
                return Some(port);
            }
        }
        None
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

fn feed(hasher: &mut dyn Hasher, local: IpAddr, remote: SocketAddr) {
    for address in [local, remote.ip()] {
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
    }
    hasher.write_u16(remote.port());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ends() -> (IpAddr, SocketAddr) {
        ("192.0.2.1".parse().unwrap(), "198.51.100.1:80".parse().unwrap())
    }

    #[test]
    fn every_port_of_the_range_is_reached_before_one_comes_again() {
        let (local, remote) = ends();
        let random = SecretRandom::from_seed(1);
        let mut ports = EphemeralPorts::new((40_000, 40_099));
        let chosen: HashSet<u16> = (0..100).filter_map(|_| ports.choose(&random, local, remote, |_| true)).collect();
        assert_eq!((chosen.len(), chosen.iter().min(), chosen.iter().max()), (100, Some(&40_000), Some(&40_099)));
    }

    #[test]
    fn a_full_range_says_so_and_a_last_free_port_is_found() {
        let (local, remote) = ends();
        let mut random = SecretRandom::from_seed(1);
        let mut ports = EphemeralPorts::new((40_000, 40_099));
        assert_eq!(ports.choose(&random, local, remote, |_| false), None);
        assert_eq!(ports.choose(&random, local, remote, |port| port == 40_042), Some(40_042));
        assert_eq!(ports.choose_any(&mut random, |port| port == 40_042), Some(40_042));
        assert_eq!(ports.choose_any(&mut random, |_| false), None);
    }

    #[test]
    fn the_first_port_depends_on_the_key_and_on_the_peer() {
        let (local, remote) = ends();
        let first = |seed, remote| EphemeralPorts::new((1_024, 65_535)).choose(&SecretRandom::from_seed(seed), local, remote, |_| true);
        assert_eq!(first(1, remote), first(1, remote));
        assert_ne!(first(1, remote), first(2, remote));
        assert_ne!(first(1, remote), first(1, "198.51.100.2:80".parse().unwrap()));
    }

    #[test]
    fn a_silly_range_neither_panics_nor_gives_port_zero() {
        let (local, remote) = ends();
        let random = SecretRandom::from_seed(1);
        assert_eq!(EphemeralPorts::new((0, 0)).choose(&random, local, remote, |_| true), Some(1));
        assert!(EphemeralPorts::new((1, u16::MAX)).choose(&random, local, remote, |_| true).is_some());
    }
}
