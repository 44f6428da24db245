use super::outgoing::DATAGRAMS_AT_ONCE;
use super::*;
use crate::config::{Config, DatagramConfig, PipelineConfig};
use crate::layer::{DropReason, Layer};
use crate::network::topology::AddressMode;
use crate::network::{self, Delivery, DeliveryError, ErrorReport, Fragmentation};
use crate::packet::{ChecksumState, Packet, Segmentation, SegmentationKind};
use crate::time::Instant;
use crate::transport::Message;
use crate::transport::shared::{Datagram, SocketOptions};
use crate::transport::testing::{Bench, ip, topology};
use crate::wire::UdpHeader;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Bench {
    fn socket_with(&mut self, kind: DatagramKind, local: &str, options: SocketOptions) -> Arc<DatagramShared> {
        let shared = DatagramShared::new(kind, self.marks.clone(), self.room.clone(), end(local), options);
        shared.mark(Mark::Open);
        self.settle();
        shared
    }

    fn socket(&mut self, kind: DatagramKind, local: &str) -> Arc<DatagramShared> {
        self.socket_with(kind, local, DatagramConfig::default().socket_options())
    }

    fn udp(&mut self, local: &str) -> Arc<DatagramShared> {
        self.socket(DatagramKind::Udp, local)
    }

    fn send(&mut self, from: &DatagramShared, to: &str, payload: &[u8]) {
        let datagram = self.datagram(to, payload);
        from.take_room(datagram.send_cost());
        from.state.lock().to_send.push_back(datagram);
        from.mark(Mark::Send);
    }

    fn datagram(&self, to: &str, payload: &[u8]) -> Datagram {
        Datagram {
            peer: end(to),
            local: end("0.0.0.0:0"),
            packet: Packet::from_bytes(&self.pool, payload),
            time_to_live: 64,
            traffic_class: 0,
            arrived: Instant::ZERO,
            fragmentation: Fragmentation::Allowed,
        }
    }

    fn udp_delivery(&self, source: &str, destination: &str, payload: &[u8]) -> Delivery {
        let (source, destination) = (end(source), end(destination));
        let length = (UdpHeader::LENGTH + payload.len()) as u16;
        let header = UdpHeader { source_port: source.port(), destination_port: destination.port(), length, checksum: 0 };
        let mut bytes = vec![0; UdpHeader::LENGTH];
        header.emit(&mut bytes);
        bytes.extend_from_slice(payload);
        self.delivery(&source.ip().to_string(), &destination.ip().to_string(), Protocol::UDP, bytes, UdpHeader::CHECKSUM_OFFSET)
    }

    fn arrive(&mut self, source: &str, destination: &str, payload: &[u8]) {
        let delivery = self.udp_delivery(source, destination, payload);
        self.handle(Message::Received(delivery));
    }

    fn arrive_as(&mut self, cast: Cast, source: &str, destination: &str, payload: &[u8]) {
        let mut delivery = self.udp_delivery(source, destination, payload);
        delivery.cast = cast;
        self.handle(Message::Received(delivery));
    }

    fn report(&mut self, error: DeliveryError, protocol: Protocol, destination: &str, quoted: &[u8]) {
        let (reporter, source, destination) = (ip("192.0.2.254"), ip("192.0.2.1"), ip(destination));
        let quoted = quoted.iter().copied().collect();
        self.handle(Message::Error(ErrorReport { error, reporter, source, destination, protocol, quoted }));
    }
}

fn received(shared: &DatagramShared) -> Vec<Vec<u8>> {
    let mut state = shared.state.lock();
    state.unread = 0;
    std::mem::take(&mut state.received).iter().map(|datagram| datagram.packet.to_vec()).collect()
}

fn failure(shared: &DatagramShared) -> Option<Failure> {
    shared.state.lock().failure.take()
}

#[test]
fn the_best_fitting_socket_gets_a_unicast_datagram() {
    let mut bench = Bench::new(&Config::default());
    let wildcard = bench.udp("0.0.0.0:53");
    let bound = bench.udp("192.0.2.1:53");
    bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"bound");
    bench.arrive("198.51.100.1:9", "192.0.2.2:53", b"wildcard");
    assert_eq!((received(&bound), received(&wildcard)), (vec![b"bound".to_vec()], vec![b"wildcard".to_vec()]));
    wildcard.state.lock().remote = Some(end("198.51.100.1:9"));
    bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"connected");
    bench.arrive("198.51.100.1:8", "192.0.2.1:53", b"other");
    assert_eq!((received(&bound), received(&wildcard)), (vec![b"other".to_vec()], vec![b"connected".to_vec()]));
}

