//! The link layer as frame traces with explicit times.

mod arp;
mod bounds;
mod events;
mod framing;
mod resolution;

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

fn host(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}
