//! How long a connection waits for a peer (RFC 5482, RFC 9293 §3.8.3 and §3.8.6.1), what it believes of ICMP (RFC 5927 §7.2), and numbers that wrap.

use super::trace::*;
use super::*;
use crate::transport::shared::Keepalive;
use crate::wire::{TcpOptions, Timestamps};

fn advised(option: u16) -> TcpOptions {
    TcpOptions { user_timeout: Some(option), ..plain() }
}

fn advertising(timeout: Option<Duration>) -> impl FnOnce(&mut SocketOptions) {
    move |options| (options.advertise_user_timeout, options.user_timeout, options.no_delay) = (true, timeout, true)
}

/// The user timeout in force.
fn in_force(trace: &Trace) -> Option<u64> {
    trace.connection.options.user_timeout.map(|timeout| timeout.as_secs())
}

/// RFC 5482 §3.1: `USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))`.
#[test]
fn the_longer_user_timeout_counts_within_bounds() {
    let config = TcpConfig { user_timeout_limits: (Duration::from_secs(400), Duration::from_secs(1_000)), ..TcpConfig::default() };
    for (told, expected) in [(1, 400), (500, 500), (0x8000 | 10, 600), (0x8000 | 600, 1_000)] {
        let mut trace = Trace::established_with(config.clone(), plain());
        trace.set_options(advertising(None));
        trace.receive(Seg { options: advised(told), ..Seg::default() });
        assert_eq!(in_force(&trace), Some(expected), "told {told:#x}");
    }
}

#[test]
fn advice_is_not_heeded_where_it_is_not_wanted() {
    let mut trace = Trace::established_with(TcpConfig::default(), advised(200));
    trace.receive(Seg { options: advised(200), ..Seg::default() });
    assert_eq!(in_force(&trace), None, "off by default");
    trace.set_options(advertising(Some(Duration::from_secs(30))));
    trace.receive(Seg { options: advised(200), ..Seg::default() });
    assert_eq!(in_force(&trace), Some(30), "the program's own wish is not changed (CHANGEABLE is false)");
}

#[test]
fn the_option_is_told_once_for_each_change() {
    let mut trace = Trace::established();
    trace.set_options(advertising(Some(Duration::from_secs(90))));
    let told = |trace: &mut Trace| {
        trace.write(10);
        trace.sent();
        trace.last_header().options.user_timeout
    };
    assert_eq!((told(&mut trace), told(&mut trace)), (Some(90), None));
    trace.receive(ack(21));
    trace.set_options(advertising(Some(Duration::from_secs(40_000))));
    assert_eq!((told(&mut trace), told(&mut trace)), (Some(0x8000 | 666), None));
}

#[test]
fn full_segments_leave_room_for_the_option() {
    let mut trace = Trace::established();
    trace.set_options(advertising(Some(Duration::from_secs(90))));
    trace.write(2_500);
    assert_eq!(trace.sent(), ["[P.] 1..2501/996 ack 1"]);
}

/// A peer that keeps its window closed and answers every probe.
fn hold(trace: &mut Trace, seconds: u64) {
    trace.write(10);
    for second in 1..=seconds {
        trace.at(second * 1_000);
        if !trace.sent().is_empty() && trace.state() != State::Closed {
            trace.receive(Seg { window: 0, ..ack(1) });
        }
    }
}

fn closed_window(config: TcpConfig) -> Trace {
    let mut trace = Trace::established_with(config, plain());
    trace.receive(Seg { window: 0, ..ack(1) });
    trace
}

/// RFC 9293 §3.8.6.1, MUST-37.
#[test]
fn a_closed_window_is_probed_as_long_as_the_peer_answers() {
    let mut trace = closed_window(TcpConfig::default());
    hold(&mut trace, 7_200);
    assert_eq!(trace.state(), State::Established);
}

#[test]
fn how_long_a_window_may_be_closed_can_be_bounded() {
    let mut trace = closed_window(TcpConfig { zero_window_timeout: Some(Duration::from_secs(300)), ..TcpConfig::default() });
    hold(&mut trace, 299);
    assert_eq!(trace.state(), State::Established);
    hold(&mut trace, 400);
    assert_eq!((trace.failure(), trace.host.counters.transport.zero_windows_aborted.get()), (Some(Failure::TimedOut), 1));
}

#[test]
fn an_orphan_is_not_held_for_long() {
    let mut trace = closed_window(TcpConfig::default());
    trace.write(10);
    trace.release();
    hold(&mut trace, 150);
    assert_eq!((trace.state(), trace.host.counters.transport.zero_windows_aborted.get()), (State::Closed, 1));
}

#[test]
fn a_silent_peer_with_a_closed_window_is_given_up() {
    let mut trace = closed_window(TcpConfig { data_retries: 3, ..TcpConfig::default() });
    trace.write(10);
    trace.at(60_000);
    assert_eq!(trace.failure(), Some(Failure::TimedOut), "R2 (RFC 9293 §3.8.3)");
}

#[test]
fn a_user_timeout_shortens_the_wait_for_an_answer_to_keepalives() {
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 9 };
    let mut trace = Trace::established();
    trace.set_options(|options| (options.keepalive, options.user_timeout) = (Some(keepalive), Some(Duration::from_secs(13))));
    trace.at(12_000);
    assert_eq!((trace.sent().len(), trace.state()), (2, State::Established));
    trace.at(14_000);
    assert_eq!(trace.failure(), Some(Failure::TimedOut));
}

