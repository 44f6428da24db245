//! Datagrams on their way out: turns, headers, checksums.

use super::{Datagrams, tell_failure};
use crate::layer::DropReason;
use crate::link::Cast;
use crate::network::topology::Resolved;
use crate::network::{self, Fragmentation, Outgoing};
use crate::packet::{ChecksumState, Guard, HEADROOM, Packet, Pool, Segmentation, SegmentationKind};
use crate::time::Instant;
use crate::transport::environment::{Environment, Out};
use crate::transport::shared::{Datagram, DatagramKind, DatagramShared, Failure, Mark};
use crate::wire::checksum::pseudo_header;
use crate::wire::{Checksum, Icmpv4Message, Ipv4Header, Protocol, UdpHeader};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Packets that one socket sends before the next one has its turn.
const TURN: usize = 16;
/// Datagrams in one super-datagram: half of what Linux takes (`UDP_MAX_SEGMENTS`), and all that older ones take.
pub(super) const DATAGRAMS_AT_ONCE: usize = 64;
/// Bytes of payload in one super-datagram, so that it and its headers fit a large slot and an IP packet.
const SUPER_PAYLOAD: usize = 64_000;

/// How a turn ended.
enum Turn {
    /// The socket has nothing more to send.
    Done,
    /// It has more.
    More,
    /// There is no room on the way to the device; `DeviceRoom` will tell.
    Blocked,
}

impl Datagrams {
    /// Sends, turn by turn, until nothing is left, the way to the device is full, or this batch has had its share: the rest goes in the next one.
    pub(in crate::transport) fn send_all(&mut self, environment: &mut Environment, now: Instant, out: &mut Out) {
        let mut turns = environment.datagram.turns_in_a_batch;
        while let Some(&key) = self.turns.front() {
            if turns == 0 {
                return self.go_on(key, out);
            }
            turns -= 1;
            match self.take_turn(key, environment, now, out) {
                Turn::Blocked => return,
                Turn::More => self.turns.rotate_left(1),
                Turn::Done => self.end_turn(key),
            }
        }
    }

    /// Sees to it that another batch follows: a mark brings it.
    fn go_on(&self, key: usize, out: &mut Out) {
        out.counters().transport.datagram_batches_cut.increment();
        if let Some(entry) = self.sockets.get(key) {
            entry.shared.mark(Mark::Send);
        }
    }

    fn end_turn(&mut self, key: usize) {
        self.turns.pop_front();
        let Some(entry) = self.sockets.get_mut(key) else { return };
        entry.has_turn = false;
        if entry.released {
            self.remove(key);
        }
    }

    fn take_turn(&mut self, key: usize, environment: &mut Environment, now: Instant, out: &mut Out) -> Turn {
        let Some(entry) = self.sockets.get(key) else { return Turn::Done };
        let shared = &entry.shared;
        for _ in 0..TURN {
            if shared.state.lock().to_send.is_empty() {
                return Turn::Done;
            }
            if !shared.device_room().take() {
                return Turn::Blocked;
            }
            let may_broadcast = {
                let mut state = shared.state.lock();
                let count = run_at_front(&state.to_send, shared.kind, environment);
                self.run.extend(state.to_send.drain(..count));
                state.options.broadcast
            };
            let Some((mut datagram, cost)) = join(&mut self.run, &environment.pool) else {
                shared.device_room().give_back();
                return Turn::Done;
            };
            // From here on the guard gives back what the program and this loop took, whatever becomes of the packet.
            datagram.packet.guard = Some(Guard::new(shared.clone(), cost));
            send(shared, entry.local, may_broadcast, datagram, environment, now, out);
        }
        Turn::More
    }
}

