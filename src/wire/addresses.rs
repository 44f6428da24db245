//! Link-layer addresses and Ethernet types.
//!
//! Owns: [`MacAddress`] with its text form and the multicast mappings, [`EtherType`] and its registered values.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A 48-bit IEEE 802 address, first byte first on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`, every station.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, no station: what a request writes where it does not know.
    pub const ZERO: Self = Self([0; 6]);

    /// The six bytes in wire order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether the group bit is set; true for the broadcast address too.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0x01 != 0
    }

    /// Whether this is the address of every station.
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether this can be the address of one station: neither a group nor all zero.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// Whether the address was made up locally rather than assigned by a manufacturer.
    pub const fn is_locally_administered(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// The group address for an IPv4 multicast group: its low 23 bits behind `01:00:5e` (RFC 1112 §6.4).
    pub const fn for_ipv4_multicast(group: Ipv4Addr) -> Self {
        let [_, second, third, fourth] = group.octets();
        Self([0x01, 0x00, 0x5e, second & 0x7f, third, fourth])
    }

    /// The group address for an IPv6 multicast group: its low 32 bits behind `33:33` (RFC 2464 §7).
    pub const fn for_ipv6_multicast(group: Ipv6Addr) -> Self {
        let octets = group.octets();
        Self([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

/// Text that is not six two-digit hexadecimal numbers joined by `:` or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseMacAddressError;

impl fmt::Display for ParseMacAddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a MAC address: expected the form 02:00:5e:10:00:01")
    }
}

impl Error for ParseMacAddressError {}

impl FromStr for MacAddress {
    type Err = ParseMacAddressError;

    /// Six two-digit hexadecimal numbers, all joined by `:` or all by `-`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut octets = [0; 6];
        for octet in &mut octets {
            *octet = parts.next().and_then(parse_hexadecimal_pair).ok_or(ParseMacAddressError)?;
        }
        parts.next().is_none().then_some(Self(octets)).ok_or(ParseMacAddressError)
    }
}

/// `u8::from_str_radix` alone would also take `+f`.
fn parse_hexadecimal_pair(text: &str) -> Option<u8> {
    let is_pair = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_pair.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

/// What an Ethernet frame carries (the IEEE's EtherType registry).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// Address resolution (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q customer tag follows.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6 (RFC 2464 §3).
    pub const IPV6: Self = Self(0x86dd);
    /// An 802.1ad service tag follows.
    pub const QINQ: Self = Self(0x88a8);

    /// Whether the number is an IEEE 802.3 length (at most 1500) and not a type at all.
    pub const fn is_length(self) -> bool {
        self.0 <= 1500
    }

    /// Whether a VLAN tag follows.
    pub fn is_vlan(self) -> bool {
        self == Self::VLAN || self == Self::QINQ
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => formatter.write_str("IPv4"),
            Self::ARP => formatter.write_str("ARP"),
            Self::VLAN => formatter.write_str("802.1Q"),
            Self::IPV6 => formatter.write_str("IPv6"),
            Self::QINQ => formatter.write_str("802.1ad"),
            Self(number) => write!(formatter, "{number:#06x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EtherType({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::config;

    #[test]
    fn classes_of_addresses() {
        let local = MacAddress([0x02, 0, 0x5e, 0x10, 0, 1]);
        assert!(local.is_unicast() && local.is_locally_administered() && !local.is_multicast());
        assert!(MacAddress::BROADCAST.is_broadcast() && MacAddress::BROADCAST.is_multicast());
        assert!(!MacAddress::BROADCAST.is_unicast());
        assert!(!MacAddress::ZERO.is_unicast() && !MacAddress::ZERO.is_multicast());
    }

    #[test]
    fn multicast_groups_map_as_the_rfcs_say() {
        assert_eq!(MacAddress::for_ipv4_multicast(Ipv4Addr::new(239, 255, 0, 9)).to_string(), "01:00:5e:7f:00:09");
        let group = "ff02::1:ff28:9c5a".parse().unwrap();
        assert_eq!(MacAddress::for_ipv6_multicast(group).to_string(), "33:33:ff:28:9c:5a");
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        assert_eq!("02-00-5e-10-00-01".parse(), Ok(MacAddress([2, 0, 0x5e, 0x10, 0, 1])));
        for text in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:+1", "2:0:5e:10:0:1", "02:00-5e:10:00:01", "02:00:5e:10:00:é"]
        {
            assert_eq!(text.parse::<MacAddress>(), Err(ParseMacAddressError), "{text}");
        }
    }

    #[test]
    fn ethernet_types_have_names() {
        assert_eq!(EtherType::IPV4.to_string(), "IPv4");
        assert_eq!(EtherType(0x88cc).to_string(), "0x88cc");
        assert!(EtherType(1500).is_length() && !EtherType::IPV4.is_length());
        assert!(EtherType::QINQ.is_vlan() && !EtherType::ARP.is_vlan());
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn text_round_trip(octets: [u8; 6]) {
            prop_assert_eq!(MacAddress(octets).to_string().parse(), Ok(MacAddress(octets)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<MacAddress>();
        }
    }
}
