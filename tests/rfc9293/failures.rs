//! Connections that end or fail, and ICMP (RFC 9293 §3.6, §3.8.3, §3.9.2.2).

use crate::peer::*;
use hopline::wire::{Icmpv4Message, ParameterProblemCode, TcpOptions, TimeExceededCode, UnreachableCode};
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::time::Duration;

fn unreachable(code: u8) -> Icmpv4Message {
    Icmpv4Message::DestinationUnreachable { code: UnreachableCode::from(code), next_hop_mtu: 0 }
}

/// "The local application MUST be informed whether it closed normally or was aborted."
#[test]
fn must_12_the_program_learns_how_the_connection_ended() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(data(1, 10));
    trace.send(fin(11, 1));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed normally: the end");
    assert!(stream.take_error().unwrap().is_none());

    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(rst(1));
    assert_eq!(read_error(&mut stream), ErrorKind::ConnectionReset, "aborted");
}

/// "When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL."
#[test]
fn must_13_time_wait_lasts_two_segment_lifetimes() {
    for lifetime in [30_000, 120_000] {
        let mut trace = Trace::with(|options| options.config.tcp.maximum_segment_lifetime = Duration::from_millis(lifetime));
        let stream = trace.open_to(plain());
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(trace.sent(), ["[F.] 1 ack 1"]);
        trace.send(ack(2));
        trace.at(1_000);
        trace.send(fin(1, 2));
        assert_eq!(trace.sent(), ["[.] 2 ack 2"]);
        drop(stream);
        trace.at(1_000 + 2 * lifetime - 1);
        assert_eq!(trace.host.connections(), 1);
        // A FIN that comes again is acknowledged again, and restarts the wait.
        trace.send(fin(1, 2));
        assert_eq!(trace.sent(), ["[.] 2 ack 2"]);
        trace.at(1_000 + 4 * lifetime - 2);
        assert_eq!(trace.host.connections(), 1);
        trace.at(1_000 + 4 * lifetime);
        assert_eq!(trace.host.connections(), 0);
    }
}

/// Lets time pass until the connection is gone; how often it was sent again, and when it was given up.
fn until_given_up(trace: &mut Trace) -> (usize, u64) {
    let mut sent = 0;
    while trace.host.connections() > 0 {
        trace.at(trace.now() + 100);
        sent += trace.sent().len();
        assert!(trace.now() < 3 * 3_600_000, "it never ends");
    }
    (sent, trace.now())
}

/// "The following procedure MUST be used to handle excessive retransmissions of data segments": R1 (at least three retransmissions) advises IP,
/// R2 (at least 100 s) closes.
#[test]
fn must_20_excessive_retransmission() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 100);
    let (sent, millis) = until_given_up(&mut trace);
    assert!(sent > 3 && millis >= 100_000, "given up after {sent} transmissions and {millis} ms (SHLD-10, SHLD-11)");
    assert_eq!(read_error(&mut stream), ErrorKind::TimedOut);
}

/// R1 of the same procedure, on Ethernet: "pass negative advice to the IP layer, thereby triggering dead-gateway diagnosis": the neighbour is
/// asked whether it is still there, though it was confirmed a moment ago.
#[test]
fn must_20_r1_has_the_neighbour_asked_again() {
    use hopline::device::Medium;
    use hopline::wire::{ArpOperation, ArpPacket, EtherType, EthernetHeader, Ipv4Header, MacAddress, TcpFlags, TcpHeader};
    let (own, other) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
    let mut trace = Trace::with(|options| options.medium = Medium::Ethernet(own));
    let frame = |ethertype, body: &[u8]| {
        let mut bytes = vec![0; 14];
        EthernetHeader { destination: own, source: other, ethertype }.emit(&mut bytes);
        bytes.extend_from_slice(body);
        bytes
    };
    let mut stream = trace.host.connect((PEER, SERVER_PORT)).unwrap();
    trace.host.take_sent();
    let reply = ArpPacket {
        operation: ArpOperation::Reply,
        sender_hardware: other,
        sender_protocol: PEER,
        target_hardware: own,
        target_protocol: HOST,
    };
    let mut body = vec![0; ArpPacket::LENGTH];
    reply.emit(&mut body);
    trace.host.inject_bytes(&frame(EtherType::ARP, &body));
    trace.host.settle();
    let syn = trace.host.take_sent().pop().expect("a SYN").packet.to_vec();
    let (header, _) = TcpHeader::parse(Ipv4Header::parse(&syn[14..]).unwrap().payload(&syn[14..])).unwrap();
    assert_eq!(header.flags & TcpFlags::SYN, TcpFlags::SYN);
    (trace.iss, trace.host_port, trace.peer_port) = (Some(header.sequence), header.source_port, SERVER_PORT);
    let answer = trace.bytes_of(&syn_ack(plain()));
    trace.host.inject_bytes(&frame(EtherType::IPV4, &answer));
    trace.host.settle();
    write(&mut stream, 0, 100);
    trace.host.settle();
    trace.host.take_sent();
    // Four timeouts, 3 s: well within the 30 s for which a neighbour is believed without question.
    trace.host.advance_by(Duration::from_millis(3_500));
    let asked = trace.host.take_sent().iter().filter(|sent| sent.packet.front().get(12..14) == Some(&[0x08, 0x06])).count();
    assert!(asked > 0, "the neighbour was not asked");
}

