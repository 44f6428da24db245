//! Cutting datagrams to fragments (RFC 791 §2.3, "Fragmentation", and §3.2).
//!
//! Owns the cutting. Refuses to decide whether a packet may be cut. Nothing is copied: a fragment is a new header in front of the same bytes.

use super::checksum;
use crate::packet::{Account, Guard, Packet, Pool};
use crate::wire::{Ipv4Header, Ipv4Options};
use std::sync::Arc;

/// The smallest MTU that IPv4 works over (RFC 791 §3.1, "Total Length" and "Fragmentation": 60 bytes of header and 8 of data).
pub(super) const MINIMUM_MTU: usize = 68;

/// Puts `header` in front of `packet`, with the total length that makes.
pub(super) fn put_header(packet: &mut Packet, header: &Ipv4Header, pool: &Pool) {
    let total_length = u16::try_from(header.emitted_length() + packet.len()).unwrap_or(u16::MAX);
    let header = Ipv4Header { total_length, ..*header };
    header.emit(packet.prepend(header.emitted_length(), pool));
}

/// The fragments of `packet` (transport header in front) in order, each with its header and of at most `mtu` bytes. A checksum left partial is
/// filled in first, for no device could. The room that the packet holds returns when the last of its fragments is gone.
pub(super) fn cut(header: &Ipv4Header, mut packet: Packet, mtu: usize, pool: &Pool) -> Vec<Packet> {
    checksum::complete(&mut packet, pool);
    let room = packet.guard.take().map(|guard| Arc::new(Shared(guard)));
    let mut header = *header;
    let mut fragments = Vec::new();
    let mut position = 0;
    while position < packet.len() {
        let end = position + piece_length(mtu, header.options.len()).min(packet.len() - position);
        let mut piece = packet.part(position..end);
        header.fragment_offset = position as u16;
        header.more_fragments = end < packet.len();
        put_header(&mut piece, &header, pool);
        piece.guard = room.clone().map(|room| Guard::new(room, 0));
        fragments.push(piece);
        header.options = later_options(position, &header);
        position = end;
    }
    fragments
}

/// One packet's room, held by all of its fragments: each is lent room as the packet was, and it returns with the last one.
struct Shared(#[expect(dead_code, reason = "held for its drop")] Guard);

impl Account for Shared {
    fn give_back(&self, _bytes: usize) {}
}

/// Payload bytes of a fragment: a multiple of eight, and at least that.
fn piece_length(mtu: usize, options: usize) -> usize {
    let unit = usize::from(Ipv4Header::FRAGMENT_UNIT);
    let room = mtu.max(MINIMUM_MTU).saturating_sub(Ipv4Header::MINIMUM_LENGTH + options);
    (room / unit).max(1) * unit
}

fn later_options(position: usize, header: &Ipv4Header) -> Ipv4Options {
    if position == 0 { header.options.for_later_fragments() } else { header.options }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ChecksumState;
    use crate::wire::checksum::checksum as sum;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn together(fragments: &[Packet]) -> Vec<u8> {
        let payload = |packet: &Packet| {
            let bytes = packet.to_vec();
            Ipv4Header::parse(&bytes).unwrap().payload(&bytes).to_vec()
        };
        fragments.iter().flat_map(payload).collect()
    }

    #[test]
    fn every_size_is_cut_and_fits() {
        let pool = Pool::default();
        for (length, mtu) in [(1_481, 1_500), (2_960, 1_500), (65_515, 1_500), (65_515, 68), (9, 68), (4_000, 0), (100, 75)] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let fragments = cut(&Ipv4Header::default(), Packet::from_bytes(&pool, &bytes), mtu, &pool);
            assert!(fragments.iter().all(|fragment| fragment.len() <= mtu.max(MINIMUM_MTU)));
            assert_eq!(together(&fragments), bytes, "{length} bytes over {mtu}");
        }
    }

    #[test]
    fn the_checksum_is_complete_before_the_cut() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, &[1; 3_000]);
        packet.offload.checksum = ChecksumState::Partial { start: 0, offset: 16 };
        let fragments = cut(&Ipv4Header::default(), packet, 1_500, &pool);
        let mut expected = vec![1; 3_000];
        let checksum = sum(&expected).to_be_bytes();
        expected[16..18].copy_from_slice(&checksum);
        assert_eq!(together(&fragments), expected);
        assert!(fragments.iter().all(|fragment| fragment.offload.checksum == ChecksumState::Unknown));
    }

    #[test]
    fn the_room_returns_with_the_last_fragment() {
        struct Room(AtomicUsize);
        impl Account for Room {
            fn give_back(&self, bytes: usize) {
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let (room, pool) = (Arc::new(Room(AtomicUsize::new(0))), Pool::default());
        let mut packet = Packet::from_bytes(&pool, &[0; 4_000]);
        packet.guard = Some(Guard::new(room.clone(), 4_000));
        let mut fragments = cut(&Ipv4Header::default(), packet, 1_500, &pool);
        assert!(fragments.iter().all(|fragment| fragment.guard.is_some()));
        let any = fragments.swap_remove(1);
        drop(fragments);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
        drop(any);
        assert_eq!(room.0.load(Ordering::Relaxed), 4_000);
    }

    #[test]
    fn only_copied_options_go_with_later_fragments() {
        let pool = Pool::default();
        let options = Ipv4Options::from_bytes(&[7, 7, 4, 0, 0, 0, 0, 1, 0x94, 4, 0, 0]).unwrap();
        let header = Ipv4Header { options, ..Ipv4Header::default() };
        let fragments = cut(&header, Packet::from_bytes(&pool, &[5; 3_000]), 1_500, &pool);
        let lengths: Vec<_> = fragments.iter().map(|fragment| Ipv4Header::parse(&fragment.to_vec()).unwrap().header_length).collect();
        assert_eq!(lengths, [32, 24, 24]);
        assert_eq!(together(&fragments), [5; 3_000]);
    }
}
