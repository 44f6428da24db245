//! A connection's timers: one enum, one table, one next deadline.
//!
//! Owns deadlines. Refuses to know what happens when one is due: [`Connection::run_timers`](super::Connection::run_timers) has the one match.

use crate::time::Instant;

/// What a connection may wait for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The oldest unacknowledged byte is sent again (RFC 6298).
    Retransmission,
    /// What may only be late is judged (RFC 8985 §6.2).
    Reordering,
    /// The end of a flight is probed (RFC 8985 §7.2).
    LossProbe,
    /// Data that was held back goes (`pacing`).
    Pacing,
    /// A closed window is probed (RFC 9293 §3.8.6.1).
    Persist,
    /// An idle peer is probed (RFC 9293 §3.8.4).
    Keepalive,
    /// An orphan has waited long enough for the peer's FIN.
    FinWait2,
    /// The linger time of a released connection is over.
    Linger,
    /// 2 MSL have passed (RFC 9293 §3.6.1).
    TimeWait,
    /// A delayed acknowledgement is sent (RFC 9293 §3.8.6.3). The last one: it alone may be late.
    DelayedAcknowledgement,
}

impl Timer {
    const ALL: [Timer; 10] = [
        Timer::Retransmission,
        Timer::Reordering,
        Timer::LossProbe,
        Timer::Pacing,
        Timer::Persist,
        Timer::Keepalive,
        Timer::FinWait2,
        Timer::Linger,
        Timer::TimeWait,
        Timer::DelayedAcknowledgement,
    ];
}

/// The deadline of a timer that is not armed.
const NEVER: Instant = Instant::FAR_FUTURE;

/// The table.
#[derive(Debug)]
pub(super) struct Timers {
    deadlines: [Instant; Timer::ALL.len()],
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { deadlines: [NEVER; Timer::ALL.len()] }
    }
}

impl Timers {
    /// Arms `timer`, or moves it.
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.put(timer, Some(deadline));
    }

    /// Arms `timer` unless it is armed.
    pub(super) fn set_if_idle(&mut self, timer: Timer, deadline: Instant) {
        if !self.is_set(timer) {
            self.set(timer, deadline);
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.put(timer, None);
    }

    pub(super) fn cancel_all(&mut self) {
        *self = Timers::default();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.deadlines.get(timer as usize).copied().filter(|&deadline| deadline != NEVER)
    }

    /// Whether no timer is armed, except perhaps `exempt`.
    pub(super) fn is_idle_but_for(&self, exempt: Timer) -> bool {
        Timer::ALL.into_iter().all(|timer| timer == exempt || !self.is_set(timer))
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().min().copied().filter(|&deadline| deadline != NEVER)
    }

    /// The same without a delayed acknowledgement's, which may be later (RFC 9293 §3.8.6.3 allows half a second).
    pub(super) fn next_exact(&self) -> Option<Instant> {
        let (_relaxed, exact) = self.deadlines.split_last()?;
        exact.iter().min().copied().filter(|&deadline| deadline != NEVER)
    }

    /// A timer that is due at `now`, the earliest first; it is disarmed.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let earliest = self.next_deadline().filter(|&deadline| deadline <= now)?;
        let due = Timer::ALL.into_iter().find(|&timer| self.get(timer) == Some(earliest))?;
        self.cancel(due);
        Some(due)
    }

    fn put(&mut self, timer: Timer, deadline: Option<Instant>) {
        if let Some(place) = self.deadlines.get_mut(timer as usize) {
            *place = deadline.unwrap_or(NEVER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_come_earliest_first_and_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, Instant::from_secs(2));
        timers.set(Timer::Retransmission, Instant::from_secs(3));
        timers.set(Timer::TimeWait, Instant::from_secs(9));
        timers.set_if_idle(Timer::Retransmission, Instant::from_secs(1));
        assert_eq!(timers.next_deadline(), Some(Instant::from_secs(2)));
        timers.set(Timer::DelayedAcknowledgement, Instant::from_secs(1));
        assert_eq!((timers.next_deadline(), timers.next_exact()), (Some(Instant::from_secs(1)), Some(Instant::from_secs(2))));
        timers.cancel(Timer::DelayedAcknowledgement);
        let due: Vec<_> = std::iter::from_fn(|| timers.take_due(Instant::from_secs(3))).collect();
        assert_eq!(due, [Timer::Keepalive, Timer::Retransmission]);
        timers.cancel_all();
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn the_table_has_a_place_for_each_timer() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }
}
