//! The numbers by which IP says what it carries.

use std::fmt;

/// An IP protocol number, IPv4's *protocol* and IPv6's *next header* (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options (RFC 8200 §4.3).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// Group management for IPv4 (RFC 3376).
    pub const IGMP: Self = Self(2);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// IPv6 routing header (RFC 8200 §4.4).
    pub const IPV6_ROUTE: Self = Self(43);
    /// IPv6 fragment header (RFC 8200 §4.5).
    pub const IPV6_FRAGMENT: Self = Self(44);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// IPv6: nothing follows (RFC 8200 §4.7).
    pub const IPV6_NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options (RFC 8200 §4.6).
    pub const IPV6_DESTINATION_OPTIONS: Self = Self(60);
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match *self {
            Self::HOP_BY_HOP => "hop-by-hop options",
            Self::ICMP => "ICMP",
            Self::IGMP => "IGMP",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::IPV6_ROUTE => "IPv6 routing header",
            Self::IPV6_FRAGMENT => "IPv6 fragment header",
            Self::ICMPV6 => "ICMPv6",
            Self::IPV6_NO_NEXT_HEADER => "no next header",
            Self::IPV6_DESTINATION_OPTIONS => "IPv6 destination options",
            Self(number) => return write!(formatter, "protocol {number}"),
        })
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Protocol({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names() {
        assert_eq!(Protocol::TCP.to_string(), "TCP");
        assert_eq!(Protocol(132).to_string(), "protocol 132");
    }
}
