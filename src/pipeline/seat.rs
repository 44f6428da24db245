//! The seat: where a program's thread that waits for its socket receives in the receive thread's place, by `handoff: combining`.
//!
//! A frame that comes would wake the receive thread, and that the program's: now it wakes the program's at once, which reads it, runs the layers, and finds its
//! socket changed. One thread sits here at a time, the leader; all others wait on their sockets' condition variables.
//!
//! Owns the right to read as the device's guest, and the calls that end the leader's wait. Refuses to hand anything over: who is woken for a frame is the
//! device's decision (see [`Waits`](crate::device::Waits)), so a leader leaves without a word. What it owes: if it was
//! woken for frames, and does not know that none is left, it calls the receive thread.
//!
//! 1. A thread takes the seat only if it is free, and what came last was little: bulk, and what is for many sockets, is the receive thread's, which reads while
//!    programs work.
//! 2. What the leader waits for has it called: its socket tells the seat, which it watches meanwhile, or its poller does. A call that its own run brings sets
//!    no more than a flag.
//! 3. A leader whose run woke others and not itself goes to wait like everybody else: the next to wait are those others, and the next frames are likely to be
//!    theirs.

use super::combining;
use super::handoff::BULK_BYTES;
use super::inbox::Entry;
use super::reception::{Reading, Reception};
use super::trouble::{Trouble, guarded};
use crate::counters::Counters;
use crate::device::{GuestWait, Stock, Waker};
use crate::link;
use crate::transport::shared::{Readiness, Watcher};
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Frames that a leader reads at once; if there are more, the receive thread takes them.
const FRAMES: usize = 8;

/// Sockets that have something of one reading. If there are more, programs have work enough for the receive thread to read meanwhile. (Measured: 8 threads that
/// connect, ask, and close are served by a sixth less often if one thread does everything.)
const SOCKETS: usize = 2;
/// Readings of the receive thread before it is tried again after that.
const DETOUR: u32 = 16;

/// What the leader is about.
const AWAKE: u8 = 0;
const WAITING: u8 = 1;
const CALLED: u8 = 2;

/// The one seat of a stack. Without a [`Chair`] nobody leads.
#[derive(Default)]
pub struct Seat {
    /// The leader holds this.
    chair: Mutex<Option<Chair>>,
    guest: OnceLock<Arc<dyn GuestWait>>,
    leader: AtomicU8,
    /// How many readings of the receive thread have to pass before the seat is taken again.
    detour: AtomicU32,
    is_closed: AtomicBool,
}

/// What a leader works with.
pub(crate) struct Chair {
    pub(crate) reception: Arc<Mutex<Reception>>,
    pub(crate) link: Entry<link::Message>,
    /// Calls the receive thread.
    pub(crate) waker: Arc<dyn Waker>,
    /// Messages that a leader handles at once, as the receive thread does.
    pub(crate) quota: usize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) trouble: Arc<Trouble>,
}

/// A thread in the seat.
pub(crate) struct Leader<'a> {
    seat: &'a Seat,
    guest: &'a dyn GuestWait,
    chair: MutexGuard<'a, Option<Chair>>,
}

/// How a leader's wait ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look at what is waited for, and wait on.
    Look,
    /// Look, and then wait as those do who do not lead.
    StandUp,
}

impl Seat {
    /// Puts the chair in place. Once.
    pub(crate) fn furnish(&self, guest: Arc<dyn GuestWait>, chair: Chair) {
        *self.chair.lock() = Some(chair);
        let first = self.guest.set(guest).is_ok();
        debug_assert!(first, "a seat is furnished once");
    }

    /// Takes the seat, if it is there, free, and of use.
    pub(crate) fn take(&self) -> Option<Leader<'_>> {
        let guest = self.guest.get()?;
        if self.detour.load(Ordering::Relaxed) > 0 || self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let chair = self.chair.try_lock().filter(|chair| chair.is_some())?;
        self.leader.store(AWAKE, Ordering::SeqCst);
        Some(Leader { seat: self, guest: &**guest, chair })
    }

    /// Ends the leader's wait, or the next one.
    pub(crate) fn call(&self) {
        if self.leader.swap(CALLED, Ordering::SeqCst) == WAITING
            && let Some(guest) = self.guest.get()
        {
            guest.wake();
        }
    }

    /// Nobody takes the seat any more; who sits there is waited for, and what a leader works with is dropped.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.call();
        drop(self.chair.lock().take());
    }

    /// What a reading brought, by the receive thread or by a leader, and for how many sockets.
    pub(crate) fn note(&self, reading: &Reading, woken: usize) {
        let left = self.detour.load(Ordering::Relaxed);
        let is_bulk = reading.stock == Stock::Unknown || reading.bytes >= BULK_BYTES || reading.frames > FRAMES;
        let next = match woken {
            _ if is_bulk => left.max(1),
            0..=SOCKETS => left.saturating_sub(1),
            _ => DETOUR,
        };
        self.detour.store(next, Ordering::Relaxed);
    }
}

impl Watcher for Seat {
    fn changed(&self, _token: u64, _readiness: Readiness) {
        self.call();
    }
}

impl Leader<'_> {
    /// Waits for frames, which it receives, or a call, at most for `timeout`. What is waited for has to call from before the last look at it.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Next {
        if self.seat.leader.compare_exchange(AWAKE, WAITING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.seat.leader.store(AWAKE, Ordering::SeqCst);
            return self.next();
        }
        let woken = self.guest.wait(timeout);
        // A call from now on sets the flag; one from before is answered by the look that follows.
        self.seat.leader.store(AWAKE, Ordering::SeqCst);
        match woken {
            Ok(false) => self.next(),
            Ok(true) => self.receive(),
            Err(_) => Next::StandUp,
        }
    }

    fn next(&self) -> Next {
        if self.seat.is_closed.load(Ordering::SeqCst) { Next::StandUp } else { Next::Look }
    }

    fn receive(&self) -> Next {
        let Some(chair) = &*self.chair else { return Next::StandUp };
        let mut next = Next::StandUp;
        guarded("of a program, in place of hopline-rx,", &chair.trouble, || next = self.receive_on(chair));
        next
    }

    fn receive_on(&self, chair: &Chair) -> Next {
        let Some(reading) = chair.read() else {
            chair.waker.wake();
            return Next::StandUp;
        };
        chair.counters.pipeline.receptions_by_programs.increment();
        let woken = combining::as_receiver(chair.quota, || reading.ring(&chair.link));
        self.seat.note(&reading, woken);
        if reading.stock == Stock::Unknown {
            chair.waker.wake();
            return Next::StandUp;
        }
        let is_for_others = woken > 0 && self.seat.leader.load(Ordering::SeqCst) == AWAKE;
        if is_for_others { Next::StandUp } else { self.next() }
    }
}

impl Chair {
    /// Reads a few frames. `None` if that is left to the receive thread: somebody else reads, there is no credit, the device fails.
    fn read(&self) -> Option<Reading> {
        let mut reception = self.reception.try_lock()?;
        let limit = reception.allowance(FRAMES);
        if limit == 0 {
            return None;
        }
        reception.read(limit).map_err(|error| reception.left_error = Some(error)).ok()
    }
}

#[cfg(test)]
#[path = "seat_tests.rs"]
mod tests;
