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
