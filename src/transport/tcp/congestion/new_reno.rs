//! RFC 5681, with the recovery of RFC 6582 (which is in `retransmission`).

use super::{Acknowledged, AtRest, Controller, Timeout, Window, share};
use crate::time::Instant;

/// RFC 5681 §3.1, equation 4: half of what was in flight.
const BETA: f64 = 0.5;
/// RFC 8511 §3.1: after a mark.
const BETA_ECN: f64 = 0.8;

/// One segment per round trip, half on loss.
#[derive(Clone, Debug)]
pub(super) struct NewReno {
    window: Window,
    /// Bytes acknowledged towards the next increase.
    credit: usize,
}

impl NewReno {
    pub(super) fn new(window: Window) -> NewReno {
        NewReno { window, credit: 0 }
    }

    /// Appropriate byte counting (RFC 3465 §2.1): one segment for each window acknowledged. What is left of the window beside whole segments is never in flight.
    fn avoid_congestion(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add(bytes);
        let usable = self.window.bytes - self.window.bytes % self.window.segment_size.max(1);
        if self.credit >= usable {
            self.credit -= usable;
            self.window.bytes = self.window.bytes.saturating_add(self.window.segment_size);
        }
    }
}

impl Controller for NewReno {
    fn window(&self) -> usize {
        self.window.bytes
    }

    fn threshold(&self) -> usize {
        self.window.threshold
    }

    fn on_acknowledged(&mut self, acknowledged: Acknowledged) {
        if !self.window.may_grow(&acknowledged) {
            return;
        }
        let rest = self.window.slow_start(&acknowledged);
        if rest > 0 {
            self.avoid_congestion(rest);
        }
    }

    fn on_loss(&mut self, now: Instant, in_flight: usize) {
        self.window.reduce(now, in_flight, share(in_flight, BETA), 2);
        self.credit = 0;
    }

    fn on_recovered(&mut self, resent: usize) {
        self.window.recovered(resent);
    }

    /// RFC 3168 §6.1.2 lets the window fall to one segment.
    fn on_congestion_experienced(&mut self, now: Instant, in_flight: usize) {
        let factor = if self.window.is_slow_start() { BETA } else { BETA_ECN };
        self.window.reduce(now, in_flight, share(in_flight, factor), 1);
        self.credit = 0;
    }

    fn on_timeout(&mut self, now: Instant, in_flight: usize, which: Timeout) {
        match which {
            Timeout::First => self.on_loss(now, in_flight),
            Timeout::InRecovery => self.window.limit_threshold(share(in_flight, BETA)),
            Timeout::Again => {}
        }
        self.window.collapse();
        self.credit = 0;
    }

    fn before_sending(&mut self, now: Instant) {
        self.window.revalidate(now);
    }

    fn set_segment_size(&mut self, bytes: usize) {
        self.window.set_segment_size(bytes);
    }

    fn start_with_one_segment(&mut self) {
        self.window.collapse();
    }

    fn snapshot(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn at_rest(&self) -> Option<AtRest> {
        self.window.at_rest().filter(|_| self.credit == 0)
    }

    fn name(&self) -> &'static str {
        "newreno"
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::time::Duration;
    use crate::wire::SequenceNumber;

    fn control() -> NewReno {
        NewReno::new(Window::new(&Settings::plain(1_000)))
    }

    fn acknowledge(control: &mut NewReno, bytes: usize) {
        let next = SequenceNumber(1);
        let in_flight = control.window();
        let sample = Acknowledged::sample(bytes, Duration::from_millis(10));
        control.on_acknowledged(Acknowledged { in_flight, next, is_window_limited: true, ..sample });
    }

    #[test]
    fn slow_start_doubles_then_avoidance_adds_a_segment_per_window() {
        let mut control = control();
        acknowledge(&mut control, 10_000);
        assert_eq!(control.window(), 20_000);
        control.on_loss(Instant::ZERO, 20_000);
        assert_eq!((control.window(), control.threshold()), (10_000, 10_000));
        acknowledge(&mut control, 9_999);
        assert_eq!(control.window(), 10_000);
        acknowledge(&mut control, 1);
        assert_eq!(control.window(), 11_000);
    }

    #[test]
    fn half_a_segment_of_the_window_is_never_acknowledged() {
        let mut control = control();
        control.on_loss(Instant::ZERO, 9_000);
        acknowledge(&mut control, 4_000);
        assert_eq!(control.window(), 5_500, "four segments are all that fits a window of 4,500");
        acknowledge(&mut control, 4_999);
        assert_eq!(control.window(), 5_500);
    }

    #[test]
    fn timeouts_collapse_the_window_and_hold_the_threshold_when_repeated() {
        let mut control = control();
        control.on_timeout(Instant::ZERO, 10_000, Timeout::First);
        control.on_timeout(Instant::ZERO, 1_000, Timeout::Again);
        assert_eq!((control.window(), control.threshold()), (1_000, 5_000));
        acknowledge(&mut control, 7_000);
        assert_eq!(control.window(), 5_000);
    }

    #[test]
    fn rfc_8511_a_mark_takes_a_fifth_in_congestion_avoidance_and_half_in_slow_start() {
        let mut control = control();
        control.on_congestion_experienced(Instant::ZERO, 10_000);
        assert_eq!((control.window(), control.threshold()), (5_000, 5_000));
        acknowledge(&mut control, 5_000);
        assert_eq!(control.window(), 6_000);
        control.on_congestion_experienced(Instant::ZERO, 6_000);
        assert_eq!((control.window(), control.threshold()), (4_800, 4_800));
    }

    #[test]
    fn rfc_3168_section_6_1_2_marks_lower_the_window_to_one_segment() {
        let mut control = control();
        for _ in 0..20 {
            let in_flight = control.window();
            control.on_congestion_experienced(Instant::ZERO, in_flight);
        }
        assert_eq!((control.window(), control.threshold()), (1_000, 2_000));
    }
}
