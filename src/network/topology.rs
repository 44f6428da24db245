//! Addresses and routes: plain values, replaced as a whole when anything changes.
//!
//! Owned by the network layer; the transport layer holds the same `Arc` to choose source addresses and segment sizes. Longest prefix first,
//! then lowest metric.

use crate::device::{DeviceOffload, Medium};
use crate::link::Cast;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// An address with the length of its network prefix: `192.0.2.7/24`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address; for a route, host bits are ignored.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix_length: u8,
}

/// One route.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: Cidr,
    /// Through whom.
    pub via: Via,
    /// Lower wins among equal prefixes.
    pub metric: u32,
    /// The address to send from, where the route says so.
    pub source: Option<IpAddr>,
}

/// How a route delivers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// The destination is a neighbour.
    OnLink,
    /// A router.
    Gateway(IpAddr),
    /// Nowhere: packets are dropped as unreachable.
    Blackhole,
}

/// A route found for one destination.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Our address for it.
    pub source: IpAddr,
    /// The neighbour that gets the packet.
    pub next_hop: IpAddr,
    /// Unicast, or what kind of group the destination is.
    pub cast: Cast,
}

/// Whose address it is (see the crate's documentation on address modes).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum AddressMode {
    /// Ours alone: we answer ARP, echo requests, and closed ports.
    #[default]
    Own,
    /// The host's as well: we are silent about whatever is not ours.
    Shared,
}

/// Everything about addresses, routes and the link that layers need to know.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Our addresses; the first one of a family is preferred.
    pub addresses: Vec<Cidr>,
    /// Routes in any order; each address's own prefix is an on-link route by itself.
    pub routes: Vec<Route>,
    /// Bytes of the largest IP packet on the link.
    pub mtu: usize,
    /// Frames or bare packets.
    pub medium: Medium,
    /// What the device does for senders.
    pub offload: DeviceOffload,
    /// Own or shared addresses.
    pub mode: AddressMode,
}

impl Topology {
    /// Whether `address` is one of ours, or loopback within the stack.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }

    /// How a packet to `destination` is addressed, as seen from our networks: RFC 1122 §3.3.6 for the forms of IPv4 broadcast.
    pub fn cast_of(&self, destination: IpAddr) -> Cast {
        match destination {
            _ if destination.is_multicast() => Cast::Multicast,
            IpAddr::V4(Ipv4Addr::BROADCAST) => Cast::Broadcast,
            IpAddr::V4(_) if self.addresses.iter().any(|own| own.broadcast() == Some(destination)) => Cast::Broadcast,
            _ => Cast::Unicast,
        }
    }

    /// Our address, next hop and kind of address for packets to `destination`; `None` without a route.
    pub fn resolve(&self, destination: IpAddr) -> Option<Resolved> {
        let cast = self.cast_of(destination);
        if cast != Cast::Unicast {
            let source = self.source_for(destination).or_else(|| unspecified_source(destination))?;
            return Some(Resolved { source, next_hop: destination, cast });
        }
        // Backwards, because the last of equals wins: the first address of a network is preferred.
        let on_link = self.addresses.iter().rev().filter(|own| own.contains(destination)).max_by_key(|own| own.prefix_length);
        let route = self.best_route(destination);
        match (on_link, route) {
            (Some(own), route) if route.is_none_or(|route| route.destination.prefix_length <= own.prefix_length) => {
                Some(Resolved { source: own.address, next_hop: destination, cast })
            }
            (_, Some(route)) => self.resolve_by(route, destination),
            _ => None,
        }
    }

    fn resolve_by(&self, route: &Route, destination: IpAddr) -> Option<Resolved> {
        let next_hop = match route.via {
            Via::OnLink => destination,
            Via::Gateway(gateway) => gateway,
            Via::Blackhole => return None,
        };
        let source = route.source.or_else(|| self.source_for(next_hop))?;
        Some(Resolved { source, next_hop, cast: Cast::Unicast })
    }

    fn best_route(&self, destination: IpAddr) -> Option<&Route> {
        let matching = self.routes.iter().filter(|route| route.destination.contains(destination));
        matching.min_by_key(|route| (std::cmp::Reverse(route.destination.prefix_length), route.metric))
    }

    /// The address of ours that shares a prefix with `neighbour`, else the first of its family (RFC 6724 rule 8, in short).
    fn source_for(&self, neighbour: IpAddr) -> Option<IpAddr> {
        let same_family = || self.addresses.iter().filter(|own| own.address.is_ipv4() == neighbour.is_ipv4());
        same_family().find(|own| own.contains(neighbour)).or_else(|| same_family().next()).map(|own| own.address)
    }
}

