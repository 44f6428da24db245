//! What every handle needs of the stack it belongs to, without knowing who drives the layers.
//!
//! Owns the way to the transport layer (marks), the pool, the port provider and the stack's status. The threads of the pipeline and the
//! lockstep simulation each make one.

use crate::config::Config;
use crate::network::topology::Topology;
use crate::packet::Pool;
use crate::pipeline::{Health, Seat, Status};
use crate::time::Clock;
use crate::transport::ports::PortProvider;
use crate::transport::shared::{DeviceRoom, Failure, MarkQueue};
use parking_lot::RwLock;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Whether a call on a handle may wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Somebody else drives the layers: threads.
    Allowed,
    /// The caller drives the layers itself, in lockstep: a call that would wait says `WouldBlock`.
    Never,
}

/// What handles are made from.
pub(crate) struct Backend {
    /// The dirty list.
    pub(crate) marks: Arc<dyn MarkQueue>,
    /// Room on the way to the device.
    pub(crate) device_room: Arc<DeviceRoom>,
    /// Where what programs write is copied to.
    pub(crate) pool: Pool,
    /// Who hands out ports.
    pub(crate) ports: Arc<dyn PortProvider>,
    /// Defaults of new sockets.
    pub(crate) config: Arc<Config>,
    /// The clock of arrival times.
    pub(crate) clock: Arc<dyn Clock>,
    topology: RwLock<Arc<Topology>>,
    waiting: Waiting,
    health: Arc<Health>,
    seat: Arc<Seat>,
}

/// The parts of a [`Backend`], named.
pub(crate) struct BackendParts {
    pub(crate) marks: Arc<dyn MarkQueue>,
    pub(crate) device_room: Arc<DeviceRoom>,
    pub(crate) pool: Pool,
    pub(crate) ports: Arc<dyn PortProvider>,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) waiting: Waiting,
    /// Of the threads; a default one for whoever drives the layers itself.
    pub(crate) health: Arc<Health>,
    /// Likewise.
    pub(crate) seat: Arc<Seat>,
}

impl Backend {
    pub(crate) fn new(parts: BackendParts) -> Arc<Backend> {
        let BackendParts { marks, device_room, pool, ports, config, clock, topology, waiting, health, seat } = parts;
        let topology = RwLock::new(topology);
        Arc::new(Backend { marks, device_room, pool, ports, config, clock, topology, waiting, health, seat })
    }

    /// The addresses and routes at this moment.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.read().clone()
    }

    /// Replaces what [`Backend::topology`] says; the network layer is told by whoever calls this.
    pub(crate) fn set_topology(&self, topology: Arc<Topology>) {
        *self.topology.write() = topology;
    }

    pub(crate) fn may_wait(&self) -> bool {
        self.waiting == Waiting::Allowed
    }

    /// The stack's health, for those who drive its layers.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Where a thread that waits receives.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(crate) fn status(&self) -> Status {
        self.health.status()
    }

    /// What an error says after the stack's end: that it was, to a call that `waited`, and to a later one that there is no connection.
    pub(crate) fn late(&self, error: io::Error, waited: bool) -> io::Error {
        let ended = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe);
        if ended && self.status() == Status::Closing { self.unavailable(waited).unwrap_or(error) } else { error }
    }

    /// Why a call cannot go on: `waited` says whether it was blocked when that happened.
    pub(crate) fn unavailable(&self, waited: bool) -> Option<io::Error> {
        match self.status() {
            Status::Running => None,
            Status::NetworkGone => Some(Failure::NetworkDown.into()),
            Status::Closing if waited => Some(Failure::Aborted.into()),
            Status::Closing => Some(io::Error::new(io::ErrorKind::NotConnected, "the stack is shut down")),
            Status::Failed => Some(Failure::StackFailed.into()),
        }
    }

    /// Refuses new sockets on a stack that is not running.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.unavailable(false).map_or(Ok(()), Err)
    }

    /// Refuses a local address that is not ours, before a port is taken for it.
    pub(crate) fn check_local(&self, local: IpAddr) -> io::Result<()> {
        self.check()?;
        check_family(local)?;
        let topology = self.topology();
        let fine = local.is_unspecified() || local.is_multicast() || topology.is_local(local) || is_broadcast(&topology, local);
        if fine { Ok(()) } else { Err(Failure::AddressNotAvailable.into()) }
    }

    /// Refuses a destination to which no route leads.
    pub(crate) fn check_remote(&self, remote: IpAddr) -> io::Result<()> {
        self.check()?;
        check_family(remote)?;
        match self.topology().resolve(remote) {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::NetworkUnreachable, format!("no route to {remote}"))),
        }
    }
}

/// IPv6 is not carried yet.
fn check_family(address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => Ok(()),
        IpAddr::V6(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "IPv6 is not supported yet")),
    }
}

fn is_broadcast(topology: &Topology, address: IpAddr) -> bool {
    topology.cast_of(address) == crate::link::Cast::Broadcast
}

/// The unspecified address of the family of `like`, with a port.
pub(crate) fn unspecified(like: IpAddr, port: u16) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}