/// "An application MUST be able to set the value for R2 for a particular connection": as a time.
#[test]
fn must_21_the_program_sets_r2() {
    for limit in [5_000, 400_000] {
        let (mut trace, mut stream) = Trace::established(plain());
        stream.set_user_timeout(Some(Duration::from_millis(limit))).unwrap();
        write(&mut stream, 0, 100);
        let (_, millis) = until_given_up(&mut trace);
        assert!((limit..=limit + 100).contains(&millis), "{millis} ms instead of {limit}");
        assert_eq!(read_error(&mut stream), ErrorKind::TimedOut);
    }
}

/// "An attempt to open a TCP connection could fail with excessive retransmissions of the SYN segment … handled in the general way".
#[test]
fn must_22_the_same_for_syns() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    let (sent, _) = until_given_up(&mut trace);
    assert!(sent > 3);
    assert_eq!(read_error(&mut stream), ErrorKind::TimedOut);
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(syn(plain()));
    let (sent, _) = until_given_up(&mut trace);
    assert!(sent > 3, "a SYN-ACK as well");
}

/// "R2 for a SYN segment MUST be set large enough to provide retransmission of the segment for at least 3 minutes."
#[test]
fn must_23_syns_are_sent_for_three_minutes() {
    let mut trace = Trace::new();
    let _stream = trace.connect();
    assert!(until_given_up(&mut trace).1 >= 180_000);
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(syn(plain()));
    assert!(until_given_up(&mut trace).1 >= 180_000);
}

/// "MUST act on an ICMP error message passed up from the IP layer, directing it to the connection that created the error": by ports and number.
#[test]
fn must_54_icmp_errors_reach_their_connection() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    // For a number that is not in flight, and for another connection: nothing.
    trace.icmp(unreachable(3), 77);
    trace.host_port ^= 1;
    trace.icmp(unreachable(3), 0);
    trace.host_port ^= 1;
    assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock);
    trace.icmp(unreachable(3), 0);
    assert_eq!(read_error(&mut stream), ErrorKind::ConnectionRefused);
    // Fragmentation needed: the path MTU.
    let (mut trace, mut stream) = Trace::established(TcpOptions { maximum_segment_size: Some(1_460), ..plain() });
    write(&mut stream, 0, 2_920);
    assert_eq!(trace.sent(), ["[.] 1..1461 ack 1", "[P.] 1461..2921 ack 1"]);
    trace.icmp(Icmpv4Message::DestinationUnreachable { code: UnreachableCode::from(4), next_hop_mtu: 1_000 }, 1);
    assert_eq!(trace.sent()[0], "[.] 1..961 ack 1");
}

/// "TCP implementations MUST silently discard any received ICMP Source Quench messages."
#[test]
fn must_55_source_quench_is_discarded() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 20_000);
    assert_eq!(trace.sent().len(), 10);
    let window = stream.info().unwrap().congestion_window;
    trace.icmp(Icmpv4Message::SourceQuench, 1);
    stream.info().unwrap();
    assert_eq!((trace.sent(), trace.icmp_sent.len()), (vec![], 0));
    assert_eq!(stream.info().unwrap().congestion_window, window);
    trace.send(ack(10_001));
    assert_eq!(trace.sent().len(), 10, "the window is as large as it was");
}

/// "MUST NOT abort the connection": unreachable 0, 1 and 5, time exceeded, parameter problem.
#[test]
fn must_not_56_soft_errors_abort() {
    let soft = [
        unreachable(0),
        unreachable(1),
        unreachable(5),
        Icmpv4Message::TimeExceeded { code: TimeExceededCode::from(0) },
        Icmpv4Message::TimeExceeded { code: TimeExceededCode::from(1) },
        Icmpv4Message::ParameterProblem { pointer: 0, code: ParameterProblemCode::from(0) },
    ];
    for message in soft {
        let (mut trace, mut stream) = Trace::established(plain());
        write(&mut stream, 0, 10);
        trace.sent();
        trace.icmp(message, 1);
        assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock, "{message:?}");
        trace.send(ack(11));
        trace.send(data(1, 10));
        assert_eq!(read_all(&mut stream), pattern(1, 10), "{message:?}");
        assert!(stream.take_error().unwrap().is_none());
    }
    // Time exceeded and parameter problem while the connection is being opened; for the unreachables see the head of this program.
    for message in &soft[3..] {
        let mut trace = Trace::new();
        let stream = trace.connect();
        trace.icmp(*message, 0);
        trace.send(syn_ack(plain()));
        assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
        assert!(stream.take_error().unwrap().is_none());
    }
}

/// The exception in the head of this program, stated: an unreachable ends the attempt to connect.
#[test]
fn must_not_56_but_for_an_unreachable_in_syn_sent() {
    for (code, kind) in [(0, ErrorKind::NetworkUnreachable), (1, ErrorKind::HostUnreachable), (5, ErrorKind::HostUnreachable)] {
        let mut trace = Trace::new();
        let mut stream = trace.connect();
        trace.icmp(unreachable(code), 0);
        assert_eq!(read_error(&mut stream), kind);
    }
}
