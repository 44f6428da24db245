//! One layer, turned by hand as its thread would turn it.
//!
//! Owns the order of a turn: messages, then what is due, then the batch's end, as in `pipeline/layer_loop.rs`; and how late a turn is, as threads are that have to
//! be woken, or have lost the processor. Refuses to carry what came of it away.

use crate::layer::{Layer, Outbox};
use crate::random::PublicRandom;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Messages from the inbox that a late turn takes at most, as a run of a real layer does.
const BATCH_MESSAGES: u32 = 64;

/// A layer, what waits for it, and what came of it.
pub(super) struct Driven<L: Layer> {
    pub(super) layer: L,
    pub(super) inbox: VecDeque<L::Message>,
    pub(super) out: Outbox<L::Up, L::Down>,
    lag: Lag,
    /// When the turn takes place for which there is something to do.
    turn_at: Option<Instant>,
}

/// How late turns are.
pub(super) struct Lag {
    most: Duration,
    random: PublicRandom,
}

impl Lag {
    /// At most so late; not at all, if that is zero.
    pub(super) fn new(most: Duration, seed: u64) -> Lag {
        Lag { most, random: PublicRandom::from_seed(seed) }
    }

    /// Half of all turns are in time, and most others a little late.
    fn next(&mut self) -> Duration {
        if self.most.is_zero() || self.random.chance(0.5) {
            return Duration::ZERO;
        }
        self.most.mul_f64(self.random.unit().powi(3))
    }

    /// How many messages a turn takes.
    fn batch(&mut self) -> usize {
        if self.most.is_zero() { usize::MAX } else { 1 + self.random.below(BATCH_MESSAGES) as usize }
    }
}

impl<L: Layer> Driven<L> {
    pub(super) fn new(layer: L, out: Outbox<L::Up, L::Down>, lag: Lag) -> Driven<L> {
        Driven { layer, inbox: VecDeque::new(), out, lag, turn_at: None }
    }

    /// A turn, if there is something to do and its time has come; says whether there was one. What comes beside the inbox follows what is in it.
    pub(super) fn turn(&mut self, now: Instant, beside: &mut VecDeque<L::Message>) -> bool {
        if self.inbox.is_empty() && beside.is_empty() && !self.layer.is_due(now) {
            self.turn_at = None;
            return false;
        }
        let lag = &mut self.lag;
        if *self.turn_at.get_or_insert_with(|| now + lag.next()) > now {
            return false;
        }
        self.turn_at = None;
        self.out.set_now(now);
        let count = self.lag.batch().min(self.inbox.len());
        for message in self.inbox.drain(..count).chain(beside.drain(..)) {
            self.layer.handle(now, message, &mut self.out);
        }
        self.layer.end_turn(now, &mut self.out);
        true
    }

    /// The next turn is not late: somebody waits for it.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.turn_at = Some(now);
    }

    /// When the layer next does something by itself.
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.turn_at.or_else(|| self.layer.deadline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use std::convert::Infallible;
    use std::sync::Arc;

    /// Writes down what it is told, and wants its timers run once.
    #[derive(Default)]
    struct Diary {
        lines: Vec<String>,
        deadline: Option<Instant>,
    }

    impl Layer for Diary {
        type Message = u8;
        type Up = Infallible;
        type Down = Infallible;

        fn handle(&mut self, _now: Instant, message: u8, _out: &mut Outbox<Infallible, Infallible>) {
            self.lines.push(format!("message {message}"));
        }

        fn end_batch(&mut self, now: Instant, _out: &mut Outbox<Infallible, Infallible>) {
            self.lines.push(format!("end at {}", now.as_millis()));
        }

        fn deadline(&self) -> Option<Instant> {
            self.deadline
        }

        fn run_timers(&mut self, _now: Instant, _out: &mut Outbox<Infallible, Infallible>) {
            self.lines.push("timers".into());
            self.deadline = None;
        }
    }

    fn diary(lag: Duration, seed: u64) -> Driven<Diary> {
        let layer = Diary { deadline: Some(Instant::from_millis(5)), ..Diary::default() };
        Driven::new(layer, Outbox::new(Arc::new(Counters::default())), Lag::new(lag, seed))
    }

    #[test]
    fn messages_come_before_what_is_due_and_that_before_the_end() {
        let mut driven = diary(Duration::ZERO, 1);
        assert!(!driven.turn(Instant::from_millis(4), &mut VecDeque::new()), "nothing to do");
        assert_eq!(driven.next_event(), Some(Instant::from_millis(5)));
        driven.inbox.extend([1, 2]);
        assert!(driven.turn(Instant::from_millis(5), &mut [3].into()));
        assert_eq!(driven.layer.lines, ["message 1", "message 2", "message 3", "timers", "end at 5"]);
        assert_eq!(driven.next_event(), None);
    }

    #[test]
    fn who_is_late_finds_what_has_fallen_due_meanwhile() {
        let late = (0..100).filter(|&seed| {
            let mut driven = diary(Duration::from_millis(100), seed);
            driven.inbox.push_back(1);
            let mut now = Instant::ZERO;
            while !driven.turn(now, &mut VecDeque::new()) {
                now = driven.next_event().expect("a late turn");
            }
            driven.layer.lines[..2] == ["message 1", "timers"]
        });
        assert!((10..=50).contains(&late.count()), "half of them come in time, and some others before five milliseconds are over");
    }

    #[test]
    fn who_is_waited_for_is_not_late() {
        for seed in 0..100 {
            let mut driven = diary(Duration::from_millis(100), seed);
            driven.inbox.push_back(1);
            driven.hurry(Instant::ZERO);
            assert!(driven.turn(Instant::ZERO, &mut VecDeque::new()));
        }
    }
}
