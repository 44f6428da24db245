//! RACK: what the last deliveries say of everything sent before them (RFC 8985 §6).
//!
//! Owns the per-connection variables of §5.3, and the reordering window. Refuses the segments, which are the scoreboard's.

use crate::time::{Duration, Instant};
use crate::wire::SequenceNumber;

/// §6.2 step 4: segments selectively acknowledged that mean loss, where no reordering was ever seen.
const DUPLICATE_THRESHOLD: usize = 3;
/// §6.2 step 4: loss recoveries for which a widened window lasts.
const PERSISTENCE: u8 = 16;

/// A transmission: Segment.xmit_ts and Segment.end_seq.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) end: SequenceNumber,
}

impl Sent {
    /// RACK_sent_after() of §6.2.
    pub(super) fn is_after(self, other: Sent) -> bool {
        self.at > other.at || (self.at == other.at && self.end.after(other.end))
    }
}

/// What the reordering window depends on besides (§6.2 step 4).
#[derive(Copy, Clone, Debug)]
pub(super) struct Surroundings {
    /// In fast recovery, or recovery from a timeout.
    pub(super) is_recovering: bool,
    /// RACK.segs_sacked.
    pub(super) delivered_segments: usize,
    /// RACK.min_RTT.
    pub(super) minimum_round_trip: Duration,
    /// SRTT.
    pub(super) smoothed_round_trip: Duration,
}

/// The variables.
#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq.
    latest: Option<Sent>,
    /// RACK.rtt.
    round_trip: Duration,
    /// RACK.fack.
    forward: SequenceNumber,
    /// RACK.reordering_seen.
    reordering_seen: bool,
    /// RACK.dsack_round.
    duplicate_round: Option<SequenceNumber>,
    /// RACK.reo_wnd_mult.
    multiplier: u32,
    /// RACK.reo_wnd_persist.
    persistence: u8,
}

impl Rack {
    pub(super) fn new(initial: SequenceNumber) -> Rack {
        Rack {
            latest: None,
            round_trip: Duration::ZERO,
            forward: initial,
            reordering_seen: false,
            duplicate_round: None,
            multiplier: 1,
            persistence: PERSISTENCE,
        }
    }

    /// Whether the reordering window is what it is on a path that was never seen to reorder.
    pub(super) fn is_as_new(&self) -> bool {
        !self.reordering_seen && self.multiplier == 1 && self.duplicate_round.is_none()
    }

    /// RACK.fack: the highest number known to be delivered.
    pub(super) fn forward(&self) -> SequenceNumber {
        self.forward
    }

    /// Whether reordering was ever seen.
    pub(super) fn reordering_seen(&self) -> bool {
        self.reordering_seen
    }

    /// What seemed lost came late: a recovery was not needed. Step 3 does not look at what was sent again; but where segments come later than the third behind
    /// them, all are, so that it would never see any reordering (Linux counts it as well, `tcp_try_undo_partial()`).
    pub(super) fn recovery_was_spurious(&mut self) {
        self.reordering_seen = true;
    }

    /// Steps 2 and 3: the latest transmission that `arrived` tells of, whether it came out of order, and the highest number delivered.
    pub(super) fn delivered(&mut self, latest: Option<Sent>, arrived: Instant, is_reordered: bool, forward: SequenceNumber) {
        self.forward = self.forward.latest(forward);
        self.reordering_seen |= is_reordered;
        let Some(sent) = latest else { return };
        self.round_trip = arrived.since(sent.at);
        if self.latest.is_none_or(|latest| sent.is_after(latest)) {
            self.latest = Some(sent);
        }
    }

    /// Step 4, the window of a round in which the peer reported a duplicate: something was sent again too early.
    pub(super) fn duplicate_reported(&mut self, unacknowledged: SequenceNumber, next: SequenceNumber) {
        if self.duplicate_round.is_some_and(|round| unacknowledged.after_or_equal(round)) {
            self.duplicate_round = None;
        }
        if self.duplicate_round.is_none() {
            self.duplicate_round = Some(next);
            self.multiplier = self.multiplier.saturating_add(1);
            self.persistence = PERSISTENCE;
        }
    }

