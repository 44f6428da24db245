//! What this host knows of the network, by the IP Helper API and the registry.
//!
//! Owns the answers of [`crate::device::host`]. Refuses to change anything: it only reads.

use super::adapters::{self, Adapter};
use super::stealth::{self, Profile};
use super::{ip_helper, sys};
use crate::device::Medium;
use crate::device::host::{HostInterface, HostResolver, HostRoute};
use crate::network::topology::Route;
use std::io;
use std::net::IpAddr;

/// Where the firewall has its settings, and where group policies override them.
const FIREWALL: &str = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy";
const FIREWALL_POLICY: &str = r"SOFTWARE\Policies\Microsoft\WindowsFirewall";
/// The firewall's profiles: our name, the settings', the policies'.
const PROFILES: [(&str, &str, &str); 3] = [
    ("domain", "DomainProfile", "DomainProfile"),
    ("private", "StandardProfile", "PrivateProfile"),
    ("public", "PublicProfile", "PublicProfile"),
];

/// The adapter of this name. An unknown one is named in the error, with those that there are.
pub(super) fn adapter(name: &str) -> io::Result<Adapter> {
    let all = ip_helper::adapters()?;
    let found = adapters::find(&all, name).cloned();
    found.ok_or_else(|| {
        let names = all.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
        io::Error::new(io::ErrorKind::NotFound, format!("there is no adapter named {name} (there are: {names})"))
    })
}

/// What the adapter carries. A kind that is neither frames nor packets is an error that names it.
pub(super) fn medium_of(adapter: &Adapter) -> io::Result<Medium> {
    adapter.medium().ok_or_else(|| {
        let text = format!("{} is neither Ethernet nor bare IP (interface type {})", adapter.name, adapter.kind);
        io::Error::new(io::ErrorKind::Unsupported, text)
    })
}

/// How the system would send to `destination`; `None` if that is the host itself.
pub(in crate::device) fn route_to(destination: IpAddr) -> io::Result<Option<HostRoute>> {
    let adapters = ip_helper::adapters()?;
    if adapters::is_own(&adapters, destination) {
        return Ok(None);
    }
    let choice = adapters::choose(&adapters, &ip_helper::forward_rows()?, destination)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NetworkUnreachable, format!("the host has no route to {destination}")))?;
    Ok(Some(HostRoute {
        interface: choice.adapter.name.clone(),
        index: choice.adapter.index,
        source: choice.source.address,
        gateway: choice.gateway,
        prefix_length: choice.source.prefix_length,
        mtu: choice.adapter.mtu,
        medium: medium_of(choice.adapter)?,
    }))
}

/// The adapter of this name.
pub(in crate::device) fn interface(name: &str) -> io::Result<HostInterface> {
    let adapter = adapter(name)?;
    Ok(HostInterface {
        index: adapter.index,
        mac: adapter.mac,
        mtu: adapter.mtu,
        up: adapter.up,
        medium: medium_of(&adapter)?,
        addresses: adapter.addresses,
        name: adapter.name,
    })
}

/// The system's IPv4 routes through an adapter.
pub(in crate::device) fn routes_of(name: &str) -> io::Result<Vec<Route>> {
    let adapter = adapter(name)?;
    Ok(ip_helper::forward_rows()?.iter().filter_map(|row| row.for_stack(&adapter)).collect())
}

/// The system's name servers.
pub(in crate::device) fn resolvers() -> io::Result<Vec<HostResolver>> {
    Ok(adapters::name_servers(&ip_helper::adapters()?))
}

/// Whether the firewall's stealth mode keeps the system silent.
pub(in crate::device) fn shared_address_warning() -> Option<String> {
    stealth::warning(&PROFILES.map(|(name, local, policy)| (name, profile(FIREWALL, local).under(profile(FIREWALL_POLICY, policy)))))
}

fn profile(place: &str, name: &str) -> Profile {
    let number = |value| sys::registry_number(&format!(r"{place}\{name}"), value);
    Profile { firewall: number("EnableFirewall"), stealth_disabled: number("DisableStealthMode") }
}

/// The first and last port that the system chooses from for outgoing connections, unless somebody changed that.
pub(in crate::device) fn ephemeral_ports() -> (u16, u16) {
    (49_152, 65_535)
}
