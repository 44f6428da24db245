//! What one segment costs the transport layer on TCP's fast path: the layer alone, without threads, devices and IP, driven as its thread drives it, in batches of 32.
//!
//! - `data_in_order`: full segments, their checksums verified by the device; one acknowledgement for the batch; the program takes the data.
//! - `pure_acknowledgements`: each acknowledges a full segment; the connection, held by a constant window, sends as much again.

use criterion::{Criterion, Throughput};
use hopline::config::Config;
use hopline::counters::Counters;
use hopline::device::{DeviceOffload, Medium};
use hopline::layer::{Layer, Outbox};
use hopline::link::Cast;
use hopline::network::topology::{AddressMode, Topology};
use hopline::network::{self, Delivery};
use hopline::packet::{ChecksumState, Packet, Pool};
use hopline::random::SecretRandom;
use hopline::time::Instant;
use hopline::transport::shared::{DeviceRoom, Mark, MarkQueue, Socket, TcpShared};
use hopline::transport::{Message, Transport};
use hopline::wire::{Protocol, SequenceNumber, TcpFlags, TcpHeader, TcpOptions};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as WallClock};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PORT: u16 = 80;
/// Segments that are handed over at once.
const BATCH: u32 = 32;
/// Bytes of payload in each.
const SIZE: u32 = 1_460;
/// The peer's initial number.
const IRS: SequenceNumber = SequenceNumber(1_000);

/// The dirty list.
#[derive(Default)]
struct Dirty(Mutex<Vec<Socket>>);

impl MarkQueue for Dirty {
    fn push(&self, socket: Socket) {
        self.0.lock().push(socket);
    }
}

/// A transport layer with one connection, and the peer's side of it.
struct Bench {
    transport: Transport,
    out: Outbox<Infallible, network::Message>,
    dirty: Arc<Dirty>,
    shared: Arc<TcpShared>,
    pool: Pool,
    now: Instant,
    host_port: u16,
    /// The peer's next number, and what it acknowledges next.
    next: SequenceNumber,
    acknowledged: SequenceNumber,
    /// The host's next number.
    sent: SequenceNumber,
}

impl Bench {
    /// The connection is established.
    fn new() -> Bench {
        let (config, pool, dirty) = (Config::default(), Pool::default(), Arc::new(Dirty::default()));
        let device_room = Arc::new(DeviceRoom::new(1_024, dirty.clone()));
        let random = SecretRandom::from_seed(1);
        let transport = Transport::new(&config, topology(), pool.clone(), random, dirty.clone(), device_room.clone());
        let (local, remote) = (SocketAddr::from((HOST, 0)), SocketAddr::from((PEER, PORT)));
        let shared = TcpShared::new(dirty.clone(), device_room, local, remote, config.tcp.socket_options());
        let out = Outbox::new(Arc::new(Counters::default()));
        let (now, next) = (Instant::from_secs(1), IRS + 1);
        let mut bench = Bench { transport, out, dirty, shared, pool, now, host_port: 0, next, acknowledged: IRS, sent: IRS };
        bench.shared.mark(Mark::Open);
        bench.run(Vec::new());
        let syn = bench.sent().first().map(|(header, _)| *header).expect("a SYN");
        (bench.host_port, bench.acknowledged, bench.sent) = (syn.source_port, syn.sequence + 1, syn.sequence + 1);
        let options = TcpOptions { maximum_segment_size: Some(SIZE as u16), sack_permitted: true, ..TcpOptions::default() };
        let answer = bench.segment(IRS, TcpFlags::SYN_ACK, options, 0);
        bench.run(vec![answer]);
        assert_eq!(bench.sent().len(), 1, "the handshake is complete");
        bench
    }

    /// A segment of the peer's, as the network layer hands it over.
    fn segment(&self, sequence: SequenceNumber, flags: TcpFlags, options: TcpOptions, length: u32) -> Message {
        let header = TcpHeader {
            source_port: PORT,
            destination_port: self.host_port,
            sequence,
            acknowledgement: self.acknowledged,
            flags,
            window: u16::MAX,
            urgent_pointer: 0,
            options,
        };
        let mut bytes = vec![0x55; header.header_length() + length as usize];
        header.emit(&mut bytes);
        let mut packet = Packet::from_bytes(&self.pool, &bytes);
        packet.offload.checksum = ChecksumState::Verified;
        packet.arrived = self.now;
        let [source, destination] = [PEER, HOST].map(IpAddr::from);
        Message::Received(Delivery {
            source,
            destination,
            protocol: Protocol::TCP,
            time_to_live: 64,
            traffic_class: 0,
            cast: Cast::Unicast,
            packet,
        })
    }

