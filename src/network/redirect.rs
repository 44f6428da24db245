//! ICMP redirects (RFC 1122 §3.2.2.2, §3.3.1.2): "send what goes there through another router".
//!
//! Owns the rules on which are followed. Refuses those that not even an honest router could have sent: they are counted and ignored. A redirect
//! moves one destination, never a network, and only for a while; the routes themselves stay as they were set.

use super::icmp::ignore_advice;
use super::{Cast, Network, Out};
use crate::layer::Level;
use crate::packet::Packet;
use crate::time::Instant;
use crate::wire::{Icmpv4Message, Ipv4Header};
use std::net::{IpAddr, Ipv4Addr};

impl Network {
    /// Takes a redirect; `packet` is the whole ICMP message.
    pub(super) fn receive_redirect(
        &mut self,
        now: Instant,
        header: &Ipv4Header,
        cast: Cast,
        gateway: Ipv4Addr,
        packet: &Packet,
        out: &mut Out,
    ) {
        let quoted = packet.front().get(Icmpv4Message::HEADER_LENGTH..).unwrap_or_default();
        let is_to_be_followed = |quoted: &Ipv4Header| {
            let came_from_us = quoted.source == header.destination && cast == Cast::Unicast;
            came_from_us && self.may_redirect(now, header.source.into(), quoted.destination.into(), gateway.into())
        };
        match Ipv4Header::parse_quoted(quoted).ok().filter(is_to_be_followed) {
            None => ignore_advice(header, out),
            Some(quoted) => self.follow(now, quoted.destination.into(), gateway.into(), out),
        }
    }

    /// RFC 1122 §3.2.2.2: from the first hop in use, to a neighbour; and that neighbour is neither us nor who redirects. What is on the link
    /// needs no router, and groups have none.
    fn may_redirect(&self, now: Instant, router: IpAddr, destination: IpAddr, gateway: IpAddr) -> bool {
        let is_neighbour = self.topology.addresses.iter().any(|own| own.contains(gateway));
        let is_host = self.topology.cast_of(gateway) == Cast::Unicast && !self.topology.is_local(gateway);
        let is_first_hop = self.route_to(now, destination).is_some_and(|route| route.next_hop == router);
        self.config.accept_redirects && is_neighbour && is_host && is_first_hop && gateway != router && destination != router
    }

    fn follow(&mut self, now: Instant, destination: IpAddr, gateway: IpAddr, out: &mut Out) {
        out.counters().network.redirects_followed.increment();
        out.log("icmp", Level::Info, format_args!("{destination} is now reached through {gateway}"));
        if self.redirects.insert(now, destination, gateway) {
            out.counters().network.redirects_evicted.increment();
        }
    }
}
