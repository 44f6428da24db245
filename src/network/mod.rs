//! The network layer: IPv4, routes, ICMP, reassembly, path MTU.
//!
//! Owns routes, reassembly buffers and learned path MTUs. Refuses to know ports, connections or MAC addresses.

pub mod topology;

use crate::link::Cast;
use crate::packet::Packet;
use crate::wire::Protocol;
use std::net::IpAddr;
use std::sync::Arc;
use topology::Topology;

/// What the network layer's inbox carries.
#[derive(Debug)]
pub enum Message {
    /// A packet from the link, with its IP header in front.
    Received {
        /// How the frame was addressed.
        cast: Cast,
        /// The packet.
        packet: Packet,
    },
    /// A neighbour did not answer: these packets (IP header in front) could not be delivered.
    Unreachable {
        /// The neighbour.
        next_hop: IpAddr,
        /// One of the packets that waited for it; each is reported on its own.
        packet: Packet,
    },
    /// The link found the packet (IP header in front), or the pieces it is to be cut to, larger than its MTU.
    TooBig {
        /// The packet.
        packet: Packet,
    },
    /// A packet from the transport layer.
    Send(Outgoing),
    /// A UDP datagram (UDP header in front) for a port that nobody listens on: the sender is to be told (ICMP port unreachable, RFC 1122
    /// §4.1.3.1), within the rate limit. Comes only for unicast to an address that is ours alone; already counted as dropped.
    PortUnreachable(Delivery),
    /// Addresses and routes: state that replaces the former. Passed on to transport and link.
    Topology(Arc<Topology>),
    /// The interface is up (`true`) or down.
    LinkState(bool),
}

/// A transport packet that wants an IP header.
#[derive(Debug)]
pub struct Outgoing {
    /// Our address.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// IPv4 time to live, IPv6 hop limit.
    pub time_to_live: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Whether routers may fragment it. TCP says no (RFC 1191 §3).
    pub fragmentation: Fragmentation,
    /// Set by raw sockets that bring their own IP header in `packet`: the fields above are then for routing only.
    pub header_included: bool,
    /// The transport header and payload. A partial checksum counts its place from the transport header.
    pub packet: Packet,
}

/// Whether a packet may be cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Fragmentation {
    /// Here and by routers (`-M dont`).
    #[default]
    Allowed,
    /// Here, to the path MTU known, but not by routers: don't-fragment is set (`-M want`).
    LocalOnly,
    /// Never: too big is an error (`-M do`).
    Forbidden,
}

/// A packet for the transport layer, its IP header stripped.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent it.
    pub source: IpAddr,
    /// To which of our addresses (or group, or broadcast address).
    pub destination: IpAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// IPv4 time to live, IPv6 hop limit, as it arrived.
    pub time_to_live: u8,
    /// DSCP and ECN, as they arrived.
    pub traffic_class: u8,
    /// How link and IP destination were addressed: the broader of the two.
    pub cast: Cast,
    /// The transport header and payload. `checksum` is `Unknown` if transport has to verify it.
    pub packet: Packet,
}

/// What went wrong with a packet of ours, as an ICMP message or our own layers told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// Destination unreachable, with the ICMPv4 code (RFC 792, RFC 1122 §3.2.2.1); host unreachable (1) also comes from our own link layer.
    Unreachable {
        /// The ICMPv4 code.
        code: u8,
    },
    /// The packet was too big for the path (RFC 1191); the path MTU has already been noted.
    PacketTooBig {
        /// The path MTU, in bytes of IP packet.
        mtu: u16,
    },
    /// Time to live exceeded in transit (code 0), or reassembly time exceeded (code 1).
    TimeExceeded {
        /// The ICMPv4 code.
        code: u8,
    },
    /// Something in the header was wrong.
    ParameterProblem {
        /// Which byte.
        pointer: u8,
    },
    /// We have no route there, found before it was sent.
    NoRoute,
}

/// Bytes of the failed packet's transport header that come with an error report: RFC 792 promises 8, RFC 1812 more.
pub const QUOTED_BYTES: usize = 64;

/// An error about a packet that we sent. Who gets it is found by the ports in the quoted header.
#[derive(Clone, Debug)]
pub struct ErrorReport {
    /// What is wrong.
    pub error: DeliveryError,
    /// Who says so; our own address if our own layers do.
    pub reporter: IpAddr,
    /// The failed packet's source: one of our addresses.
    pub source: IpAddr,
    /// The failed packet's destination.
    pub destination: IpAddr,
    /// What it carried.
    pub protocol: Protocol,
    /// The beginning of its transport header.
    pub quoted: smallvec::SmallVec<[u8; QUOTED_BYTES]>,
}
