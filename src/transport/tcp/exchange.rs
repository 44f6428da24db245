//! The one place where a connection meets its program: what is moved under the shared lock, once for a batch.
//!
//! Owns the list of what is to be told. Refuses to copy bytes, or to drop them, while it holds the lock.

use super::{Connection, Context, State};
use crate::packet::Slice;
use crate::transport::shared::{Failure, Phase, Readiness, TcpSharedState, raise};
use std::collections::VecDeque;
use std::sync::Arc;

/// A slice of at most this many bytes is joined to the last unread one, if that is in a slot with room: else a peer that sends single bytes would pin a
/// slot with each.
const SMALL_SLICE: usize = 512;

/// What is to be told to the program, and asked of it.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Something in the shared state is to be looked at.
    pub(super) is_wanted: bool,
    /// The connection is to be closed: no more is taken than what is written already.
    is_closing: bool,
    /// The options are among it.
    pub(super) options_changed: bool,
    /// Bytes acknowledged since we last told.
    pub(super) acknowledged: usize,
    phase: Option<Phase>,
    failure: Option<Failure>,
    soft_failure: Option<Failure>,
    /// Both ends are to be written down.
    is_opening: bool,
    readiness: Readiness,
    /// Kept for its capacity: swapped with the program's queue.
    taken: VecDeque<Slice>,
}

impl News {
    /// Whether there is nothing to tell or to take.
    pub(super) fn is_empty(&self) -> bool {
        let News { is_wanted, is_closing, options_changed, acknowledged, phase, failure, soft_failure, is_opening, readiness, taken } =
            self;
        let has_wishes = *is_wanted || *is_closing || *options_changed || *is_opening || !taken.is_empty();
        let tells = phase.is_some() || failure.is_some() || soft_failure.is_some() || !readiness.is_empty();
        !has_wishes && !tells && *acknowledged == 0
    }

    /// The first news: the ends and the phase.
    pub(super) fn opening() -> News {
        News { is_wanted: true, is_opening: true, phase: Some(Phase::Connecting), ..News::default() }
    }

    pub(super) fn state_changed(&mut self, state: State) {
        self.is_wanted = true;
        if state.is_over() {
            self.phase = Some(Phase::Closed);
        } else if state == State::Established {
            self.phase = Some(Phase::Connected);
        }
    }

    /// The program may have the connection although its handshake is not complete.
    pub(super) fn connected_early(&mut self) {
        self.is_wanted = true;
        self.phase = Some(Phase::Connected);
    }

    pub(super) fn closes(&mut self) {
        self.is_wanted = true;
        self.is_closing = true;
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        self.is_wanted = true;
        self.failure = Some(failure);
    }

    pub(super) fn failed_softly(&mut self, failure: Failure) {
        self.is_wanted = true;
        self.soft_failure = Some(failure);
    }

    /// The last soft failure that has been reported, if any.
    pub(super) fn soft_failure(&self) -> Option<Failure> {
        self.soft_failure
    }
}

