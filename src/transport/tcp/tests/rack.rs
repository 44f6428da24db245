//! RACK-TLP (RFC 8985) with Proportional Rate Reduction (RFC 6937, 9937): the RFC's examples. A round trip takes 40 ms, so the reordering window is 10 ms.

use super::loss::sack;
use super::trace::*;
use super::*;
use crate::transport::shared::CongestionControl;

/// A connection over a path of 40 ms, at the time 40.
pub(super) fn far_away(options: crate::wire::TcpOptions) -> Trace {
    let config = TcpConfig { congestion_control: CongestionControl::NewReno, pacing: false, ..TcpConfig::default() };
    let mut trace = Trace::syn_sent_with(config);
    trace.at(40);
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, options, ..Seg::default() });
    assert_eq!(trace.sent(), ["[.] 1 ack 1"]);
    trace.set_options(|options| options.no_delay = true);
    trace
}

/// Segments of 1000 bytes, sent at these times.
fn flight(times: &[u64]) -> Trace {
    let mut trace = far_away(with_sack());
    for &at in times {
        trace.at(at);
        trace.write(1_000);
    }
    assert_eq!(trace.sent().len(), times.len());
    trace
}

fn timeouts(trace: &Trace) -> u64 {
    trace.host.counters.transport.retransmission_timeouts.get()
}

fn recoveries(trace: &Trace) -> u64 {
    trace.host.counters.transport.fast_retransmits.get()
}

