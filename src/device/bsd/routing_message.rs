//! Messages of the routing socket and of the routing sysctls (route(4)): which route, which interface changed, which address went.
//!
//! Owns their parsing, for the layouts of macOS and FreeBSD, so that it can be tested anywhere. Refuses system calls, and policy. Bytes of the kernel's are
//! read as carefully as a peer's.

use crate::network::topology::Cidr;
use crate::wire::MacAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a system lays its messages out. Numbers are in host order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MessageLayout {
    /// Bytes of `rt_msghdr`.
    pub route_header: usize,
    /// Where in it `rmx_mtu` is.
    pub mtu_offset: usize,
    /// Whether that is a 64-bit number.
    pub is_mtu_long: bool,
    /// What each address is padded to.
    pub alignment: usize,
    /// `AF_INET6`.
    pub inet6: u8,
    /// Bytes of `sockaddr_dl`.
    pub link_address: u8,
}

impl MessageLayout {
    /// macOS.
    pub const MACOS: MessageLayout =
        MessageLayout { route_header: 92, mtu_offset: 40, is_mtu_long: false, alignment: 4, inet6: 30, link_address: 20 };
    /// FreeBSD on 64-bit machines.
    pub const FREEBSD: MessageLayout =
        MessageLayout { route_header: 152, mtu_offset: 48, is_mtu_long: true, alignment: 8, inet6: 28, link_address: 54 };
}

/// `RTM_VERSION`, the same for both systems.
pub const VERSION: u8 = 5;
/// `AF_INET`, the same for both systems.
const INET: u8 = 2;
/// `AF_LINK`, the same for both systems.
const LINK: u8 = 18;

// Kinds of messages that both systems have in common.
const GET: u8 = 0x4;
const DELADDR: u8 = 0xd;
const IFINFO: u8 = 0xe;
const IFANNOUNCE: u8 = 0x11;
/// `IFAN_DEPARTURE`.
const DEPARTURE: u16 = 1;

// Flags of routes.
const RTF_GATEWAY: u32 = 0x2;
const RTF_REJECT: u32 = 0x8;
const RTF_BLACKHOLE: u32 = 0x1000;
/// macOS: learned, or for one interface only.
const RTF_WASCLONED: u32 = 0x20000;
const RTF_LOCAL: u32 = 0x20_0000;

// Places in the list of addresses, in order.
const DESTINATION: usize = 0;
const GATEWAY: usize = 1;
const NETMASK: usize = 2;
const INTERFACE: usize = 4;
const INTERFACE_ADDRESS: usize = 5;
const MOST_ADDRESSES: usize = 8;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMessage {
    /// The interface's number.
    pub index: u32,
    /// `RTF_…`.
    pub flags: u32,
    /// Where it leads; a default route's prefix has no bits.
    pub destination: Cidr,
    /// The router, if it leads through one.
    pub gateway: Option<IpAddr>,
    /// The host's address for it.
    pub source: Option<IpAddr>,
    /// Bytes of the largest packet, if the route says so.
    pub mtu: Option<usize>,
    /// The asker's number, if this is an answer.
    pub sequence: i32,
    /// The asker's process.
    pub process: i32,
    /// `errno` of a refused question.
    pub error: i32,
}

impl RouteMessage {
    /// Whether packets go on by it: it refuses nothing and is no copy for one destination.
    pub fn is_usable(&self) -> bool {
        self.flags & (RTF_REJECT | RTF_BLACKHOLE | RTF_WASCLONED) == 0
    }

    /// Whether it leads to the host itself.
    pub fn is_local(&self) -> bool {
        self.flags & RTF_LOCAL != 0
    }
}

/// What a monitor hears of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceNews {
    /// The interface's flags (`IFF_…`), as they are now.
    Flags {
        /// The interface's number.
        index: u32,
        /// Its flags.
        flags: u32,
    },
    /// It is gone.
    Gone {
        /// The interface's number.
        index: u32,
    },
    /// It lost an address.
    AddressLost {
        /// The interface's number.
        index: u32,
        /// The address.
        address: IpAddr,
    },
}

/// The messages in a buffer, each with its own length at its front. One that cannot be true ends the buffer.
pub fn messages(buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let message = rest.get(..length).filter(|message| message.len() >= 4)?;
        rest = rest.get(length..)?;
        Some(message)
    })
}

