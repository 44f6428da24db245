//! What comes in: checks, delivery, echo, errors about our packets.

use super::*;
use crate::wire::{Ipv4Options, UnreachableCode};

fn echo_request(data: &[u8]) -> Vec<u8> {
    icmp(Icmpv4Message::EchoRequest { identifier: 7, sequence: 1 }, data)
}

#[test]
fn a_datagram_is_delivered_without_its_header_and_padding() {
    let mut rig = Rig::new();
    let mut bytes = ip(Ipv4Header { time_to_live: 1, traffic_class: 0xb8, ..to_us() }, &udp(53, 4_000, b"answer"));
    bytes.extend_from_slice(&[0; 12]);
    rig.receive(0, &bytes);
    let delivery = rig.delivered().remove(0);
    assert_eq!((delivery.source, delivery.destination, delivery.protocol), (FAR.into(), US.into(), Protocol::UDP));
    assert_eq!((delivery.time_to_live, delivery.traffic_class, delivery.cast), (1, 0xb8, Cast::Unicast));
    assert_eq!(delivery.packet.to_vec(), udp(53, 4_000, b"answer"));
}

#[test]
fn the_place_of_a_partial_checksum_moves_with_the_header() {
    let mut rig = Rig::new();
    let mut packet = Packet::from_bytes(&rig.pool, &ip(to_us(), &udp(1, 2, b"x")));
    packet.offload.checksum = ChecksumState::Partial { start: 20, offset: 6 };
    rig.handle(0, Message::Received { cast: Cast::Unicast, packet });
    assert_eq!(rig.delivered()[0].packet.offload.checksum, ChecksumState::Partial { start: 0, offset: 6 });
}

#[test]
fn a_super_frame_in_slices_is_one_packet() {
    let mut rig = Rig::new();
    let payload = vec![7; 60_000];
    let bytes = ip(Ipv4Header { protocol: Protocol::TCP, ..to_us() }, &payload);
    let mut packet = Packet::default();
    for chunk in bytes.chunks(1_480) {
        packet.push(rig.pool.copy_from(0, chunk));
    }
    rig.handle(0, Message::Received { cast: Cast::Unicast, packet });
    assert_eq!(rig.delivered()[0].packet.to_vec(), payload);
}

#[test]
fn options_are_stepped_over() {
    let mut rig = Rig::new();
    let options = Ipv4Options::from_bytes(&[1, 1, 7, 7, 4, 0, 0, 0, 0]).unwrap();
    rig.receive(0, &ip(Ipv4Header { options, ..to_us() }, &udp(1, 2, b"x")));
    assert_eq!(rig.delivered()[0].packet.to_vec(), udp(1, 2, b"x"));
}

#[test]
fn an_echo_request_comes_back_as_a_reply() {
    let mut rig = Rig::new();
    rig.receive(0, &ip(Ipv4Header { protocol: Protocol::ICMP, traffic_class: 0x10, ..to_us() }, &echo_request(b"abcde")));
    let (next_hop, header, payload) = rig.sent().remove(0);
    assert_eq!((next_hop, header.source, header.destination, header.traffic_class), (GATEWAY.into(), US, FAR, 0x10));
    assert_eq!(payload, icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, b"abcde"));
    assert!(rig.is_silent());
}

#[test]
fn the_host_answers_echo_requests_in_shared_address_mode() {
    let mut rig = Rig::with(NetworkConfig::default(), topology(AddressMode::Shared));
    rig.receive(0, &ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &echo_request(b"")));
    assert!(rig.is_silent());
}

#[test]
fn echo_requests_to_everybody_are_not_answered() {
    let mut rig = Rig::new();
    let request = |destination| ip(Ipv4Header { protocol: Protocol::ICMP, destination, ..to_us() }, &echo_request(b""));
    rig.receive_cast(0, Cast::Broadcast, &request(Ipv4Addr::new(192, 0, 2, 255)));
    rig.receive_cast(0, Cast::Broadcast, &request(US));
    rig.receive_cast(0, Cast::Multicast, &request(Ipv4Addr::new(224, 0, 0, 1)));
    assert!(rig.is_silent());
}

