//! Reassembly: any order, any duplication, every bound, and what attackers send.

use super::*;
use crate::packet::LARGE_SLOT;
use proptest::prelude::*;

/// A fragment of a datagram to us.
fn fragment(identification: u16, offset: u16, more_fragments: bool, payload: &[u8]) -> Vec<u8> {
    ip(Ipv4Header { identification, fragment_offset: offset, more_fragments, ..to_us() }, payload)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// `payload` in fragments of `size` bytes.
fn pieces(identification: u16, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let piece = |(index, chunk): (usize, &[u8])| fragment(identification, (index * size) as u16, index + 1 < count, chunk);
    payload.chunks(size).enumerate().map(piece).collect()
}

#[test]
fn a_datagram_is_put_together_in_any_order() {
    let payload = pattern(4_001);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let mut rig = Rig::new();
        let pieces = pieces(1, &payload, 1_480);
        order.iter().for_each(|&index| rig.receive(0, &pieces[index]));
        let delivered = rig.delivered();
        assert_eq!((delivered.len(), delivered[0].packet.to_vec() == payload), (1, true));
        assert_eq!((rig.network.deadline(), rig.out.counters().network.datagrams_reassembled.get()), (None, 1));
    }
}

#[test]
fn the_largest_ping_is_answered() {
    let mut rig = Rig::new();
    let request = icmp(Icmpv4Message::EchoRequest { identifier: 7, sequence: 1 }, &pattern(65_507));
    for (index, chunk) in request.chunks(1_480).enumerate() {
        let header =
            Ipv4Header { fragment_offset: (index * 1_480) as u16, more_fragments: index < 44, protocol: Protocol::ICMP, ..to_us() };
        rig.receive(0, &ip(header, chunk));
    }
    let sent = rig.sent();
    let reply: Vec<u8> = sent.iter().flat_map(|(_, _, payload)| payload.clone()).collect();
    assert_eq!(sent.len(), 45);
    assert!(reply == icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, &pattern(65_507)));
}

#[test]
fn a_duplicate_is_ignored_and_a_differing_one_kills() {
    let mut rig = Rig::new();
    let payload = pattern(2_960);
    let pieces = pieces(1, &payload, 1_480);
    rig.receive(0, &pieces[0]);
    rig.receive(0, &pieces[0]);
    rig.receive(0, &pieces[1]);
    assert_eq!((rig.delivered().len(), rig.dropped(DropReason::FragmentOverlap)), (1, 0));

    let forged = fragment(1, 0, true, &[0; 1_480]);
    rig.receive(0, &pieces[0]);
    rig.receive(0, &forged);
    rig.receive(0, &pieces[1]);
    rig.receive(0, &pieces[0]);
    assert_eq!((rig.delivered().len(), rig.dropped(DropReason::FragmentOverlap)), (0, 3), "dead until its time is over");
    rig.network.run_timers(at(30_000), &mut rig.out);
    assert_eq!((rig.network.deadline(), rig.dropped(DropReason::ReassemblyTimeout), rig.is_silent()), (None, 0, true));
    pieces.iter().for_each(|piece| rig.receive(30_001, piece));
    assert_eq!(rig.delivered().len(), 1);
}

/// Receives these fragments (offset, more, length) of one datagram; gives how many were dropped for overlap.
fn overlaps(fragments: &[(u16, bool, usize)]) -> u64 {
    let mut rig = Rig::new();
    fragments.iter().for_each(|&(offset, more, length)| rig.receive(0, &fragment(1, offset, more, &pattern(length))));
    assert!(rig.is_silent(), "{fragments:?}");
    rig.dropped(DropReason::FragmentOverlap)
}

#[test]
fn partial_overlaps_and_two_ends_kill() {
    assert_eq!(overlaps(&[(0, true, 1_480), (1_472, true, 1_480)]), 1, "teardrop");
    assert_eq!(overlaps(&[(800, true, 800), (0, true, 2_400)]), 1, "one around another");
    assert_eq!(overlaps(&[(800, true, 800), (1_600, false, 80), (2_400, false, 80)]), 1, "two ends");
    assert_eq!(overlaps(&[(800, false, 81), (1_600, true, 80)]), 1, "beyond the end");
    assert_eq!(overlaps(&[(1_600, true, 80), (800, false, 81)]), 1, "the end before what came");
    assert_eq!(overlaps(&[(800, false, 81), (880, true, 8)]), 1, "within the end's last unit");
}

