//! Pacing: what the window admits goes out over the round trip, not at once (RFC 7661 §4.4.2 asks for it where a window was not used; Linux does it with `fq`).
//!
//! Owns when the next packet may go, and how much of it. Refuses to let less through than the window in a round trip: the rate is never below that.
//!
//! - Two windows in each round trip in slow start, 1.2 later (Linux: `tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`). One in recovery: acknowledgements then come in
//!   bunches with gaps between them, and so does what they admit; any faster, and the next queue of a tenth of the product overflows again.
//! - What goes at once is a quantum: what goes in 1/32 of the round trip, but in a millisecond at most, and two segments at least. So a queue of a tenth of the
//!   product holds it, and what offload saves remains where there is something to save: from 32 ms on, packets hold a millisecond of the rate.
//! - Whoever has nothing in flight may send ten segments at once, as at the beginning (RFC 6928), or what goes in two milliseconds if that is more. So short
//!   answers are not held back.
//! - The timer waits a quantum at least, and runs only while nothing but pacing holds data back: mostly it is acknowledgements that bring the next turn. A timer
//!   that is late by a quantum loses nothing. Near paths, whose round trip is below a millisecond when their queues are empty, are not paced: a wake-up would cost
//!   them more than a burst.

use super::timers::Timer;
use super::{Connection, Context};
use crate::time::{Duration, Instant};

/// Segments that may always go at once when nothing is in flight.
const BURST_SEGMENTS: usize = 10;
/// And what may go at once then on fast paths.
const BURST: Duration = Duration::from_millis(2);
/// Quanta in a round trip.
const QUANTA: u32 = 32;
/// A quantum is at least so long, and at most.
const QUANTUM: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];
/// And has so many segments at least.
const LEAST_SEGMENTS: usize = 2;

/// When the next packet may go.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Pacing {
    next: Instant,
    /// When the last one went.
    last: Instant,
}

/// How fast, and how evenly.
#[derive(Copy, Clone, Debug)]
struct Pace {
    /// Bytes per second.
    rate: u64,
    /// The time of what may go at once.
    quantum: Duration,
}

impl Pace {
    /// `percent` of `window` in each round trip.
    fn new(window: usize, percent: u128, round_trip: Duration) -> Pace {
        let per_second = window as u128 * percent * 10_000_000 / round_trip.as_nanos().max(1);
        let quantum = (round_trip / QUANTA).clamp(QUANTUM[0], QUANTUM[1]);
        Pace { rate: u64::try_from(per_second).unwrap_or(u64::MAX), quantum }
    }

