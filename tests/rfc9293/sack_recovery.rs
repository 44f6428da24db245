//! RFC 6675, by section: what the sender does with SACK.
//!
//! RACK-TLP takes the place of its NextSeg () and IsLost () (RFC 8985 §9.2: "a modified recovery algorithm … is needed"), rate reduction that of its window (RFC 6937 §1).
//! Not as written:
//!
//! | section | | instead |
//! |---|---|---|
//! | §4 IsLost () | DupThresh discontiguous SACKed sequences, or (DupThresh - 1) * SMSS bytes above | RACK: as many segments where no reordering was seen, else time alone (`rack_tlp`, §6.2 step 4) |
//! | §4 NextSeg () (3) | retransmission of what is not known to be lost | the reordering timer finds it lost first (RFC 8985 §6.2 step 5) |
//! | §4 NextSeg () (4) | one "rescue" retransmission of the highest segment | a loss probe does, before recovery begins (RFC 8985 §7.3) |
//! | §5 (1) | DupAcks >= DupThresh, whatever is SACKed | segments are counted, small ones too (RACK.segs_sacked) |
//! | §5 (C) | as much as cwnd - pipe admits | rate reduction (`rate_reduction`) |
//! | §6 | managing the timer: "MAY" restart it with each retransmission of the first segment | RFC 6298 §5.3, and at the begin of recovery |

use crate::peer::*;
use hopline::socket::TcpStream;
use std::io::Write;

/// Ten segments of 1000 bytes are in flight since the time 40, it is 80 now, and more waits.
fn ten_in_flight() -> (Trace, TcpStream) {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 100_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(80);
    (trace, stream)
}

/// §4 Update (): "each octet that is cumulatively ACKed or SACKed should be marked": blocks that repeat, overlap or come in any order count once; octets that were never
/// sent, or inverted blocks, not at all.
#[test]
fn section_4_update() {
    let (mut trace, stream) = ten_in_flight();
    for blocks in [&[(50_001, 60_001)][..], &[(5_001, 4_001)], &[(10_001, 11_001)], &[(1, 1)]] {
        trace.send(trace.sack(1, blocks));
    }
    trace.at(100);
    assert_eq!(trace.sent(), [""; 0], "nothing was told");
    for blocks in [&[(1_001, 2_001)][..], &[(1_001, 2_001)], &[(1_501, 2_501), (1_001, 2_001)]] {
        trace.send(trace.sack(1, blocks));
    }
    trace.at(110);
    assert_eq!(trace.sent_with_times(), ["100 [.] 10001..11001 ack 1", "110 [.] 1..1001 ack 1"], "40 + 60 + 10; not what was told in part");
    assert_eq!(trace.info(&stream).lost, 1);
}

/// §4 Update (): "SACKed data MUST NOT be removed from the TCP's retransmission buffer until the data is cumulatively acknowledged": a peer that takes its word back gets it.
#[test]
fn section_4_update_keeps_what_is_only_reported() {
    let (mut trace, _stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 10_001)]));
    trace.sent();
    trace.at(120);
    trace.send(ack(1_001));
    let mut again = Vec::new();
    while again.len() < 3 && trace.now() < 60_000 {
        trace.at(trace.now() + 100);
        again.extend(trace.sent().into_iter().filter(|line| line.starts_with("[.] 1001..")));
    }
    assert!(!again.is_empty(), "sent again in the end");
}

