//! Pacing: bursts are spread over the round trip, from a millisecond of it on.

use super::trace::*;
use super::*;

/// A connection whose window of twenty segments is empty, after round trips of so long.
fn with_round_trip(micros: u64) -> Trace {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.host.now += Duration::from_micros(micros);
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, options: plain(), ..Seg::default() });
    trace.sent();
    let mut written = 1;
    for _ in 0..30 {
        trace.write(1_000);
        trace.host.now += Duration::from_micros(micros);
        written += 1_000;
        trace.receive(ack(written));
    }
    trace.write(10_000);
    trace.host.now += Duration::from_micros(micros);
    trace.receive(ack(written + 10_000));
    trace.sent();
    trace
}

/// Bytes of data in what was sent since the last look.
fn sent_bytes(trace: &mut Trace) -> usize {
    let sent = trace.host.sent();
    sent.iter().map(|sent| sent.payload.len()).sum()
}

fn run_for(trace: &mut Trace, millis: u64) {
    let end = trace.host.now + Duration::from_millis(millis);
    while let Some(deadline) = trace.connection.deadline().filter(|&deadline| deadline <= end) {
        trace.host.now = trace.host.now.max(deadline);
        trace.connection.run_timers(&mut trace.host.context());
    }
    trace.host.now = end;
}

#[test]
fn a_window_is_spread_over_half_a_round_trip_in_slow_start() {
    let mut trace = with_round_trip(40_000);
    let window = trace.connection.congestion.window() / 1_000 * 1_000;
    trace.write(100_000);
    let mut total = sent_bytes(&mut trace);
    assert!((10_000..=12_000).contains(&total), "a credit of ten segments, and a packet: {total}");
    for _ in 0..40 {
        run_for(&mut trace, 1);
        let burst = sent_bytes(&mut trace);
        assert!(burst <= 4_000, "{burst} in a millisecond");
        total += burst;
    }
    assert_eq!(total, window, "all that the window admits");
    assert!(!trace.connection.timers.is_set(Timer::Pacing), "and then the window holds back, not the pace");
}

#[test]
fn a_short_path_is_not_paced_and_needs_no_timer() {
    let mut trace = with_round_trip(500);
    let window = trace.connection.congestion.window() / 1_000 * 1_000;
    trace.write(100_000);
    assert_eq!(sent_bytes(&mut trace), window);
    assert!(!trace.connection.timers.is_set(Timer::Pacing));
}
