//! The ICMP errors we send, and when we are silent.

use super::*;
use crate::wire::{Ipv4Options, ParameterProblemCode, TimeExceededCode, UnreachableCode};

fn nobody_wanted(rig: &Rig, protocol: Protocol, payload: &[u8]) -> Delivery {
    Delivery {
        source: FAR.into(),
        destination: US.into(),
        protocol,
        time_to_live: 50,
        traffic_class: 8,
        cast: Cast::Unicast,
        packet: Packet::from_bytes(&rig.pool, payload),
    }
}

fn refuse(rig: &mut Rig, millis: u64, change: impl Fn(&mut Delivery)) -> usize {
    let mut delivery = nobody_wanted(rig, Protocol::UDP, &udp(4_000, 53, b"question"));
    change(&mut delivery);
    rig.handle(millis, Message::PortUnreachable(delivery));
    rig.sent().len()
}

#[test]
fn a_closed_port_is_answered_with_what_came() {
    let mut rig = Rig::new();
    let delivery = nobody_wanted(&rig, Protocol::UDP, &udp(4_000, 53, b"question"));
    rig.handle(0, Message::PortUnreachable(delivery));
    let (next_hop, header, payload) = rig.sent().remove(0);
    assert_eq!((next_hop, header.source, header.destination, header.traffic_class), (GATEWAY.into(), US, FAR, 0xc8));
    let (message, length) = Icmpv4Message::parse(&payload).unwrap();
    assert_eq!(message, Icmpv4Message::DestinationUnreachable { code: UnreachableCode::Port, next_hop_mtu: 0 });
    let quoted = Ipv4Header { time_to_live: 50, traffic_class: 8, ..to_us() };
    assert_eq!(&payload[length..], ip(quoted, &udp(4_000, 53, b"question")));
    assert_eq!(crate::wire::checksum::checksum(&payload), 0);
}

#[test]
fn an_unknown_protocol_is_answered_as_one() {
    let mut rig = Rig::new();
    let delivery = nobody_wanted(&rig, Protocol(132), &[0; 12]);
    rig.handle(0, Message::PortUnreachable(delivery));
    let (message, _) = Icmpv4Message::parse(&rig.sent()[0].2).unwrap();
    assert_eq!(message, Icmpv4Message::DestinationUnreachable { code: UnreachableCode::Protocol, next_hop_mtu: 0 });
}

#[test]
fn an_error_is_at_most_576_bytes_long() {
    let mut rig = Rig::new();
    let delivery = nobody_wanted(&rig, Protocol::UDP, &udp(4_000, 53, &[1; 60_000]));
    rig.handle(0, Message::PortUnreachable(delivery));
    assert_eq!(rig.sent()[0].1.total_length, 576);
}

#[test]
fn the_rules_of_silence() {
    let mut rig = Rig::new();
    assert_eq!(refuse(&mut rig, 0, |_| {}), 1);
    assert_eq!(refuse(&mut rig, 0, |delivery| delivery.cast = Cast::Broadcast), 0);
    assert_eq!(refuse(&mut rig, 0, |delivery| delivery.cast = Cast::Multicast), 0);
    for source in [[0, 0, 0, 0], [255, 255, 255, 255], [192, 0, 2, 255], [224, 0, 0, 1]] {
        assert_eq!(refuse(&mut rig, 0, |delivery| delivery.source = source.into()), 0);
    }
    assert_eq!(refuse(&mut rig, 0, |delivery| delivery.source = "2001:db8::1".parse().unwrap()), 0);
    let about_icmp = |rig: &mut Rig, message| {
        let delivery = nobody_wanted(rig, Protocol::ICMP, &icmp(message, b""));
        rig.handle(0, Message::PortUnreachable(delivery));
        rig.sent().len()
    };
    assert_eq!(about_icmp(&mut rig, Icmpv4Message::TimeExceeded { code: 0.into() }), 0);
    assert_eq!(about_icmp(&mut rig, Icmpv4Message::Other { kind: 40, code: 0, rest: [0; 4] }), 0);
    assert_eq!(about_icmp(&mut rig, Icmpv4Message::EchoReply { identifier: 1, sequence: 1 }), 1);
}

#[test]
fn nothing_is_refused_in_shared_address_mode() {
    let mut rig = Rig::with(NetworkConfig::default(), topology(AddressMode::Shared));
    assert_eq!(refuse(&mut rig, 0, |_| {}), 0);
}

#[test]
fn errors_are_limited_in_rate() {
    let mut rig = Rig::with(NetworkConfig { icmp_errors_per_second: 10, ..NetworkConfig::default() }, topology(AddressMode::Own));
    assert_eq!((0..100).map(|_| refuse(&mut rig, 0, |_| {})).sum::<usize>(), 10);
    assert_eq!(rig.dropped(DropReason::RateLimited), 90);
    assert_eq!((0..10).map(|_| refuse(&mut rig, 500, |_| {})).sum::<usize>(), 5);
    assert_eq!(rig.out.counters().network.icmp_errors_sent.get(), 15);
}

#[test]
fn broken_options_are_pointed_at() {
    let mut rig = Rig::new();
    let options = Ipv4Options::from_bytes(&[1, 7, 99, 4, 0, 0, 0, 0]).unwrap();
    let packet = |header: Ipv4Header| ip(Ipv4Header { options, ..header }, &udp(1, 2, b"x"));
    rig.receive(0, &packet(to_us()));
    let (message, length) = Icmpv4Message::parse(&rig.sent()[0].2).unwrap();
    assert_eq!((message, length), (Icmpv4Message::ParameterProblem { pointer: 21, code: ParameterProblemCode::Pointer }, 8));
    rig.receive_cast(0, Cast::Broadcast, &packet(to_us()));
    rig.receive(0, &packet(Ipv4Header { destination: [192, 0, 2, 255].into(), ..to_us() }));
    rig.receive(0, &packet(Ipv4Header { destination: PEER, ..to_us() }));
    rig.receive(0, &packet(Ipv4Header { source: US, ..to_us() }));
    assert_eq!((rig.dropped(DropReason::Malformed), rig.is_silent()), (5, true));
}

#[test]
fn an_incomplete_datagram_is_answered_if_its_first_fragment_came() {
    let mut rig = Rig::new();
    let fragment = |identification, offset| {
        let header = Ipv4Header { identification, fragment_offset: offset, more_fragments: true, ..to_us() };
        ip(header, &udp(4_000, 53, &[3; 1_472]))
    };
    rig.receive(0, &fragment(1, 0));
    rig.receive(1, &fragment(2, 1_480));
    assert_eq!(rig.network.deadline(), Some(at(30_000)));
    rig.network.run_timers(at(29_999), &mut rig.out);
    assert!(rig.is_silent());
    rig.network.run_timers(at(30_001), &mut rig.out);
    assert_eq!((rig.dropped(DropReason::ReassemblyTimeout), rig.network.deadline()), (2, None));
    let answers = rig.sent();
    assert_eq!(answers.len(), 1);
    let (message, length) = Icmpv4Message::parse(&answers[0].2).unwrap();
    assert_eq!(message, Icmpv4Message::TimeExceeded { code: TimeExceededCode::Reassembly });
    assert_eq!(&answers[0].2[length..], &fragment(1, 0)[..548]);
}
