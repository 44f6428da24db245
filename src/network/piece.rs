//! How large the pieces of a super-segment will be.
//!
//! Owns one number, which network checks against the path MTU when a packet is built and link against its own MTU again: a packet with a
//! segment size is never fragmented.

use crate::packet::{Packet, Segmentation, SegmentationKind};
use crate::wire::UdpHeader;

/// Bytes of an IPv6 header without extensions, which super-segments do not have.
const IPV6_HEADER: usize = 40;
/// Where in a TCP header the data offset stands.
const DATA_OFFSET: usize = 12;

/// Bytes of the largest IP packet that `packet` (IP header in front) becomes on the wire.
pub(crate) fn largest_piece(packet: &Packet) -> usize {
    let Some(segmentation) = packet.offload.segmentation else { return packet.len() };
    let ip_header = ip_header_length(packet.front());
    largest_segment(packet, segmentation, ip_header).saturating_add(ip_header).min(packet.len())
}

/// The same for a packet whose transport header stands `skip` bytes behind its front, without what is before. Headers that cannot be read make a
/// piece as large as the packet.
pub(super) fn largest_segment(packet: &Packet, segmentation: Segmentation, skip: usize) -> usize {
    let header = packet.front().get(skip..).unwrap_or_default();
    let header_length = match segmentation.kind {
        SegmentationKind::Udp => Some(UdpHeader::LENGTH),
        SegmentationKind::TcpIpv4 | SegmentationKind::TcpIpv6 => header.get(DATA_OFFSET).map(|byte| usize::from(byte >> 4) * 4),
    };
    let whole = packet.len().saturating_sub(skip);
    header_length.filter(|&length| length >= UdpHeader::LENGTH).map_or(whole, |length| whole.min(length + usize::from(segmentation.size)))
}

fn ip_header_length(front: &[u8]) -> usize {
    match front.first() {
        Some(byte) if byte >> 4 == 4 => usize::from(byte & 0x0f) * 4,
        Some(_) => IPV6_HEADER,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Pool;

    fn super_segment(kind: SegmentationKind, size: u16) -> Packet {
        let mut bytes = vec![0; 20 + 32 + 4_000];
        bytes[0] = 0x45;
        bytes[20 + DATA_OFFSET] = 0x80;
        let mut packet = Packet::from_bytes(&Pool::default(), &bytes);
        packet.offload.segmentation = Some(Segmentation { kind, size });
        packet
    }

    #[test]
    fn a_piece_is_headers_and_one_segment() {
        assert_eq!(largest_piece(&super_segment(SegmentationKind::TcpIpv4, 1_448)), 1_500);
        assert_eq!(largest_piece(&super_segment(SegmentationKind::Udp, 1_472)), 1_500);
    }

    #[test]
    fn a_piece_is_never_larger_than_the_packet() {
        assert_eq!(largest_piece(&super_segment(SegmentationKind::TcpIpv4, 60_000)), 4_052);
        let mut cut = super_segment(SegmentationKind::TcpIpv4, 100);
        cut.truncate(25);
        assert_eq!(largest_piece(&cut), 25);
        assert_eq!(largest_piece(&Packet::default()), 0);
    }

    #[test]
    fn without_a_segment_size_it_is_the_packet() {
        let packet = Packet::from_bytes(&Pool::default(), &[0x45; 77]);
        assert_eq!(largest_piece(&packet), 77);
    }
}
