//! Port guards: how a stack uses ports of an address that the host's kernel has as well.
//!
//! The kernel does not know our connections and would answer our peers with RST or port unreachable. A guard is a socket of the kernel's on the same
//! address and port: no other program can have the port meanwhile, and closing the descriptor, also by a crash, undoes it. What makes the kernel silent
//! differs, and is in each system's `guard` module: on Linux a filter on the guard that drops everything, attached before it is bound.
//!
//! Owns the guards and who uses them, and tells the packet socket's filter which ports are ours. Refuses to know connections: a lease is held by
//! whoever uses the port, until its last connection is gone.
//!
//! A guard costs a descriptor, so one serves every connection from its port, as long as they lead to different places. Outgoing connections take
//! their ports from one block of consecutive ports, chosen at start, so that the filter stays as it is; when all of the block leads to one
//! place already, it grows, up to half of the descriptors that the process may have.

use super::Medium;
use super::filter::{Filter, PortSet};
use super::system::guard::{self, HostSilence};
use super::system::host::ephemeral_ports;
use super::system::{FilterHandle, TAGS};
use crate::random::SecretRandom;
use crate::transport::ports::{PortGuard, PortLease, PortProvider};
use crate::wire::Protocol;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Weak};

/// Ports of the block where descriptors are plenty.
const BLOCK_PORTS: usize = 64;
/// Ports of the block where they are not.
const SMALL_BLOCK_PORTS: usize = 16;
/// Below this many descriptors they are not plenty.
const FEW_DESCRIPTORS: usize = 512;
/// Ports that the block grows by.
const GROWTH_PORTS: usize = 8;
/// Places tried for a block of consecutive free ports, before single ones are taken.
const BLOCK_ATTEMPTS: usize = 32;

/// A kernel socket that keeps others, and the kernel itself, off one port.
struct GuardSocket {
    _socket: Socket,
    port: u16,
}

/// The two kinds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    /// Bound, and listening where the kernel finds it only then.
    Tcp,
    /// Bound.
    Udp,
}

/// Why a port's guard is wanted.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Use {
    /// For connections or datagrams that we start: must be free altogether.
    Outgoing,
    /// To be found by others: remains of former connections do not matter, as for `std::net::TcpListener`.
    Listening,
}

impl GuardSocket {
    /// Guards `port`, or (0) one that the kernel chooses.
    fn new(address: Ipv4Addr, port: u16, kind: Kind, purpose: Use) -> io::Result<GuardSocket> {
        let socket = Socket::new(Domain::IPV4, if kind == Kind::Tcp { Type::STREAM } else { Type::DGRAM }, None)?;
        guard::prepare(&socket, purpose == Use::Listening && kind == Kind::Tcp)?;
        socket.bind(&SocketAddrV4::new(address, port).into()).map_err(|error| bind_error(address, port, error))?;
        if kind == Kind::Tcp && guard::LISTENS {
            socket.listen(1)?;
        }
        let port = socket.local_addr()?.as_socket().map_or(port, |local| local.port());
        Ok(GuardSocket { _socket: socket, port })
    }
}

fn bind_error(address: Ipv4Addr, port: u16, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(error.kind(), format!("port {port} of {address} is in use by the host")),
        _ => error,
    }
}

/// The guarded ports of a shared address.
pub struct SharedPorts {
    address: Ipv4Addr,
    medium: Medium,
    filter: FilterHandle,
    /// `None` once the stack has ended.
    silence: Mutex<Option<HostSilence>>,
    most_guards: usize,
    pool: Mutex<GuardPool>,
    own: Weak<SharedPorts>,
}

struct GuardPool {
    random: SecretRandom,
    /// For outgoing connections: kept until the end.
    tcp: Vec<GuardSocket>,
    /// For datagram sockets: kept until the end, each lent to one socket at a time.
    udp: Vec<GuardSocket>,
    udp_lent: BTreeSet<u16>,
    /// Where connections from the ports of `tcp` lead to.
    destinations: BTreeSet<(u16, SocketAddr)>,
    /// Ports asked for by number, and listeners': closed with their last lease.
    named: BTreeMap<(bool, u16), NamedGuard>,
}

struct NamedGuard {
    _socket: GuardSocket,
    leases: usize,
}

