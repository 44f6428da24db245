//! The seat: where a program's thread that waits for its socket receives in the receive thread's place, by `handoff: combining`.
//!
//! A frame that comes would wake the receive thread, and that the program's: now it wakes the program's at once, which reads it, runs the layers, and finds its
//! socket changed. One thread sits here at a time, the leader; all others wait on their sockets' condition variables.
//!
//! Owns the right to read as the device's guest, and the calls that end the leader's wait. Refuses to hand anything over: who is woken for a frame is the
//! device's decision (see [`Waits`](crate::device::Waits)), so a leader leaves without a word. What it owes: if it was
//! woken for frames, and does not know that none is left, it calls the receive thread.
//!
//! 1. A thread takes the seat only if it is free, and while that is worth it ([`Course`]): bulk and floods are the receive thread's, which reads while programs
//!    work.
//! 2. What the leader waits for has it called: its socket tells the seat, which it watches meanwhile, or its poller does. A call that its own run brings sets
//!    no more than a flag.
//! 3. A leader whose run woke others and not itself goes to wait like everybody else: the next to wait are those others, and the next frames are likely to be
//!    theirs.

use super::combining;
use super::inbox::Entry;
use super::reception::{Reading, Reception};
use super::trouble::{Trouble, guarded};
use crate::counters::Counters;
use crate::device::{GuestWait, Stock, Waker};
use crate::link;
use crate::time::Instant;
use crate::transport::shared::{Readiness, Watcher};
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Frames that a leader reads before it looks at what came of them; if there are more, the receive thread takes them.
const FRAMES: usize = 32;
/// Of these so many at once: room that is prepared for frames that are not there is for nothing.
const FRAMES_AT_ONCE: usize = 8;
/// So long after their last reading frames are left to leaders that are at work, and are expected back: at first, and if they have come back often and nobody
/// else would lead.
const GRACE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(4)];
/// Readings of leaders within a grace that are often.
const OFTEN: u32 = 4;
/// So many bytes, read and sent, in so long a time are more than exchanges of small messages bring: one thread had better read, and another one work.
const MUCH: usize = 32 << 10;
const MUCH_IN: Duration = Duration::from_millis(1);
/// Bulk that is sent goes on for so long after it was last counted: a device may take milliseconds for the frames that it was given, which are counted when it has them.
const OUT_LASTS: Duration = Duration::from_millis(10);
/// Leading is worth it if leaders read so often for each time that the receive thread does.
const WORTH_IT: u32 = 4;
/// So many readings of the receive thread in a row are forgiven: a leader may have been out of the processor for a while, and then finds frames that came
/// meanwhile taken out of its hands. (Measured: where others use the processors as well, a server of short connections opens and closes a fifth more.)
const FORGIVEN: u32 = 16;
/// Readings of the receive thread before another attempt, the first time and at most.
const DETOURS: [u32; 2] = [4, 64];

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
    course: Mutex<Course>,
    /// The course's: how far it leads elsewhere.
    detour: AtomicU32,
    /// Whether bulk is sent.
    is_bulk_out: AtomicBool,
    /// Whether a leader has read last.
    is_used: AtomicBool,
    /// Whether the receive thread leaves frames to leaders.
    is_let_go_first: AtomicBool,
    /// Whether somebody has found the seat taken.
    is_wanted: AtomicBool,
    is_closed: AtomicBool,
}

/// Who has read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Leader,
    ReceiveThread,
}

/// Whether leading is worth it. Where one message answers another, nothing comes but while somebody waits, and leaders read all of it. Where the receive
/// thread has to read as well, because more comes while programs work, it had better read all: two threads that take turns with it make batches smaller and
/// wake each other. (Measured: a sixth fewer datagrams, or frames from a TAP, in a flood.) So leading is tried now and then, ever more rarely, and goes on for as
/// long as it is worth it.
#[derive(Default)]
struct Course {
    /// What leaders' readings are worth, less what those of the receive thread cost.
    worth: u32,
    /// Whether a leader has read last.
    is_led: bool,
    /// How many readings of the receive thread have to pass before the seat is taken again.
    detour: u32,
    last_detour: u32,
    flow: Flow,
}