#[test]
fn a_connected_socket_hears_nobody_else() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:53");
    socket.state.lock().remote = Some(end("198.51.100.1:9"));
    bench.arrive("198.51.100.2:9", "192.0.2.1:53", b"stranger");
    assert!(received(&socket).is_empty());
    assert_eq!(bench.dropped(DropReason::NoSocket), 1);
}

#[test]
fn groups_and_broadcast_reach_every_socket_that_fits() {
    let mut bench = Bench::new(&Config::default());
    let sockets = [bench.udp("0.0.0.0:67"), bench.udp("192.0.2.255:67"), bench.udp("192.0.2.1:67")];
    bench.arrive_as(Cast::Broadcast, "192.0.2.9:68", "192.0.2.255:67", b"all");
    assert_eq!(sockets.each_ref().map(|socket| received(socket).len()), [1, 1, 0]);
}

#[test]
fn a_closed_port_is_unreachable_but_never_by_broadcast_nor_on_the_hosts_address() {
    let mut bench = Bench::new(&Config::default());
    bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"x");
    assert!(matches!(bench.out.down.pop_front(), Some(network::Message::PortUnreachable(delivery)) if delivery.packet.len() == 9));
    bench.arrive_as(Cast::Broadcast, "192.0.2.9:9", "192.0.2.255:53", b"x");
    let shared = topology(&["192.0.2.1/24"]);
    bench.handle(Message::Topology(Arc::new(crate::network::topology::Topology { mode: AddressMode::Shared, ..shared })));
    bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"x");
    assert!(bench.out.down.is_empty());
    assert_eq!(bench.dropped(DropReason::NoSocket), 3);
}

#[test]
fn a_wrong_checksum_is_dropped_unless_the_device_vouches_or_there_is_none() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("192.0.2.1:53");
    for (checksum, state) in [(1_u16, ChecksumState::Unknown), (1, ChecksumState::Verified), (0, ChecksumState::Unknown)] {
        let mut delivery = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", b"x");
        delivery.packet.front_mut().unwrap()[6..8].copy_from_slice(&checksum.to_be_bytes());
        delivery.packet.offload.checksum = state;
        bench.handle(Message::Received(delivery));
    }
    assert_eq!((received(&socket).len(), bench.dropped(DropReason::BadChecksum)), (2, 1));
}

#[test]
fn malformed_datagrams_are_counted() {
    let mut bench = Bench::new(&Config::default());
    for bytes in [&[0_u8; 4][..], &[0, 1, 0, 2, 0, 7, 0, 0], &[0, 1, 0, 2, 0, 99, 0, 0]] {
        let mut delivery = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", b"");
        delivery.packet = Packet::from_bytes(&bench.pool, bytes);
        bench.handle(Message::Received(delivery));
    }
    assert_eq!(bench.dropped(DropReason::Malformed), 3);
}

#[test]
fn padding_is_cut_off_and_super_datagrams_are_cut_up() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("192.0.2.1:53");
    let mut padded = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", b"body");
    padded.packet.push(bench.pool.copy_from(0, &[0; 6]));
    padded.packet.offload.checksum = ChecksumState::Verified;
    bench.handle(Message::Received(padded));
    let mut merged = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", b"aabbc");
    merged.packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 2 });
    bench.handle(Message::Received(merged));
    assert_eq!(received(&socket), [b"body".to_vec(), b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()]);
}

#[test]
fn a_full_receive_buffer_loses_what_comes_and_counts_it() {
    let mut bench = Bench::new(&Config::default());
    let options = SocketOptions { receive_buffer: 10_000, ..DatagramConfig::default().socket_options() };
    let socket = bench.socket_with(DatagramKind::Udp, "192.0.2.1:53", options);
    for _ in 0..100 {
        bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"small");
        bench.arrive("198.51.100.1:9", "192.0.2.1:53", b"");
    }
    let state = socket.state.lock();
    assert!(state.unread <= 10_000 && state.received.len() < 10, "{} bytes in {}", state.unread, state.received.len());
    let drops = 200 - state.received.len() as u64;
    assert_eq!((state.receive_drops, bench.dropped(DropReason::ReceiveBufferFull)), (drops, drops));
    assert_eq!(state.unread, state.received.iter().map(Datagram::receive_cost).sum::<usize>());
}