#[test]
fn a_reply_and_other_messages_go_up() {
    let mut rig = Rig::new();
    let reply = icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, b"data");
    rig.receive(0, &ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &reply));
    assert_eq!((rig.delivered()[0].protocol, rig.sent().len()), (Protocol::ICMP, 0));
}

#[test]
fn a_port_unreachable_reaches_the_transport_layer_with_what_it_quotes() {
    let mut rig = Rig::new();
    let quoted = ip(from_us(), &udp(4_000, 53, b"question"));
    let message = Icmpv4Message::DestinationUnreachable { code: UnreachableCode::Port, next_hop_mtu: 0 };
    rig.receive(0, &ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &icmp(message, &quoted[..28])));
    let (errors, mtus) = rig.reported();
    assert_eq!((errors.len(), mtus.len()), (1, 0));
    assert_eq!(errors[0].error, DeliveryError::Unreachable { code: 3 });
    assert_eq!((errors[0].reporter, errors[0].source, errors[0].destination), (FAR.into(), US.into(), FAR.into()));
    assert_eq!((errors[0].protocol, &errors[0].quoted[..]), (Protocol::UDP, &udp(4_000, 53, b"question")[..8]));
}

#[test]
fn impossible_sources_are_dropped() {
    let mut rig = Rig::new();
    let sources = [[224, 0, 0, 5], [255, 255, 255, 255], [192, 0, 2, 255], [127, 0, 0, 1], [192, 0, 2, 7], [0, 0, 0, 0], [0, 0, 0, 9]];
    for source in sources {
        rig.receive(0, &ip(Ipv4Header { source: source.into(), ..to_us() }, &udp(67, 68, b"")));
    }
    assert_eq!((rig.dropped(DropReason::BadSource), rig.is_silent()), (7, true));
}

#[test]
fn a_host_without_an_address_may_speak_to_a_dhcp_server() {
    let mut rig = Rig::new();
    let header = Ipv4Header { source: Ipv4Addr::UNSPECIFIED, destination: Ipv4Addr::BROADCAST, ..to_us() };
    rig.receive_cast(0, Cast::Broadcast, &ip(header, &udp(68, 67, b"discover")));
    assert_eq!(rig.delivered()[0].cast, Cast::Broadcast);
    rig.receive_cast(0, Cast::Broadcast, &ip(header, &udp(68, 69, b"discover")));
    assert_eq!(rig.dropped(DropReason::BadSource), 1);
}

#[test]
fn what_is_for_others_is_dropped() {
    let mut rig = Rig::new();
    for destination in [[192, 0, 2, 8], [127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 2], [198, 51, 100, 255]] {
        rig.receive(0, &ip(Ipv4Header { destination: destination.into(), ..to_us() }, &udp(1, 2, b"")));
    }
    assert_eq!((rig.dropped(DropReason::NotForUs), rig.is_silent()), (5, true));
}

#[test]
fn broken_headers_are_dropped_in_silence() {
    let mut rig = Rig::new();
    let whole = ip(to_us(), &udp(1, 2, b"data"));
    let mut wrong_checksum = whole.clone();
    wrong_checksum[11] ^= 1;
    rig.receive(0, &wrong_checksum);
    assert_eq!(rig.dropped(DropReason::BadChecksum), 1);
    for broken in [&whole[..19], &whole[..30], &[0x45], &[], &[0x15; 40], &[0x44; 40]] {
        rig.receive(0, broken);
    }
    assert_eq!(rig.dropped(DropReason::Malformed), 6);
    rig.receive(0, &[0x60; 40]);
    assert_eq!((rig.dropped(DropReason::UnknownProtocol), rig.is_silent()), (1, true));
}

