//! RFC 5682, by section: F-RTO, which finds out after a timeout whether anything was lost.
//!
//! A round trip takes 40 ms, so that the timeout is 240 ms; segments have 1000 bytes. Appendix A's alternatives for a sender without new data are not taken: it goes
//! on conventionally, as §2.1 step 2b recommends. §4 leaves the response open: RFC 4015 (`new_reno`). SCTP (§5 of RFC 4138) is not ours.

use crate::peer::*;
use hopline::socket::TcpStream;
use hopline::wire::TcpOptions;
use std::io::Write;

const AGAIN: &str = "280 [.] 1..1001 ack 1";

/// Of these many bytes, the first ten segments were sent at 40, or all; the timer has expired at 280.
fn timed_out(options: TcpOptions, bytes: usize) -> (Trace, TcpStream) {
    let (mut trace, mut stream) = Trace::far_away(options);
    stream.write_all(&pattern(0, bytes)).unwrap();
    assert!(trace.sent().len() <= 10);
    trace.at(if options.sack_permitted { 121 } else { 279 });
    assert_eq!(trace.sent(), [""; 0]);
    while trace.info(&stream).congestion_window > 1_000 {
        trace.at(trace.now() + 1);
    }
    (trace, stream)
}

fn undone(trace: &mut Trace, stream: &TcpStream) -> u64 {
    trace.info(stream).recoveries_undone
}

/// §2.1 step 1: "retransmit the first unacknowledged segment".
#[test]
fn section_2_1_step_1_the_first_segment_is_sent_again() {
    let (mut trace, _stream) = timed_out(plain(), 100_000);
    assert_eq!(trace.sent_with_times(), [AGAIN]);
}

/// §2.1: "If the retransmission timer expires again during the execution of the F-RTO algorithm, the TCP sender MUST re-start the algorithm processing from step 1."
#[test]
fn section_2_1_a_second_timeout_begins_again() {
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.at(280 + 480);
    assert_eq!(trace.sent_with_times(), [AGAIN, "760 [.] 1..1001 ack 1"]);
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"], "step 2b");
    trace.send(ack(2_001));
    assert_eq!(undone(&mut trace, &stream), 1);
}

/// §2.1 step 1: "already in RTO recovery AND recover is larger than or equal to SND.UNA: do not enter step 2".
#[test]
fn section_2_1_step_1_not_in_the_midst_of_a_recovery_from_a_timeout() {
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.send(ack(1_001));
    trace.sent();
    // Neither the new segments nor anything else is heard of; the timer expires again.
    trace.at(trace.now() + 480);
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 1001..2001 ack 1"));
    trace.send(ack(2_001));
    assert_eq!(trace.sent()[0], "[.] 2001..3001 ack 1", "conventional: what is not acknowledged, in slow start");
    trace.send(ack(3_001));
    assert_eq!(undone(&mut trace, &stream), 0);
}

/// §2.1: "the F-RTO algorithm SHOULD NOT be entered when earlier fast recovery is underway".
#[test]
fn section_2_1_not_in_the_midst_of_fast_recovery() {
    let (mut trace, mut stream) = Trace::far_away(plain());
    stream.write_all(&pattern(0, 100_000)).unwrap();
    trace.at(80);
    (0..3).for_each(|_| trace.send(ack(1)));
    trace.at(80 + 260);
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 1..1001 ack 1"));
    trace.send(ack(1_001));
    assert_eq!(trace.sent()[0], "[.] 1001..2001 ack 1");
    assert_eq!(undone(&mut trace, &stream), 0);
}

/// §2.1: "The TCP sender SHOULD ignore such segments": neither new data is acknowledged, nor is it a duplicate (the window differs).
#[test]
fn section_2_1_other_acknowledgements_are_ignored() {
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.sent();
    trace.send(Seg { window: 59_000, ..ack(1) });
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"], "still step 2");
    trace.send(Seg { window: 58_000, ..ack(1_001) });
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(ack(2_001));
    assert_eq!(undone(&mut trace, &stream), 1, "still step 3");
}

