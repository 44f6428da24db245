//! Losses that were none: F-RTO (RFC 5682), Eifel (RFC 3522, 4015), D-SACK (RFC 2883, 3708). A round trip takes 40 ms.

use super::super::spurious::{Episode, MOST_SUSPECTS};
use super::loss::sack;
use super::rack::far_away;
use super::trace::*;
use super::*;
use crate::wire::{SackBlock, TcpOptions, Timestamps};

/// Ten segments are in flight, the timer has expired, and the first was sent again.
fn timed_out(options: TcpOptions) -> Trace {
    let mut trace = far_away(options);
    trace.write(100_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"]);
    while trace.host.counters.transport.retransmission_timeouts.get() == 0 {
        let deadline = trace.deadline().unwrap();
        trace.at(deadline + 1);
    }
    assert_eq!(trace.sent().last().map(String::as_str), Some("[.] 1..1001 ack 1"));
    assert_eq!((trace.connection.congestion.window(), trace.connection.congestion.threshold() < 6_000), (1_000, true));
    trace
}

fn undone(trace: &Trace) -> (u64, usize, usize) {
    let congestion = &trace.connection.congestion;
    (trace.connection.recovery.undone, congestion.window(), congestion.threshold())
}

const NOTHING_HAPPENED: (u64, usize, usize) = (1, 10_000, usize::MAX);

#[test]
fn rfc5682_2_1_two_acknowledgements_that_advance_mean_a_spurious_timeout() {
    let mut trace = timed_out(plain());
    trace.receive(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..12001/1000 ack 1"], "step 2b: two new segments");
    trace.receive(ack(2_001));
    assert_eq!(undone(&trace), NOTHING_HAPPENED, "step 3b");
    trace.receive(ack(4_001));
    assert_eq!(trace.sent(), ["[.] 12001..16001/1000 ack 1"], "and nothing is sent again");
}

#[test]
fn rfc5682_2_1_step_2a_a_duplicate_or_a_partial_or_a_full_acknowledgement_mean_loss() {
    for (number, goes_on_at) in [(1, 1_001), (501, 1_001), (10_001, 10_001)] {
        let mut trace = timed_out(plain());
        trace.receive(ack(number));
        trace.receive(ack(number.max(1_001)));
        let first = trace.sent().first().cloned().unwrap_or_default();
        assert!(first.starts_with(&format!("[.] {}..", goes_on_at)), "{first} after {number}");
        assert_eq!(trace.connection.recovery.undone, 0);
    }
}

#[test]
fn rfc5682_2_2_without_new_data_recovery_is_conventional() {
    let mut trace = far_away(plain());
    trace.write(5_000);
    trace.at(281);
    trace.sent();
    trace.receive(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 1001..3001/1000 ack 1"]);
}

#[test]
fn rfc5682_3_1_sack_of_what_was_sent_before_the_timeout_shows_it_spurious() {
    let mut trace = timed_out(with_sack());
    trace.receive(sack(1, &[(3_001, 4_001)]));
    trace.receive(sack(1_001, &[(3_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 11001..13001/1000 ack 1"], "step 2b");
    trace.receive(sack(1_001, &[(2_001, 4_001)]));
    assert_eq!(undone(&trace), NOTHING_HAPPENED, "step 3b");
}

#[test]
fn rfc5682_3_1_step_3a_sack_of_what_was_sent_after_the_timeout_means_loss() {
    let mut trace = timed_out(with_sack());
    trace.receive(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 11001..13001/1000 ack 1"]);
    trace.receive(sack(1_001, &[(11_001, 12_001)]));
    assert_eq!(trace.sent().first().map(String::as_str), Some("[.] 1001..2001 ack 1"));
    assert_eq!(trace.connection.recovery.undone, 0);
}

fn stamped(seg: Seg, echo_reply: u32) -> Seg {
    let timestamps = Some(Timestamps { value: 9, echo_reply });
    Seg { options: TcpOptions { timestamps, ..seg.options }, ..seg }
}

#[test]
fn rfc3522_3_2_an_older_echo_shows_a_spurious_timeout_at_once() {
    let mut trace = far_away(with_timestamps(5));
    trace.write(100_000);
    trace.sent();
    let first = trace.last_header().options.timestamps.unwrap().value;
    let deadline = trace.deadline().unwrap();
    trace.at(deadline + 1);
    trace.sent();
    let (again, size) = (trace.last_header().options.timestamps.unwrap().value, trace.connection.send.segment_size as u32);
    assert!(again > first + 200);
    trace.receive(stamped(ack(1 + size), first));
    assert_eq!(trace.connection.recovery.undone, 1);
    trace.receive(stamped(ack(1 + 2 * size), first));
    assert!(trace.connection.round_trip.timeout() > Duration::from_millis(440), "RFC 4015 §3.1 step 11");
}

#[test]
fn rfc3522_3_2_the_retransmissions_echo_shows_a_loss() {
    let mut trace = far_away(with_timestamps(5));
    trace.write(100_000);
    let deadline = trace.deadline().unwrap();
    trace.at(deadline + 1);
    trace.sent();
    let again = trace.last_header().options.timestamps.unwrap().value;
    let size = trace.connection.send.segment_size as u32;
    trace.receive(stamped(ack(1 + size), again));
    assert_eq!(trace.connection.recovery.undone, 0);
}

/// §3.3: what acknowledges everything may do so because the acknowledgements before it were lost. A peer that reports duplicates would say so.
#[test]
fn rfc3522_3_3_an_older_echo_for_everything_is_no_proof() {
    let mut trace = far_away(with_timestamps(5));
    trace.write(2_000);
    trace.sent();
    let first = trace.last_header().options.timestamps.unwrap().value;
    let deadline = trace.deadline().unwrap();
    trace.at(deadline + 1);
    assert!(!trace.sent().is_empty());
    trace.receive(stamped(ack(2_001), first));
    assert_eq!(trace.connection.recovery.undone, 0);
}

/// The first of ten segments seems lost, and was sent again.
pub(super) fn fast() -> Trace {
    let mut trace = far_away(with_sack());
    trace.write(10_000);
    trace.sent();
    trace.at(80);
    trace.receive(sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    assert_eq!(trace.connection.congestion.threshold(), 5_000);
    trace
}

#[test]
fn rfc2883_5_every_retransmission_reported_twice_undoes_the_recovery() {
    let mut trace = fast();
    trace.receive(ack(4_001));
    trace.receive(sack(4_001, &[(1, 1_001)]));
    assert_eq!(undone(&trace), NOTHING_HAPPENED);
    assert!(trace.host.counters.transport.recoveries_undone.get() == 1);
}

#[test]
fn rfc2883_5_the_report_may_come_after_the_recovery() {
    let mut trace = fast();
    trace.receive(ack(10_001));
    assert_eq!((trace.connection.recovery.is_open(), trace.connection.congestion.window()), (true, 5_000));
    trace.receive(sack(10_001, &[(1, 1_001)]));
    assert_eq!(undone(&trace), NOTHING_HAPPENED);
}

#[test]
fn rfc3708_3_a_duplicate_that_was_not_sent_again_undoes_nothing() {
    let mut trace = fast();
    trace.receive(sack(4_001, &[(2_001, 3_001)]));
    trace.receive(sack(4_001, &[(1, 501)]));
    assert_eq!(trace.connection.recovery.undone, 0, "and half of it is not all of it");
    trace.receive(sack(4_001, &[(501, 1_001)]));
    assert_eq!(trace.connection.recovery.undone, 1);
}

/// Of more runs than are remembered nobody can say that all were reported.
#[test]
fn rfc3708_3_a_recovery_of_too_many_runs_is_not_undone() {
    let trace = far_away(plain());
    let run = |index: usize| [0, 1_000].map(|offset| SequenceNumber(2_000 * index as u32 + offset));
    for (runs, is_undone) in [(MOST_SUSPECTS, true), (MOST_SUSPECTS + 1, false)] {
        let mut episode = Episode::fast(trace.connection.congestion.snapshot(), 1);
        (0..runs).map(run).for_each(|[start, end]| episode.sent_again(start, end, 0));
        let reports: Vec<bool> = (0..runs).map(run).map(|[left, right]| episode.reported(SackBlock { left, right })).collect();
        assert_eq!(reports.iter().position(|&is_all| is_all), is_undone.then_some(runs - 1), "{runs} runs");
    }
}

#[test]
fn rfc8985_6_2_step_4_a_report_widens_the_reordering_window() {
    let mut trace = fast();
    trace.receive(ack(4_001));
    trace.receive(sack(4_001, &[(1, 1_001)]));
    trace.receive(sack(4_001, &[(5_001, 6_001)]));
    assert_eq!(trace.deadline(), Some(40 + 40 + 2 * 10), "twice a quarter of the least round trip");
}