/// How many datagrams at the front of the queue may leave as one super-datagram: to one peer, equally long but for the last one, none of them to be
/// fragmented, and the device is one that cuts them.
fn run_at_front(queue: &VecDeque<Datagram>, kind: DatagramKind, environment: &Environment) -> usize {
    let Some(first) = queue.front() else { return 0 };
    let length = first.packet.len();
    if kind != DatagramKind::Udp || queue.len() < 2 || length == 0 || !is_cut_by_device(first, environment) {
        return 1;
    }
    let most = (SUPER_PAYLOAD / length).clamp(1, DATAGRAMS_AT_ONCE);
    let alike = queue.iter().take(most).take_while(|next| goes_with(first, next)).count();
    let equal = queue.iter().take(alike).take_while(|next| next.packet.len() == length).count();
    alike.min(equal + 1)
}

fn is_cut_by_device(datagram: &Datagram, environment: &Environment) -> bool {
    let (topology, address) = (&environment.topology, datagram.peer.ip());
    let whole = datagram.packet.len() + UdpHeader::LENGTH + Ipv4Header::MINIMUM_LENGTH;
    topology.offload.udp_segmentation
        && address.is_ipv4()
        && !address.is_loopback()
        && !topology.is_local(address)
        && topology.cast_of(address) == Cast::Unicast
        && whole <= usize::from(environment.path_mtu(address))
}

fn goes_with(first: &Datagram, next: &Datagram) -> bool {
    let how = |datagram: &Datagram| (datagram.peer, datagram.local, datagram.time_to_live, datagram.traffic_class, datagram.fragmentation);
    how(first) == how(next) && !next.packet.is_empty() && next.packet.len() <= first.packet.len()
}

/// Makes one datagram of a run, and says what the whole of it cost. The payloads are copied together: many short slices would cost the device more.
fn join(run: &mut Vec<Datagram>, pool: &Pool) -> Option<(Datagram, usize)> {
    let cost = run.iter().map(Datagram::send_cost).sum();
    let size = run.first()?.packet.len();
    let joined = (run.len() > 1).then(|| {
        let mut buffer = pool.buffer(HEADROOM + UdpHeader::LENGTH, run.iter().map(|datagram| datagram.packet.len()).sum());
        let mut room = buffer.bytes_mut();
        for datagram in run.iter() {
            let copied = datagram.packet.copy_to(room);
            room = room.get_mut(copied..).unwrap_or_default();
        }
        Packet::new(buffer.freeze())
    });
    let mut first = run.drain(..).next()?;
    if let Some(packet) = joined {
        first.packet = packet;
        first.packet.offload.segmentation =
            Some(Segmentation { kind: SegmentationKind::Udp, size: u16::try_from(size).unwrap_or(u16::MAX) });
    }
    Some((first, cost))
}

fn send(
    shared: &Arc<DatagramShared>,
    local: SocketAddr,
    may_broadcast: bool,
    datagram: Datagram,
    environment: &mut Environment,
    now: Instant,
    out: &mut Out,
) {
    let route = match check(shared.kind, local, may_broadcast, &datagram, environment) {
        Ok(route) => route,
        Err(failure) => {
            tell_failure(shared, failure, out);
            return out.drop_packet(reason_for(failure), datagram.packet);
        }
    };
    let Datagram { peer, mut packet, time_to_live, traffic_class, fragmentation, .. } = datagram;
    packet.arrived = now;
    packet.number = environment.next_packet_number();
    let count = packet.len().div_ceil(piece_length(&packet).max(1)).max(1);
    let source = SocketAddr::new(route.source, local.port());
    if !add_header(shared.kind, source, peer, &mut packet, environment) {
        return out.drop_packet(DropReason::Malformed, packet);
    }
    if shared.kind == DatagramKind::Udp {
        out.counters().transport.datagrams_sent.add(count as u64);
    }
    out.down.push_back(network::Message::Send(Outgoing {
        source: route.source,
        destination: peer.ip(),
        protocol: protocol_of(shared.kind),
        time_to_live,
        traffic_class,
        fragmentation,
        header_included: false,
        packet,
    }));
}

