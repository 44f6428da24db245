//! RFC 7323, by section: what a peer sees of window scaling, timestamps and PAWS.

use crate::peer::*;
use hopline::wire::{TcpFlags, TcpOptions, Timestamps};
use std::io::{ErrorKind, Write};

const DAY: u64 = 24 * 3_600_000;

fn stamped(seg: Seg, value: u32, echo_reply: u32) -> Seg {
    Seg { options: TcpOptions { timestamps: Some(Timestamps { value, echo_reply }), ..seg.options }, ..seg }
}

/// What the host's last segment echoes.
fn echoed(trace: &Trace) -> u32 {
    trace.header().options.timestamps.expect("every segment has them").echo_reply
}

/// §1.3: an option is used if both SYNs had it, and a SYN-ACK offers only what the SYN did.
#[test]
fn section_1_3_options_are_agreed_on_in_the_syns() {
    let mut trace = Trace::new();
    let _listener = trace.listen();
    trace.send(syn(plain()));
    trace.sent();
    let TcpOptions { window_scale, timestamps, .. } = trace.header().options;
    assert_eq!((window_scale, timestamps), (None, None), "not offered, so not answered");
    let (trace, _stream) = Trace::established(plain());
    assert_eq!(trace.header().options.timestamps, None, "offered, but not answered");
}

/// §2.2: "The window field in a segment where the SYN bit is set MUST NOT be scaled"; every other one is.
#[test]
fn section_2_2_the_window_of_a_syn_is_not_scaled() {
    let mut trace = Trace::new();
    trace.connect();
    let shift = trace.header().options.window_scale.expect("a shift");
    assert!(shift > 0 && trace.header().window == u16::MAX);
    trace.send(Seg { window: 500, options: TcpOptions { window_scale: Some(7), ..plain() }, ..syn_ack(plain()) });
    trace.sent();
    let (mut trace, stream) = Trace::established(TcpOptions { window_scale: Some(7), ..plain() });
    assert_eq!(stream.info().unwrap().send_window, 60_000, "the SYN-ACK's, as it stands");
    trace.send(Seg { window: 500, ..ack(1) });
    stream.info().unwrap();
    trace.host.settle();
    assert_eq!(stream.info().unwrap().send_window, 500 << 7);
}

/// §2.3: "If a Window Scale option is received with a shift.cnt value larger than 14, the TCP MUST … use 14 instead".
#[test]
fn section_2_3_shifts_above_fourteen_count_as_fourteen() {
    for shift in [15, 255] {
        let (_trace, stream) = Trace::established(TcpOptions { window_scale: Some(shift), ..plain() });
        assert_eq!(stream.info().unwrap().window_scale.expect("in use").1, 14);
    }
}

/// §2.4: where the shift cannot express what is left of a window, either more is offered ("perhaps beyond the buffer") or less. We offer more, but no more than a
/// unit of the shift in all; and less than a unit less after that.
#[test]
fn section_2_4_rounding_takes_back_or_gives_less_than_a_unit() {
    let (mut trace, _stream) = Trace::established(TcpOptions { window_scale: Some(0), ..plain() });
    let shift = {
        let mut first = Trace::new();
        first.connect();
        first.header().options.window_scale.unwrap()
    };
    let unit = 1_i64 << shift;
    let buffer = i64::try_from(hopline::config::Config::default().tcp.receive_buffer).unwrap();
    let (mut seq, mut edge) = (1, 0_i64);
    for length in [1, 100, 127, 129, 1_000, 3, 777].into_iter().cycle().take(70) {
        trace.send(data(seq, length));
        seq += length as u32;
        trace.at(trace.now() + 500);
        trace.sent();
        for sent in &trace.last {
            let now = i64::from(sent.tcp.acknowledgement.offset_from(IRS)) + (i64::from(sent.tcp.window) << shift);
            assert!(now > edge - unit && now <= 1 + buffer + unit, "from {edge} to {now}");
            edge = edge.max(now);
        }
    }
}

