//! RFC 9293, Appendix B: every SHOULD and SHOULD NOT, named by its number; those that are not followed, or are the program's affair, stand at the head of `main`.

use crate::peer::*;
use hopline::socket::{ConnectOptions, Ecn, Keepalive};
use hopline::wire::{Icmpv4Message, SequenceNumber, TcpFlags, TcpOptions, Timestamps, UnreachableCode};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// "A TCP implementation SHOULD generate its Initial Sequence Numbers with the expression ISN = M + F(localip, localport, remoteip, remoteport, secretkey)": equal for
/// the same four and the same secret, and with another secret another.
#[test]
fn shld_1_initial_numbers_come_from_a_keyed_function() {
    let initial = |seed: u64, local: u16, remote: u16| -> SequenceNumber {
        let mut trace = Trace::with(|options| options.seed = seed);
        let options = ConnectOptions { local: Some(SocketAddr::from((HOST, local))), ..ConnectOptions::default() };
        let _stream = trace.host.connect_with(SocketAddr::from((PEER, remote)), &options).unwrap();
        trace.sent();
        trace.iss.expect("a SYN")
    };
    assert_eq!(initial(1, 5_000, 80), initial(1, 5_000, 80));
    for other in [initial(2, 5_000, 80), initial(1, 5_001, 80), initial(1, 5_000, 81)] {
        assert!(initial(1, 5_000, 80).0.abs_diff(other.0) > 1_000);
    }
}

/// "TCP implementations SHOULD allow a received RST segment to include data."
#[test]
fn shld_2_a_reset_may_carry_data() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(Seg { payload: b"why".to_vec(), ..rst(1) });
    assert_eq!((trace.sent(), read_error(&mut stream)), (vec![], ErrorKind::ConnectionReset));
}

/// "If such a host issues a CLOSE call while received data is still pending, or if new data is received after CLOSE is called, its TCP implementation SHOULD send a RST
/// to show that data was lost."
#[test]
fn shld_3_data_that_nobody_will_read_is_answered_with_a_reset() {
    let (mut trace, stream) = Trace::established(plain());
    trace.send(data(1, 10));
    trace.sent();
    drop(stream);
    trace.sent();
    assert!(trace.header().flags.contains(TcpFlags::RST), "pending");

    let (mut trace, stream) = Trace::established(plain());
    drop(stream);
    assert_eq!(trace.sent(), ["[F.] 1 ack 1"]);
    trace.send(Seg { ack: Some(2), ..data(1, 10) });
    trace.sent();
    assert!(trace.header().flags.contains(TcpFlags::RST), "after the close");
}

/// RFC 6191, "a Best Current Practice that SHOULD be implemented": a SYN with a later timestamp ends TIME-WAIT, whatever its number.
#[test]
fn shld_4_timestamps_shorten_time_wait() {
    for (value, is_accepted) in [(5_000, true), (1_000, false)] {
        let mut trace = Trace::new();
        let listener = trace.listen();
        let stream = trace.accept_from(&listener, with_timestamps(2_000));
        let stamped = |seg: Seg| Seg {
            options: TcpOptions { timestamps: Some(Timestamps { value: 2_001, echo_reply: 0 }), ..TcpOptions::default() },
            ..seg
        };
        stream.shutdown(Shutdown::Write).unwrap();
        trace.sent();
        trace.send(stamped(ack(2)));
        trace.send(stamped(fin(1, 2)));
        assert_eq!((trace.sent().len(), trace.host.connections()), (1, 1));
        // The new incarnation's number is lower than the last of the old one: the timestamp alone speaks for it.
        trace.at(1_000);
        let first = trace.iss.take();
        trace.send(Seg { seq: 0x8000_0000, ..syn(with_timestamps(value)) });
        trace.sent();
        assert_eq!(trace.header().flags.contains(TcpFlags::SYN), is_accepted, "timestamp {value}");
        assert_eq!(trace.iss.is_some_and(|second| Some(second) != first), is_accepted);
    }
}

