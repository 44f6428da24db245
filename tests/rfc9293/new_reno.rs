//! RFC 6582 and RFC 4015, by section: NewReno's fast recovery, for peers without SACK, and what is undone after a timeout that was none.
//!
//! A round trip takes 40 ms, segments have 1000 bytes. RFC 6582 §4.2, the timestamp heuristic, is an alternative to §4.1, which is taken.

use crate::peer::*;
use hopline::socket::{Ecn, TcpStream};
use hopline::wire::{TcpFlags, TcpOptions};
use std::io::Write;

/// So many segments are in flight since the time 40; more waits to be sent.
fn in_flight(options: TcpOptions) -> (Trace, TcpStream) {
    let (mut trace, mut stream) = Trace::far_away(options);
    stream.write_all(&pattern(0, 100_000)).unwrap();
    assert_eq!(trace.sent().len(), 10);
    trace.at(80);
    (trace, stream)
}

fn duplicates(trace: &mut Trace, number: u32, count: usize) {
    (0..count).for_each(|_| trace.send(ack(number)));
}

/// §3.2 step 1, "recover is set to the initial send sequence number": the first segment of a connection can be found lost.
#[test]
fn rfc6582_section_3_2_step_1_the_first_segment_may_be_lost() {
    let (mut trace, _stream) = in_flight(plain());
    duplicates(&mut trace, 1, 3);
    assert_eq!(trace.sent_with_times(), ["80 [.] 10001..11001 ack 1", "80 [.] 11001..12001 ack 1", "80 [.] 1..1001 ack 1"]);
}

/// §3.2 step 2: "If not, the TCP does not enter fast retransmit and does not reset ssthresh": duplicates that answer what was sent again for nothing.
#[test]
fn rfc6582_section_3_2_step_2_duplicates_that_cover_no_more_than_recover() {
    let (mut trace, stream) = in_flight(plain());
    duplicates(&mut trace, 1, 3);
    trace.sent();
    // Everything but the first had arrived: the acknowledgement of all that was sent before, and duplicates of it.
    trace.send(ack(12_001));
    let (threshold, recover) = (trace.info(&stream).slow_start_threshold, 12_001);
    assert_eq!(threshold, 5_000);
    trace.sent();
    duplicates(&mut trace, recover, 2);
    assert_eq!(trace.sent().len(), 2, "limited transmit (RFC 3042)");
    duplicates(&mut trace, recover, 8);
    assert_eq!(
        (trace.sent(), trace.info(&stream).slow_start_threshold),
        (vec![], threshold),
        "no segment again, no further one, no other threshold"
    );
    // One byte more is acknowledged, and they count.
    trace.send(ack(recover + 1_000));
    trace.sent();
    duplicates(&mut trace, recover + 1_000, 3);
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 13001..14001 ack 1"));
}

/// §3.2 step 3, full acknowledgement: "Set cwnd to … ssthresh"; a partial one sends the next hole at once, and recovery goes on.
#[test]
fn rfc6582_section_3_2_step_3_partial_and_full_acknowledgements() {
    let (mut trace, stream) = in_flight(plain());
    duplicates(&mut trace, 1, 4);
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 1..1001 ack 1"));
    trace.at(120);
    trace.send(ack(4_001));
    assert_eq!(trace.sent()[0], "[.] 4001..5001 ack 1");
    trace.at(160);
    trace.send(ack(7_001));
    assert_eq!(trace.sent()[0], "[.] 7001..8001 ack 1");
    trace.send(ack(12_001));
    let info = trace.info(&stream);
    assert_eq!((info.congestion_window, info.slow_start_threshold), (5_000, 5_000));
    assert_eq!(info.retransmitted, 3);
}

/// §3.2 step 3: "For the first partial ACK that arrives during fast recovery, also reset the retransmit timer." (§6.1's "Slow-but-Steady": each of them does, as RFC
/// 6298 §5.3 asks of every acknowledgement of new data.)
#[test]
fn rfc6582_section_3_2_step_3_a_partial_acknowledgement_restarts_the_timer() {
    let (mut trace, _stream) = in_flight(plain());
    duplicates(&mut trace, 1, 3);
    trace.at(200);
    trace.send(ack(4_001));
    trace.sent();
    trace.at(200 + 239);
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(200 + 260);
    assert_eq!(trace.sent().len(), 1, "the timeout, counted from the acknowledgement");
}