#[test]
fn a_datagram_pins_little_more_than_its_bytes() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("192.0.2.1:53");
    let fragments: Vec<u8> = (0..60_000).map(|index| (index % 251) as u8).collect();
    let mut delivery = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", &fragments);
    let bytes = delivery.packet.to_vec();
    delivery.packet = Packet::default();
    bytes.chunks(8).for_each(|piece| delivery.packet.push(bench.pool.copy_from(0, piece)));
    bench.handle(Message::Received(delivery));
    assert!(socket.state.lock().unread <= 2 * 60_000, "{} bytes", socket.state.lock().unread);
    assert_eq!(received(&socket), [fragments]);
}

#[test]
fn what_is_sent_has_a_header_and_a_partial_checksum() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:5353");
    bench.send(&socket, "192.0.2.9:53", b"query");
    bench.settle();
    let [outgoing] = bench.sent().try_into().unwrap();
    assert_eq!((outgoing.source, outgoing.destination, outgoing.protocol), (ip("192.0.2.1"), ip("192.0.2.9"), Protocol::UDP));
    assert_eq!(outgoing.packet.offload.checksum, ChecksumState::Partial { start: 0, offset: 6 });
    let mut packet = outgoing.packet;
    crate::network::checksum::complete(&mut packet, &bench.pool);
    let header = UdpHeader::parse(&packet.to_vec()).unwrap();
    assert_eq!((header.source_port, header.destination_port, header.length), (5353, 53, 13));
    packet.offload.checksum = ChecksumState::Unknown;
    let delivery = Delivery {
        source: outgoing.source,
        destination: outgoing.destination,
        protocol: Protocol::UDP,
        time_to_live: 64,
        traffic_class: 0,
        cast: Cast::Unicast,
        packet,
    };
    assert!(crate::transport::verify::checksum_is_good(&delivery));
    assert_eq!(socket.in_stack(), 5 + crate::transport::shared::DATAGRAM_OVERHEAD);
    drop(delivery);
    assert_eq!((socket.in_stack(), bench.room.used()), (0, 0));
}

#[test]
fn without_device_room_datagrams_keep_their_order_and_their_turns() {
    let config = Config { pipeline: PipelineConfig { device_room_packets: 4, ..PipelineConfig::default() }, ..Config::default() };
    let mut bench = Bench::new(&config);
    let sockets = [bench.udp("0.0.0.0:1001"), bench.udp("0.0.0.0:1002")];
    for index in 0..50_u8 {
        sockets.iter().for_each(|socket| bench.send(socket, "192.0.2.9:53", &[index]));
    }
    let mut seen: [Vec<u8>; 2] = Default::default();
    for _ in 0..100 {
        bench.settle();
        let sent = bench.sent();
        assert!(sent.len() <= 4 && bench.room.used() <= 4);
        for outgoing in sent {
            let bytes = outgoing.packet.to_vec();
            seen[usize::from(bytes[1] == 0xea)].push(*bytes.last().unwrap());
        }
    }
    let all: Vec<u8> = (0..50).collect();
    assert_eq!(seen, [all.clone(), all]);
    assert!(bench.transport.is_quiet() && sockets.iter().all(|socket| socket.in_stack() == 0));
}

#[test]
fn what_cannot_be_sent_fails_the_socket_and_gives_the_room_back() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:1001");
    let mut unfragmented = bench.datagram("192.0.2.9:53", &[0; 1473]);
    unfragmented.fragmentation = Fragmentation::Forbidden;
    let cases = [
        (bench.datagram("203.0.113.1:53", b"x"), Failure::NetworkUnreachable, DropReason::NoRoute),
        (bench.datagram("[2001:db8::1]:53", b"x"), Failure::NetworkUnreachable, DropReason::NoRoute),
        (bench.datagram("192.0.2.255:53", b"x"), Failure::Prohibited, DropReason::NotPermitted),
        (bench.datagram("192.0.2.9:53", &[0; 65_508]), Failure::MessageTooBig, DropReason::TooBig),
        (unfragmented, Failure::MessageTooBig, DropReason::TooBig),
    ];
    for (datagram, expected, reason) in cases {
        let before = bench.dropped(reason);
        socket.take_room(datagram.send_cost());
        socket.state.lock().to_send.push_back(datagram);
        socket.mark(Mark::Send);
        bench.settle();
        assert_eq!((failure(&socket), bench.dropped(reason) - before), (Some(expected), 1));
        assert_eq!((socket.in_stack(), bench.room.used(), bench.sent().len()), (0, 0, 0));
    }
}

