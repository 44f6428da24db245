//! The identification field of IPv4 (RFC 6864).
//!
//! Owns a counter for each of some groups of destinations. Refuses to remember destinations: which counter one uses, and what is added to it,
//! is a keyed hash, so that no destination can tell from its packets how many go to others.

use crate::random::SecretRandom;
use crate::wire::Ipv4Header;

/// Counters: as many as Linux has at least (`ip_idents`).
const COUNTERS: usize = 2_048;

/// The source of identifications.
pub(super) struct Identifications {
    random: SecretRandom,
    counters: Box<[u16]>,
}

impl Identifications {
    pub(super) fn new(random: SecretRandom) -> Identifications {
        Identifications { random, counters: vec![0; COUNTERS].into_boxed_slice() }
    }

    /// The identification for a packet. An atomic one, which can be no fragment and be cut to none, needs no number (RFC 6864 §4.1); any
    /// other must not repeat soon for its source, destination and protocol (§4.3).
    ///
    /// The first of `count` in a row: each piece of a super-datagram is a packet by itself.
    pub(super) fn next(&mut self, header: &Ipv4Header, count: u16) -> u16 {
        if header.dont_fragment && !header.is_fragment() {
            return 0;
        }
        let hash = self.random.keyed_hash(|hasher| {
            hasher.write_u32(header.source.to_bits());
            hasher.write_u32(header.destination.to_bits());
            hasher.write_u8(header.protocol.0);
        });
        let index = (hash as usize) % COUNTERS;
        let Some(counter) = self.counters.get_mut(index) else { return 0 };
        let first = counter.wrapping_add(1);
        *counter = counter.wrapping_add(count);
        first.wrapping_add((hash >> 48) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn header(last: u8) -> Ipv4Header {
        Ipv4Header { source: [192, 0, 2, 7].into(), destination: [198, 51, 100, last].into(), ..Ipv4Header::default() }
    }

    #[test]
    fn no_number_repeats_for_one_destination_before_all_were_used() {
        let mut identifications = Identifications::new(SecretRandom::from_seed(1));
        let seen: BTreeSet<u16> = (0..=u16::MAX).map(|_| identifications.next(&header(1), 1)).collect();
        assert_eq!(seen.len(), 1 << 16);
    }

    #[test]
    fn destinations_count_by_themselves() {
        let mut identifications = Identifications::new(SecretRandom::from_seed(1));
        let first = identifications.next(&header(1), 1);
        for _ in 0..100 {
            identifications.next(&header(2), 1);
        }
        assert_eq!(identifications.next(&header(1), 1), first.wrapping_add(1));
    }

    #[test]
    fn atomic_packets_need_none_and_fragments_do() {
        let mut identifications = Identifications::new(SecretRandom::from_seed(1));
        let atomic = Ipv4Header { dont_fragment: true, ..header(1) };
        assert_eq!(identifications.next(&atomic, 1), 0);
        let fragment = Ipv4Header { more_fragments: true, ..atomic };
        assert_ne!(identifications.next(&fragment, 1), identifications.next(&fragment, 1));
    }
}