/// "TCP implementations SHOULD send an MSS Option in every SYN segment when its receive MSS differs from the default 536."
#[test]
fn shld_5_the_segment_size_is_in_every_syn() {
    for mtu in [576, 1_500, 9_000] {
        let mut trace = Trace::with(|options| options.mtu = mtu);
        trace.connect();
        assert_eq!(trace.header().options.maximum_segment_size.map(usize::from), Some(mtu - 40), "a SYN");
        let mut trace = Trace::with(|options| options.mtu = mtu);
        let _listener = trace.listen();
        trace.send(syn(plain()));
        trace.sent();
        assert_eq!(trace.header().options.maximum_segment_size.map(usize::from), Some(mtu - 40), "a SYN-ACK");
    }
}

/// "TCP implementations SHOULD use the smallest effective MTU of the interface to calculate the value to advertise": there is one for an interface, and what paths
/// beyond it carry changes nothing of what can be received.
#[test]
fn shld_6_the_advertised_size_is_the_interfaces() {
    let mut trace = Trace::new();
    let mut stream = trace.open_to(TcpOptions { maximum_segment_size: Some(1_460), ..plain() });
    write(&mut stream, 0, 2_920);
    trace.sent();
    trace.icmp(Icmpv4Message::DestinationUnreachable { code: UnreachableCode::from(4), next_hop_mtu: 1_000 }, 1);
    assert_eq!(trace.sent()[0], "[.] 1..961 ack 1", "what is sent");
    trace.iss = None;
    trace.connect();
    assert_eq!(trace.header().options.maximum_segment_size, Some(1_460), "what can be received");
}

/// "A TCP implementation SHOULD implement the Nagle algorithm to coalesce short segments": from the start.
#[test]
fn shld_7_short_segments_are_coalesced() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 10);
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1"]);
    (1..20).for_each(|part| write(&mut stream, part * 10, 10));
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(ack(11));
    assert_eq!(trace.sent(), ["[P.] 11..201 ack 1"]);
}

/// "A TCP endpoint SHOULD implement ECN as described in RFC 3168": asked for by option, granted to who asks.
#[test]
fn shld_8_congestion_notification() {
    let setup = TcpFlags::ECE | TcpFlags::CWR;
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(Seg { flags: TcpFlags::SYN | setup, ..syn(plain()) });
    trace.sent();
    assert_eq!(trace.header().flags & setup, TcpFlags::ECE);
    let mut trace = Trace::with(|options| options.config.tcp.ecn = Ecn::Request);
    let stream = trace.connect();
    assert_eq!(trace.header().flags & setup, setup);
    trace.send(Seg { flags: TcpFlags::SYN | TcpFlags::ECE, ..syn_ack(plain()) });
    assert!(trace.info(&stream).ecn);
}

/// "The value of R1 SHOULD correspond to at least 3 retransmissions": until then nobody is told of the neighbour (`must_20_r1_…`: after four); "the value of R2 SHOULD
/// correspond to at least 100 seconds".
#[test]
fn shld_10_r1_is_three_retransmissions_at_least() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 10);
    trace.at(200 + 400 + 800);
    assert_eq!(trace.sent().len(), 4);
    assert_eq!((read_error(&mut stream), trace.info(&stream).state), (ErrorKind::WouldBlock, "ESTABLISHED"));
}

#[test]
fn shld_11_r2_is_a_hundred_seconds_at_least() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 10);
    trace.at(100_000);
    assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock);
    trace.send(ack(11));
    assert_eq!(trace.info(&stream).in_flight, 0);
}

/// "An implementation SHOULD send a keep-alive segment with no data."
#[test]
fn shld_12_keepalive_has_no_data() {
    let (mut trace, stream) = Trace::established(plain());
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(1), count: 3 };
    stream.set_keepalive(Some(keepalive)).unwrap();
    trace.at(12_500);
    assert_eq!(trace.sent_with_times(), ["10000 [.] 0 ack 1", "11000 [.] 0 ack 1", "12000 [.] 0 ack 1"]);
}

