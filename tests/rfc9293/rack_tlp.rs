//! RFC 8985, by section: RACK finds losses by time, TLP makes the peer tell of those at the tail.
//!
//! A round trip takes 40 ms: the reordering window is 10 ms, a probe waits 82 (twice the round trip, and 2 for the clocks), the timeout is 240. Segments have 1000
//! bytes. §6.2 step 4's "up to 16 loss recoveries" and §5's variables are beside the code (`rack.rs`).
//!
//! Not as written: §7.2's PTO of one second without an SRTT, for §7.3 forbids the probe then (nothing has been measured "since the start of the connection").

use crate::peer::*;
use hopline::socket::TcpStream;
use hopline::wire::{TcpOptions, Timestamps};
use std::io::Write;

/// A segment of 1000 bytes is written at each of these times.
#[track_caller]
fn flight(options: TcpOptions, times: &[u64]) -> (Trace, TcpStream) {
    let (mut trace, mut stream) = Trace::far_away(options);
    for &at in times {
        trace.at(at);
        stream.write_all(&[0x55; 1_000]).unwrap();
        trace.host.settle();
    }
    assert_eq!(trace.sent().len(), times.len());
    (trace, stream)
}

/// §4, requirement 1: without SACK there is neither RACK nor (requirement 4) TLP.
#[test]
fn section_4_not_without_sack() {
    let (mut trace, stream) = flight(plain(), &[40, 40, 40]);
    trace.at(300);
    assert_eq!(trace.sent_with_times(), ["280 [.] 1..1001 ack 1"]);
    assert_eq!(trace.info(&stream).loss_probes, 0);
}

/// §6.1: "Upon retransmitting a segment, … Segment.xmit_ts = Now()": what was sent again is judged by its latest transmission. The second example of §9.1, a lost
/// retransmission, is found so.
#[test]
fn section_6_1_a_retransmission_has_its_own_time() {
    let (mut trace, _stream) = flight(with_sack(), &[40, 52, 64, 76, 88]);
    trace.at(104);
    trace.send(trace.sack(1, &[(2_001, 3_001)]));
    assert_eq!(trace.sent_with_times(), ["104 [.] 1..1001 ack 1"]);
    trace.at(116);
    trace.send(trace.sack(1, &[(2_001, 4_001)]));
    trace.at(128);
    trace.send(trace.sack(1, &[(2_001, 5_001)]));
    assert_eq!(trace.sent_with_times(), ["128 [.] 1001..2001 ack 1"]);
    // What was sent at 128 has arrived; what was sent again at 104 has not.
    trace.at(168);
    trace.send(trace.sack(1, &[(1_001, 5_001)]));
    assert_eq!(trace.sent_with_times(), ["168 [.] 1..1001 ack 1"]);
}

/// §6.2 step 1: the minimum is "windowed": it follows the path when that becomes longer for good.
#[test]
fn section_6_2_step_1_the_minimum_is_of_late() {
    let (mut trace, mut stream) = flight(with_sack(), &[]);
    assert_eq!(trace.info(&stream).minimum_round_trip.as_millis(), 40);
    let mut number = 1;
    for round in 0..120 {
        let start = 1_000 + round * 10_000;
        trace.at(start);
        stream.write_all(&[0x55; 1_000]).unwrap();
        trace.host.settle();
        number += 1_000;
        trace.at(start + 90);
        trace.send(ack(number));
    }
    assert_eq!(trace.info(&stream).minimum_round_trip.as_millis(), 90, "twenty minutes later");
}