/// §3.2: "TSopt MUST be sent in every non-<RST> segment for the duration of the connection"; its echo "is only valid if the ACK bit is set".
#[test]
fn section_3_2_every_segment_has_a_timestamp() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(100));
    write(&mut stream, 0, 2_500);
    trace.send(stamped(data(1, 10), 101, 0));
    trace.at(3_000);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    trace.send(stamped(rst(77), 102, 0));
    trace.sent();
    assert!(trace.last.len() > 4);
    for sent in &trace.last {
        assert!(sent.tcp.options.timestamps.is_some() || sent.tcp.flags.contains(TcpFlags::RST), "{sent:?}");
    }
    let mut syn = Trace::new();
    syn.connect();
    assert_eq!(echoed(&syn), 0, "without ACK there is nothing to echo");
}

/// §3.2: "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment. A TCP MUST NOT abort a TCP connection
/// because any segment lacks an expected TSopt."
#[test]
fn section_3_2_segments_without_a_timestamp_are_dropped_silently() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(100));
    trace.send(data(1, 10));
    trace.send(fin(1, 1));
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(stamped(data(1, 10), 101, 0));
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    // A RST needs none.
    trace.send(rst(11));
    assert_eq!(read_error(&mut stream), ErrorKind::ConnectionReset);
}

/// §4.1: a round trip is measured by the echo, also of what was sent twice, if the echo tells which of the two it was.
#[test]
fn section_4_1_the_echo_measures_the_round_trip() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(100));
    write(&mut stream, 0, 100);
    trace.sent();
    let echo = trace.echo();
    trace.at(150);
    trace.send(stamped(ack(101), 101, echo));
    stream.info().unwrap();
    trace.host.settle();
    assert!(stream.info().unwrap().smoothed_round_trip.as_millis() > 0);
}

/// §4.3: which timestamp is echoed: of the earliest segment that is not acknowledged (A), of the one before a hole (B), of the one that fills it (C).
#[test]
fn section_4_3_which_timestamp_is_echoed() {
    let (mut trace, _stream) = Trace::established(with_timestamps(100));
    let mut seq = 1;
    // Beyond the quick acknowledgements of the start.
    for _ in 0..40 {
        trace.send(stamped(data(seq, 988), 100, 0));
        seq += 988;
    }
    trace.at(1_000);
    trace.sent();
    // (A) delayed: of two segments the first one's.
    trace.send(stamped(data(seq, 988), 201, 0));
    trace.send(stamped(data(seq + 988, 988), 202, 0));
    trace.sent();
    assert_eq!(echoed(&trace), 201);
    seq += 2 * 988;
    // (B) a hole: the last one in order.
    trace.send(stamped(data(seq, 988), 203, 0));
    trace.at(2_000);
    trace.sent();
    assert_eq!(echoed(&trace), 203);
    seq += 988;
    trace.send(stamped(data(seq + 988, 988), 205, 0));
    trace.sent();
    assert_eq!(echoed(&trace), 203);
    // (C) it is filled: the one that fills it.
    trace.send(stamped(data(seq, 988), 204, 0));
    trace.sent();
    assert_eq!(echoed(&trace), 204);
}

/// §5.3 R1: a segment with an old timestamp "is treated as not acceptable: send an acknowledgement in reply … and drop the segment"; a RST is
/// not subject to it (§5.2).
#[test]
fn section_5_3_r1_old_duplicates_are_rejected() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(1_000));
    trace.send(stamped(data(1, 10), 1_010, 0));
    trace.at(1_000);
    trace.sent();
    trace.send(stamped(data(11, 10), 1_009, 0));
    assert_eq!(trace.sent(), ["[.] 1 ack 11"]);
    assert_eq!(read_all(&mut stream), pattern(1, 10));
    trace.send(stamped(data(11, 10), 1_010, 0));
    assert_eq!(read_all(&mut stream), pattern(11, 10), "an equal one is not old");
    trace.send(stamped(rst(21), 5, 0));
    assert_eq!(read_error(&mut stream), ErrorKind::ConnectionReset);
}

