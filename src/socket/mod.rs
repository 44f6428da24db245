//! What a program holds: the handles, as close to `std::net` as a stack of one's own can be.
//!
//! Owns the [`Stack`], its handles, and how they wait. Refuses to know who drives the layers: a handle sees its own shared struct and the
//! way to mark it. Read [`crate::transport::shared`] first, then `backend.rs`, then `tcp_stream.rs`.
//!
//! A program's thread waits on its own socket only, holding nothing. A handle whose stack was shut down says `ConnectionAborted` to a call
//! that was waiting and `NotConnected` to later ones.

pub(crate) mod backend;
mod builder;
mod connect;
mod datagram;
#[cfg(test)]
mod datagram_tests;
mod icmp_socket;
mod log;
mod poller;
mod raw_socket;
mod stack;
mod target;
mod tcp_listener;
mod tcp_options;
mod tcp_stream;
#[cfg(test)]
mod testing;
mod udp_socket;
mod waiting;

pub use crate::pipeline::Handoff;
pub use crate::transport::shared::{CongestionControl, Ecn, Keepalive, SocketOptions, StreamInfo};
pub use builder::StackBuilder;
pub use datagram::DatagramInfo;
pub use icmp_socket::{EchoError, EchoReply, IcmpEvent, IcmpSocket};
pub use log::SlogObserver;
pub use poller::{Event, Interest, Pollable, Poller};
pub use raw_socket::RawSocket;
pub use stack::Stack;
pub use target::{Resolve, ToAddress, ToTarget};
pub use tcp_listener::{Incoming, IntoIncoming, ListenOptions, TcpListener};
pub use tcp_stream::{ConnectOptions, TcpStream};
pub use udp_socket::UdpSocket;
