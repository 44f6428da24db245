//! Segments that are not to be believed: RFC 9293 §3.10.7.4 steps one to five, RFC 5961, RFC 7323 §5.

use super::trace::*;
use super::*;
use crate::layer::DropReason;
use crate::wire::{TcpOptions, Timestamps};

const SYNCHRONIZED: [State; 6] = [State::Established, State::FinWait1, State::FinWait2, State::CloseWait, State::Closing, State::LastAck];

fn rst(seq: u32) -> Seg {
    Seg { seq, ack: None, flags: TcpFlags::RST, ..Seg::default() }
}

/// RCV.NXT, relative.
fn next(trace: &Trace) -> u32 {
    trace.connection.receive.next.0.wrapping_sub(IRS)
}

#[test]
fn only_the_very_next_number_resets() {
    for state in SYNCHRONIZED {
        let mut trace = Trace::in_state(state, plain());
        let next = next(&trace);
        trace.receive(rst(next - 1));
        trace.receive(rst(next + 10_000_000));
        assert_eq!((trace.sent().len(), trace.state()), (0, state), "outside the window: silence");
        trace.receive(rst(next + 1));
        assert_eq!((trace.sent().len(), trace.state()), (1, state), "inside: a challenge");
        trace.receive(rst(next));
        assert_eq!((trace.sent().len(), trace.state()), (0, State::Closed));
        let is_reset = !matches!(state, State::Closing | State::LastAck);
        assert_eq!(trace.failure(), Some(Failure::Reset).filter(|_| is_reset), "{}", state.name());
    }
}

