//! TCP segments as they arrive: checked once, at the edge, and typed.

use super::environment::{Environment, Out};
use super::tcp::Segment;
use super::verify::checksum_is_good;
use crate::layer::DropReason;
use crate::link::Cast;
use crate::network::Delivery;
use crate::wire::{TcpFlags, TcpHeader};
use std::net::SocketAddr;

/// The segment, if it is one that a connection may see; else it is dropped and counted.
#[inline]
pub(super) fn parse(environment: &Environment, mut delivery: Delivery, out: &mut Out) -> Option<Segment> {
    if let Err(reason) = check_addresses(environment, &delivery) {
        out.drop_packet(reason, delivery.packet);
        return None;
    }
    if !checksum_is_good(&delivery) {
        out.drop_packet(DropReason::BadChecksum, delivery.packet);
        return None;
    }
    delivery.packet.gather_front(TcpHeader::MAXIMUM_LENGTH, &environment.pool);
    let Ok((header, length)) = TcpHeader::parse(delivery.packet.front()) else {
        out.drop_packet(DropReason::Malformed, delivery.packet);
        return None;
    };
    let Delivery { source, destination, traffic_class, mut packet, .. } = delivery;
    packet.advance(length);
    Some(Segment {
        source: SocketAddr::new(source, header.source_port),
        destination: SocketAddr::new(destination, header.destination_port),
        header,
        arrived: packet.arrived,
        payload: packet,
        traffic_class,
    })
}

/// TCP is for two: RFC 1122 §4.2.3.10 (MUST-57) and RFC 9293 §3.9.2.3 (MUST-63) have groups and broadcast ignored on either end.
fn check_addresses(environment: &Environment, delivery: &Delivery) -> Result<(), DropReason> {
    if delivery.cast != Cast::Unicast {
        return Err(DropReason::NotForUs);
    }
    let source = delivery.source;
    let is_single = !source.is_unspecified() && environment.topology.cast_of(source) == Cast::Unicast;
    if is_single { Ok(()) } else { Err(DropReason::BadSource) }
}

pub(super) fn is_reset(segment: &Segment) -> bool {
    segment.header.flags.contains(TcpFlags::RST)
}

/// A SYN that wants a new connection.
pub(super) fn is_plain_syn(segment: &Segment) -> bool {
    let flags = segment.header.flags;
    flags.contains(TcpFlags::SYN) && !flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN)
}
