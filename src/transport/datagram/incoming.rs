//! Datagrams, and errors about datagrams, on their way in.

use super::{Datagrams, Entry};
use crate::layer::DropReason;
use crate::link::Cast;
use crate::network::topology::AddressMode;
use crate::network::{self, Delivery, DeliveryError, ErrorReport, Fragmentation, checksum};
use crate::packet::{LARGE_SLOT, Packet, Pool, SMALL_SLOT, SegmentationKind, Slice};
use crate::time::Instant;
use crate::transport::demux::covers;
use crate::transport::environment::{Environment, Out};
use crate::transport::shared::{self, Datagram, Failure, Readiness};
use crate::transport::verify::checksum_is_good;
use crate::wire::{Icmpv4Message, Malformed, Protocol, Reason, UdpHeader, UnreachableCode};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};

type Keys = SmallVec<[usize; 2]>;

impl Datagrams {
    /// Gives raw sockets of the packet's protocol a copy; true if there was one.
    pub(in crate::transport) fn raw_arrived(&mut self, environment: &Environment, delivery: &Delivery, out: &mut Out) -> bool {
        let Some(keys) = self.raw.get(&delivery.protocol).cloned() else { return false };
        let mut taken = false;
        for key in keys {
            let Some(entry) = self.sockets.get(key) else { continue };
            if covers(entry.local.ip(), delivery.destination) && accepts(entry, delivery.source, None) {
                taken = true;
                let mut copy = delivery.packet.share();
                checksum::complete(&mut copy, &environment.pool);
                self.put(key, datagram_of(delivery, (0, 0), copy), &environment.pool, out);
            }
        }
        taken
    }

    /// A UDP datagram (RFC 768) whose header is in front.
    pub(in crate::transport) fn udp_arrived(&mut self, environment: &Environment, mut delivery: Delivery, out: &mut Out) {
        out.counters().transport.datagrams_received.increment();
        let header = match parse_udp(&mut delivery, &environment.pool) {
            Ok(header) => header,
            Err(_) => return out.drop_packet(DropReason::Malformed, delivery.packet),
        };
        // RFC 768: a checksum of zero means that the sender made none.
        if header.checksum != 0 && !checksum_is_good(&delivery) {
            return out.drop_packet(DropReason::BadChecksum, delivery.packet);
        }
        let keys = self.receivers(&delivery, &header);
        if keys.is_empty() {
            return refuse(environment, DropReason::NoSocket, delivery, out);
        }
        delivery.packet.advance(UdpHeader::LENGTH);
        let ports = (header.source_port, header.destination_port);
        for packet in cut(&delivery.packet) {
            for &key in &keys {
                self.put(key, datagram_of(&delivery, ports, packet.share()), &environment.pool, out);
            }
        }
    }

    /// An ICMP message whose header is in front; echo replies go to the socket with their identifier.
    pub(in crate::transport) fn icmp_arrived(&mut self, environment: &Environment, mut delivery: Delivery, was_taken: bool, out: &mut Out) {
        delivery.packet.gather_front(Icmpv4Message::HEADER_LENGTH, &environment.pool);
        let Ok((message, _)) = Icmpv4Message::parse(delivery.packet.front()) else {
            return out.drop_packet(DropReason::Malformed, delivery.packet);
        };
        if !checksum_is_good(&delivery) {
            return out.drop_packet(DropReason::BadChecksum, delivery.packet);
        }
        let receiver = match message {
            Icmpv4Message::EchoReply { identifier, .. } => self.echo_receiver(&delivery, identifier).map(|key| (key, identifier)),
            _ => None,
        };
        match receiver {
            Some((key, identifier)) => {
                let packet = std::mem::take(&mut delivery.packet);
                self.put(key, datagram_of(&delivery, (0, identifier), packet), &environment.pool, out);
            }
            None if was_taken => {}
            None => out.drop_packet(DropReason::NoSocket, delivery.packet),
        }
    }

    /// An error about something we sent (RFC 1122 §4.1.3.3: the program is told).
    pub(in crate::transport) fn error_reported(&mut self, environment: &Environment, now: Instant, report: &ErrorReport, out: &mut Out) {
        match report.protocol {
            Protocol::UDP => self.udp_failed(report, out),
            Protocol::ICMP => self.echo_failed(environment, now, report, out),
            _ => {}
        }
        let raw = self.raw.get(&report.protocol).cloned().unwrap_or_default();
        for key in raw {
            self.note_error(key, environment, now, report, out);
        }
    }

