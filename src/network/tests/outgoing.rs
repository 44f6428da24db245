//! What goes out: routes, headers, fragments, errors of ours.

use super::*;

#[test]
fn a_packet_gets_its_header_and_next_hop() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(FAR, b"payload");
    rig.send(0, Outgoing { time_to_live: 5, traffic_class: 0x2e, fragmentation: Fragmentation::Forbidden, ..packet });
    let (next_hop, header, payload) = rig.sent().remove(0);
    assert_eq!((next_hop, payload.as_slice()), (GATEWAY.into(), &b"payload"[..]));
    assert_eq!((header.source, header.destination, header.protocol), (US, FAR, Protocol::UDP));
    assert_eq!((header.time_to_live, header.traffic_class, header.dont_fragment, header.identification), (5, 0x2e, true, 0));
    let packet = rig.outgoing(PEER, b"x");
    rig.send(0, packet);
    assert_eq!(rig.sent()[0].0, IpAddr::from(PEER));
}

#[test]
fn a_packet_without_a_route_is_reported() {
    let mut rig = Rig::with(NetworkConfig::default(), Topology { routes: vec![], ..topology(AddressMode::Own) });
    let packet = rig.outgoing(FAR, b"to nowhere");
    rig.send(0, packet);
    let (errors, _) = rig.reported();
    assert_eq!((errors[0].error, &errors[0].quoted[..]), (DeliveryError::NoRoute, &b"to nowhere"[..]));
    assert_eq!(rig.dropped(DropReason::NoRoute), 1);
}

#[test]
fn what_is_for_ourselves_never_reaches_the_link() {
    let mut rig = Rig::new();
    for destination in [US, Ipv4Addr::LOCALHOST] {
        let packet = rig.outgoing(destination, b"hello me");
        rig.send(0, packet);
        let delivery = rig.delivered().remove(0);
        assert_eq!((delivery.destination, delivery.packet.to_vec().as_slice()), (destination.into(), &b"hello me"[..]));
    }
    assert!(rig.is_silent());
}

fn with(rig: &Rig, fragmentation: Fragmentation, payload: &[u8]) -> Outgoing {
    Outgoing { fragmentation, ..rig.outgoing(FAR, payload) }
}

/// As if a router had said that the path to `FAR` carries 1,000 bytes.
fn learn(rig: &mut Rig) {
    rig.network.path_mtus.lower(Instant::ZERO, FAR.into(), 1_000, 1_500);
}

#[test]
fn what_may_be_cut_is_cut_to_the_mtu_that_counts_for_it() {
    let mut rig = Rig::new();
    learn(&mut rig);
    let mut largest = |how| {
        let packet = with(&rig, how, &[1; 4_000]);
        rig.send(0, packet);
        let sent = rig.sent();
        assert_eq!(sent.iter().flat_map(|(_, _, payload)| payload).count(), 4_000);
        assert!(sent.iter().all(|(_, header, _)| header.identification == sent[0].1.identification));
        (sent.iter().map(|(_, header, _)| header.total_length).max().unwrap(), sent[0].1.dont_fragment)
    };
    assert_eq!(largest(Fragmentation::Allowed), (1_500, false));
    assert_eq!(largest(Fragmentation::LocalOnly), (996, true));
    assert_eq!(rig.out.counters().network.fragments_sent.get(), 3 + 5);
}

#[test]
fn what_may_not_be_cut_is_reported() {
    let mut rig = Rig::new();
    learn(&mut rig);
    let packet = with(&rig, Fragmentation::Forbidden, &[1; 980]);
    rig.send(0, packet);
    assert_eq!(rig.sent().len(), 1);
    let packet = with(&rig, Fragmentation::Forbidden, &[1; 981]);
    rig.send(0, packet);
    let (errors, mtus) = rig.reported();
    assert_eq!((errors[0].error, mtus), (DeliveryError::PacketTooBig { mtu: 1_000 }, vec![]));
    assert_eq!(rig.dropped(DropReason::TooBig), 1);
    let expired = Instant::from_secs(600).as_millis();
    let packet = with(&rig, Fragmentation::Forbidden, &[1; 1_480]);
    rig.send(expired, packet);
    assert_eq!(rig.sent().len(), 1, "a learned path MTU is forgotten");
}

#[test]
fn no_packet_is_longer_than_its_length_field_can_say() {
    let mut rig = Rig::new();
    let packet = with(&rig, Fragmentation::Allowed, &[1; 65_515]);
    rig.send(0, packet);
    assert_eq!(rig.sent().len(), 45);
    let mut longer = Packet::from_bytes(&rig.pool, &[1; 65_000]);
    longer.push(rig.pool.copy_from(0, &[1; 516]));
    let packet = Outgoing { packet: longer, ..with(&rig, Fragmentation::Allowed, b"") };
    rig.send(0, packet);
    assert_eq!((rig.reported().0.len(), rig.dropped(DropReason::TooBig)), (1, 1));
}

