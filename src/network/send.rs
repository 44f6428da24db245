//! Packets from above: routed, given a header, cut if need be, handed to the link; and what is reported back when that fails.
//!
//! Owns the order of the decisions on what goes out. Refuses to choose ports or segment sizes.

use super::fragmentation::{self, MINIMUM_MTU, put_header};
use super::piece::largest_segment;
use super::topology::Resolved;
use super::{Cast, DeliveryError, ErrorReport, Fragmentation, Network, Out, Outgoing, QUOTED_BYTES};
use crate::layer::DropReason;
use crate::link;
use crate::packet::Packet;
use crate::time::Instant;
use crate::transport;
use crate::wire::{Icmpv4Message, Ipv4Header, Protocol, UnreachableCode};
use std::net::IpAddr;

/// Bytes of the largest IPv4 packet.
const LARGEST_PACKET: usize = u16::MAX as usize;

/// How many packets a super-segment becomes on the wire, at most; 1 for any other packet.
fn pieces_of(packet: &Packet) -> u16 {
    let size = packet.offload.segmentation.map_or(usize::MAX, |segmentation| usize::from(segmentation.size.max(1)));
    u16::try_from(packet.len().div_ceil(size)).unwrap_or(u16::MAX).max(1)
}

impl Network {
    /// Takes a transport packet, or a whole IP packet from a raw socket.
    pub(super) fn send(&mut self, now: Instant, outgoing: Outgoing, out: &mut Out) {
        match (outgoing.source, outgoing.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) if outgoing.header_included => self.send_raw(now, outgoing, out),
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    traffic_class: outgoing.traffic_class,
                    time_to_live: outgoing.time_to_live,
                    protocol: outgoing.protocol,
                    dont_fragment: outgoing.fragmentation != Fragmentation::Allowed,
                    source,
                    destination,
                    ..Ipv4Header::default()
                };
                self.send_ipv4(now, header, outgoing.fragmentation, outgoing.packet, out);
            }
            // IPv6 will be here.
            _ => {
                out.up.push_back(report(&outgoing, DeliveryError::NoRoute));
                out.drop_packet(DropReason::NoRoute, outgoing.packet);
            }
        }
    }

    /// Sends a transport packet under `header`, whose lengths and identification are still to be filled in.
    pub(super) fn send_ipv4(&mut self, now: Instant, header: Ipv4Header, how: Fragmentation, packet: Packet, out: &mut Out) {
        if self.is_within(header.destination.into()) {
            return self.turn_round(now, header, packet, out);
        }
        match self.route_to(now, header.destination.into()) {
            None => fail(&header, DeliveryError::NoRoute, DropReason::NoRoute, packet, out),
            // RFC 1122 §3.2.1.3 (g): loopback addresses stay within the host.
            Some(_) if header.source.is_loopback() => fail(&header, DeliveryError::NoRoute, DropReason::BadSource, packet, out),
            Some(route) => self.send_by(now, route, with_source(header, &route), how, packet, out),
        }
    }

    /// Whether packets to `destination` never leave the host.
    fn is_within(&self, destination: IpAddr) -> bool {
        destination.is_loopback() || self.topology.is_local(destination)
    }

    /// Where packets to `destination` go: nowhere if it is the unspecified address (RFC 1122 §3.2.1.3 (a)), else as the routes say, or as
    /// a router corrected them.
    pub(super) fn route_to(&self, now: Instant, destination: IpAddr) -> Option<Resolved> {
        let route = self.topology.resolve(destination).filter(|_| !destination.is_unspecified())?;
        let better = self.redirects.get(now, destination);
        Some(Resolved { next_hop: better.unwrap_or(route.next_hop), ..route })
    }

    /// A packet to ourselves: delivered as if it had come from outside, but without having been a frame.
    fn turn_round(&mut self, now: Instant, mut header: Ipv4Header, packet: Packet, out: &mut Out) {
        if header.source.is_unspecified() {
            header.source = header.destination;
        }
        if header.is_fragment() || header.emitted_length() + packet.len() > LARGEST_PACKET {
            return fail(&header, DeliveryError::PacketTooBig { mtu: u16::MAX }, DropReason::TooBig, packet, out);
        }
        self.deliver(now, header, Cast::Unicast, packet, out);
    }

    fn send_by(&mut self, now: Instant, route: Resolved, mut header: Ipv4Header, how: Fragmentation, packet: Packet, out: &mut Out) {
        let limit = self.mtu_towards(now, &header, how);
        let whole = header.emitted_length() + packet.len();
        let largest = match packet.offload.segmentation {
            Some(segmentation) => header.emitted_length() + largest_segment(&packet, segmentation, 0),
            None => whole,
        };
        let may_be_cut = how != Fragmentation::Forbidden && packet.offload.segmentation.is_none();
        if whole > LARGEST_PACKET || (largest > limit && !may_be_cut) {
            return refuse_too_big(&header, limit, packet, out);
        }
        header.identification = self.identification_for(&header, largest > limit, pieces_of(&packet));
        match largest > limit {
            true => self.send_fragments(route, &header, limit, packet, out),
            false => self.send_whole(route, &header, packet, out),
        }
    }

    fn send_whole(&mut self, route: Resolved, header: &Ipv4Header, mut packet: Packet, out: &mut Out) {
        put_header(&mut packet, header, &self.pool);
        hand_down(route, packet, out);
    }

    fn send_fragments(&mut self, route: Resolved, header: &Ipv4Header, limit: usize, packet: Packet, out: &mut Out) {
        let fragments = fragmentation::cut(header, packet, limit, &self.pool);
        let counters = &out.counters().network;
        counters.datagrams_fragmented.increment();
        counters.fragments_sent.add(fragments.len() as u64);
        counters.packets_sent.add_alone(fragments.len() as u64);
        out.down.push_back(link::Message::SendFragments { next_hop: route.next_hop, cast: route.cast, fragments });
    }

    /// The MTU that counts for a packet. Who lets routers fragment does not depend on what ICMP claims (RFC 1191 §3 is about packets that
    /// may not be). Nor does TCP, here: each connection believes ICMP or not (RFC 5927 §7.2), and sends accordingly.
    fn mtu_towards(&self, now: Instant, header: &Ipv4Header, how: Fragmentation) -> usize {
        let link_mtu = self.topology.mtu.max(MINIMUM_MTU);
        let goes_by_path = how != Fragmentation::Allowed && header.protocol != Protocol::TCP;
        let known = self.path_mtus.get(now, header.destination.into()).filter(|_| goes_by_path);
        known.map_or(link_mtu, |mtu| link_mtu.min(mtu.into()))
    }

    /// A raw socket's own choice stands.
    fn identification_for(&mut self, header: &Ipv4Header, is_to_be_cut: bool, pieces: u16) -> u16 {
        match header.identification {
            0 => self.identifications.next(&Ipv4Header { more_fragments: header.more_fragments || is_to_be_cut, ..*header }, pieces),
            chosen => chosen,
        }
    }

    /// A raw socket's packet brings its header. What it left zero is filled in, lengths and checksum always are (as Linux does for
    /// `IP_HDRINCL`).
    fn send_raw(&mut self, now: Instant, outgoing: Outgoing, out: &mut Out) {
        let mut packet = outgoing.packet;
        packet.gather_front(Ipv4Header::MAXIMUM_LENGTH, &self.pool);
        let Ok(header) = Ipv4Header::parse_quoted(packet.front()) else {
            return out.drop_packet(DropReason::Malformed, packet);
        };
        packet.advance(header.header_length.into());
        if self.is_within(header.destination.into()) || self.is_within(outgoing.destination) {
            return self.turn_round(now, header, packet, out);
        }
        let Some(route) = self.route_to(now, outgoing.destination) else {
            return fail(&header, DeliveryError::NoRoute, DropReason::NoRoute, packet, out);
        };
        let may_be_cut = !header.dont_fragment && !header.is_fragment();
        let how = if may_be_cut { Fragmentation::Allowed } else { Fragmentation::Forbidden };
        self.send_by(now, route, with_source(header, &route), how, packet, out);
    }

    /// The next hop did not answer (RFC 1122 §2.3.2.1: the link layer tells). If a redirect named it, the route's own is tried next.
    pub(super) fn report_unreachable(&mut self, now: Instant, next_hop: IpAddr, packet: Packet, out: &mut Out) {
        if let Ok(header) = Ipv4Header::parse_quoted(packet.front())
            && self.redirects.get(now, header.destination.into()) == Some(next_hop)
        {
            self.redirects.remove(header.destination.into());
        }
        let error = DeliveryError::Unreachable { code: UnreachableCode::Host.into() };
        self.report_failed(error, DropReason::NeighbourUnreachable, packet, out);
    }

    /// The link's MTU is smaller than ours was told to be, or a super-segment's pieces are larger than it.
    pub(super) fn report_too_big(&mut self, packet: Packet, out: &mut Out) {
        let mtu = u16::try_from(self.topology.mtu).unwrap_or(u16::MAX);
        if let Ok(header) = Ipv4Header::parse_quoted(packet.front()) {
            out.up.push_back(transport::Message::PathMtu { destination: header.destination.into(), mtu });
        }
        self.report_failed(DeliveryError::PacketTooBig { mtu }, DropReason::TooBig, packet, out);
    }

    /// Reports about a packet that already has its header.
    fn report_failed(&mut self, error: DeliveryError, reason: DropReason, mut packet: Packet, out: &mut Out) {
        packet.gather_front(Ipv4Header::MAXIMUM_LENGTH, &self.pool);
        match Ipv4Header::parse_quoted(packet.front()) {
            Err(_) => out.drop_packet(reason, packet),
            Ok(header) => {
                packet.advance(header.header_length.into());
                fail(&header, error, reason, packet, out);
            }
        }
    }
}

