//! Injected time.
//!
//! Owns the one notion of time that protocol code knows: an [`Instant`] that somebody else read from a clock. Refuses to read a
//! clock itself: the pipeline reads a real one once for each batch, the simulation turns a virtual one by hand.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

/// Nanoseconds since the stack's clock started. Never negative, monotonic, 584 years long.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more than the nanoseconds: so an `Option<Instant>` takes no more room than an `Instant`.
    NonZeroU64,
);

impl Instant {
    /// The clock's origin.
    pub const ZERO: Instant = Instant(NonZeroU64::MIN);
    /// Later than anything that happens.
    pub const FAR_FUTURE: Instant = Instant(NonZeroU64::MAX);

    /// The moment this many nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The moment this many microseconds after the clock's origin.
    pub const fn from_micros(micros: u64) -> Instant {
        Instant::from_nanos(micros.saturating_mul(1_000))
    }

    /// The moment this many milliseconds after the clock's origin.
    pub const fn from_millis(millis: u64) -> Instant {
        Instant::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// The moment this many seconds after the clock's origin.
    pub const fn from_secs(secs: u64) -> Instant {
        Instant::from_nanos(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole microseconds since the clock's origin.
    pub const fn as_micros(self) -> u64 {
        self.as_nanos() / 1_000
    }

    /// Whole milliseconds since the clock's origin.
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The moment `duration` before this one, or the clock's origin.
    pub const fn before(self, duration: Duration) -> Instant {
        Instant::from_nanos(self.as_nanos().saturating_sub(saturating_nanos(duration)))
    }
}

/// A clock that a driver of layers reads: the pipeline's is real, the simulation's is virtual.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Instant;
}

impl Default for Instant {
    fn default() -> Instant {
        Instant::ZERO
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(saturating_nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.as_nanos() / 1_000_000_000, self.as_micros() % 1_000_000)
    }
}

const fn saturating_nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::from_millis(5) - Instant::from_millis(9), Duration::ZERO);
        assert_eq!(Instant::FAR_FUTURE + Duration::from_secs(1), Instant::FAR_FUTURE);
        assert_eq!(Instant::from_secs(1).before(Duration::MAX), Instant::ZERO);
        assert_eq!(Instant::from_secs(2) - Instant::from_millis(500), Duration::from_millis(1500));
    }

    #[test]
    fn an_instant_that_may_be_missing_takes_no_more_room() {
        assert_eq!((size_of::<Option<Instant>>(), Instant::ZERO.as_nanos(), Instant::from_nanos(7).as_nanos()), (8, 0, 7));
    }

    #[test]
    fn debug_shows_seconds() {
        assert_eq!(format!("{:?}", Instant::from_micros(1_000_042)), "1.000042s");
    }
}
