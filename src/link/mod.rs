//! The link layer: Ethernet framing and the neighbour cache.
//!
//! Owns the mapping from next hop to MAC address (ARP, RFC 826) and what waits for it. Refuses to know routes: network says which
//! next hop. On a bare-IP medium it passes packets through.

use crate::packet::Packet;
use std::net::IpAddr;

/// To whom a frame was, or is to be, addressed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Cast {
    /// One station: us.
    #[default]
    Unicast,
    /// A multicast group.
    Multicast,
    /// Every station.
    Broadcast,
}

/// What the link layer's inbox carries.
#[derive(Debug)]
pub enum Message {
    /// A frame from the device (on a bare-IP medium: a packet).
    Frame(Packet),
    /// A packet from the network layer.
    Send(Outgoing),
    /// Addresses to answer ARP for, and to ask with: state that replaces the former.
    Addresses(Vec<IpAddr>),
    /// The interface is up (`true`) or down.
    LinkState(bool),
}

/// An IP packet that has its header and its next hop.
#[derive(Debug)]
pub struct Outgoing {
    /// Where the link layer sends it: a neighbour, a multicast group, or a broadcast address.
    pub next_hop: IpAddr,
    /// Of what kind that address is. `Broadcast` for the limited and every directed broadcast address.
    pub cast: Cast,
    /// The packet.
    pub packet: Packet,
}