#[test]
fn the_broader_way_of_addressing_counts() {
    let mut rig = Rig::new();
    let cast = |rig: &mut Rig, link, destination: [u8; 4]| {
        rig.receive_cast(0, link, &ip(Ipv4Header { destination: destination.into(), ..to_us() }, &udp(1, 2, b"")));
        rig.delivered()[0].cast
    };
    assert_eq!(cast(&mut rig, Cast::Unicast, [192, 0, 2, 7]), Cast::Unicast);
    assert_eq!(cast(&mut rig, Cast::Broadcast, [192, 0, 2, 7]), Cast::Broadcast);
    assert_eq!(cast(&mut rig, Cast::Unicast, [192, 0, 2, 255]), Cast::Broadcast);
    assert_eq!(cast(&mut rig, Cast::Multicast, [224, 0, 0, 1]), Cast::Multicast);
}

#[test]
fn broken_icmp_is_dropped() {
    let mut rig = Rig::new();
    let header = Ipv4Header { protocol: Protocol::ICMP, ..to_us() };
    let mut wrong = echo_request(b"abc");
    wrong[8] ^= 1;
    rig.receive(0, &ip(header, &wrong));
    rig.receive(0, &ip(header, &wrong[..3]));
    assert_eq!(rig.dropped(DropReason::BadChecksum), 2);
    let mut short = vec![8, 0, 0, 0];
    checksum::seal_icmp(&mut short);
    rig.receive(0, &ip(header, &short));
    assert_eq!((rig.dropped(DropReason::Malformed), rig.is_silent()), (1, true));
}

#[test]
fn a_request_in_shared_slices_is_answered_without_touching_them() {
    let mut rig = Rig::new();
    let bytes = ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &echo_request(&[9; 1_000]));
    let mut packet = Packet::default();
    bytes.chunks(21).for_each(|chunk| packet.push(rig.pool.copy_from(0, chunk)));
    let capture = packet.share();
    rig.handle(0, Message::Received { cast: Cast::Unicast, packet });
    assert_eq!(rig.sent()[0].2, icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, &[9; 1_000]));
    assert_eq!(capture.to_vec(), bytes);
}

#[test]
fn a_ping_to_ourselves_comes_back_up() {
    let mut rig = Rig::new();
    let packet = rig.outgoing(US, &echo_request(b"me"));
    rig.send(0, Outgoing { protocol: Protocol::ICMP, ..packet });
    let delivery = rig.delivered().remove(0);
    assert_eq!(delivery.packet.to_vec(), icmp(Icmpv4Message::EchoReply { identifier: 7, sequence: 1 }, b"me"));
    assert!(rig.is_silent());
}

/// An ICMP error from `FAR` that quotes `quoted`.
fn error_about(message: Icmpv4Message, quoted: &[u8]) -> Vec<u8> {
    ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &icmp(message, quoted))
}

fn too_big(next_hop_mtu: u16) -> Icmpv4Message {
    Icmpv4Message::DestinationUnreachable { code: UnreachableCode::FragmentationNeeded, next_hop_mtu }
}

fn unreachable() -> Icmpv4Message {
    Icmpv4Message::DestinationUnreachable { code: UnreachableCode::Host, next_hop_mtu: 0 }
}

#[test]
fn each_kind_of_error_has_its_meaning() {
    let quoted = ip(from_us(), &udp(4_000, 53, b""));
    let meaning = |message| {
        let mut rig = Rig::new();
        rig.receive(0, &error_about(message, &quoted));
        rig.reported().0.first().map(|report| report.error)
    };
    assert_eq!(meaning(unreachable()), Some(DeliveryError::Unreachable { code: 1 }));
    assert_eq!(meaning(Icmpv4Message::TimeExceeded { code: 0.into() }), Some(DeliveryError::TimeExceeded { code: 0 }));
    let problem = Icmpv4Message::ParameterProblem { pointer: 9, code: 0.into() };
    assert_eq!(meaning(problem), Some(DeliveryError::ParameterProblem { pointer: 9 }));
}

/// A redirect from `router` to `gateway` for what we send to `FAR`.
fn redirect(router: Ipv4Addr, gateway: Ipv4Addr) -> Vec<u8> {
    let message = Icmpv4Message::Redirect { code: 1.into(), gateway };
    let header = Ipv4Header { source: router, protocol: Protocol::ICMP, ..to_us() };
    ip(header, &icmp(message, &ip(from_us(), &udp(4_000, 53, b""))))
}

