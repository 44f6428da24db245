//! Checksums, initial sequence numbers, opening connections, addresses (RFC 9293 §3.1, §3.4.1, §3.5, §3.9).

use crate::peer::*;
use hopline::simulation::HostOptions;
use hopline::socket::ConnectOptions;
use hopline::wire::checksum::pseudo_header;
use hopline::wire::{Protocol, SequenceNumber, TcpFlags};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// "The sender MUST generate it."
#[test]
fn must_2_checksums_are_sent() {
    let (mut trace, mut stream) = Trace::established(plain());
    for length in [0, 1, 2, 999] {
        if length > 0 {
            stream.set_nodelay(true).unwrap();
            write(&mut stream, 0, length);
        } else {
            trace.send(Seg { seq: 0, ..Seg::default() });
        }
        trace.host.settle();
        let sent = trace.host.take_sent().pop().expect("a segment");
        let bytes = sent.packet.to_vec();
        let mut sum = pseudo_header(HOST.into(), PEER.into(), Protocol::TCP, (bytes.len() - 20) as u32);
        sum.add_bytes(&bytes[20..]);
        assert!(sum.is_valid(), "{length} bytes of payload");
    }
}

/// "The receiver MUST check it."
#[test]
fn must_3_bad_checksums_are_not_believed() {
    let mut trace = Trace::new();
    let listener = trace.listen();
    trace.send(Seg { damage: 1, ..syn(plain()) });
    assert_eq!(trace.sent(), [""; 0]);
    let mut stream = trace.accept_from(&listener, plain());
    for damage in [1, 0x8000, 0xffff] {
        trace.send(Seg { damage, ..data(1, 10) });
        trace.send(Seg { damage, ..rst(1) });
    }
    assert_eq!(trace.sent(), [""; 0]);
    assert!(read_all(&mut stream).is_empty());
    trace.send(data(1, 10));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
}

/// The initial number the host chooses for a connection from `port` so long after the start.
fn initial_number(host: &mut Trace, port: u16) -> SequenceNumber {
    let options = ConnectOptions { local: Some(SocketAddr::from((HOST, port))), ..ConnectOptions::default() };
    let stream = host.host.connect_with(SocketAddr::from((PEER, SERVER_PORT)), &options).unwrap();
    host.host.settle();
    (host.iss, host.peer_port) = (None, SERVER_PORT);
    host.sent();
    let number = host.iss.expect("a SYN");
    host.send(Seg { ack: Some(1), ..rst(0) });
    drop(stream);
    host.host.settle();
    number
}

/// "MUST use the above type of clock": it ticks every four microseconds.
#[test]
fn must_8_initial_numbers_follow_a_clock() {
    let mut trace = Trace::new();
    let first = initial_number(&mut trace, 5_000);
    trace.at(250);
    let second = initial_number(&mut trace, 5_000);
    let ticks = second.distance_from(first);
    assert!((62_500 - 16..=62_500 + 16).contains(&ticks), "{ticks} ticks of 4 µs in 250 ms");
}

/// "MUST NOT be computable from the outside": neither from another connection's number nor in another run.
#[test]
fn must_not_9_initial_numbers_are_computable() {
    let mut numbers = Vec::new();
    for seed in 0..20 {
        let mut trace = Trace::with(|options| options.seed = seed);
        numbers.extend((0..20).map(|port| initial_number(&mut trace, 5_000 + port).0));
    }
    let mut gaps: Vec<u32> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) >> 16).collect();
    gaps.sort_unstable();
    gaps.dedup();
    assert!(gaps.len() > 380, "{} different gaps among 399: neighbouring ports tell of each other", gaps.len());
}

