//! The virtio-net header (virtio 1.2 §5.1.6) as packet sockets and TUN/TAP devices use it: ten bytes in the machine's byte order.
//!
//! Owns the translation between that header and a packet's [`Offload`]. Refuses to touch the packet.

use crate::packet::{ChecksumState, Offload, Packet, Segmentation, SegmentationKind};
use crate::wire::TcpFlags;

/// Bytes of the header.
pub const LENGTH: usize = 10;

/// The checksum has to be filled in.
const NEEDS_CHECKSUM: u8 = 1;
/// Somebody has verified the checksum.
const DATA_VALID: u8 = 2;
const SEGMENTATION_NONE: u8 = 0;
const SEGMENTATION_TCP_IPV4: u8 = 1;
const SEGMENTATION_TCP_IPV6: u8 = 4;
const SEGMENTATION_UDP: u8 = 5;
/// Only the first segment carries CWR.
const SEGMENTATION_ECN: u8 = 0x80;

/// What a header says of the frame behind it.
pub fn parse(header: &[u8; LENGTH]) -> Offload {
    let &[flags, kind, _, _, size_0, size_1, start_0, start_1, offset_0, offset_1] = header;
    let (start, offset) = (u16::from_ne_bytes([start_0, start_1]), u16::from_ne_bytes([offset_0, offset_1]));
    let checksum = match flags {
        flags if flags & NEEDS_CHECKSUM != 0 => ChecksumState::Partial { start, offset },
        flags if flags & DATA_VALID != 0 => ChecksumState::Verified,
        _ => ChecksumState::Unknown,
    };
    let size = u16::from_ne_bytes([size_0, size_1]);
    let segmentation = segmentation_kind(kind).filter(|_| size > 0).map(|kind| Segmentation { kind, size });
    Offload { checksum, segmentation }
}

fn segmentation_kind(kind: u8) -> Option<SegmentationKind> {
    match kind & !SEGMENTATION_ECN {
        SEGMENTATION_TCP_IPV4 => Some(SegmentationKind::TcpIpv4),
        SEGMENTATION_TCP_IPV6 => Some(SegmentationKind::TcpIpv6),
        SEGMENTATION_UDP => Some(SegmentationKind::Udp),
        _ => None,
    }
}

/// The header for a packet to send. A super-segment needs a partial checksum; without one its segment size is not announced.
pub fn emit(packet: &Packet) -> [u8; LENGTH] {
    let ChecksumState::Partial { start, offset } = packet.offload.checksum else { return [0; LENGTH] };
    let [start_0, start_1] = start.to_ne_bytes();
    let [offset_0, offset_1] = offset.to_ne_bytes();
    let (kind, size, header_length) = match packet.offload.segmentation {
        None => (SEGMENTATION_NONE, 0, start.saturating_add(offset).saturating_add(2)),
        Some(Segmentation { kind, size }) => (kind_byte(kind, packet, start), size, header_length(kind, packet, start)),
    };
    let [length_0, length_1] = header_length.to_ne_bytes();
    let [size_0, size_1] = size.to_ne_bytes();
    [NEEDS_CHECKSUM, kind, length_0, length_1, size_0, size_1, start_0, start_1, offset_0, offset_1]
}

fn kind_byte(kind: SegmentationKind, packet: &Packet, start: u16) -> u8 {
    let kind = match kind {
        SegmentationKind::TcpIpv4 => SEGMENTATION_TCP_IPV4,
        SegmentationKind::TcpIpv6 => SEGMENTATION_TCP_IPV6,
        SegmentationKind::Udp => return SEGMENTATION_UDP,
    };
    let flags = packet.front().get(usize::from(start) + 13).copied().unwrap_or_default();
    if u16::from(flags) & TcpFlags::CWR.0 != 0 { kind | SEGMENTATION_ECN } else { kind }
}

/// Where the payload begins: behind the transport header.
fn header_length(kind: SegmentationKind, packet: &Packet, start: u16) -> u16 {
    let transport = match kind {
        SegmentationKind::Udp => 8,
        _ => packet.front().get(usize::from(start) + 12).map_or(20, |byte| u16::from(byte >> 4) * 4),
    };
    start.saturating_add(transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Pool;

    #[test]
    fn what_is_emitted_parses_to_the_same_facts() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, &[0x50; 200]);
        packet.offload = Offload {
            checksum: ChecksumState::Partial { start: 34, offset: 16 },
            segmentation: Some(Segmentation { kind: SegmentationKind::TcpIpv4, size: 1448 }),
        };
        let header = emit(&packet);
        assert_eq!(parse(&header), packet.offload);
        assert_eq!(u16::from_ne_bytes([header[2], header[3]]), 34 + 20);
        assert_eq!(header[1], 1, "0x50 has no CWR bit");
    }

    #[test]
    fn a_complete_packet_needs_nothing() {
        let packet = Packet::from_bytes(&Pool::default(), b"frame");
        assert_eq!(emit(&packet), [0; LENGTH]);
        assert_eq!(parse(&[0; LENGTH]), Offload::default());
    }

    #[test]
    fn congestion_window_reduced_is_announced() {
        let mut packet = Packet::from_bytes(&Pool::default(), &[0xff; 100]);
        packet.offload.checksum = ChecksumState::Partial { start: 34, offset: 16 };
        packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size: 10 });
        assert_eq!(emit(&packet)[1], 0x81);
    }

    #[test]
    fn verified_and_unknown_kinds_are_understood() {
        assert_eq!(parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).checksum, ChecksumState::Verified);
        assert_eq!(parse(&[0, 3, 0, 0, 9, 9, 0, 0, 0, 0]).segmentation, None, "UFO is no kind we cut");
    }
}