/// RFC 9293 §3.8.4, MUST-28.
#[test]
fn keepalive_waits_two_hours_unless_told_otherwise() {
    assert!(Keepalive::default().idle >= Duration::from_secs(7_200));
}

fn wide() -> TcpOptions {
    TcpOptions { maximum_segment_size: Some(1_460), ..with_sack() }
}

/// RFC 5927 §7.2, "initial path MTU discovery".
#[test]
fn a_too_big_report_is_believed_while_nothing_larger_has_arrived() {
    let mut trace = Trace::established_with(TcpConfig::default(), wide());
    trace.write(3_000);
    trace.sent();
    trace.connection.packet_too_big(&mut trace.host.context(), 1_000, SequenceNumber(ISS + 1), false);
    assert_eq!(trace.connection.path_mtu, 1_000);
}

/// RFC 5927 §7.2, "path MTU update": the report waits for a timeout, and is forgotten if what it quotes is acknowledged.
#[test]
fn a_too_big_report_waits_for_a_timeout_when_larger_ones_arrive() {
    let mut trace = Trace::established_with(TcpConfig::default(), wide());
    trace.write(3_000);
    trace.receive(ack(3_001));
    trace.write(3_000);
    trace.connection.packet_too_big(&mut trace.host.context(), 600, SequenceNumber(ISS + 3_001), false);
    trace.receive(ack(6_001));
    trace.write(3_000);
    trace.at(60_000);
    assert_ne!(trace.connection.path_mtu, 600, "what it said was disproved");

    let mut trace =
        Trace::established_with(TcpConfig { path_mtu_probing: crate::config::PathMtuProbing::Off, ..TcpConfig::default() }, wide());
    trace.write(3_000);
    trace.receive(ack(3_001));
    trace.write(3_000);
    trace.connection.packet_too_big(&mut trace.host.context(), 600, SequenceNumber(ISS + 3_001), false);
    assert_eq!(trace.connection.path_mtu, 1_500);
    trace.at(5_000);
    assert_eq!(trace.connection.path_mtu, 600);
}

#[test]
fn our_own_side_is_believed_at_once() {
    let mut trace = Trace::established_with(TcpConfig::default(), wide());
    trace.write(3_000);
    trace.receive(ack(3_001));
    trace.write(3_000);
    trace.sent();
    trace.host.path_mtu = 600;
    trace.connection.packet_too_big(&mut trace.host.context(), 600, SequenceNumber(ISS + 3_001), true);
    assert_eq!(trace.connection.path_mtu, 600);
}

fn stamped(value: u32, seg: Seg) -> Seg {
    Seg { options: TcpOptions { timestamps: Some(Timestamps { value, echo_reply: 0 }), ..TcpOptions::default() }, ..seg }
}

/// RFC 7323 §5.3: timestamps are compared modulo 2³².
#[test]
fn timestamps_wrap() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(u32::MAX - 1));
    trace.receive(stamped(u32::MAX, data(1, 10)));
    trace.receive(stamped(3, data(11, 10)));
    trace.receive(stamped(u32::MAX, data(21, 10)));
    trace.sent();
    assert_eq!((trace.read(99).len(), trace.dropped(crate::layer::DropReason::OldTimestamp)), (20, 1));
    assert_eq!(trace.last_header().options.timestamps.unwrap().echo_reply, 3);
}

/// RFC 7323 §5.3 R1 answers, but what is no data only at a bounded rate: else two confused ends would answer each other for ever.
#[test]
fn old_timestamps_without_data_are_answered_at_a_bounded_rate() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(100));
    (0..5).for_each(|_| trace.receive(stamped(99, ack(1))));
    assert_eq!(trace.sent().len(), 1);
    (0..5).for_each(|_| trace.receive(stamped(99, data(1, 1))));
    assert_eq!(trace.sent().len(), 5);
}

/// RFC 6093 §6: no end may lose step because of urgent data; it is delivered in line, wherever the pointer points.
#[test]
fn urgent_data_is_delivered_in_line() {
    let mut trace = Trace::established();
    for (seq, flags) in [(1, TcpFlags::URG), (11, TcpFlags::NONE), (21, TcpFlags::URG | TcpFlags::PSH)] {
        trace.receive(Seg { flags, ..data(seq, 10) });
    }
    assert_eq!(trace.read(99), bytes(1, 30));
    trace.receive(Seg { flags: TcpFlags::URG, ..data(31, 0) });
    trace.receive(data(31, 5));
    assert_eq!(trace.read(99), bytes(31, 5));
}

/// A machine may have slept between a segment and its acknowledgement.
#[test]
fn no_round_trip_is_believed_to_be_longer_than_a_minute() {
    let forever = Duration::from_secs(600);
    let config = TcpConfig { minimum_retransmission_timeout: forever, maximum_retransmission_timeout: forever, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    trace.write(1_000);
    assert_eq!(trace.sent(), ["[P.] 1..1001 ack 1"]);
    trace.at(300_000);
    trace.receive(ack(1_001));
    assert_eq!(trace.connection.round_trip.smoothed(), Some(Duration::from_secs(60) / 8), "an eighth of it counts (RFC 6298 §2.3)");
}