impl Connection {
    /// Exchanges what there is with the program.
    pub(super) fn exchange(&mut self, cx: &mut Context<'_>) {
        if !self.news.is_wanted && self.news.acknowledged == 0 && self.receive.pending.is_empty() {
            return;
        }
        self.news.is_wanted = false;
        let shared = self.shared.clone();
        self.receive.is_under_pressure = cx.is_under_pressure();
        self.join_small_tail(&shared.state);
        let mut state = shared.state.lock();
        self.tune_receive_buffer(cx, state.consumed_unannounced);
        let refused = self.hand_over(&mut state);
        self.settle(cx, &mut state);
        std::mem::swap(&mut self.news.taken, &mut state.to_send);
        if let Some(bytes) = state.urgent_to_send.take() {
            self.send.urgent = Some(self.send.queue.end() + u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        self.take_wishes(cx, &mut state);
        self.report(&mut state);
        if state.is_described || (self.state.is_over() && !self.is_released) {
            self.describe(cx.now, &mut state);
        }
        drop(state);
        drop(refused);
        self.take_written(cx);
    }

    /// If the program's last unread slice has room for the first of ours, takes it back and joins them.
    fn join_small_tail(&mut self, state: &parking_lot::Mutex<TcpSharedState>) {
        let Some(first) = self.receive.pending.first_mut().filter(|first| first.len() <= SMALL_SLICE) else { return };
        let Some(mut tail) = take_tail(&mut state.lock()) else { return };
        let length = tail.len();
        let joined = tail.grow_back(first);
        first.advance(joined);
        let mut state = state.lock();
        state.unread += tail.len();
        state.received.push_back(tail);
        drop(state);
        self.receive.pending_bytes = self.receive.pending_bytes.saturating_sub(joined);
        self.receive.pending.retain(|slice| !slice.is_empty());
        if joined > 0 || length > 0 {
            self.news.readiness |= Readiness::READABLE;
        }
    }

    /// Hands over what was received; gives back what nobody wants.
    fn hand_over(&mut self, state: &mut TcpSharedState) -> Vec<Slice> {
        let bytes = std::mem::take(&mut self.receive.pending_bytes);
        let mut refused = Vec::new();
        if state.read_closed || self.is_released {
            refused = std::mem::take(&mut self.receive.pending);
        } else if bytes > 0 {
            state.received.extend(self.receive.pending.drain(..));
            state.unread += bytes;
            self.news.readiness |= Readiness::READABLE;
        }
        if self.receive.finished && !state.receive_finished {
            state.receive_finished = true;
            self.news.readiness |= Readiness::READABLE;
        }
        self.receive.unread = state.unread;
        self.tell_urgent(state);
        state.consumed_unannounced = 0;
        state.window_mark_at = self.receive.window_mark_at();
        refused
    }

    /// RFC 9293 §3.8.5: the program is told when there is urgent data that it has not heard of, and can ask how much is left (MUST-32, MUST-33).
    fn tell_urgent(&mut self, state: &mut TcpSharedState) {
        let before = std::mem::replace(&mut state.urgent, self.receive.take_urgent(state.unread));
        if state.urgent > before {
            self.news.readiness |= Readiness::URGENT;
        }
    }

    /// Gives the room of acknowledged bytes back; writers are woken when half of the buffer is free.
    fn settle(&mut self, cx: &Context<'_>, state: &mut TcpSharedState) {
        let before = state.unacknowledged;
        let half_before = state.options.send_buffer / 2;
        let tuned = self.tuned_send_buffer(cx, &state.options);
        if tuned != state.options.send_buffer {
            // The options are shared with others until they differ.
            Arc::make_mut(&mut state.options).send_buffer = tuned;
        }
        state.unacknowledged = before.saturating_sub(std::mem::take(&mut self.news.acknowledged));
        let half = state.options.send_buffer / 2;
        if before > half_before && state.unacknowledged <= half {
            self.news.readiness |= Readiness::WRITABLE;
        }
    }

    /// That there will be no more to send is learnt here alone, where all that was written is taken, under one lock: a timer that sends before the batch ends must
    /// not put the FIN in front of it.
    fn take_wishes(&mut self, cx: &Context<'_>, state: &mut TcpSharedState) {
        self.send.finish |= state.write_closed || self.news.is_closing;
        // A connection that was closed for the program takes nothing more.
        state.write_closed |= self.send.finish;
        if std::mem::take(&mut self.news.options_changed) {
            self.options = state.options.clone();
            self.news.readiness |= Readiness::WRITABLE;
            self.apply_options(cx);
        }
    }

    fn report(&mut self, state: &mut TcpSharedState) {
        if std::mem::take(&mut self.news.is_opening) {
            state.local = self.local;
            state.remote = self.remote;
        }
        if let Some(phase) = self.news.phase.take() {
            state.phase = phase;
            self.send.scoreboard.release_memory();
            self.news.readiness |= Readiness::STATE | Readiness::READABLE | Readiness::WRITABLE;
        }
        if let Some(failure) = self.news.failure.take() {
            state.failure = Some(failure);
            self.news.readiness |= Readiness::STATE | Readiness::READABLE | Readiness::WRITABLE;
        }
        state.soft_failure = self.news.soft_failure.or(state.soft_failure);
    }

    /// Puts what the program wrote into the send queue.
    fn take_written(&mut self, cx: &Context<'_>) {
        let takes = !self.send.finish_sent && !self.state.is_over();
        while let Some(slice) = self.news.taken.pop_front() {
            if takes {
                self.send.queue.push(slice, cx.pool);
            }
        }
    }

    /// Wakes whoever waits for what changed.
    pub(super) fn tell(&mut self, cx: &mut Context<'_>) {
        let readiness = std::mem::take(&mut self.news.readiness);
        raise(&mut cx.out.wakes, &self.shared, &self.shared.wakeup, readiness);
    }
}

/// Takes the last unread slice back if it is small enough for its slot to have room.
fn take_tail(state: &mut TcpSharedState) -> Option<Slice> {
    if state.read_closed {
        return None;
    }
    state.received.back().filter(|tail| tail.len() + SMALL_SLICE <= tail.slot_bytes())?;
    let tail = state.received.pop_back()?;
    state.unread = state.unread.saturating_sub(tail.len());
    Some(tail)
}