/// The question for the route to `destination`. An empty link address asks for the interface's address in the answer.
pub fn route_question(layout: MessageLayout, destination: Ipv4Addr, sequence: i32) -> Vec<u8> {
    let mut body = padded_ipv4(layout, destination);
    body.extend([layout.link_address, LINK]);
    body.resize((body.len() - 2 + usize::from(layout.link_address)).next_multiple_of(layout.alignment), 0);
    let length = (layout.route_header + body.len()) as u16;
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend([VERSION, GET]);
    bytes.resize(12, 0);
    bytes.extend((1_u32 << DESTINATION | 1 << INTERFACE).to_ne_bytes());
    bytes.resize(20, 0);
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(layout.route_header, 0);
    bytes.extend(body);
    bytes
}

fn padded_ipv4(layout: MessageLayout, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![16, INET, 0, 0];
    bytes.extend(address.octets());
    bytes.resize(16_usize.next_multiple_of(layout.alignment), 0);
    bytes
}

/// A route, from an answer or a dump. Routes of other families than IPv4 are `None`.
pub fn parse_route(layout: MessageLayout, message: &[u8]) -> Option<RouteMessage> {
    if *message.get(2)? != VERSION {
        return None;
    }
    let flags = u32_at(message, 8)?;
    let addresses = addresses(layout, u32_at(message, 12)?, message.get(layout.route_header..)?);
    let address = |place: usize| addresses.get(place).copied().flatten();
    let IpAddr::V4(network) = parse_address(layout, address(DESTINATION)?)? else { return None };
    Some(RouteMessage {
        index: u16_at(message, 4)?.into(),
        flags,
        destination: Cidr { address: network.into(), prefix_length: address(NETMASK).map_or(32, prefix_length) },
        gateway: address(GATEWAY).filter(|_| flags & RTF_GATEWAY != 0).and_then(|bytes| parse_address(layout, bytes)),
        source: address(INTERFACE_ADDRESS).and_then(|bytes| parse_address(layout, bytes)),
        mtu: route_mtu(layout, message),
        sequence: u32_at(message, 20)? as i32,
        process: u32_at(message, 16)? as i32,
        error: u32_at(message, 24)? as i32,
    })
}

fn route_mtu(layout: MessageLayout, message: &[u8]) -> Option<usize> {
    let field = message.get(layout.mtu_offset..)?;
    let mtu = if layout.is_mtu_long { u64::from_ne_bytes(*field.first_chunk()?) } else { u32_at(field, 0)?.into() };
    usize::try_from(mtu).ok().filter(|&mtu| mtu > 0)
}

/// What a message says of interfaces, if it does.
pub fn parse_news(layout: MessageLayout, message: &[u8]) -> Option<InterfaceNews> {
    let &[_, _, VERSION, kind] = message.first_chunk()? else { return None };
    match kind {
        IFINFO => Some(InterfaceNews::Flags { index: u16_at(message, 12)?.into(), flags: u32_at(message, 8)? }),
        // `if_announcemsghdr`: length, version, kind, index, name, what.
        IFANNOUNCE if u16_at(message, 6 + 16)? == DEPARTURE => Some(InterfaceNews::Gone { index: u16_at(message, 4)?.into() }),
        DELADDR => {
            let addresses = addresses(layout, u32_at(message, 4)?, message.get(20..)?);
            let address = parse_address(layout, addresses.get(INTERFACE_ADDRESS).copied().flatten()?)?;
            Some(InterfaceNews::AddressLost { index: u16_at(message, 12)?.into(), address })
        }
        _ => None,
    }
}

/// The addresses that `mask` says are there, each padded.
fn addresses(layout: MessageLayout, mask: u32, bytes: &[u8]) -> [Option<&[u8]>; MOST_ADDRESSES] {
    let mut found = [None; MOST_ADDRESSES];
    let mut rest = bytes;
    for (place, slot) in found.iter_mut().enumerate() {
        if mask & (1 << place) == 0 {
            continue;
        }
        // A length of zero is an address of zeros, as long as the padding.
        let Some(&length) = rest.first() else { break };
        let padded = usize::from(length).max(1).next_multiple_of(layout.alignment);
        *slot = rest.get(..usize::from(length));
        rest = rest.get(padded..).unwrap_or_default();
    }
    found
}