fn next_hop(rig: &mut Rig, millis: u64) -> IpAddr {
    let packet = rig.outgoing(FAR, b"x");
    rig.send(millis, packet);
    rig.sent()[0].0
}

#[test]
fn a_redirect_of_the_first_hop_is_followed_for_a_while() {
    let mut rig = Rig::new();
    rig.receive(0, &redirect(GATEWAY, PEER));
    assert_eq!((next_hop(&mut rig, 299_999), next_hop(&mut rig, 300_000)), (PEER.into(), GATEWAY.into()));
    rig.receive(300_000, &redirect(GATEWAY, PEER));
    let packet = Packet::from_bytes(&rig.pool, &ip(from_us(), &udp(4_000, 53, b"")));
    rig.handle(300_001, Message::Unreachable { next_hop: PEER.into(), packet });
    rig.reported();
    assert_eq!(next_hop(&mut rig, 300_002), GATEWAY, "a dead gateway is given up");
}

#[test]
fn other_redirects_are_ignored() {
    let mut rig = Rig::new();
    for (router, gateway) in
        [(PEER, GATEWAY), (FAR, PEER), (GATEWAY, FAR), (GATEWAY, US), (GATEWAY, GATEWAY), (GATEWAY, [192, 0, 2, 255].into())]
    {
        rig.receive(0, &redirect(router, gateway));
    }
    rig.receive_cast(0, Cast::Broadcast, &redirect(GATEWAY, PEER));
    rig.receive(0, &error_about(Icmpv4Message::Redirect { code: 1.into(), gateway: PEER }, &[0x45; 10]));
    rig.receive(0, &error_about(Icmpv4Message::SourceQuench, &ip(from_us(), &udp(4_000, 53, b""))));
    assert_eq!((rig.out.counters().network.icmp_advice_ignored.get(), rig.is_silent()), (9, true));
    assert_eq!(next_hop(&mut rig, 1), GATEWAY);
    let config = NetworkConfig { accept_redirects: false, ..NetworkConfig::default() };
    let mut rig = Rig::with(config, topology(AddressMode::Own));
    rig.receive(0, &redirect(GATEWAY, PEER));
    assert_eq!(next_hop(&mut rig, 1), GATEWAY);
}

#[test]
fn redirects_are_bounded() {
    let mut rig = Rig::with(NetworkConfig { redirect_entries: 2, ..NetworkConfig::default() }, topology(AddressMode::Own));
    for number in 0..10 {
        let quoted = ip(Ipv4Header { destination: [203, 0, 113, number].into(), ..from_us() }, &udp(4_000, 53, b""));
        let message = Icmpv4Message::Redirect { code: 1.into(), gateway: PEER };
        rig.receive(0, &ip(Ipv4Header { source: GATEWAY, protocol: Protocol::ICMP, ..to_us() }, &icmp(message, &quoted)));
    }
    let counters = &rig.out.counters().network;
    assert_eq!((counters.redirects_followed.get(), counters.redirects_evicted.get()), (10, 8));
}

#[test]
fn nobody_is_told_that_a_reply_of_ours_did_not_arrive() {
    let mut rig = Rig::new();
    let reply = icmp(Icmpv4Message::EchoReply { identifier: 1, sequence: 1 }, b"");
    rig.receive(0, &error_about(unreachable(), &ip(Ipv4Header { protocol: Protocol::ICMP, ..from_us() }, &reply)));
    assert!(rig.is_silent());
}

#[test]
fn errors_about_what_we_did_not_send_are_not_believed() {
    let mut rig = Rig::new();
    let foreign = ip(Ipv4Header { source: PEER, ..from_us() }, &udp(4_000, 53, b""));
    rig.receive(0, &error_about(unreachable(), &foreign));
    rig.receive_cast(0, Cast::Broadcast, &error_about(unreachable(), &ip(from_us(), &udp(4_000, 53, b""))));
    assert_eq!(rig.dropped(DropReason::Suspicious), 2);
    rig.receive(0, &error_about(unreachable(), &[0x45; 19]));
    assert_eq!((rig.dropped(DropReason::Malformed), rig.is_silent()), (1, true));
}

