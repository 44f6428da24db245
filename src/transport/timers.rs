//! When to visit which connection again.
//!
//! Owns one wake-up time for each connection that has any timer armed: none for the idle ones. Refuses to know what the timers are
//! for. A wake-up is only ever moved forward in time when it comes due: a connection that postpones or cancels its timers (each acknowledgement does)
//! costs nothing here, it is visited once too early and asked again. So there are never more entries than connections, and each costs
//! O(log n) in those that are armed.

use crate::time::Instant;
use std::collections::BTreeSet;

/// The wake-up that is on the list for one connection; kept beside the connection.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Armed(Option<Instant>);

/// The list of wake-ups.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wakes: BTreeSet<(Instant, usize)>,
}

impl Timers {
    /// Makes sure that `key` is visited at `wanted` or before.
    pub(super) fn arm(&mut self, key: usize, armed: &mut Armed, wanted: Option<Instant>) {
        let Some(wanted) = wanted else { return };
        if armed.0.is_some_and(|at| at <= wanted) {
            return;
        }
        self.disarm(key, armed);
        self.wakes.insert((wanted, key));
        armed.0 = Some(wanted);
    }

    /// Takes `key` off the list: its connection is gone.
    pub(super) fn disarm(&mut self, key: usize, armed: &mut Armed) {
        if let Some(at) = armed.0.take() {
            self.wakes.remove(&(at, key));
        }
    }

    /// The earliest wake-up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.wakes.first().map(|&(at, _)| at)
    }

    /// Takes one key off the list that is due at `now`. Its owner resets the [`Armed`] beside it with [`Armed::fired`].
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let &(at, key) = self.wakes.first()?;
        if at > now {
            return None;
        }
        self.wakes.pop_first();
        Some(key)
    }

    /// How many connections are on the list.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wakes.len()
    }
}

impl Armed {
    /// Notes that the wake-up was taken off the list by [`Timers::pop_due`].
    pub(super) fn fired(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Option<Instant> {
        Some(Instant::from_millis(millis))
    }

    #[test]
    fn an_earlier_wish_replaces_a_later_one_and_never_adds_to_it() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        for millis in [7_200_000, 40, 200, 40, 30] {
            timers.arm(3, &mut armed, at(millis));
            assert_eq!(timers.len(), 1);
        }
        assert_eq!(timers.next(), at(30));
        timers.arm(3, &mut armed, None);
        assert_eq!(timers.next(), at(30), "a cancelled timer is visited once in vain");
    }

    #[test]
    fn what_is_due_comes_out_in_order_and_nothing_else() {
        let mut timers = Timers::default();
        let mut armed = [Armed::default(); 3];
        for (key, millis) in [(0, 30), (1, 10), (2, 20)] {
            timers.arm(key, &mut armed[key], at(millis));
        }
        let mut due = std::iter::from_fn(|| timers.pop_due(Instant::from_millis(20)));
        assert_eq!((due.next(), due.next(), due.next()), (Some(1), Some(2), None));
        armed[1].fired();
        timers.arm(1, &mut armed[1], at(50));
        assert_eq!((timers.len(), timers.next()), (2, at(30)));
    }

    #[test]
    fn a_connection_that_goes_leaves_nothing_behind() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        timers.arm(3, &mut armed, at(10));
        timers.disarm(3, &mut armed);
        timers.disarm(3, &mut armed);
        assert_eq!((timers.len(), timers.next()), (0, None));
    }

    #[test]
    fn years_of_delayed_acknowledgements_beside_a_keepalive_keep_one_entry() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        for round in 0..1_000 {
            timers.arm(3, &mut armed, at(7_200_000 + round));
            timers.arm(3, &mut armed, at(round + 1));
            assert_eq!(timers.pop_due(Instant::from_millis(round + 1)), Some(3));
            armed.fired();
            assert_eq!(timers.len(), 0);
        }
    }
}
