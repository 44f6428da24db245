//! The network layer as packet traces with explicit times.

mod fragments;
mod hostile;
mod incoming;
mod outgoing;
mod pair;
mod refusing;

use super::topology::{AddressMode, Cidr, Route, Via};
use super::*;
use crate::counters::Counters;
use crate::device::{DeviceOffload, Medium};
use crate::layer::DropReason;
use crate::packet::{ChecksumState, Segmentation, SegmentationKind};
use crate::wire::{Icmpv4Message, Ipv4Header, MacAddress};
use std::net::Ipv4Addr;

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);

struct Rig {
    network: Network,
    out: Out,
    pool: Pool,
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn topology(mode: AddressMode) -> Topology {
    let default = Route { destination: "0.0.0.0/0".parse().unwrap(), via: Via::Gateway(GATEWAY.into()), metric: 0, source: None };
    Topology {
        addresses: vec!["192.0.2.7/24".parse().unwrap()],
        routes: vec![default],
        mtu: 1_500,
        medium: Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, 7])),
        offload: DeviceOffload::default(),
        mode,
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::with(NetworkConfig::default(), topology(AddressMode::Own))
    }

    fn with(config: NetworkConfig, topology: Topology) -> Rig {
        let pool = Pool::default();
        let network = Network::new(config, Arc::new(topology), pool.clone(), SecretRandom::from_seed(1));
        let mut rig = Rig { network, out: Outbox::new(Arc::new(Counters::default())), pool };
        rig.network.run_timers(Instant::ZERO, &mut rig.out);
        assert_eq!((rig.out.up.len(), rig.out.down.len()), (1, 1), "link and transport are told of the topology");
        rig.out.up.clear();
        rig.out.down.clear();
        rig
    }

    fn handle(&mut self, millis: u64, message: Message) {
        self.network.handle(at(millis), message, &mut self.out);
    }

    fn receive(&mut self, millis: u64, bytes: &[u8]) {
        self.receive_cast(millis, Cast::Unicast, bytes);
    }

    fn receive_cast(&mut self, millis: u64, cast: Cast, bytes: &[u8]) {
        let packet = Packet::from_bytes(&self.pool, bytes);
        self.handle(millis, Message::Received { cast, packet });
    }

    fn send(&mut self, millis: u64, outgoing: Outgoing) {
        self.handle(millis, Message::Send(outgoing));
    }

    fn outgoing(&self, destination: Ipv4Addr, payload: &[u8]) -> Outgoing {
        Outgoing {
            source: US.into(),
            destination: destination.into(),
            protocol: Protocol::UDP,
            time_to_live: 64,
            traffic_class: 0,
            fragmentation: Fragmentation::Allowed,
            header_included: false,
            packet: Packet::from_bytes(&self.pool, payload),
        }
    }

    /// What was sent: next hop, header, payload.
    fn sent(&mut self) -> Vec<(IpAddr, Ipv4Header, Vec<u8>)> {
        let open = |next_hop, packet: Packet| {
            let bytes = packet.to_vec();
            let header = Ipv4Header::parse(&bytes).unwrap();
            assert_eq!(usize::from(header.total_length), bytes.len());
            (next_hop, header, header.payload(&bytes).to_vec())
        };
        let open_all = |message| match message {
            link::Message::Send(outgoing) => vec![open(outgoing.next_hop, outgoing.packet)],
            link::Message::SendFragments { next_hop, fragments, .. } => {
                fragments.into_iter().map(|packet| open(next_hop, packet)).collect()
            }
            other => panic!("{other:?}"),
        };
        self.out.down.drain(..).flat_map(open_all).collect()
    }

    fn delivered(&mut self) -> Vec<Delivery> {
        let open = |message| match message {
            transport::Message::Received(delivery) => delivery,
            transport::Message::Error(report) => panic!("{report:?}"),
            _ => panic!("not a delivery"),
        };
        self.out.up.drain(..).map(open).collect()
    }

    /// What went up that is not a delivery.
    fn reported(&mut self) -> (Vec<ErrorReport>, Vec<(IpAddr, u16)>) {
        let (mut errors, mut mtus) = (Vec::new(), Vec::new());
        for message in self.out.up.drain(..) {
            match message {
                transport::Message::Error(report) => errors.push(report),
                transport::Message::PathMtu { destination, mtu } => mtus.push((destination, mtu)),
                _ => panic!("neither an error nor an MTU"),
            }
        }
        (errors, mtus)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.out.counters().dropped(reason).get()
    }

    fn is_silent(&self) -> bool {
        self.out.is_empty()
    }
}

/// A UDP header from us (or to us) that needs no checksum.
fn udp(source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    crate::wire::UdpHeader { source_port, destination_port, length: 8 + data.len() as u16, checksum: 0 }.emit(&mut bytes);
    bytes.extend_from_slice(data);
    bytes
}

fn to_us() -> Ipv4Header {
    Ipv4Header { source: FAR, destination: US, protocol: Protocol::UDP, ..Ipv4Header::default() }
}

fn from_us() -> Ipv4Header {
    Ipv4Header { source: US, destination: FAR, dont_fragment: true, ..to_us() }
}

/// `header` with its lengths filled in, and `payload`.
fn ip(header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let length = header.emitted_length();
    let mut bytes = vec![0; length];
    Ipv4Header { total_length: (length + payload.len()) as u16, ..header }.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn icmp(message: Icmpv4Message, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; message.header_length()];
    message.emit(&mut bytes);
    bytes.extend_from_slice(data);
    checksum::seal_icmp(&mut bytes);
    bytes
}