#[test]
fn the_largest_datagram_leaves_whole_and_broadcast_needs_leave() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:1001");
    bench.send(&socket, "192.0.2.9:53", &[7; 65_507]);
    socket.state.lock().options.broadcast = true;
    bench.send(&socket, "255.255.255.255:67", b"discover");
    bench.settle();
    let lengths: Vec<usize> = bench.sent().iter().map(|outgoing| outgoing.packet.len()).collect();
    assert_eq!(lengths, [65_515, 16]);
}

#[test]
fn ports_are_chosen_held_and_given_back() {
    let mut bench = Bench::new(&Config::default());
    let chosen = bench.udp("0.0.0.0:0");
    let port = chosen.state.lock().local.port();
    assert!((32_768..=60_999).contains(&port) && chosen.state.lock().bound);
    let rival = bench.udp(&format!("0.0.0.0:{port}"));
    assert_eq!((failure(&rival), rival.state.lock().bound), (Some(Failure::AddressInUse), false));
    chosen.mark(Mark::Released);
    bench.settle();
    assert_eq!(bench.transport.datagrams.len(), 0);
    assert!(bench.udp(&format!("0.0.0.0:{port}")).state.lock().bound);
}

#[test]
fn foreign_addresses_cannot_be_bound() {
    let mut bench = Bench::new(&Config::default());
    for address in ["192.0.2.3:53", "[2001:db8::1]:53"] {
        assert_eq!(failure(&bench.udp(address)), Some(Failure::AddressNotAvailable));
    }
}

#[test]
fn the_bound_on_sockets_holds() {
    let config = Config { datagram: DatagramConfig { sockets: 3, ..DatagramConfig::default() }, ..Config::default() };
    let mut bench = Bench::new(&config);
    let open: Vec<_> = (0..3).map(|_| bench.udp("0.0.0.0:0")).collect();
    let surplus = bench.udp("0.0.0.0:0");
    assert_eq!(failure(&surplus), Some(Failure::ResourceLimit));
    open[0].mark(Mark::Released);
    bench.settle();
    assert!(bench.udp("0.0.0.0:0").state.lock().bound);
}

#[test]
fn the_last_datagrams_leave_after_the_last_handle_is_gone() {
    let config = Config { pipeline: PipelineConfig { device_room_packets: 1, ..PipelineConfig::default() }, ..Config::default() };
    let mut bench = Bench::new(&config);
    let socket = bench.udp("0.0.0.0:1001");
    for index in 0..5 {
        bench.send(&socket, "192.0.2.9:53", &[index]);
    }
    socket.mark(Mark::Released);
    let mut count = 0;
    for _ in 0..20 {
        bench.settle();
        count += bench.sent().len();
    }
    assert_eq!((count, bench.transport.datagrams.len(), socket.in_stack()), (5, 0, 0));
}

#[test]
fn marks_after_the_end_do_nothing_even_when_the_place_has_a_new_tenant() {
    let mut bench = Bench::new(&Config::default());
    let gone = bench.udp("0.0.0.0:1001");
    let place = gone.place.load(Ordering::Relaxed);
    gone.mark(Mark::Released);
    bench.settle();
    let tenant = bench.udp("0.0.0.0:1002");
    assert_eq!((tenant.place.load(Ordering::Relaxed), gone.place.load(Ordering::Relaxed)), (place, 0));
    gone.mark(Mark::Send);
    gone.mark(Mark::Released);
    bench.settle();
    assert_eq!(bench.transport.datagrams.len(), 1);
    assert!(tenant.state.lock().bound);
}

#[test]
fn connected_sockets_are_told_of_unreachable_ports_and_others_are_not() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:1001");
    let quoted = [0x03, 0xe9, 0, 53, 0, 9, 0, 0];
    let refused = DeliveryError::Unreachable { code: 3 };
    bench.report(refused, Protocol::UDP, "192.0.2.9", &quoted);
    assert_eq!(failure(&socket), None);
    socket.state.lock().remote = Some(end("192.0.2.9:53"));
    bench.report(refused, Protocol::UDP, "192.0.2.8", &quoted);
    bench.report(refused, Protocol::UDP, "192.0.2.9", &quoted[..3]);
    assert_eq!(failure(&socket), None);
    let cases = [
        (refused, Some(Failure::Refused)),
        (DeliveryError::Unreachable { code: 1 }, Some(Failure::HostUnreachable)),
        (DeliveryError::Unreachable { code: 0 }, Some(Failure::NetworkUnreachable)),
        (DeliveryError::Unreachable { code: 13 }, Some(Failure::Prohibited)),
        (DeliveryError::PacketTooBig { mtu: 1300 }, Some(Failure::MessageTooBig)),
        (DeliveryError::TimeExceeded { code: 0 }, None),
    ];
    for (error, expected) in cases {
        bench.report(error, Protocol::UDP, "192.0.2.9", &quoted);
        assert_eq!(failure(&socket), expected, "{error:?}");
    }
}

