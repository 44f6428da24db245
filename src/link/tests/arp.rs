//! What ARP teaches, answers, announces and defends.

use super::*;

#[test]
fn questions_for_us_are_answered_and_make_an_acquaintance() {
    let mut rig = Rig::new();
    rig.arp(0, MacAddress::BROADCAST, request(PEER, PEER_ADDRESS, OUR_ADDRESS));
    let answer = ArpPacket {
        operation: ArpOperation::Reply,
        sender_hardware: US,
        sender_protocol: OUR_ADDRESS,
        target_hardware: PEER,
        target_protocol: PEER_ADDRESS,
    };
    assert_eq!(rig.sent_arp(), [(PEER, answer)]);
    rig.send(1, PEER_ADDRESS, 1);
    assert_eq!(rig.sent(), [ethernet(PEER, US, EtherType::IPV4, &ip_packet(1, 40))]);
    assert_eq!(rig.link.deadline(), Some(at(5_001)), "only hearsay: to be confirmed");
}

#[test]
fn the_host_answers_in_shared_address_mode() {
    let mut rig = Rig::with(LinkConfig { answer: false, announce: false, ..LinkConfig::default() });
    rig.arp(0, MacAddress::BROADCAST, request(PEER, PEER_ADDRESS, OUR_ADDRESS));
    assert!(rig.sent().is_empty());
}

#[test]
fn another_station_with_our_address_is_counted() {
    let mut rig = Rig::new();
    rig.arp(0, MacAddress::BROADCAST, request(OTHER, OUR_ADDRESS, PEER_ADDRESS));
    assert_eq!(rig.out.counters().link.address_conflicts.get(), 1);
}

#[test]
fn a_new_address_is_announced_twice_and_again_when_the_cable_comes_back() {
    let mut rig = Rig::with(LinkConfig::default());
    let announcement = (MacAddress::BROADCAST, request(US, OUR_ADDRESS, OUR_ADDRESS));
    rig.run_to(1_999);
    assert_eq!(rig.sent_arp(), [announcement]);
    rig.run_to(10_000);
    assert_eq!(rig.sent_arp(), [announcement]);
    rig.handle(10_000, Message::Addresses(vec![OUR_ADDRESS.into()]));
    assert_eq!(rig.link.deadline(), None, "nothing new to say");
    rig.handle(11_000, Message::LinkState(false));
    rig.handle(12_000, Message::LinkState(true));
    rig.run_to(20_000);
    assert_eq!(rig.sent_arp(), [announcement; 2]);
}

#[test]
fn an_address_that_went_is_not_announced() {
    let mut rig = Rig::with(LinkConfig::default());
    rig.run_to(0);
    rig.sent();
    rig.handle(1_000, Message::Addresses(vec![]));
    rig.run_to(10_000);
    assert!(rig.sent().is_empty());
}

#[test]
fn our_address_is_defended_once_in_ten_seconds() {
    let mut rig = Rig::with(LinkConfig::default());
    rig.run_to(5_000);
    rig.sent();
    for millis in [10_000, 10_001, 15_000, 19_999, 20_000] {
        rig.arp(millis, MacAddress::BROADCAST, request(OTHER, OUR_ADDRESS, PEER_ADDRESS));
    }
    assert_eq!(rig.sent_arp(), [(MacAddress::BROADCAST, request(US, OUR_ADDRESS, OUR_ADDRESS)); 2]);
    assert_eq!(rig.out.counters().link.address_conflicts.get(), 5);
}

#[test]
fn a_probe_for_our_address_is_answered_and_teaches_nothing() {
    let mut rig = Rig::new();
    rig.arp(0, MacAddress::BROADCAST, request(PEER, Ipv4Addr::UNSPECIFIED, OUR_ADDRESS));
    assert_eq!((rig.sent_arp()[0].0, rig.link.neighbours.size()), (PEER, (0, 0)));
}

#[test]
fn talk_among_others_teaches_nothing_new() {
    let mut rig = Rig::new();
    rig.arp(0, MacAddress::BROADCAST, request(OTHER, host(1), PEER_ADDRESS));
    rig.arp(0, MacAddress::BROADCAST, request(OTHER, host(2), host(2)));
    rig.arp(0, US, reply(OTHER, host(3)));
    rig.arp(0, US, ArpPacket { operation: ArpOperation::Other(9), ..reply(OTHER, host(4)) });
    assert_eq!((rig.link.neighbours.size(), rig.sent().len()), ((0, 0), 0));
}

#[test]
fn a_neighbour_that_moved_is_followed_but_not_right_after_it_answered() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    let moved = request(OTHER, PEER_ADDRESS, PEER_ADDRESS);
    rig.arp(999, MacAddress::BROADCAST, moved);
    rig.send(1_000, PEER_ADDRESS, 1);
    assert_eq!(&rig.sent()[0][..6], &PEER.0);
    rig.arp(1_001, MacAddress::BROADCAST, moved);
    rig.send(1_002, PEER_ADDRESS, 2);
    assert_eq!((&rig.sent()[0][..6], rig.link.deadline()), (&OTHER.0[..], Some(at(6_002))));
}

#[test]
fn an_impossible_sender_teaches_nothing() {
    let mut rig = Rig::new();
    for hardware in [MacAddress::ZERO, MacAddress::BROADCAST, MacAddress([1, 0, 94, 0, 0, 1])] {
        let mut bytes = vec![0; 28];
        request(hardware, PEER_ADDRESS, OUR_ADDRESS).emit(&mut bytes);
        rig.frame(0, &ethernet(MacAddress::BROADCAST, OTHER, EtherType::ARP, &bytes));
    }
    assert_eq!(rig.dropped(DropReason::BadSource), 3);
    for address in [Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1)] {
        rig.arp(0, US, request(PEER, address, OUR_ADDRESS));
    }
    assert_eq!(rig.link.neighbours.size(), (0, 0));
}