/// Five segments are in flight, and the window shrinks to two.
fn shrunken() -> (Trace, hopline::socket::TcpStream) {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 5_000);
    assert_eq!(trace.sent().len(), 5);
    trace.send(Seg { window: 2_000, ..ack(1_001) });
    write(&mut stream, 5_000, 2_000);
    (trace, stream)
}

/// "If this happens, the sender SHOULD NOT send new data …"
#[test]
fn shld_not_15_new_data_beyond_a_window_that_shrank() {
    let (mut trace, _stream) = shrunken();
    trace.at(5_000);
    trace.sent();
    let iss = trace.iss.unwrap();
    assert!(trace.last.iter().all(|sent| sent.tcp.sequence.before(iss + 5_001)));
}

/// "… but SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND."
#[test]
fn shld_16_old_data_within_a_window_that_shrank() {
    let (mut trace, _stream) = shrunken();
    trace.at(199);
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(200);
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"]);
    trace.send(Seg { window: 2_000, ..ack(2_001) });
    assert_eq!(trace.sent()[0], "[.] 2001..3001 ack 1");
}

/// "SHOULD NOT time out the connection if data beyond the right window edge is not acknowledged": while the peer answers, for an hour.
#[test]
fn shld_not_17_data_beyond_the_window_times_the_connection_out() {
    let (mut trace, mut stream) = shrunken();
    trace.send(Seg { window: 0, ..ack(3_001) });
    for _ in 0..3_600 {
        trace.at(trace.now() + 1_000);
        if !trace.sent().is_empty() {
            trace.send(Seg { window: 0, ..ack(3_001) });
        }
    }
    assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock);
    trace.send(ack(3_001));
    assert_eq!(trace.sent()[0], "[.] 3001..4001 ack 1");
}

/// "A TCP endpoint SHOULD implement a delayed ACK."
#[test]
fn shld_18_acknowledgements_are_delayed() {
    let (mut trace, _stream, seq) = calm();
    trace.send(data(seq, 1_000));
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(1_499);
    assert_eq!(trace.sent(), [format!("[.] 1 ack {}", seq + 1_000)]);
}

/// "An ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes of new data."
#[test]
fn shld_19_every_second_segment_is_acknowledged() {
    let (mut trace, _stream, seq) = calm();
    for pair in 0..5 {
        trace.send(data(seq + pair * 2_000, 1_000));
        assert_eq!(trace.sent(), [""; 0]);
        trace.send(data(seq + pair * 2_000 + 1_000, 1_000));
        assert_eq!(trace.sent(), [format!("[.] 1 ack {}", seq + pair * 2_000 + 2_000)]);
    }
}

/// "The application SHOULD be able to change the Differentiated Services field during the connection lifetime"; "TCP implementations SHOULD pass the current
/// Differentiated Services field value without change to the IP layer."
#[test]
fn shld_21_diffserv_may_change() {
    let (mut trace, mut stream) = Trace::established(plain());
    stream.set_nodelay(true).unwrap();
    let mut seen = Vec::new();
    for (round, class) in [0xb8, 0x28, 0x00, 0x88].into_iter().enumerate() {
        stream.set_traffic_class(class).unwrap();
        write(&mut stream, round as u32 * 10, 10);
        trace.sent();
        seen.push(trace.last[0].ip.traffic_class & 0xfc);
    }
    assert_eq!(seen, [0xb8, 0x28, 0x00, 0x88]);
}

#[test]
fn shld_22_diffserv_is_passed_unchanged() {
    for class in (0..=255_u8).step_by(4) {
        let (mut trace, mut stream) = Trace::established(plain());
        stream.set_traffic_class(class).unwrap();
        write(&mut stream, 0, 2_000);
        trace.sent();
        assert!(trace.last.iter().all(|sent| sent.ip.traffic_class & 0xfc == class));
    }
}

