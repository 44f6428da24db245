//! ICMP messages that come in (RFC 792, RFC 1122 §3.2.2).
//!
//! Owns what is done with each: echo requests are answered here, errors become reports for the transport layer, whatever a socket may wait for
//! goes up. Source quenches are counted and ignored (RFC 6633 §3).

use super::checksum::{self, is_intact_icmp};
use super::path_mtu::reported_mtu;
use super::receive::hand_up;
use super::send::is_answer;
use super::topology::AddressMode;
use super::{Cast, DeliveryError, ErrorReport, Fragmentation, Network, Out, QUOTED_BYTES};
use crate::layer::{DropReason, Level};
use crate::packet::{ChecksumState, Packet};
use crate::time::Instant;
use crate::transport;
use crate::wire::{Icmpv4Message, Ipv4Header, Protocol, UnreachableCode};
use std::net::Ipv4Addr;

/// Bytes of an error message that are looked at: its header, the quoted IP header, and as much behind that as a report carries.
const ERROR_FRONT: usize = Icmpv4Message::HEADER_LENGTH + Ipv4Header::MAXIMUM_LENGTH + QUOTED_BYTES;
/// Type and code of an echo request and of a reply, as one word of the header.
const ECHO_REQUEST_WORD: u16 = 0x0800;
const ECHO_REPLY_WORD: u16 = 0x0000;
/// Type, code and checksum.
const FIRST_WORDS: usize = 4;

impl Network {
    /// Takes an ICMP message, its IP header stripped.
    pub(super) fn receive_icmp(&mut self, now: Instant, header: Ipv4Header, cast: Cast, mut packet: Packet, out: &mut Out) {
        if !is_intact_icmp(&packet) {
            return out.drop_packet(DropReason::BadChecksum, packet);
        }
        packet.gather_front(ERROR_FRONT, &self.pool);
        let Ok((message, _)) = Icmpv4Message::parse(packet.front()) else {
            return out.drop_packet(DropReason::Malformed, packet);
        };
        match message {
            Icmpv4Message::EchoRequest { .. } => self.receive_echo_request(now, &header, cast, packet, out),
            Icmpv4Message::Redirect { gateway, .. } => self.receive_redirect(now, &header, cast, gateway, &packet, out),
            Icmpv4Message::SourceQuench => ignore_advice(&header, out),
            Icmpv4Message::DestinationUnreachable { .. } | Icmpv4Message::TimeExceeded { .. } | Icmpv4Message::ParameterProblem { .. } => {
                self.receive_error(now, &header, cast, message, packet, out)
            }
            Icmpv4Message::EchoReply { .. }
            | Icmpv4Message::TimestampRequest { .. }
            | Icmpv4Message::TimestampReply { .. }
            | Icmpv4Message::Other { .. } => hand_up(&header, cast, packet, out),
        }
    }

    /// RFC 1122 §3.2.2.6. Requests to groups are not answered (it allows that), so that nobody is flooded in another's name; in shared-address mode
    /// the host answers.
    fn receive_echo_request(&mut self, now: Instant, request: &Ipv4Header, cast: Cast, packet: Packet, out: &mut Out) {
        if self.topology.mode == AddressMode::Shared || cast != Cast::Unicast {
            return out.drop_packet(DropReason::NotForUs, packet);
        }
        out.counters().network.echo_requests_answered.increment();
        let reply = Ipv4Header {
            traffic_class: request.traffic_class,
            protocol: Protocol::ICMP,
            source: request.destination,
            destination: request.source,
            ..Ipv4Header::default()
        };
        let packet = self.turn_to_reply(packet);
        self.send_ipv4(now, reply, Fragmentation::Allowed, packet, out);
    }

    /// Makes a request its own reply: identifier, sequence and data stay, and the checksum follows (RFC 1624 §3).
    fn turn_to_reply(&self, mut packet: Packet) -> Packet {
        checksum::complete(&mut packet, &self.pool);
        packet.offload.checksum = ChecksumState::Unknown;
        if let Some([kind, code, high, low]) = packet.make_writable(FIRST_WORDS, &self.pool) {
            let updated = crate::wire::checksum::update(u16::from_be_bytes([*high, *low]), ECHO_REQUEST_WORD, ECHO_REPLY_WORD);
            [*kind, *code] = ECHO_REPLY_WORD.to_be_bytes();
            [*high, *low] = updated.to_be_bytes();
        }
        packet
    }