    /// For unicast the one socket that fits best, for groups and broadcast all that fit.
    fn receivers(&self, delivery: &Delivery, header: &UdpHeader) -> Keys {
        let local = SocketAddr::new(delivery.destination, header.destination_port);
        let matching = self.udp.matching(local).filter_map(|(key, is_exact)| {
            let entry = self.sockets.get(key)?;
            let is_connected = remote_of(entry).is_some();
            accepts(entry, delivery.source, Some(header.source_port)).then_some((is_connected, is_exact, key))
        });
        if delivery.cast != Cast::Unicast {
            return matching.map(|(_, _, key)| key).collect();
        }
        matching.max_by_key(|&(is_connected, is_exact, _)| (is_connected, is_exact)).map(|(_, _, key)| key).into_iter().collect()
    }

    fn echo_receiver(&self, delivery: &Delivery, identifier: u16) -> Option<usize> {
        let matching = self.echo.matching(SocketAddr::new(delivery.destination, identifier));
        let accepting = matching.filter(|&(key, _)| self.sockets.get(key).is_some_and(|entry| accepts(entry, delivery.source, None)));
        accepting.max_by_key(|&(_, is_exact)| is_exact).map(|(key, _)| key)
    }

    fn put(&mut self, key: usize, mut datagram: Datagram, pool: &Pool, out: &mut Out) {
        let Some(entry) = self.sockets.get(key) else { return };
        datagram.packet = compact(datagram.packet, pool);
        let cost = datagram.receive_cost();
        let shared = &entry.shared;
        let overflow = {
            let mut state = shared.state.lock();
            if state.unread.saturating_add(cost) > state.options.receive_buffer {
                state.receive_drops += 1;
                Some(datagram)
            } else {
                state.unread += cost;
                state.received.push_back(datagram);
                None
            }
        };
        match overflow {
            Some(datagram) => out.drop_packet(DropReason::ReceiveBufferFull, datagram.packet),
            None => shared::raise(&mut out.wakes, shared, &shared.wakeup, Readiness::READABLE),
        }
    }

    fn udp_failed(&mut self, report: &ErrorReport, out: &mut Out) {
        let Ok(header) = UdpHeader::parse_quoted(&report.quoted) else { return };
        let Some(failure) = failure_of(report.error) else { return };
        let remote = SocketAddr::new(report.destination, header.destination_port);
        for (key, _) in self.udp.matching(SocketAddr::new(report.source, header.source_port)) {
            // An unconnected socket does not say to whom an error belongs: like everybody's, it is not told.
            let Some(entry) = self.sockets.get(key).filter(|entry| remote_of(entry) == Some(remote)) else { continue };
            super::tell_failure(&entry.shared, failure, out);
        }
    }

    fn echo_failed(&mut self, environment: &Environment, now: Instant, report: &ErrorReport, out: &mut Out) {
        let Ok((Icmpv4Message::EchoRequest { identifier, .. }, _)) = Icmpv4Message::parse(&report.quoted) else { return };
        let keys: Keys = self.echo.matching(SocketAddr::new(report.source, identifier)).map(|(key, _)| key).collect();
        for key in keys {
            self.note_error(key, environment, now, report, out);
        }
    }

    fn note_error(&mut self, key: usize, environment: &Environment, now: Instant, report: &ErrorReport, out: &mut Out) {
        let Some(entry) = self.sockets.get(key) else { return };
        {
            let mut state = entry.shared.state.lock();
            state.errors.push_back((now, report.clone()));
            while state.errors.len() > environment.datagram.error_reports {
                state.errors.pop_front();
            }
        }
        shared::raise(&mut out.wakes, &entry.shared, &entry.shared.wakeup, Readiness::READABLE);
    }
}

fn parse_udp(delivery: &mut Delivery, pool: &Pool) -> Result<UdpHeader, Malformed> {
    let packet = &mut delivery.packet;
    packet.gather_front(UdpHeader::LENGTH, pool);
    let header = UdpHeader::parse_quoted(packet.front())?;
    let length = usize::from(header.length);
    let is_super = packet.offload.segmentation.is_some();
    if length < UdpHeader::LENGTH || (length > packet.len() && !is_super) {
        return Err(Malformed::new("UDP", "length", Reason::TooLarge));
    }
    if !is_super {
        packet.truncate(length);
    }
    Ok(header)
}

