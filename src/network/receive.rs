//! Packets from the link: checked, put together, handed up.
//!
//! Owns the order of the checks on what comes in. Refuses to forward: what is not for us is dropped.

use super::reassembly::Outcome;
use super::{Cast, Delivery, Network, Out};
use crate::layer::DropReason;
use crate::packet::Packet;
use crate::time::Instant;
use crate::transport;
use crate::wire::{Ipv4Header, Malformed, Protocol, Reason, UdpHeader};
use std::net::Ipv4Addr;

/// Every host (RFC 1112 §4): the group that nobody has to join.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The port of DHCP servers, to which a host without an address may speak (RFC 2131 §4.1).
const DHCP_SERVER_PORT: u16 = 67;

impl Network {
    /// Takes a packet with its IP header in front.
    pub(super) fn receive(&mut self, now: Instant, cast: Cast, packet: Packet, out: &mut Out) {
        out.counters().network.packets_received.add_alone(1);
        match packet.front().first().map(|byte| byte >> 4) {
            Some(4) => self.receive_ipv4(now, cast, packet, out),
            // IPv6 will be here.
            Some(6) => out.drop_packet(DropReason::UnknownProtocol, packet),
            _ => out.drop_packet(DropReason::Malformed, packet),
        }
    }

    fn receive_ipv4(&mut self, now: Instant, link_cast: Cast, mut packet: Packet, out: &mut Out) {
        packet.gather_front(Ipv4Header::MAXIMUM_LENGTH.min(header_length(&packet)), &self.pool);
        let header = match Ipv4Header::parse_front(packet.front(), packet.len()) {
            Ok(header) => header,
            Err(malformed) => return self.refuse_malformed(now, link_cast, malformed, packet, out),
        };
        packet.truncate(header.total_length.into());
        let cast = match self.check_addresses(&header, &packet) {
            Ok(ip_cast) => broader(link_cast, ip_cast),
            Err(reason) => return out.drop_packet(reason, packet),
        };
        // Options are stepped over (RFC 1122 §3.2.1.8), and so is the time to live, which a destination does not look at (§3.2.1.7).
        packet.advance(header.header_length.into());
        match header.is_fragment() {
            false => self.deliver(now, header, cast, packet, out),
            true => self.receive_fragment(now, header, cast, packet, out),
        }
    }

    /// RFC 1122 §3.2.1.2 to §3.2.1.6: wrong headers are dropped in silence; only broken options may be answered.
    fn refuse_malformed(&mut self, now: Instant, link_cast: Cast, malformed: Malformed, packet: Packet, out: &mut Out) {
        if malformed.reason == Reason::Checksum {
            return out.drop_packet(DropReason::BadChecksum, packet);
        }
        self.answer_broken_options(now, link_cast, &packet, out);
        out.drop_packet(DropReason::Malformed, packet);
    }

    /// Whether source and destination may be what they are; if so, how we are addressed.
    pub(super) fn check_addresses(&self, header: &Ipv4Header, packet: &Packet) -> Result<Cast, DropReason> {
        let cast = self.cast_for_us(header.destination).ok_or(DropReason::NotForUs)?;
        if self.may_be_a_source(header, cast, packet) { Ok(cast) } else { Err(DropReason::BadSource) }
    }

    fn cast_for_us(&self, destination: Ipv4Addr) -> Option<Cast> {
        if self.topology.is_local(destination.into()) {
            return Some(Cast::Unicast);
        }
        match self.topology.cast_of(destination.into()) {
            Cast::Unicast => None,
            Cast::Multicast => (destination == ALL_HOSTS).then_some(Cast::Multicast),
            Cast::Broadcast => Some(Cast::Broadcast),
        }
    }

    /// RFC 1122 §3.2.1.3: a source is one host, not ourselves, and not within a host.
    fn may_be_a_source(&self, header: &Ipv4Header, cast: Cast, packet: &Packet) -> bool {
        let source = header.source;
        if source.is_unspecified() {
            return cast == Cast::Broadcast && is_for_dhcp_server(header, packet);
        }
        // {0, host} is "this host on this network": within a boot procedure only.
        source.octets()[0] != 0
            && !source.is_loopback()
            && !self.topology.is_local(source.into())
            && self.topology.cast_of(source.into()) == Cast::Unicast
    }

    fn receive_fragment(&mut self, now: Instant, header: Ipv4Header, cast: Cast, packet: Packet, out: &mut Out) {
        out.counters().network.fragments_received.increment();
        match self.reassembly.add(now, &header, cast, packet, &self.pool, out) {
            Outcome::Waiting => {}
            Outcome::Whole(whole) => {
                out.counters().network.datagrams_reassembled.increment();
                self.deliver(now, whole.header, whole.cast, whole.packet, out);
            }
        }
    }

    /// Takes a whole datagram that is for us, without its header. `header_length` and `total_length` are as they came.
    pub(super) fn deliver(&mut self, now: Instant, header: Ipv4Header, cast: Cast, packet: Packet, out: &mut Out) {
        match header.protocol {
            Protocol::ICMP => self.receive_icmp(now, header, cast, packet, out),
            _ => hand_up(&header, cast, packet, out),
        }
    }

    /// Drops what waited too long for its missing fragments, and says so to who sent it (RFC 1122 §3.3.2).
    pub(super) fn run_reassembly_timers(&mut self, now: Instant, out: &mut Out) {
        while let Some(expired) = self.reassembly.expire(now) {
            let Some(part) = expired else { continue };
            self.answer_expired(now, &part, out);
            out.drop_packet(DropReason::ReassemblyTimeout, part.packet);
        }
    }
}

/// Gives a packet to the transport layer.
pub(super) fn hand_up(header: &Ipv4Header, cast: Cast, packet: Packet, out: &mut Out) {
    out.counters().network.packets_delivered.add_alone(1);
    out.up.push_back(transport::Message::Received(Delivery {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol,
        time_to_live: header.time_to_live,
        traffic_class: header.traffic_class,
        cast,
        packet,
    }));
}

/// By the header's own word, and at least what has to be there.
fn header_length(packet: &Packet) -> usize {
    let words = packet.front().first().map_or(0, |byte| byte & 0x0f);
    (usize::from(words) * 4).max(Ipv4Header::MINIMUM_LENGTH)
}

fn is_for_dhcp_server(header: &Ipv4Header, packet: &Packet) -> bool {
    let transport = packet.front().get(header.header_length.into()..).unwrap_or_default();
    header.protocol == Protocol::UDP
        && !header.is_fragment()
        && UdpHeader::parse_quoted(transport).is_ok_and(|udp| udp.destination_port == DHCP_SERVER_PORT)
}

/// A frame to everybody makes a packet to one host as public as the frame (RFC 1122 §3.3.6).
pub(super) fn broader(link: Cast, ip: Cast) -> Cast {
    match (link, ip) {
        (Cast::Broadcast, _) | (_, Cast::Broadcast) => Cast::Broadcast,
        (Cast::Multicast, _) | (_, Cast::Multicast) => Cast::Multicast,
        (Cast::Unicast, Cast::Unicast) => Cast::Unicast,
    }
}
