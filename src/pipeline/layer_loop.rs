//! One turn of a layer, the same in every hand-off: take a batch, run what is due, carry the outcome away.
//!
//! Owns a layer, its inbox and its ports. Refuses to wait, and to know whose thread it runs on: `queue.rs` and `combining.rs` do. The clock is read once for a
//! batch.

use super::clock::RealClock;
use super::inbox::{Arrival, Entry, Inbox, Refusal, Refused};
use super::marks::DirtyReader;
use super::messages::{Message, Stage};
use crate::counters::{Counter, Counters};
use crate::layer::{DropReason, Outbox};
use crate::packet::Packet;
use crate::time::{Clock, Instant};
use crate::transport;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a layer's output goes.
pub(crate) trait Port<M>: Send {
    /// Carries all of `messages` away, in order; packets that find no room go to `refuse`. Called once for each batch that has messages, and for any while
    /// something waits here.
    fn carry(&mut self, messages: &mut VecDeque<M>, refuse: &mut dyn FnMut(DropReason, Packet));

    /// Whether nothing waits here.
    fn is_empty(&self) -> bool {
        true
    }

    /// From now on messages may go by `desk`.
    fn connect(&mut self, _desk: Arc<dyn Desk<M>>) {}
}

/// Where messages can be laid before a layer.
pub(crate) trait Desk<M>: Send + Sync {
    /// Takes over all of `messages` if nobody is at the layer, and nothing waits for it; else none.
    fn lay(&self, messages: &mut VecDeque<M>);
}

/// Messages that come to a layer beside its inbox.
pub(crate) trait Extra<M>: Send {
    /// Takes over what has come.
    fn refill(&mut self);
    /// The next one of those taken over.
    fn next(&mut self) -> Option<M>;
    /// Whether all of them were given.
    fn is_empty(&self) -> bool;
}

/// The next layer's inbox.
pub(crate) struct EntryPort<M> {
    entry: Entry<M>,
    counters: Arc<Counters>,
    /// The short way.
    desk: Option<Arc<dyn Desk<M>>>,
}

/// Above the topmost layer there is nothing.
pub(crate) struct Nowhere;

/// How others hold a loop: its end, and the question whether the layer has become quiet.
#[derive(Default)]
pub(crate) struct Reins {
    stop: AtomicBool,
    quiet_wanted: AtomicBool,
    state: Mutex<ReinsState>,
    changed: Condvar,
}

#[derive(Default)]
struct ReinsState {
    stop_by: Option<std::time::Instant>,
    quiet: bool,
    hurried: bool,
}

/// A layer with everything that it takes to drive it.
pub(crate) struct LayerLoop<L: Stage, X> {
    pub(crate) layer: L,
    pub(crate) inbox: Inbox<L::Message>,
    /// What was laid before the layer: it came before all that is in the inbox.
    pub(crate) laid: VecDeque<L::Message>,
    pub(crate) extra: X,
    pub(crate) out: Outbox<L::Up, L::Down>,
    pub(crate) up: Box<dyn Port<L::Up>>,
    pub(crate) down: Box<dyn Port<L::Down>>,
    pub(crate) pace: Pace,
    pub(crate) reins: Arc<Reins>,
}

/// How a loop counts: time, messages, wake-ups.
#[derive(Copy, Clone)]
pub(crate) struct Pace {
    /// The real clock.
    pub(crate) clock: RealClock,
    /// Messages between two flushes.
    pub(crate) batch_messages: usize,
    /// Which counter counts its wake-ups.
    pub(crate) wakeups: fn(&Counters) -> &Counter,
}