fn super_segment(rig: &Rig, destination: Ipv4Addr, size: u16) -> Outgoing {
    let mut header = vec![0; 20];
    header[12] = 0x50;
    header.resize(40_000, 7);
    let mut outgoing = rig.outgoing(destination, &header);
    outgoing.protocol = Protocol::TCP;
    outgoing.fragmentation = Fragmentation::Forbidden;
    outgoing.packet.offload.segmentation = Some(Segmentation { kind: SegmentationKind::TcpIpv4, size });
    outgoing.packet.offload.checksum = ChecksumState::Partial { start: 0, offset: 16 };
    outgoing
}

#[test]
fn a_super_segment_goes_whole_or_not_at_all() {
    let mut rig = Rig::new();
    let packet = super_segment(&rig, PEER, 1_460);
    rig.send(0, packet);
    match rig.out.down.pop_front() {
        Some(link::Message::Send(outgoing)) => {
            assert_eq!((outgoing.packet.len(), outgoing.packet.slices().len()), (40_020, 1));
            assert_eq!(outgoing.packet.offload.checksum, ChecksumState::Partial { start: 20, offset: 16 });
            assert_eq!(outgoing.packet.offload.segmentation.map(|how| how.size), Some(1_460));
        }
        other => panic!("{other:?}"),
    }
    let packet = super_segment(&rig, FAR, 1_461);
    rig.send(0, packet);
    assert_eq!((rig.out.down.len(), rig.reported().1), (0, vec![(FAR.into(), 1_500)]));
}

#[test]
fn groups_are_their_own_next_hop_and_need_no_address() {
    let mut rig = Rig::with(NetworkConfig::default(), Topology { addresses: vec![], routes: vec![], ..topology(AddressMode::Own) });
    let packet = rig.outgoing(Ipv4Addr::BROADCAST, b"discover");
    rig.send(0, Outgoing { source: Ipv4Addr::UNSPECIFIED.into(), ..packet });
    let (next_hop, header, _) = rig.sent().remove(0);
    assert_eq!((next_hop, header.source), (Ipv4Addr::BROADCAST.into(), Ipv4Addr::UNSPECIFIED));
}

#[test]
fn an_open_source_is_filled_in_by_the_route() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(FAR, b"x");
    rig.send(0, Outgoing { source: Ipv4Addr::UNSPECIFIED.into(), ..packet });
    assert_eq!(rig.sent()[0].1.source, US);
}

#[test]
fn loopback_addresses_stay_within_the_host() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(FAR, b"x");
    rig.send(0, Outgoing { source: Ipv4Addr::LOCALHOST.into(), ..packet });
    assert_eq!((rig.dropped(DropReason::BadSource), rig.sent().len(), rig.reported().0.len()), (1, 0, 1));
}

#[test]
fn another_family_has_no_route_yet() {
    let mut rig = Rig::new();
    let far = "2001:db8::1".parse().unwrap();
    let packet = Outgoing { destination: far, source: "2001:db8::2".parse().unwrap(), ..rig.outgoing(FAR, b"x") };
    rig.send(0, packet);
    let (errors, _) = rig.reported();
    assert_eq!((errors[0].error, errors[0].destination), (DeliveryError::NoRoute, far));
}

fn raw(rig: &Rig, bytes: &[u8]) -> Outgoing {
    Outgoing { header_included: true, ..rig.outgoing(FAR, bytes) }
}

#[test]
fn a_raw_socket_brings_its_own_header() {
    let mut rig = Rig::new();
    let header = Ipv4Header { source: PEER, identification: 77, time_to_live: 3, traffic_class: 4, ..from_us() };
    let mut bytes = ip(header, b"payload");
    bytes[2..4].fill(0);
    bytes[10..12].fill(0);
    let packet = raw(&rig, &bytes);
    rig.send(0, packet);
    let (next_hop, sent, payload) = rig.sent().remove(0);
    assert_eq!((next_hop, payload.as_slice()), (GATEWAY.into(), &b"payload"[..]));
    assert_eq!(sent, Ipv4Header { total_length: 27, ..header });
}

#[test]
fn a_raw_fragment_is_sent_as_it_is_and_garbage_is_not() {
    let mut rig = Rig::new();
    let header = Ipv4Header { identification: 77, fragment_offset: 800, more_fragments: true, dont_fragment: false, ..from_us() };
    let packet = raw(&rig, &ip(header, &[1; 800]));
    rig.send(0, packet);
    let (_, sent, _) = rig.sent().remove(0);
    assert_eq!((sent.fragment_offset, sent.more_fragments, sent.identification), (800, true, 77));
    for garbage in [&[][..], &[0x45; 5], &[0x65; 40], &[0x4f; 30]] {
        let packet = raw(&rig, garbage);
        rig.send(0, packet);
    }
    assert_eq!((rig.dropped(DropReason::Malformed), rig.is_silent()), (4, true));
}

