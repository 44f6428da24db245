//! Packet traces: what goes in, what comes out, at which time.

mod arbitrary;
mod closing;
mod ecn;
mod errors;
mod handshake;
mod limits;
mod lockstep;
mod loss;
mod pacing;
mod rack;
mod receiving;
mod selective;
mod sending;
mod spurious;
mod trace;
mod validation;

use super::*;
use crate::config::TcpConfig;
use crate::counters::Counters;
use crate::device::{DeviceOffload, Medium};
use crate::layer::Outbox;
use crate::network::topology::{AddressMode, Topology};
use crate::network::{self, Outgoing};
use crate::packet::{ChecksumState, Packet, Pool};
use crate::random::SecretRandom;
use crate::transport::challenge::ChallengeBudget;
use crate::transport::demux::KeyedHash;
use crate::transport::fast_open::CookieCache;
use crate::transport::near_peers::NearPeers;
use crate::transport::shared::{DeviceRoom, Failure, Mark, MarkQueue, Phase, Socket};
use crate::wire::TcpHeader;
use std::convert::Infallible;

/// Everything around one connection.
struct Host {
    now: Instant,
    config: TcpConfig,
    pool: Pool,
    topology: Topology,
    random: SecretRandom,
    challenge_acks: ChallengeBudget,
    fast_open: CookieCache,
    near_peers: NearPeers,
    packet_number: u64,
    path_mtu: u16,
    out: Outbox<Infallible, network::Message>,
    counters: Arc<Counters>,
    device_room: Arc<DeviceRoom>,
}

/// The dirty list is not looked at: tests take marks from the socket.
struct NoQueue;

impl MarkQueue for NoQueue {
    fn push(&self, _socket: Socket) {}
}

impl Host {
    /// Acknowledgements do not wait for answers: traces are easier to read then.
    fn new(config: TcpConfig) -> Host {
        let config = TcpConfig { answer_time: Duration::ZERO, ..config };
        let counters = Arc::new(Counters::default());
        Host {
            now: Instant::from_secs(1),
            challenge_acks: ChallengeBudget::new(config.challenge_acks_per_second),
            fast_open: CookieCache::new(config.fast_open_cookies, KeyedHash::new(&mut SecretRandom::from_seed(2))),
            near_peers: NearPeers::new(config.near_peers),
            config,
            pool: Pool::default(),
            topology: Topology {
                addresses: vec![],
                routes: vec![],
                mtu: 1_500,
                medium: Medium::Ip,
                offload: DeviceOffload::default(),
                mode: AddressMode::Own,
            },
            random: SecretRandom::from_seed(1),
            packet_number: 0,
            path_mtu: 1_500,
            out: Outbox::new(counters.clone()),
            counters,
            device_room: Arc::new(DeviceRoom::new(1_024, Arc::new(NoQueue))),
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            config: &self.config,
            pool: &self.pool,
            topology: &self.topology,
            random: &mut self.random,
            challenge_acks: &mut self.challenge_acks,
            fast_open: &mut self.fast_open,
            packet_number: &mut self.packet_number,
            near_peers: &mut self.near_peers,
            near_share: self.config.near_buffer,
            path_mtu: self.path_mtu,
            out: &mut self.out,
        }
    }

    fn shared(&self) -> Arc<TcpShared> {
        let nowhere = "0.0.0.0:0".parse().unwrap();
        TcpShared::new(Arc::new(NoQueue), self.device_room.clone(), nowhere, nowhere, self.config.socket_options())
    }

    /// Notifies whoever is to be woken; says whether that was anybody.
    fn wake(&mut self) -> bool {
        let wakes: Vec<_> = self.out.wakes.drain(..).collect();
        wakes.iter().for_each(|wake| {
            wake.notify();
        });
        !wakes.is_empty()
    }

    /// What was sent since the last look, checked: checksum, sizes.
    fn sent(&mut self) -> Vec<Sent> {
        self.out.down.drain(..).map(|message| Sent::read(message, self.path_mtu)).collect()
    }
}

/// A segment that was sent; a super-segment is one.
struct Sent {
    header: TcpHeader,
    payload: Vec<u8>,
    segment_size: Option<usize>,
    traffic_class: u8,
    source: SocketAddr,
    destination: SocketAddr,
    /// Kept for its guard: the packet is on its way while this lives.
    #[expect(dead_code, reason = "held, not read")]
    packet: Packet,
}

impl Sent {
    #[track_caller]
    fn read(message: network::Message, path_mtu: u16) -> Sent {
        let network::Message::Send(Outgoing { source, destination, protocol, traffic_class, packet, .. }) = message else {
            panic!("not a packet")
        };
        let bytes = packet.to_vec();
        assert!(bytes.len() + 20 <= 65_535, "larger than an IP packet");
        assert_eq!(packet.offload.checksum, ChecksumState::Partial { start: 0, offset: 16 });
        let sum = crate::wire::checksum::pseudo_header(source, destination, protocol, bytes.len() as u32).partial();
        assert_eq!(bytes[16..18], sum.to_be_bytes(), "the field holds the pseudo-header's sum");
        let (header, length) = TcpHeader::parse(&bytes).unwrap();
        let payload = bytes[length..].to_vec();
        let segment_size = packet.offload.segmentation.map(|cut| usize::from(cut.size));
        let largest = segment_size.unwrap_or(payload.len()) + length + 20;
        assert!(largest <= path_mtu.into(), "a segment of {largest} bytes exceeds the path MTU");
        assert!(segment_size.is_none_or(|size| payload.len() > size), "cut to one piece");
        Sent {
            source: SocketAddr::new(source, header.source_port),
            destination: SocketAddr::new(destination, header.destination_port),
            header,
            payload,
            segment_size,
            traffic_class,
            packet,
        }
    }

    /// As the peer's device would cut it.
    fn cut(&self) -> Vec<(TcpHeader, Vec<u8>)> {
        let size = self.segment_size.unwrap_or(usize::MAX);
        if self.payload.len() <= size {
            return vec![(self.header, self.payload.clone())];
        }
        let pieces: Vec<_> = self.payload.chunks(size).collect();
        let last = pieces.len() - 1;
        let piece = |(index, bytes): (usize, &&[u8])| {
            let mut header = self.header;
            header.sequence += (index * size) as u32;
            if index < last {
                header.flags = header.flags & !(TcpFlags::FIN | TcpFlags::PSH);
            }
            (header, bytes.to_vec())
        };
        pieces.iter().enumerate().map(piece).collect()
    }
}

/// A segment as the demultiplexer hands it over.
fn segment_of(
    pool: &Pool,
    header: TcpHeader,
    payload: &[u8],
    segment_size: Option<usize>,
    source: SocketAddr,
    destination: SocketAddr,
    arrived: Instant,
) -> Segment {
    let mut packet = Packet::default();
    packet.push(pool.copy_from(40, payload));
    packet.offload.segmentation = segment_size
        .filter(|&size| size < payload.len())
        .map(|size| crate::packet::Segmentation { kind: crate::packet::SegmentationKind::TcpIpv4, size: size as u16 });
    packet.arrived = arrived;
    Segment { source, destination, header, payload: packet, traffic_class: 0, arrived }
}
