//! ICMP errors that we send (RFC 792, RFC 1122 §3.2.2, RFC 1812 §4.3.2).
//!
//! Owns the rules on when to be silent, and the quoting. Refuses to answer in shared-address mode: the host does, or not.

use super::checksum::seal_icmp;
use super::reassembly::Part;
use super::topology::AddressMode;
use super::{Cast, Delivery, Fragmentation, Network, Out};
use crate::layer::DropReason;
use crate::packet::Packet;
use crate::time::Instant;
use crate::wire::{Icmpv4Message, Ipv4Header, ParameterProblemCode, Protocol, TimeExceededCode, UnreachableCode};
use std::net::IpAddr;

/// Bytes of the largest error packet (RFC 1812 §4.3.2.3).
const LARGEST_ERROR: usize = 576;
/// Bytes of its ICMP message.
const LARGEST_MESSAGE: usize = LARGEST_ERROR - Ipv4Header::MINIMUM_LENGTH;
/// Precedence "internetwork control", and the bits for type of service, which are those of the packet (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 0xc0;
const TYPE_OF_SERVICE: u8 = 0x1c;

impl Network {
    /// Answers a delivery that nobody wanted. The header it came with is gone; what is quoted in its place is equal but for identification, flags
    /// and options, which no sender needs to know its packet by.
    pub(super) fn refuse_delivery(&mut self, now: Instant, delivery: Delivery, out: &mut Out) {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (delivery.source, delivery.destination) else { return };
        let code = match delivery.protocol {
            Protocol::UDP | Protocol::TCP => UnreachableCode::Port,
            _ => UnreachableCode::Protocol,
        };
        let header = Ipv4Header {
            traffic_class: delivery.traffic_class,
            total_length: u16::try_from(Ipv4Header::MINIMUM_LENGTH + delivery.packet.len()).unwrap_or(u16::MAX),
            time_to_live: delivery.time_to_live,
            protocol: delivery.protocol,
            source,
            destination,
            ..Ipv4Header::default()
        };
        let message = Icmpv4Message::DestinationUnreachable { code, next_hop_mtu: 0 };
        self.send_error(now, &header, delivery.cast, &delivery.packet, message, out);
    }

    /// RFC 1122 §3.3.2: only if the first fragment is there.
    pub(super) fn answer_expired(&mut self, now: Instant, part: &Part, out: &mut Out) {
        if let Some(header) = part.first {
            let message = Icmpv4Message::TimeExceeded { code: TimeExceededCode::Reassembly };
            self.send_error(now, &header, part.cast, &part.packet, message, out);
        }
    }

    /// RFC 1122 §3.2.2.5: a parameter problem for options that do not hold together, if the rest of the header does.
    pub(super) fn answer_broken_options(&mut self, now: Instant, link_cast: Cast, packet: &Packet, out: &mut Out) {
        let Ok(header) = Ipv4Header::parse_quoted(packet.front()) else { return };
        let Some(place) = broken_option(header.options.as_bytes()) else { return };
        let is_whole = usize::from(header.total_length) <= packet.len() && header.total_length >= header.header_length.into();
        if !is_whole || self.check_addresses(&header, packet) != Ok(Cast::Unicast) {
            return;
        }
        let pointer = Ipv4Header::MINIMUM_LENGTH as u8 + place;
        let message = Icmpv4Message::ParameterProblem { pointer, code: ParameterProblemCode::Pointer };
        let payload = packet.part(header.header_length.into()..header.total_length.into());
        self.send_error(now, &header, link_cast, &payload, message, out);
    }

    /// Sends `message` about the packet of `header` and `payload`, unless one of the rules forbids it.
    fn send_error(&mut self, now: Instant, header: &Ipv4Header, cast: Cast, payload: &Packet, message: Icmpv4Message, out: &mut Out) {
        if !self.may_answer(header, cast, payload) {
            return;
        }
        if !self.error_limit.allow(now) {
            return out.counters().dropped(DropReason::RateLimited).increment();
        }
        out.counters().network.icmp_errors_sent.increment();
        let answer = Ipv4Header {
            traffic_class: PRECEDENCE | header.traffic_class & TYPE_OF_SERVICE,
            protocol: Protocol::ICMP,
            source: header.destination,
            destination: header.source,
            ..Ipv4Header::default()
        };
        let packet = self.error_message(header, payload, message);
        self.send_ipv4(now, answer, Fragmentation::Allowed, packet, out);
    }

    /// RFC 1122 §3.2.2: no error about an ICMP error, a packet to a group (of the link's or IP's), a fragment that is not the first, or a
    /// source that is not one host.
    fn may_answer(&self, header: &Ipv4Header, cast: Cast, payload: &Packet) -> bool {
        let is_about_error = || header.protocol == Protocol::ICMP && !is_icmp_query(payload);
        self.topology.mode == AddressMode::Own
            && cast == Cast::Unicast
            && header.fragment_offset == 0
            && !header.source.is_unspecified()
            && self.topology.cast_of(header.source.into()) == Cast::Unicast
            && !is_about_error()
    }

    fn error_message(&self, header: &Ipv4Header, payload: &Packet, message: Icmpv4Message) -> Packet {
        let mut bytes = [0; LARGEST_MESSAGE];
        let (own, quoted) = bytes.split_at_mut(Icmpv4Message::HEADER_LENGTH);
        message.emit(own);
        header.emit(quoted);
        let copied = payload.copy_to(quoted.get_mut(header.emitted_length()..).unwrap_or_default());
        let length = Icmpv4Message::HEADER_LENGTH + header.emitted_length() + copied;
        let message = bytes.get_mut(..length).unwrap_or_default();
        seal_icmp(message);
        Packet::from_bytes(&self.pool, message)
    }
}

fn is_icmp_query(payload: &Packet) -> bool {
    Icmpv4Message::parse(payload.front()).is_ok_and(|(message, _)| !message.is_error())
}

/// Where the first option stands whose length is wrong.
fn broken_option(options: &[u8]) -> Option<u8> {
    let mut place = 0;
    while let Some(&kind) = options.get(place) {
        let length = match (kind, options.get(place + 1)) {
            (0, _) => return None,
            (1, _) => 1,
            (_, Some(&length)) if length >= 2 && place + usize::from(length) <= options.len() => length.into(),
            _ => return u8::try_from(place).ok(),
        };
        place += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ipv4Options;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_broken_option_is_found_where_parsing_fails(bytes in prop::collection::vec(0..12_u8, 0..=40)) {
            let options = Ipv4Options::from_bytes(&bytes).unwrap();
            prop_assert_eq!(broken_option(options.as_bytes()).is_some(), options.validate().is_err());
        }
    }
}