/// §6.2 step 2, second condition: what "was last retransmitted less than RACK.min_rtt ago" is acknowledged for its first transmission, and tells nothing of what was sent
/// before the second.
#[test]
fn section_6_2_step_2_a_retransmission_that_is_acknowledged_too_soon() {
    let (mut trace, mut stream) = flight(with_sack(), &[40, 40]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(85);
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(95);
    assert_eq!(trace.sent_with_times(), ["85 [P.] 2001..3001 ack 1", "90 [.] 1..1001 ack 1"]);
    trace.send(ack(2_001));
    trace.at(124);
    trace.send(ack(3_001));
    assert_eq!(trace.sent(), [""; 0], "the third was not late");
    assert_eq!(trace.info(&stream).lost, 1);
}

fn stamped(seg: Seg, echo_reply: u32) -> Seg {
    Seg { options: TcpOptions { timestamps: Some(Timestamps { value: 9, echo_reply }), ..seg.options }, ..seg }
}

/// §6.2 step 2, first condition: "the ACK's timestamp option … indicates the ACK was not acknowledging the last retransmission".
#[test]
fn section_6_2_step_2_a_retransmission_whose_timestamp_is_not_echoed() {
    let options = TcpOptions { timestamps: Some(Timestamps { value: 5, echo_reply: 0 }), maximum_segment_size: Some(1_012), ..with_sack() };
    let (mut trace, mut stream) = flight(options, &[40, 40]);
    let first = trace.echo();
    trace.at(80);
    trace.send(stamped(trace.sack(1, &[(1_001, 2_001)]), first));
    trace.at(89);
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(131);
    assert_eq!(trace.sent_with_times(), ["89 [P.] 2001..3001 ack 1", "90 [.] 1..1001 ack 1"]);
    // 41 ms behind the retransmission, and yet of the first transmission. If it were of the second, the third would be late.
    trace.send(stamped(ack(2_001), first));
    assert_eq!((trace.sent(), trace.info(&stream).lost), (vec![], 1));
}

/// §6.2 step 2: "compare Segment.end_seq and RACK.end_seq to break the tie": of three sent at the same time the middle one arrived, and the first alone is late.
#[test]
fn section_6_2_step_2_ties_are_broken_by_number() {
    let (mut trace, stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(129);
    assert_eq!(trace.sent_with_times(), ["90 [.] 1..1001 ack 1"]);
    assert_eq!(trace.info(&stream).lost, 1);
    trace.at(130);
    trace.send(ack(2_001));
    assert_eq!(trace.sent_with_times(), ["130 [P.] 2001..3001 ack 1"], "sent at 40, and what was sent at 90 has arrived");
}

/// §6.2 step 3: "a never-retransmitted segment that's below RACK.fack" is delivered; one that was sent again is no sign.
#[test]
fn section_6_2_step_3_reordering_is_seen() {
    let (mut trace, stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    assert!(!trace.info(&stream).reordering_seen);
    trace.at(85);
    trace.send(ack(2_001));
    assert!(trace.info(&stream).reordering_seen);

    let (mut trace, stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(135);
    trace.send(ack(2_001));
    assert!(!trace.info(&stream).reordering_seen);
}

/// §6.2 step 4: "If no reordering has been observed, … when the number of SACKed segments matches or exceeds DupThresh"; until then a quarter of RACK.min_RTT.
#[test]
fn section_6_2_step_4_without_reordering() {
    let (mut trace, _stream) = flight(with_sack(), &[40; 6]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 3_001)]));
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(84);
    trace.send(trace.sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent_with_times(), ["84 [.] 1..1001 ack 1"]);
    let (mut trace, _stream) = flight(with_sack(), &[40; 6]);
    trace.at(84);
    trace.send(trace.sack(1, &[(1_001, 3_001)]));
    trace.at(100);
    assert_eq!(trace.sent_with_times(), ["94 [.] 1..1001 ack 1"], "40 + RACK.rtt of 44 + 10");
}

/// §6.2 step 4: "if some reordering has been observed, then RACK does not trigger fast recovery based on DupThresh".
#[test]
fn section_6_2_step_4_with_reordering() {
    let (mut trace, stream) = flight(with_sack(), &[40; 8]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(81);
    trace.send(ack(2_001));
    assert!(trace.info(&stream).reordering_seen);
    trace.at(82);
    trace.send(trace.sack(2_001, &[(3_001, 8_001)]));
    trace.at(91);
    assert_eq!(trace.sent(), [""; 0], "five segments above it, but not long enough");
    trace.at(92);
    assert_eq!(trace.sent_with_times(), ["92 [.] 2001..3001 ack 1"], "40 + 42 + 10");
}

/// §6.2 step 4: "after N round trips in which a DSACK is received, the RACK.reo_wnd becomes (N+1) * min_RTT / 4, with an upper-bound of SRTT".
#[test]
fn section_6_2_step_4_reports_of_duplicates_widen_the_window() {
    for (rounds, window) in [(0, 10), (1, 20), (2, 30), (3, 40), (6, 40)] {
        let (mut trace, mut stream) = flight(with_sack(), &[40; 4]);
        trace.at(80);
        trace.send(trace.sack(1, &[(1_001, 2_001)]));
        trace.at(81);
        trace.send(ack(4_001));
        let mut number = 4_001;
        for round in 1..=rounds {
            trace.at(1_000 * round);
            stream.write_all(&[0x55; 1_000]).unwrap();
            trace.at(1_000 * round + 40);
            number += 1_000;
            // The peer has had it before.
            trace.send(trace.sack(number, &[(number - 1_000, number)]));
        }
        trace.at(10_000);
        stream.write_all(&[0x55; 2_000]).unwrap();
        trace.at(10_040);
        trace.send(trace.sack(number, &[(number + 1_000, number + 2_000)]));
        trace.sent();
        trace.at(10_040 + window - 1);
        assert_eq!(trace.sent(), [""; 0], "after {rounds} rounds");
        trace.at(10_040 + window + 1);
        assert_eq!(trace.sent(), [format!("[.] {number}..{} ack 1", number + 1_000)], "after {rounds} rounds");
    }
}

/// §6.2 step 5: the reordering timer expires when "all the unacknowledged segments within the reordering window were lost", not for each of them.
#[test]
fn section_6_2_step_5_the_reordering_timer() {
    let (mut trace, stream) = flight(with_sack(), &[40, 44, 48]);
    trace.at(88);
    trace.send(trace.sack(1, &[(2_001, 3_001)]));
    trace.at(93);
    assert_eq!(trace.sent(), [""; 0]);
    assert_eq!(trace.info(&stream).lost, 0);
    trace.at(94);
    assert_eq!(trace.sent_with_times(), ["94 [.] 1..1001 ack 1"], "44 + 40 + 10");
    assert_eq!(trace.info(&stream).lost, 2);
}

/// §6.3: "Upon RTO timer expiration, RACK marks the first outstanding segment as lost"; the others only if enough time has elapsed since they were sent.
#[test]
fn section_6_3_a_timeout_marks_what_is_old() {
    let (mut trace, mut stream) = flight(with_sack(), &[40]);
    trace.at(450);
    stream.write_all(&[0x66; 1_000]).unwrap();
    trace.at(499);
    let first = "1..1001 ack 1";
    assert_eq!(
        trace.sent_with_times(),
        [format!("220 [P.] {first}"), "450 [P.] 1001..2001 ack 1".to_owned(), format!("460 [.] {first}")],
        "a probe, new data, the timeout"
    );
    assert_eq!(trace.info(&stream).lost, 1, "the second has just been sent");
    trace.at(500);
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[P.] 1001..2001 ack 1"], "now something has arrived that was sent later");
}

/// §7.1: TLP.end_seq is reset "when initiating … fast recovery": the probe that led to it is forgotten, and a later flight has its own.
#[test]
fn section_7_1_recovery_forgets_the_probe() {
    let (mut trace, mut stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(122);
    assert_eq!(trace.sent_with_times(), ["122 [P.] 2001..3001 ack 1"]);
    trace.at(162);
    trace.send(trace.sack(1, &[(2_001, 3_001)]));
    trace.at(202);
    trace.send(trace.sack(1_001, &[(2_001, 3_001)]));
    trace.at(242);
    trace.send(ack(3_001));
    assert_eq!(trace.sent_with_times(), ["162 [.] 1..1001 ack 1", "202 [.] 1001..2001 ack 1"]);
    trace.at(300);
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(340);
    trace.send(ack(4_001));
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(540);
    assert_eq!(trace.sent(), ["[P.] 3001..4001 ack 1", "[P.] 4001..5001 ack 1", "[P.] 4001..5001 ack 1"]);
    assert_eq!(trace.info(&stream).loss_probes, 2);
}

/// §7.2: "PTO = 2 * SRTT", anew with each transmission of new data and each cumulative acknowledgement; for a single segment TLP.max_ack_delay longer.
#[test]
fn section_7_2_when_a_probe_goes() {
    let (mut trace, _stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(130);
    assert_eq!(trace.sent_with_times(), ["122 [P.] 2001..3001 ack 1"]);
    let (mut trace, _stream) = flight(with_sack(), &[40, 40, 60]);
    trace.at(150);
    assert_eq!(trace.sent_with_times(), ["142 [P.] 2001..3001 ack 1"], "new data");
    let (mut trace, _stream) = flight(with_sack(), &[40, 40, 40]);
    trace.at(80);
    trace.send(ack(1_001));
    trace.at(170);
    assert_eq!(trace.sent_with_times(), ["162 [P.] 2001..3001 ack 1"], "an acknowledgement");
    let (mut trace, _stream) = flight(with_sack(), &[40]);
    trace.at(230);
    assert_eq!(trace.sent_with_times(), ["220 [P.] 1..1001 ack 1"], "2 * 40 + 100");
}

/// §7.2: not "in fast recovery, RTO recovery, or segments have been SACKed".
#[test]
fn section_7_2_when_no_probe_goes() {
    let (mut trace, stream) = flight(with_sack(), &[40; 3]);
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(329);
    assert_eq!(trace.sent_with_times(), ["90 [.] 1..1001 ack 1"], "the reordering timer, and then the timeout");
    trace.at(331);
    assert_eq!((trace.sent().len(), trace.info(&stream).loss_probes), (1, 0));
}

/// §7.2: "if the time at which an RTO would fire is sooner than the computed time for the PTO, then the sender schedules a TLP to be sent at that RTO time".
#[test]
fn section_7_2_the_probe_is_no_later_than_the_timeout() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.at(600);
    trace.send(syn_ack(with_sack()));
    trace.sent();
    // The round trip becomes constant, so that the timeout is 200 ms beyond it: less than twice as long.
    let mut number = 1;
    for round in 1..60 {
        trace.at(round * 1_000);
        stream.write_all(&[0x55; 2_000]).unwrap();
        trace.at(round * 1_000 + 600);
        number += 2_000;
        trace.send(ack(number));
    }
    trace.sent();
    let timeout = trace.info(&stream).retransmission_timeout.as_millis() as u64;
    assert!((790..=830).contains(&timeout), "{timeout}");
    trace.at(70_000);
    stream.write_all(&[0x55; 2_000]).unwrap();
    trace.at(70_000 + timeout + 10);
    assert_eq!(trace.sent().len(), 3);
    assert_eq!((trace.info(&stream).loss_probes, trace.info(&stream).congestion_window > 2_000), (1, true), "a probe, and no timeout yet");
}

/// §7.2 and §7.3: nothing was measured when the SYN had to be sent twice, so there is no probe: the timeout of RFC 6298 §5.7 it is.
#[test]
fn section_7_3_no_probe_before_a_measurement() {
    let mut trace = Trace::new();
    let mut stream = trace.connect();
    trace.at(1_500);
    trace.send(syn_ack(with_sack()));
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(5_000);
    assert_eq!(trace.sent_with_times(), ["1000 [S] 0", "1500 [.] 1 ack 1", "1500 [P.] 1..1001 ack 1", "4500 [P.] 1..1001 ack 1"]);
}

/// §7.3: "the sender SHOULD transmit a previously unsent data segment, if one exists and the receive window allows", beyond the congestion window; "the sender MUST
/// re-arm the RTO timer, not the PTO timer".
#[test]
fn section_7_3_new_data_is_the_probe() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 30_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(361);
    assert_eq!(trace.sent_with_times(), ["122 [.] 10001..11001 ack 1"]);
    trace.at(362);
    assert_eq!(trace.sent_with_times(), ["362 [.] 1..1001 ack 1"], "122 + 240");
    assert_eq!(trace.info(&stream).loss_probes, 1, "no other \"loss probe still in flight\"");
}

/// §7.3: "If such an unsent segment is not available, then the sender SHOULD retransmit the highest-sequence segment": here because the window is full.
#[test]
fn section_7_3_else_the_last_segment_is_the_probe() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    trace.send(Seg { window: 3_000, ..ack(1) });
    stream.write_all(&pattern(0, 30_000)).unwrap();
    assert_eq!(trace.sent().len(), 3);
    trace.at(130);
    assert_eq!(trace.sent_with_times(), ["122 [.] 2001..3001 ack 1"]);
}

/// §7.3, second condition: "the sender has obtained an RTT measurement since the last loss probe transmission": what was sent twice measures nothing.
#[test]
fn section_7_3_one_probe_for_a_measurement() {
    let (mut trace, mut stream) = flight(with_sack(), &[40]);
    trace.at(230);
    assert_eq!(trace.sent_with_times(), ["220 [P.] 1..1001 ack 1"]);
    trace.send(ack(1_001));
    stream.write_all(&[0x55; 2_000]).unwrap();
    trace.at(469);
    assert_eq!(trace.sent().len(), 2);
    trace.at(471);
    assert_eq!((trace.sent_with_times(), trace.info(&stream).loss_probes), (vec!["470 [.] 1001..2001 ack 1".to_owned()], 1), "the timeout");
}

/// §7.4.1: the acknowledgement of the probe "would typically infer that any unacknowledged data segments sent before the loss probe were lost".
#[test]
fn section_7_4_1_the_probes_acknowledgement() {
    let (mut trace, stream) = flight(with_sack(), &[40; 4]);
    trace.at(162);
    assert_eq!(trace.sent_with_times(), ["122 [P.] 3001..4001 ack 1"]);
    trace.send(trace.sack(1, &[(3_001, 4_001)]));
    assert_eq!(trace.sent_with_times(), ["162 [.] 1..1001 ack 1"]);
    assert_eq!((trace.info(&stream).lost, trace.info(&stream).slow_start_threshold), (3, 2_000));
}

/// The last of three segments was probed at 162; the peer answers with these; then it acknowledges a segment more. Gives the threshold.
fn threshold_after(answers: impl FnOnce(&Trace) -> Vec<Seg>) -> usize {
    let (mut trace, mut stream) = flight(with_sack(), &[40; 3]);
    trace.at(80);
    trace.send(ack(2_001));
    trace.at(270);
    assert_eq!(trace.sent_with_times(), ["260 [P.] 2001..3001 ack 1"]);
    for seg in answers(&trace) {
        trace.at(trace.now() + 10);
        trace.send(seg);
    }
    stream.write_all(&[0x55; 1_000]).unwrap();
    trace.at(trace.now() + 40);
    trace.send(ack(4_001));
    trace.info(&stream).slow_start_threshold
}

/// §7.4.2: "the sender should presume that at least one of its data segments was lost. The sender then SHOULD invoke a congestion control response".
#[test]
fn section_7_4_2_a_single_loss_that_the_probe_repaired() {
    assert_eq!(threshold_after(|_| vec![ack(3_001)]), 2_000);
}

/// §7.4.2, case 1: "an ACK that covers TLP.end_seq with a DSACK option"; case 2: "a DupAck without any SACK option".
#[test]
fn section_7_4_2_both_arrived() {
    assert_eq!(threshold_after(|trace| vec![trace.sack(3_001, &[(2_001, 3_001)])]), usize::MAX, "case 1, at once");
    assert_eq!(threshold_after(|trace| vec![ack(3_001), trace.sack(3_001, &[(2_001, 3_001)])]), usize::MAX, "case 1");
    assert_eq!(threshold_after(|_| vec![ack(3_001), ack(3_001)]), usize::MAX, "case 2");
}

/// §7.4.2: "TLP of new data delivered" is no sign of anything.
#[test]
fn section_7_4_2_a_probe_of_new_data() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 30_000)).unwrap();
    trace.at(130);
    trace.send(ack(11_001));
    trace.send(ack(12_001));
    assert_eq!((trace.info(&stream).loss_probes, trace.info(&stream).slow_start_threshold), (1, usize::MAX));
}

/// §8: the timers "are mutually exclusive": while the reordering timer runs, no probe goes, and the timeout counts from what happened last.
#[test]
fn section_8_one_timer_at_a_time() {
    let (mut trace, _stream) = flight(with_sack(), &[40; 4]);
    trace.at(121);
    trace.send(trace.sack(1, &[(3_001, 4_001)]));
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(300);
    assert_eq!(trace.sent_with_times(), ["131 [.] 1..1001 ack 1"], "40 + 81 + 10, and no probe at 122");
}