#[test]
fn a_later_fragment_names_no_socket() {
    let mut rig = Rig::new();
    rig.receive(0, &error_about(unreachable(), &ip(Ipv4Header { fragment_offset: 1_480, ..from_us() }, &[0; 8])));
    assert!(rig.is_silent());
    assert_eq!(rig.out.counters().network.icmp_errors_received.get(), 1);
}

/// The head of a packet of ours of 1,500 bytes, as a router quotes it.
fn large() -> Vec<u8> {
    ip(from_us(), &udp(4_000, 53, &[0; 1_472]))[..28].to_vec()
}

/// The same of TCP.
fn large_segment() -> Vec<u8> {
    ip(Ipv4Header { protocol: Protocol::TCP, ..from_us() }, &[7; 1_480])[..28].to_vec()
}

/// Whether a datagram of this size that may not be cut is sent.
fn fits(rig: &mut Rig, protocol: Protocol, size: usize) -> bool {
    let packet = rig.outgoing(FAR, &vec![1; size - 20]);
    rig.send(1, Outgoing { protocol, fragmentation: Fragmentation::Forbidden, ..packet });
    rig.out.up.clear();
    !rig.sent().is_empty()
}

#[test]
fn a_path_mtu_is_reported_and_kept_for_datagrams() {
    let mut rig = Rig::new();
    rig.receive(0, &error_about(too_big(1_400), &large()));
    let (errors, mtus) = rig.reported();
    assert_eq!((errors[0].error, mtus), (DeliveryError::PacketTooBig { mtu: 1_400 }, vec![]));
    assert_eq!([1_400, 1_401].map(|size| fits(&mut rig, Protocol::UDP, size)), [true, false]);
    rig.receive(0, &error_about(too_big(0), &large()));
    assert_eq!(rig.reported().0[0].error, DeliveryError::PacketTooBig { mtu: 1_400 }, "1,492 is no news");
    rig.receive(0, &error_about(too_big(68), &large()));
    assert_eq!(rig.reported().0[0].error, DeliveryError::PacketTooBig { mtu: 552 });
    assert_eq!(rig.out.counters().network.path_mtu_updates.get(), 2);
}

#[test]
fn no_report_touches_a_tcp_connection_but_the_one_it_names() {
    let mut rig = Rig::new();
    rig.receive(0, &error_about(too_big(1_000), &large()));
    assert_eq!(rig.reported().1, []);
    assert!(fits(&mut rig, Protocol::TCP, 1_500), "it decides for itself");
    for (reported, believed) in [(1_400, 1_400), (0, 1_492), (68, 552)] {
        rig.receive(0, &error_about(too_big(reported), &large_segment()));
        let (errors, mtus) = rig.reported();
        assert_eq!((errors[0].error, mtus), (DeliveryError::PacketTooBig { mtu: believed }, vec![]));
    }
    assert!(fits(&mut rig, Protocol::UDP, 1_000) && !fits(&mut rig, Protocol::UDP, 1_001));
}

#[test]
fn an_implausible_path_mtu_is_not_believed() {
    let mut rig = Rig::new();
    rig.receive(0, &error_about(too_big(1_500), &large()));
    let may_be_cut = ip(Ipv4Header { dont_fragment: false, ..from_us() }, &udp(4_000, 53, &[0; 1_472]));
    rig.receive(0, &error_about(too_big(1_400), &may_be_cut));
    assert_eq!((rig.dropped(DropReason::Suspicious), rig.is_silent()), (2, true));
}

#[test]
fn path_mtus_are_bounded() {
    let mut rig = Rig::with(NetworkConfig { path_mtu_entries: 10, ..NetworkConfig::default() }, topology(AddressMode::Own));
    for number in 0..100 {
        let mut quoted = Ipv4Header { destination: [203, 0, 113, number].into(), total_length: 1_500, ..from_us() };
        quoted.identification = number.into();
        let mut bytes = [0; 20];
        quoted.emit(&mut bytes);
        rig.receive(0, &error_about(too_big(1_000), &bytes));
    }
    assert_eq!(rig.out.counters().network.path_mtus_evicted.get(), 90);
}