/// "Since these Unreachable messages indicate soft error conditions …, it SHOULD make the information available to the application": codes 0, 1 and 5.
#[test]
fn shld_25_unreachables_are_told() {
    for code in [0, 1, 5] {
        let (mut trace, mut stream) = Trace::established(plain());
        write(&mut stream, 0, 10);
        trace.sent();
        trace.icmp(Icmpv4Message::DestinationUnreachable { code: UnreachableCode::from(code), next_hop_mtu: 0 }, 1);
        trace.info(&stream);
        assert!(stream.soft_error().unwrap().is_some(), "code {code}");
        assert_eq!(read_error(&mut stream), ErrorKind::WouldBlock);
    }
}

/// "The transmitter SHOULD collapse successive bits when it packetizes data, to send the largest possible segment."
#[test]
fn shld_27_pushes_are_collapsed() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 10);
    trace.sent();
    // Each write ends in a push of its own, as there is no other.
    for part in 0..5 {
        write(&mut stream, 10 + part * 300, 300);
        stream.flush().unwrap();
    }
    trace.send(ack(11));
    assert_eq!(trace.sent(), ["[.] 11..1011 ack 1", "[P.] 1011..1511 ack 1"]);
}

/// "A TCP implementation SHOULD send a maximum-sized segment whenever possible."
#[test]
fn shld_28_segments_are_as_large_as_possible() {
    let (mut trace, mut stream) = Trace::established(plain());
    for part in 0..10 {
        stream.write_all(&pattern(part * 777, 777)).unwrap();
    }
    assert_eq!(trace.sent().len(), 8);
    assert!(trace.last[..7].iter().all(|sent| sent.payload.len() == 1_000));
}

/// "The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the retransmission timeout period, and SHOULD increase
/// exponentially the interval between successive probes."
#[test]
fn shld_29_the_first_probe_of_a_closed_window() {
    for (round_trip, first) in [(0, 200), (40, 240), (400, 1_200)] {
        let mut trace = Trace::new();
        let mut stream = trace.connect();
        trace.at(round_trip);
        trace.send(Seg { window: 0, ..syn_ack(plain()) });
        write(&mut stream, 0, 10);
        trace.sent();
        trace.at(round_trip + first - 1);
        assert_eq!(trace.sent(), [""; 0]);
        trace.at(round_trip + first);
        assert_eq!(trace.sent(), ["[.] 1..2 ack 1"], "a round trip of {round_trip}");
    }
}

#[test]
fn shld_30_probes_back_off() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.send(Seg { window: 0, ..syn_ack(plain()) });
    write(&mut stream, 0, 10);
    trace.sent();
    let mut times = Vec::new();
    while times.len() < 6 {
        trace.at(trace.now() + 10);
        trace.sent();
        times.extend(trace.last.iter().map(|sent| sent.at.as_millis()));
        if !trace.last.is_empty() {
            trace.send(Seg { window: 0, ..ack(1) });
        }
    }
    assert_eq!(times, [200, 600, 1_400, 3_000, 6_200, 12_600]);
}

/// "A TCP receiver SHOULD queue out-of-order segments": "segments with higher beginning sequence numbers SHOULD be held for later processing".
#[test]
fn shld_31_segments_out_of_order_are_kept() {
    let (mut trace, mut stream) = Trace::established(plain());
    for index in [3, 1, 2] {
        trace.send(data(1 + index * 1_000, 1_000));
        assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
    }
    trace.send(data(1, 1_000));
    assert_eq!(trace.sent(), ["[.] 1 ack 4001"]);
    let mut all = vec![0; 4_000];
    stream.read_exact(&mut all).unwrap();
    assert_eq!(all, pattern(1, 4_000));
}
