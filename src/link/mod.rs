//! The link layer: Ethernet framing and the neighbour cache.
//!
//! Owns the mapping from next hop to MAC address (ARP, RFC 826) and what waits for it. Refuses to know routes: network says which
//! next hop. On a bare-IP medium it passes packets through. Read [`Link`] first, then `neighbour`, `arp` and `frame`.

mod arp;
mod frame;
mod neighbour;
#[cfg(test)]
mod tests;

use crate::config::LinkConfig;
use crate::device::Medium;
use crate::layer::{DropReason, Layer, Level, Outbox};
use crate::network;
use crate::packet::{Packet, Pool};
use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::{EtherType, MacAddress};
use arp::Announcements;
use frame::Framing;
use neighbour::{Due, Lookup, NeighbourCache};
use std::net::{IpAddr, Ipv4Addr};

/// To whom a frame was, or is to be, addressed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Cast {
    /// One station: us.
    #[default]
    Unicast,
    /// A multicast group.
    Multicast,
    /// Every station.
    Broadcast,
}

/// What the link layer's inbox carries.
#[derive(Debug)]
pub enum Message {
    /// A frame from the device (on a bare-IP medium: a packet).
    Frame(Packet),
    /// A packet from the network layer.
    Send(Outgoing),
    /// A datagram of the network layer's in fragments, in order: one message, as it is one packet that was lent room.
    SendFragments {
        /// As in [`Outgoing`].
        next_hop: IpAddr,
        /// As in [`Outgoing`].
        cast: Cast,
        /// Each with its IP header.
        fragments: Vec<Packet>,
    },
    /// Addresses to answer ARP for, and to ask with: state that replaces the former.
    Addresses(Vec<IpAddr>),
    /// The interface is up (`true`) or down. Each layer is told by the pipeline; none passes it on.
    LinkState(bool),
}

/// An IP packet that has its header and its next hop.
#[derive(Debug)]
pub struct Outgoing {
    /// Where the link layer sends it: a neighbour, a multicast group, or a broadcast address.
    pub next_hop: IpAddr,
    /// Of what kind that address is. `Broadcast` for the limited and every directed broadcast address.
    pub cast: Cast,
    /// The packet.
    pub packet: Packet,
}

type Out = Outbox<network::Message, Packet>;

/// The link layer's state machine.
pub struct Link {
    config: LinkConfig,
    medium: Medium,
    mtu: usize,
    pool: Pool,
    framing: Framing,
    addresses: Vec<IpAddr>,
    is_up: bool,
    neighbours: NeighbourCache,
    announcements: Announcements,
}

impl Link {
    /// A link layer over a medium that carries IP packets of up to `mtu` bytes. It is up, and has no address until it is told.
    pub fn new(config: LinkConfig, medium: Medium, mtu: usize, pool: Pool, random: SecretRandom) -> Link {
        let station = match medium {
            Medium::Ethernet(station) => station,
            Medium::Ip => MacAddress::ZERO,
        };
        Link {
            framing: Framing { station, vlan: config.vlan },
            neighbours: NeighbourCache::new(config.clone(), random),
            config,
            medium,
            mtu,
            pool,
            addresses: Vec::new(),
            is_up: true,
            announcements: Announcements::default(),
        }
    }

    fn receive(&mut self, now: Instant, mut packet: Packet, out: &mut Out) {
        if !self.has_stations() {
            return out.up.push_back(network::Message::Received { cast: Cast::Unicast, packet });
        }
        match self.framing.open(&mut packet, &self.pool) {
            Err(reason) => out.drop_packet(reason, packet),
            Ok(opened) => match opened.ethertype {
                EtherType::IPV4 | EtherType::IPV6 => out.up.push_back(network::Message::Received { cast: opened.cast, packet }),
                EtherType::ARP => self.receive_arp(now, opened.cast, packet, out),
                _ => out.drop_packet(DropReason::UnknownProtocol, packet),
            },
        }
    }

    fn send(&mut self, now: Instant, outgoing: Outgoing, out: &mut Out) {
        let Outgoing { next_hop, cast, packet } = outgoing;
        if !self.is_up {
            return out.drop_packet(DropReason::LinkDown, packet);
        }
        if network::largest_piece(&packet) > self.mtu {
            return out.up.push_back(network::Message::TooBig { packet });
        }
        match (cast, next_hop) {
            _ if !self.has_stations() => out.down.push_back(packet),
            (Cast::Broadcast, _) => self.transmit(MacAddress::BROADCAST, packet, out),
            (Cast::Multicast, IpAddr::V4(group)) => self.transmit(MacAddress::for_ipv4_multicast(group), packet, out),
            (Cast::Multicast, IpAddr::V6(group)) => self.transmit(MacAddress::for_ipv6_multicast(group), packet, out),
            (Cast::Unicast, IpAddr::V4(_)) => self.send_to_neighbour(now, next_hop, packet, out),
            // Neighbour discovery will be here.
            (Cast::Unicast, IpAddr::V6(_)) => out.drop_packet(DropReason::UnknownProtocol, packet),
        }
    }

