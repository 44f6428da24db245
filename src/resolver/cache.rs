//! Answers remembered for as long as their time to live allows.
//!
//! Owns the table and its bounds. Refuses to ask anybody, and to read a clock. Read RFC 1035 §3.2.1 (TTL) and RFC 2308 §5 (negative answers).

use super::query::{Answer, LookupError};
use crate::time::{Duration, Instant};
use crate::wire::dns::{Name, RecordType};
use std::collections::HashMap;

/// What came of a question: records, or the certainty that there are none.
pub type Outcome = Result<Answer, LookupError>;

/// A bounded table of answers by name (without regard to case) and type.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<(Name, RecordType), Entry>,
    bounds: Bounds,
    evicted: u64,
}

/// The limits of a [`Cache`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Answers in all; beyond it the one that expires soonest goes.
    pub entries: usize,
    /// Longest life of a positive answer.
    pub positive: Duration,
    /// Longest life of a negative answer.
    pub negative: Duration,
}

#[derive(Debug)]
struct Entry {
    stored: Instant,
    expires: Instant,
    outcome: Outcome,
}

impl Cache {
    /// An empty table.
    pub fn new(bounds: Bounds) -> Cache {
        Cache { entries: HashMap::new(), bounds, evicted: 0 }
    }

    /// What is known at `now`; the records' times to live are what is left of them.
    pub fn get(&mut self, now: Instant, name: &Name, kind: RecordType) -> Option<Outcome> {
        let key = (name.clone(), kind);
        let entry = self.entries.get(&key)?;
        if entry.expires <= now {
            self.entries.remove(&key);
            return None;
        }
        let age = now.since(entry.stored).as_secs().min(u32::MAX.into()) as u32;
        Some(entry.outcome.clone().map(|answer| aged(answer, age)))
    }

    /// Remembers what came of a question, if it may be remembered at all: failures of servers may not (RFC 2308 §7 allows five minutes
    /// at most; we ask again).
    pub fn put(&mut self, now: Instant, name: Name, kind: RecordType, outcome: &Outcome) {
        let Some(lifetime) = self.lifetime(outcome) else { return };
        if self.entries.len() >= self.bounds.entries && !self.entries.contains_key(&(name.clone(), kind)) {
            self.make_room(now);
        }
        if self.entries.len() < self.bounds.entries || self.entries.contains_key(&(name.clone(), kind)) {
            self.entries.insert((name, kind), Entry { stored: now, expires: now + lifetime, outcome: outcome.clone() });
        }
    }

    /// Answers that the bound pushed out before their time.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Answers in the table, expired ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn lifetime(&self, outcome: &Outcome) -> Option<Duration> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let lifetime = match outcome {
            Ok(answer) => seconds(answer.lifetime_seconds).min(self.bounds.positive),
            Err(LookupError::NoSuchName { lifetime_seconds } | LookupError::NoData { lifetime_seconds }) => {
                seconds((*lifetime_seconds)?).min(self.bounds.negative)
            }
            Err(_) => return None,
        };
        (lifetime > Duration::ZERO).then_some(lifetime)
    }

    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
        if self.entries.len() < self.bounds.entries {
            return;
        }
        let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.expires).map(|(key, _)| key.clone());
        if let Some(key) = soonest {
            self.entries.remove(&key);
            self.evicted += 1;
        }
    }
}

fn aged(mut answer: Answer, age: u32) -> Answer {
    answer.lifetime_seconds = answer.lifetime_seconds.saturating_sub(age);
    answer.records.iter_mut().for_each(|record| record.ttl = record.lifetime_seconds().saturating_sub(age));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dns::{Record, RecordData};

    const BOUNDS: Bounds = Bounds { entries: 3, positive: Duration::from_secs(100), negative: Duration::from_secs(10) };

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn answer(lifetime_seconds: u32) -> Outcome {
        let record = Record::new(name("a.test"), lifetime_seconds, RecordData::A([192, 0, 2, 1].into()));
        Ok(Answer { canonical_name: name("a.test"), records: vec![record], lifetime_seconds })
    }

    #[test]
    fn answers_live_as_long_as_they_say_and_age_meanwhile() {
        let mut cache = Cache::new(BOUNDS);
        cache.put(Instant::from_secs(1), name("a.test"), RecordType::A, &answer(30));
        let later = cache.get(Instant::from_secs(21), &name("A.TEST"), RecordType::A).unwrap().unwrap();
        assert_eq!((later.lifetime_seconds, later.records[0].ttl), (10, 10));
        assert!(cache.get(Instant::from_secs(21), &name("a.test"), RecordType::AAAA).is_none());
        assert!(cache.get(Instant::from_secs(31), &name("a.test"), RecordType::A).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn long_lives_are_capped_and_zero_is_not_kept() {
        let mut cache = Cache::new(BOUNDS);
        cache.put(Instant::ZERO, name("a.test"), RecordType::A, &answer(1_000_000));
        cache.put(Instant::ZERO, name("b.test"), RecordType::A, &answer(0));
        assert!(cache.get(Instant::from_secs(99), &name("a.test"), RecordType::A).is_some());
        assert!(cache.get(Instant::from_secs(100), &name("a.test"), RecordType::A).is_none());
        assert!(cache.get(Instant::ZERO, &name("b.test"), RecordType::A).is_none());
    }

    #[test]
    fn negative_answers_need_an_soa_and_live_shorter() {
        let mut cache = Cache::new(BOUNDS);
        cache.put(Instant::ZERO, name("a.test"), RecordType::A, &Err(LookupError::NoSuchName { lifetime_seconds: Some(3_600) }));
        cache.put(Instant::ZERO, name("b.test"), RecordType::A, &Err(LookupError::NoData { lifetime_seconds: None }));
        cache.put(Instant::ZERO, name("c.test"), RecordType::A, &Err(LookupError::TimedOut));
        assert!(matches!(cache.get(Instant::from_secs(9), &name("a.test"), RecordType::A), Some(Err(LookupError::NoSuchName { .. }))));
        assert!(cache.get(Instant::from_secs(10), &name("a.test"), RecordType::A).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn the_bound_pushes_out_what_expires_soonest() {
        let mut cache = Cache::new(BOUNDS);
        for (text, seconds) in [("a", 30), ("b", 20), ("c", 40), ("d", 50)] {
            cache.put(Instant::ZERO, name(text), RecordType::A, &answer(seconds));
        }
        assert_eq!((cache.len(), cache.evicted()), (3, 1));
        assert!(cache.get(Instant::ZERO, &name("b"), RecordType::A).is_none());
        cache.put(Instant::from_secs(35), name("e"), RecordType::A, &answer(5));
        assert_eq!(cache.evicted(), 1, "an expired answer made room");
    }
}