/// Whether the datagram may be sent, and from which address.
fn check(
    kind: DatagramKind,
    local: SocketAddr,
    may_broadcast: bool,
    datagram: &Datagram,
    environment: &Environment,
) -> Result<Resolved, Failure> {
    let topology = &environment.topology;
    let mut route = topology.resolve(datagram.peer.ip()).ok_or(Failure::NetworkUnreachable)?;
    if route.cast == Cast::Broadcast && !may_broadcast {
        return Err(Failure::Prohibited);
    }
    let wished = [local.ip(), datagram.local.ip()].into_iter().find(|address| is_sender(*address, environment));
    route.source = wished.unwrap_or(route.source);
    let header = if kind == DatagramKind::Udp { UdpHeader::LENGTH } else { 0 };
    let total = Ipv4Header::MINIMUM_LENGTH + header + piece_length(&datagram.packet);
    let path_mtu = usize::from(environment.path_mtu(datagram.peer.ip()));
    if total > usize::from(u16::MAX) || (datagram.fragmentation == Fragmentation::Forbidden && total > path_mtu) {
        return Err(Failure::MessageTooBig);
    }
    Ok(route)
}

/// Bytes of payload in each datagram of a packet.
fn piece_length(packet: &Packet) -> usize {
    packet.offload.segmentation.map_or(packet.len(), |segmentation| segmentation.size.into())
}

/// A socket bound to a group or to a broadcast address sends from an address of ours all the same.
fn is_sender(address: IpAddr, environment: &Environment) -> bool {
    environment.topology.is_local(address)
}

fn reason_for(failure: Failure) -> DropReason {
    match failure {
        Failure::MessageTooBig => DropReason::TooBig,
        Failure::Prohibited => DropReason::NotPermitted,
        _ => DropReason::NoRoute,
    }
}

fn protocol_of(kind: DatagramKind) -> Protocol {
    match kind {
        DatagramKind::Udp => Protocol::UDP,
        DatagramKind::IcmpEcho => Protocol::ICMP,
        DatagramKind::Raw(protocol) => protocol,
    }
}

/// Puts the header in front, or completes the one that the program wrote. False if the program wrote less than a header.
fn add_header(kind: DatagramKind, source: SocketAddr, peer: SocketAddr, packet: &mut Packet, environment: &Environment) -> bool {
    match kind {
        DatagramKind::Udp => add_udp_header(source, peer, packet, environment),
        DatagramKind::IcmpEcho => complete_echo(source.port(), packet, environment),
        DatagramKind::Raw(_) => true,
    }
}

/// RFC 768; the checksum is left partial, for the device or for whoever fragments.
fn add_udp_header(source: SocketAddr, peer: SocketAddr, packet: &mut Packet, environment: &Environment) -> bool {
    let Ok(length) = u16::try_from(packet.len() + UdpHeader::LENGTH) else { return false };
    let sum = pseudo_header(source.ip(), peer.ip(), Protocol::UDP, length.into());
    let header = UdpHeader { source_port: source.port(), destination_port: peer.port(), length, checksum: sum.partial() };
    let Some(space) = packet.prepend(UdpHeader::LENGTH, &environment.pool).get_mut(..UdpHeader::LENGTH) else { return false };
    header.emit(space);
    packet.offload.checksum = ChecksumState::Partial { start: 0, offset: UdpHeader::CHECKSUM_OFFSET as u16 };
    true
}

/// Fills in the identifier, which is the socket's "port", and the checksum (RFC 792).
fn complete_echo(identifier: u16, packet: &mut Packet, environment: &Environment) -> bool {
    let Some(header) = packet.make_writable(Icmpv4Message::HEADER_LENGTH, &environment.pool) else { return false };
    put(header, 4, identifier);
    put(header, Icmpv4Message::CHECKSUM_OFFSET, 0);
    let mut sum = Checksum::new();
    packet.slices().iter().for_each(|slice| sum.add_bytes(slice));
    if let Some(header) = packet.front_mut() {
        put(header, Icmpv4Message::CHECKSUM_OFFSET, sum.finish());
    }
    true
}

fn put(header: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = header.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
