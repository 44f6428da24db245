//! What each message is to the queue that carries it.

use crate::layer::Layer;
use crate::packet::Packet;
use crate::{link, network, transport};

/// Whose share of an inbox a message takes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// A packet that was counted where it entered: it has a credit of the receive thread or room of a program.
    Lent,
    /// What the stack itself makes: beyond its share it is dropped.
    Own,
    /// State, not a packet: a newer one of its kind overwrites it, and it is never dropped.
    State,
}

/// A message that travels between threads.
pub(crate) trait Message: Send {
    /// Whose share it takes.
    fn share(&self) -> Share;
    /// Bytes that it has the receiver move: only what goes to the device counts.
    fn bytes_to_send(&self) -> usize {
        0
    }
    /// Its packet, if it has one, so that the drop can be counted.
    fn into_packet(self) -> Option<Packet>;
}

fn share_of(packet: &Packet) -> Share {
    if packet.guard.is_some() { Share::Lent } else { Share::Own }
}

impl Message for link::Message {
    fn bytes_to_send(&self) -> usize {
        match self {
            link::Message::Send(outgoing) => outgoing.packet.len(),
            link::Message::SendFragments { fragments, .. } => fragments.iter().map(Packet::len).sum(),
            link::Message::Frame(_) | link::Message::Addresses(_) | link::Message::LinkState(_) => 0,
        }
    }

    fn share(&self) -> Share {
        match self {
            link::Message::Frame(packet) => share_of(packet),
            link::Message::Send(outgoing) => share_of(&outgoing.packet),
            link::Message::SendFragments { fragments, .. } => fragments.first().map_or(Share::Own, share_of),
            link::Message::Addresses(_) | link::Message::LinkState(_) => Share::State,
        }
    }

    fn into_packet(self) -> Option<Packet> {
        match self {
            link::Message::Frame(packet) => Some(packet),
            link::Message::Send(outgoing) => Some(outgoing.packet),
            link::Message::SendFragments { fragments, .. } => fragments.into_iter().next(),
            link::Message::Addresses(_) | link::Message::LinkState(_) => None,
        }
    }
}

impl Message for network::Message {
    fn share(&self) -> Share {
        match self {
            network::Message::Received { packet, .. }
            | network::Message::Unreachable { packet, .. }
            | network::Message::TooBig { packet, .. } => share_of(packet),
            network::Message::Send(outgoing) => share_of(&outgoing.packet),
            network::Message::PortUnreachable(delivery) => share_of(&delivery.packet),
            network::Message::Topology(_) | network::Message::LinkState(_) => Share::State,
        }
    }

    fn into_packet(self) -> Option<Packet> {
        match self {
            network::Message::Received { packet, .. }
            | network::Message::Unreachable { packet, .. }
            | network::Message::TooBig { packet, .. } => Some(packet),
            network::Message::Send(outgoing) => Some(outgoing.packet),
            network::Message::PortUnreachable(delivery) => Some(delivery.packet),
            network::Message::Topology(_) | network::Message::LinkState(_) => None,
        }
    }
}

impl Message for transport::Message {
    fn share(&self) -> Share {
        match self {
            transport::Message::Received(delivery) => share_of(&delivery.packet),
            // Reports about packets are as many as ICMP messages came in or sends failed: bounded like the stack's own packets.
            transport::Message::Error(_) | transport::Message::PathMtu { .. } | transport::Message::Marked(_) => Share::Own,
            transport::Message::Topology(_)
            | transport::Message::LinkState(_)
            | transport::Message::CloseAll
            | transport::Message::AbortAll
            | transport::Message::FailAll(_) => Share::State,
        }
    }

    fn into_packet(self) -> Option<Packet> {
        match self {
            transport::Message::Received(delivery) => Some(delivery.packet),
            _ => None,
        }
    }
}

/// A layer that the threads can drive to its end.
pub(crate) trait Stage: Layer + Send {
    /// Whether nothing is left that shutdown would have to wait for.
    fn is_quiet(&self) -> bool {
        true
    }
}