#[test]
fn a_silent_neighbour_is_host_unreachable() {
    let mut rig = Rig::new();
    let packet = Packet::from_bytes(&rig.pool, &ip(from_us(), &udp(4_000, 53, b"question")));
    rig.handle(0, Message::Unreachable { next_hop: GATEWAY.into(), packet });
    let (errors, _) = rig.reported();
    assert_eq!((errors[0].error, errors[0].reporter), (DeliveryError::Unreachable { code: 1 }, US.into()));
    assert_eq!(&errors[0].quoted[..], udp(4_000, 53, b"question"));
    assert_eq!(rig.dropped(DropReason::NeighbourUnreachable), 1);
}

#[test]
fn nobody_is_told_of_lost_answers_and_later_fragments() {
    let mut rig = Rig::new();
    let reply = icmp(Icmpv4Message::EchoReply { identifier: 1, sequence: 1 }, b"");
    let answer = ip(Ipv4Header { protocol: Protocol::ICMP, ..from_us() }, &reply);
    let fragment = ip(Ipv4Header { fragment_offset: 1_480, ..from_us() }, &[0; 100]);
    for bytes in [&answer[..], &fragment, &[0x45]] {
        let packet = Packet::from_bytes(&rig.pool, bytes);
        rig.handle(0, Message::Unreachable { next_hop: GATEWAY.into(), packet });
    }
    assert_eq!((rig.dropped(DropReason::NeighbourUnreachable), rig.is_silent()), (3, true));
    let request = icmp(Icmpv4Message::EchoRequest { identifier: 1, sequence: 1 }, b"");
    let packet = Packet::from_bytes(&rig.pool, &ip(Ipv4Header { protocol: Protocol::ICMP, ..from_us() }, &request));
    rig.handle(0, Message::Unreachable { next_hop: GATEWAY.into(), packet });
    assert_eq!(rig.reported().0.len(), 1);
}

#[test]
fn what_the_link_finds_too_big_is_told_to_tcp() {
    let mut rig = Rig::new();
    let packet = Packet::from_bytes(&rig.pool, &ip(from_us(), &udp(4_000, 53, b"")));
    rig.handle(0, Message::TooBig { packet });
    let (errors, mtus) = rig.reported();
    assert_eq!((errors[0].error, mtus), (DeliveryError::PacketTooBig { mtu: 1_500 }, vec![(FAR.into(), 1_500)]));
}

#[test]
fn a_new_topology_is_passed_on_and_forgets_what_was_learned() {
    let mut rig = Rig::new();
    learn(&mut rig);
    let moved = Topology { addresses: vec!["198.51.100.7/24".parse().unwrap()], ..topology(AddressMode::Own) };
    rig.handle(0, Message::Topology(Arc::new(moved)));
    assert!(matches!(rig.out.down.pop_front(), Some(link::Message::Addresses(own)) if own == [IpAddr::from([198, 51, 100, 7])]));
    assert!(matches!(rig.out.up.pop_front(), Some(transport::Message::Topology(_))));
    let packet = with(&rig, Fragmentation::Forbidden, &[1; 1_480]);
    rig.send(0, packet);
    assert_eq!(rig.sent()[0].0, IpAddr::from(FAR), "a neighbour now");
}

#[test]
fn a_steady_stream_allocates_nothing() {
    let mut rig = Rig::new();
    let mut stream = |count: usize| {
        for _ in 0..count {
            let packet = rig.outgoing(FAR, &[1; 1_400]);
            rig.send(0, packet);
            rig.receive(0, &ip(to_us(), &udp(1, 2, &[1; 1_400])));
            rig.out.up.clear();
            rig.out.down.clear();
        }
        rig.pool.allocations()
    };
    assert_eq!(stream(1), stream(100));
}

#[test]
fn the_unspecified_address_is_nowhere() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(Ipv4Addr::UNSPECIFIED, b"x");
    rig.send(0, packet);
    assert_eq!((rig.reported().0[0].error, rig.sent().len()), (DeliveryError::NoRoute, 0));
}

#[test]
fn a_raw_packet_to_ourselves_turns_round_without_a_route() {
    let mut rig = Rig::with(NetworkConfig::default(), Topology { routes: vec![], ..topology(AddressMode::Own) });
    let packet = raw(&rig, &ip(Ipv4Header { destination: Ipv4Addr::LOCALHOST, ..from_us() }, b"x"));
    rig.send(0, Outgoing { destination: Ipv4Addr::LOCALHOST.into(), ..packet });
    assert_eq!(rig.delivered()[0].packet.to_vec(), b"x");
}
