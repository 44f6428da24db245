//! What the host knows of the network: interfaces, routes, gateways, resolvers.
//!
//! Owns the questions that a stack beside the kernel has to ask before it starts. Refuses to change anything: it only reads. Answers are those of
//! the calling thread's network namespace.

use super::Medium;
use super::linux::netlink::{self, Link};
use crate::network::topology::{Cidr, Route, Via};
use crate::wire::MacAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

pub use super::linux::firewall::rejecting_firewall;

/// Where the host's programs find their resolvers.
const RESOLVER_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps those that it asks itself.
const UPSTREAM_RESOLVER_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// `ARPHRD_RAWIP`: modems.
const RAW_IP: u16 = 519;

/// How the host sends to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// The interface's name.
    pub interface: String,
    /// The interface's number.
    pub index: u32,
    /// The host's address for it.
    pub source: IpAddr,
    /// The router; `None` if the destination is a neighbour, or the interface leads to one peer alone.
    pub gateway: Option<IpAddr>,
    /// Bits of the source address's network prefix.
    pub prefix_length: u8,
    /// Bytes of the largest IP packet: the route's or the interface's.
    pub mtu: usize,
    /// What the interface carries.
    pub medium: Medium,
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its MAC address, if it has one.
    pub mac: Option<MacAddress>,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// The host's addresses on it.
    pub addresses: Vec<Cidr>,
    /// What it carries.
    pub medium: Medium,
}

/// A resolver from the host's configuration.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HostResolver {
    /// Frames reach it.
    Reachable(IpAddr),
    /// It lives on the host's loopback (dnsmasq, a container's 127.0.0.11, systemd-resolved without upstream servers): only the host's own sockets reach
    /// it.
    LocalOnly(IpAddr),
}

/// How the host would send to `destination`, policy rules and VPNs included. A destination that is the host itself is an error: frames to it
/// never leave the kernel.
pub fn route_to(destination: IpAddr) -> io::Result<HostRoute> {
    let route = netlink::route_to(destination).map_err(|error| no_route(destination, &error))?;
    if route.kind == libc::RTN_LOCAL {
        let text = format!("{destination} is this host itself: a stack that shares the host's address cannot reach it; use an own address");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    let link = netlink::link_by_index(route.index)?;
    let source = route.source.ok_or_else(|| no_address(&link.name))?;
    let own = netlink::addresses(route.index)?.into_iter().find(|own| own.address == source);
    Ok(HostRoute {
        index: route.index,
        source,
        gateway: route.gateway,
        prefix_length: own.map_or(32, |own| own.prefix_length),
        mtu: route.mtu.unwrap_or(link.mtu).min(link.mtu),
        medium: medium_of(&link)?,
        interface: link.name,
    })
}

/// The interface of this name. An unknown one is named in the error.
pub fn interface(name: &str) -> io::Result<HostInterface> {
    let link = netlink::link_by_name(name).map_err(|error| interface_error(name, error))?;
    Ok(HostInterface {
        index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        up: link.carries(),
        addresses: netlink::addresses(link.index)?,
        medium: medium_of(&link)?,
        name: link.name,
    })
}

/// The host's default gateway on an interface, for IPv4.
pub fn default_gateway(interface: &str) -> io::Result<Option<IpAddr>> {
    let routes = routes_of(interface)?;
    let default = routes.iter().find(|route| route.destination.prefix_length == 0);
    Ok(default.and_then(|route| match route.via {
        Via::Gateway(gateway) => Some(gateway),
        _ => None,
    }))
}

/// The host's IPv4 routes through an interface (main table).
pub fn routes_of(interface: &str) -> io::Result<Vec<Route>> {
    let link = netlink::link_by_name(interface).map_err(|error| interface_error(interface, error))?;
    let unicast = |route: &netlink::Route| route.index == link.index && route.kind == libc::RTN_UNICAST;
    Ok(netlink::routes()?.into_iter().filter(unicast).map(|route| stack_route(&route)).collect())
}

fn stack_route(route: &netlink::Route) -> Route {
    Route {
        destination: Cidr { address: route.destination.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), prefix_length: route.prefix_length },
        via: route.gateway.map_or(Via::OnLink, Via::Gateway),
        metric: route.metric,
        source: route.source,
    }
}

