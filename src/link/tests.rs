//! The link layer as frame traces with explicit times.

use super::*;
use crate::counters::Counters;
use crate::packet::{Segmentation, SegmentationKind};
use crate::wire::{ArpOperation, ArpPacket, EthernetHeader, Ipv4Header, VlanTag};
use proptest::prelude::*;
use std::sync::Arc;

const US: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 13]);
const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const PEER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

struct Rig {
    link: Link,
    out: Out,
    pool: Pool,
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn quiet() -> LinkConfig {
    LinkConfig { announce: false, ..LinkConfig::default() }
}

impl Rig {
    fn new() -> Rig {
        Rig::with(quiet())
    }

    fn with(config: LinkConfig) -> Rig {
        Rig::over(config, Medium::Ethernet(US))
    }

    fn over(config: LinkConfig, medium: Medium) -> Rig {
        let pool = Pool::default();
        let link = Link::new(config, medium, 1_500, pool.clone(), SecretRandom::from_seed(1));
        let mut rig = Rig { link, out: Outbox::new(Arc::new(Counters::default())), pool };
        rig.handle(0, Message::Addresses(vec![OUR_ADDRESS.into()]));
        rig
    }

    fn handle(&mut self, millis: u64, message: Message) {
        self.link.handle(at(millis), message, &mut self.out);
    }

    fn frame(&mut self, millis: u64, bytes: &[u8]) {
        let packet = Packet::from_bytes(&self.pool, bytes);
        self.handle(millis, Message::Frame(packet));
    }

    fn arp(&mut self, millis: u64, station: MacAddress, arp: ArpPacket) {
        let mut bytes = vec![0; ArpPacket::LENGTH];
        arp.emit(&mut bytes);
        self.frame(millis, &ethernet(station, arp.sender_hardware, EtherType::ARP, &bytes));
    }

    fn send(&mut self, millis: u64, next_hop: Ipv4Addr, number: u8) {
        self.send_packet(millis, next_hop, ip_packet(number, 40));
    }

    fn send_packet(&mut self, millis: u64, next_hop: Ipv4Addr, bytes: Vec<u8>) {
        let packet = Packet::from_bytes(&self.pool, &bytes);
        self.handle(millis, Message::Send(Outgoing { next_hop: next_hop.into(), cast: Cast::Unicast, packet }));
    }

    /// Runs every deadline up to then, each at its time.
    fn run_to(&mut self, millis: u64) {
        while let Some(deadline) = self.link.deadline().filter(|&deadline| deadline <= at(millis)) {
            self.link.run_timers(deadline, &mut self.out);
        }
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.out.down.drain(..).map(|packet| packet.to_vec()).collect()
    }

    /// The ARP packets sent, with the station each went to; everything else sent must be empty.
    fn sent_arp(&mut self) -> Vec<(MacAddress, ArpPacket)> {
        self.sent().iter().map(|frame| parse_arp(frame)).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.out.counters().dropped(reason).get()
    }

