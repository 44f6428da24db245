//! What the stack is attached to: an interface, a TAP or TUN, with an address of its own or the host's.

use super::options::{NetworkOptions, Switch};
use super::{StartFailure, tell};
use hopline::device::host::{self, HostResolver};
use hopline::device::interface::{self, InterfaceDevice};
use hopline::device::shared_address::SharedAddress;
use hopline::device::{Device, Medium};
use hopline::network::topology::Cidr;
use hopline::random::SecretRandom;
use hopline::socket::StackBuilder;
use std::io;
use std::net::IpAddr;

/// The host's name servers, and what there is to say about them. Those on the host's loopback are asked through the host's own sockets.
pub(super) fn name_servers() -> (Vec<IpAddr>, Vec<String>) {
    let mut notes = Vec::new();
    let addresses = host::resolvers().unwrap_or_default().iter().map(|resolver| reachable(resolver, &mut notes)).collect();
    (addresses, notes)
}

fn reachable(resolver: &HostResolver, notes: &mut Vec<String>) -> IpAddr {
    match *resolver {
        HostResolver::Reachable(address) => address,
        HostResolver::LocalOnly(address) => {
            notes.push(format!("{address} is on this host, out of reach for frames: names are asked there through a socket of the host's"));
            address
        }
    }
}

/// Gives the builder its addresses; the device is for [`record`] to add.
pub(super) fn attach(
    program: &str,
    builder: StackBuilder,
    options: &NetworkOptions,
    hint: Option<IpAddr>,
) -> Result<(StackBuilder, Box<dyn Device>), StartFailure> {
    let Some(address) = options.address else { return attach_shared(program, builder, options, hint) };
    let builder = options.gateway.into_iter().fold(builder.address(address), StackBuilder::gateway);
    let offload = options.offload == Switch::On;
    let device: Box<dyn Device> = match (&options.tap, &options.tun) {
        (Some(name), _) => interface::tap(name, offload, options.mac)?,
        (_, Some(name)) => interface::tun(name, offload)?,
        _ => Box::new(own_interface(options, address)?),
    };
    Ok((builder, device))
}

/// An address of our own on an interface of the host's, under a station address of our own.
fn own_interface(options: &NetworkOptions, address: Cidr) -> Result<InterfaceDevice, StartFailure> {
    let Some(interface) = &options.interface else {
        return Err(StartFailure(format!("--address {address} needs --interface NAME, --tap NAME or --tun NAME")));
    };
    let device = InterfaceDevice::open(interface)?.offload(options.offload == Switch::On);
    match (options.mac, device.properties().medium) {
        (Some(mac), _) => Ok(device.mac(mac)?),
        // A bare-IP interface (tun, wg, ppp) has no MACs.
        (None, Medium::Ip) => Ok(device),
        (None, Medium::Ethernet(_)) => Ok(device.mac(hopline::device::local_mac(&mut SecretRandom::from_os()?))?),
    }
}

/// The host's own address, on the interface that leads to where the program is going.
fn attach_shared(
    program: &str,
    builder: StackBuilder,
    options: &NetworkOptions,
    hint: Option<IpAddr>,
) -> Result<(StackBuilder, Box<dyn Device>), StartFailure> {
    let SharedAddress { device, ports, topology, .. } = shared_address(options, hint)?;
    if let Some(warning) = host::shared_address_warning() {
        tell(format_args!("{program}: warning: {warning}"));
    }
    let builder = topology.addresses.into_iter().fold(builder, StackBuilder::address);
    let builder = topology.routes.into_iter().fold(builder, StackBuilder::route);
    let mtu = options.mtu.map_or(topology.mtu, |mtu| topology.mtu.min(mtu.into()));
    Ok((builder.mode(topology.mode).mtu(mtu).ports(ports), Box::new(device)))
}

/// By the interface named, else by the route to the target, else by the default route, else by the route to a name server.
fn shared_address(options: &NetworkOptions, hint: Option<IpAddr>) -> Result<SharedAddress, StartFailure> {
    let offload = options.offload == Switch::On;
    let found = match (&options.interface, hint) {
        (Some(name), _) => SharedAddress::on_interface(name, offload),
        (None, Some(target)) => SharedAddress::towards(target, offload),
        (None, None) => SharedAddress::on_default_route(offload).or_else(|error| match options.dns.first() {
            Some(&server) if error.kind() == io::ErrorKind::NetworkUnreachable => SharedAddress::towards(server, offload),
            _ => Err(error),
        }),
    };
    Ok(found?)
}
