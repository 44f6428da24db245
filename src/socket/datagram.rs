//! What UDP, ICMP and raw sockets have in common.
//!
//! Owns sending within the socket's budget and receiving whole datagrams. What is said about the shared struct in
//! [`crate::transport::shared`] holds here; read it first.

use super::backend::Backend;
use super::waiting::{Settings, Side, Wait};
use crate::link::Cast;
use crate::network::Fragmentation;
use crate::packet::{HEADROOM, LARGE_SLOT, Packet};
use crate::time::Instant;
use crate::transport::shared::{DATAGRAM_OVERHEAD, Datagram, DatagramKind, DatagramShared, DatagramState, Failure, Mark, SocketOptions};
use crate::wire::Protocol;
use parking_lot::MutexGuard;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// The largest IPv4 packet.
const LARGEST_PACKET: usize = 65_535;

/// What the clones of a datagram socket have in common.
pub(crate) struct DatagramHandle {
    pub(crate) shared: Arc<DatagramShared>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) settings: Settings,
    fragmentation: AtomicU8,
}

/// Where a datagram came from and what is known of it. Its payload has been copied out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DatagramInfo {
    /// The sender; the port is 0 for ICMP and raw sockets.
    pub peer: SocketAddr,
    /// Which of our addresses, or which group, it was sent to.
    pub local: SocketAddr,
    /// Bytes of the datagram; more than what was copied if the buffer was too short.
    pub length: usize,
    /// IPv4 time to live or IPv6 hop limit, as it arrived.
    pub time_to_live: u8,
    /// DSCP and ECN bits, as they arrived.
    pub traffic_class: u8,
    /// When the device had it, by the stack's clock.
    pub arrived: Instant,
}

/// Whether a datagram that was received stays on the socket.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Taking {
    Consume,
    Peek,
}

impl DatagramHandle {
    /// Opens a socket; waits until the transport layer has, where waiting is possible.
    pub(crate) fn open(backend: &Arc<Backend>, kind: DatagramKind, local: SocketAddr) -> io::Result<Arc<DatagramHandle>> {
        backend.check_local(local.ip())?;
        let lease = match protocol(kind) {
            Some(protocol) => backend.ports.lease(protocol, local.port(), None)?,
            None => Default::default(),
        };
        let local = SocketAddr::new(local.ip(), lease.port);
        let options = backend.config.datagram.socket_options();
        let shared = DatagramShared::new(kind, backend.marks.clone(), backend.device_room.clone(), local, options);
        shared.state.lock().lease = lease;
        shared.mark(Mark::Open);
        let (settings, fragmentation) = (Settings::default(), AtomicU8::new(0));
        let handle = DatagramHandle { shared, backend: backend.clone(), settings, fragmentation };
        handle.wait_open()?;
        Ok(Arc::new(handle))
    }

    fn wait_open(&self) -> io::Result<()> {
        if !self.backend.may_wait() {
            return Ok(());
        }
        self.wait(Side::Read).until(&self.shared.state, |state| match state.failure.take() {
            Some(failure) => Some(Err(failure.into())),
            None => state.bound.then_some(Ok(())),
        })
    }

    pub(crate) fn wait(&self, side: Side) -> Wait<'_> {
        self.settings.wait(&self.backend, &self.shared.wakeup, side)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, DatagramState> {
        self.shared.state.lock()
    }

