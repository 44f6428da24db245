//! The window: as a number, shrinking, closed, and silly (RFC 9293 §3.1, §3.8.6).

use crate::peer::*;
use hopline::simulation::HostOptions;
use hopline::wire::{TcpFlags, TcpOptions};
use std::io::{ErrorKind, Write};

/// "The window size MUST be treated as an unsigned number": windows with the sixteenth bit set, and scaled ones above 2³⁰ bytes.
#[test]
fn must_1_the_window_is_unsigned() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(Seg { window: 65_535, ..ack(1) });
    write(&mut stream, 0, 9_000);
    assert_eq!(trace.sent().len(), 9);
    assert_eq!(stream.info().unwrap().send_window, 65_535);
    let (mut trace, mut stream) = Trace::established(TcpOptions { window_scale: Some(14), ..plain() });
    trace.send(Seg { window: 65_535, ..ack(1) });
    write(&mut stream, 0, 9_000);
    assert_eq!(trace.sent().len(), 9);
    assert_eq!(stream.info().unwrap().send_window, 65_535 << 14);
}

/// "A sending TCP peer MUST be robust against window shrinking, which may cause the usable window to become negative": no new data, but what
/// is within the new window is sent again; then on.
#[test]
fn must_34_a_window_that_shrinks() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 8_000);
    assert_eq!(trace.sent().len(), 8);
    trace.send(Seg { window: 3_000, ..ack(2_001) });
    write(&mut stream, 8_000, 4_000);
    assert_eq!(trace.sent(), [""; 0], "SND.UNA + SND.WND lies before SND.NXT: nothing new");
    trace.at(1_000);
    let resent = trace.sent();
    assert_eq!(resent[0], "[.] 2001..3001 ack 1");
    assert!(trace.last.iter().all(|sent| sent.tcp.sequence.before(trace.iss.unwrap() + 8_001)), "{resent:?}");
    trace.send(Seg { window: 60_000, ..ack(8_001) });
    assert_eq!(trace.sent()[0], "[.] 8001..9001 ack 1");
    trace.send(Seg { window: 60_000, ..ack(12_001) });
    assert_eq!(stream.info().unwrap().in_flight, 0);
}

/// "If the window shrinks to zero, the TCP implementation MUST probe it in the standard way."
#[test]
fn must_35_a_window_that_shrinks_to_zero_is_probed() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 4_000);
    trace.sent();
    trace.send(Seg { window: 0, ..ack(1_001) });
    trace.sent();
    trace.at(3_000);
    let probes = trace.sent();
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe == "[.] 1001..1002 ack 1"), "{probes:?}");
    trace.send(Seg { window: 60_000, ..ack(1_002) });
    assert_eq!(trace.sent()[0], "[.] 1002..2002 ack 1", "the rest of what the window had refused");
}

/// "Probing of zero (offered) windows MUST be supported"; SHLD-29: the first after the retransmission timeout; SHLD-30: then exponentially later.
#[test]
fn must_36_a_closed_window_is_probed() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 1_000);
    trace.sent();
    trace.send(Seg { window: 0, ..ack(1_001) });
    write(&mut stream, 1_000, 500);
    assert_eq!(trace.sent(), [""; 0]);
    // The round trip took no time, so the timeout is its lower bound, 200 ms.
    let mut times = Vec::new();
    for _ in 0..5 {
        let before = times.len();
        while times.len() == before {
            trace.at(trace.now() + 10);
            times.extend(trace.sent_with_times());
        }
        trace.send(Seg { window: 0, ..ack(1_001) });
    }
    let times: Vec<_> = times.iter().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(times.iter().map(|(at, _)| at.parse::<u64>().unwrap()).collect::<Vec<_>>(), [200, 600, 1_400, 3_000, 6_200]);
    assert!(times.iter().all(|(_, probe)| *probe == "[.] 1001..1002 ack 1"), "{times:?}");
}

/// "As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP peer MUST allow
/// the connection to stay open": a day.
#[test]
fn must_37_the_window_may_stay_closed() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 1_000);
    trace.sent();
    trace.send(Seg { window: 0, ..ack(1_001) });
    write(&mut stream, 1_000, 5);
    let mut probes = 0;
    while trace.now() < 24 * 3_600 * 1_000 {
        trace.at(trace.now() + 1_000);
        if !trace.sent().is_empty() {
            probes += 1;
            trace.send(Seg { window: 0, ..ack(1_001) });
        }
    }
    assert!((1_000..2_000).contains(&probes), "{probes} probes in a day");
    trace.send(Seg { window: 1_000, ..ack(1_001) });
    assert_eq!(trace.sent(), ["[.] 1001..1002 ack 1"], "the probe's byte, which the window had refused");
    trace.send(Seg { window: 1_000, ..ack(1_002) });
    assert_eq!(trace.sent(), ["[P.] 1002..1006 ack 1"]);
}