/// §2.1 step 2a: a duplicate, an acknowledgement of all, or of less than what was sent again: "continue by retransmitting unacknowledged data in slow start".
#[test]
fn section_2_1_step_2a_conventional_recovery() {
    for (number, then) in [(1, 1_001), (501, 1_001)] {
        let (mut trace, stream) = timed_out(plain(), 100_000);
        trace.sent();
        trace.send(ack(number));
        trace.send(ack(then));
        let again = trace.sent();
        assert!(again.iter().all(|line| !line.starts_with("[.] 10001")), "{again:?} after {number}");
        assert!(again.iter().any(|line| line.starts_with("[.] 1001..")), "{again:?} after {number}");
        trace.send(ack(2_001));
        assert_eq!(undone(&mut trace, &stream), 0);
    }
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.sent();
    trace.send(ack(10_001));
    trace.send(ack(11_001));
    assert_eq!(undone(&mut trace, &stream), 0, "\"covers recover but not more than recover\"");
}

/// §2.1 step 2b: "transmit up to two new (previously unsent) segments and enter step 3".
#[test]
fn section_2_1_step_2b_two_new_segments() {
    let (mut trace, _stream) = timed_out(plain(), 100_000);
    trace.sent();
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"]);
    let (mut trace, stream) = timed_out(plain(), 10_700);
    trace.sent();
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[P.] 10001..10701 ack 1"], "\"it can send only one segment\"");
    trace.send(ack(2_001));
    assert_eq!(undone(&mut trace, &stream), 1);
}

/// §2.1 step 2b: "If the TCP sender does not have any new data to send, or the advertised window prohibits new transmissions, the recommended action is to skip step 3".
#[test]
fn section_2_1_step_2b_without_anything_new() {
    let (mut trace, _stream) = timed_out(plain(), 10_000);
    trace.sent();
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1", "[.] 2001..3001 ack 1"]);
    let (mut trace, _stream) = timed_out(plain(), 100_000);
    trace.sent();
    trace.send(Seg { window: 9_000, ..ack(1_001) });
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1", "[.] 2001..3001 ack 1"]);
}

/// §2.1 step 3a: "a duplicate ACK: set the congestion window to no more than 3 * MSS, and continue with the slow-start algorithm retransmitting".
#[test]
fn section_2_1_step_3a_a_duplicate_means_loss() {
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.send(ack(1_001));
    trace.sent();
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"]);
    let info = trace.info(&stream);
    assert!(info.congestion_window <= 3_000 && info.recoveries_undone == 0);
}

/// §2.1 step 3b: "declare the timeout spurious": nothing is sent again, and the window is what it was.
#[test]
fn section_2_1_step_3b_an_advance_means_that_nothing_was_lost() {
    let (mut trace, stream) = timed_out(plain(), 100_000);
    trace.send(ack(1_001));
    trace.sent();
    trace.send(ack(2_001));
    let info = trace.info(&stream);
    assert_eq!((info.recoveries_undone, info.congestion_window, info.slow_start_threshold), (1, 10_000, usize::MAX));
    for number in [4_001, 8_001, 12_001] {
        trace.send(ack(number));
    }
    assert_eq!(trace.info(&stream).retransmitted, 1);
}

/// The sender with SACK has sent a probe before (RFC 8985 §7.3), so eleven segments are in flight.
#[track_caller]
fn with_sack_timed_out() -> (Trace, TcpStream) {
    let (mut trace, stream) = timed_out(with_sack(), 100_000);
    assert_eq!(trace.sent_with_times(), ["122 [.] 10001..11001 ack 1", "362 [.] 1..1001 ack 1"]);
    (trace, stream)
}