    /// Sends `parts`, one behind the other, as one datagram. Waits while the socket's budget is used up.
    pub(crate) fn send(&self, destination: SocketAddr, parts: &[&[u8]]) -> io::Result<usize> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.check_send(destination.ip(), length)?;
        let (local, options) = self.wait(Side::Write).until(&self.shared.state, |state| self.try_reserve(state, length))?;
        let packet = self.packet_of(parts, length);
        let datagram = Datagram {
            peer: destination,
            local,
            packet,
            time_to_live: options.time_to_live,
            traffic_class: options.traffic_class,
            arrived: self.backend.clock.now(),
            fragmentation: self.fragmentation(),
        };
        self.state().to_send.push_back(datagram);
        self.shared.mark(Mark::Send);
        Ok(length)
    }

    /// The failure once, as std does; then room for the whole datagram as soon as there is any.
    fn try_reserve(&self, state: &mut DatagramState, length: usize) -> Option<io::Result<(SocketAddr, SocketOptions)>> {
        if let Some(failure) = state.failure.take() {
            return Some(Err(failure.into()));
        }
        if self.shared.in_stack() >= state.options.send_buffer {
            return None;
        }
        self.shared.take_room(length + DATAGRAM_OVERHEAD);
        Some(Ok((state.local, state.options.clone())))
    }

    fn check_send(&self, destination: IpAddr, length: usize) -> io::Result<()> {
        self.backend.check_remote(destination)?;
        if destination.is_unspecified() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the destination is the unspecified address"));
        }
        if length > LARGEST_PACKET - IPV4_HEADER - self.header_bytes() {
            return Err(Failure::MessageTooBig.into());
        }
        let broadcast = self.backend.topology().cast_of(destination) == Cast::Broadcast;
        if broadcast && !self.state().options.broadcast {
            let text = "sending to a broadcast address needs set_broadcast(true)";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(())
    }

    /// Bytes that the transport layer puts in front of what the program sends.
    fn header_bytes(&self) -> usize {
        if self.shared.kind == DatagramKind::Udp { 8 } else { 0 }
    }

    fn packet_of(&self, parts: &[&[u8]], length: usize) -> Packet {
        let headroom = HEADROOM.saturating_add(self.header_bytes()).min(LARGE_SLOT.saturating_sub(length));
        let mut buffer = self.backend.pool.buffer(headroom, length);
        let mut room = buffer.bytes_mut();
        for part in parts {
            let (now, later) = room.split_at_mut(part.len());
            now.copy_from_slice(part);
            room = later;
        }
        let mut packet = Packet::new(buffer.freeze());
        packet.arrived = self.backend.clock.now();
        packet
    }

    /// Receives one datagram: what does not fit into `buffer` is lost. Gives the bytes copied.
    pub(crate) fn receive(&self, buffer: &mut [u8], taking: Taking) -> io::Result<(usize, DatagramInfo)> {
        let datagram = self.wait(Side::Read).until(&self.shared.state, |state| try_receive(state, taking))?;
        let copied = datagram.packet.copy_to(buffer);
        Ok((copied, describe(&datagram)))
    }

    /// The other end that connect chose.
    pub(crate) fn remote(&self) -> io::Result<SocketAddr> {
        self.state().remote.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// From now on, only this remote's datagrams are received, and its errors told. Our address, if it was left open, is the one that the route
    /// there has, as Linux does: many a program asks so for its own address.
    pub(crate) fn connect(&self, remote: SocketAddr) -> io::Result<()> {
        self.backend.check_remote(remote.ip())?;
        let route = self.backend.topology().resolve(remote.ip());
        let mut state = self.state();
        state.remote = Some(remote);
        if let Some(route) = route.filter(|_| state.local.ip().is_unspecified()) {
            state.local.set_ip(route.source);
        }
        drop(state);
        self.shared.mark(Mark::Options);
        Ok(())
    }

    pub(crate) fn options(&self) -> SocketOptions {
        self.state().options.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        change(&mut self.state().options);
        self.shared.mark(Mark::Options);
        Ok(())
    }

    pub(crate) fn set_fragmentation(&self, fragmentation: Fragmentation) {
        let number = match fragmentation {
            Fragmentation::Allowed => 0,
            Fragmentation::LocalOnly => 1,
            Fragmentation::Forbidden => 2,
        };
        self.fragmentation.store(number, Ordering::Relaxed);
    }

    pub(crate) fn fragmentation(&self) -> Fragmentation {
        match self.fragmentation.load(Ordering::Relaxed) {
            0 => Fragmentation::Allowed,
            1 => Fragmentation::LocalOnly,
            _ => Fragmentation::Forbidden,
        }
    }
}

impl Drop for DatagramHandle {
    fn drop(&mut self) {
        self.shared.mark(Mark::Released);
    }
}

/// The protocol whose ports the socket takes one of; raw sockets take none.
fn protocol(kind: DatagramKind) -> Option<Protocol> {
    match kind {
        DatagramKind::Udp => Some(Protocol::UDP),
        DatagramKind::IcmpEcho => Some(Protocol::ICMP),
        DatagramKind::Raw(_) => None,
    }
}

/// The failure comes before data, as in Linux's `__skb_recv_datagram`.
pub(crate) fn try_receive(state: &mut DatagramState, taking: Taking) -> Option<io::Result<Datagram>> {
    if let Some(failure) = state.failure.take() {
        return Some(Err(failure.into()));
    }
    let datagram = match taking {
        Taking::Peek => state.received.front().map(duplicate),
        Taking::Consume => state.received.pop_front(),
    }?;
    if taking == Taking::Consume {
        state.unread = state.unread.saturating_sub(datagram.receive_cost());
    }
    Some(Ok(datagram))
}

fn duplicate(datagram: &Datagram) -> Datagram {
    let Datagram { peer, local, ref packet, time_to_live, traffic_class, arrived, fragmentation } = *datagram;
    Datagram { peer, local, packet: packet.share(), time_to_live, traffic_class, arrived, fragmentation }
}

pub(crate) fn describe(datagram: &Datagram) -> DatagramInfo {
    let &Datagram { peer, local, ref packet, time_to_live, traffic_class, arrived, .. } = datagram;
    DatagramInfo { peer, local, length: packet.len(), time_to_live, traffic_class, arrived }
}