/// §4 SetPipe () (a): what is neither SACKed nor lost is in the network, what is SACKed or lost is not: limited transmit sends one segment for each that has left it.
#[test]
fn section_4_set_pipe_a_what_left_the_network() {
    let (mut trace, _stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1"]);
    trace.send(trace.sack(1, &[(5_001, 5_501), (1_001, 2_001)]));
    assert_eq!(trace.sent(), [""; 0], "half a segment");
    trace.send(trace.sack(1, &[(5_001, 6_001), (1_001, 2_001)]));
    assert_eq!(trace.sent()[0], "[.] 1..1001 ack 1", "the third, and recovery begins");
}

/// §4 SetPipe () (b): "pipe is incremented for the retransmission of the octet": what was sent again is in the network again, and is not sent a third time at once.
#[test]
fn section_4_set_pipe_b_retransmissions_count() {
    let (mut trace, stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    trace.sent();
    (5..=10).for_each(|last| trace.send(trace.sack(1, &[(1_001, last * 1_000 + 1)])));
    assert!(trace.sent().iter().all(|line| !line.starts_with("[.] 1..")));
    assert_eq!(trace.info(&stream).retransmitted, 1);
}

/// §4 NextSeg () (1): "the smallest unSACKed sequence number" that is lost, "one segment of up to SMSS octets"; §5 (C.2): none of them twice.
#[test]
fn section_4_next_seg_1_the_lowest_that_is_lost() {
    let (mut trace, _stream) = ten_in_flight();
    trace.at(91);
    trace.send(trace.sack(1, &[(6_001, 10_001), (3_001, 4_001), (1_001, 2_001)]));
    let mut sent = trace.sent();
    assert_eq!(sent[0], "[.] 1..1001 ack 1");
    trace.at(131);
    trace.send(trace.sack(2_001, &[(6_001, 10_001), (3_001, 4_001)]));
    trace.send(trace.sack(4_001, &[(6_001, 10_001)]));
    sent.extend(trace.sent());
    let again: Vec<&str> = sent.iter().map(String::as_str).filter(|line| !line.starts_with("[.] 1000")).take(4).collect();
    assert_eq!(again, ["[.] 1..1001 ack 1", "[.] 2001..3001 ack 1", "[.] 4001..5001 ack 1", "[.] 5001..6001 ack 1"]);
}

/// §4 NextSeg () (2): nothing is lost that was not sent again: "one segment of up to SMSS octets of previously unsent data", if the window allows.
#[test]
fn section_4_next_seg_2_new_data() {
    for (window, is_sent) in [(60_000, true), (10_000, false)] {
        let (mut trace, _stream) = ten_in_flight();
        let mut sent = Vec::new();
        for last in 2..=10 {
            trace.send(Seg { window, ..trace.sack(1, &[(1_001, last * 1_000 + 1)]) });
            sent.extend(trace.sent());
        }
        assert_eq!(sent.iter().filter(|line| line.starts_with("[.] 1..")).count(), 1);
        assert_eq!(sent.iter().any(|line| line.starts_with("[.] 10001..")), is_sent, "window {window}: {sent:?}");
    }
}

/// §4 NextSeg () (3), in its place: a hole of which too little was told waits for the reordering timer, and then is lost by rule (1).
#[test]
fn section_4_next_seg_3_is_the_reordering_timers() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 3_000)).unwrap();
    trace.sent();
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(90);
    assert_eq!(trace.sent_with_times(), ["90 [.] 1..1001 ack 1"]);
}

/// §4 NextSeg () (4), in its place: the highest segment is sent again, but as a probe, and before anything is known.
#[test]
fn section_4_next_seg_4_is_the_loss_probes() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 3_000)).unwrap();
    trace.sent();
    trace.at(130);
    assert_eq!(trace.sent_with_times(), ["122 [P.] 2001..3001 ack 1"]);
}

/// §4 NextSeg () (5): "NextSeg () MUST indicate failure, and no segment is returned".
#[test]
fn section_4_next_seg_5_nothing() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 5_000)).unwrap();
    trace.sent();
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    trace.send(trace.sack(1, &[(1_001, 5_001)]));
    assert_eq!(trace.sent(), [""; 0]);
}

/// §5 (2): "at least three segments have arrived above the current cumulative acknowledgment point", in a single acknowledgement.
#[test]
fn section_5_2_three_segments_at_once() {
    let (mut trace, _stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent()[0], "[.] 1..1001 ack 1");
}