/// "MUST support simultaneous open attempts": figure 7.
#[test]
fn must_10_simultaneous_open() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.send(syn(plain()));
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.send(Seg { seq: 0, flags: TcpFlags::SYN, options: plain(), ..Seg::default() });
    assert_eq!(stream.info().unwrap().state, "ESTABLISHED");
    trace.sent();
    trace.send(data(1, 5));
    assert_eq!(read_all(&mut stream), pattern(1, 5));
    write(&mut stream, 1, 7);
    assert_eq!(trace.sent().last().unwrap(), "[P.] 1..8 ack 6");
}

/// "MUST keep track of whether a connection has reached SYN-RECEIVED state as the result of a passive OPEN or an active OPEN": a RST
/// returns the one to LISTEN, and tells the program of the other.
#[test]
fn must_11_syn_received_remembers_where_it_came_from() {
    let mut passive = Trace::new();
    let listener = passive.listen();
    passive.send(syn(plain()));
    assert_eq!(passive.sent(), ["[S.] 0 ack 1"]);
    passive.send(Seg { ack: None, ..rst(1) });
    assert_eq!((passive.sent(), passive.host.connections()), (vec![], 0));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the program hears nothing of it");
    passive.iss = None;
    passive.accept_from(&listener, plain());

    let mut active = Trace::new();
    let mut stream = active.connect();
    active.send(syn(plain()));
    assert_eq!(active.sent(), ["[S.] 0 ack 1"]);
    active.send(Seg { ack: None, ..rst(1) });
    assert_eq!((active.sent(), active.host.connections()), (vec![], 0));
    assert_eq!(read_error(&mut stream), ErrorKind::ConnectionRefused);
}

/// "It MUST NOT affect any previously created connection record."
#[test]
fn must_not_41_passive_open_touches_others() {
    let mut trace = Trace::new();
    let listener = trace.listen();
    let mut stream = trace.accept_from(&listener, plain());
    let second = trace.host.listen(SocketAddr::from((HOST, SERVER_PORT))).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AddrInUse);
    trace.send(data(1, 10));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    trace.sent();
    (trace.iss, trace.peer_port) = (None, PEER_PORT + 1);
    trace.accept_from(&listener, plain());
}

/// "LISTEN on a port while a connection block with the same local port is in SYN-SENT or SYN-RECEIVED state."
#[test]
fn must_42_listening_beside_connections_that_open() {
    let mut trace = Trace::new();
    let from_port = ConnectOptions { local: Some(SocketAddr::from((HOST, SERVER_PORT))), ..ConnectOptions::default() };
    let opening = trace.host.connect_with(SocketAddr::from((PEER, 7_000)), &from_port).unwrap();
    let listener = trace.listen();
    assert_eq!(trace.sent(), ["[S] 0"]);
    assert_eq!(opening.info().unwrap().state, "SYN-SENT");
    trace.iss = None;
    trace.accept_from(&listener, plain());
    (trace.iss, trace.peer_port) = (None, PEER_PORT + 1);
    trace.send(syn(plain()));
    drop(listener);
    trace.host.settle();
    trace.host.take_sent();
    trace.listen();
}

/// "The optional local IP address parameter MUST be supported."
#[test]
fn must_43_the_program_may_choose_its_address() {
    let second = Ipv4Addr::new(192, 0, 2, 7);
    let mut trace = Trace::with(|options| options.addresses.push("192.0.2.7/24".parse().unwrap()));
    let options = ConnectOptions { local: Some(SocketAddr::from((second, 0))), ..ConnectOptions::default() };
    let stream = trace.host.connect_with(SocketAddr::from((PEER, SERVER_PORT)), &options).unwrap();
    trace.sent();
    assert_eq!((trace.last[0].ip.source, stream.local_addr().unwrap().ip()), (second, second.into()));
    let foreign = ConnectOptions { local: Some(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 200), 0))), ..ConnectOptions::default() };
    let refused = trace.host.connect_with(SocketAddr::from((PEER, SERVER_PORT)), &foreign).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
    let listener = trace.host.listen(SocketAddr::from((second, 81))).unwrap();
    assert_eq!(listener.local_addr().unwrap().ip(), second);
    trace.host_port = 81;
    trace.send(syn(plain()));
    trace.sent();
    assert!(trace.header().flags.contains(TcpFlags::RST), "nobody listens on the first address");
}

