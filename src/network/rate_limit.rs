//! A token bucket: so much per second, and a burst of as much (RFC 1812 §4.3.2.8).

use crate::time::Instant;

/// Parts of a token: what one nanosecond brings at one token per second.
const TOKEN: u64 = 1_000_000_000;

/// The bucket. Filled when somebody looks, not by a timer.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: u64,
    parts: u64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32) -> TokenBucket {
        let per_second = u64::from(per_second);
        TokenBucket { per_second, parts: per_second * TOKEN, filled: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = u64::try_from((now - self.filled).as_nanos()).unwrap_or(u64::MAX);
        self.filled = now.max(self.filled);
        self.parts = self.parts.saturating_add(passed.saturating_mul(self.per_second)).min(self.per_second * TOKEN);
        let left = self.parts.checked_sub(TOKEN);
        self.parts = left.unwrap_or(self.parts);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10);
        assert_eq!(taken(&mut bucket, Instant::ZERO, 100), 10);
        assert_eq!(taken(&mut bucket, Instant::from_millis(99), 100), 0);
        assert_eq!(taken(&mut bucket, Instant::from_millis(100), 100), 1);
        assert_eq!(taken(&mut bucket, Instant::from_secs(1_000), 100), 10);
        assert_eq!(taken(&mut bucket, Instant::FAR_FUTURE, 100), 10);
        assert_eq!(taken(&mut TokenBucket::new(0), Instant::from_secs(9), 5), 0);
        assert_eq!(taken(&mut TokenBucket::new(u32::MAX), Instant::FAR_FUTURE, 5), 5);
    }
}