#[test]
fn fragments_that_no_sender_makes_are_refused() {
    let mut rig = Rig::new();
    rig.receive(0, &fragment(1, 8, true, &[]));
    rig.receive(0, &fragment(1, 0, true, &[1; 81]));
    rig.receive(0, &fragment(1, 65_528, false, &[1; 8]));
    rig.receive(0, &fragment(1, 65_520, true, &[1; 1_480]));
    let tcp = |offset, length: usize| {
        ip(Ipv4Header { protocol: Protocol::TCP, fragment_offset: offset, more_fragments: true, ..to_us() }, &vec![1; length])
    };
    rig.receive(0, &tcp(0, 8));
    rig.receive(0, &tcp(8, 800));
    assert_eq!((rig.dropped(DropReason::Malformed), rig.network.deadline()), (6, None));
    rig.receive(0, &fragment(1, 65_496, false, &[1; 19]));
    assert_eq!(rig.dropped(DropReason::Malformed), 6, "65,535 bytes with the header are just right");
}

#[test]
fn memory_and_number_are_bounded_and_the_oldest_goes() {
    let config = NetworkConfig { reassembly_bytes: 3 * LARGE_SLOT, reassembly_datagrams: 100, ..NetworkConfig::default() };
    let mut rig = Rig::with(config, topology(AddressMode::Own));
    for identification in 0..10 {
        rig.receive(identification.into(), &fragment(identification, 0, true, &[1; 800]));
    }
    assert_eq!(rig.dropped(DropReason::ReassemblyFull), 7);
    rig.receive(20, &fragment(9, 800, false, &[1; 8]));
    assert_eq!(rig.delivered().len(), 1, "the latest are still there");

    let config = NetworkConfig { reassembly_datagrams: 2, ..NetworkConfig::default() };
    let mut rig = Rig::with(config, topology(AddressMode::Own));
    (0..10).for_each(|identification| rig.receive(0, &fragment(identification, 0, true, &[1; 800])));
    assert_eq!(rig.dropped(DropReason::ReassemblyFull), 8);

    let mut rig = Rig::with(NetworkConfig { reassembly_bytes: 1, ..NetworkConfig::default() }, topology(AddressMode::Own));
    rig.receive(0, &fragment(1, 0, true, &[1; 800]));
    assert_eq!((rig.dropped(DropReason::ReassemblyFull), rig.network.deadline()), (1, None));
}