    /// An error about a packet of ours, if it is about one: the quoted packet must have come from the address that is told (RFC 5927 §4.1
    /// begins so; whether the rest of it fits a connection, transport knows).
    fn receive_error(&mut self, now: Instant, header: &Ipv4Header, cast: Cast, message: Icmpv4Message, packet: Packet, out: &mut Out) {
        out.counters().network.icmp_errors_received.increment();
        let quoted_bytes = packet.front().get(Icmpv4Message::HEADER_LENGTH..).unwrap_or_default();
        let Ok(quoted) = Ipv4Header::parse_quoted(quoted_bytes) else {
            return out.drop_packet(DropReason::Malformed, packet);
        };
        if cast != Cast::Unicast || quoted.source != header.destination {
            return out.drop_packet(DropReason::Suspicious, packet);
        }
        let Some(error) = self.understand(now, message, &quoted, out) else {
            return out.drop_packet(DropReason::Suspicious, packet);
        };
        out.log("icmp", Level::Debug, format_args!("{}: {error:?} about a packet to {}", header.source, quoted.destination));
        let report = report(header.source, error, &quoted, quoted_bytes);
        // Only a first fragment says whose it was; and nobody waits for answers of ours to arrive.
        if quoted.fragment_offset == 0 && !is_answer(quoted.protocol, &report.quoted) {
            out.up.push_back(transport::Message::Error(report));
        }
    }

    /// What an error means; `None` if it cannot be true.
    fn understand(&mut self, now: Instant, message: Icmpv4Message, quoted: &Ipv4Header, out: &mut Out) -> Option<DeliveryError> {
        match message {
            Icmpv4Message::DestinationUnreachable { code: UnreachableCode::FragmentationNeeded, next_hop_mtu } => {
                self.learn_path_mtu(now, next_hop_mtu, quoted, out).map(|mtu| DeliveryError::PacketTooBig { mtu })
            }
            Icmpv4Message::DestinationUnreachable { code, .. } => Some(DeliveryError::Unreachable { code: code.into() }),
            Icmpv4Message::TimeExceeded { code } => Some(DeliveryError::TimeExceeded { code: code.into() }),
            Icmpv4Message::ParameterProblem { pointer, .. } => Some(DeliveryError::ParameterProblem { pointer }),
            _ => None,
        }
    }

    /// RFC 1191 §3 and §5. Gives the path MTU that the report means. For datagrams it is noted; a TCP connection first looks whether the quoted
    /// segment is in flight (RFC 5927 §7.2), and only the one that it names is told: else one forged packet would slow every connection.
    fn learn_path_mtu(&mut self, now: Instant, next_hop_mtu: u16, quoted: &Ipv4Header, out: &mut Out) -> Option<u16> {
        let reported = reported_mtu(next_hop_mtu, quoted.total_length).filter(|_| quoted.dont_fragment)?;
        let link_mtu = u16::try_from(self.topology.mtu).unwrap_or(u16::MAX);
        if quoted.protocol == Protocol::TCP {
            return Some(reported.max(self.config.path_mtu_minimum).min(link_mtu));
        }
        let noted = self.path_mtus.lower(now, quoted.destination.into(), reported, link_mtu);
        let counters = &out.counters().network;
        counters.path_mtus_evicted.add(noted.evicted.into());
        counters.path_mtu_updates.add(noted.is_lower.into());
        Some(noted.mtu)
    }
}

/// Counts a redirect or a source quench that is not followed.
pub(super) fn ignore_advice(header: &Ipv4Header, out: &Out) {
    out.counters().network.icmp_advice_ignored.increment();
    out.log("icmp", Level::Debug, format_args!("redirect or source quench from {} ignored", header.source));
}

fn report(reporter: Ipv4Addr, error: DeliveryError, quoted: &Ipv4Header, bytes: &[u8]) -> ErrorReport {
    let length = quoted.payload_length().min(QUOTED_BYTES);
    let transport = bytes.get(quoted.header_length.into()..).unwrap_or_default();
    ErrorReport {
        error,
        reporter: reporter.into(),
        source: quoted.source.into(),
        destination: quoted.destination.into(),
        protocol: quoted.protocol,
        quoted: smallvec::SmallVec::from_slice(transport.get(..length).unwrap_or(transport)),
    }
}