fn echo(kind: u8, identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    vec![kind, 0, 0, 0, high, low, 0, 1, b'd', b'a', b't', b'a']
}

#[test]
fn echo_sockets_send_and_hear_under_their_identifier() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.socket(DatagramKind::IcmpEcho, "0.0.0.0:0");
    let identifier = socket.state.lock().local.port();
    bench.send(&socket, "192.0.2.9:0", &echo(8, 0));
    bench.settle();
    let [sent] = bench.sent().try_into().unwrap();
    assert_eq!(crate::wire::checksum::checksum(&sent.packet.to_vec()), 0);
    assert_eq!(sent.packet.to_vec()[4..6], identifier.to_be_bytes());
    for (kind, identifier) in [(0, identifier), (0, identifier ^ 1), (8, identifier)] {
        let delivery = bench.delivery("192.0.2.9", "192.0.2.1", Protocol::ICMP, echo(kind, identifier), 2);
        bench.handle(Message::Received(delivery));
    }
    assert_eq!((received(&socket).len(), bench.dropped(DropReason::NoSocket)), (1, 2));
}

#[test]
fn echo_sockets_keep_a_bounded_number_of_errors() {
    let config = Config { datagram: DatagramConfig { error_reports: 2, ..DatagramConfig::default() }, ..Config::default() };
    let mut bench = Bench::new(&config);
    let socket = bench.socket(DatagramKind::IcmpEcho, "0.0.0.0:7");
    for code in 0..5 {
        bench.report(DeliveryError::TimeExceeded { code }, Protocol::ICMP, "192.0.2.9", &echo(8, 7));
        bench.report(DeliveryError::TimeExceeded { code }, Protocol::ICMP, "192.0.2.9", &echo(8, 8));
    }
    let state = socket.state.lock();
    let codes: Vec<_> = state.errors.iter().map(|(_, report)| report.error).collect();
    assert_eq!(codes, [DeliveryError::TimeExceeded { code: 3 }, DeliveryError::TimeExceeded { code: 4 }]);
}

#[test]
fn raw_sockets_see_every_packet_of_their_protocol_as_it_would_be_on_a_wire() {
    let mut bench = Bench::new(&Config::default());
    let raw = bench.socket(DatagramKind::Raw(Protocol::UDP), "0.0.0.0:0");
    let udp = bench.udp("192.0.2.1:53");
    let mut delivery = bench.udp_delivery("198.51.100.1:9", "192.0.2.1:53", b"x");
    let complete = delivery.packet.to_vec();
    let sum = crate::wire::checksum::pseudo_header(delivery.source, delivery.destination, Protocol::UDP, 9).partial();
    delivery.packet.front_mut().unwrap()[6..8].copy_from_slice(&sum.to_be_bytes());
    delivery.packet.offload.checksum = ChecksumState::Partial { start: 0, offset: 6 };
    bench.handle(Message::Received(delivery));
    assert_eq!((received(&raw), received(&udp)), (vec![complete], vec![b"x".to_vec()]));
    raw.mark(Mark::Released);
    bench.settle();
    assert!(bench.transport.datagrams.raw.is_empty());
}

#[test]
fn an_unknown_protocol_is_counted_unless_a_raw_socket_takes_it() {
    let mut bench = Bench::new(&Config::default());
    let packet = |bench: &Bench| bench.delivery("198.51.100.1", "192.0.2.1", Protocol(132), vec![0; 12], 8);
    let first = packet(&bench);
    bench.handle(Message::Received(first));
    let raw = bench.socket(DatagramKind::Raw(Protocol(132)), "0.0.0.0:0");
    let second = packet(&bench);
    bench.handle(Message::Received(second));
    assert_eq!((bench.dropped(DropReason::UnknownProtocol), received(&raw).len()), (1, 1));
}