#[test]
fn fragments_give_their_room_back_at_once() {
    struct Room(std::sync::atomic::AtomicUsize);
    impl crate::packet::Account for Room {
        fn give_back(&self, bytes: usize) {
            self.0.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let room = Arc::new(Room(0.into()));
    let mut rig = Rig::new();
    for piece in pieces(1, &pattern(2_960), 1_480) {
        let mut packet = Packet::from_bytes(&rig.pool, &piece);
        packet.guard = Some(crate::packet::Guard::new(room.clone(), 1));
        rig.handle(0, Message::Received { cast: Cast::Unicast, packet });
    }
    let given_back = || room.0.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(given_back(), 1, "the whole has the last one's");
    drop(rig.delivered());
    assert_eq!(given_back(), 2);
}

#[test]
fn a_mark_on_any_fragment_marks_the_whole() {
    let traffic_class = |codepoints: [u8; 2]| {
        let mut rig = Rig::new();
        for (offset, traffic_class) in [(0, codepoints[0]), (800, codepoints[1])] {
            rig.receive(0, &ip(Ipv4Header { fragment_offset: offset, more_fragments: offset == 0, traffic_class, ..to_us() }, &[1; 800]));
        }
        rig.delivered().first().map(|delivery| delivery.traffic_class)
    };
    assert_eq!([[2, 3], [3, 1], [2, 2], [0, 0]].map(traffic_class), [Some(3), Some(3), Some(2), Some(0)]);
    assert_eq!([[0, 3], [3, 0]].map(traffic_class), [None, None]);
}

#[test]
fn datagrams_are_told_apart() {
    let mut rig = Rig::new();
    let first = Ipv4Header { more_fragments: true, ..to_us() };
    let others = [
        first,
        Ipv4Header { source: GATEWAY, ..first },
        Ipv4Header { identification: 9, ..first },
        Ipv4Header { protocol: Protocol(132), ..first },
        Ipv4Header { destination: [192, 0, 2, 255].into(), ..first },
    ];
    for (number, header) in others.iter().enumerate() {
        rig.receive(0, &ip(*header, &[number as u8; 80]));
    }
    for (number, header) in others.iter().enumerate() {
        rig.receive(0, &ip(Ipv4Header { fragment_offset: 80, more_fragments: false, ..*header }, &[number as u8; 5]));
    }
    let contents: Vec<_> = rig.delivered().iter().map(|delivery| delivery.packet.to_vec()).collect();
    assert_eq!(contents, (0..5).map(|number| vec![number; 85]).collect::<Vec<_>>());
}

#[test]
fn a_last_fragment_whose_bytes_came_before_tells_the_length() {
    let mut rig = Rig::new();
    rig.receive(0, &fragment(1, 0, true, &[7; 24]));
    rig.receive(0, &fragment(1, 16, false, &[7; 8]));
    assert_eq!(rig.delivered().iter().map(|delivery| delivery.packet.to_vec()).collect::<Vec<_>>(), [vec![7; 24]]);
}

proptest! {
    #![proptest_config(crate::wire::testing::config())]

    /// Several datagrams, cut to random sizes, shuffled together, with duplicates: each comes out once, as it went in.
    #[test]
    fn every_datagram_comes_out_as_it_went_in(
        datagrams in prop::collection::vec((1..9_000_usize, 2..190_usize), 1..6),
        order in prop::collection::vec(any::<(prop::sample::Index, bool)>(), 1..600),
    ) {
        let mut rig = Rig::new();
        let payloads: Vec<_> = datagrams.iter().map(|&(length, _)| pattern(length)).collect();
        let mut waiting: Vec<Vec<u8>> = Vec::new();
        for (number, (payload, (_, size))) in payloads.iter().zip(&datagrams).enumerate() {
            waiting.extend(pieces(number as u16 + 1, payload, size * 8));
        }
        let mut picks = order.iter().cycle();
        while !waiting.is_empty() {
            let (index, twice) = picks.next().unwrap();
            let piece = waiting.swap_remove(index.index(waiting.len()));
            rig.receive(0, &piece);
            // A duplicate of what made a datagram whole would start it anew.
            if *twice && rig.out.up.is_empty() {
                rig.receive(0, &piece);
            }
            for delivery in rig.delivered() {
                prop_assert!(payloads.contains(&delivery.packet.to_vec()));
            }
        }
        let whole = rig.out.counters().network.datagrams_reassembled.get() as usize;
        let single = datagrams.iter().filter(|&&(length, size)| length <= size * 8).count();
        prop_assert_eq!((whole, rig.dropped(DropReason::FragmentOverlap)), (datagrams.len() - single, 0));
    }

    /// Arbitrary fragments of few datagrams against a plain model of bytes.
    #[test]
    fn arbitrary_fragments_behave_like_the_model(
        fragments in prop::collection::vec((0..12_u16, any::<bool>(), 0..40_usize, any::<bool>()), 0..60),
    ) {
        let mut rig = Rig::new();
        let mut model = Model::default();
        for (offset, more, length, is_forged) in fragments {
            let offset = offset * 8;
            let fill = if is_forged { 0xee } else { 0x11 };
            if offset == 0 && !more {
                continue;
            }
            rig.receive(0, &fragment(1, offset, more, &vec![fill; length]));
            let expected = model.add(offset.into(), more, &vec![fill; length]);
            let whole: Vec<_> = rig.delivered().into_iter().map(|delivery| delivery.packet.to_vec()).collect();
            prop_assert_eq!(whole, expected.into_iter().collect::<Vec<_>>());
        }
    }
}

/// Reassembly byte by byte.
#[derive(Default)]
struct Model {
    bytes: std::collections::BTreeMap<usize, u8>,
    end: Option<usize>,
    is_dead: bool,
}

impl Model {
    fn add(&mut self, offset: usize, more: bool, payload: &[u8]) -> Option<Vec<u8>> {
        if self.is_dead || payload.is_empty() || (more && !payload.len().is_multiple_of(8)) {
            return None;
        }
        let end = offset + payload.len();
        let farthest = self.bytes.keys().next_back().map_or(0, |last| last + 1);
        let held: Vec<_> = (offset..end).filter_map(|at| self.bytes.get(&at)).copied().collect();
        let ends_wrongly =
            if more { self.end.is_some_and(|known| end > known) } else { self.end.is_some_and(|known| known != end) || farthest > end };
        if ends_wrongly || (!held.is_empty() && held != payload) {
            self.is_dead = true;
            return None;
        }
        self.bytes.extend((offset..).zip(payload.iter().copied()));
        self.end = self.end.or((!more).then_some(end));
        let is_whole = self.end == Some(self.bytes.len());
        is_whole.then(|| std::mem::take(self).bytes.into_values().collect())
    }
}
