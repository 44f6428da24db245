//! ARP (RFC 826): questions, answers, announcements, conflicts (RFC 5227).
//!
//! Owns what is said and when. Refuses to keep what was learned: that is the neighbour cache's. Only packets that concern us teach us
//! anything: who asks us becomes a neighbour; whoever else speaks can only change what we hold of him already (RFC 826, "Packet Reception").

use super::neighbour::{Evidence, Question};
use super::{Cast, Link, Out};
use crate::layer::{DropReason, Level};
use crate::packet::Packet;
use crate::time::{Duration, Instant};
use crate::wire::{ArpOperation, ArpPacket, EtherType, MacAddress};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Announcements of a new address (RFC 5227 §1.1, `ANNOUNCE_NUM`).
const ANNOUNCEMENTS: u8 = 2;
/// Time between them (`ANNOUNCE_INTERVAL`).
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two defences of our address (`DEFEND_INTERVAL`).
const DEFENCE_INTERVAL: Duration = Duration::from_secs(10);

/// What is to be said unasked.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// When, which address, and how many times from then on.
    planned: BTreeSet<(Instant, Ipv4Addr, u8)>,
    last_defence: Option<Instant>,
}

impl Announcements {
    /// Plans the announcements of `address`, instead of those planned for it before.
    fn plan(&mut self, now: Instant, address: Ipv4Addr) {
        self.planned.retain(|&(_, planned, _)| planned != address);
        self.planned.insert((now, address, ANNOUNCEMENTS));
    }

    fn take_due(&mut self, now: Instant) -> Option<Ipv4Addr> {
        let &(at, address, left) = self.planned.first()?;
        if at > now {
            return None;
        }
        self.planned.remove(&(at, address, left));
        if left > 1 {
            self.planned.insert((now + ANNOUNCEMENT_INTERVAL, address, left - 1));
        }
        Some(address)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.planned.first().map(|&(at, _, _)| at)
    }

    /// Whether to defend (and to complain) now: RFC 5227 §2.4 (b) and (c) allow it once in ten seconds, so that two stubborn hosts do not shout
    /// for ever.
    fn may_defend(&mut self, now: Instant) -> bool {
        let may = self.last_defence.is_none_or(|last| now - last >= DEFENCE_INTERVAL);
        if may {
            self.last_defence = Some(now);
        }
        may
    }
}

impl Link {
    /// "Packet Reception" of RFC 826.
    pub(super) fn receive_arp(&mut self, now: Instant, cast: Cast, packet: Packet, out: &mut Out) {
        out.counters().link.arp_received.increment();
        let Ok(arp) = ArpPacket::parse(packet.front()) else {
            return out.drop_packet(DropReason::Malformed, packet);
        };
        if !arp.sender_hardware.is_unicast() || arp.sender_hardware == self.framing.station {
            return out.drop_packet(DropReason::BadSource, packet);
        }
        if self.is_ours(arp.sender_protocol.into()) {
            return self.meet_conflict(now, &arp, out);
        }
        if may_be_a_neighbour(arp.sender_protocol) {
            self.learn_from(now, cast, &arp, out);
        }
        // A sender without an address is a probe (RFC 5227 §2.1.1): it learns that the address is taken.
        if arp.operation == ArpOperation::Request && self.config.answer && self.is_ours(arp.target_protocol.into()) {
            self.answer(&arp, out);
        }
    }

    fn learn_from(&mut self, now: Instant, cast: Cast, arp: &ArpPacket, out: &mut Out) {
        let concerns_us = self.is_ours(arp.target_protocol.into());
        let evidence = match arp.operation {
            ArpOperation::Reply if concerns_us && cast == Cast::Unicast => Evidence::Answer,
            ArpOperation::Request if concerns_us => Evidence::AskedUs,
            _ => Evidence::Hearsay,
        };
        for waiting in self.neighbours.learn(now, arp.sender_protocol.into(), arp.sender_hardware, evidence, out) {
            self.transmit(arp.sender_hardware, waiting, out);
        }
        out.log("arp", Level::Debug, format_args!("{} is at {}", arp.sender_protocol, arp.sender_hardware));
    }

    /// RFC 5227 §2.4: somebody else uses our address.
    fn meet_conflict(&mut self, now: Instant, arp: &ArpPacket, out: &mut Out) {
        out.counters().link.address_conflicts.increment();
        if !self.announcements.may_defend(now) {
            return;
        }
        out.log("arp", Level::Warning, format_args!("{} also claims our address {}", arp.sender_hardware, arp.sender_protocol));
        if self.config.announce {
            self.announce(arp.sender_protocol, out);
        }
    }

    fn answer(&mut self, question: &ArpPacket, out: &mut Out) {
        out.counters().link.arp_replies_sent.increment();
        let answer = ArpPacket {
            operation: ArpOperation::Reply,
            sender_hardware: self.framing.station,
            sender_protocol: question.target_protocol,
            target_hardware: question.sender_hardware,
            target_protocol: question.sender_protocol,
        };
        self.send_arp(question.sender_hardware, &answer, out);
    }

    /// Asks for a neighbour: everybody, or the station that had the address (RFC 1122 §2.3.2.1 (2), "unicast poll").
    pub(super) fn ask(&mut self, question: Question, out: &mut Out) {
        // Another family's questions are another protocol's.
        let (IpAddr::V4(target), IpAddr::V4(source)) = (question.target, question.source) else { return };
        out.log("arp", Level::Debug, format_args!("who has {target}? tell {source}"));
        self.send_request(question.station.unwrap_or(MacAddress::BROADCAST), source, target, out);
    }

    /// A request for our own address with it as the sender's (RFC 5227 §2.3): who holds it in a cache corrects that.
    fn announce(&mut self, address: Ipv4Addr, out: &mut Out) {
        out.log("arp", Level::Debug, format_args!("announcing {address}"));
        self.send_request(MacAddress::BROADCAST, address, address, out);
    }

    /// Plans announcements of those of our addresses that `is_new` picks.
    pub(super) fn plan_announcements(&mut self, now: Instant, is_new: impl Fn(&IpAddr) -> bool) {
        if !self.config.announce || !self.is_up || !self.has_stations() {
            return;
        }
        for address in self.addresses.iter().filter(|address| is_new(address)) {
            if let IpAddr::V4(address) = address {
                self.announcements.plan(now, *address);
            }
        }
    }

    /// Says what is due to be said unasked; an address that is ours no more is passed over.
    pub(super) fn run_announcements(&mut self, now: Instant, out: &mut Out) {
        while let Some(address) = self.announcements.take_due(now) {
            if self.is_up && self.is_ours(address.into()) {
                self.announce(address, out);
            }
        }
    }

    fn send_request(&mut self, station: MacAddress, source: Ipv4Addr, target: Ipv4Addr, out: &mut Out) {
        out.counters().link.arp_requests_sent.increment();
        let request = ArpPacket {
            operation: ArpOperation::Request,
            sender_hardware: self.framing.station,
            sender_protocol: source,
            target_hardware: MacAddress::ZERO,
            target_protocol: target,
        };
        self.send_arp(station, &request, out);
    }

    fn send_arp(&mut self, station: MacAddress, arp: &ArpPacket, out: &mut Out) {
        let mut bytes = [0; ArpPacket::LENGTH];
        arp.emit(&mut bytes);
        let mut packet = Packet::from_bytes(&self.pool, &bytes);
        self.framing.close(&mut packet, station, EtherType::ARP, &self.pool);
        out.down.push_back(packet);
    }
}

/// Whether a host can have this address; the unspecified one is a probe's.
fn may_be_a_neighbour(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}
