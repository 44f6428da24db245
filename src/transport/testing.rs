//! What the tests of this layer share: a driver of one transport layer, without anything below it.

use super::shared::{DeviceRoom, MarkQueue, Socket};
use super::{Message, Transport};
use crate::config::Config;
use crate::counters::Counters;
use crate::device::{DeviceOffload, Medium};
use crate::layer::{DropReason, Layer, Outbox};
use crate::link::Cast;
use crate::network::topology::{AddressMode, Topology};
use crate::network::{self, Delivery, Outgoing};
use crate::packet::{Packet, Pool};
use crate::random::SecretRandom;
use crate::time::{Duration, Instant};
use crate::wire::checksum::pseudo_header;
use crate::wire::{Protocol, TcpHeader};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct TestMarks(Mutex<Vec<Socket>>);

impl MarkQueue for TestMarks {
    fn push(&self, socket: Socket) {
        self.0.lock().push(socket);
    }
}

/// One transport layer at 192.0.2.1/24 and 192.0.2.2/24, driven by hand.
pub(super) struct Bench {
    pub(super) transport: Transport,
    pub(super) out: Outbox<Infallible, network::Message>,
    pub(super) marks: Arc<TestMarks>,
    pub(super) room: Arc<DeviceRoom>,
    pub(super) pool: Pool,
    pub(super) now: Instant,
}

pub(super) fn topology(addresses: &[&str]) -> Topology {
    Topology {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        routes: Vec::new(),
        mtu: 1500,
        medium: Medium::Ip,
        offload: DeviceOffload::default(),
        mode: AddressMode::Own,
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Bench {
    pub(super) fn new(config: &Config) -> Bench {
        let marks = Arc::new(TestMarks::default());
        let room = Arc::new(DeviceRoom::new(config.pipeline.device_room_packets, marks.clone()));
        let pool = Pool::default();
        let topology = Arc::new(topology(&["192.0.2.1/24", "192.0.2.2/24"]));
        let random = SecretRandom::from_seed(1);
        let transport = Transport::new(config, topology, pool.clone(), random, marks.clone(), room.clone());
        Bench { transport, out: Outbox::new(Arc::new(Counters::default())), marks, room, pool, now: Instant::from_secs(1) }
    }

    pub(super) fn handle(&mut self, message: Message) {
        self.transport.handle(self.now, message, &mut self.out);
    }

    /// Hands every mark over, ends the batch, and repeats while there are marks; wakes nobody.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let is_idle = !self.take_marks();
            self.transport.end_batch(self.now, &mut self.out);
            if is_idle {
                return;
            }
        }
        panic!("the transport layer does not come to rest");
    }

    /// Hands every mark over; more may happen in the same batch. False if there was none.
    pub(super) fn take_marks(&mut self) -> bool {
        let marked = std::mem::take(&mut *self.marks.0.lock());
        let is_any = !marked.is_empty();
        marked.into_iter().for_each(|socket| self.handle(Message::Marked(socket)));
        is_any
    }

    #[track_caller]
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..100_000 {
            let Some(at) = self.transport.deadline().filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.transport.run_timers(self.now, &mut self.out);
            self.settle();
        }
        panic!("timers do not come to rest: {:?} at {:?}", self.transport.deadline(), self.now);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.transport.deadline()
    }

    /// What left since the last call.
    pub(super) fn sent(&mut self) -> Vec<Outgoing> {
        let sent = self.out.down.drain(..).filter_map(|message| match message {
            network::Message::Send(outgoing) => Some(outgoing),
            _ => None,
        });
        sent.collect()
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.out.counters().dropped(reason).get()
    }

    /// What left that was TCP: the header of each segment, and where it went.
    pub(super) fn segments(&mut self) -> Vec<(TcpHeader, SocketAddr)> {
        let sent = self.sent().into_iter().filter(|outgoing| outgoing.protocol == Protocol::TCP);
        sent.map(|outgoing| {
            let (header, _) = TcpHeader::parse(&outgoing.packet.to_vec()).unwrap();
            (header, SocketAddr::new(outgoing.destination, header.destination_port))
        })
        .collect()
    }

    /// A segment arrives, and the batch ends.
    pub(super) fn arrive_segment(&mut self, source: &str, destination: &str, header: TcpHeader, payload: &[u8]) {
        self.take_segment(source, destination, header, payload);
        self.settle();
    }

    /// A segment arrives, and more may in the same batch.
    pub(super) fn take_segment(&mut self, source: &str, destination: &str, header: TcpHeader, payload: &[u8]) {
        let (source, destination): (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
        let header = TcpHeader { source_port: source.port(), destination_port: destination.port(), window: 65_000, ..header };
        let mut bytes = vec![0; header.header_length()];
        header.emit(&mut bytes);
        bytes.extend_from_slice(payload);
        let (source, destination) = (source.ip().to_string(), destination.ip().to_string());
        let delivery = self.delivery(&source, &destination, Protocol::TCP, bytes, TcpHeader::CHECKSUM_OFFSET);
        self.handle(Message::Received(delivery));
    }

    /// A packet for us, with the checksum that `protocol` wants at `offset`.
    pub(super) fn delivery(&self, source: &str, destination: &str, protocol: Protocol, mut bytes: Vec<u8>, offset: usize) -> Delivery {
        let (source, destination) = (ip(source), ip(destination));
        let mut sum = match protocol {
            Protocol::ICMP => crate::wire::Checksum::new(),
            _ => pseudo_header(source, destination, protocol, bytes.len() as u32),
        };
        sum.add_bytes(&bytes);
        bytes[offset..offset + 2].copy_from_slice(&sum.finish().to_be_bytes());
        let packet = Packet::from_bytes(&self.pool, &bytes);
        Delivery { source, destination, protocol, time_to_live: 64, traffic_class: 0, cast: Cast::Unicast, packet }
    }
}