impl<L: Stage, X: Extra<L::Message>> LayerLoop<L, X>
where
    L::Message: Message,
{
    /// One turn: `first`, if there is one, and what is in the inbox, at most `limit` messages. Says how many there were. Whom to wake stays in the outbox:
    /// it may have to wait for a lock's release.
    ///
    /// It takes place at `now`, or when the last one did, if that was later: others may have run the layer since the caller read the clock.
    pub(crate) fn turn(&mut self, now: Instant, first: Option<L::Message>, limit: usize) -> usize {
        let now = now.max(self.out.now());
        self.out.set_now(now);
        let count = self.run_batch(now, first, limit);
        self.layer.end_turn(now, &mut self.out);
        self.flush();
        self.report_quiet();
        count
    }

    /// Wakes whoever waits for what the last turn has done: once for the batch.
    pub(crate) fn wake_waiting(&mut self) {
        for waiting in self.out.wakes.drain(..) {
            waiting.notify();
        }
    }

    /// Whether something is left to do at once, beside what is in the channel.
    pub(crate) fn has_left_over(&self) -> bool {
        self.inbox.has_state() || !self.extra.is_empty() || !self.laid.is_empty()
    }

    /// When the layer's timers have to be run, or the loop has to end; `None` while nothing of that is in sight.
    pub(crate) fn sleeps_until(&self) -> Option<std::time::Instant> {
        let timer = self.layer.sleeps_until().and_then(|deadline| self.pace.clock.system_time(deadline));
        [timer, self.reins.stop_by()].into_iter().flatten().min()
    }

    /// Counts that the layer's own thread was woken.
    pub(crate) fn count_wakeup(&self) {
        (self.pace.wakeups)(self.out.counters()).increment();
    }

    /// State first, then messages, then what came beside the inbox: each at most a batch. A kick is opened before the look at what it is about.
    fn run_batch(&mut self, now: Instant, first: Option<L::Message>, limit: usize) -> usize {
        let mut count = 0;
        if let Some(message) = first {
            self.handle(now, message);
            count += 1;
        }
        while count < limit
            && let Some(message) = self.laid.pop_front()
        {
            self.handle(now, message);
            count += 1;
        }
        while count < limit && !self.inbox.is_empty() {
            match self.inbox.look() {
                Arrival::Message(message) => self.handle(now, message),
                Arrival::Kick => continue,
                Arrival::Nothing => break,
            }
            count += 1;
        }
        if self.inbox.has_state() {
            self.take_state(now);
        }
        if count > 0 {
            self.out.counters().pipeline.messages.add(count as u64);
        }
        count + self.run_extra(now, limit)
    }

    fn take_state(&mut self, now: Instant) {
        for message in self.inbox.take_state() {
            self.handle(now, message);
        }
    }

    fn run_extra(&mut self, now: Instant, limit: usize) -> usize {
        self.extra.refill();
        for count in 0..limit {
            let Some(message) = self.extra.next() else { return count };
            self.handle(now, message);
        }
        limit
    }

    fn handle(&mut self, now: Instant, message: L::Message) {
        self.layer.handle(now, message, &mut self.out);
    }

    /// Down, then up.
    fn flush(&mut self) {
        if !self.out.down.is_empty() || !self.down.is_empty() {
            let mut down = std::mem::take(&mut self.out.down);
            self.down.carry(&mut down, &mut |reason, packet| self.out.drop_packet(reason, packet));
            self.out.down = down;
        }
        if !self.out.up.is_empty() {
            let mut up = std::mem::take(&mut self.out.up);
            self.up.carry(&mut up, &mut |reason, packet| self.out.drop_packet(reason, packet));
            self.out.up = up;
        }
    }

    fn report_quiet(&self) {
        let asked = self.reins.quiet_wanted.load(Ordering::SeqCst);
        if asked && !self.has_left_over() && self.layer.is_quiet() {
            self.reins.report_quiet();
        }
    }

    /// Told to stop, and nothing is left or the time for it is over.
    pub(crate) fn is_finished(&self) -> bool {
        if !self.reins.stop.load(Ordering::SeqCst) {
            return false;
        }
        let idle = self.inbox.is_empty() && !self.has_left_over() && self.down.is_empty();
        idle || self.reins.stop_by().is_some_and(|deadline| deadline <= std::time::Instant::now())
    }

    /// Hands the layer one last message, outside the loop, and wakes whoever that concerns.
    pub(crate) fn last_message(&mut self, message: L::Message) {
        let now = self.pace.clock.now();
        self.handle(now, message);
        self.wake_waiting();
    }
}

