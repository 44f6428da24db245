//! What this host knows of the network, by netlink and the files of Linux.
//!
//! Owns the answers of [`crate::device::host`]. Refuses to change anything: it only reads. Answers are those of the calling thread's network namespace.

use super::firewall::rejecting_firewall;
use super::netlink::{self, Link};
use crate::device::Medium;
use crate::device::host::{HostInterface, HostResolver, HostRoute, no_address};
use crate::device::resolver_file::{RESOLVER_FILE, choose_resolvers, name_servers};
use crate::network::topology::{Cidr, Route, Via};
use crate::wire::MacAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Where systemd-resolved keeps those that it asks itself.
const UPSTREAM_RESOLVER_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// `ARPHRD_RAWIP`: modems.
const RAW_IP: u16 = 519;

/// How the kernel would send to `destination`, policy rules included; `None` if that is the host itself.
pub(in crate::device) fn route_to(destination: IpAddr) -> io::Result<Option<HostRoute>> {
    let route = netlink::route_to(destination).map_err(|error| no_route(destination, &error))?;
    if route.kind == libc::RTN_LOCAL {
        return Ok(None);
    }
    let link = netlink::link_by_index(route.index)?;
    let source = route.source.ok_or_else(|| no_address(&link.name))?;
    let own = netlink::addresses(route.index)?.into_iter().find(|own| own.address == source);
    Ok(Some(HostRoute {
        index: route.index,
        source,
        gateway: route.gateway,
        prefix_length: own.map_or(32, |own| own.prefix_length),
        mtu: route.mtu.unwrap_or(link.mtu).min(link.mtu),
        medium: medium_of(&link)?,
        interface: link.name,
    }))
}

/// The interface of this name. An unknown one is named in the error.
pub(in crate::device) fn interface(name: &str) -> io::Result<HostInterface> {
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

/// The host's IPv4 routes through an interface (main table).
pub(in crate::device) fn routes_of(interface: &str) -> io::Result<Vec<Route>> {
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
pub(in crate::device) fn resolvers() -> io::Result<Vec<HostResolver>> {
    let own = std::fs::read_to_string(RESOLVER_FILE).map_err(|error| io::Error::new(error.kind(), format!("{RESOLVER_FILE}: {error}")))?;
    let upstream = std::fs::read_to_string(UPSTREAM_RESOLVER_FILE).unwrap_or_default();
    Ok(choose_resolvers(&name_servers(&own), &name_servers(&upstream)))
}

/// A firewall that rejects comes before the guards.
pub(in crate::device) fn shared_address_warning() -> Option<String> {
    rejecting_firewall()
}

/// Whether the host routes IPv4 packets that arrive on this interface. If that cannot be read, it is assumed not to.
pub(super) fn is_forwarding(interface: &str) -> bool {
    let file = Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding");
    std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

/// The first and last port that the host's kernel chooses from for outgoing connections.
pub(in crate::device) fn ephemeral_ports() -> (u16, u16) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_is_refused_clearly() {
        let error = crate::device::host::route_to(Ipv4Addr::LOCALHOST.into()).unwrap_err().to_string();
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
    fn the_ephemeral_range_is_a_range() {
        let (first, last) = ephemeral_ports();
        assert!(first > 0 && first < last);
    }
}