    /// Makes the peer REACHABLE at this time.
    fn meet_peer(&mut self, millis: u64) {
        self.send(millis, PEER_ADDRESS, 0);
        self.arp(millis, US, reply(PEER, PEER_ADDRESS));
        self.sent();
    }
}

fn parse_arp(frame: &[u8]) -> (MacAddress, ArpPacket) {
    let header = EthernetHeader::parse(frame).unwrap();
    assert_eq!((header.source, header.ethertype), (US, EtherType::ARP));
    (header.destination, ArpPacket::parse(&frame[14..]).unwrap())
}

fn ethernet(destination: MacAddress, source: MacAddress, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14];
    EthernetHeader { destination, source, ethertype }.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// A packet of ours that can be told from others by its last byte.
fn ip_packet(number: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![number; length];
    Ipv4Header { total_length: length as u16, source: OUR_ADDRESS, destination: PEER_ADDRESS, ..Ipv4Header::default() }.emit(&mut bytes);
    bytes
}

fn reply(hardware: MacAddress, protocol: Ipv4Addr) -> ArpPacket {
    ArpPacket {
        operation: ArpOperation::Reply,
        sender_hardware: hardware,
        sender_protocol: protocol,
        target_hardware: US,
        target_protocol: OUR_ADDRESS,
    }
}

fn request(hardware: MacAddress, sender: Ipv4Addr, target: Ipv4Addr) -> ArpPacket {
    ArpPacket {
        operation: ArpOperation::Request,
        sender_hardware: hardware,
        sender_protocol: sender,
        target_hardware: MacAddress::ZERO,
        target_protocol: target,
    }
}

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
fn frames_for_others_and_our_own_are_dropped() {
    let mut rig = Rig::new();
    rig.frame(0, &ethernet(OTHER, PEER, EtherType::IPV4, &ip_packet(1, 40)));
    rig.frame(0, &ethernet(MacAddress::BROADCAST, US, EtherType::IPV4, &ip_packet(1, 40)));
    assert_eq!((rig.dropped(DropReason::NotForUs), rig.out.up.len()), (2, 0));
}

fn host(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
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
fn groups_have_addresses_of_their_own() {
    let mut rig = Rig::new();
    let mut send = |next_hop: [u8; 4], cast| {
        let packet = Packet::from_bytes(&rig.pool, &ip_packet(1, 40));
        rig.link.handle(at(0), Message::Send(Outgoing { next_hop: next_hop.into(), cast, packet }), &mut rig.out);
    };
    send([192, 0, 2, 255], Cast::Broadcast);
    send([239, 129, 2, 3], Cast::Multicast);
    let destinations: Vec<_> = rig.sent().iter().map(|frame| frame[..6].to_vec()).collect();
    assert_eq!(destinations, [vec![0xff; 6], vec![1, 0, 0x5e, 1, 2, 3]]);
}

#[test]
fn frames_to_us_and_to_groups_go_up_without_their_header() {
    let mut rig = Rig::new();
    let group = MacAddress([1, 0, 0x5e, 0, 0, 1]);
    for destination in [US, MacAddress::BROADCAST, group] {
        rig.frame(0, &ethernet(destination, PEER, EtherType::IPV4, &ip_packet(5, 40)));
    }
    let casts: Vec<_> = rig.out.up.drain(..).map(received).collect();
    let expected = [Cast::Unicast, Cast::Broadcast, Cast::Multicast].map(|cast| (cast, ip_packet(5, 40)));
    assert_eq!(casts, expected);
    rig.frame(0, &ethernet(US, PEER, EtherType(0x88cc), &[0; 50]));
    rig.frame(0, &ethernet(US, PEER, EtherType(50), &[0; 50]));
    assert_eq!(rig.dropped(DropReason::UnknownProtocol), 2);
    rig.frame(0, &[1, 2, 3]);
    rig.frame(0, &[]);
    assert_eq!(rig.dropped(DropReason::Malformed), 2);
}

fn received(message: network::Message) -> (Cast, Vec<u8>) {
    match message {
        network::Message::Received { cast, packet } => (cast, packet.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn tagged(tags: &[u16]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, &identifier) in tags.iter().enumerate() {
        let ethertype = if index + 1 < tags.len() { EtherType::VLAN } else { EtherType::IPV4 };
        let mut tag = [0; 4];
        VlanTag { priority: 3, identifier, ethertype, ..VlanTag::default() }.emit(&mut tag);
        payload.extend_from_slice(&tag);
    }
    payload.extend_from_slice(&ip_packet(1, 40));
    ethernet(US, PEER, if tags.is_empty() { EtherType::IPV4 } else { EtherType::VLAN }, &payload)
}

#[test]
fn only_frames_of_our_vlan_are_taken() {
    let taken = |vlan, tags: &[u16]| {
        let mut rig = Rig::with(LinkConfig { vlan, ..quiet() });
        rig.frame(0, &tagged(tags));
        rig.out.up.pop_front().map(received) == Some((Cast::Unicast, ip_packet(1, 40)))
    };
    assert_eq!([&[][..], &[0], &[0, 0], &[5], &[0, 5], &[5, 6]].map(|tags| taken(None, tags)), [true, true, true, false, false, false]);
    assert_eq!([&[][..], &[0], &[5], &[0, 5], &[6], &[5, 5]].map(|tags| taken(Some(5), tags)), [false, false, true, true, false, false]);
}

#[test]
fn frames_of_ours_carry_the_tag() {
    let mut rig = Rig::with(LinkConfig { vlan: Some(5), ..quiet() });
    rig.send(0, PEER_ADDRESS, 1);
    let frame = rig.sent().remove(0);
    assert_eq!(EthernetHeader::parse(&frame).unwrap().ethertype, EtherType::VLAN);
    let tag = VlanTag::parse(&frame[14..]).unwrap();
    assert_eq!((tag.identifier, tag.ethertype), (5, EtherType::ARP));
    assert!(ArpPacket::parse(&frame[18..]).is_ok());
}

#[test]
fn what_exceeds_the_mtu_goes_back_up() {
    let mut rig = Rig::new();
    rig.send_packet(0, PEER_ADDRESS, ip_packet(1, 1_501));
    assert!(matches!(rig.out.up.pop_front(), Some(network::Message::TooBig { packet }) if packet.len() == 1_501));
    let mut super_segment = |size| {
        let mut bytes = ip_packet(1, 40_000);
        bytes[32] = 0x50;
        let mut packet = Packet::from_bytes(&rig.pool, &bytes);
        packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size });
        rig.link.handle(at(0), Message::Send(Outgoing { next_hop: PEER_ADDRESS.into(), cast: Cast::Broadcast, packet }), &mut rig.out);
        (rig.out.up.drain(..).count(), rig.out.down.drain(..).count())
    };
    assert_eq!((super_segment(1_460), super_segment(1_461)), ((0, 1), (1, 0)));
}

#[test]
fn a_medium_without_stations_passes_packets_through() {
    let mut rig = Rig::over(LinkConfig::default(), Medium::Ip);
    rig.frame(0, &ip_packet(1, 40));
    assert_eq!(rig.out.up.pop_front().map(received), Some((Cast::Unicast, ip_packet(1, 40))));
    rig.send(0, PEER_ADDRESS, 2);
    assert_eq!((rig.sent(), rig.link.deadline()), (vec![ip_packet(2, 40)], None));
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

#[derive(Clone, Debug)]
enum Step {
    Frame(Vec<u8>),
    Arp { broadcast: bool, operation: u16, sender: u8, hardware: u8, target: u8 },
    Send { host: u8, cast: u8, length: usize },
    Up(bool),
    Addresses(u8),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Frame),
        (any::<bool>(), 0..4_u16, 0..12_u8, 0..9_u8, 0..12_u8).prop_map(|(broadcast, operation, sender, hardware, target)| Step::Arp {
            broadcast,
            operation,
            sender,
            hardware,
            target
        }),
        (0..12_u8, 0..3_u8, 0..1_600_usize).prop_map(|(host, cast, length)| Step::Send { host, cast, length }),
        any::<bool>().prop_map(Step::Up),
        (0..4_u8).prop_map(Step::Addresses),
        (0..20_000_u64).prop_map(Step::Wait),
    ]
}

/// A small neighbourhood: 0 is the unspecified address, 7 is ours.
fn near(number: u8) -> Ipv4Addr {
    if number == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(192, 0, 2, number) }
}