/// How much is read and sent. One reading says little: in the middle of bulk some bring a frame or two.
#[derive(Default)]
struct Flow {
    /// When counting began.
    since: Instant,
    bytes: usize,
    /// Those of them that were sent.
    sent: usize,
    /// Whether it was much when counting began anew.
    was_much: bool,
    /// Until when bulk goes on to be sent: it was, the last time that it was much and most of it sent.
    bulk_out_until: Instant,
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
    pub(crate) grace: Grace,
}

/// A time for which the receive thread leaves frames to leaders: it ends when none has read for a while.
#[derive(Default)]
pub(crate) struct Grace {
    /// How often leaders have read in it.
    readings: Cell<u32>,
    /// When it was made longer.
    renewed: Cell<Option<Instant>>,
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
        if self.detour.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let Some(chair) = self.chair.try_lock() else {
            self.is_wanted.store(true, Ordering::Relaxed);
            return None;
        };
        if chair.is_none() {
            return None;
        }
        self.leader.store(AWAKE, Ordering::SeqCst);
        // After that, so that whoever closes the seat either is seen here, or calls a leader that hears it.
        let is_closed = self.is_closed.load(Ordering::SeqCst);
        (!is_closed).then_some(Leader { seat: self, guest: &**guest, chair })
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

    /// Lets a leader go first that is at work with what it has read, and about to sit down again, and says for how long; `None` if none is expected. Else two threads
    /// would run the layers by turns, and take them out of each other's hands. (Measured: a server on one thread then opens and closes two thirds of the
    /// connections.) It is the leaders that put the end off while they read, so that the receive thread does not take the processor from those who share it. Who has
    /// left for longer is waited for in vain once, and then the course leads elsewhere.
    pub(crate) fn let_leader_go_first(&self) -> Option<Duration> {
        let is_used = self.is_used.load(Ordering::Relaxed);
        self.is_let_go_first.store(is_used, Ordering::Relaxed);
        is_used.then_some(GRACE[0])
    }

    /// The time for which leaders were let go first is over.
    pub(crate) fn end_grace(&self) {
        self.is_let_go_first.store(false, Ordering::Relaxed);
    }

    /// Whether nobody will sit down for dozens of readings.
    pub(crate) fn is_far_off(&self) -> bool {
        self.detour.load(Ordering::Relaxed) > DETOURS[1] / 2
    }

    /// What a reading brought, and whose it was.
    pub(crate) fn note(&self, reading: &Reading, reader: Reader) {
        let mut course = self.course.lock();
        course.note(reading, reader);
        self.detour.store(course.detour, Ordering::Relaxed);
        self.is_bulk_out.store(reading.at < course.flow.bulk_out_until, Ordering::Relaxed);
        self.is_used.store(course.is_led(), Ordering::Relaxed);
    }

    /// Whether bulk is sent, and little received, or was a moment ago.
    pub(crate) fn is_bulk_out(&self) -> bool {
        self.is_bulk_out.load(Ordering::Relaxed)
    }
}

impl Course {
    fn note(&mut self, reading: &Reading, reader: Reader) {
        let is_much = self.flow.note(reading);
        let is_bulk = is_much || reading.stock == Stock::Unknown || reading.frames > FRAMES;
        match reader {
            Reader::Leader if is_bulk => self.leave(),
            Reader::Leader => {
                self.worth += 1;
                self.is_led = true;
                if self.worth >= FORGIVEN * WORTH_IT {
                    self.worth = FORGIVEN * WORTH_IT;
                    self.last_detour = 0;
                }
            }
            Reader::ReceiveThread if reading.frames == 0 => {}
            Reader::ReceiveThread if is_bulk => self.leave(),
            Reader::ReceiveThread if self.detour > 0 => self.return_to_course(),
            Reader::ReceiveThread if self.worth >= WORTH_IT => {
                self.worth -= WORTH_IT;
                self.is_led = false;
            }
            Reader::ReceiveThread => self.leave(),
        }
    }