/// §5 (3): limited transmit, "governed by pipe and cwnd".
#[test]
fn section_5_3_limited_transmit() {
    let (mut trace, stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.send(trace.sack(1, &[(1_001, 3_001)]));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"]);
    assert_eq!(trace.info(&stream).congestion_window, 10_000);
}

/// §5 (4.2): "ssthresh = cwnd = (FlightSize / 2)", and "any segments sent as part of the Limited Transmit mechanism not be counted".
#[test]
fn section_5_4_2_the_threshold() {
    let (mut trace, stream) = ten_in_flight();
    (2..=4).for_each(|last| trace.send(trace.sack(1, &[(1_001, last * 1_000 + 1)])));
    assert_eq!(trace.info(&stream).slow_start_threshold, 5_000);
}

/// §5 (4.3): "Retransmit the first data segment presumed dropped", whatever pipe is.
#[test]
fn section_5_4_3_the_first_goes_at_once() {
    let (mut trace, _stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent_with_times(), ["80 [.] 1..1001 ack 1"]);
}

/// §5 (A): an acknowledgement beyond RecoveryPoint ends recovery, one below does not; "Any information contained in the scoreboard for sequence numbers greater than the
/// new value of HighACK SHOULD NOT be cleared".
#[test]
fn section_5_a_the_end_of_recovery() {
    let (mut trace, stream) = ten_in_flight();
    (2..=10).for_each(|last| trace.send(trace.sack(1, &[(1_001, last * 1_000 + 1)])));
    let threshold = trace.info(&stream).slow_start_threshold;
    trace.sent();
    let end = trace.info(&stream).in_flight as u32 + 1;
    assert!(end > 12_001, "new data was sent in recovery");
    // Of what was sent in recovery the first is lost, the others are reported while recovery ends at 12001, its RecoveryPoint.
    trace.at(120);
    trace.send(trace.sack(12_001, &[(13_001, end)]));
    assert_eq!(trace.info(&stream).slow_start_threshold, threshold, "not a second reduction yet");
    trace.at(140);
    let again = trace.sent();
    assert_eq!(again.iter().filter(|line| line.starts_with("[.] 12001..")).count(), 1, "{again:?}");
    assert!(again.iter().all(|line| !line.starts_with("[.] 13001..")), "it was reported: {again:?}");
}

/// §5 (B): an acknowledgement below RecoveryPoint updates the scoreboard, and the next hole goes; ssthresh stays.
#[test]
fn section_5_b_within_recovery() {
    let (mut trace, stream) = ten_in_flight();
    trace.at(91);
    trace.send(trace.sack(1, &[(5_001, 10_001), (1_001, 2_001)]));
    let sent = trace.sent();
    assert_eq!(sent[0], "[.] 1..1001 ack 1");
    let threshold = trace.info(&stream).slow_start_threshold;
    trace.at(131);
    trace.send(trace.sack(2_001, &[(5_001, 10_001)]));
    trace.send(trace.sack(3_001, &[(5_001, 10_001)]));
    let holes = sent.into_iter().chain(trace.sent()).filter(|line| !line.starts_with("[.] 1..") && line.len() < 22);
    assert_eq!(holes.collect::<Vec<_>>(), ["[.] 2001..3001 ack 1", "[.] 3001..4001 ack 1", "[.] 4001..5001 ack 1"]);
    assert_eq!(trace.info(&stream).slow_start_threshold, threshold);
}

/// §5.1: "a SACK TCP sender SHOULD utilize all SACK information made available during the loss recovery following an RTO", and what was told before: only holes are sent.
#[test]
fn section_5_1_a_timeout_sends_holes_alone() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 5_000)).unwrap();
    trace.sent();
    trace.at(80);
    trace.send(trace.sack(1, &[(2_001, 3_001)]));
    trace.at(1_000);
    trace.sent();
    trace.at(1_040);
    trace.send(trace.sack(1_001, &[(2_001, 3_001)]));
    trace.send(ack(3_001));
    trace.at(3_000);
    let lines = trace.sent();
    assert!(lines.iter().all(|line| !line.contains(" 2001..")), "{lines:?}");
}

/// §5.1: "RecoveryPoint MUST be set to HighData … a new recovery phase MUST NOT be initiated until HighACK is greater than or equal to the new value of RecoveryPoint".
#[test]
fn section_5_1_no_fast_recovery_before_the_timeouts_end() {
    let (mut trace, stream) = ten_in_flight();
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    trace.sent();
    trace.at(700);
    let sent = trace.sent();
    assert!(sent.iter().any(|line| line == "[.] 1..1001 ack 1"), "{sent:?}");
    let threshold = trace.info(&stream).slow_start_threshold;
    trace.send(trace.sack(4_001, &[(5_001, 9_001)]));
    trace.send(trace.sack(4_001, &[(5_001, 10_001)]));
    assert_eq!(trace.info(&stream).slow_start_threshold, threshold);
}
