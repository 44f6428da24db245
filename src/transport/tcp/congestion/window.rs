//! What the algorithms have in common: the window, the threshold, slow start, validation.
//!
//! Owns congestion window and slow-start threshold, in bytes. Refuses to know how an algorithm grows a window beyond the threshold.

use super::hystart::{Growth, HyStart};
use super::validation::Validation;
use super::{Acknowledged, AtRest, Settings};
use crate::time::Instant;

/// So many segments, three tenths of a window at that, are not lost by chance.
const OVERFLOW_SEGMENTS: usize = 16;

/// A congestion window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) bytes: usize,
    /// `usize::MAX` before the first loss.
    pub(super) threshold: usize,
    pub(super) segment_size: usize,
    initial_segments: u32,
    hystart: HyStart,
    validation: Validation,
    /// What was in use when loss was found in a window that was not validated (RFC 7661 §4.4.1: Max(pipeACK,LossFlightSize)).
    used_at_loss: Option<usize>,
    /// The window at whose loss the first slow start ended, until what was lost has been sent again.
    start_ended_at: Option<usize>,
}

impl Window {
    pub(super) fn new(settings: &Settings) -> Window {
        let mut window = Window {
            bytes: 0,
            threshold: usize::MAX,
            segment_size: settings.segment_size.max(1),
            initial_segments: settings.initial_segments,
            hystart: HyStart::default(),
            validation: Validation::new(settings.non_validated_period),
            used_at_loss: None,
            start_ended_at: None,
        };
        window.bytes = window.initial();
        window
    }

    /// A window in its first slow start, as it was; its rounds begin anew (RFC 9406 §4.2).
    pub(super) fn resumed(settings: &Settings, rested: AtRest) -> Window {
        let validation = Validation::resumed(settings.non_validated_period, rested.validation);
        Window { bytes: rested.bytes, validation, ..Window::new(settings) }
    }

    /// What is worth remembering while nothing is in flight, if there was no congestion yet, nor a sign of it.
    pub(super) fn at_rest(&self) -> Option<AtRest> {
        let is_untried = self.threshold == usize::MAX && self.used_at_loss.is_none() && !self.hystart.is_conservative();
        is_untried.then(|| AtRest { bytes: self.bytes, validation: self.validation.at_rest() })
    }

    /// RFC 6928 §2: min(10 * MSS, max(2 * MSS, 14600)).
    fn initial(&self) -> usize {
        let segments = usize::try_from(self.initial_segments).unwrap_or(usize::MAX).max(1);
        let cap = segments.saturating_mul(1_460).max(self.segment_size.saturating_mul(2));
        segments.saturating_mul(self.segment_size).min(cap)
    }

    /// Whether the window may grow: if it kept us from sending, or, in slow start, if at least half of it is in use (RFC 7661 §4.4, RFC 9438 §5.8).
    pub(super) fn may_grow(&mut self, acknowledged: &Acknowledged) -> bool {
        self.validation.acknowledged(acknowledged);
        let is_validated = self.validation.is_validated(acknowledged.now, self.bytes);
        acknowledged.is_window_limited || (self.is_slow_start() && is_validated && acknowledged.in_flight >= self.bytes / 2)
    }

    /// Whether the window is below the threshold.
    pub(super) fn is_slow_start(&self) -> bool {
        self.bytes < self.threshold
    }

    /// Grows in slow start, at most to the threshold; gives what is left for congestion avoidance: all of it, once the threshold is reached. HyStart++ watches
    /// over the first slow start (RFC 9406 §4.3), later ones know the threshold. There is no limit per acknowledgement (RFC 3465), for
    /// one acknowledges a whole super-segment.
    pub(super) fn slow_start(&mut self, acknowledged: &Acknowledged) -> usize {
        if self.threshold == usize::MAX {
            return self.first_slow_start(acknowledged);
        }
        let step = acknowledged.bytes.min(self.threshold.saturating_sub(self.bytes));
        self.bytes = self.bytes.saturating_add(step);
        acknowledged.bytes - step
    }

    fn first_slow_start(&mut self, acknowledged: &Acknowledged) -> usize {
        let growth = self.hystart.acknowledged(acknowledged, self.segment_size);
        let (Growth::By(bytes) | Growth::Last(bytes)) = growth;
        let ceiling = self.hystart.ceiling(self.bytes).max(self.initial());
        self.bytes = self.bytes.saturating_add(bytes).min(ceiling);
        if matches!(growth, Growth::Last(_)) {
            self.threshold = self.bytes;
        }
        0
    }