/// "A TCP implementation MUST include a SWS avoidance algorithm in the sender": a window that opens by little is not filled (§3.8.6.2.1).
#[test]
fn must_38_the_sender_is_not_silly() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send(Seg { window: 10_000, ..ack(1) });
    write(&mut stream, 0, 12_000);
    assert_eq!(trace.sent().len(), 10);
    // 200 bytes of window: neither a full segment, nor half of the largest window.
    trace.send(Seg { window: 200, ..ack(10_001) });
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(Seg { window: 999, ..ack(10_001) });
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(Seg { window: 1_000, ..ack(10_001) });
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1"]);
}

fn small_buffer(options: &mut HostOptions) {
    options.config.tcp.receive_buffer = 8_000;
    options.config.tcp.window_scaling = false;
}

/// "A TCP implementation MUST include a SWS avoidance algorithm in the receiver": the window is opened by a segment or half of the buffer at
/// least (§3.8.6.2.2), and its right edge never goes back (SHLD-14).
#[test]
fn must_39_the_receiver_is_not_silly() {
    let mut trace = Trace::with(small_buffer);
    let mut stream = trace.open_to(plain());
    let full = trace.header().window;
    trace.send(data(1, usize::from(full)));
    trace.at(1_000);
    trace.sent();
    assert_eq!(trace.header().window, 0, "the buffer is full");
    let mut edge = u32::from(full);
    let mut read = 0;
    while read < u32::from(full) {
        std::io::Read::read_exact(&mut stream, &mut [0; 100]).unwrap();
        read += 100;
        // Anything of the peer's is answered with the window of the moment.
        trace.send(Seg { seq: 0, ..Seg::default() });
        for line in trace.sent() {
            assert_eq!(line, format!("[.] 1 ack {}", 1 + u32::from(full)));
        }
        for sent in &trace.last {
            let now = sent.tcp.acknowledgement.offset_from(IRS + 1) as u32 + u32::from(sent.tcp.window);
            assert!(now == edge || now >= edge + 1_460, "the window opens by {} bytes", now - edge);
            edge = now;
        }
        if read + 100 > u32::from(full) {
            break;
        }
    }
    assert!(edge >= u32::from(full) + 1_460, "it opened");
}

/// "MUST process the RST and URG fields of all incoming segments, even when the receive window is zero"; acknowledgements too.
#[test]
fn must_66_a_closed_window_still_hears() {
    let closed = || {
        let mut trace = Trace::with(small_buffer);
        let stream = trace.open_to(plain());
        let full = trace.header().window;
        trace.send(data(1, usize::from(full)));
        trace.at(1_000);
        trace.sent();
        assert_eq!(trace.header().window, 0);
        (trace, stream, 1 + u32::from(full))
    };
    let (mut trace, mut stream, next) = closed();
    trace.send(rst(next));
    read_all_until_error(&mut stream, ErrorKind::ConnectionReset);
    assert_eq!(trace.host.connections(), 0);

    let (mut trace, mut stream, next) = closed();
    write(&mut stream, 0, 500);
    trace.sent();
    // Data that does not fit comes with an acknowledgement and urgent data beyond it.
    trace.send(Seg { ack: Some(501), flags: TcpFlags::URG, urgent: 20, ..data(next, 10) });
    assert_eq!(stream.info().unwrap().in_flight, 0, "the acknowledgement counts");
    assert_eq!(stream.urgent().unwrap(), next as usize - 1 + 20, "so does the urgent pointer");
}

fn read_all_until_error(stream: &mut hopline::socket::TcpStream, kind: ErrorKind) {
    let mut buffer = [0; 4_096];
    loop {
        match std::io::Read::read(stream, &mut buffer) {
            Ok(count) => assert!(count > 0, "the end, without an error"),
            Err(error) => return assert_eq!(error.kind(), kind),
        }
    }
}

/// "A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left."
#[test]
fn shld_not_14_the_right_edge_goes_back() {
    let mut trace = Trace::with(small_buffer);
    let mut stream = trace.open_to(plain());
    let mut edge = 0;
    let mut seq = 1;
    for round in 0..40_u32 {
        trace.send(data(seq, 700));
        trace.at(u64::from(round) * 100);
        trace.sent();
        for sent in &trace.last {
            let now = sent.tcp.acknowledgement.offset_from(IRS) as u32 + u32::from(sent.tcp.window);
            assert!(now >= edge, "from {edge} to {now}");
            edge = now;
            seq = sent.tcp.acknowledgement.offset_from(IRS) as u32;
        }
        if round % 3 == 0 {
            let _ = std::io::Read::read(&mut stream, &mut [0; 1_500]);
        }
    }
    stream.flush().unwrap();
}
