//! A token bucket: so many per second, with a burst of as many (RFC 1812 §4.3.2.8).
//!
//! Owns the count. Refuses to arm a timer: it is filled when somebody looks.

use crate::time::Instant;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Limits how often something happens, such as challenge ACKs (RFC 5961 §7) and ICMP errors.
#[derive(Clone, Debug)]
pub struct RateLimit {
    per_second: u32,
    /// Permits left, in billionths.
    level: u64,
    filled: Instant,
}

impl RateLimit {
    /// At most `per_second` a second; full at the start.
    pub fn new(per_second: u32) -> RateLimit {
        RateLimit { per_second, level: capacity(per_second), filled: Instant::ZERO }
    }

    /// Takes a permit, if there is one.
    pub fn allow(&mut self, now: Instant) -> bool {
        let gained = u64::try_from(now.since(self.filled).as_nanos()).unwrap_or(u64::MAX).saturating_mul(self.per_second.into());
        self.filled = now;
        self.level = self.level.saturating_add(gained).min(capacity(self.per_second));
        let left = self.level.checked_sub(NANOS_PER_SECOND);
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }
}

fn capacity(per_second: u32) -> u64 {
    u64::from(per_second).saturating_mul(NANOS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_then_the_rate() {
        let mut limit = RateLimit::new(10);
        let mut taken = |millis| (0..100).filter(|_| limit.allow(Instant::from_millis(millis))).count();
        assert_eq!(taken(0), 10);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(250), 2);
        assert_eq!(taken(100_000), 10);
    }

    #[test]
    fn none_per_second_is_none() {
        assert!(!RateLimit::new(0).allow(Instant::from_secs(100)));
    }
}
