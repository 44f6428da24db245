//! What the parts of the transport layer share: topology, pool, randomness, path MTUs, the state of shutdown.
//!
//! Owns nothing that belongs to one socket.

use super::challenge::ChallengeBudget;
use super::demux::KeyedHash;
use super::fast_open::{CookieCache, ServerCookies};
use super::near_peers::NearPeers;
use super::path_mtu::PathMtus;
use super::ports::EphemeralPorts;
use super::shared::Failure;
use super::tcp::Context;
use crate::config::{Config, DatagramConfig, TcpConfig};
use crate::layer::Outbox;
use crate::network;
use crate::network::topology::Topology;
use crate::packet::Pool;
use crate::random::SecretRandom;
use crate::time::Instant;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// The transport layer's outbox: nothing is above it but sockets.
pub(super) type Out = Outbox<Infallible, network::Message>;

/// What every part of the layer may look at.
pub(super) struct Environment {
    pub(super) tcp: TcpConfig,
    pub(super) datagram: DatagramConfig,
    pub(super) topology: Arc<Topology>,
    pub(super) pool: Pool,
    pub(super) random: SecretRandom,
    pub(super) ephemeral: EphemeralPorts,
    pub(super) path_mtus: PathMtus,
    pub(super) packet_number: u64,
    pub(super) challenge_acks: ChallengeBudget,
    pub(super) fast_open: CookieCache,
    pub(super) fast_open_server: ServerCookies,
    near_peers: NearPeers,
    /// Bytes that one connection's buffer may grow to on a near path.
    near_share: usize,
    /// Among how many connections that is shared.
    busy: usize,
    /// Set when nothing may be opened any more: why.
    pub(super) refusing: Option<Failure>,
}

impl Environment {
    pub(super) fn new(config: &Config, topology: Arc<Topology>, pool: Pool, mut random: SecretRandom) -> Environment {
        let hash = KeyedHash::new(&mut random);
        let fast_open = CookieCache::new(config.tcp.fast_open_cookies, KeyedHash::new(&mut random));
        let fast_open_server = ServerCookies::new(&mut random, &config.tcp);
        Environment {
            tcp: config.tcp.clone(),
            datagram: config.datagram.clone(),
            topology,
            pool,
            random,
            ephemeral: EphemeralPorts::new(config.tcp.ephemeral_ports),
            path_mtus: PathMtus::new(config.network.path_mtu_entries, hash),
            packet_number: 0,
            challenge_acks: ChallengeBudget::new(config.tcp.challenge_acks_per_second),
            fast_open,
            fast_open_server,
            near_peers: NearPeers::new(config.tcp.near_peers),
            near_share: config.tcp.near_buffer,
            busy: 0,
            refusing: None,
        }
    }

    /// Whether sockets may be opened.
    pub(super) fn may_open(&self) -> Result<(), Failure> {
        self.refusing.map_or(Ok(()), Err)
    }

    /// The path MTU to `destination` as far as known.
    pub(super) fn path_mtu(&self, destination: IpAddr) -> u16 {
        self.path_mtus.get(destination, self.topology.mtu)
    }

    /// What a connection to `remote` is handed.
    pub(super) fn context<'a>(&'a mut self, now: Instant, remote: IpAddr, out: &'a mut Out) -> Context<'a> {
        let path_mtu = self.path_mtu(remote);
        Context {
            now,
            config: &self.tcp,
            pool: &self.pool,
            topology: &self.topology,
            random: &mut self.random,
            challenge_acks: &mut self.challenge_acks,
            fast_open: &mut self.fast_open,
            packet_number: &mut self.packet_number,
            near_peers: &mut self.near_peers,
            near_share: self.near_share,
            path_mtu,
            out,
        }
    }

    /// So many connections are busy: what there is for those on near paths is divided among them.
    pub(super) fn share_near_buffers(&mut self, busy: usize) {
        if self.busy != busy {
            self.busy = busy;
            let share = self.tcp.near_buffers / busy.max(1);
            self.near_share = share.min(self.tcp.near_buffer);
        }
    }

    /// A number for a packet of ours.
    pub(super) fn next_packet_number(&mut self) -> u64 {
        self.packet_number = self.packet_number.wrapping_add(1);
        self.packet_number
    }
}