    /// One batch, as the layer's loop runs it; then what the sockets want.
    fn run(&mut self, batch: Vec<Message>) {
        batch.into_iter().for_each(|message| self.transport.handle(self.now, message, &mut self.out));
        self.transport.end_batch(self.now, &mut self.out);
        let marked = std::mem::take(&mut *self.dirty.0.lock());
        if !marked.is_empty() {
            marked.into_iter().for_each(|socket| self.transport.handle(self.now, Message::Marked(socket), &mut self.out));
            self.transport.end_batch(self.now, &mut self.out);
        }
        self.out.wakes.drain(..).for_each(|wake| {
            wake.notify();
        });
    }

    /// Headers and lengths of payload that were sent since the last look.
    fn sent(&mut self) -> Vec<(TcpHeader, usize)> {
        let packets = self.out.down.drain(..).filter_map(|message| match message {
            network::Message::Send(outgoing) => Some(outgoing.packet.to_vec()),
            _ => None,
        });
        let parse = |bytes: Vec<u8>| TcpHeader::parse(&bytes).map(|(header, length)| (header, bytes.len() - length));
        packets.map(|bytes| parse(bytes).expect("a segment")).collect()
    }

    fn data(&mut self) -> Vec<Message> {
        self.now += Duration::from_millis(1);
        let numbers = (0..BATCH).map(|index| self.next + index * SIZE);
        let batch = numbers.map(|number| self.segment(number, TcpFlags::ACK, TcpOptions::default(), SIZE)).collect();
        self.next += BATCH * SIZE;
        batch
    }

    /// The program takes everything.
    fn read(&mut self) {
        let is_marked = {
            let mut state = self.shared.state.lock();
            state.received.clear();
            let read = std::mem::take(&mut state.unread);
            state.consumed_unannounced += read;
            state.consumed_unannounced >= state.window_mark_at
        };
        if is_marked {
            self.shared.mark(Mark::Window);
        }
    }

    /// The program has this much more to send.
    fn write(&mut self, bytes: usize) {
        let slice = self.pool.copy_from(0, &vec![0x55; bytes]);
        {
            let mut state = self.shared.state.lock();
            state.unacknowledged += bytes;
            state.to_send.push_back(slice);
        }
        self.shared.mark(Mark::Send);
    }

    /// Of as much as was sent.
    fn acknowledgements(&mut self) -> Vec<Message> {
        self.now += Duration::from_millis(1);
        let mut batch = Vec::new();
        while batch.len() < BATCH as usize && (self.acknowledged + SIZE).before_or_equal(self.sent) {
            self.acknowledged += SIZE;
            batch.push(self.segment(self.next, TcpFlags::ACK, TcpOptions::default(), 0));
        }
        batch
    }

    /// Notes how far the host has sent.
    fn note_sent(&mut self) {
        let bytes: usize = self.sent().iter().map(|(_, length)| length).sum();
        self.sent += bytes as u32;
    }
}

fn topology() -> Arc<Topology> {
    Arc::new(Topology {
        addresses: vec!["192.0.2.1/24".parse().expect("an address with a prefix")],
        routes: vec![],
        mtu: 1_500,
        medium: Medium::Ip,
        offload: DeviceOffload::default(),
        mode: AddressMode::Own,
    })
}

fn data_in_order(rounds: u64) -> Duration {
    let mut bench = Bench::new();
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let batch = bench.data();
        let start = WallClock::now();
        bench.run(batch);
        bench.read();
        total += start.elapsed();
        bench.out.down.clear();
    }
    assert_eq!(bench.shared.state.lock().unread, 0);
    total
}

fn pure_acknowledgements(rounds: u64) -> Duration {
    let mut bench = Bench::new();
    let mut total = Duration::ZERO;
    let mut measured = 0;
    // The first rounds are slow start's, until the window, 44 segments, is full.
    while measured < rounds {
        bench.write((BATCH * SIZE) as usize);
        bench.run(Vec::new());
        bench.note_sent();
        let batch = bench.acknowledgements();
        let is_full = batch.len() == BATCH as usize;
        assert!(!batch.is_empty(), "nothing is under way");
        let start = WallClock::now();
        bench.run(batch);
        let elapsed = start.elapsed();
        bench.note_sent();
        if is_full {
            (total, measured) = (total + elapsed, measured + 1);
        }
    }
    total
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("segment_arrives");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("data_in_order", |bencher| bencher.iter_custom(data_in_order));
    group.bench_function("pure_acknowledgements", |bencher| bencher.iter_custom(pure_acknowledgements));
    group.finish();
    criterion.final_summary();
}