#[test]
fn rfc8985_3_4_fast_recovery_after_the_reordering_timer() {
    let mut trace = far_away(with_sack());
    trace.write(4_000);
    assert_eq!(trace.sent(), ["[P.] 1..4001/1000 ack 1"], "P0 to P3");
    trace.at(80);
    trace.receive(ack(1_001));
    trace.at(81);
    trace.receive(sack(1_001, &[(3_001, 4_001)]));
    assert_eq!(trace.deadline(), Some(40 + 41 + 10), "the reordering timer");
    trace.at(90);
    assert!(trace.sent().is_empty());
    trace.at(91);
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"], "P1; rate reduction holds P2 for an acknowledgement");
    trace.at(131);
    trace.receive(sack(2_001, &[(3_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 2001..3001 ack 1"]);
    trace.at(171);
    trace.receive(ack(4_001));
    assert_eq!((trace.deadline(), timeouts(&trace), recoveries(&trace)), (None, 0, 1));
}

#[test]
fn rfc8985_6_2_step_4_three_segments_above_mean_loss_at_once_without_reordering() {
    let mut trace = far_away(with_sack());
    trace.write(10_000);
    trace.sent();
    trace.at(80);
    trace.receive(sack(1, &[(1_001, 3_001)]));
    assert!(trace.sent().is_empty());
    trace.receive(sack(1, &[(1_001, 4_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
}

#[test]
fn rfc8985_6_2_step_4_once_reordering_was_seen_time_alone_tells_loss() {
    let mut trace = far_away(with_sack());
    trace.write(10_000);
    trace.at(80);
    trace.receive(sack(1, &[(1_001, 2_001)]));
    trace.at(84);
    trace.receive(ack(2_001));
    assert!(trace.connection.recovery.rack.reordering_seen());
    trace.sent();
    trace.at(85);
    trace.receive(sack(2_001, &[(4_001, 9_001)]));
    assert!(trace.sent().is_empty(), "five segments above do not tell");
    trace.at(89);
    trace.receive(ack(9_001));
    assert_eq!((recoveries(&trace), trace.connection.recovery.retransmitted), (0, 0), "it came within the window");
}

#[test]
fn a_recovery_for_nothing_means_reordering() {
    let mut trace = super::spurious::fast();
    trace.at(84);
    trace.receive(ack(4_001));
    assert!(!trace.connection.recovery.rack.reordering_seen(), "step 3 does not look at what was sent again");
    trace.at(120);
    trace.receive(sack(4_001, &[(1, 1_001)]));
    assert!(trace.connection.recovery.rack.reordering_seen(), "the peer had it twice");
}

#[test]
fn rfc8985_7_2_the_probe_waits_two_round_trips_and_for_a_single_segments_acknowledgement() {
    let mut trace = far_away(with_sack());
    trace.write(3_000);
    assert_eq!(trace.deadline(), Some(40 + 80 + 2));
    trace.at(60);
    trace.write(1_000);
    assert_eq!(trace.deadline(), Some(60 + 80 + 2), "new data restarts it");
    trace.at(80);
    trace.receive(ack(3_001));
    assert_eq!(trace.deadline(), Some(80 + 80 + 100), "TLP.max_ack_delay");
    trace.receive(sack(3_001, &[(3_501, 4_001)]));
    assert_eq!(trace.deadline(), Some(60 + 20 + 5), "SACK tells of holes: the reordering timer");
}

/// Single segments, a second apart, each acknowledged after 40 ms and so many more.
fn dialogue(delays: impl IntoIterator<Item = u64>) -> Trace {
    dialogue_with(far_away(with_sack()), 40, delays)
}

/// The same, by a path of so many milliseconds.
fn dialogue_with(mut trace: Trace, round_trip: u64, delays: impl IntoIterator<Item = u64>) -> Trace {
    let mut number = 1;
    for (second, delay) in (1..).zip(delays) {
        trace.at(second * 1_000);
        trace.write(1_000);
        number += 1_000;
        trace.at(second * 1_000 + round_trip + delay);
        trace.receive(ack(number));
        assert_eq!(trace.sent().len(), 1);
    }
    trace.at(100_000);
    trace.write(1_000);
    trace.sent();
    trace
}

#[test]
fn on_a_near_path_the_probe_waits_longer() {
    let trace = dialogue_with(Trace::established_with(TcpConfig::default(), with_sack()), 0, [0; 50]);
    assert_eq!(trace.deadline(), Some(100_000 + 40), "no timer that would run every few hundred round trips");
}

#[test]
fn rfc8985_7_2_how_long_a_peer_delays_acknowledgements_is_learned() {
    assert_eq!(dialogue([0; 50]).deadline(), Some(100_000 + 80 + 2), "it does not");
    let mut trace = dialogue([0; 50].into_iter().chain([20]));
    let deadline = trace.deadline().unwrap();
    assert!((100_000 + 80 + 20..=100_000 + 80 + 26).contains(&deadline), "{deadline}: 20 ms, and what that adds to SRTT");
    trace.at(100_120);
    assert_eq!(trace.sent().len(), 1, "the probe");
    trace.receive(sack(52_001, &[(51_001, 52_001)]));
    trace.at(101_000);
    trace.write(1_000);
    trace.receive(ack(53_001));
    trace.write(1_000);
    let deadline = trace.deadline().unwrap();
    assert!(deadline >= 101_000 + 160, "{deadline}: a probe for nothing, so that nothing is known any more");
}

#[test]
fn rfc8985_7_2_no_probe_without_sack_or_against_the_configuration() {
    let mut off = Trace::established_with(TcpConfig { loss_probes: false, ..TcpConfig::default() }, with_sack());
    for trace in [&mut off, &mut Trace::established_with(TcpConfig::default(), plain())] {
        trace.write(1_000);
        trace.at(10_000);
        assert_eq!((trace.host.counters.transport.loss_probes.get(), timeouts(trace) > 0), (0, true));
    }
}

#[test]
fn rfc8985_7_2_the_probe_is_no_later_than_the_timeout() {
    let mut trace = far_away(with_sack());
    (0..100).for_each(|_| trace.connection.round_trip.sample(Duration::from_millis(400), Instant::ZERO));
    trace.write(3_000);
    assert_eq!(trace.deadline(), Some(40 + 400 + 200 - 1), "less a rounding");
    trace.at(640);
    assert_eq!((trace.host.counters.transport.loss_probes.get(), timeouts(&trace)), (1, 0));
}

#[test]
fn rfc8985_7_3_the_probe_is_new_data_beyond_the_congestion_window() {
    let mut trace = far_away(with_sack());
    trace.write(30_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"]);
    trace.at(122);
    assert_eq!(trace.sent(), ["[.] 10001..11001 ack 1"]);
    assert_eq!(trace.deadline(), Some(122 + 240), "the retransmission timer follows");
    trace.at(362);
    assert_eq!((trace.sent(), timeouts(&trace)), (vec!["[.] 1..1001 ack 1".to_owned()], 1), "one probe only");
}

#[test]
fn rfc8985_7_3_else_the_last_segment_again() {
    let mut trace = far_away(with_sack());
    trace.write(2_500);
    trace.close_write();
    assert_eq!(trace.sent(), ["[P.] 1..2501/1000 ack 1", "[F.] 2501 ack 1"]);
    trace.at(122);
    assert_eq!(trace.sent(), ["[F.] 2501 ack 1"]);
}

#[test]
fn rfc8985_7_3_no_probe_without_a_sample_since_the_last() {
    let mut trace = far_away(with_sack());
    trace.write(1_000);
    trace.at(220);
    trace.receive(ack(1_001));
    assert_eq!(trace.connection.recovery.loss_probes.sent, 1);
    trace.sent();
    trace.write(2_000);
    let deadline = trace.deadline().unwrap();
    assert!(deadline >= 220 + 240, "{deadline} is the retransmission timer's");
}

#[test]
fn rfc8985_7_4_1_the_probes_acknowledgement_tells_of_losses_before_it() {
    let mut trace = flight(&[40, 40, 40]);
    trace.at(122);
    assert_eq!(trace.sent(), ["[P.] 2001..3001 ack 1"]);
    trace.at(162);
    trace.receive(sack(1, &[(2_001, 3_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    trace.at(202);
    trace.receive(sack(1_001, &[(2_001, 3_001)]));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"]);
    assert_eq!((timeouts(&trace), recoveries(&trace)), (0, 1));
}

/// The last of three segments was probed and acknowledged; then `answer`, then another segment and its acknowledgement. Gives the threshold.
fn threshold_after_probe(answer: Option<Seg>) -> usize {
    let mut trace = flight(&[40, 40, 40]);
    trace.at(80);
    trace.receive(ack(2_001));
    trace.at(300);
    assert_eq!(trace.sent(), ["[P.] 2001..3001 ack 1"]);
    trace.receive(ack(3_001));
    answer.into_iter().for_each(|seg| trace.receive(seg));
    trace.write(1_000);
    trace.receive(ack(4_001));
    trace.connection.congestion.threshold()
}

#[test]
fn rfc8985_7_4_2_a_loss_that_the_probe_repaired_is_a_sign_of_congestion() {
    assert_eq!(threshold_after_probe(None), 2_000);
}

#[test]
fn rfc8985_7_4_2_unless_the_probe_arrived_twice() {
    assert_eq!(threshold_after_probe(Some(sack(3_001, &[(2_001, 3_001)]))), usize::MAX, "case 1: D-SACK");
    assert_eq!(threshold_after_probe(Some(ack(3_001))), usize::MAX, "case 2: a duplicate acknowledgement without SACK");
}

#[test]
fn rfc8985_9_1_example_1_drops_at_the_tail_of_a_flight() {
    let mut trace = flight(&[40, 55, 70]);
    trace.at(95);
    trace.receive(sack(1, &[(1_001, 2_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"], "P1 is lost, and sent as R1");
    trace.at(135);
    trace.receive(ack(2_001));
    assert_eq!(trace.sent(), ["[P.] 2001..3001 ack 1"], "R1 tells of the loss of P3");
    assert_eq!((timeouts(&trace), recoveries(&trace)), (0, 1));
}

#[test]
fn rfc8985_9_1_example_2_a_lost_retransmission() {
    let mut trace = flight(&[40, 52, 64, 76, 88]);
    trace.at(104);
    trace.receive(sack(1, &[(2_001, 3_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"], "R1");
    trace.at(116);
    trace.receive(sack(1, &[(2_001, 4_001)]));
    trace.at(128);
    trace.receive(sack(1, &[(2_001, 5_001)]));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"], "R2");
    trace.at(168);
    trace.receive(sack(1, &[(1_001, 5_001)]));
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"], "R1 is lost as well");
    assert_eq!((timeouts(&trace), recoveries(&trace)), (0, 1));
}

#[test]
fn rfc8985_9_1_example_3_reordering_within_and_beyond_the_window() {
    let mut trace = flight(&[40, 40, 40]);
    trace.at(80);
    trace.receive(sack(1, &[(1_001, 2_001)]));
    trace.at(81);
    trace.receive(ack(3_001));
    trace.at(100);
    (0..3).for_each(|_| trace.write(1_000));
    trace.sent();
    trace.at(140);
    trace.receive(sack(3_001, &[(5_001, 6_001)]));
    trace.at(149);
    assert!(trace.sent().is_empty());
    trace.at(150);
    assert_eq!(trace.sent(), ["[.] 3001..4001 ack 1"], "settling time is over");
}

#[test]
fn rfc6937_3_a_window_is_reduced_over_one_round_trip() {
    let mut trace = far_away(with_sack());
    trace.write(100_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"]);
    let sent_after = |trace: &mut Trace, right: u32| {
        trace.at(78 + u64::from(right / 1_000) + if right > 10_001 { 32 } else { 0 });
        trace.receive(sack(1, &[(1_001, right)]));
        trace.sent()
    };
    assert_eq!(sent_after(&mut trace, 2_001), ["[.] 10001..11001 ack 1"], "limited transmit (RFC 3042)");
    assert_eq!(sent_after(&mut trace, 3_001), ["[.] 11001..12001 ack 1"]);
    assert_eq!(sent_after(&mut trace, 4_001), ["[.] 1..1001 ack 1"], "ssthresh is 5, RecoverFS is 10");
    let sent: Vec<_> = (5..=10).map(|segment| sent_after(&mut trace, segment * 1_000 + 1).len()).collect();
    assert_eq!(sent, [0, 0, 1, 0, 0, 1], "at the threshold, what it lacks");
    assert_eq!((sent_after(&mut trace, 11_001).len(), sent_after(&mut trace, 12_001).len()), (1, 1));
    trace.receive(ack(12_001));
    assert_eq!(trace.connection.congestion.window(), 5_000, "RFC 9937 §6.2: ssthresh in the end");
}

#[test]
fn flight_size_is_that_of_before_the_acknowledgement_that_tells_of_a_loss() {
    let mut trace = flight(&[40, 42, 44, 46, 48, 50, 52, 54, 56, 58]);
    trace.at(100);
    trace.receive(sack(1_001, &[(2_001, 5_001)]));
    assert_eq!(trace.sent(), ["[.] 1001..2001 ack 1"], "the second, by the third above it");
    assert_eq!(
        trace.connection.congestion.threshold(),
        5_000,
        "half of ten: the first was in flight until now (RFC 5681 §3.1, equation 4)"
    );
}
