//! Retransmission, acknowledgements, and when data is sent (RFC 9293 §3.7.4, §3.8, §3.9.1.2, §3.10.7.4).

use crate::peer::*;
use std::collections::BTreeSet;
use std::io::Write;

/// "There MUST be a way for an application to disable the Nagle algorithm on an individual connection."
#[test]
fn must_17_nagle_can_be_disabled() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 10);
    write(&mut stream, 10, 10);
    assert_eq!(trace.sent(), ["[P.] 1..21 ack 1"], "written together");
    write(&mut stream, 20, 10);
    assert_eq!(trace.sent(), [""; 0], "a small segment is under way");
    stream.set_nodelay(true).unwrap();
    write(&mut stream, 30, 10);
    assert_eq!(trace.sent(), ["[P.] 21..41 ack 1"]);
    write(&mut stream, 40, 10);
    assert_eq!(trace.sent(), ["[P.] 41..51 ack 1"]);
}

/// "Including Karn's algorithm for taking RTT samples": what was sent twice measures nothing, and the backed-off timeout stays until a
/// segment that was sent once is acknowledged (RFC 6298 §3, §5).
#[test]
fn must_18_karn() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 100);
    assert_eq!(trace.sent_with_times(), ["0 [P.] 1..101 ack 1"]);
    trace.at(650);
    assert_eq!(trace.sent_with_times(), ["200 [P.] 1..101 ack 1", "600 [P.] 1..101 ack 1"]);
    let before = stream.info().unwrap().smoothed_round_trip;
    trace.send(ack(101));
    stream.info().unwrap();
    trace.sent();
    assert_eq!(stream.info().unwrap().smoothed_round_trip, before, "650 ms, 450 ms or 50 ms: nobody knows");
    write(&mut stream, 100, 100);
    trace.at(650 + 799);
    assert_eq!(trace.sent_with_times(), ["650 [P.] 101..201 ack 1"], "twice backed off: 800 ms");
    trace.at(650 + 800);
    assert_eq!(trace.sent_with_times(), ["1450 [P.] 101..201 ack 1"]);
}