/// A packet to a group may be sent before there is an address: DHCP does (RFC 2131 §4.1).
fn unspecified_source(destination: IpAddr) -> Option<IpAddr> {
    destination.is_ipv4().then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

impl Cidr {
    /// An address in a network of this prefix length; `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix_length: u8) -> Option<Cidr> {
        (u32::from(prefix_length) <= bits(address)).then_some(Cidr { address, prefix_length })
    }

    /// Whether `address` lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same_prefix(own.to_bits().into(), other.to_bits().into(), 32, self.prefix_length),
            (IpAddr::V6(own), IpAddr::V6(other)) => same_prefix(own.to_bits(), other.to_bits(), 128, self.prefix_length),
            _ => false,
        }
    }

    /// The directed broadcast address of an IPv4 network that has one (RFC 3021: /31 and /32 have none).
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(own) if self.prefix_length < 31 => {
                let host_bits = u32::MAX.checked_shr(self.prefix_length.into()).unwrap_or(0);
                Some(IpAddr::V4(Ipv4Addr::from_bits(own.to_bits() | host_bits)))
            }
            _ => None,
        }
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn same_prefix(own: u128, other: u128, width: u32, prefix_length: u8) -> bool {
    let host_bits = width.saturating_sub(prefix_length.into());
    (own ^ other).checked_shr(host_bits).unwrap_or(0) == 0
}

/// Why a text is not an address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCidr(String);

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an address with a prefix length such as 192.0.2.7/24", self.0)
    }
}

impl std::error::Error for InvalidCidr {}

impl FromStr for Cidr {
    type Err = InvalidCidr;
    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, length.parse().ok()?)
        };
        parse().ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(addresses: &[&str], routes: &[(&str, Via)]) -> Topology {
        let route = |&(to, via): &(&str, Via)| Route { destination: to.parse().unwrap(), via, metric: 0, source: None };
        Topology {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            routes: routes.iter().map(route).collect(),
            mtu: 1500,
            medium: Medium::Ip,
            offload: DeviceOffload::default(),
            mode: AddressMode::Own,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let gateway = Via::Gateway(ip("192.0.2.1"));
        let net = topology(&["192.0.2.7/24"], &[("0.0.0.0/0", gateway), ("198.51.100.0/24", Via::Blackhole)]);
        assert_eq!(net.resolve(ip("192.0.2.9")).unwrap().next_hop, ip("192.0.2.9"));
        assert_eq!(net.resolve(ip("203.0.113.1")).unwrap().next_hop, ip("192.0.2.1"));
        assert_eq!(net.resolve(ip("198.51.100.1")), None);
        assert_eq!(net.resolve(ip("2001:db8::1")), None);
    }

    #[test]
    fn a_host_route_beats_the_interface_prefix() {
        let net = topology(&["192.0.2.7/24"], &[("192.0.2.9/32", Via::Gateway(ip("192.0.2.2")))]);
        assert_eq!(net.resolve(ip("192.0.2.9")).unwrap().next_hop, ip("192.0.2.2"));
    }

    #[test]
    fn broadcast_and_multicast_are_their_own_next_hop() {
        let net = topology(&["192.0.2.7/24"], &[]);
        assert_eq!(net.cast_of(ip("192.0.2.255")), Cast::Broadcast);
        assert_eq!(net.cast_of(ip("255.255.255.255")), Cast::Broadcast);
        assert_eq!(net.resolve(ip("224.0.0.251")).unwrap().cast, Cast::Multicast);
    }

    #[test]
    fn the_source_shares_the_next_hops_prefix() {
        let net = topology(&["198.51.100.7/24", "192.0.2.7/24"], &[("0.0.0.0/0", Via::Gateway(ip("192.0.2.1")))]);
        assert_eq!(net.resolve(ip("203.0.113.1")).unwrap().source, ip("192.0.2.7"));
    }

    #[test]
    fn cidrs_parse_strictly() {
        assert!("192.0.2.7/33".parse::<Cidr>().is_err() && "192.0.2.7".parse::<Cidr>().is_err() && "x/8".parse::<Cidr>().is_err());
        assert_eq!("192.0.2.7/24".parse::<Cidr>().unwrap().to_string(), "192.0.2.7/24");
        assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().broadcast(), Some(ip("255.255.255.255")));
    }
}
