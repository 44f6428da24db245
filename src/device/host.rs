//! What the host knows of the network: interfaces, routes, gateways, resolvers.
//!
//! Owns the questions that a stack beside the kernel has to ask before it starts; each system answers them in a `host` module of its own. Refuses to
//! change anything: it only reads. On Linux the answers are those of the calling thread's network namespace.

use super::{Medium, system};
use crate::network::topology::{Cidr, Route, Via};
use crate::wire::MacAddress;
use std::io;
use std::net::IpAddr;

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
    system::host::route_to(destination)?.ok_or_else(|| {
        let text = format!("{destination} is this host itself: a stack that shares the host's address cannot reach it; use an own address");
        io::Error::new(io::ErrorKind::AddrNotAvailable, text)
    })
}

/// The interface of this name. An unknown one is named in the error.
pub fn interface(name: &str) -> io::Result<HostInterface> {
    system::host::interface(name)
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
    system::host::routes_of(interface)
}

/// The resolvers that the host is configured with, in order.
pub fn resolvers() -> io::Result<Vec<HostResolver>> {
    system::host::resolvers()
}

/// One line about what on this host would answer our peers in our name when we share its address, and what to do about it; `None` if nothing was found.
pub fn shared_address_warning() -> Option<String> {
    system::host::shared_address_warning()
}

pub(super) fn no_address(interface: &str) -> io::Error {
    let text = format!("{interface} has no IPv4 address to share: give the stack one with --address");
    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
}
