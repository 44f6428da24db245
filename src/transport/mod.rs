//! The transport layer: every TCP connection, every datagram socket, the demultiplexer, all their timers.
//!
//! Owns connections, sockets and the ports in use. Refuses to know routes beyond what a [`crate::network::topology::Topology`] says, and
//! program threads beyond the marks they set. Read [`shared`] first: it is all that a program and this layer have in common.

mod datagram;
mod demux;
mod environment;
mod path_mtu;
pub mod ports;
pub mod shared;
pub mod tcp;
#[cfg(test)]
mod testing;
mod verify;

use crate::config::Config;
use crate::layer::{DropReason, Layer};
use crate::network::topology::Topology;
use crate::network::{self, Delivery, ErrorReport};
use crate::packet::Pool;
use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::Protocol;
use datagram::Datagrams;
use demux::KeyedHash;
use environment::{Environment, Out};
use shared::{DeviceRoom, Failure, MarkQueue, Socket};
use std::convert::Infallible;
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

/// The layer: a state machine that its driver hands messages and deadlines.
pub struct Transport {
    environment: Environment,
    datagrams: Datagrams,
}

impl Transport {
    /// A transport layer without sockets. `marks` is the dirty list of the sockets that it makes itself (accepted connections), `device_room` the room
    /// that all packets of programs share.
    pub fn new(
        config: &Config,
        topology: Arc<Topology>,
        pool: Pool,
        mut random: SecretRandom,
        _marks: Arc<dyn MarkQueue>,
        _device_room: Arc<DeviceRoom>,
    ) -> Transport {
        let hash = KeyedHash::new(&mut random);
        Transport { environment: Environment::new(config, topology, pool, random), datagrams: Datagrams::new(hash) }
    }

    /// Whether nothing is left that the peer or the network still has to hear: no connection but those in TIME-WAIT, no unsent datagram. What
    /// shutdown waits for after [`Message::CloseAll`].
    pub fn is_quiet(&self) -> bool {
        self.datagrams.is_drained()
    }

    fn received(&mut self, delivery: Delivery, out: &mut Out) {
        let Transport { environment, datagrams, .. } = self;
        let was_taken = datagrams.raw_arrived(environment, &delivery, out);
        match delivery.protocol {
            Protocol::UDP => datagrams.udp_arrived(environment, delivery, out),
            Protocol::ICMP => datagrams.icmp_arrived(environment, delivery, was_taken, out),
            _ if was_taken => {}
            _ => out.drop_packet(DropReason::UnknownProtocol, delivery.packet),
        }
    }

    fn marked(&mut self, socket: Socket, out: &mut Out) {
        let Transport { environment, datagrams, .. } = self;
        if let Socket::Datagram(shared) = socket {
            let marks = shared.marks.take();
            datagrams.marked(environment, &shared, marks, out);
        }
    }

    fn topology_changed(&mut self, topology: Arc<Topology>, out: &mut Out) {
        self.environment.topology = topology;
        self.datagrams.addresses_changed(&self.environment, out);
    }

    fn fail_all(&mut self, failure: Failure, out: &mut Out) {
        self.environment.refusing = Some(failure);
        self.datagrams.fail_all(failure, out);
    }
}

impl Layer for Transport {
    type Message = Message;
    type Up = Infallible;
    type Down = network::Message;

    fn handle(&mut self, now: Instant, message: Message, out: &mut Out) {
        match message {
            Message::Received(delivery) => self.received(delivery, out),
            Message::Error(report) => self.datagrams.error_reported(&self.environment, now, &report, out),
            Message::PathMtu { destination, mtu } => self.environment.path_mtus.set(destination, mtu, self.environment.topology.mtu),
            Message::Topology(topology) => self.topology_changed(topology, out),
            Message::Marked(socket) => self.marked(socket, out),
            Message::LinkState(_) => {}
            Message::CloseAll => self.environment.refusing = Some(Failure::Aborted),
            Message::AbortAll => self.fail_all(Failure::Aborted, out),
            Message::FailAll(failure) => self.fail_all(failure, out),
        }
    }

    fn end_batch(&mut self, now: Instant, out: &mut Out) {
        self.datagrams.send_all(&mut self.environment, now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn run_timers(&mut self, _now: Instant, _out: &mut Out) {}
}