/// §3.1 step 1, "reset the SACK scoreboard": RFC 6675 §5.1 and RFC 8985 §6.3 keep it; what is reported is not sent again.
#[test]
fn section_3_1_step_1_the_scoreboard_is_kept() {
    let (mut trace, mut stream) = Trace::far_away(with_sack());
    stream.write_all(&pattern(0, 3_000)).unwrap();
    trace.at(80);
    trace.send(trace.sack(1, &[(1_001, 2_001)]));
    trace.at(700);
    trace.sent();
    trace.send(trace.sack(1_001, &[(1_001, 2_001)]));
    trace.send(ack(2_001));
    trace.at(1_500);
    let lines = trace.sent();
    assert!(lines.iter().all(|line| !line.starts_with("[.] 1001")), "{lines:?}");
}

/// §3.1 step 2: "If duplicate ACKs arrive before the cumulative acknowledgment for retransmitted data, … stay in step 2"; then 2b.
#[test]
fn section_3_1_step_2_waits_for_the_acknowledgement() {
    let (mut trace, stream) = with_sack_timed_out();
    trace.send(trace.sack(1, &[(3_001, 4_001)]));
    assert_eq!(trace.sent(), [""; 0]);
    trace.send(trace.sack(1_001, &[(3_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 11001..12001 ack 1", "[.] 12001..13001 ack 1"]);
    assert_eq!(undone(&mut trace, &stream), 0);
}

/// §3.1 step 2a: the acknowledgement of all that was sent: "revert to the conventional RTO recovery and set the congestion window to no more than 2 * MSS".
#[test]
fn section_3_1_step_2a_all_is_acknowledged() {
    let (mut trace, stream) = with_sack_timed_out();
    trace.send(ack(11_001));
    trace.sent();
    let info = trace.info(&stream);
    assert_eq!(info.recoveries_undone, 0);
    trace.send(ack(12_001));
    assert_eq!(undone(&mut trace, &stream), 0);
}

/// §3.1 step 3a: what is told lies beyond "RecoveryPoint": "proceed with the conventional RTO recovery, retransmitting unacknowledged segments".
#[test]
fn section_3_1_step_3a_news_of_what_was_sent_after_the_timeout() {
    let (mut trace, stream) = with_sack_timed_out();
    trace.send(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 11001..12001 ack 1", "[.] 12001..13001 ack 1"]);
    trace.send(trace.sack(1_001, &[(11_001, 12_001)]));
    assert_eq!(trace.sent().first().map(String::as_str), Some("[.] 1001..2001 ack 1"));
    let info = trace.info(&stream);
    assert!(info.congestion_window <= 3_000 && info.recoveries_undone == 0, "{}", info.congestion_window);
}

/// §3.1 step 3a: "Take this branch also when the acknowledgement is a duplicate ACK and it does not acknowledge any new" data: what comes later changes nothing.
#[test]
fn section_3_1_step_3a_no_news() {
    let (mut trace, stream) = with_sack_timed_out();
    trace.send(ack(1_001));
    trace.sent();
    trace.send(ack(1_001));
    trace.send(trace.sack(1_001, &[(2_001, 3_001)]));
    assert_eq!(undone(&mut trace, &stream), 0);
    trace.send(trace.sack(1_001, &[(11_001, 12_001), (2_001, 3_001)]));
    assert_eq!(trace.sent().first().map(String::as_str), Some("[.] 1001..2001 ack 1"));
}

/// §3.1 step 3b: news, by SACK or cumulatively, of what was sent before the timeout: "declare the timeout spurious".
#[test]
fn section_3_1_step_3b_news_of_what_was_sent_before_the_timeout() {
    for (number, blocks) in [(1_001, &[(2_001, 3_001)][..]), (2_001, &[])] {
        let (mut trace, stream) = with_sack_timed_out();
        trace.send(ack(1_001));
        trace.sent();
        trace.send(trace.sack(number, blocks));
        let info = trace.info(&stream);
        assert_eq!((info.recoveries_undone, info.congestion_window, info.slow_start_threshold), (1, 10_000, usize::MAX));
    }
}