/// §3.2 step 4: "record the highest sequence number transmitted in the variable recover": after a timeout, duplicates below it mean nothing (§4) …
#[test]
fn rfc6582_section_3_2_step_4_duplicates_after_a_timeout() {
    let (mut trace, stream) = in_flight(plain());
    trace.at(300);
    assert_eq!(trace.sent_with_times(), ["280 [.] 1..1001 ack 1"]);
    let threshold = trace.info(&stream).slow_start_threshold;
    assert_eq!(threshold, 5_000);
    // All but the first had arrived, and what is sent again for nothing has the peer repeat itself.
    trace.send(ack(10_001));
    trace.sent();
    duplicates(&mut trace, 10_001, 8);
    assert!(trace.last.iter().all(|sent| sent.tcp.sequence.offset_from(trace.iss.unwrap()) > 10_000));
    assert_eq!((trace.info(&stream).slow_start_threshold, trace.info(&stream).retransmitted), (threshold, 1));
}

/// … unless (§4.1) "the congestion window is greater than SMSS bytes and the difference between highest_ack and prev_highest_ack is at most 4*SMSS bytes": then it was a
/// retransmission that was lost.
#[test]
fn rfc6582_section_4_1_a_small_advance_before_the_duplicates_means_loss() {
    let (mut trace, stream) = in_flight(plain());
    trace.at(300);
    trace.sent();
    for number in [4_001, 8_001, 10_001] {
        trace.at(trace.now() + 40);
        trace.send(ack(number));
    }
    trace.sent();
    let before = trace.info(&stream);
    assert!(before.congestion_window > 1_000);
    duplicates(&mut trace, 10_001, 3);
    let again = trace.sent();
    assert_eq!(again.last().map(String::as_str), Some("[.] 10001..11001 ack 1"), "{again:?}");
}

/// RFC 4015 §3.1 step 0 and 7 to 9: after a timeout that F-RTO finds spurious, transmission goes on with what is new, and congestion control is as it was.
#[test]
fn rfc4015_section_3_1_a_spurious_timeout_is_undone() {
    let (mut trace, stream) = in_flight(plain());
    let before = trace.info(&stream);
    trace.at(300);
    assert_eq!(trace.sent_with_times(), ["280 [.] 1..1001 ack 1"]);
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"]);
    trace.send(ack(2_001));
    let after = trace.info(&stream);
    assert_eq!(after.recoveries_undone, 1);
    assert_eq!((after.congestion_window, after.slow_start_threshold), (before.congestion_window, usize::MAX));
    trace.sent();
    trace.send(ack(4_001));
    let iss = trace.iss.unwrap();
    assert!(
        !trace.sent().is_empty() && trace.last.iter().all(|sent| sent.tcp.sequence.offset_from(iss) > 12_000),
        "step 8: SND.NXT <- SND.MAX"
    );
}

/// A connection with ECN, and a timeout that is spurious. What the second acknowledgement behind it says of congestion is `flags`.
fn undone_with(flags: TcpFlags) -> (Trace, TcpStream) {
    let mut trace = Trace::with(|options| options.config.tcp.ecn = Ecn::Request);
    let mut stream = trace.connect();
    stream.set_congestion_control("newreno").unwrap();
    trace.at(40);
    trace.send(Seg { flags: TcpFlags::SYN | TcpFlags::ECE, ..syn_ack(plain()) });
    trace.sent();
    assert!(trace.info(&stream).ecn);
    stream.write_all(&pattern(0, 100_000)).unwrap();
    trace.at(300);
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 1..1001 ack 1"));
    trace.send(ack(1_001));
    trace.send(Seg { flags, ..ack(2_001) });
    trace.sent();
    assert_eq!(trace.info(&stream).recoveries_undone, 1);
    (trace, stream)
}

/// RFC 4015 §3.1 step 9: "If the acceptable ACK has the ECN-Echo flag set, then proceed to step (DONE)"; §3.4: "the TCP sender MUST refrain from reversing
/// congestion control state". Nothing is sent again all the same (step 8).
#[test]
fn rfc4015_section_3_4_congestion_control_is_not_reversed_if_marks_are_echoed() {
    let (mut trace, stream) = undone_with(TcpFlags::NONE);
    assert_eq!(trace.info(&stream).slow_start_threshold, usize::MAX);
    let (mut trace, stream) = undone_with(TcpFlags::ECE);
    let info = trace.info(&stream);
    assert_eq!((info.slow_start_threshold, info.retransmitted), (5_000, 1));
    assert!(info.congestion_window <= 5_000, "{}", info.congestion_window);
    trace.send(ack(10_001));
    let iss = trace.iss.unwrap();
    trace.sent();
    assert!(trace.last.iter().all(|sent| sent.tcp.sequence.offset_from(iss) > 10_000));
}
