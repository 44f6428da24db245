//! What the receiver says of data out of order (RFC 2018) and of duplicates (RFC 2883), in the RFCs' own examples.

use super::trace::*;
use super::*;

fn receiver() -> Trace {
    Trace::established_with(TcpConfig::default(), with_sack())
}

/// What is answered to a segment of 500 bytes.
#[track_caller]
fn answer(trace: &mut Trace, seq: u32, length: usize) -> String {
    trace.receive(data(seq, length));
    let mut sent = trace.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent.remove(0)
}

#[test]
fn rfc2018_7_case_2_the_first_of_eight_is_lost() {
    let mut trace = receiver();
    assert_eq!(answer(&mut trace, 501, 500), "[.] 1 ack 1 sack 501..1001");
    assert_eq!(answer(&mut trace, 1_001, 500), "[.] 1 ack 1 sack 501..1501");
    assert_eq!(answer(&mut trace, 1_501, 500), "[.] 1 ack 1 sack 501..2001");
    assert_eq!(answer(&mut trace, 1, 500), "[.] 1 ack 2001");
}

#[test]
fn rfc2018_7_case_3_every_other_is_lost() {
    let mut trace = receiver();
    assert_eq!(answer(&mut trace, 1, 500), "[.] 1 ack 501");
    assert_eq!(answer(&mut trace, 1_001, 500), "[.] 1 ack 501 sack 1001..1501");
    assert_eq!(answer(&mut trace, 2_001, 500), "[.] 1 ack 501 sack 2001..2501 sack 1001..1501");
    assert_eq!(answer(&mut trace, 3_001, 500), "[.] 1 ack 501 sack 3001..3501 sack 2001..2501 sack 1001..1501");
    assert_eq!(answer(&mut trace, 1_501, 500), "[.] 1 ack 501 sack 1001..2501 sack 3001..3501", "the fourth, out of order");
    assert_eq!(answer(&mut trace, 501, 500), "[.] 1 ack 2501 sack 3001..3501", "the second");
}

#[test]
fn rfc2018_4_a_batch_with_more_gaps_than_blocks_is_acknowledged_in_parts() {
    let mut trace = receiver();
    trace.receive_batch((0..9).map(|gap| data(1_001 + gap * 1_000, 500)));
    let sent = trace.sent();
    assert_eq!(sent.len(), 3);
    for gap in 0..9 {
        let block = format!("sack {}..{}", 1_001 + gap * 1_000, 1_501 + gap * 1_000);
        assert!(sent.iter().any(|line| line.contains(&block)), "{block} in {sent:?}");
    }
}

#[test]
fn rfc2883_4_1_1_a_duplicate_below_the_acknowledgement() {
    let mut trace = receiver();
    answer(&mut trace, 1, 500);
    answer(&mut trace, 501, 500);
    assert_eq!(answer(&mut trace, 1, 500), "[.] 1 ack 1001 sack 1..501");
}

#[test]
fn rfc2883_4_1_2_a_duplicate_beside_a_gap() {
    let mut trace = receiver();
    answer(&mut trace, 1, 500);
    answer(&mut trace, 1_501, 500);
    assert_eq!(answer(&mut trace, 1, 500), "[.] 1 ack 501 sack 1..501 sack 1501..2001");
}

#[test]
fn rfc2883_4_1_3_a_duplicate_of_what_is_out_of_order() {
    let mut trace = receiver();
    answer(&mut trace, 1, 500);
    answer(&mut trace, 1_001, 500);
    assert_eq!(answer(&mut trace, 1_501, 500), "[.] 1 ack 501 sack 1001..2001");
    assert_eq!(answer(&mut trace, 1_501, 500), "[.] 1 ack 501 sack 1501..2001 sack 1001..2001");
}

#[test]
fn rfc2883_4_2_1_a_partial_duplicate_below_the_acknowledgement() {
    let mut trace = receiver();
    answer(&mut trace, 1, 500);
    assert_eq!(answer(&mut trace, 1, 1_000), "[.] 1 ack 1001 sack 1..501");
}

#[test]
fn rfc2883_4_2_2_a_partial_duplicate_that_fills_a_gap() {
    let mut trace = receiver();
    answer(&mut trace, 1, 500);
    answer(&mut trace, 1_001, 500);
    assert_eq!(answer(&mut trace, 501, 1_000), "[.] 1 ack 1501 sack 1001..1501");
}

#[test]
fn rfc2883_4_2_3_of_a_segment_with_two_duplicate_parts_the_first_is_reported() {
    let mut trace = receiver();
    answer(&mut trace, 1_001, 500);
    answer(&mut trace, 2_001, 500);
    assert_eq!(answer(&mut trace, 1_001, 1_500), "[.] 1 ack 1 sack 1001..1501 sack 1001..2501");
}

#[test]
fn rfc2883_4_each_duplicate_of_a_batch_is_reported_once() {
    let mut trace = receiver();
    (0..4).for_each(|at| trace.receive(data(1 + at * 500, 500)));
    trace.sent();
    trace.receive_batch([data(1, 500), data(501, 500), data(1_501, 500)]);
    assert_eq!(trace.sent(), ["[.] 1 ack 2001 sack 1..1001", "[.] 1 ack 2001 sack 1501..2001"]);
    trace.receive(data(2_001, 500));
    assert_eq!(trace.sent(), ["[.] 1 ack 2501"]);
}