/// "MUST implement the basic congestion control algorithms slow start, congestion avoidance, and exponential backoff of RTO."
#[test]
fn must_19_slow_start_congestion_avoidance_and_backoff() {
    let (mut trace, mut stream) = Trace::established(plain());
    stream.set_congestion_control("newreno").unwrap();
    stream.write_all(&pattern(0, 400_000)).unwrap();
    assert_eq!(trace.sent().len(), 10, "the initial window (RFC 6928)");
    // Slow start: each acknowledgement of a segment lets two more go.
    trace.at(50);
    (1..=10).for_each(|segment| trace.send(ack(segment * 1_000 + 1)));
    let mut sent = trace.sent().len();
    trace.at(80);
    sent += trace.sent().len();
    assert_eq!(sent, 20, "paced over half a round trip");
    // Everything is lost. The timeout backs off exponentially (RFC 6298 §5.5), one segment at a time.
    let mut times = Vec::new();
    while times.len() < 4 {
        trace.at(trace.now() + 10);
        assert!(trace.sent().len() <= 1);
        times.extend(trace.last.iter().map(|sent| sent.at));
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((gaps[1], gaps[2]), (gaps[0] * 2, gaps[0] * 4));
    while trace.sent().is_empty() {
        trace.at(trace.now() + 10);
    }
    // This one arrives, and from now on everything. Slow start again, up to half of the flight; then congestion avoidance: a segment for each round trip.
    let mut peer = Receiver { next: 10_001, beyond: BTreeSet::new() };
    let mut window = Vec::new();
    for _ in 0..16 {
        let acknowledgements: Vec<_> =
            trace.last.iter().map(|sent| peer.take(sent.tcp.sequence.offset_from(trace.iss.unwrap()) as u32)).collect();
        trace.at(trace.now() + 50);
        acknowledgements.into_iter().for_each(|number| trace.send(ack(number)));
        stream.info().unwrap();
        trace.sent();
        window.push(stream.info().unwrap().congestion_window / 1_000);
    }
    let threshold = stream.info().unwrap().slow_start_threshold / 1_000;
    assert_eq!(threshold, 10, "half of the twenty in flight");
    assert!(window.windows(2).filter(|pair| pair[0] >= 10).all(|pair| pair[1] <= pair[0] + 1), "{window:?}");
    assert!(window.iter().any(|&window| window > 10), "it grows beyond the threshold: {window:?}");
}

/// A peer that gets segments of 1000 bytes.
struct Receiver {
    next: u32,
    beyond: BTreeSet<u32>,
}

impl Receiver {
    /// The acknowledgement of the segment at `start`.
    fn take(&mut self, start: u32) -> u32 {
        self.beyond.insert(start);
        while self.beyond.remove(&self.next) {
            self.next += 1_000;
        }
        self.next
    }
}

/// "The delay MUST be less than 0.5 seconds"; SHLD-19: every second full-sized segment is acknowledged.
#[test]
fn must_40_acknowledgements_are_delayed_by_less_than_half_a_second() {
    let (mut trace, _stream, mut seq) = calm();
    trace.send(data(seq, 100));
    assert_eq!(trace.sent(), [""; 0], "delayed (SHLD-18)");
    trace.at(1_499);
    assert_eq!(trace.sent(), [format!("[.] 1 ack {}", seq + 100)]);
    seq += 100;
    trace.send(data(seq, 1_000));
    trace.send(data(seq + 1_000, 1_000));
    assert_eq!(trace.sent(), [format!("[.] 1 ack {}", seq + 2_000)]);
}

/// "MUST be implemented to aggregate ACK segments whenever possible": acknowledgements ride on data, and one serves for many.
#[test]
fn must_58_acknowledgements_are_aggregated() {
    let (mut trace, mut stream) = Trace::established(plain());
    trace.send_batch((0..8).map(|index| data(1 + index * 1_000, 1_000)));
    assert_eq!(trace.sent(), ["[.] 1 ack 8001"]);
    let seq = calm_down(&mut trace, 8_001);
    trace.send(data(seq, 10));
    write(&mut stream, 0, 10);
    assert_eq!(trace.sent(), [format!("[P.] 1..11 ack {}", seq + 10)]);
    trace.at(1_500);
    assert!(trace.sent().iter().all(|line| line.starts_with("[P.]")), "no acknowledgement by itself");
}

/// "If the TCP endpoint is processing a series of queued segments, it MUST process them all before sending any ACK segments": also those
/// that arrive out of order.
#[test]
fn must_59_all_that_is_queued_is_processed_first() {
    let (mut trace, mut stream) = Trace::established(with_sack());
    trace.send_batch([data(2_001, 1_000), data(1, 1_000), data(1_001, 1_000), data(3_001, 500)]);
    assert_eq!(trace.sent(), ["[.] 1 ack 3501"]);
    assert_eq!(read_all(&mut stream), pattern(1, 3_500));
}

/// "(1) MUST NOT buffer data indefinitely": what is written goes without a PUSH, at the latest when what is under way is acknowledged.
#[test]
fn must_not_60_data_is_buffered_indefinitely() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 1);
    assert_eq!(trace.sent(), ["[P.] 1..2 ack 1"]);
    write(&mut stream, 1, 1);
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(ack(2));
    assert_eq!(trace.sent(), ["[P.] 2..3 ack 1"]);
    // Nor behind a window that stays smaller than a segment (§3.8.6.2.1: "override timeout").
    trace.send(Seg { window: 60_000, ..ack(3) });
    trace.send(Seg { window: 50, ..ack(3) });
    write(&mut stream, 2, 900);
    trace.at(1_000);
    assert_eq!(trace.sent()[0], "[.] 3..53 ack 1");
}

/// "(2) MUST set the PSH bit in the last buffered segment."
#[test]
fn must_61_the_last_segment_is_pushed() {
    let (mut trace, mut stream) = Trace::established(plain());
    write(&mut stream, 0, 2_500);
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1", "[.] 1001..2001 ack 1", "[P.] 2001..2501 ack 1"]);
    trace.send(ack(2_501));
    write(&mut stream, 2_500, 2_000);
    assert_eq!(trace.sent(), ["[.] 2501..3501 ack 1", "[P.] 3501..4501 ack 1"]);
}
