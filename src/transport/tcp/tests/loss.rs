//! Loss without RACK: RFC 6298 §5, RFC 5681 §3.2, RFC 6582, RFC 3042, RFC 7765.

use super::trace::*;
use super::*;
use crate::transport::shared::CongestionControl;
use crate::wire::{SackBlock, TcpOptions};

/// Ten segments of 1000 bytes are in flight.
fn ten_in_flight(options: TcpOptions) -> Trace {
    let config = TcpConfig { congestion_control: CongestionControl::NewReno, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, options);
    trace.write(100_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"]);
    trace
}

pub(super) fn sack(number: u32, blocks: &[(u32, u32)]) -> Seg {
    let block = |&(left, right): &(u32, u32)| SackBlock { left: SequenceNumber(ISS + left), right: SequenceNumber(ISS + right) };
    Seg { options: TcpOptions { sack: blocks.iter().map(block).collect(), ..TcpOptions::default() }, ..ack(number) }
}

#[test]
fn a_timeout_sends_the_first_segment_again_and_slow_starts() {
    let mut trace = ten_in_flight(plain());
    trace.at(200);
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    assert_eq!((trace.connection.congestion.window(), trace.connection.congestion.threshold()), (1_000, 5_000));
    trace.at(600);
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"], "RFC 6298 §5.5: twice as long");
    assert_eq!(trace.connection.congestion.threshold(), 5_000, "RFC 5681 §3.1: held");
    trace.receive(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 10001..12001/1000 ack 1"], "RFC 5682 §2.1 step 2b");
    trace.receive(ack(1_001));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"], "step 3a: it was a loss");
    trace.receive(ack(10_001));
    assert_eq!(trace.sent(), ["[.] 12001..15001/1000 ack 1"]);
}

#[test]
fn acknowledgement_of_all_stops_the_timer_of_some_restarts_it() {
    let mut trace = ten_in_flight(plain());
    trace.at(100);
    trace.receive(ack(1_001));
    let deadline = trace.deadline().unwrap();
    assert!((300..600).contains(&deadline), "{deadline}");
    let mut trace = Trace::established();
    trace.write(10);
    trace.receive(ack(11));
    assert_eq!(trace.deadline(), None);
}

#[test]
fn after_r2_the_connection_fails() {
    let mut trace = Trace::established_with(TcpConfig { data_retries: 3, ..TcpConfig::default() }, plain());
    trace.write(10);
    trace.at(200 + 400 + 800 + 1_600 - 1);
    assert_eq!((trace.sent().len(), trace.state()), (4, State::Established));
    trace.at(200 + 400 + 800 + 1_600);
    assert_eq!((trace.failure(), trace.phase()), (Some(Failure::TimedOut), Phase::Closed));
}

#[test]
fn the_user_timeout_is_kept_to_the_moment() {
    let mut trace = Trace::established();
    trace.set_options(|options| options.user_timeout = Some(Duration::from_millis(1_000)));
    trace.write(10);
    trace.at(500);
    trace.receive(Seg::default());
    trace.at(999);
    assert_eq!(trace.state(), State::Established);
    trace.at(1_000);
    assert_eq!(trace.failure(), Some(Failure::TimedOut));
}

#[test]
fn three_duplicates_mean_fast_retransmission_without_sack() {
    let mut trace = ten_in_flight(plain());
    trace.receive(ack(1));
    trace.receive(ack(1));
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1", "[.] 11001..12001 ack 1"], "limited transmit (RFC 3042)");
    trace.receive(ack(1));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    assert_eq!(trace.connection.congestion.window(), 5_000, "half of what was in flight, without limited transmit (RFC 5681 §3.2)");
    assert_eq!(trace.host.counters.transport.fast_retransmits.get(), 1);
    (0..6).for_each(|_| trace.receive(ack(1)));
    let one_for_two = ["[.] 12001..13001 ack 1", "[.] 13001..14001 ack 1"];
    assert_eq!(trace.sent(), one_for_two, "RFC 6937: spread over the round trip");
    trace.receive(ack(12_001));
    assert_eq!(trace.connection.congestion.window(), 5_000);
}

#[test]
fn a_partial_acknowledgement_sends_the_next_hole_at_once() {
    let mut trace = ten_in_flight(plain());
    (0..4).for_each(|_| trace.receive(ack(1)));
    trace.sent();
    trace.receive(ack(3_001));
    assert_eq!(trace.sent().first().map(String::as_str), Some("[.] 3001..4001 ack 1"), "RFC 6582 §3.2 step 3");
    assert_eq!(trace.host.counters.transport.fast_retransmits.get(), 1);
}

#[test]
fn duplicates_after_a_timeout_do_not_halve_again() {
    let mut trace = ten_in_flight(plain());
    trace.at(200);
    trace.sent();
    (0..5).for_each(|_| trace.receive(ack(1)));
    assert_eq!(trace.host.counters.transport.fast_retransmits.get(), 0, "RFC 6582 §4.1");
}

#[test]
fn several_losses_in_a_window_are_repaired_in_one_round_trip_with_sack() {
    let mut trace = ten_in_flight(with_sack());
    trace.receive(sack(1, &[(1_001, 2_001)]));
    trace.receive(sack(1, &[(3_001, 4_001), (1_001, 2_001)]));
    trace.sent();
    trace.receive(sack(1, &[(6_001, 10_001), (3_001, 4_001), (1_001, 2_001)]));
    assert_eq!(trace.sent()[..3], ["[.] 1..1001 ack 1", "[.] 2001..3001 ack 1", "[.] 4001..6001/1000 ack 1"]);
    trace.receive(sack(2_001, &[(6_001, 10_001), (3_001, 4_001)]));
    trace.receive(sack(4_001, &[(6_001, 10_001)]));
    trace.receive(ack(10_001));
    assert_eq!(trace.host.counters.transport.fast_retransmits.get(), 1);
    assert_eq!(trace.host.counters.transport.retransmission_timeouts.get(), 0);
}

#[test]
fn ranges_of_sack_are_bounded_and_counted() {
    let config = TcpConfig { sack_ranges: 3, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, with_sack());
    trace.write(100_000);
    trace.receive(sack(1, &[(1_001, 2_001), (3_001, 4_001), (5_001, 6_001)]));
    assert_eq!(trace.host.counters.transport.sack_blocks_ignored.get(), 2);
}

#[test]
fn a_timeout_with_sack_resends_only_the_holes() {
    let mut trace = ten_in_flight(with_sack());
    trace.receive(sack(1, &[(1_001, 2_001)]));
    trace.sent();
    trace.at(trace.deadline().unwrap());
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    trace.receive(ack(2_001));
    assert_eq!(trace.sent(), ["[.] 2001..4001/1000 ack 1"]);
}

#[test]
fn round_trips_are_measured_from_arrival_and_not_of_what_was_sent_twice() {
    let mut trace = Trace::established();
    trace.write(10);
    trace.sent();
    trace.host.now += Duration::from_micros(1_500);
    trace.receive(ack(11));
    let first = trace.connection.round_trip.smoothed().unwrap();
    assert_eq!(first, Duration::from_nanos(187_500), "an eighth of it, after the SYN's zero");
    trace.write(10);
    trace.at(500);
    trace.at(900);
    trace.receive(ack(21));
    assert_eq!(trace.connection.round_trip.smoothed(), Some(first), "Karn");
}

#[test]
fn with_timestamps_a_retransmission_can_be_measured() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(5));
    trace.write(10);
    trace.at(200);
    trace.sent();
    let echo_reply = trace.last_header().options.timestamps.unwrap().value;
    trace.at(210);
    let timestamps = Some(crate::wire::Timestamps { value: 6, echo_reply });
    trace.receive(Seg { options: TcpOptions { timestamps, ..TcpOptions::default() }, ..ack(11) });
    assert_eq!(trace.connection.round_trip.smoothed(), Some(Duration::from_micros(1_250)), "10 ms, an eighth of it");
}