/// The resolvers that the host is configured with, in order.
pub fn resolvers() -> io::Result<Vec<HostResolver>> {
    let own = std::fs::read_to_string(RESOLVER_FILE).map_err(|error| io::Error::new(error.kind(), format!("{RESOLVER_FILE}: {error}")))?;
    let upstream = std::fs::read_to_string(UPSTREAM_RESOLVER_FILE).unwrap_or_default();
    Ok(choose_resolvers(&name_servers(&own), &name_servers(&upstream)))
}

/// systemd-resolved's stub at 127.0.0.53 stands for the servers that it asks; any other loopback address only for itself.
fn choose_resolvers(own: &[IpAddr], upstream: &[IpAddr]) -> Vec<HostResolver> {
    let is_stub = |address: &IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[..3] == [127, 0, 0] && matches!(address.octets()[3], 53 | 54));
    let mut chosen = Vec::new();
    for address in own {
        if is_stub(address) && !upstream.is_empty() {
            chosen.extend(upstream.iter().map(|&address| resolver(address)));
        } else {
            chosen.push(resolver(*address));
        }
    }
    chosen
}

fn resolver(address: IpAddr) -> HostResolver {
    if address.is_loopback() { HostResolver::LocalOnly(address) } else { HostResolver::Reachable(address) }
}

/// The `nameserver` lines of a resolv.conf(5). Addresses with a zone are left out.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter_map(|fields| if let ["nameserver", address, ..] = fields[..] { address.parse().ok() } else { None }).collect()
}

/// Whether the host routes IPv4 packets that arrive on this interface. If that cannot be read, it is assumed not to.
pub fn is_forwarding(interface: &str) -> bool {
    let file = Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding");
    std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

/// The first and last port that the host's kernel chooses from for outgoing connections.
pub(super) fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).filter(|(first, last)| first < last).unwrap_or((32_768, 60_999))
}

/// Frames or bare packets. A kind of interface that is neither is an error that names it.
pub(super) fn medium_of(link: &Link) -> io::Result<Medium> {
    match link.hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(Medium::Ethernet(link.mac.unwrap_or(MacAddress::ZERO))),
        libc::ARPHRD_NONE | libc::ARPHRD_PPP | libc::ARPHRD_TUNNEL | RAW_IP => Ok(Medium::Ip),
        other => {
            let text = format!("{} is neither Ethernet nor bare IP (hardware type {other})", link.name);
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

pub(super) fn interface_error(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::EINVAL | libc::ERANGE) => {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no interface named {name} (`ip link` lists them)"))
        }
        _ => io::Error::new(error.kind(), format!("interface {name}: {error}")),
    }
}

fn no_route(destination: IpAddr, error: &io::Error) -> io::Error {
    let kind = match error.raw_os_error() {
        Some(libc::ENETUNREACH) => io::ErrorKind::NetworkUnreachable,
        Some(libc::EHOSTUNREACH) => io::ErrorKind::HostUnreachable,
        _ => error.kind(),
    };
    io::Error::new(kind, format!("the host has no route to {destination}: {error}"))
}

pub(super) fn no_address(interface: &str) -> io::Error {
    let text = format!("{interface} has no IPv4 address to share: give the stack one with --address");
    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_host_itself_is_refused_clearly() {
        let error = route_to(Ipv4Addr::LOCALHOST.into()).unwrap_err().to_string();
        assert!(error.contains("this host itself"), "{error}");
    }

    #[test]
    fn an_unknown_interface_is_named() {
        for name in ["no-such-if", "a-name-that-is-longer-than-any-interface-may-have"] {
            let error = interface(name).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn resolver_files_are_read() {
        let text = "# comment\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53 \nsearch example\nnameserver fe80::1%eth0\nnameserver\n";
        assert_eq!(name_servers(text), [ip("192.0.2.53"), ip("2001:db8::53")]);
    }

    #[test]
    fn local_resolvers_stand_for_others_or_are_reported() {
        use HostResolver::{LocalOnly, Reachable};
        let stub = ip("127.0.0.53");
        assert_eq!(choose_resolvers(&[stub], &[ip("192.0.2.1")]), [Reachable(ip("192.0.2.1"))]);
        assert_eq!(choose_resolvers(&[stub], &[]), [LocalOnly(stub)]);
        let docker = ip("127.0.0.11");
        assert_eq!(choose_resolvers(&[docker, ip("192.0.2.2")], &[ip("192.0.2.1")]), [LocalOnly(docker), Reachable(ip("192.0.2.2"))]);
    }

    #[test]
    fn the_ephemeral_range_is_a_range() {
        let (first, last) = ephemeral_ports();
        assert!(first > 0 && first < last);
    }
}