#[test]
fn a_vanished_address_is_told_to_the_sockets_bound_to_it() {
    let mut bench = Bench::new(&Config::default());
    let sockets = [bench.udp("192.0.2.1:53"), bench.udp("192.0.2.2:53"), bench.udp("0.0.0.0:53")];
    bench.handle(Message::Topology(Arc::new(topology(&["192.0.2.1/24"]))));
    assert_eq!(sockets.each_ref().map(|socket| failure(socket)), [None, Some(Failure::AddressNotAvailable), None]);
}

#[test]
fn a_failed_stack_fails_every_socket_and_opens_none() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("192.0.2.1:53");
    bench.send(&socket, "192.0.2.9:53", b"lost");
    bench.handle(Message::FailAll(Failure::NetworkDown));
    bench.settle();
    assert_eq!((failure(&socket), socket.place.load(Ordering::Relaxed)), (Some(Failure::NetworkDown), 0));
    assert_eq!(failure(&bench.udp("192.0.2.1:53")), Some(Failure::NetworkDown));
    assert!(bench.transport.is_quiet());
}

impl Bench {
    /// The device cuts super-datagrams.
    fn with_segmentation(config: &Config) -> Bench {
        let mut bench = Bench::new(config);
        let offload = crate::device::DeviceOffload { udp_segmentation: true, ..Default::default() };
        bench.handle(Message::Topology(Arc::new(crate::network::topology::Topology { offload, ..topology(&["192.0.2.1/24"]) })));
        bench
    }

    /// Segment size (0: none) and bytes of each packet that has left.
    fn sent_sizes(&mut self) -> Vec<(u16, usize)> {
        let messages = std::mem::take(&mut self.out.down);
        let size_of = |message| match message {
            network::Message::Send(outgoing) => {
                let size = outgoing.packet.offload.segmentation.map_or(0, |segmentation| segmentation.size);
                (size, outgoing.packet.len() - UdpHeader::LENGTH)
            }
            _ => panic!("no datagram"),
        };
        messages.into_iter().map(size_of).collect()
    }
}

#[test]
fn equal_datagrams_to_one_peer_leave_as_one_where_the_device_cuts_them() {
    let mut bench = Bench::with_segmentation(&Config::default());
    let socket = bench.udp("0.0.0.0:53");
    let lengths = [vec![100; DATAGRAMS_AT_ONCE + 3], vec![40, 41, 41, 0, 1_473, 1_473]].concat();
    for &length in &lengths {
        bench.send(&socket, "192.0.2.9:9", &vec![7; length]);
    }
    bench.send(&socket, "192.0.2.8:9", b"another peer");
    bench.settle();
    let whole = 100 * DATAGRAMS_AT_ONCE;
    assert_eq!(bench.sent_sizes(), [(100, whole), (100, 340), (41, 82), (0, 0), (0, 1_473), (0, 1_473), (0, 12)]);
    assert_eq!(bench.out.counters().transport.datagrams_sent.get(), lengths.len() as u64 + 1);
    assert_eq!((socket.in_stack(), bench.room.used()), (0, 0), "all that was lent has come back");
}

#[test]
fn without_such_a_device_and_on_the_way_to_ourselves_each_goes_by_itself() {
    let mut bench = Bench::new(&Config::default());
    let socket = bench.udp("0.0.0.0:53");
    (0..3).for_each(|_| bench.send(&socket, "192.0.2.9:9", b"same"));
    bench.settle();
    assert_eq!(bench.sent_sizes(), [(0, 4); 3]);
    let mut bench = Bench::with_segmentation(&Config::default());
    let socket = bench.udp("0.0.0.0:53");
    (0..3).for_each(|_| bench.send(&socket, "192.0.2.1:9", b"same"));
    bench.settle();
    assert_eq!(bench.sent_sizes(), [(0, 4); 3]);
}

#[test]
fn a_batch_has_an_end_however_much_there_is_to_send() {
    let mut config = Config::default();
    config.datagram.turns_in_a_batch = 2;
    let mut bench = Bench::new(&config);
    let socket = bench.udp("0.0.0.0:53");
    (0..100).for_each(|_| bench.send(&socket, "192.0.2.9:9", b"flood"));
    bench.handle(Message::Marked(crate::transport::shared::Socket::Datagram(socket.clone())));
    bench.transport.end_batch(bench.now, &mut bench.out);
    assert_eq!((bench.sent_sizes().len(), bench.out.counters().transport.datagram_batches_cut.get()), (32, 1));
    bench.settle();
    assert_eq!(bench.sent_sizes().len(), 68);
}