#[test]
fn a_lost_acknowledgement_does_not_pass_for_a_long_round_trip() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(5));
    trace.write(10);
    trace.sent();
    let echo_reply = trace.last_header().options.timestamps.unwrap().value;
    trace.at(200);
    trace.at(210);
    let timestamps = Some(crate::wire::Timestamps { value: 6, echo_reply });
    trace.receive(Seg { options: TcpOptions { timestamps, ..TcpOptions::default() }, ..ack(11) });
    assert_eq!(trace.connection.round_trip.smoothed(), Some(Duration::ZERO));
}

#[test]
fn a_smaller_path_mtu_resends_in_smaller_pieces_without_penalty() {
    let mut trace = Trace::established();
    trace.write(3_000);
    assert_eq!(trace.sent(), ["[P.] 1..3001/1000 ack 1"]);
    trace.host.path_mtu = 840;
    trace.connection.path_mtu_changed(&mut trace.host.context(), 840);
    assert_eq!(trace.sent(), ["[P.] 1..3001/800 ack 1"]);
    assert_eq!((trace.connection.congestion.window(), trace.connection.congestion.threshold()), (8_000, usize::MAX));
}

#[test]
fn rfc7765_4_the_timer_of_few_segments_counts_from_the_transmission_of_the_earliest() {
    let mut trace = super::rack::far_away(plain());
    trace.write(2_000);
    trace.at(80);
    trace.receive(ack(1_001));
    assert_eq!(trace.deadline(), Some(40 + 240));
    trace.write(8_000);
    trace.at(120);
    trace.receive(ack(3_001));
    assert_eq!(trace.deadline(), Some(120 + 240), "RFC 6298 §5.3, for as many as four");
}
