//! What Windows tells of its adapters and routes, in our own terms.
//!
//! Owns the choice of an adapter by name and of a route by destination, and the conversions of what the IP Helper API returns, so that all of it can be tested
//! anywhere. Refuses to ask the system: `ip_helper` does.

use crate::device::Medium;
use crate::device::host::HostResolver;
use crate::network::topology::{Cidr, Route, Via};
use crate::wire::MacAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `AF_INET`.
const IPV4: u16 = 2;
/// `AF_INET6`.
const IPV6: u16 = 23;
/// Where drivers for capturing have an adapter's device.
const DEVICE_PREFIX: &str = r"\Device\NPF_";

/// An adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its number.
    pub index: u32,
    /// Its GUID in braces: what the system calls it.
    pub guid: String,
    /// What the user calls it: `Ethernet`, `WLAN 2`.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<MacAddress>,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// Whether it is up.
    pub up: bool,
    /// `ifType` of RFC 2863.
    pub kind: u32,
    /// What it adds to the metric of its routes.
    pub metric: u32,
    /// The host's addresses on it.
    pub addresses: Vec<Cidr>,
    /// The name servers that it brings.
    pub name_servers: Vec<IpAddr>,
}

impl Adapter {
    /// Frames or bare packets, as far as the kind of the adapter tells (`None`: neither).
    pub fn medium(&self) -> Option<Medium> {
        match (self.kind, self.mac) {
            // ethernetCsmacd, ieee80211
            (6 | 71, Some(mac)) => Some(Medium::Ethernet(mac)),
            // ppp, propVirtual (WireGuard), wwanPP and wwanPP2, tunnel
            (23 | 53 | 131 | 243 | 244, _) => Some(Medium::Ip),
            _ => None,
        }
    }

    /// The name of its device, for `pcap_create`.
    pub fn device(&self) -> String {
        format!("{DEVICE_PREFIX}{}", self.guid)
    }

    fn is_called(&self, name: &str) -> bool {
        let guid = name.strip_prefix(DEVICE_PREFIX).unwrap_or(name);
        self.name.eq_ignore_ascii_case(name)
            || self.guid.eq_ignore_ascii_case(guid)
            || self.guid.trim_matches(['{', '}']).eq_ignore_ascii_case(guid)
    }

    /// The host's address for a neighbour: the one in whose network it is, else the first.
    fn source_for(&self, neighbour: IpAddr) -> Option<Cidr> {
        let of_family = || self.addresses.iter().filter(|own| own.address.is_ipv4() == neighbour.is_ipv4());
        of_family().find(|own| contains(own, neighbour)).or_else(|| of_family().next()).copied()
    }
}

/// The adapter that the user calls so, or whose GUID or device this is.
pub fn find<'a>(adapters: &'a [Adapter], name: &str) -> Option<&'a Adapter> {
    adapters.iter().find(|adapter| adapter.is_called(name))
}

/// A row of the system's routing table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ForwardRow {
    /// The adapter's number.
    pub interface: u32,
    /// Where it leads.
    pub destination: Cidr,
    /// Through whom; `None` if to neighbours.
    pub gateway: Option<IpAddr>,
    /// Lower wins; the adapter's is added to it.
    pub metric: u32,
}

impl ForwardRow {
    /// The same for a stack on `adapter`. Rows for the host itself, for groups and for broadcasts are the host's alone.
    pub fn for_stack(&self, adapter: &Adapter) -> Option<Route> {
        let IpAddr::V4(address) = self.destination.address else { return None };
        let is_own = self.destination.prefix_length == 32 && adapter.addresses.iter().any(|own| own.address == self.destination.address);
        let is_ours =
            self.interface == adapter.index && !is_own && !address.is_multicast() && !address.is_broadcast() && !address.is_loopback();
        is_ours.then(|| Route {
            destination: self.destination,
            via: self.gateway.map_or(Via::OnLink, Via::Gateway),
            metric: self.metric.saturating_add(adapter.metric),
            source: None,
        })
    }
}

/// How the system would send to one destination.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// The host's address for it.
    pub source: Cidr,
    /// The router.
    pub gateway: Option<IpAddr>,
}

