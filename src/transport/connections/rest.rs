//! Connections that have had nothing to do for a while come to rest.
//!
//! Owns the list of those to be looked at. Refuses to look at the others: a connection is on the list once, and only while it was visited lately, so that
//! an idle stack has nobody on it, and sleeps.

use super::Connections;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// The moments at which connections are looked at, in one waiting time: so seldom does a busy stack wake up for it.
const MOMENTS: u32 = 8;
/// Connections that are looked at before others have their turn.
const AT_ONCE: usize = 1_024;

/// Who may come to rest when, in the order of time.
#[derive(Debug)]
pub(super) struct MayRest {
    list: VecDeque<(Instant, u32)>,
    wait: Duration,
}

impl MayRest {
    /// Nobody yet. Who was not visited for `wait` may rest.
    pub(super) fn new(wait: Duration) -> MayRest {
        MayRest { list: VecDeque::new(), wait }
    }

    /// Lists `key`; says for when.
    fn push(&mut self, key: usize, now: Instant) -> Option<Instant> {
        let key = u32::try_from(key).ok()?;
        let moment = u64::try_from((self.wait / MOMENTS).as_nanos()).unwrap_or(u64::MAX).max(1);
        let at = Instant::from_nanos((now + self.wait).as_nanos().div_ceil(moment).saturating_mul(moment));
        self.list.push_back((at, key));
        Some(at)
    }

    /// Connections that were visited lately.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// When somebody is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.front().map(|&(at, _)| at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let &(at, key) = self.list.front().filter(|&&(at, _)| at <= now)?;
        self.list.pop_front();
        Some((at, key as usize))
    }
}

impl Connections {
    /// The connection was visited: it is to be looked at when it may have come to rest.
    pub(super) fn note_visit(&mut self, key: usize, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.listed_at.is_none() {
            entry.listed_at = self.may_rest.push(key, now);
            entry.is_lively = false;
        } else {
            entry.is_lively = true;
        }
    }

    /// Lays to rest whoever was not visited since it was listed. Who cannot rest is listed again when something concerns it.
    pub(super) fn lay_to_rest(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some((at, key)) = self.may_rest.pop_due(now) else { return };
            // The place may be another connection's by now.
            let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.listed_at == Some(at)) else { continue };
            entry.listed_at = None;
            if entry.is_lively {
                self.note_visit(key, now);
            } else {
                entry.rest();
            }
        }
    }
}