/// §5.3, its last example: of A.1, B.1, C.1, D.1, E.1 the second is lost, and B.2 overtakes C.1 and D.1. We keep them, where R1 alone would discard them
/// "unnecessarily", if they fill a gap and are no older than what came before it. An earlier lap's segment is.
#[test]
fn section_5_3_what_a_retransmission_overtook_fills_its_gap() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(1_000));
    trace.send(stamped(data(1, 10), 1_010, 0));
    trace.send(stamped(data(41, 10), 1_010, 0));
    trace.send(stamped(data(11, 10), 1_060, 0));
    trace.sent();
    assert_eq!((read_all(&mut stream), echoed(&trace)), (pattern(1, 20), 1_060));
    trace.send(stamped(data(51, 10), 1_010, 0));
    trace.send(stamped(data(31, 10), 1_009, 0));
    trace.send(stamped(data(21, 10), 1_010, 0));
    assert_eq!(read_all(&mut stream), pattern(21, 10), "the other two are not in the gap, and older than it");
    trace.send(stamped(data(31, 10), 1_010, 0));
    trace.sent();
    assert_eq!((read_all(&mut stream), echoed(&trace)), (pattern(31, 20), 1_060), "TS.Recent does not go back");
    trace.send(stamped(data(51, 10), 1_059, 0));
    assert!(read_all(&mut stream).is_empty(), "the gap is closed");
}

/// §5.3: timestamps compare on the circle.
#[test]
fn section_5_3_timestamps_wrap() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(u32::MAX - 1));
    trace.send(stamped(data(1, 10), u32::MAX, 0));
    trace.send(stamped(data(11, 10), 3, 0));
    assert_eq!(read_all(&mut stream), pattern(1, 20));
    trace.send(stamped(data(21, 10), u32::MAX, 0));
    assert!(read_all(&mut stream).is_empty());
}

/// §5.5: "after a connection has been idle for more than 24 days", TS.Recent is outdated and believed no longer.
#[test]
fn section_5_5_after_24_idle_days_any_timestamp_is_believed() {
    for (days, believed) in [(23, false), (25, true)] {
        let (mut trace, mut stream) = Trace::established(with_timestamps(0x8000_0000));
        trace.send(stamped(data(1, 10), 0x8000_0000, 0));
        trace.at(days * DAY);
        read_all(&mut stream);
        trace.send(stamped(data(11, 10), 0x7fff_0000, 0));
        assert_eq!(!read_all(&mut stream).is_empty(), believed, "after {days} days");
    }
}

/// §5.4: the clock ticks at least once a second and at most once a millisecond, and RFC 7323 §7.1's advice: its start differs by connection.
#[test]
fn section_5_4_the_clock() {
    let (mut trace, mut stream) = Trace::established(with_timestamps(1));
    let first = trace.header().options.timestamps.unwrap().value;
    trace.at(10_000);
    stream.write_all(&[1]).unwrap();
    trace.sent();
    let ticks = trace.header().options.timestamps.unwrap().value.wrapping_sub(first);
    assert!((10..=10_000).contains(&ticks), "{ticks} ticks in 10 s");
    let mut other = Trace::with(|options| options.seed = 1);
    other.connect();
    assert!(other.header().options.timestamps.unwrap().value.abs_diff(first) > 20_000, "not the time since the start");
}

/// §2.2: the option in "a segment without a SYN bit MUST be ignored".
#[test]
fn section_2_2_a_shift_without_syn_is_ignored() {
    let (mut trace, stream) = Trace::established(TcpOptions { window_scale: Some(2), ..plain() });
    let late = TcpOptions { window_scale: Some(9), ..TcpOptions::default() };
    trace.send(Seg { window: 1_000, options: late, ..ack(1) });
    trace.send(Seg { window: 1_000, ..ack(1) });
    stream.info().unwrap();
    trace.host.settle();
    assert_eq!(stream.info().unwrap().send_window, 4_000);
}

/// §3.2: "If the TSopt was not negotiated in the initial three-way handshake, the TSopt MUST be ignored and the packet processed normally."
#[test]
fn section_3_2_timestamps_that_were_not_agreed_on_are_ignored() {
    let (mut trace, mut stream) = Trace::established(plain());
    for (seq, value) in [(1, 9), (11, 5), (21, 0x9000_0000)] {
        trace.send(stamped(data(seq, 10), value, 77));
    }
    assert_eq!(read_all(&mut stream), pattern(1, 30));
    trace.at(500);
    trace.sent();
    assert!(trace.last.iter().all(|sent| sent.tcp.options.timestamps.is_none()));
}
