//! Every bound of the neighbour cache, reached.

use super::*;

#[test]
fn the_oldest_goes_when_too_much_waits_for_one_neighbour() {
    let mut rig = Rig::with(LinkConfig { pending_bytes_per_neighbour: 3 * (40 + 2_048), ..quiet() });
    (1..=5).for_each(|number| rig.send(0, PEER_ADDRESS, number));
    assert_eq!(rig.dropped(DropReason::NeighbourQueueFull), 2);
    rig.sent();
    rig.arp(1, US, reply(PEER, PEER_ADDRESS));
    assert_eq!(rig.sent().iter().map(|frame| frame[53]).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn a_cold_ping_of_64_kilobytes_waits_whole() {
    let mut rig = Rig::new();
    (0..45).for_each(|number| rig.send_packet(0, PEER_ADDRESS, ip_packet(number, 1_500)));
    rig.sent();
    rig.arp(1, US, reply(PEER, PEER_ADDRESS));
    assert_eq!((rig.sent().len(), rig.dropped(DropReason::NeighbourQueueFull)), (45, 0));
}

#[test]
fn what_waits_is_bounded_over_all_neighbours() {
    let mut rig = Rig::with(LinkConfig { pending_bytes: 10_000, ..quiet() });
    (0..20).for_each(|number| rig.send(0, host(number), 1));
    let (entries, bytes) = rig.link.neighbours.size();
    assert_eq!((entries, rig.dropped(DropReason::NeighbourQueueFull)), (20, 16));
    assert!(bytes <= 10_000);
}

#[test]
fn a_full_cache_forgets_what_was_used_least_recently() {
    let mut rig = Rig::with(LinkConfig { neighbour_entries: 4, ..quiet() });
    for number in 0..4 {
        let second = u64::from(number) * 1_000;
        rig.send(second, host(number), 1);
        rig.arp(second + 1, US, reply(PEER, host(number)));
    }
    rig.send(4_000, host(0), 1);
    rig.sent();
    rig.send(5_000, host(9), 1);
    assert_eq!(rig.out.counters().link.neighbours_evicted.get(), 1);
    rig.sent();
    rig.send(5_001, host(0), 1);
    assert_eq!(rig.sent().len(), 1, "still known");
    rig.send(5_002, host(1), 1);
    assert_eq!(rig.sent_arp().len(), 1, "forgotten");
}

#[test]
fn a_flood_of_hosts_that_do_not_exist_leaves_half_of_the_cache() {
    let mut rig = Rig::with(LinkConfig { neighbour_entries: 16, ..quiet() });
    rig.meet_peer(0);
    (0..1_000).for_each(|number| rig.send(1, host(number), 1));
    assert_eq!(rig.link.neighbours.size().0, 1 + 8);
    assert_eq!(rig.dropped(DropReason::NeighbourCacheFull), 992);
    rig.sent();
    rig.send(2, PEER_ADDRESS, 1);
    assert_eq!(&rig.sent()[0][..6], &PEER.0);
}

#[test]
fn a_flood_of_strangers_does_not_displace_whom_we_talk_to() {
    let mut rig = Rig::with(LinkConfig { neighbour_entries: 16, ..quiet() });
    for number in 0..8 {
        rig.send(0, host(number), 1);
        rig.arp(0, US, reply(PEER, host(number)));
    }
    (1_000..3_000).for_each(|number| rig.arp(1, MacAddress::BROADCAST, request(OTHER, host(number), OUR_ADDRESS)));
    assert_eq!(rig.link.neighbours.size().0, 16);
    rig.sent();
    (0..8).for_each(|number| rig.send(2, host(number), 1));
    assert!(rig.sent().iter().all(|frame| frame[..6] == PEER.0));
}

#[test]
fn a_steady_stream_allocates_nothing() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    rig.send(1, PEER_ADDRESS, 1);
    rig.sent();
    let before = rig.pool.allocations();
    for millis in 0..1_000 {
        rig.send(millis, PEER_ADDRESS, 1);
        rig.out.down.clear();
    }
    assert_eq!(rig.pool.allocations(), before);
}
