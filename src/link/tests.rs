//! The link layer as frame traces with explicit times.

use super::*;
use crate::counters::Counters;
use crate::wire::{ArpOperation, ArpPacket, EthernetHeader, Ipv4Header};
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