    fn send_to_neighbour(&mut self, now: Instant, next_hop: IpAddr, packet: Packet, out: &mut Out) {
        let source = self.asking_address(&packet);
        if packet.doubts_path {
            self.neighbours.doubt(now, next_hop);
        }
        if let Some(station) = self.neighbours.in_use(now, next_hop, source) {
            return self.transmit(station, packet, out);
        }
        match self.neighbours.look_up(now, next_hop, source, packet, out) {
            Lookup::Send(station, packet) => self.transmit(station, packet, out),
            Lookup::Ask(question) => self.ask(question, out),
            Lookup::Wait => {}
            Lookup::Failed(packet) => out.up.push_back(network::Message::Unreachable { next_hop, packet }),
        }
    }

    fn transmit(&mut self, station: MacAddress, mut packet: Packet, out: &mut Out) {
        let is_ipv6 = packet.front().first().is_some_and(|byte| byte >> 4 == 6);
        let ethertype = if is_ipv6 { EtherType::IPV6 } else { EtherType::IPV4 };
        self.framing.close(&mut packet, station, ethertype, &self.pool);
        out.down.push_back(packet);
    }

    /// Who asks for the next hop of `packet`: its source if that is ours, else our first address (RFC 826's sender must be ours).
    fn asking_address(&self, packet: &Packet) -> IpAddr {
        let source = packet.front().get(12..16).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let source = source.map(|bytes| IpAddr::V4(bytes.into())).filter(|&source| self.is_ours(source));
        let first = || self.addresses.iter().copied().find(IpAddr::is_ipv4);
        source.or_else(first).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    fn has_stations(&self) -> bool {
        self.medium != Medium::Ip
    }

    fn replace_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        let former = std::mem::replace(&mut self.addresses, addresses);
        self.plan_announcements(now, |address| !former.contains(address));
    }

    /// A cable that comes back may lead elsewhere: nothing learned before is believed, and everybody is told again where we are.
    fn set_link_state(&mut self, now: Instant, is_up: bool, out: &mut Out) {
        if self.is_up == is_up {
            return;
        }
        self.is_up = is_up;
        out.log("link", Level::Info, format_args!("link {}", if is_up { "up" } else { "down" }));
        for waiting in self.neighbours.clear() {
            out.drop_packet(DropReason::LinkDown, waiting);
        }
        self.plan_announcements(now, |_| true);
    }

    fn neighbour_timer(&mut self, due: Due, out: &mut Out) {
        match due {
            Due::Ask(question) => self.ask(question, out),
            Due::Forgotten(neighbour) => out.log("arp", Level::Debug, format_args!("{neighbour} is silent: forgotten")),
            Due::Failed(next_hop, waiting) => {
                out.counters().link.neighbours_failed.increment();
                out.log("arp", Level::Info, format_args!("{next_hop} does not answer"));
                out.up.extend(waiting.into_iter().map(|packet| network::Message::Unreachable { next_hop, packet }));
            }
        }
    }
}

impl Layer for Link {
    type Message = Message;
    type Up = network::Message;
    type Down = Packet;

    fn handle(&mut self, now: Instant, message: Message, out: &mut Out) {
        match message {
            Message::Frame(packet) => self.receive(now, packet, out),
            Message::Send(outgoing) => self.send(now, outgoing, out),
            Message::SendFragments { next_hop, cast, fragments } => {
                fragments.into_iter().for_each(|packet| self.send(now, Outgoing { next_hop, cast, packet }, out));
            }
            Message::Addresses(addresses) => self.replace_addresses(now, addresses),
            Message::LinkState(is_up) => self.set_link_state(now, is_up, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.neighbours.deadline().into_iter().chain(self.announcements.deadline()).min()
    }

    fn run_timers(&mut self, now: Instant, out: &mut Out) {
        while let Some(due) = self.neighbours.run_timer(now) {
            self.neighbour_timer(due, out);
        }
        self.run_announcements(now, out);
    }
}
