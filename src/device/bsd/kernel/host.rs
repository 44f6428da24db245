//! What this host knows of the network, by `getifaddrs`, the routing socket and resolv.conf(5).
//!
//! Owns the answers of [`crate::device::host`]. Refuses to change anything: it only reads.

use super::platform::MESSAGES;
use super::sys::{self, InterfaceEntry};
use super::wait::carries;
use crate::device::Medium;
use crate::device::bsd::routing_message::{
    RouteMessage, messages, parse_address, parse_link_address, parse_route, prefix_length, route_question,
};
use crate::device::host::{HostInterface, HostResolver, HostRoute, no_address};
use crate::device::resolver_file::{RESOLVER_FILE, choose_resolvers, name_servers};
use crate::network::topology::{Cidr, Route, Via};
use std::io;
use std::net::IpAddr;

/// Longest answer of the routing socket.
const ANSWER_BYTES: usize = 4 << 10;
/// Messages of others that may come before our answer.
const MOST_FOREIGN_MESSAGES: usize = 1_000;

/// How the kernel would send to `destination`; `None` if that is the host itself.
pub(in crate::device) fn route_to(destination: IpAddr) -> io::Result<Option<HostRoute>> {
    let route = ask(destination)?;
    let interface = interface_by_index(route.index)?.ok_or_else(|| io::Error::other("the route's interface is gone"))?;
    let source = route.source.filter(|source| source.is_ipv4()).ok_or_else(|| no_address(&interface.name))?;
    let own = interface.addresses.iter().find(|own| own.address == source);
    if route.is_local() || source == destination || destination.is_loopback() {
        return Ok(None);
    }
    Ok(Some(HostRoute {
        index: route.index,
        source,
        gateway: route.gateway,
        prefix_length: own.map_or(32, |own| own.prefix_length),
        mtu: route.mtu.unwrap_or(interface.mtu).min(interface.mtu),
        medium: interface.medium,
        interface: interface.name,
    }))
}

/// Asks the kernel for one route.
fn ask(destination: IpAddr) -> io::Result<RouteMessage> {
    let IpAddr::V4(address) = destination else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "sharing an IPv6 address is not supported yet"));
    };
    const SEQUENCE: i32 = 1;
    let socket = sys::socket(libc::PF_ROUTE, libc::SOCK_RAW, libc::AF_INET)?;
    sys::set_nonblocking(&socket)?;
    sys::write(&socket, &route_question(MESSAGES, address, SEQUENCE)).map_err(|error| no_route(destination, &error))?;
    let process = std::process::id() as i32;
    let mut buffer = [0; ANSWER_BYTES];
    for _ in 0..MOST_FOREIGN_MESSAGES {
        let length = sys::read(&socket, &mut buffer)?;
        let routes = messages(buffer.get(..length).unwrap_or_default()).filter_map(|message| parse_route(MESSAGES, message));
        let ours = |route: &RouteMessage| route.sequence == SEQUENCE && route.process == process;
        match routes.into_iter().find(ours) {
            Some(route) if route.error != 0 => return Err(no_route(destination, &io::Error::from_raw_os_error(route.error))),
            Some(route) => return Ok(route),
            None => {}
        }
    }
    Err(io::Error::other("the routing socket gave no answer"))
}

fn no_route(destination: IpAddr, error: &io::Error) -> io::Error {
    let kind = match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENETUNREACH) => io::ErrorKind::NetworkUnreachable,
        Some(libc::EHOSTUNREACH) => io::ErrorKind::HostUnreachable,
        _ => error.kind(),
    };
    io::Error::new(kind, format!("the host has no route to {destination}: {error}"))
}

/// The interface of this name. An unknown one is named in the error.
pub(in crate::device) fn interface(name: &str) -> io::Result<HostInterface> {
    interface_by_name(name)
}

pub(super) fn interface_by_name(name: &str) -> io::Result<HostInterface> {
    let found = interfaces()?.into_iter().find(|interface| interface.name == name);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface named {name} (`ifconfig -l` lists them)")))
}

pub(super) fn interface_by_index(index: u32) -> io::Result<Option<HostInterface>> {
    Ok(interfaces()?.into_iter().find(|interface| interface.index == index))
}

fn interfaces() -> io::Result<Vec<HostInterface>> {
    let entries = sys::interface_entries()?;
    Ok(entries.iter().filter_map(|entry| interface_of(entry, &entries)).collect())
}

/// The interface that an entry of family `AF_LINK` describes.
fn interface_of(entry: &InterfaceEntry, all: &[InterfaceEntry]) -> Option<HostInterface> {
    let link = parse_link_address(&entry.address)?;
    let own = all.iter().filter(|other| other.name == entry.name);
    let address = |other: &InterfaceEntry| {
        let address = parse_address(MESSAGES, &other.address).filter(IpAddr::is_ipv4)?;
        Some(Cidr { address, prefix_length: prefix_length(&other.mask) })
    };
    Some(HostInterface {
        name: entry.name.clone(),
        index: link.index,
        mac: link.mac,
        mtu: entry.mtu? as usize,
        up: carries(entry.flags),
        addresses: own.filter_map(address).collect(),
        medium: link.mac.map_or(Medium::Ip, Medium::Ethernet),
    })
}

/// The host's IPv4 routes through an interface.
pub(in crate::device) fn routes_of(interface: &str) -> io::Result<Vec<Route>> {
    let index = interface_by_name(interface)?.index;
    let table = sys::route_table()?;
    let routes = messages(&table).filter_map(|message| parse_route(MESSAGES, message));
    Ok(routes.filter(|route| route.index == index && route.is_usable() && !route.is_local()).map(stack_route).collect())
}

fn stack_route(route: RouteMessage) -> Route {
    Route { destination: route.destination, via: route.gateway.map_or(Via::OnLink, Via::Gateway), metric: 0, source: route.source }
}

/// The resolvers that the host is configured with, in order. macOS keeps the file for those who read it.
pub(in crate::device) fn resolvers() -> io::Result<Vec<HostResolver>> {
    let text = std::fs::read_to_string(RESOLVER_FILE).map_err(|error| io::Error::new(error.kind(), format!("{RESOLVER_FILE}: {error}")))?;
    Ok(choose_resolvers(&name_servers(&text), &[]))
}

/// Our own rules come first: nothing else answers.
pub(in crate::device) fn shared_address_warning() -> Option<String> {
    None
}

/// Whether the host routes IPv4 packets. If that cannot be read, it is assumed not to.
pub(super) fn is_forwarding() -> bool {
    sys::kernel_number("net.inet.ip.forwarding") == Some(1)
}

/// The first and last port that the host's kernel chooses from for outgoing connections.
pub(in crate::device) fn ephemeral_ports() -> (u16, u16) {
    let port = |name: &str| sys::kernel_number(name).and_then(|number| u16::try_from(number).ok());
    let range = port("net.inet.ip.portrange.first").zip(port("net.inet.ip.portrange.last"));
    range.filter(|(first, last)| first < last).unwrap_or((49_152, 65_535))
}
