//! The transport layer: every TCP connection, every datagram socket, the demultiplexer, all their timers.
//!
//! Owns connections, sockets and the ports in use. Refuses to know routes beyond what a [`crate::network::topology::Topology`] says, and
//! program threads beyond the marks they set. Read [`shared`] first: it is all that a program and this layer have in common.

pub mod challenge;
mod connections;
mod datagram;
mod demux;
mod environment;
pub mod fast_open;
mod listeners;
pub mod near_peers;
mod path_mtu;
pub mod ports;
mod segment;
pub mod shared;
mod syn_cookies;
pub mod tcp;
#[cfg(test)]
mod testing;
mod timers;
mod verify;

use crate::config::Config;
use crate::layer::{DropReason, Layer};
use crate::network::topology::Topology;
use crate::network::{self, Delivery, ErrorReport};
use crate::packet::Pool;
use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::Protocol;
use connections::Connections;
use datagram::Datagrams;
use demux::{KeyedHash, PortTable};
use environment::{Environment, Out};
use listeners::{Listeners, Remains};
use shared::{DeviceRoom, Failure, ListenerShared, Mark, MarkQueue, Socket};
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
    connections: Connections,
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
        marks: Arc<dyn MarkQueue>,
        device_room: Arc<DeviceRoom>,
    ) -> Transport {
        let hash = KeyedHash::new(&mut random);
        let mut environment = Environment::new(config, topology, pool, random);
        let listeners = Listeners::new(PortTable::new(hash.clone()), marks, device_room);
        let connections = Connections::new(&mut environment, hash.clone(), listeners);
        Transport { environment, connections, datagrams: Datagrams::new(hash) }
    }

    /// Whether nothing is left that the peer or the network still has to hear: no connection but those in TIME-WAIT, no unsent datagram. What
    /// shutdown waits for after [`Message::CloseAll`].
    pub fn is_quiet(&self) -> bool {
        self.connections.is_quiet() && self.datagrams.is_drained()
    }

    /// How many connections there are, those in TIME-WAIT included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn received(&mut self, now: Instant, delivery: Delivery, out: &mut Out) {
        let Transport { environment, connections, datagrams } = self;
        let was_taken = datagrams.raw_arrived(environment, &delivery, out);
        match delivery.protocol {
            Protocol::TCP => connections.arrived(environment, now, delivery, out),
            Protocol::UDP => datagrams.udp_arrived(environment, delivery, out),
            Protocol::ICMP => datagrams.icmp_arrived(environment, delivery, was_taken, out),
            _ if was_taken => {}
            _ => datagram::refuse(environment, DropReason::UnknownProtocol, delivery, out),
        }
    }

    fn error_reported(&mut self, now: Instant, report: &ErrorReport, out: &mut Out) {
        if report.protocol == Protocol::TCP {
            self.connections.error_reported(&mut self.environment, now, report, out);
        }
        self.datagrams.error_reported(&self.environment, now, report, out);
    }

    fn marked(&mut self, now: Instant, socket: Socket, out: &mut Out) {
        let Transport { environment, connections, datagrams } = self;
        match socket {
            Socket::Tcp(shared) => {
                let marks = shared.marks.take();
                connections.marked(environment, now, &shared, marks, out);
            }
            Socket::Listener(shared) => self.listener_marked(now, &shared, out),
            Socket::Datagram(shared) => {
                let marks = shared.marks.take();
                datagrams.marked(environment, &shared, marks, out);
            }
            // Datagram sockets try again at the end of each batch.
            Socket::DeviceRoom => connections.device_room(environment, now, out),
        }
    }

    fn listener_marked(&mut self, now: Instant, shared: &Arc<ListenerShared>, out: &mut Out) {
        let marks = shared.marks.take();
        if marks.has(Mark::Open) {
            self.connections.listeners.open(&mut self.environment, shared, out);
        }
        if marks.has(Mark::Released)
            && let Some(remains) = self.connections.listeners.release(shared)
        {
            self.abandon(now, remains, out);
        }
    }

    /// Resets what a listener leaves behind (RFC 9293 §3.10.4, CLOSE in LISTEN: "any outstanding RECEIVEs are returned"; Linux resets).
    fn abandon(&mut self, now: Instant, remains: Remains, out: &mut Out) {
        let Remains { half_open, accepted } = remains;
        let accepted = self.connections.keys_of(accepted.into_iter());
        self.connections.abandon(&mut self.environment, now, half_open, out);
        self.connections.abandon(&mut self.environment, now, accepted, out);
    }

    fn path_mtu_changed(&mut self, now: Instant, destination: IpAddr, mtu: u16, out: &mut Out) {
        self.environment.path_mtus.set(destination, mtu, self.environment.topology.mtu);
        self.connections.path_mtu_changed(&mut self.environment, now, destination, out);
    }

    fn topology_changed(&mut self, now: Instant, topology: Arc<Topology>, out: &mut Out) {
        let mtu_changed = topology.mtu != self.environment.topology.mtu;
        self.environment.topology = topology;
        self.connections.topology_changed(&mut self.environment, now, mtu_changed, out);
        self.datagrams.addresses_changed(&self.environment, out);
    }

    fn close_all(&mut self, now: Instant, out: &mut Out) {
        self.refuse_all(now, Failure::Aborted, out);
        self.connections.for_all(&mut self.environment, now, out, |connection, cx| connection.close(cx));
    }

    fn abort_all(&mut self, now: Instant, out: &mut Out) {
        self.refuse_all(now, Failure::Aborted, out);
        self.connections.for_all(&mut self.environment, now, out, |connection, cx| connection.abort(cx, Failure::Aborted));
        self.datagrams.fail_all(Failure::Aborted, out);
    }

    fn fail_all(&mut self, now: Instant, failure: Failure, out: &mut Out) {
        self.refuse_all(now, failure, out);
        self.connections.for_all(&mut self.environment, now, out, |connection, cx| connection.fail(cx, failure));
        self.datagrams.fail_all(failure, out);
    }

    /// From now on nothing is opened; listeners go, and with them what they have not handed over.
    fn refuse_all(&mut self, now: Instant, failure: Failure, out: &mut Out) {
        self.environment.refusing = Some(failure);
        for remains in self.connections.listeners.fail_all(failure, out) {
            self.abandon(now, remains, out);
        }
    }
}

impl Layer for Transport {
    type Message = Message;
    type Up = Infallible;
    type Down = network::Message;

    fn handle(&mut self, now: Instant, message: Message, out: &mut Out) {
        match message {
            Message::Received(delivery) => self.received(now, delivery, out),
            Message::Error(report) => self.error_reported(now, &report, out),
            Message::PathMtu { destination, mtu } => self.path_mtu_changed(now, destination, mtu, out),
            Message::Topology(topology) => self.topology_changed(now, topology, out),
            Message::Marked(socket) => self.marked(now, socket, out),
            // Connections outlive an interface that is down for a while: their timers decide.
            Message::LinkState(_) => {}
            Message::CloseAll => self.close_all(now, out),
            Message::AbortAll => self.abort_all(now, out),
            Message::FailAll(failure) => self.fail_all(now, failure, out),
        }
    }

    fn end_batch(&mut self, now: Instant, out: &mut Out) {
        self.connections.end_batch(&mut self.environment, now, out);
        self.datagrams.send_all(&mut self.environment, now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.connections.deadline()
    }

    fn sleeps_until(&self) -> Option<Instant> {
        self.connections.sleeps_until()
    }

    fn run_timers(&mut self, now: Instant, out: &mut Out) {
        self.connections.run_timers(&mut self.environment, now, out);
    }
}
