//! The network layer: IPv4, routes, ICMP, reassembly, path MTU.
//!
//! Owns routes, reassembly buffers and learned path MTUs. Refuses to know ports, connections or MAC addresses. Read [`topology`] first, then
//! `receive` (what comes in), `send` (what goes out), `icmp`.
//!
//! A packet of TCP or UDP is parsed once and copied never. A packet to an address of our own turns round here and never reaches the link.

pub mod checksum;
mod expiring;
mod fragmentation;
mod icmp;
mod icmp_errors;
mod identification;
mod path_mtu;
mod piece;
mod reassembly;
mod receive;
mod redirect;
mod send;
#[cfg(test)]
mod tests;
pub mod topology;

pub(crate) use piece::largest_piece;

use crate::config::NetworkConfig;
use crate::layer::{Layer, Level, Outbox};
use crate::link::{self, Cast};
use crate::packet::{Packet, Pool};
use crate::random::SecretRandom;
use crate::rate_limit::RateLimit;
use crate::time::Instant;
use crate::transport;
use crate::wire::Protocol;
use expiring::Expiring;
use identification::Identifications;
use path_mtu::PathMtus;
use reassembly::Reassembly;
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
    /// A packet that nobody up there wanted, as it was delivered; already counted as dropped. Its sender is told that the port (UDP, TCP) or
    /// the protocol (any other) is unreachable, where RFC 1122 §3.2.2, the address mode and the rate limit allow that.
    PortUnreachable(Delivery),
    /// Addresses and routes: state that replaces the former. Passed on to transport and link.
    Topology(Arc<Topology>),
    /// The interface is up (`true`) or down. Each layer is told by the pipeline; none passes it on.
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
    /// The packet was too big for the path (RFC 1191). For datagrams the path MTU has been noted; a TCP connection that believes the report
    /// (RFC 5927 §7.2) lowers its own.
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

type Out = Outbox<transport::Message, link::Message>;

/// The network layer's state machine.
pub struct Network {
    config: NetworkConfig,
    topology: Arc<Topology>,
    pool: Pool,
    path_mtus: PathMtus,
    /// Better first hops than the routes', by destination.
    redirects: Expiring<IpAddr>,
    reassembly: Reassembly,
    identifications: Identifications,
    error_limit: RateLimit,
    /// Whether the link knows our addresses.
    is_introduced: bool,
}

impl Network {
    /// A network layer with these addresses and routes. It tells link and transport of them as soon as it runs for the first time: at once, by its
    /// deadline.
    pub fn new(config: NetworkConfig, topology: Arc<Topology>, pool: Pool, random: SecretRandom) -> Network {
        Network {
            path_mtus: PathMtus::new(&config),
            redirects: Expiring::new(config.redirect_entries, config.redirect_timeout),
            reassembly: Reassembly::new(&config),
            identifications: Identifications::new(random),
            error_limit: RateLimit::new(config.icmp_errors_per_second),
            config,
            topology,
            pool,
            is_introduced: false,
        }
    }

    fn introduce(&mut self, out: &mut Out) {
        if !self.is_introduced {
            self.is_introduced = true;
            out.down.push_back(link::Message::Addresses(self.topology.addresses.iter().map(|own| own.address).collect()));
            out.up.push_back(transport::Message::Topology(self.topology.clone()));
        }
    }

    /// New routes may lead elsewhere.
    fn replace_topology(&mut self, topology: Arc<Topology>, out: &mut Out) {
        self.forget_paths();
        self.topology = topology;
        self.is_introduced = false;
        self.introduce(out);
    }

    fn set_link_state(&mut self, is_up: bool, out: &mut Out) {
        out.log("ip", Level::Debug, format_args!("link {}", if is_up { "up" } else { "down" }));
        self.forget_paths();
    }

    /// What was learned of paths is learned again.
    fn forget_paths(&mut self) {
        self.path_mtus.clear();
        self.redirects.clear();
    }
}

impl Layer for Network {
    type Message = Message;
    type Up = transport::Message;
    type Down = link::Message;

    fn handle(&mut self, now: Instant, message: Message, out: &mut Out) {
        self.introduce(out);
        match message {
            Message::Received { cast, packet } => self.receive(now, cast, packet, out),
            Message::Send(outgoing) => self.send(now, outgoing, out),
            Message::PortUnreachable(delivery) => self.refuse_delivery(now, delivery, out),
            Message::Unreachable { next_hop, packet } => self.report_unreachable(now, next_hop, packet, out),
            Message::TooBig { packet } => self.report_too_big(packet, out),
            Message::Topology(topology) => self.replace_topology(topology, out),
            Message::LinkState(is_up) => self.set_link_state(is_up, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_introduced { self.reassembly.deadline() } else { Some(Instant::ZERO) }
    }

    fn run_timers(&mut self, now: Instant, out: &mut Out) {
        self.introduce(out);
        self.run_reassembly_timers(now, out);
    }
}