/// The datagrams of a super-datagram; of any other one, just it.
fn cut(payload: &Packet) -> impl Iterator<Item = Packet> + '_ {
    let size = match payload.offload.segmentation {
        Some(how) if how.kind == SegmentationKind::Udp && how.size > 0 => usize::from(how.size),
        _ => payload.len().max(1),
    };
    let count = payload.len().div_ceil(size).max(1);
    (0..count).map(move |index| payload.part(index * size..((index + 1) * size).min(payload.len())))
}

/// Nobody wants it: port or protocol unreachable (RFC 1122 §4.1.3.1, §3.2.2.1), but never to a group or broadcast (§3.2.2), nor for an address that may
/// be the host's.
pub(in crate::transport) fn refuse(environment: &Environment, reason: DropReason, delivery: Delivery, out: &mut Out) {
    if environment.topology.mode == AddressMode::Own && delivery.cast == Cast::Unicast {
        out.counters().dropped(reason).increment();
        out.down.push_back(network::Message::PortUnreachable(delivery));
    } else {
        out.drop_packet(reason, delivery.packet);
    }
}

fn datagram_of(delivery: &Delivery, (source_port, destination_port): (u16, u16), packet: Packet) -> Datagram {
    Datagram {
        peer: SocketAddr::new(delivery.source, source_port),
        local: SocketAddr::new(delivery.destination, destination_port),
        arrived: packet.arrived,
        packet,
        time_to_live: delivery.time_to_live,
        traffic_class: delivery.traffic_class,
        fragmentation: Fragmentation::default(),
    }
}

fn remote_of(entry: &Entry) -> Option<SocketAddr> {
    entry.shared.state.lock().remote
}

/// Whether the socket is connected to nobody, or to this sender. (ICMP and raw sockets know no ports.)
fn accepts(entry: &Entry, source: IpAddr, port: Option<u16>) -> bool {
    remote_of(entry).is_none_or(|remote| remote.ip() == source && port.is_none_or(|port| port == remote.port()))
}

/// A packet fit to wait for a slow reader: its credit returned, and its bytes copied together if they pin much more memory than they need.
fn compact(mut packet: Packet, pool: &Pool) -> Packet {
    packet.guard = None;
    let pinned: usize = packet.slices().iter().map(Slice::slot_bytes).sum();
    if pinned <= packet.len().saturating_mul(2).max(SMALL_SLOT) {
        return packet;
    }
    let piece = if packet.len() > LARGE_SLOT / 2 { LARGE_SLOT } else { SMALL_SLOT };
    let mut copy = packet.part(0..0);
    for start in (0..packet.len()).step_by(piece) {
        let part = packet.part(start..packet.len().min(start + piece));
        let mut buffer = pool.buffer(0, part.len());
        part.copy_to(buffer.bytes_mut());
        copy.push(buffer.freeze());
    }
    copy
}

/// What a connected UDP socket is told. Port and protocol unreachable and prohibitions are hard errors; network and host unreachable may pass
/// (RFC 1122 §3.2.2.1: a hint), but being told costs a datagram socket nothing. The rest says nothing that a program could act on.
fn failure_of(error: DeliveryError) -> Option<Failure> {
    use UnreachableCode as Code;
    match error {
        DeliveryError::Unreachable { code } => match Code::from(code) {
            Code::Port | Code::Protocol => Some(Failure::Refused),
            Code::Network | Code::NetworkUnknown | Code::NetworkTypeOfService => Some(Failure::NetworkUnreachable),
            Code::Host | Code::HostUnknown | Code::HostTypeOfService | Code::SourceHostIsolated => Some(Failure::HostUnreachable),
            Code::NetworkProhibited | Code::HostProhibited | Code::CommunicationProhibited => Some(Failure::Prohibited),
            Code::HostPrecedenceViolation | Code::PrecedenceCutoff => Some(Failure::Prohibited),
            Code::FragmentationNeeded | Code::SourceRouteFailed | Code::Unknown(_) => None,
        },
        DeliveryError::PacketTooBig { .. } => Some(Failure::MessageTooBig),
        DeliveryError::NoRoute => Some(Failure::NetworkUnreachable),
        DeliveryError::TimeExceeded { .. } | DeliveryError::ParameterProblem { .. } => None,
    }
}