fn take(rig: &mut Rig, now: u64, step: Step) {
    match step {
        Step::Frame(bytes) => {
            rig.frame(now, &bytes);
            rig.frame(now, &ethernet(US, PEER, EtherType::VLAN, &bytes));
            rig.frame(now, &ethernet(US, PEER, EtherType::ARP, &bytes));
        }
        Step::Arp { broadcast, operation, sender, hardware, target } => {
            let arp = ArpPacket {
                operation: operation.into(),
                sender_hardware: MacAddress([2, 0, 0, 0, 0, hardware]),
                sender_protocol: near(sender),
                target_hardware: US,
                target_protocol: near(target),
            };
            rig.arp(now, if broadcast { MacAddress::BROADCAST } else { US }, arp);
        }
        Step::Send { host, cast, length } => {
            let cast = [Cast::Unicast, Cast::Multicast, Cast::Broadcast][usize::from(cast)];
            let packet = Packet::from_bytes(&rig.pool, &vec![0x45; length]);
            rig.handle(now, Message::Send(Outgoing { next_hop: near(host).into(), cast, packet }));
        }
        Step::Up(is_up) => rig.handle(now, Message::LinkState(is_up)),
        Step::Addresses(count) => rig.handle(now, Message::Addresses((7..7 + count).map(|number| near(number).into()).collect())),
        Step::Wait(_) => {}
    }
}

proptest! {
    #![proptest_config(crate::wire::testing::config())]

    #[test]
    fn no_sequence_of_events_panics_leaks_or_loops(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut rig = Rig::with(LinkConfig { neighbour_entries: 6, pending_bytes: 20_000, ..LinkConfig::default() });
        let mut now = 0;
        for step in steps {
            if let Step::Wait(millis) = step {
                now += millis;
                rig.run_to(now);
            }
            take(&mut rig, now, step);
            let (entries, bytes) = rig.link.neighbours.size();
            prop_assert!(entries <= 6 && bytes <= 20_000);
            rig.out.up.clear();
            rig.out.down.clear();
        }
        rig.run_to(now + 100_000);
        prop_assert_eq!(rig.link.deadline(), None, "an idle link sleeps");
    }
}
