//! From the first packet for a neighbour to its answer, its silence, its leaving.

use super::*;

#[test]
fn the_first_packet_asks_and_the_answer_sends_all_that_waited_in_order() {
    let mut rig = Rig::new();
    rig.send(0, PEER_ADDRESS, 1);
    assert_eq!(rig.sent_arp(), [(MacAddress::BROADCAST, request(US, OUR_ADDRESS, PEER_ADDRESS))]);
    rig.send(1, PEER_ADDRESS, 2);
    assert!(rig.sent().is_empty(), "one question at a time");
    rig.arp(2, US, reply(PEER, PEER_ADDRESS));
    let expected = [1, 2].map(|number| ethernet(PEER, US, EtherType::IPV4, &ip_packet(number, 40)));
    assert_eq!(rig.sent(), expected);
    rig.send(3, PEER_ADDRESS, 3);
    assert_eq!(rig.sent(), [ethernet(PEER, US, EtherType::IPV4, &ip_packet(3, 40))]);
    assert_eq!(rig.link.deadline(), None, "an idle cache has no timer");
}

#[test]
fn silence_is_reported_for_each_packet_and_remembered_for_a_while() {
    let mut rig = Rig::new();
    rig.send(0, PEER_ADDRESS, 1);
    rig.send(10, PEER_ADDRESS, 2);
    rig.run_to(2_999);
    assert_eq!(rig.sent_arp().len(), 3);
    assert!(rig.out.up.is_empty());
    rig.run_to(3_000);
    assert!(rig.sent().is_empty());
    let reported = |rig: &mut Rig| -> Vec<u8> {
        let last = |message| match message {
            network::Message::Unreachable { next_hop, packet } if next_hop == PEER_ADDRESS => packet.to_vec()[39],
            other => panic!("{other:?}"),
        };
        rig.out.up.drain(..).map(last).collect()
    };
    assert_eq!(reported(&mut rig), [1, 2]);
    assert_eq!(rig.out.counters().link.neighbours_failed.get(), 1);
    rig.send(5_999, PEER_ADDRESS, 3);
    assert_eq!((reported(&mut rig), rig.sent().len()), (vec![3], 0));
    rig.send(6_000, PEER_ADDRESS, 4);
    assert_eq!((reported(&mut rig), rig.sent_arp().len()), (vec![], 1));
}

#[test]
fn a_stale_entry_in_use_is_asked_in_person_and_confirmed() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    rig.send(14_999, PEER_ADDRESS, 1);
    assert_eq!((rig.sent().len(), rig.link.deadline()), (1, None));
    rig.send(45_000, PEER_ADDRESS, 2);
    assert_eq!((rig.sent().len(), rig.link.deadline()), (1, Some(at(50_000))));
    rig.run_to(50_000);
    assert_eq!(rig.sent_arp(), [(PEER, request(US, OUR_ADDRESS, PEER_ADDRESS))]);
    rig.arp(50_001, US, reply(PEER, PEER_ADDRESS));
    assert_eq!(rig.link.deadline(), None);
}

#[test]
fn a_neighbour_that_left_is_forgotten_and_asked_for_again() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    rig.send(45_000, PEER_ADDRESS, 1);
    rig.sent();
    rig.run_to(60_000);
    assert_eq!(rig.sent_arp().iter().map(|(station, _)| *station).collect::<Vec<_>>(), [PEER; 3]);
    assert_eq!(rig.link.neighbours.size(), (0, 0));
    rig.send(60_000, PEER_ADDRESS, 2);
    assert_eq!(rig.sent_arp()[0].0, MacAddress::BROADCAST);
}

#[test]
fn nothing_is_sent_or_remembered_while_the_link_is_down() {
    let mut rig = Rig::new();
    rig.meet_peer(0);
    rig.send(1, host(1), 1);
    rig.sent();
    rig.handle(2, Message::LinkState(false));
    assert_eq!((rig.dropped(DropReason::LinkDown), rig.link.deadline()), (1, None));
    rig.send(3, PEER_ADDRESS, 1);
    assert_eq!((rig.dropped(DropReason::LinkDown), rig.sent().len()), (2, 0));
    rig.handle(4, Message::LinkState(true));
    rig.send(5, PEER_ADDRESS, 1);
    assert_eq!(rig.sent_arp().len(), 1);
}
