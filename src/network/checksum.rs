//! Transport checksums that somebody has yet to fill in or to verify.
//!
//! Owns the walk over a packet's slices. Refuses to know where a protocol keeps its checksum: [`ChecksumState::Partial`] says it.

use crate::packet::{ChecksumState, Packet, Pool};
use crate::wire::{Checksum, Icmpv4Message, UdpHeader};

/// Bytes of the checksum field.
const FIELD: usize = 2;

/// Fills in a checksum left partial, wherever in the slices its bytes lie, and marks it complete; does nothing to other packets. If its place is
/// beyond the packet's end, there is nothing to fill in.
pub fn complete(packet: &mut Packet, pool: &Pool) {
    let ChecksumState::Partial { start, offset } = packet.offload.checksum else { return };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let field = start + offset;
    let sum = sum_from(packet, start);
    // RFC 768: zero says "no checksum", so UDP sends its equal.
    let is_udp = offset == UdpHeader::CHECKSUM_OFFSET;
    let checksum = if is_udp { sum.finish_udp() } else { sum.finish() };
    if let Some(place) = packet.make_writable(field + FIELD, pool).and_then(|front| front.get_mut(field..)) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    packet.offload.checksum = ChecksumState::Unknown;
}

/// The sum over everything from the byte `start` on.
pub fn sum_from(packet: &Packet, start: usize) -> Checksum {
    let mut sum = Checksum::new();
    let mut skip = start;
    for slice in packet.slices() {
        sum.add_bytes(slice.get(skip..).unwrap_or_default());
        skip = skip.saturating_sub(slice.len());
    }
    sum
}

/// Whether an ICMP message is intact, by the device's word or by its own checksum.
pub(super) fn is_intact_icmp(packet: &Packet) -> bool {
    packet.offload.checksum != ChecksumState::Unknown || sum_from(packet, 0).is_valid()
}

/// Writes the checksum of an ICMP message whose field is zero.
pub(super) fn seal_icmp(message: &mut [u8]) {
    let checksum = crate::wire::checksum::checksum(message);
    let place = Icmpv4Message::CHECKSUM_OFFSET;
    if let Some(field) = message.get_mut(place..place + FIELD) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::checksum;

    const BYTES: [u8; 13] = [9, 9, 9, 1, 2, 3, 4, 0x12, 0x34, 5, 6, 7, 8];

    fn packet_in_pieces(pool: &Pool, cuts: &[usize]) -> Packet {
        let mut packet = Packet::default();
        let mut from = 0;
        for &to in cuts.iter().chain(&[BYTES.len()]) {
            packet.push(pool.copy_from(0, &BYTES[from..to]));
            from = to;
        }
        packet
    }

    #[test]
    fn the_field_is_found_across_any_cut() {
        let pool = Pool::default();
        for first in 1..BYTES.len() - 1 {
            for second in first + 1..BYTES.len() {
                let mut packet = packet_in_pieces(&pool, &[first, second]);
                let shared = packet.share();
                packet.offload.checksum = ChecksumState::Partial { start: 3, offset: 4 };
                complete(&mut packet, &pool);
                let bytes = packet.to_vec();
                assert_eq!(u16::from_be_bytes([bytes[7], bytes[8]]), checksum(&BYTES[3..]));
                assert_eq!((&bytes[..7], &bytes[9..]), (&BYTES[..7], &BYTES[9..]));
                assert_eq!(packet.offload.checksum, ChecksumState::Unknown);
                assert_eq!(shared.to_vec(), BYTES, "a shared slot is not written to");
            }
        }
    }

    #[test]
    fn udp_never_says_zero() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        packet.offload.checksum = ChecksumState::Partial { start: 0, offset: 6 };
        complete(&mut packet, &pool);
        assert_eq!(packet.to_vec(), [0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn a_place_beyond_the_end_is_left_alone() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, &BYTES);
        packet.offload.checksum = ChecksumState::Partial { start: 8, offset: 4 };
        complete(&mut packet, &pool);
        assert_eq!((packet.to_vec().as_slice(), packet.offload.checksum), (&BYTES[..], ChecksumState::Unknown));
        packet.offload.checksum = ChecksumState::Partial { start: u16::MAX, offset: u16::MAX };
        complete(&mut packet, &pool);
        assert_eq!(packet.to_vec(), BYTES);
    }
}
