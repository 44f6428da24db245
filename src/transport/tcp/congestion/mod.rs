//! Congestion control behind one small trait.
//!
//! Owns congestion window and slow-start threshold, in bytes. Refuses to know what was lost or what is sent next: recovery tells it of losses and
//! acknowledgements. Read RFC 5681 first.

mod cubic;
mod new_reno;

use crate::time::{Duration, Instant};
use crate::transport::shared::CongestionControl;
use cubic::Cubic;
use new_reno::NewReno;

/// What an acknowledgement says to a controller.
#[derive(Copy, Clone, Debug)]
pub(super) struct Acknowledged {
    /// When it arrived.
    pub(super) now: Instant,
    /// Bytes that left the network with it.
    pub(super) bytes: usize,
    /// Bytes that were in flight before it.
    pub(super) in_flight: usize,
    /// SRTT.
    pub(super) round_trip: Duration,
}

/// What every algorithm provides.
pub(super) trait Controller: Send {
    /// Bytes that may be in flight.
    fn window(&self) -> usize;
    /// Below it the window grows exponentially; `usize::MAX` before the first loss.
    fn threshold(&self) -> usize;
    /// Data was acknowledged outside of fast recovery.
    fn on_acknowledged(&mut self, acknowledged: Acknowledged);
    /// Loss was found by acknowledgements; called once for a window (RFC 5681 §3.2, step 2). `in_flight` is FlightSize.
    fn on_loss(&mut self, now: Instant, in_flight: usize);
    /// The retransmission timer expired. `first`: not one of a series (RFC 5681 §3.1: the threshold is held when a retransmission is lost).
    fn on_timeout(&mut self, in_flight: usize, first: bool);
    /// Nothing was sent for longer than a retransmission timeout (RFC 5681 §4.1).
    fn on_idle(&mut self);
    /// The segment size is known, or changed.
    fn set_segment_size(&mut self, bytes: usize);
    /// The SYN was lost: the first window is one segment (RFC 5681 §3.1).
    fn start_with_one_segment(&mut self);
    /// The name people use.
    fn name(&self) -> &'static str;
}

/// A controller by choice.
pub(super) fn controller(which: CongestionControl, segment_size: usize, initial_segments: u32) -> Box<dyn Controller> {
    let window = Window::new(segment_size, initial_segments);
    match which {
        CongestionControl::Cubic => Box::new(Cubic::new(window)),
        CongestionControl::NewReno => Box::new(NewReno::new(window)),
    }
}

/// What the algorithms have in common: the window, the threshold, slow start.
#[derive(Clone, Debug)]
struct Window {
    bytes: usize,
    threshold: usize,
    segment_size: usize,
    initial_segments: u32,
}

impl Window {
    fn new(segment_size: usize, initial_segments: u32) -> Window {
        let mut window = Window { bytes: 0, threshold: usize::MAX, segment_size: segment_size.max(1), initial_segments };
        window.bytes = window.initial();
        window
    }

    /// RFC 6928 §2: min(10 * MSS, max(2 * MSS, 14600)).
    fn initial(&self) -> usize {
        let segments = usize::try_from(self.initial_segments).unwrap_or(usize::MAX).max(1);
        let cap = segments.saturating_mul(1_460).max(self.segment_size.saturating_mul(2));
        segments.saturating_mul(self.segment_size).min(cap)
    }

    /// RFC 7661 §4.3: a window of which less than half was used says nothing, and does not grow.
    fn is_validated(&self, acknowledged: &Acknowledged) -> bool {
        acknowledged.in_flight >= self.bytes / 2
    }

    /// Grows by what was acknowledged (RFC 3465 with no limit per acknowledgement, for one acknowledges a whole super-segment), at most to the
    /// threshold; gives what is left for congestion avoidance: all of it, once the threshold is reached.
    fn slow_start(&mut self, bytes: usize) -> usize {
        let step = bytes.min(self.threshold.saturating_sub(self.bytes));
        self.bytes = self.bytes.saturating_add(step);
        bytes - step
    }

    fn floor(&self) -> usize {
        self.segment_size.saturating_mul(2)
    }

    /// One segment is the loss window (RFC 5681 §3.1).
    fn collapse(&mut self) {
        self.bytes = self.segment_size;
    }

    /// RFC 5681 §4.1: RW = min(IW, cwnd).
    fn restart(&mut self) {
        self.bytes = self.bytes.min(self.initial());
    }

    fn set_segment_size(&mut self, bytes: usize) {
        let was_initial = self.threshold == usize::MAX && self.bytes == self.initial();
        self.segment_size = bytes.max(1);
        self.bytes = if was_initial { self.initial() } else { self.bytes.max(self.segment_size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_windows_of_rfc_6928() {
        for (segment, window) in [(1_460, 14_600), (536, 5_360), (9_000, 18_000), (1_000, 10_000)] {
            assert_eq!(Window::new(segment, 10).initial(), window);
        }
    }

    #[test]
    fn the_initial_window_follows_the_segment_size_until_it_grew() {
        let mut window = Window::new(536, 10);
        window.set_segment_size(1_460);
        assert_eq!(window.bytes, 14_600);
        window.bytes += 1;
        window.set_segment_size(536);
        assert_eq!(window.bytes, 14_601);
    }
}