/// The source of the route, where the sender left it open. What goes to a group without one stays without: DHCP (RFC 2131 §4.1).
fn with_source(header: Ipv4Header, route: &Resolved) -> Ipv4Header {
    match route.source {
        IpAddr::V4(source) if header.source.is_unspecified() && route.cast == Cast::Unicast => Ipv4Header { source, ..header },
        _ => header,
    }
}

fn hand_down(route: Resolved, packet: Packet, out: &mut Out) {
    out.counters().network.packets_sent.add_alone(1);
    out.down.push_back(link::Message::Send(link::Outgoing { next_hop: route.next_hop, cast: route.cast, packet }));
}

/// What TCP is told here is the link's own MTU, which needs no proof.
fn refuse_too_big(header: &Ipv4Header, limit: usize, packet: Packet, out: &mut Out) {
    let mtu = u16::try_from(limit).unwrap_or(u16::MAX);
    if header.protocol == Protocol::TCP {
        out.up.push_back(transport::Message::PathMtu { destination: header.destination.into(), mtu });
    }
    fail(header, DeliveryError::PacketTooBig { mtu }, DropReason::TooBig, packet, out);
}

/// Drops a packet (transport header in front) and tells the transport layer, if anybody there can want to know.
fn fail(header: &Ipv4Header, error: DeliveryError, reason: DropReason, packet: Packet, out: &mut Out) {
    if header.fragment_offset == 0 && !is_answer(header.protocol, packet.front()) {
        out.up.push_back(transport::Message::Error(ErrorReport {
            error,
            reporter: header.source.into(),
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol,
            quoted: quote(&packet),
        }));
    }
    out.drop_packet(reason, packet);
}

/// Whether a packet (from its transport header on) is an ICMP reply or error: made in this layer, waited for by no socket.
pub(super) fn is_answer(protocol: Protocol, transport: &[u8]) -> bool {
    let is_request = |(message, _): (Icmpv4Message, usize)| {
        matches!(message, Icmpv4Message::EchoRequest { .. } | Icmpv4Message::TimestampRequest { .. })
    };
    protocol == Protocol::ICMP && !Icmpv4Message::parse(transport).is_ok_and(is_request)
}

fn report(outgoing: &Outgoing, error: DeliveryError) -> transport::Message {
    transport::Message::Error(ErrorReport {
        error,
        reporter: outgoing.source,
        source: outgoing.source,
        destination: outgoing.destination,
        protocol: outgoing.protocol,
        quoted: quote(&outgoing.packet),
    })
}

fn quote(packet: &Packet) -> smallvec::SmallVec<[u8; QUOTED_BYTES]> {
    let mut bytes = [0; QUOTED_BYTES];
    let length = packet.copy_to(&mut bytes);
    smallvec::SmallVec::from_slice(bytes.get(..length).unwrap_or_default())
}