    /// Congestion: threshold and window become `reduced`, the window at least `least` segments. A window that was not validated becomes half of what was
    /// really used of it (RFC 7661 §4.4.1); `in_flight` is FlightSize.
    pub(super) fn reduce(&mut self, now: Instant, in_flight: usize, reduced: usize, least: usize) {
        let used = self.validation.unvalidated(now, self.bytes).map(|pipe| pipe.max(in_flight));
        let reduced = used.map_or(reduced, |used| used / 2);
        self.used_at_loss = used;
        self.start_ended_at = Some(self.bytes).filter(|_| self.threshold == usize::MAX);
        self.threshold = reduced.max(self.floor());
        self.bytes = reduced.max(self.segment_size.saturating_mul(least));
    }

    /// Recovery from loss is over; `resent` bytes were sent again. A window that was not validated had exceeded the path by as much (RFC 7661 §4.4.1).
    pub(super) fn recovered(&mut self, resent: usize) {
        self.validation.reset();
        if let Some(used) = self.used_at_loss.take() {
            let safe = (used.saturating_sub(resent) / 2).max(self.segment_size);
            self.bytes = self.bytes.min(safe);
            self.threshold = self.bytes.max(self.floor());
        }
        if let Some(bytes) = self.start_ended_at.take() {
            self.end_start(bytes, resent);
        }
    }

    /// The first slow start ended with loss in a window of `bytes`; `resent` of them were sent again, the others are what the path and its queue took. Slow start
    /// doubles the window until the loss is known, so that even the reduced one may be more than that, and overflow the queue again at once. Then what fills the
    /// path stays of it. RFC 9438 §4.10: "work might be needed to ensure that the end of slow start and the first multiplicative decrease of congestion avoidance
    /// work well together". A few segments may be chance: they change nothing.
    fn end_start(&mut self, bytes: usize, resent: usize) {
        let taken = bytes.saturating_sub(resent);
        if resent >= self.segment_size.saturating_mul(OVERFLOW_SEGMENTS) && taken < self.bytes {
            self.bytes = self.bytes.min(taken.max(self.hystart.product().unwrap_or(0)).max(self.floor()));
            self.threshold = self.threshold.min(self.bytes);
        }
    }

    /// Lowers the threshold to this, if it is higher.
    pub(super) fn limit_threshold(&mut self, bytes: usize) {
        self.threshold = self.threshold.min(bytes.max(self.floor()));
    }

    /// A timeout: one segment is the loss window (RFC 5681 §3.1). What was known of the use of the old one counts no more.
    pub(super) fn collapse(&mut self) {
        self.bytes = self.segment_size;
        (self.used_at_loss, self.start_ended_at) = (None, None);
        self.validation.reset();
    }

    /// Before data is sent after silence: an unused window is halved for each non-validated period (RFC 7661 §4.4.3).
    pub(super) fn revalidate(&mut self, now: Instant) {
        self.validation.is_validated(now, self.bytes);
        for _ in 0..self.validation.periods_over(now).min(usize::BITS) {
            self.threshold = self.threshold.max(self.bytes / 4 * 3);
            self.bytes = self.bytes.min((self.bytes / 2).max(self.initial()));
        }
    }

    fn floor(&self) -> usize {
        self.segment_size.saturating_mul(2)
    }