    /// Whether leaders read. Who sat down before the course led elsewhere, and reads once more, will not come back.
    fn is_led(&self) -> bool {
        self.detour == 0 && self.is_led
    }

    /// One reading less to the detour's end. Who is to sit down then has first to be woken once more; the receive thread may be faster a few times.
    fn return_to_course(&mut self) {
        self.detour -= 1;
        self.worth = FORGIVEN / 4 * WORTH_IT;
    }

    /// Leaves reading to the receive thread, for twice as long as the last time.
    fn leave(&mut self) {
        let [first, most] = DETOURS;
        self.last_detour = (2 * self.last_detour).clamp(first, most);
        self.detour = self.last_detour;
        self.worth = 0;
        self.is_led = false;
    }
}

impl Flow {
    /// Whether it is much, with this reading.
    fn note(&mut self, reading: &Reading) -> bool {
        let elapsed = reading.at.since(self.since);
        if elapsed >= MUCH_IN {
            self.was_much = self.bytes as u128 * MUCH_IN.as_nanos() >= MUCH as u128 * elapsed.as_nanos();
            if self.was_much && self.sent > self.bytes / 2 {
                self.bulk_out_until = reading.at + OUT_LASTS;
            }
            self.since = reading.at;
            (self.bytes, self.sent) = (0, 0);
        }
        self.bytes = self.bytes.saturating_add(reading.bytes).saturating_add(reading.bytes_sent);
        self.sent = self.sent.saturating_add(reading.bytes_sent);
        self.was_much || self.bytes >= MUCH
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

    /// Has the receive thread wait for leaders a while longer, or not at all if that would be in vain.
    fn put_off_end_of_grace(&self, chair: &Chair, reading: &Reading) {
        if !self.seat.is_let_go_first.load(Ordering::Relaxed) {
            chair.grace.end();
        } else if !self.seat.is_used.load(Ordering::Relaxed) {
            chair.waker.wake();
        } else if let Some(length) = chair.grace.renew(reading.at, &self.seat.is_wanted) {
            self.guest.put_off(length);
        }
    }

    fn receive_on(&self, chair: &Chair) -> Next {
        let Some(reading) = chair.read() else {
            chair.waker.wake();
            return Next::StandUp;
        };
        chair.counters.pipeline.receptions_by_programs.increment();
        let woken = combining::as_receiver(chair.quota, || reading.ring(&chair.link));
        self.seat.note(&reading, Reader::Leader);
        self.put_off_end_of_grace(chair, &reading);
        if reading.stock == Stock::Unknown {
            chair.waker.wake();
            return Next::StandUp;
        }
        let is_for_others = woken > 0 && self.seat.leader.load(Ordering::SeqCst) == AWAKE;
        if is_for_others { Next::StandUp } else { self.next() }
    }
}

impl Grace {
    /// A leader has read: by how much the end is to be put off, once half of that is over.
    fn renew(&self, now: Instant, is_wanted: &AtomicBool) -> Option<Duration> {
        self.readings.set(self.readings.get().saturating_add(1));
        let is_longer = self.readings.get() >= OFTEN && !is_wanted.swap(false, Ordering::Relaxed);
        let [short, long] = GRACE;
        let length = if is_longer { long } else { short };
        let is_due = self.renewed.get().is_none_or(|renewed| now.since(renewed) >= length / 2);
        is_due.then(|| {
            self.renewed.set(Some(now));
            length
        })
    }

    /// It is over.
    fn end(&self) {
        self.readings.set(0);
        self.renewed.set(None);
    }
}

impl Chair {
    /// Reads some frames. `None` if that is left to the receive thread: somebody else reads, there is no credit, the device fails.
    fn read(&self) -> Option<Reading> {
        let mut reception = self.reception.try_lock()?;
        let limit = reception.allowance(FRAMES);
        if limit == 0 {
            return None;
        }
        reception.read_by(FRAMES_AT_ONCE, limit).map_err(|error| reception.left_error = Some(error)).ok()
    }
}

#[cfg(test)]
#[path = "seat_tests.rs"]
mod tests;
