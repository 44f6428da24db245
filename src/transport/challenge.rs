//! The stack's budget of challenge ACKs (RFC 5961 §7).
//!
//! Owns the count. A fixed budget for all connections would be a side channel: whoever uses it up on a connection of his own, and counts what is left of
//! it, learns whether another connection was challenged by what he forged for it, and so finds ports and numbers (CVE-2016-5696). So each second's
//! budget is drawn anew, between half and one and a half of what is configured, and each connection has a limit of its own besides.

use crate::random::SecretRandom;
use crate::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// How many challenge ACKs may still be sent.
#[derive(Debug)]
pub struct ChallengeBudget {
    per_second: u32,
    left: u32,
    since: Option<Instant>,
}

impl ChallengeBudget {
    /// About `per_second` a second; zero is none.
    pub fn new(per_second: u32) -> ChallengeBudget {
        ChallengeBudget { per_second, left: 0, since: None }
    }

    /// Takes a permit, if there is one.
    pub fn allow(&mut self, now: Instant, random: &mut SecretRandom) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= SECOND) {
            self.since = Some(now);
            self.left = self.per_second.div_ceil(2).saturating_add(random.below(self.per_second));
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_budget_of_each_second_is_another_one() {
        let (mut budget, mut random) = (ChallengeBudget::new(100), SecretRandom::from_seed(1));
        let mut granted = |secs| (0..1_000).filter(|_| budget.allow(Instant::from_secs(secs), &mut random)).count();
        let counts: BTreeSet<usize> = (0..20).map(&mut granted).collect();
        assert!(counts.len() > 10, "{counts:?} can be counted on");
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn none_per_second_is_none() {
        let (mut budget, mut random) = (ChallengeBudget::new(0), SecretRandom::from_seed(1));
        assert!(!budget.allow(Instant::from_secs(100), &mut random));
    }
}
