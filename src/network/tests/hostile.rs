//! Arbitrary input: nothing panics, nothing grows beyond its bound, nobody is flooded in our name.

use super::*;
use crate::wire::testing::{bytes, mutate, mutations};
use proptest::prelude::*;

fn templates() -> Vec<Vec<u8>> {
    let icmp_header = Ipv4Header { protocol: Protocol::ICMP, ..to_us() };
    let quoted = ip(from_us(), &udp(4_000, 53, b"question"));
    let too_big = Icmpv4Message::DestinationUnreachable { code: 4.into(), next_hop_mtu: 600 };
    vec![
        ip(to_us(), &udp(1, 2, b"data")),
        ip(Ipv4Header { more_fragments: true, ..to_us() }, &[1; 64]),
        ip(Ipv4Header { fragment_offset: 64, ..to_us() }, &[1; 33]),
        ip(icmp_header, &icmp(Icmpv4Message::EchoRequest { identifier: 1, sequence: 2 }, b"ping")),
        ip(icmp_header, &icmp(too_big, &quoted)),
        ip(icmp_header, &icmp(Icmpv4Message::TimeExceeded { code: 0.into() }, &quoted)),
    ]
}

/// Makes the header's checksum right again, so that a mutation gets past it.
fn repair(bytes: &mut [u8]) {
    let length = bytes.first().map_or(0, |byte| usize::from(byte & 15) * 4);
    if let Some(header) = bytes.get_mut(..length).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let checksum = crate::wire::checksum::checksum(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn config() -> NetworkConfig {
    NetworkConfig { reassembly_datagrams: 4, path_mtu_entries: 4, icmp_errors_per_second: 3, ..NetworkConfig::default() }
}

fn any_message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let mutated = (0..6_usize, mutations(), any::<bool>()).prop_map(|(template, mutations, is_repaired)| {
        let mut bytes = mutate(templates()[template].clone(), &mutations);
        if is_repaired {
            repair(&mut bytes);
        }
        bytes
    });
    (any::<u8>(), prop_oneof![1 => bytes(100), 4 => mutated])
}

fn message(rig: &Rig, kind: u8, bytes: &[u8]) -> Message {
    let packet = Packet::from_bytes(&rig.pool, bytes);
    match kind % 16 {
        0 => Message::Unreachable { next_hop: GATEWAY.into(), packet },
        1 => Message::TooBig { packet },
        2 => Message::Send(Outgoing { header_included: true, ..rig.outgoing(FAR, bytes) }),
        3 => Message::Send(Outgoing { header_included: true, ..rig.outgoing(US, bytes) }),
        4 => Message::Send(Outgoing { protocol: Protocol::ICMP, ..rig.outgoing(US, bytes) }),
        5 => Message::Received { cast: Cast::Broadcast, packet },
        6 => Message::LinkState(kind > 127),
        _ => Message::Received { cast: Cast::Unicast, packet },
    }
}

proptest! {
    #![proptest_config(crate::wire::testing::config())]

    #[test]
    fn no_sequence_of_packets_panics_or_grows(messages in prop::collection::vec(any_message(), 0..60)) {
        let mut rig = Rig::with(config(), topology(AddressMode::Own));
        for (millis, (kind, bytes)) in messages.iter().enumerate() {
            let message = message(&rig, *kind, bytes);
            rig.handle(millis as u64 * 500, message);
            let answers = rig.out.down.drain(..).count();
            prop_assert!(answers <= 1, "one packet, one answer at most");
            rig.out.up.clear();
            if let Some(deadline) = rig.network.deadline().filter(|&deadline| deadline <= at(millis as u64 * 500)) {
                rig.network.run_timers(deadline, &mut rig.out);
            }
        }
        rig.network.run_timers(at(10_000_000), &mut rig.out);
        prop_assert_eq!(rig.network.deadline(), None, "an idle layer sleeps");
    }
}

#[test]
fn no_error_is_answered_with_an_error() {
    let mut rig = Rig::new();
    let quoted = ip(from_us(), &udp(4_000, 53, b"question"));
    for kind in [3, 4, 5, 11, 12, 40] {
        let message = Icmpv4Message::Other { kind, code: 0, rest: [0; 4] };
        rig.receive(0, &ip(Ipv4Header { protocol: Protocol::ICMP, ..to_us() }, &icmp(message, &quoted)));
        let error = Delivery {
            source: FAR.into(),
            destination: US.into(),
            protocol: Protocol::ICMP,
            time_to_live: 64,
            traffic_class: 0,
            cast: Cast::Unicast,
            packet: Packet::from_bytes(&rig.pool, &icmp(message, &quoted)),
        };
        rig.handle(0, Message::PortUnreachable(error));
    }
    assert!(rig.sent().is_empty());
}

#[test]
fn expired_datagrams_are_answered_within_the_limit() {
    let mut rig = Rig::with(NetworkConfig { icmp_errors_per_second: 3, ..NetworkConfig::default() }, topology(AddressMode::Own));
    for identification in 0..50 {
        rig.receive(0, &ip(Ipv4Header { identification, more_fragments: true, ..to_us() }, &[1; 800]));
    }
    rig.network.run_timers(at(30_000), &mut rig.out);
    assert_eq!((rig.sent().len(), rig.dropped(DropReason::ReassemblyTimeout)), (3, 50));
}
