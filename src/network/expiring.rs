//! What is remembered about destinations for a while: a bounded map whose entries end by themselves.
//!
//! Owns expiry and eviction. Refuses to run a timer: what is over is not found, and goes when its place is needed.

use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The map. When it is full, the entry that ends first goes.
pub(super) struct Expiring<V> {
    most_entries: usize,
    lifetime: Duration,
    entries: BTreeMap<IpAddr, (V, Instant)>,
    ends: BTreeSet<(Instant, IpAddr)>,
}

impl<V: Copy> Expiring<V> {
    pub(super) fn new(most_entries: usize, lifetime: Duration) -> Expiring<V> {
        Expiring { most_entries, lifetime, entries: BTreeMap::new(), ends: BTreeSet::new() }
    }

    pub(super) fn get(&self, now: Instant, key: IpAddr) -> Option<V> {
        self.entries.get(&key).filter(|(_, ends)| now < *ends).map(|(value, _)| *value)
    }

    /// Remembers `value`, from now on for a lifetime. Says whether another entry had to go for it.
    pub(super) fn insert(&mut self, now: Instant, key: IpAddr, value: V) -> bool {
        self.remove(key);
        if self.most_entries == 0 {
            return true;
        }
        let is_full = self.entries.len() >= self.most_entries;
        let first = self.ends.first().filter(|_| is_full).copied();
        if let Some((_, victim)) = first {
            self.remove(victim);
        }
        let ends = now + self.lifetime;
        self.entries.insert(key, (value, ends));
        self.ends.insert((ends, key));
        first.is_some()
    }

    pub(super) fn remove(&mut self, key: IpAddr) {
        if let Some((_, ends)) = self.entries.remove(&key) {
            self.ends.remove(&(ends, key));
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, number])
    }

    #[test]
    fn what_is_over_is_not_found() {
        let mut map = Expiring::new(3, Duration::from_secs(10));
        assert!(!map.insert(Instant::ZERO, key(1), 'a'));
        assert_eq!(map.get(Instant::from_millis(9_999), key(1)), Some('a'));
        assert_eq!(map.get(Instant::from_secs(10), key(1)), None);
        map.insert(Instant::from_secs(11), key(1), 'b');
        assert_eq!(map.get(Instant::from_secs(12), key(1)), Some('b'));
        map.clear();
        assert_eq!((map.get(Instant::from_secs(12), key(1)), map.ends.len()), (None, 0));
    }

    #[test]
    fn a_full_map_lets_go_of_what_ends_first() {
        let mut map = Expiring::new(3, Duration::from_secs(10));
        let evicted = [1, 2, 3, 1, 4].map(|number| map.insert(Instant::from_millis(number.into()), key(number), number));
        assert_eq!(evicted, [false, false, false, false, true]);
        let now = Instant::from_secs(1);
        assert_eq!([1, 2, 3, 4].map(|number| map.get(now, key(number)).is_some()), [false, true, true, true]);
        assert_eq!((map.entries.len(), map.ends.len()), (3, 3));
        assert!(Expiring::new(0, Duration::from_secs(1)).insert(now, key(1), 'a'), "no room at all");
    }
}
