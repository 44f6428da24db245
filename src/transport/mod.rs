//! The transport layer: every TCP connection, every datagram socket, the demultiplexer, all their timers.
//!
//! Owns connections, sockets and the ports in use. Refuses to know routes beyond what a [`crate::network::topology::Topology`] says, and
//! program threads beyond the marks they set. Read [`shared`] first: it is all that a program and this layer have in common.

pub mod ports;
pub mod shared;

use crate::network::topology::Topology;
use crate::network::{Delivery, ErrorReport};
use shared::Socket;
use std::net::IpAddr;
use std::sync::Arc;

/// What the transport layer's inbox carries.
pub enum Message {
    /// A packet for a socket.
    Received(Delivery),
    /// A packet of ours that failed.
    Error(ErrorReport),
    /// The path MTU to `destination` is now known to be `mtu` bytes of IP packet.
    PathMtu {
        /// The far end.
        destination: IpAddr,
        /// Bytes of IP packet.
        mtu: u16,
    },
    /// Addresses and routes: state that replaces the former.
    Topology(Arc<Topology>),
    /// A socket has marks to look at: comes from the dirty list.
    Marked(Socket),
    /// The interface is up (`true`) or down.
    LinkState(bool),
    /// Close every connection gracefully, refuse new ones.
    CloseAll,
    /// Reset whatever is left.
    AbortAll,
    /// The stack failed or its interface is gone: fail every socket and wake whoever waits.
    FailAll(shared::Failure),
}
