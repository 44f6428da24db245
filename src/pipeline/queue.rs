//! `handoff: queue`, the reference: every message over a bounded channel, and each layer run by its own thread alone.
//!
//! The thread owns its layer. It sleeps only while there is nothing to do, in one place, until a message or the layer's deadline.

use super::inbox::Arrival;
use super::layer_loop::{Extra, LayerLoop};
use super::messages::{Message, Stage};
use crate::time::Clock;

impl<L: Stage, X: Extra<L::Message>> LayerLoop<L, X>
where
    L::Message: Message,
{
    /// Drives the layer until it is told to stop and has done what it had.
    pub(crate) fn run(&mut self) {
        while !self.is_finished() {
            self.step();
        }
    }

    /// One turn, after sleeping if there is nothing to do.
    pub(crate) fn step(&mut self) {
        let first = self.next_message();
        self.turn(self.pace.clock.now(), first, self.pace.batch_messages);
        self.wake_waiting();
    }

    /// A message, after sleeping if there is nothing else to do.
    fn next_message(&mut self) -> Option<L::Message> {
        match self.inbox.look() {
            Arrival::Message(message) => Some(message),
            Arrival::Kick => None,
            Arrival::Nothing if self.has_left_over() => None,
            Arrival::Nothing => self.sleep(),
        }
    }

    fn sleep(&mut self) -> Option<L::Message> {
        if self.layer.deadline().is_some_and(|deadline| deadline <= self.pace.clock.now()) {
            return None;
        }
        let arrival = self.inbox.wait(self.sleeps_until());
        self.count_wakeup();
        match arrival {
            Arrival::Message(message) => Some(message),
            Arrival::Kick | Arrival::Nothing => None,
        }
    }
}