impl SharedPorts {
    /// Chooses a block of ports of `address`, guards them, and has `filter` (of a packet socket that carries `medium`) let in what is for them.
    pub fn new(address: Ipv4Addr, medium: Medium, filter: FilterHandle) -> io::Result<Arc<SharedPorts>> {
        let descriptors = guard::most_descriptors()?;
        let mut random = SecretRandom::from_os()?;
        let (tcp, udp) = guard_block(address, if descriptors < FEW_DESCRIPTORS { SMALL_BLOCK_PORTS } else { BLOCK_PORTS }, &mut random)?;
        let pool = GuardPool { random, tcp, udp, udp_lent: BTreeSet::new(), destinations: BTreeSet::new(), named: BTreeMap::new() };
        let (silence, most_guards) = (Mutex::new(Some(HostSilence::new(address)?)), descriptors / 2);
        let ports =
            Arc::new_cyclic(|own| SharedPorts { address, medium, filter, silence, most_guards, pool: Mutex::new(pool), own: own.clone() });
        ports.update_filter(&ports.pool.lock())?;
        Ok(ports)
    }

    /// The ports whose packets are taken from the wire at present.
    pub fn ports(&self) -> PortSet {
        self.pool.lock().ports()
    }

    fn update_filter(&self, pool: &GuardPool) -> io::Result<()> {
        let ports = pool.ports();
        let filter = Filter::for_shared_address(TAGS, self.medium, self.address, &ports).ok_or_else(too_many_ports)?;
        if let Some(silence) = &*self.silence.lock() {
            silence.cover(&ports)?;
        }
        self.filter.set(&filter)
    }

    /// A port of the block that leads to `remote` from nowhere else; the block grows if there is none.
    fn lease_outgoing(&self, remote: SocketAddr) -> io::Result<PortLease> {
        let mut pool = self.pool.lock();
        let port = match pool.port_towards(remote) {
            Some(port) => port,
            None => {
                self.grow(&mut pool)?;
                pool.port_towards(remote).ok_or_else(|| no_ports(remote))?
            }
        };
        pool.destinations.insert((port, remote));
        Ok(self.lease(port, Held::Destination(port, remote)))
    }

    fn grow(&self, pool: &mut GuardPool) -> io::Result<()> {
        let room = self.most_guards.saturating_sub(pool.guards());
        for _ in 0..GROWTH_PORTS.min(room) {
            pool.tcp.push(GuardSocket::new(self.address, 0, Kind::Tcp, Use::Outgoing)?);
        }
        self.update_filter(pool)
    }

    fn lease_datagram_port(&self) -> io::Result<PortLease> {
        let mut pool = self.pool.lock();
        let port = match pool.free_datagram_port() {
            Some(port) => port,
            None if pool.guards() >= self.most_guards => return Err(too_many_ports()),
            None => {
                let guard = GuardSocket::new(self.address, 0, Kind::Udp, Use::Outgoing)?;
                let port = guard.port;
                pool.udp.push(guard);
                self.update_filter(&pool)?;
                port
            }
        };
        pool.udp_lent.insert(port);
        Ok(self.lease(port, Held::Datagrams(port)))
    }

    /// A port by its number for a connection: perhaps one of the block.
    fn lease_outgoing_named(&self, wanted: u16, remote: Option<SocketAddr>) -> io::Result<PortLease> {
        let mut pool = self.pool.lock();
        match remote.filter(|_| pool.tcp.iter().any(|guard| guard.port == wanted)) {
            Some(remote) if pool.destinations.insert((wanted, remote)) => Ok(self.lease(wanted, Held::Destination(wanted, remote))),
            Some(remote) => {
                let text = format!("there is a connection from port {wanted} to {remote}");
                Err(io::Error::new(io::ErrorKind::AddrInUse, text))
            }
            None => {
                drop(pool);
                self.lease_named(wanted, Kind::Tcp, Use::Outgoing)
            }
        }
    }

    /// A port by its number (0: any), with a guard of its own that goes with its last lease.
    fn lease_named(&self, wanted: u16, kind: Kind, purpose: Use) -> io::Result<PortLease> {
        let mut pool = self.pool.lock();
        let is_tcp = kind == Kind::Tcp;
        if let Some(named) = pool.named.get_mut(&(is_tcp, wanted)).filter(|_| purpose == Use::Outgoing && is_tcp) {
            named.leases += 1;
            return Ok(self.lease(wanted, Held::Named(is_tcp, wanted)));
        }
        let guard = GuardSocket::new(self.address, wanted, kind, purpose)?;
        let port = guard.port;
        pool.named.insert((is_tcp, port), NamedGuard { _socket: guard, leases: 1 });
        if let Err(error) = self.update_filter(&pool) {
            pool.named.remove(&(is_tcp, port));
            return Err(error);
        }
        Ok(self.lease(port, Held::Named(is_tcp, port)))
    }

    fn lease(&self, port: u16, held: Held) -> PortLease {
        PortLease { port, guard: self.own.upgrade().map(|ports| Arc::new(Lease { ports, held }) as Arc<dyn PortGuard>) }
    }

