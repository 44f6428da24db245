//! RFC 5681, with the recovery of RFC 6582 (which is in `retransmission`).

use super::{Acknowledged, Controller, Window};
use crate::time::Instant;

/// One segment per round trip, half on loss.
#[derive(Debug)]
pub(super) struct NewReno {
    window: Window,
    /// Bytes acknowledged towards the next increase.
    credit: usize,
}

impl NewReno {
    pub(super) fn new(window: Window) -> NewReno {
        NewReno { window, credit: 0 }
    }

    /// RFC 5681 §3.1, equation 4.
    fn lower_threshold(&mut self, in_flight: usize) {
        self.window.threshold = (in_flight / 2).max(self.window.floor());
    }

    /// Appropriate byte counting (RFC 3465 §2.1): one segment for each window acknowledged.
    fn avoid_congestion(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add(bytes);
        if self.credit >= self.window.bytes {
            self.credit -= self.window.bytes;
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
        if !self.window.is_validated(&acknowledged) {
            return;
        }
        let rest = self.window.slow_start(acknowledged.bytes);
        if rest > 0 {
            self.avoid_congestion(rest);
        }
    }

    fn on_loss(&mut self, _now: Instant, in_flight: usize) {
        self.lower_threshold(in_flight);
        self.window.bytes = self.window.threshold;
        self.credit = 0;
    }

    fn on_timeout(&mut self, in_flight: usize, first: bool) {
        if first {
            self.lower_threshold(in_flight);
        }
        self.window.collapse();
        self.credit = 0;
    }

    fn on_idle(&mut self) {
        self.window.restart();
    }

    fn set_segment_size(&mut self, bytes: usize) {
        self.window.set_segment_size(bytes);
    }

    fn start_with_one_segment(&mut self) {
        self.window.collapse();
    }

    fn name(&self) -> &'static str {
        "newreno"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn acknowledge(control: &mut NewReno, bytes: usize) {
        let in_flight = control.window();
        control.on_acknowledged(Acknowledged { now: Instant::ZERO, bytes, in_flight, round_trip: Duration::from_millis(10) });
    }

    #[test]
    fn slow_start_doubles_then_avoidance_adds_a_segment_per_window() {
        let mut control = NewReno::new(Window::new(1_000, 10));
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
    fn timeouts_collapse_the_window_and_hold_the_threshold_when_repeated() {
        let mut control = NewReno::new(Window::new(1_000, 10));
        control.on_timeout(10_000, true);
        control.on_timeout(1_000, false);
        assert_eq!((control.window(), control.threshold()), (1_000, 5_000));
        acknowledge(&mut control, 7_000);
        assert_eq!(control.window(), 5_000);
    }

    #[test]
    fn an_unused_window_does_not_grow_and_idleness_shrinks_it() {
        let mut control = NewReno::new(Window::new(1_000, 10));
        control.on_acknowledged(Acknowledged { now: Instant::ZERO, bytes: 100, in_flight: 100, round_trip: Duration::ZERO });
        assert_eq!(control.window(), 10_000);
        acknowledge(&mut control, 10_000);
        control.on_idle();
        assert_eq!(control.window(), 10_000);
    }
}