    pub(super) fn set_segment_size(&mut self, bytes: usize) {
        let was_initial = self.threshold == usize::MAX && self.bytes == self.initial();
        self.segment_size = bytes.max(1);
        self.bytes = if was_initial { self.initial() } else { self.bytes.max(self.segment_size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use crate::wire::SequenceNumber;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn window(segment_size: usize) -> Window {
        Window::new(&Settings::plain(segment_size))
    }

    #[test]
    fn initial_windows_of_rfc_6928() {
        for (segment, initial) in [(1_460, 14_600), (536, 5_360), (9_000, 18_000), (1_000, 10_000)] {
            assert_eq!(window(segment).initial(), initial);
        }
    }

    #[test]
    fn the_initial_window_follows_the_segment_size_until_it_grew() {
        let mut window = window(536);
        window.set_segment_size(1_460);
        assert_eq!(window.bytes, 14_600);
        window.bytes += 1;
        window.set_segment_size(536);
        assert_eq!(window.bytes, 14_601);
    }

    /// A window of 100 segments of which 10 were used in the last round, at 10 s.
    fn unused() -> Window {
        let mut window = window(1_000);
        window.bytes = 100_000;
        let round = Acknowledged {
            now: Instant::from_secs(10),
            number: SequenceNumber(10_000),
            next: SequenceNumber(10_000),
            in_flight: 10_000,
            ..Acknowledged::sample(10_000, ROUND_TRIP)
        };
        assert!(!window.may_grow(&round), "RFC 7661 §4.4: MUST NOT increase");
        window
    }

    #[test]
    fn an_unused_window_grows_only_if_it_limits() {
        let mut window = unused();
        let limited = Acknowledged {
            now: Instant::from_secs(10),
            number: SequenceNumber(20_000),
            next: SequenceNumber(20_000),
            is_window_limited: true,
            ..Acknowledged::sample(10_000, ROUND_TRIP)
        };
        assert!(window.may_grow(&limited));
    }

    #[test]
    fn rfc_7661_section_4_4_1_loss_in_an_unused_window_falls_to_what_was_used() {
        let mut window = unused();
        window.reduce(Instant::from_secs(10), 6_000, 70_000, 2);
        assert_eq!((window.bytes, window.threshold), (5_000, 5_000), "Max(pipeACK,LossFlightSize)/2");
        window.recovered(4_000);
        assert_eq!((window.bytes, window.threshold), (3_000, 3_000), "(Max(pipeACK,LossFlightSize) - R)/2");
        assert_eq!(window.validation.unvalidated(Instant::from_secs(10), 1 << 30), None);
    }

    #[test]
    fn loss_in_a_used_window_takes_the_factor() {
        let mut window = window(1_000);
        window.reduce(Instant::from_secs(1), 10_000, 7_000, 2);
        window.recovered(4_000);
        assert_eq!((window.bytes, window.threshold), (7_000, 7_000));
    }

    /// What is left of a window that slow start ended with, reduced by CUBIC, of which so much was lost; acknowledgements showed the rate of 1,000 bytes in each
    /// millisecond, 100 kB in a round trip.
    fn after_slow_start(bytes: usize, lost: usize) -> Window {
        let mut window = window(1_000);
        for millis in 0..250 {
            let now = Instant::from_millis(millis);
            let _ = window.hystart.acknowledged(&Acknowledged { now, ..Acknowledged::sample(1_000, ROUND_TRIP) }, 1_000);
        }
        window.bytes = bytes;
        window.reduce(Instant::from_secs(1), bytes, bytes / 10 * 7, 2);
        window.recovered(lost);
        assert_eq!(window.bytes, window.threshold);
        window
    }

    #[test]
    fn rfc_9438_section_4_10_the_first_slow_start_leaves_no_more_than_what_the_path_took() {
        assert_eq!(after_slow_start(200_000, 80_000).bytes, 120_000, "of 140,000");
        assert_eq!(after_slow_start(200_000, 120_000).bytes, 100_000, "no less than what fills the path");
        assert_eq!(after_slow_start(200_000, 60_000).bytes, 140_000, "the path took the other 140,000");
        assert_eq!(after_slow_start(40_000, 15_000).bytes, 28_000, "a few segments may be chance");
    }

    #[test]
    fn later_losses_take_the_factor_alone() {
        let mut window = after_slow_start(200_000, 120_000);
        window.reduce(Instant::from_secs(2), 100_000, 70_000, 2);
        window.recovered(60_000);
        assert_eq!((window.bytes, window.threshold), (70_000, 70_000));
    }

    #[test]
    fn rfc_7661_section_4_4_3_silence_keeps_the_window_for_five_minutes_then_halves_it() {
        let mut window = unused();
        window.threshold = 50_000;
        window.revalidate(Instant::from_secs(300));
        assert_eq!((window.bytes, window.threshold), (100_000, 50_000));
        window.revalidate(Instant::from_secs(312));
        assert_eq!((window.bytes, window.threshold), (50_000, 75_000));
        window.revalidate(Instant::from_secs(312 + 3_000));
        assert_eq!(window.bytes, 10_000, "never below the initial window");
        window.bytes = 2_000;
        window.revalidate(Instant::from_secs(99_000));
        assert_eq!(window.bytes, 2_000, "and never more than before");
    }
}
