//! The real clock.

use crate::time::{Clock, Instant};

/// The system's monotonic clock, counted from the stack's start.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RealClock {
    origin: std::time::Instant,
}

impl RealClock {
    /// A clock that starts now.
    pub(crate) fn start() -> RealClock {
        RealClock { origin: std::time::Instant::now() }
    }

    /// When `moment` comes, as the operating system counts; `None` if it never will.
    pub(crate) fn system_time(&self, moment: Instant) -> Option<std::time::Instant> {
        self.origin.checked_add(moment.since(Instant::ZERO))
    }
}

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}