    /// Step 4, "exiting Fast or RTO recovery".
    pub(super) fn recovery_ended(&mut self) {
        self.persistence = self.persistence.saturating_sub(1);
        if self.persistence == 0 {
            self.multiplier = 1;
        }
    }

    /// Step 4, RACK.reo_wnd.
    pub(super) fn reordering_window(&self, around: Surroundings) -> Duration {
        if !self.reordering_seen && (around.is_recovering || around.delivered_segments >= DUPLICATE_THRESHOLD) {
            return Duration::ZERO;
        }
        (around.minimum_round_trip / 4).saturating_mul(self.multiplier).min(around.smoothed_round_trip)
    }

    /// Step 5: whether what was delivered was sent after `sent`.
    pub(super) fn is_sent_before(&self, sent: Sent) -> bool {
        self.latest.is_some_and(|latest| latest.is_after(sent))
    }

    /// Step 5: when what was sent at `sent` is lost: Segment.xmit_ts + RACK.rtt + RACK.reo_wnd.
    pub(super) fn deadline(&self, sent: Instant, window: Duration) -> Instant {
        sent + self.round_trip + window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings = Surroundings {
        is_recovering: false,
        delivered_segments: 1,
        minimum_round_trip: Duration::from_millis(40),
        smoothed_round_trip: Duration::from_millis(45),
    };

    fn number(value: u32) -> SequenceNumber {
        SequenceNumber(value.wrapping_sub(500))
    }

    fn millis(window: Duration) -> u128 {
        window.as_millis()
    }

    #[test]
    fn rfc8985_6_2_step_2_ties_are_broken_by_number() {
        let sent = |at, end| Sent { at: Instant::from_millis(at), end: number(end) };
        let mut rack = Rack::new(number(0));
        rack.delivered(Some(sent(10, 300)), Instant::from_millis(30), false, number(300));
        assert!(rack.is_sent_before(sent(9, 900)) && rack.is_sent_before(sent(10, 200)));
        assert!(!rack.is_sent_before(sent(10, 300)) && !rack.is_sent_before(sent(10, 400)) && !rack.is_sent_before(sent(11, 100)));
        rack.delivered(Some(sent(8, 800)), Instant::from_millis(31), false, number(800));
        assert!(rack.is_sent_before(sent(10, 200)), "an earlier transmission does not take it back");
        assert_eq!(rack.deadline(Instant::from_millis(8), Duration::ZERO), Instant::from_millis(31), "but RACK.rtt is the latest sample");
    }

    #[test]
    fn rfc8985_6_2_step_4_the_window_without_and_with_reordering() {
        let mut rack = Rack::new(number(0));
        assert_eq!(millis(rack.reordering_window(AROUND)), 10, "RACK.min_RTT / 4");
        assert_eq!(millis(rack.reordering_window(Surroundings { delivered_segments: 3, ..AROUND })), 0, "DupThresh");
        assert_eq!(millis(rack.reordering_window(Surroundings { is_recovering: true, ..AROUND })), 0);
        rack.delivered(None, Instant::ZERO, true, number(1));
        let both = Surroundings { is_recovering: true, delivered_segments: 9, ..AROUND };
        assert_eq!(millis(rack.reordering_window(both)), 10, "reordering was seen");
    }

    #[test]
    fn rfc8985_6_2_step_4_the_window_widens_once_per_round_with_a_dsack_up_to_srtt() {
        let mut rack = Rack::new(number(0));
        rack.delivered(None, Instant::ZERO, true, number(1));
        let mut after = |una, next| {
            rack.duplicate_reported(number(una), number(next));
            millis(rack.reordering_window(AROUND))
        };
        assert_eq!([after(100, 200), after(199, 300), after(200, 300), after(300, 400), after(400, 500)], [20, 20, 30, 40, 45]);
    }

    #[test]
    fn rfc8985_6_2_step_4_the_window_narrows_after_sixteen_recoveries() {
        let mut rack = Rack::new(number(0));
        rack.delivered(None, Instant::ZERO, true, number(1));
        rack.duplicate_reported(number(100), number(200));
        (0..15).for_each(|_| rack.recovery_ended());
        assert_eq!(millis(rack.reordering_window(AROUND)), 20);
        rack.recovery_ended();
        assert_eq!(millis(rack.reordering_window(AROUND)), 10);
    }
}