    fn time_for(self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.rate.max(1))
    }

    /// Bytes that may go at once.
    fn quantum_bytes(self) -> usize {
        let bytes = u128::from(self.rate) * self.quantum.as_nanos() / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl Pacing {
    /// So much was sent at this pace, in segments of this size; `is_first`: while nothing was in flight.
    fn sent(&mut self, now: Instant, bytes: usize, segment_size: usize, pace: Pace, is_first: bool) {
        let (segments, least) = if is_first { (BURST_SEGMENTS, BURST) } else { (LEAST_SEGMENTS, pace.quantum) };
        if is_first || now > self.last {
            let credit = pace.time_for(segments.saturating_mul(segment_size)).max(least);
            self.next = self.next.max(now.before(credit));
        }
        self.next += pace.time_for(bytes);
        self.last = now;
    }
}

impl Connection {
    /// `None` if nothing is to be held back.
    fn pace(&self) -> Option<Pace> {
        if !self.is_pacing || self.round_trip.is_near() {
            return None;
        }
        let window = self.congestion.window();
        let percent = match self.recovery.is_fast() {
            true => 100,
            false if window < self.congestion.threshold() / 2 => 200,
            false => 120,
        };
        Some(Pace::new(window, percent, self.round_trip.smoothed()?))
    }

    /// Whether the next packet has to wait for its time. What goes whatever the window says, goes.
    pub(super) fn is_paced(&self, now: Instant) -> bool {
        self.pacing.next > now && !self.recovery.is_forced() && self.pace().is_some()
    }

    /// Bytes of payload in the largest packet that may go at once, in whole segments.
    pub(super) fn paced_limit(&self, segment_size: usize, packet_limit: usize) -> usize {
        let Some(pace) = self.pace() else { return packet_limit };
        let segments = (pace.quantum_bytes() / segment_size.max(1)).max(LEAST_SEGMENTS);
        segments.saturating_mul(segment_size).min(packet_limit)
    }

    /// Bytes were sent, new or again.
    pub(super) fn note_paced(&mut self, now: Instant, bytes: usize) {
        if let Some(pace) = self.pace() {
            let is_first = self.send.flight_size() <= bytes;
            self.pacing.sent(now, bytes, self.send.segment_size, pace, is_first);
        }
    }

    /// The timer runs while something could go if it were its time.
    pub(super) fn arm_pacing(&mut self, cx: &Context<'_>) {
        if self.is_paced(cx.now) && !self.is_blocked() && self.wants_to_send() {
            let least = self.pace().map_or(Duration::ZERO, |pace| pace.quantum);
            self.timers.set_if_idle(Timer::Pacing, self.pacing.next.max(cx.now + least));
        } else {
            self.timers.cancel(Timer::Pacing);
        }
    }

    fn wants_to_send(&self) -> bool {
        let has_lost = self.send.scoreboard.lost() > 0 && self.congestion_room() > 0;
        has_lost || (self.state.may_send() && self.send.next_length(self.allowance()) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// `rate` bytes per second on a path of 32 ms.
    fn pace(rate: u64) -> Pace {
        Pace { rate, quantum: MILLISECOND }
    }

    #[test]
    fn the_time_of_what_was_sent_passes_before_the_next_and_credit_is_bounded() {
        let (mut pacing, now) = (Pacing::default(), Instant::from_secs(1));
        let mut next_after = |now, bytes, is_first| {
            pacing.sent(now, bytes, 1_000, pace(1_000_000), is_first);
            pacing.next
        };
        assert_eq!(next_after(now, 1_000, true), now.before(MILLISECOND * 9), "ten segments may go, this is the first");
        assert_eq!(next_after(now, 12_000, false), now + MILLISECOND * 3, "the other nine, and three more");
        let later = now + MILLISECOND * 100;
        assert_eq!(next_after(later, 1_000, false), later.before(MILLISECOND), "two segments late, one of them used");
    }

    #[test]
    fn on_fast_paths_credit_is_a_quantum_or_two_milliseconds() {
        let now = Instant::from_secs(1);
        let after = |is_first| {
            let mut pacing = Pacing::default();
            pacing.sent(now, 50_000, 1_000, pace(100_000_000), is_first);
            pacing.next
        };
        assert_eq!(after(true), now.before(MILLISECOND * 3 / 2));
        assert_eq!(after(false), now.before(MILLISECOND / 2));
    }

    #[test]
    fn the_pace_is_a_share_of_the_window_in_a_round_trip() {
        assert_eq!(Pace::new(100_000, 120, MILLISECOND * 40).rate, 3_000_000);
        assert_eq!(Pace::new(usize::MAX, 200, Duration::ZERO).rate, u64::MAX);
        assert_eq!(pace(0).time_for(1), Duration::from_secs(1));
    }

    #[test]
    fn a_quantum_is_a_part_of_the_round_trip_within_bounds() {
        let quantum = |micros| Pace::new(1_000_000, 100, Duration::from_micros(micros)).quantum.as_micros();
        assert_eq!([100, 3_200, 32_000, 64_000].map(quantum), [50, 100, 1_000, 1_000]);
        assert_eq!(Pace::new(320_000, 100, MILLISECOND * 16).quantum_bytes(), 10_000);
    }
}
