//! Two hosts, each a network layer over a link layer, joined by a wire: whatever one says the other understands.

use super::*;
use crate::config::LinkConfig;
use crate::link::Link;

struct Host {
    network: Network,
    link: Link,
    above: Out,
    below: Outbox<Message, Packet>,
    pool: Pool,
    address: Ipv4Addr,
}

impl Host {
    fn new(number: u8) -> Host {
        let (pool, medium) = (Pool::default(), Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, number])));
        let address = Ipv4Addr::new(192, 0, 2, number);
        let topology =
            Topology { addresses: vec![Cidr { address: address.into(), prefix_length: 24 }], medium, ..topology(AddressMode::Own) };
        let random = SecretRandom::from_seed(number.into());
        Host {
            network: Network::new(NetworkConfig::default(), Arc::new(topology), pool.clone(), random.clone()),
            link: Link::new(LinkConfig { announce: false, ..LinkConfig::default() }, medium, 1_500, pool.clone(), random),
            above: Outbox::new(Arc::new(Counters::default())),
            below: Outbox::new(Arc::new(Counters::default())),
            pool,
            address,
        }
    }

    /// Carries messages between the two layers until none is left; gives the frames for the wire.
    fn settle(&mut self, now: Instant) -> Vec<Vec<u8>> {
        loop {
            if self.network.deadline().is_some_and(|deadline| deadline <= now) {
                self.network.run_timers(now, &mut self.above);
            }
            if let Some(message) = self.above.down.pop_front() {
                self.link.handle(now, message, &mut self.below);
            } else if let Some(message) = self.below.up.pop_front() {
                self.network.handle(now, message, &mut self.above);
            } else {
                return self.below.down.drain(..).map(|frame| frame.to_vec()).collect();
            }
        }
    }

    fn ping(&mut self, now: Instant, destination: Ipv4Addr, data: &[u8]) {
        let request = icmp(Icmpv4Message::EchoRequest { identifier: 7, sequence: 1 }, data);
        let outgoing = Outgoing {
            source: self.address.into(),
            destination: destination.into(),
            protocol: Protocol::ICMP,
            time_to_live: 64,
            traffic_class: 0,
            fragmentation: Fragmentation::Allowed,
            header_included: false,
            packet: Packet::from_bytes(&self.pool, &request),
        };
        self.network.handle(now, Message::Send(outgoing), &mut self.above);
    }

    fn take(&mut self, now: Instant, frame: &[u8]) {
        let frame = Packet::from_bytes(&self.pool, frame);
        self.link.handle(now, link::Message::Frame(frame), &mut self.below);
    }

    fn replies(&mut self) -> Vec<Vec<u8>> {
        let reply = |message| match message {
            transport::Message::Received(delivery) => Some(delivery.packet.to_vec()),
            _ => None,
        };
        self.above.up.drain(..).filter_map(reply).collect()
    }
}

#[test]
fn a_cold_ping_of_any_size_comes_back_in_any_order_of_its_frames() {
    for (size, is_reversed) in [(0, false), (56, false), (1_472, true), (1_473, true), (65_507, false), (65_507, true)] {
        let (mut near, mut far) = (Host::new(1), Host::new(2));
        let data: Vec<u8> = (0..size).map(|index| (index * 31) as u8).collect();
        near.ping(Instant::ZERO, far.address, &data);
        for round in 0..6 {
            let now = at(round);
            let (mut there, mut back) = (near.settle(now), far.settle(now));
            if is_reversed {
                there.reverse();
                back.reverse();
            }
            there.iter().for_each(|frame| far.take(now, frame));
            back.iter().for_each(|frame| near.take(now, frame));
        }
        assert!(near.replies() == [icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, &data)], "{size} bytes");
        for host in [&near, &far] {
            assert_eq!(host.above.counters().all_dropped().chain(host.below.counters().all_dropped()).count(), 0);
        }
    }
}

#[test]
fn a_ping_to_nobody_is_reported() {
    let mut near = Host::new(1);
    near.ping(Instant::ZERO, Ipv4Addr::new(192, 0, 2, 99), b"anybody?");
    near.settle(Instant::ZERO);
    while let Some(deadline) = near.link.deadline() {
        near.link.run_timers(deadline, &mut near.below);
        near.settle(deadline);
    }
    let is_report = |message: &transport::Message| matches!(message, transport::Message::Error(report) if report.error == DeliveryError::Unreachable { code: 1 });
    assert_eq!(near.above.up.iter().filter(|message| is_report(message)).count(), 1);
}
