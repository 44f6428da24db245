//! Pacing: what the window admits goes out over the round trip, not at once (RFC 7661 §4.4.2 asks for it where a window was not used; Linux does it with `fq`).
//!
//! Owns when the next packet may go, and how much of it. Refuses to let less through than the window in a round trip: the rate is above that.
//!
//! - Two windows in each round trip in slow start, 1.2 later (Linux: `tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`). The same in recovery: what rate reduction
//!   admits for one acknowledgement of many losses would else overflow the same queue again.
//! - Whoever did not send for a while may send ten segments at once, as at the beginning (RFC 6928), or what goes in two milliseconds if that is more. So
//!   short answers are not held back, and a timer that is late loses nothing.
//! - Packets hold at most a millisecond of the rate, but two segments at least: what offload saves remains where there is something to save.
//! - The timer waits a millisecond at least, and runs only while nothing but pacing holds data back. Near paths, whose round trip is shorter when their
//!   queues are empty, are not paced: a wake-up would cost them more than a burst.

use super::timers::Timer;
use super::{Connection, Context};
use crate::time::{Duration, Instant};

/// Segments that may always go at once after silence.
const BURST_SEGMENTS: usize = 10;
/// And what may go at once after silence on fast paths.
const BURST: Duration = Duration::from_millis(2);
/// The timer's shortest wait.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// Packets hold what goes in 1/1000 s at most.
const PACKETS_PER_SECOND: u64 = 1_000;
/// But so many segments at least.
const LEAST_SEGMENTS: usize = 2;

/// When the next packet may go.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Pacing {
    next: Instant,
}

/// Bytes per second.
#[derive(Copy, Clone, Debug)]
struct Pace(u64);

impl Pace {
    /// `percent` of `window` in each round trip.
    fn new(window: usize, percent: u128, round_trip: Duration) -> Pace {
        let per_second = window as u128 * percent * 10_000_000 / round_trip.as_nanos().max(1);
        Pace(u64::try_from(per_second).unwrap_or(u64::MAX))
    }

    fn time_for(self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.0.max(1))
    }
}

impl Pacing {
    /// So much was sent at this pace, in segments of this size.
    fn sent(&mut self, now: Instant, bytes: usize, segment_size: usize, pace: Pace) {
        let credit = pace.time_for(BURST_SEGMENTS.saturating_mul(segment_size)).max(BURST);
        self.next = self.next.max(now.before(credit)) + pace.time_for(bytes);
    }
}

impl Connection {
    /// `None` if nothing is to be held back.
    fn pace(&self) -> Option<Pace> {
        if !self.is_pacing || self.round_trip.is_near() {
            return None;
        }
        let window = self.congestion.window();
        let percent = if window < self.congestion.threshold() / 2 { 200 } else { 120 };
        Some(Pace::new(window, percent, self.round_trip.smoothed()?))
    }

    /// Whether the next packet has to wait for its time. What goes whatever the window says, goes.
    pub(super) fn is_paced(&self, now: Instant) -> bool {
        self.pacing.next > now && !self.recovery.is_forced() && self.pace().is_some()
    }

    /// Bytes of payload in the largest packet that may go at once, in whole segments.
    pub(super) fn paced_limit(&self, segment_size: usize, packet_limit: usize) -> usize {
        let Some(Pace(rate)) = self.pace() else { return packet_limit };
        let portion = usize::try_from(rate / PACKETS_PER_SECOND).unwrap_or(usize::MAX);
        let segments = (portion / segment_size.max(1)).max(LEAST_SEGMENTS);
        segments.saturating_mul(segment_size).min(packet_limit)
    }

    /// Bytes were sent, new or again.
    pub(super) fn note_paced(&mut self, now: Instant, bytes: usize) {
        if let Some(pace) = self.pace() {
            self.pacing.sent(now, bytes, self.send.segment_size, pace);
        }
    }

    /// The timer runs while something could go if it were its time.
    pub(super) fn arm_pacing(&mut self, cx: &Context<'_>) {
        if self.is_paced(cx.now) && !self.is_blocked() && self.wants_to_send() {
            self.timers.set_if_idle(Timer::Pacing, self.pacing.next.max(cx.now + LEAST_WAIT));
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

    #[test]
    fn the_time_of_what_was_sent_passes_before_the_next_and_credit_is_bounded() {
        let (mut pacing, now) = (Pacing::default(), Instant::from_secs(1));
        let mut next_after = |bytes, pace| {
            pacing.sent(now, bytes, 1_000, pace);
            pacing.next
        };
        assert_eq!(next_after(1_000, Pace(1_000_000)), now.before(Duration::from_millis(9)), "ten segments late, one of them used");
        assert_eq!(next_after(12_000, Pace(1_000_000)), now + Duration::from_millis(3));
        pacing = Pacing::default();
        pacing.sent(now, 100_000, 1_000, Pace(100_000_000));
        assert_eq!(pacing.next, now.before(Duration::from_millis(1)), "two milliseconds are more than ten segments");
    }

    #[test]
    fn the_pace_is_a_share_of_the_window_in_a_round_trip() {
        assert_eq!(Pace::new(100_000, 120, Duration::from_millis(40)).0, 3_000_000);
        assert_eq!(Pace::new(usize::MAX, 200, Duration::ZERO).0, u64::MAX);
        assert_eq!(Pace(0).time_for(1), Duration::from_secs(1));
    }
}