/// The IP address of a `sockaddr`.
pub fn parse_address(layout: MessageLayout, bytes: &[u8]) -> Option<IpAddr> {
    match *bytes.get(1)? {
        INET => Some(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?).into()),
        family if family == layout.inet6 => Some(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// An interface, as a `sockaddr_dl` has it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Its number.
    pub index: u32,
    /// Its MAC address, if it has one.
    pub mac: Option<MacAddress>,
}

/// The interface of a `sockaddr_dl`: family, index, type, and the lengths of name, address and selector, which follow.
pub fn parse_link_address(bytes: &[u8]) -> Option<LinkAddress> {
    let &[_, LINK, _, _, _, name_length, address_length, _] = bytes.first_chunk()? else { return None };
    let address = bytes.get(8 + usize::from(name_length)..).filter(|_| address_length == 6);
    let mac = address.and_then(|address| address.first_chunk()).map(|&mac| MacAddress(mac));
    Some(LinkAddress { index: u16_at(bytes, 2)?.into(), mac })
}

/// Bits of an IPv4 mask, which ends with its last byte that is not zero, and whose family is not to be believed.
pub fn prefix_length(mask: &[u8]) -> u8 {
    let bits = mask.get(4..).unwrap_or_default().iter().take(4).map(|byte| byte.leading_ones());
    let mut total = 0;
    for ones in bits {
        total += ones;
        if ones < 8 {
            break;
        }
    }
    u8::try_from(total).unwrap_or(32)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUTS: [MessageLayout; 2] = [MessageLayout::MACOS, MessageLayout::FREEBSD];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A message with the given header fields (offset, bytes) and addresses (place, bytes).
    fn message(
        layout: MessageLayout,
        header: usize,
        kind: u8,
        fields: &[(usize, &[u8])],
        mask_at: usize,
        addresses: &[(usize, Vec<u8>)],
    ) -> Vec<u8> {
        let mut bytes = vec![0; header];
        let mask: u32 = addresses.iter().map(|(place, _)| 1 << place).sum();
        bytes[mask_at..mask_at + 4].copy_from_slice(&mask.to_ne_bytes());
        fields.iter().for_each(|&(at, field)| bytes[at..at + field.len()].copy_from_slice(field));
        for (_, address) in addresses {
            let end = bytes.len() + address.len().max(1).next_multiple_of(layout.alignment);
            bytes.extend(address);
            bytes.resize(end, 0);
        }
        bytes[2..4].copy_from_slice(&[VERSION, kind]);
        let length = (bytes.len() as u16).to_ne_bytes();
        bytes[..2].copy_from_slice(&length);
        bytes
    }

    fn inet(address: &str) -> Vec<u8> {
        let mut bytes = vec![16, INET, 0, 0];
        bytes.extend(address.parse::<Ipv4Addr>().unwrap().octets());
        bytes.resize(16, 0);
        bytes
    }

    fn route(layout: MessageLayout, flags: u32, addresses: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let mtu = if layout.is_mtu_long { 1_400_u64.to_ne_bytes().to_vec() } else { 1_400_u32.to_ne_bytes().to_vec() };
        let fields: [(usize, &[u8]); 4] =
            [(4, &4_u16.to_ne_bytes()), (8, &flags.to_ne_bytes()), (20, &77_u32.to_ne_bytes()), (layout.mtu_offset, &mtu)];
        message(layout, layout.route_header, GET, &fields, 12, addresses)
    }

    #[test]
    fn a_default_route_is_read() {
        for layout in LAYOUTS {
            // The mask of a default route has a length of zero.
            let link = vec![5, LINK, 4, 0, 6];
            let addresses = [(0, inet("0.0.0.0")), (1, inet("192.0.2.1")), (2, vec![]), (4, link), (5, inet("192.0.2.7"))];
            let bytes = route(layout, RTF_GATEWAY | 1, &addresses);
            let route = parse_route(layout, &bytes).unwrap();
            assert_eq!((route.index, route.mtu, route.sequence), (4, Some(1_400), 77));
            assert_eq!((route.destination.address, route.destination.prefix_length), (ip("0.0.0.0"), 0));
            assert_eq!((route.gateway, route.source), (Some(ip("192.0.2.1")), Some(ip("192.0.2.7"))));
            assert!(route.is_usable() && !route.is_local());
        }
    }

    #[test]
    fn a_mask_ends_with_its_last_byte() {
        for layout in LAYOUTS {
            let mask = vec![7, 0xff, 0xff, 0xff, 255, 255, 254];
            let link = vec![8, LINK, 4, 0, 6, 0, 0, 0];
            let bytes = route(layout, 1, &[(0, inet("198.51.100.0")), (1, link), (2, mask)]);
            let route = parse_route(layout, &bytes).unwrap();
            assert_eq!((route.destination.prefix_length, route.gateway), (23, None));
            let host = parse_route(layout, &self::route(layout, RTF_LOCAL | RTF_REJECT, &[(0, inet("198.51.100.9"))])).unwrap();
            assert_eq!(host.destination.prefix_length, 32);
            assert!(host.is_local() && !host.is_usable());
        }
    }

    #[test]
    fn routes_of_other_families_and_versions_are_not_ours() {
        for layout in LAYOUTS {
            let mut inet6 = vec![28, layout.inet6, 0, 0, 0, 0, 0, 0];
            inet6.resize(28, 1);
            assert_eq!(parse_route(layout, &route(layout, 1, &[(0, inet6)])), None);
            let mut old = route(layout, 1, &[(0, inet("192.0.2.0"))]);
            old[2] = 3;
            assert_eq!(parse_route(layout, &old), None);
        }
    }

    #[test]
    fn a_question_has_the_layout_of_an_answer() {
        for layout in LAYOUTS {
            let bytes = route_question(layout, "198.51.100.1".parse().unwrap(), 5);
            let asked = parse_route(layout, &bytes).unwrap();
            assert_eq!((asked.destination.address, asked.sequence, bytes[3]), (ip("198.51.100.1"), 5, GET));
            assert_eq!(messages(&bytes).map(<[u8]>::len).collect::<Vec<_>>(), [bytes.len()]);
            assert_eq!(u32_at(&bytes, 12), Some(0b1_0001));
            assert_eq!(bytes[layout.route_header + 16..][..2], [layout.link_address, LINK]);
        }
    }

    #[test]
    fn news_of_interfaces_are_read() {
        for layout in LAYOUTS {
            let flags = message(layout, 20, IFINFO, &[(8, &0x8843_u32.to_ne_bytes()), (12, &4_u16.to_ne_bytes())], 4, &[]);
            assert_eq!(parse_news(layout, &flags), Some(InterfaceNews::Flags { index: 4, flags: 0x8843 }));
            let addresses = [(2, inet("255.255.255.0")), (5, inet("192.0.2.7"))];
            let lost = message(layout, 20, DELADDR, &[(12, &4_u16.to_ne_bytes())], 4, &addresses);
            assert_eq!(parse_news(layout, &lost), Some(InterfaceNews::AddressLost { index: 4, address: ip("192.0.2.7") }));
            let gone = message(layout, 24, IFANNOUNCE, &[(4, &4_u16.to_ne_bytes()), (22, &DEPARTURE.to_ne_bytes())], 8, &[]);
            assert_eq!(parse_news(layout, &gone), Some(InterfaceNews::Gone { index: 4 }));
            assert_eq!(parse_news(layout, &route(layout, 1, &[])), None);
        }
    }

    #[test]
    fn link_addresses_are_read() {
        let mut bytes = vec![20, LINK, 4, 0, 6, 3, 6, 0];
        bytes[2..4].copy_from_slice(&4_u16.to_ne_bytes());
        bytes.extend(b"en0");
        bytes.extend([2, 0, 0, 0, 0, 9]);
        let link = LinkAddress { index: 4, mac: Some(MacAddress([2, 0, 0, 0, 0, 9])) };
        assert_eq!(parse_link_address(&bytes), Some(link));
        assert_eq!(parse_link_address(&bytes[..16]), Some(LinkAddress { mac: None, ..link }), "cut");
        bytes[6] = 0;
        assert_eq!(parse_link_address(&bytes), Some(LinkAddress { mac: None, ..link }), "a loopback has none");
        assert_eq!(parse_link_address(&inet("192.0.2.1")), None);
    }

    #[test]
    fn a_dump_is_cut_into_its_messages() {
        let layout = MessageLayout::MACOS;
        let first = route(layout, 1, &[(0, inet("192.0.2.0"))]);
        let mut dump = [first.clone(), first.clone()].concat();
        assert_eq!(messages(&dump).count(), 2);
        dump.truncate(dump.len() - 1);
        assert_eq!(messages(&dump).count(), 1);
        dump[0..2].copy_from_slice(&3_u16.to_ne_bytes());
        assert_eq!(messages(&dump).count(), 0, "shorter than any header");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_mac: bool) {
            let layout = LAYOUTS[usize::from(is_mac)];
            for message in messages(&bytes).chain([&bytes[..]]) {
                let _ = (parse_route(layout, message), parse_news(layout, message));
            }
        }

        #[test]
        fn a_mutated_or_cut_route_is_survived(at in 0_usize..200, byte: u8, cut in 0_usize..240, is_mac: bool) {
            let layout = LAYOUTS[usize::from(is_mac)];
            let addresses = [(0, inet("192.0.2.0")), (1, inet("192.0.2.1")), (2, vec![7, 0, 0, 0, 255, 255, 255]), (5, inet("192.0.2.7"))];
            let mut bytes = route(layout, RTF_GATEWAY, &addresses);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            if let Some(route) = parse_route(layout, &bytes) {
                prop_assert!(route.destination.prefix_length <= 32);
            }
        }
    }
}