#[test]
fn a_syn_is_challenged_whatever_its_number() {
    for state in SYNCHRONIZED {
        for seq in [0, 1, 5, 40_000_000] {
            let mut trace = Trace::in_state(state, plain());
            trace.receive(Seg { seq, ack: None, flags: TcpFlags::SYN, ..Seg::default() });
            assert_eq!((trace.sent().len(), trace.state()), (1, state), "{} at {seq}", state.name());
            trace.receive(Seg { seq, ack: None, flags: TcpFlags::SYN, ..Seg::default() });
            assert_eq!(trace.sent().len(), 0, "at a bounded rate");
        }
    }
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_challenged() {
    let config = TcpConfig { challenge_ack_interval: Duration::from_millis(10), ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    trace.write(100);
    trace.sent();
    for (number, millis) in [(102, 0), (1_000_000, 10), (1u32.wrapping_sub(60_001), 20)] {
        trace.at(millis);
        trace.receive(Seg { ack: Some(number), ..data(1, 5) });
        assert_eq!(trace.sent(), ["[.] 101 ack 1"]);
    }
    assert_eq!((trace.dropped(DropReason::Suspicious), trace.read(9).len()), (3, 0), "and their data is not taken");
    trace.receive(Seg { ack: Some(1u32.wrapping_sub(60_000)), ..data(1, 5) });
    assert_eq!(trace.read(9).len(), 5);
}

/// RFC 5961 §7.
#[test]
fn challenges_are_limited_for_each_connection() {
    let mut trace = Trace::established();
    for millis in [0, 0, 499, 500, 999, 1_000] {
        trace.at(millis);
        trace.receive(rst(5));
    }
    assert_eq!(trace.sent().len(), 3);
    let transport = &trace.host.counters.transport;
    assert_eq!((transport.challenge_acks_sent.get(), transport.challenge_acks_withheld.get()), (3, 3));
}

/// RFC 5961 §7, and a number that nobody can count (CVE-2016-5696).
#[test]
fn challenges_are_limited_for_the_stack() {
    let config = TcpConfig { challenge_acks_per_second: 10, challenge_ack_interval: Duration::ZERO, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    let mut counts = std::collections::BTreeSet::new();
    for second in 0..10 {
        trace.at(second * 1_000);
        (0..100).for_each(|_| trace.receive(rst(5)));
        counts.insert(trace.sent().len());
    }
    assert!(counts.len() > 3 && counts.iter().all(|count| (5..15).contains(count)), "{counts:?}");
}

#[test]
fn segments_without_ack_are_dropped() {
    let mut trace = Trace::established();
    trace.receive(Seg { ack: None, ..data(1, 5) });
    assert_eq!((trace.sent().len(), trace.read(9).len()), (0, 0));
}

#[test]
fn table_6_of_rfc_9293() {
    let config = TcpConfig { receive_buffer: 4_000, window_scaling: false, ..TcpConfig::default() };
    let taken = |seg: Seg| {
        let mut trace = Trace::established_with(config.clone(), plain());
        trace.receive(seg);
        trace.dropped(DropReason::OutOfWindow) == 0
    };
    assert!(taken(data(1, 0)) && taken(data(4_000, 0)) && !taken(data(4_002, 0)) && !taken(data(0, 0)));
    assert!(taken(data(4_001, 0)), "the very edge, for a peer that has filled the window");
    assert!(taken(data(4_000, 10)) && !taken(data(4_001, 10)));
    assert!(!taken(data(1u32.wrapping_sub(10), 10)) && taken(data(1u32.wrapping_sub(10), 11)));
}

#[test]
fn old_and_excess_bytes_are_trimmed() {
    let config = TcpConfig { receive_buffer: 4_000, window_scaling: false, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    trace.receive(data(1, 100));
    trace.receive(data(51, 100));
    trace.receive(data(151, 9_000));
    let expected: Vec<u8> = bytes(1, 4_000);
    assert_eq!(trace.read(99_999), expected);
}

#[test]
fn a_closed_window_takes_acknowledgements_but_no_data() {
    let config = TcpConfig { receive_buffer: 1_000, window_scaling: false, ..TcpConfig::default() };
    let mut trace = Trace::established_with(config, plain());
    trace.receive(data(1, 1_000));
    trace.write(100);
    trace.sent();
    assert_eq!(trace.last_header().window, 0);
    trace.receive(Seg { ack: Some(101), ..data(1_001, 1) });
    assert_eq!(trace.sent(), ["[.] 101 ack 1001"]);
    assert!(trace.connection.send.scoreboard.is_empty(), "the acknowledgement counts");
    trace.receive(rst(1_001));
    assert_eq!(trace.failure(), Some(Failure::Reset));
}

fn stamped(value: u32, seg: Seg) -> Seg {
    Seg { options: TcpOptions { timestamps: Some(Timestamps { value, echo_reply: 0 }), ..TcpOptions::default() }, ..seg }
}

#[test]
fn paws_drops_old_timestamps_and_answers() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(100));
    trace.receive(stamped(99, data(1, 10)));
    assert_eq!((trace.sent(), trace.dropped(DropReason::OldTimestamp)), (vec!["[.] 1 ack 1".to_owned()], 1));
    trace.receive(stamped(100, data(1, 10)));
    assert_eq!(trace.sent(), ["[.] 1 ack 11"]);
    trace.receive(rst(11));
    assert_eq!(trace.failure(), Some(Failure::Reset), "PAWS does not look at RST");
}

#[test]
fn after_24_days_any_timestamp_is_taken() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(100));
    trace.at(25 * 24 * 3_600_000);
    trace.receive(stamped(99, data(1, 10)));
    assert_eq!(trace.sent(), ["[.] 1 ack 11"]);
    assert_eq!(trace.last_header().options.timestamps.unwrap().echo_reply, 99);
}

#[test]
fn segments_that_lack_the_agreed_timestamp_are_dropped_silently() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(100));
    trace.receive(data(1, 10));
    assert_eq!((trace.sent().len(), trace.dropped(DropReason::OldTimestamp)), (0, 1));
}

#[test]
fn the_echo_is_of_the_segment_that_is_acknowledged_first() {
    let mut trace = Trace::established_with(TcpConfig::default(), with_timestamps(100));
    trace.connection.receive.owe(Due::Now);
    trace.receive_batch([stamped(101, data(1, 10)), stamped(102, data(11, 10))]);
    trace.sent();
    assert_eq!(trace.last_header().options.timestamps.unwrap().echo_reply, 101, "RFC 7323 §4.3, case A");
    trace.receive(stamped(105, data(31, 10)));
    trace.sent();
    assert_eq!(trace.last_header().options.timestamps.unwrap().echo_reply, 101, "case B: a hole does not update");
    trace.receive(stamped(103, data(21, 10)));
    trace.sent();
    assert_eq!(trace.last_header().options.timestamps.unwrap().echo_reply, 103);
}
