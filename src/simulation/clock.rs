//! A clock that is turned by hand.

use crate::time::{Clock, Instant};
use std::sync::atomic::{AtomicU64, Ordering};

/// Virtual time: starts at zero, and moves when somebody says so.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    /// Moves on to `instant`; never back.
    pub fn advance_to(&self, instant: Instant) {
        self.0.fetch_max(instant.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