impl Reins {
    /// Ends the loop once it has done what it has, at the latest at `deadline`. A kick has to follow.
    pub(crate) fn stop(&self, deadline: std::time::Instant) {
        self.state.lock().stop_by = Some(deadline);
        self.stop.store(true, Ordering::SeqCst);
    }

    fn stop_by(&self) -> Option<std::time::Instant> {
        if self.stop.load(Ordering::SeqCst) { self.state.lock().stop_by } else { None }
    }

    /// From now on the loop says when its layer is quiet. A kick has to follow.
    pub(crate) fn ask_for_quiet(&self) {
        self.quiet_wanted.store(true, Ordering::SeqCst);
    }

    /// Waits until the layer is quiet (true), `timeout` has passed, or somebody is in a hurry.
    pub(crate) fn wait_quiet(&self, timeout: std::time::Duration) -> bool {
        let mut state = self.state.lock();
        let busy = |state: &mut ReinsState| !state.quiet && !state.hurried;
        match std::time::Instant::now().checked_add(timeout) {
            Some(deadline) => {
                self.changed.wait_while_until(&mut state, busy, deadline);
            }
            None => self.changed.wait_while(&mut state, busy),
        }
        state.quiet
    }

    /// Ends the wait of [`Reins::wait_quiet`].
    pub(crate) fn hurry(&self, hurried: bool) {
        self.state.lock().hurried = hurried;
        self.changed.notify_all();
    }

    /// The layer is quiet, or has ended.
    pub(crate) fn report_quiet(&self) {
        self.state.lock().quiet = true;
        self.changed.notify_all();
    }
}

impl<M: Message> EntryPort<M> {
    /// To the inbox behind `entry`, and by no other way yet.
    pub(crate) fn new(entry: Entry<M>, counters: Arc<Counters>) -> EntryPort<M> {
        EntryPort { entry, counters, desk: None }
    }

    /// Carries all of `messages` away; a [ring](Entry::ring) has to follow.
    pub(crate) fn put(&mut self, messages: &mut VecDeque<M>, refuse: &mut dyn FnMut(DropReason, Packet)) {
        self.desk.iter().for_each(|desk| desk.lay(messages));
        while let Some(message) = messages.pop_front() {
            let Err(Refused { message, cause }) = self.entry.push(message) else { continue };
            let reason = match cause {
                Refusal::OwnShareFull => DropReason::InboxFull,
                Refusal::Closed => DropReason::ShuttingDown,
                Refusal::Overflow => {
                    self.counters.pipeline.inbox_overflows.increment();
                    DropReason::InboxFull
                }
            };
            if let Some(packet) = message.into_packet() {
                refuse(reason, packet);
            }
        }
    }
}

impl<M: Message> Port<M> for EntryPort<M> {
    fn carry(&mut self, messages: &mut VecDeque<M>, refuse: &mut dyn FnMut(DropReason, Packet)) {
        let bytes = messages.iter().map(Message::bytes_to_send).sum();
        self.put(messages, refuse);
        self.entry.ring_for(bytes);
    }

    fn connect(&mut self, desk: Arc<dyn Desk<M>>) {
        self.desk = Some(desk);
    }
}

impl Port<Infallible> for Nowhere {
    fn carry(&mut self, messages: &mut VecDeque<Infallible>, _refuse: &mut dyn FnMut(DropReason, Packet)) {
        messages.clear();
    }
}

impl<M> Extra<M> for () {
    fn refill(&mut self) {}

    fn next(&mut self) -> Option<M> {
        None
    }

    fn is_empty(&self) -> bool {
        true
    }
}

impl Extra<transport::Message> for DirtyReader {
    fn refill(&mut self) {
        DirtyReader::refill(self);
    }

    fn next(&mut self) -> Option<transport::Message> {
        DirtyReader::next(self).map(transport::Message::Marked)
    }

    fn is_empty(&self) -> bool {
        DirtyReader::is_empty(self)
    }
}

#[cfg(test)]
#[path = "layer_loop_tests.rs"]
mod tests;