    fn give_back(&self, held: Held) {
        let mut pool = self.pool.lock();
        match held {
            Held::Destination(port, remote) => {
                pool.destinations.remove(&(port, remote));
            }
            Held::Datagrams(port) => {
                pool.udp_lent.remove(&port);
            }
            Held::Named(is_tcp, port) => {
                if pool.release_named(is_tcp, port) {
                    // A filter that is too wide lets in packets that nobody wants: harmless.
                    let _ = self.update_filter(&pool);
                }
            }
        }
    }
}

impl PortProvider for SharedPorts {
    fn lease(&self, protocol: Protocol, wanted: u16, remote: Option<SocketAddr>) -> io::Result<PortLease> {
        match (protocol, wanted, remote) {
            (Protocol::TCP, 0, Some(remote)) => self.lease_outgoing(remote),
            (Protocol::TCP, wanted, remote) => self.lease_outgoing_named(wanted, remote),
            (Protocol::UDP, 0, _) => self.lease_datagram_port(),
            (Protocol::UDP, wanted, _) => self.lease_named(wanted, Kind::Udp, Use::Listening),
            _ => Ok(PortLease { port: wanted, guard: None }),
        }
    }

    fn lease_listener(&self, wanted: u16) -> io::Result<PortLease> {
        self.lease_named(wanted, Kind::Tcp, Use::Listening)
    }

    /// Some systems keep rules of ours that a process's end does not undo.
    fn close(&self) {
        *self.silence.lock() = None;
    }
}

impl GuardPool {
    fn guards(&self) -> usize {
        self.tcp.len() + self.udp.len() + self.named.len()
    }

    fn ports(&self) -> PortSet {
        let named = |is_tcp| self.named.keys().filter(move |key| key.0 == is_tcp).map(|key| key.1);
        PortSet {
            tcp: self.tcp.iter().map(|guard| guard.port).chain(named(true)).collect(),
            udp: self.udp.iter().map(|guard| guard.port).chain(named(false)).collect(),
        }
    }

    /// The first free one behind a random one (RFC 6056 §3.3.2: a port must not be foretold from the last).
    fn port_towards(&mut self, remote: SocketAddr) -> Option<u16> {
        let start = self.random.below(self.tcp.len() as u32) as usize;
        let ports = self.tcp.iter().cycle().skip(start).take(self.tcp.len()).map(|guard| guard.port);
        ports.into_iter().find(|&port| !self.destinations.contains(&(port, remote)))
    }

    fn free_datagram_port(&mut self) -> Option<u16> {
        let start = self.random.below(self.udp.len() as u32) as usize;
        let ports = self.udp.iter().cycle().skip(start).take(self.udp.len()).map(|guard| guard.port);
        ports.into_iter().find(|port| !self.udp_lent.contains(port))
    }

    /// Says whether that was the last lease, and the guard is gone.
    fn release_named(&mut self, is_tcp: bool, port: u16) -> bool {
        let Some(named) = self.named.get_mut(&(is_tcp, port)) else { return false };
        named.leases = named.leases.saturating_sub(1);
        let is_last = named.leases == 0;
        if is_last {
            self.named.remove(&(is_tcp, port));
        }
        is_last
    }
}

/// What a lease stands for.
#[derive(Copy, Clone)]
enum Held {
    Destination(u16, SocketAddr),
    Datagrams(u16),
    /// TCP or not, and the port.
    Named(bool, u16),
}

struct Lease {
    ports: Arc<SharedPorts>,
    held: Held,
}

impl PortGuard for Lease {}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.give_back(self.held);
    }
}

/// Guards `count` consecutive ports for both protocols, somewhere in the kernel's ephemeral range; single ones if no such place is found.
fn guard_block(address: Ipv4Addr, count: usize, random: &mut SecretRandom) -> io::Result<(Vec<GuardSocket>, Vec<GuardSocket>)> {
    let (first, last) = ephemeral_ports();
    let places = u32::from(last - first).saturating_sub(count as u32);
    for _ in 0..BLOCK_ATTEMPTS {
        let start = u32::from(first) + random.below(places);
        let ports = (0..count as u32).map(|index| (start + index) as u16);
        match guard_ports(address, ports) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    guard_ports(address, std::iter::repeat_n(0, count))
}

fn guard_ports(address: Ipv4Addr, ports: impl Iterator<Item = u16> + Clone) -> io::Result<(Vec<GuardSocket>, Vec<GuardSocket>)> {
    let all = |kind| ports.clone().map(|port| GuardSocket::new(address, port, kind, Use::Outgoing)).collect::<io::Result<Vec<_>>>();
    Ok((all(Kind::Tcp)?, all(Kind::Udp)?))
}

fn no_ports(remote: SocketAddr) -> io::Error {
    let text = format!("every guarded port already has a connection to {remote}: use an own address, or raise the limit of open files");
    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
}

fn too_many_ports() -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "too many ports of a shared address in use: raise the limit of open files, or use an own address",
    )
}
