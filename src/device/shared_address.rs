//! Shared-address mode: a stack that uses the host's own address, with nothing to configure.
//!
//! Owns putting its parts together: the route's interface, a device on it with a filter for our ports, the port guards, and what the stack has to know
//! as its topology. Refuses IPv6 for now. Read [`port_guard`](super::port_guard) first: why this works at all.

use super::filter::Filter;
use super::host::{self, HostRoute};
use super::interface::InterfaceDevice;
use super::port_guard::SharedPorts;
use super::{Device, Medium};
use crate::network::topology::{AddressMode, Cidr, Route, Topology, Via};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// An address like any other, for which the host's default route holds.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// The parts of a stack on the host's address.
pub struct SharedAddress {
    /// The interface's frames, filtered to what is ours.
    pub device: InterfaceDevice,
    /// Hands out guarded ports. Must live until every connection is closed or reset: the last guard that goes gives the port back to the host.
    pub ports: Arc<SharedPorts>,
    /// The host's address, its routes through the interface, and the MTU.
    pub topology: Topology,
    /// The interface's name.
    pub interface: String,
}

impl SharedAddress {
    /// On the interface that the host would use towards `destination`, policy rules and VPNs included.
    pub fn towards(destination: IpAddr, offload: bool) -> io::Result<SharedAddress> {
        SharedAddress::on_route(host::route_to(destination)?, offload)
    }

    /// On the interface of the host's default route.
    pub fn on_default_route(offload: bool) -> io::Result<SharedAddress> {
        let route = host::route_to(ANYWHERE).map_err(|error| {
            io::Error::new(
                error.kind(),
                "the host has no default route: name an interface (--interface NAME) and an address (--address CIDR)",
            )
        })?;
        SharedAddress::on_route(route, offload)
    }

    /// On the named interface, with its first IPv4 address.
    pub fn on_interface(name: &str, offload: bool) -> io::Result<SharedAddress> {
        let interface = host::interface(name)?;
        let own = interface.addresses.iter().find(|own| own.address.is_ipv4()).ok_or_else(|| host::no_address(name))?;
        let route = HostRoute {
            index: interface.index,
            source: own.address,
            gateway: host::default_gateway(name)?,
            prefix_length: own.prefix_length,
            mtu: interface.mtu,
            medium: interface.medium,
            interface: interface.name,
        };
        SharedAddress::on_route(route, offload)
    }

    fn on_route(route: HostRoute, offload: bool) -> io::Result<SharedAddress> {
        let IpAddr::V4(address) = route.source else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "sharing an IPv6 address is not supported yet"));
        };
        let device = InterfaceDevice::open(&route.interface)?.offload(offload).watch_address(route.source).filter(&Filter::drop_all())?;
        let ports = SharedPorts::new(address, route.medium, device.filter_handle())?;
        let topology = topology_of(&route, &device)?;
        Ok(SharedAddress { device, ports, topology, interface: route.interface })
    }
}

fn topology_of(route: &HostRoute, device: &InterfaceDevice) -> io::Result<Topology> {
    let own = Cidr { address: route.source, prefix_length: route.prefix_length };
    let mut routes = host::routes_of(&route.interface)?;
    routes.push(fallback(route));
    let properties = device.properties();
    Ok(Topology {
        addresses: vec![own],
        routes,
        mtu: route.mtu,
        medium: properties.medium,
        offload: properties.offload,
        mode: AddressMode::Shared,
    })
}

/// What the main table does not say (policy rules), the route that was asked for does: everything goes the same way.
fn fallback(route: &HostRoute) -> Route {
    let destination = Cidr { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_length: 0 };
    let via = match route.gateway {
        Some(gateway) => Via::Gateway(gateway),
        None if route.medium == Medium::Ip => Via::OnLink,
        // On Ethernet only the own network is without a router.
        None => Via::Blackhole,
    };
    Route { destination, via, metric: u32::MAX, source: Some(route.source) }
}