/// The way to `destination`, as the system chooses it: the longest prefix, then the lowest sum of metrics.
pub fn choose<'a>(adapters: &'a [Adapter], rows: &[ForwardRow], destination: IpAddr) -> Option<Choice<'a>> {
    let usable = rows.iter().filter(|row| contains(&row.destination, destination)).filter_map(|row| {
        let adapter = adapters.iter().find(|adapter| adapter.index == row.interface && adapter.up)?;
        let source = adapter.source_for(row.gateway.unwrap_or(destination))?;
        Some((row, Choice { adapter, source, gateway: row.gateway }))
    });
    let cost = |row: &ForwardRow, choice: &Choice<'_>| {
        (128 - row.destination.prefix_length.min(128), u64::from(row.metric) + u64::from(choice.adapter.metric))
    };
    usable.min_by_key(|(row, choice)| cost(row, choice)).map(|(_, choice)| choice)
}

/// Whether the address is the host's own.
pub fn is_own(adapters: &[Adapter], address: IpAddr) -> bool {
    address.is_loopback() || adapters.iter().flat_map(|adapter| &adapter.addresses).any(|own| own.address == address)
}

/// The name servers of all adapters that are up, those of the preferred adapter first.
pub fn name_servers(adapters: &[Adapter]) -> Vec<HostResolver> {
    let mut up: Vec<_> = adapters.iter().filter(|adapter| adapter.up).collect();
    up.sort_by_key(|adapter| adapter.metric);
    let mut servers: Vec<HostResolver> = Vec::new();
    for address in up.into_iter().flat_map(|adapter| &adapter.name_servers).copied().filter(is_real_server) {
        let server = if address.is_loopback() { HostResolver::LocalOnly(address) } else { HostResolver::Reachable(address) };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// An adapter without servers is given three site-local ones that do not exist (fec0:0:0:ffff::1 to 3).
fn is_real_server(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(address) if address.segments()[0] & 0xffc0 == 0xfec0 || address.is_unicast_link_local())
}

fn contains(network: &Cidr, address: IpAddr) -> bool {
    let same = |one: u128, other: u128, bits: u32| {
        let rest = bits.saturating_sub(u32::from(network.prefix_length));
        one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    };
    match (network.address, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => same(network.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => same(network.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

/// The address in a `SOCKADDR_IN` or `SOCKADDR_IN6`; `None` if the bytes are cut off or of another family.
pub fn socket_address(bytes: &[u8]) -> Option<IpAddr> {
    match u16::from_ne_bytes(*bytes.first_chunk()?) {
        IPV4 => bytes.get(4..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        IPV6 => bytes.get(8..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn adapter(index: u32, name: &str, address: &str, metric: u32) -> Adapter {
        Adapter {
            index,
            guid: format!("{{0A0B0C0D-0000-0000-0000-00000000000{index}}}"),
            name: name.to_owned(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up: true,
            kind: 6,
            metric,
            addresses: vec![address.parse().unwrap()],
            name_servers: Vec::new(),
        }
    }

    fn row(interface: u32, destination: &str, gateway: Option<&str>, metric: u32) -> ForwardRow {
        ForwardRow { interface, destination: destination.parse().unwrap(), gateway: gateway.map(ip), metric }
    }

    #[test]
    fn an_adapter_has_several_names() {
        let adapters = [adapter(1, "Ethernet", "192.0.2.7/24", 25), adapter(2, "WLAN", "198.51.100.7/24", 50)];
        for name in
            ["wlan", "{0a0b0c0d-0000-0000-0000-000000000002}", "0A0B0C0D-0000-0000-0000-000000000002", adapters[1].device().as_str()]
        {
            assert_eq!(find(&adapters, name).map(|adapter| adapter.index), Some(2), "{name}");
        }
        assert_eq!(find(&adapters, "Ethernet 2"), None);
        assert_eq!(find(&adapters, ""), None);
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_win() {
        let mut adapters = [adapter(1, "Ethernet", "192.0.2.7/24", 25), adapter(2, "WLAN", "198.51.100.7/24", 50)];
        let rows = [
            row(1, "0.0.0.0/0", Some("192.0.2.1"), 100),
            row(2, "0.0.0.0/0", Some("198.51.100.1"), 0),
            row(1, "192.0.2.0/24", None, 256),
            row(2, "203.0.113.0/24", Some("198.51.100.9"), 999),
            row(9, "203.0.113.0/28", None, 0),
        ];
        let way = |adapters: &[Adapter], to: &str| {
            choose(adapters, &rows, ip(to))
                .map(|choice| (choice.adapter.index, choice.source.address.to_string(), choice.gateway.map(|ip| ip.to_string())))
        };
        assert_eq!(way(&adapters, "8.8.8.8"), Some((2, "198.51.100.7".into(), Some("198.51.100.1".into()))));
        assert_eq!(way(&adapters, "192.0.2.99"), Some((1, "192.0.2.7".into(), None)));
        assert_eq!(way(&adapters, "203.0.113.1"), Some((2, "198.51.100.7".into(), Some("198.51.100.9".into()))), "no adapter 9");
        assert_eq!(way(&adapters, "2001:db8::1"), None);
        adapters[1].up = false;
        assert_eq!(way(&adapters, "203.0.113.1"), Some((1, "192.0.2.7".into(), Some("192.0.2.1".into()))));
        assert!(is_own(&adapters, ip("198.51.100.7")) && is_own(&adapters, ip("127.0.0.9")) && !is_own(&adapters, ip("198.51.100.8")));
    }

    #[test]
    fn a_stack_gets_the_routes_that_lead_somewhere_else() {
        let ethernet = adapter(1, "Ethernet", "192.0.2.7/24", 25);
        let route = |row: ForwardRow| row.for_stack(&ethernet).map(|route| (route.via, route.metric));
        assert_eq!(route(row(1, "0.0.0.0/0", Some("192.0.2.1"), 10)), Some((Via::Gateway(ip("192.0.2.1")), 35)));
        assert_eq!(route(row(1, "192.0.2.0/24", None, u32::MAX)), Some((Via::OnLink, u32::MAX)));
        for other in ["192.0.2.7/32", "255.255.255.255/32", "224.0.0.0/4", "127.0.0.0/8", "::/0"] {
            assert_eq!(route(row(1, other, None, 0)), None, "{other}");
        }
        assert_eq!(route(row(2, "0.0.0.0/0", None, 0)), None);
    }

    #[test]
    fn servers_come_in_order_and_once() {
        let mut adapters =
            [adapter(1, "Ethernet", "192.0.2.7/24", 50), adapter(2, "WLAN", "198.51.100.7/24", 25), adapter(3, "Off", "203.0.113.7/24", 1)];
        adapters[0].name_servers = ["192.0.2.53", "fec0:0:0:ffff::1", "127.0.0.1"].map(ip).into();
        adapters[1].name_servers = ["198.51.100.53", "192.0.2.53"].map(ip).into();
        (adapters[2].up, adapters[2].name_servers) = (false, vec![ip("203.0.113.53")]);
        let expected = [
            HostResolver::Reachable(ip("198.51.100.53")),
            HostResolver::Reachable(ip("192.0.2.53")),
            HostResolver::LocalOnly(ip("127.0.0.1")),
        ];
        assert_eq!(name_servers(&adapters), expected);
    }

    #[test]
    fn kinds_of_adapters_carry_frames_packets_or_neither() {
        let mut ethernet = adapter(1, "Ethernet", "192.0.2.7/24", 0);
        assert!(matches!(ethernet.medium(), Some(Medium::Ethernet(_))));
        ethernet.mac = None;
        assert_eq!(ethernet.medium(), None);
        ethernet.kind = 53;
        assert_eq!(ethernet.medium(), Some(Medium::Ip));
        ethernet.kind = 24;
        assert_eq!(ethernet.medium(), None);
    }

    #[test]
    fn socket_addresses_are_read_and_cuts_refused() {
        let four = [&2_u16.to_ne_bytes()[..], &[0x1f, 0x90, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(socket_address(&four), Some(ip("192.0.2.7")));
        let six = [&23_u16.to_ne_bytes()[..], &[0; 6], &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 4]].concat();
        assert_eq!(socket_address(&six), Some(ip("2001:db8::1")));
        assert!((0..8).all(|length| socket_address(&four[..length]).is_none()));
        assert!((0..24).all(|length| socket_address(&six[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32), family in 0_u16..30, prefix_length: u8) {
            let mut bytes = bytes;
            if let Some(field) = bytes.first_chunk_mut() {
                *field = family.to_ne_bytes();
            }
            if let Some(address) = socket_address(&bytes) {
                let network = Cidr { address, prefix_length };
                prop_assert!(contains(&network, address));
                let row = ForwardRow { interface: 1, destination: network, gateway: None, metric: u32::MAX };
                let adapters = [adapter(1, "Ethernet", "192.0.2.7/24", u32::MAX)];
                let _ = (row.for_stack(&adapters[0]), choose(&adapters, &[row], address));
            }
        }
    }
}