/// A host with an address in each of two networks.
fn multihomed() -> Trace {
    Trace::with(|options: &mut HostOptions| options.addresses.push("198.51.100.1/24".parse().unwrap()))
}

/// "MUST ask the IP layer to select a local IP address before sending the (first) SYN."
#[test]
fn must_44_the_ip_layer_chooses_the_address() {
    for (remote, local) in [(PEER, HOST), (Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(198, 51, 100, 1))] {
        let mut trace = multihomed();
        let stream = trace.host.connect(SocketAddr::from((remote, SERVER_PORT))).unwrap();
        trace.sent();
        assert_eq!((trace.last[0].ip.source, stream.local_addr().unwrap().ip()), (local, local.into()));
    }
}

/// "At all other times … MUST use the same local address that was used in those previous segments."
#[test]
fn must_45_the_address_stays() {
    let other = Ipv4Addr::new(198, 51, 100, 1);
    let mut trace = multihomed();
    trace.host.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT))).map(std::mem::forget).unwrap();
    // To the address that the host would not choose for this peer.
    let to_other = |seg: Seg| Seg { destination: other, ..seg };
    trace.send(to_other(syn(plain())));
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.at(3_000);
    assert!(!trace.sent().is_empty(), "sent again");
    assert!(trace.last.iter().all(|sent| sent.ip.source == other));
    trace.send(to_other(Seg::default()));
    trace.send(to_other(data(1, 2_000)));
    trace.send(to_other(fin(2_001, 1)));
    trace.at(4_000);
    assert!(trace.sent().len() > 1 && trace.last.iter().all(|sent| sent.ip.source == other));
}

/// "MUST reject as an error a local OPEN call for an invalid remote IP address."
#[test]
fn must_46_groups_cannot_be_connected_to() {
    let mut trace = Trace::new();
    for remote in ["224.0.0.1:80", "239.1.2.3:80", "255.255.255.255:80", "192.0.2.255:80", "0.0.0.0:80"] {
        let refused = trace.host.connect(remote.parse::<SocketAddr>().unwrap());
        // A simulated call does not wait for the answer of the stack, so the stream may be what tells.
        let kind = refused.map_or_else(|error| error.kind(), |mut stream| read_error(&mut stream));
        assert!(matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::InvalidInput), "{remote}: {kind:?}");
    }
    assert_eq!(trace.sent(), [""; 0]);
}

/// "MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address."
#[test]
fn must_57_syns_to_groups_are_discarded_silently() {
    let mut trace = Trace::new();
    let _listener = trace.host.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT))).unwrap();
    for destination in [[224, 0, 0, 1], [255, 255, 255, 255], [192, 0, 2, 255], [192, 0, 2, 0]] {
        trace.send(Seg { destination: destination.into(), ..syn(plain()) });
        trace.send(Seg { destination: destination.into(), ..data(1, 10) });
    }
    trace.host.advance_by(Duration::from_secs(10));
    assert_eq!((trace.sent(), trace.host.connections(), trace.icmp_sent.len()), (vec![], 0, 0));
}

/// "An incoming SYN with an invalid source address MUST be ignored either by TCP or by the IP layer."
#[test]
fn must_63_syns_from_invalid_addresses_are_ignored() {
    let mut trace = Trace::new();
    let _listener = trace.listen();
    for source in [[224, 0, 0, 1], [255, 255, 255, 255], [192, 0, 2, 255], [0, 0, 0, 0], [127, 0, 0, 1]] {
        trace.send(Seg { source: source.into(), ..syn(plain()) });
    }
    trace.host.advance_by(Duration::from_secs(10));
    assert_eq!((trace.sent(), trace.host.connections(), trace.icmp_sent.len()), (vec![], 0, 0));
}
