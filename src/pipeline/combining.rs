//! `handoff: combining`: whoever brings a message runs the layer, if nobody else is at it.
//!
//! Owns the lock of each layer and the rules by which it is taken. Refuses to wait for one: a failed attempt leaves the message to whoever holds the
//! lock. The messages keep the order in which they would go through the inboxes; what is saved is the waking of threads.
//!
//! 1. An inbox is read, and its layer run, only under that layer's lock: first the lock, then the message. What comes of it is pushed into the next
//!    inboxes while the lock is still held. So nothing overtakes. An idle neighbour, in whose inbox nothing is, gets all of it [laid](Desk) before it instead,
//!    under its lock too, which is tried and not waited for: what is in the inbox later came later. (The inboxes are large, and each place in them is cold when its turn comes.)
//! 2. Under a layer's lock nothing is run and nobody waited for. A layer whose inbox got something meanwhile is noted, and visited after the lock's
//!    release ([`Works::carry`]). Programs are woken after it, too.
//! 3. Whoever finds the lock taken goes: the holder looks into the inbox again after the release. Both sides have a sequentially consistent fence between
//!    their write (push, release) and their read (lock, inbox): of a pusher and a holder at the same time, at least one sees the other's. The fences are
//!    explicit because an attempt at a lock that fails is no more than a relaxed load; one that succeeds needs none.
//! 4. Only a layer's own thread ever waits for its lock, and then it holds nothing. It sleeps until the deadline that the layer had when it went to
//!    sleep; a run that brings an earlier one calls it, and so does one that has more to do than its quota.
//! 5. What is more than a little is left to the layer's own thread: so many bytes at once as are bulk, what is beyond a caller's quota, what a program's
//!    thread brings time and again without a [rest], and what comes of the run of a layer's own thread whose inbox has filled again meanwhile. (Measured: without
//!    the last, the thread that writes 1500-byte frames to a TAP takes the acknowledgements up as well, and writes a tenth less.)
//! 6. While bulk is sent to a device that does not cut it, each layer is left to its own thread: to write the frames takes one thread's whole time, and
//!    whoever writes them does nothing else. (Measured: a tenth more out of the stack on a TAP.)
//!
//! A panic inside a layer ends at the run, whoever's thread that is; the stack fails as if it had been in the layer's own.

use super::bell::Sleep;
use super::clock::RealClock;
use super::handoff::Attendant;
use super::inbox::Entry;
use super::layer_loop::{Desk, Extra, LayerLoop};
use super::messages::{Message, Stage};
use super::seat::Seat;
use super::trouble::Trouble;
use crate::layer::Notify;
use crate::time::{Clock, Instant};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Messages that a program's thread handles in one layer before it leaves the rest to the layer's thread: a call must not last as long as others send.
const PROGRAM_QUOTA: usize = 8;
/// Runs of a program's thread from one rest to the next: who goes on and on without waiting for anything, as a flood of datagrams does, leaves the rest of them to
/// the layer's own thread, which takes many at once. (Measured: without this, datagrams of 64 bytes leave one by one, at a third of the rate.)
const PROGRAM_RUNS: usize = 4;
/// Runs of a program's thread for each socket that it has found ready after a rest: an answer, and the end of the connection.
const RUNS_FOR_SOCKET: usize = 2;
/// Who only gets sockets does not save up more runs than this.
const MOST_SAVED: usize = 128;
/// When a layer's thread that came for a timer, and found somebody else at work, comes again.
const AGAIN_AFTER: Duration = Duration::from_micros(500);
/// Layers visited in a row before what is left is left to their threads.
const VISITS: usize = 16;

thread_local! {
    /// The layers in whose run this thread is, and which of them have got something meanwhile. Without a destructor: a program's thread may drop a socket
    /// at its very end.
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
    /// How many messages this thread handles at once for others.
    static QUOTA: Cell<usize> = const { Cell::new(PROGRAM_QUOTA) };
    /// How often it may still run what it brings; without a number as often as it likes.
    static RUNS_LEFT: Cell<Option<usize>> = const { Cell::new(Some(PROGRAM_RUNS)) };
    /// How many sockets its runs have woken somebody for.
    static WOKEN: Cell<usize> = const { Cell::new(0) };
}

#[derive(Copy, Clone)]
struct Inside {
    /// By its address.
    works: usize,
    due: Due,
}

/// A set of layers whose inboxes have got something.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub(crate) struct Due(u8);

impl Due {
    fn add(self, index: usize) -> Due {
        Due(self.0 | 1 << index)
    }

    fn and(self, other: Due) -> Due {
        Due(self.0 | other.0)
    }

    /// The lowest one, and the others.
    fn split(self) -> Option<(usize, Due)> {
        (self.0 != 0).then(|| (self.0.trailing_zeros() as usize, Due(self.0 & (self.0 - 1))))
    }
}

/// From now on the current thread, which is one of the pipeline's, handles as many messages at once as a layer's own thread, whenever it brings some.
pub(crate) fn set_quota(messages: usize) {
    QUOTA.set(messages);
    RUNS_LEFT.set(None);
}

/// Runs `body` with such a quota, on a program's thread that receives. Says for how many sockets that somebody waits for its runs had something.
pub(crate) fn as_receiver(quota: usize, body: impl FnOnce()) -> usize {
    let (own_quota, runs_left) = (QUOTA.replace(quota), RUNS_LEFT.replace(None));
    let before = WOKEN.get();
    body();
    QUOTA.set(own_quota);
    RUNS_LEFT.set(runs_left);
    WOKEN.get().wrapping_sub(before)
}

/// The current thread's run has something for so many sockets.
pub(super) fn add_woken(sockets: usize) {
    WOKEN.set(WOKEN.get().wrapping_add(sockets));
}

/// The current thread has found nothing to do, and is about to wait: a rest, after which it runs again what it brings.
pub(crate) fn rest() {
    RUNS_LEFT.set(RUNS_LEFT.get().map(|left| left.max(PROGRAM_RUNS)));
}

/// The current thread's rest has ended with so many sockets ready: it runs what it brings about those. With one or two no more than else: who floods one socket
/// rests whenever that has no room.
pub(crate) fn found_ready(sockets: usize) {
    RUNS_LEFT.set(RUNS_LEFT.get().map(|_| sockets.saturating_mul(RUNS_FOR_SOCKET).max(PROGRAM_RUNS)));
}

/// The current thread has got one more socket, which may be ready as well.
pub(crate) fn got_socket() {
    RUNS_LEFT.set(RUNS_LEFT.get().map(|left| left.saturating_add(RUNS_FOR_SOCKET).min(left.max(MOST_SAVED))));
}

/// Whether the current thread runs what it brings now.
fn may_run() -> bool {
    match RUNS_LEFT.get() {
        None => true,
        Some(left) => {
            RUNS_LEFT.set(Some(left.saturating_sub(1)));
            left > 0
        }
    }
}

/// The layers of one stack, the one at the device first.
#[derive(Default)]
pub(crate) struct Works {
    stations: OnceLock<Vec<Arc<dyn Visit>>>,
    /// Knows when bulk is sent: where that takes a thread of its own.
    seat: OnceLock<Arc<Seat>>,
}

/// Attends one layer. The works hold the layers, and those the way here: so this does not hold the works.
struct Attention {
    works: Weak<Works>,
    index: usize,
}

/// A layer that anybody may run, behind its lock.
pub(crate) struct Station<L: Stage, X, W = Narrow> {
    thread: &'static str,
    entry: Entry<L::Message>,
    bench: Mutex<Bench<L, X>>,
    /// Whether something is laid before the layer. Written under the lock.
    has_laid: AtomicBool,
    trouble: Arc<Trouble>,
    /// The address of the works that this is part of.
    works: usize,
    windows: W,
}

struct Bench<L: Stage, X> {
    /// Gone once its thread has ended.
    looper: Option<LayerLoop<L, X>>,
    /// A run panicked: the layer is not run again.
    has_failed: bool,
    /// Until when the layer's thread sleeps, at most.
    armed: Option<Instant>,
}

/// Whom runs have something for. Lent to each run, since it is too large to be handed on.
type Wakes = SmallVec<[Arc<dyn Notify>; 16]>;

/// When it is, for a chain of runs: the clock is read by the first of them.
#[derive(Default)]
pub(crate) struct Moment(Option<Instant>);

impl Moment {
    fn read(&mut self, clock: &RealClock) -> Instant {
        *self.0.get_or_insert_with(|| clock.now())
    }
}

/// What a run brought.
#[derive(Default)]
struct Outcome {
    messages: usize,
    due: Due,
    /// The layer's thread has to look.
    calls: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// What the works need of a station, whatever its layer.
pub(crate) trait Visit: Send + Sync {
    /// Runs the layer until its inbox is empty, somebody else does, or `quota` is used up. Called without any lock.
    fn visit(&self, quota: usize, now: &mut Moment) -> Due;
    /// Has the layer's own thread look.
    fn call(&self);
    /// From now on `attendant` sees to what is put into the layer's inbox.
    fn set_attendant(&self, attendant: Arc<dyn Attendant>);
    /// Drops the layer, whose thread has ended or never began.
    fn clear(&self);
}

/// Where a thread may be held up, for tests that look for what then goes wrong.
pub(crate) trait Windows: Send + Sync {
    /// The thread passes a place at which another one may come between.
    fn pass(&self, _window: Window) {}
}

/// Places at which another thread may come between.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// A message is pushed, the lock not tried yet.
    Pushed,
    /// A run is done, the lock not released yet.
    Running,
    /// The lock is released, the inbox not looked into again.
    Released,
    /// The layer's thread has found nothing to do, and has not said that it sleeps.
    Sleeping,
}

/// Nobody is held up.
pub(crate) struct Narrow;

impl Windows for Narrow {}

impl Works {
    /// Puts the stations in place, the one at the device first, and attends their entries from now on.
    pub(crate) fn open(self: &Arc<Works>, stations: Vec<Arc<dyn Visit>>) {
        for (index, station) in stations.iter().enumerate() {
            station.set_attendant(Arc::new(Attention { works: Arc::downgrade(self), index }));
        }
        let first = self.stations.set(stations).is_ok();
        debug_assert!(first, "works are opened once");
    }

    /// From now on each layer is left to its own thread while bulk is sent, which `seat` knows.
    pub(crate) fn leave_bulk_out(&self, seat: Arc<Seat>) {
        let first = self.seat.set(seat).is_ok();
        debug_assert!(first, "there is one seat");
    }

    /// Visits the layers that are due, the lowest one first, and those that become due by it.
    fn carry(&self, mut due: Due) {
        if self.seat.get().is_some_and(|seat| seat.is_bulk_out()) {
            return self.leave(due);
        }
        let (quota, mut now) = (QUOTA.get(), Moment::default());
        for _ in 0..VISITS {
            let Some((index, rest)) = due.split() else { return };
            due = self.station(index).map_or(rest, |station| rest.and(station.visit(quota, &mut now)));
            if index == 0 {
                // The device may have taken its time.
                now = Moment::default();
            }
        }
        self.leave(due);
    }

    /// Leaves the layers that are due to their own threads.
    fn leave(&self, mut due: Due) {
        while let Some((index, rest)) = due.split() {
            self.call(index);
            due = rest;
        }
    }

    /// Drops what is left of the layers.
    pub(crate) fn clear(&self) {
        self.stations.get().into_iter().flatten().for_each(|station| station.clear());
    }

    fn call(&self, index: usize) {
        if let Some(station) = self.station(index) {
            station.call();
        }
    }

    fn station(&self, index: usize) -> Option<&Arc<dyn Visit>> {
        self.stations.get()?.get(index)
    }

    fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Attendant for Attention {
    fn attend(&self) {
        match INSIDE.get() {
            Some(inside) if inside.works == self.works.as_ptr().addr() => {
                INSIDE.set(Some(Inside { due: inside.due.add(self.index), ..inside }));
            }
            // In the run of another stack's layer: nothing may be run here.
            Some(_) => self.works.upgrade().iter().for_each(|works| works.call(self.index)),
            None if may_run() => self.works.upgrade().iter().for_each(|works| works.carry(Due::default().add(self.index))),
            None => self.works.upgrade().iter().for_each(|works| works.call(self.index)),
        }
    }
}

impl<L: Stage, X: Extra<L::Message>, W: Windows> Station<L, X, W>
where
    L::Message: Message,
{
    /// A station of `works` for the layer behind `entry`. `thread` is the name of the layer's thread, for reports of its panic.
    pub(crate) fn new(
        thread: &'static str,
        entry: Entry<L::Message>,
        looper: LayerLoop<L, X>,
        trouble: Arc<Trouble>,
        works: &Works,
        windows: W,
    ) -> Arc<Station<L, X, W>> {
        let bench = Mutex::new(Bench { looper: Some(looper), has_failed: false, armed: None });
        Arc::new(Station { thread, entry, bench, has_laid: AtomicBool::new(false), trouble, works: works.identity(), windows })
    }

    /// From now on the layer's run lays what comes of it before its neighbours, where they are idle. Before anybody runs it.
    pub(crate) fn connect(&self, up: Option<Arc<dyn Desk<L::Up>>>, down: Option<Arc<dyn Desk<L::Down>>>) {
        if let Some(looper) = &mut self.bench.lock().looper {
            up.into_iter().for_each(|desk| looper.up.connect(desk));
            down.into_iter().for_each(|desk| looper.down.connect(desk));
        }
    }

    /// Whether nothing waits for the layer but its timers.
    fn is_idle(&self) -> bool {
        !self.has_laid.load(Ordering::Relaxed) && self.entry.is_empty()
    }

    /// What the layer's own thread does: its timers, what is more than the others' quota, and its end. Gives the layer back; `false` if it has panicked.
    pub(crate) fn serve(&self, works: &Works) -> Option<(LayerLoop<L, X>, bool)> {
        let (mut slept, mut stays) = (Sleep::None, false);
        loop {
            let Some(mut bench) = self.come_in(slept) else {
                slept = self.entry.bell().sleep(std::time::Instant::now().checked_add(AGAIN_AFTER), || false);
                continue;
            };
            bench.count_wakeup(slept != Sleep::None);
            if bench.is_over() {
                let sound = !bench.has_failed;
                return bench.looper.take().map(|looper| (looper, sound));
            }
            let mut wakes = Wakes::new();
            let outcome = self.run(&mut bench, QUOTA.get(), &mut Moment::default(), &mut wakes);
            let (until, had_messages) = (bench.arm(), outcome.messages > 0);
            self.let_go(bench);
            let due = self.finish(outcome, &mut wakes);
            let has_more = !self.is_idle();
            // Also what was pushed by those who found the lock taken, before anything else is visited.
            let due = due.and(self.visit(QUOTA.get(), &mut Moment::default()));
            if has_more {
                works.leave(due)
            } else {
                works.carry(due)
            }
            // Who came for a timer does not stay for what others are about to run.
            stays |= self.entry.bell().was_called_for_work();
            // Whoever lingers has answered a call; to sleep then would be to sleep without the deadline that it was about.
            stays = stays && had_messages && self.lingers();
            slept = if stays { Sleep::None } else { self.sleep(until) };
        }
    }

    /// The bench; none for who comes for a timer and finds somebody there, in whose run what is due is done as well.
    fn come_in(&self, slept: Sleep) -> Option<MutexGuard<'_, Bench<L, X>>> {
        if slept == Sleep::Over { self.bench.try_lock() } else { Some(self.bench.lock()) }
    }

    /// Whether messages come that follow those of the last run: where they are left to the layer's thread, they often do.
    fn lingers(&self) -> bool {
        self.entry.bell().linger(|| !self.is_idle())
    }

    fn sleep(&self, until: Option<std::time::Instant>) -> Sleep {
        self.windows.pass(Window::Sleeping);
        self.entry.bell().sleep(until, || !self.is_idle())
    }

    /// One run under the lock, whoever's thread this is. Whom to wake is added to `wakes`.
    fn run(&self, bench: &mut Bench<L, X>, quota: usize, now: &mut Moment, wakes: &mut Wakes) -> Outcome {
        let Bench { looper: Some(looper), has_failed: has_failed @ false, .. } = bench else { return Outcome::default() };
        let now = now.read(&looper.pace.clock);
        INSIDE.set(Some(Inside { works: self.works, due: Due::default() }));
        let result = catch_unwind(AssertUnwindSafe(|| looper.turn(now, None, quota)));
        let due = INSIDE.take().map(|inside| inside.due).unwrap_or_default();
        let mut outcome = Outcome { due, ..Outcome::default() };
        if !looper.out.wakes.is_empty() {
            wakes.extend(looper.out.wakes.drain(..));
        }
        match result {
            Ok(messages) => outcome.messages = messages,
            Err(panic) => {
                (*has_failed, outcome.panic) = (true, Some(panic));
            }
        }
        outcome.calls = looper.has_left_over() || looper.is_finished();
        self.has_laid.store(!looper.laid.is_empty(), Ordering::Relaxed);
        self.windows.pass(Window::Running);
        outcome
    }

    /// The layer, unless somebody else is at it. Between a push and an attempt that fails there is a fence: see the third rule above.
    fn try_enter(&self) -> Option<MutexGuard<'_, Bench<L, X>>> {
        self.bench.try_lock().or_else(|| {
            fence(Ordering::SeqCst);
            self.bench.try_lock()
        })
    }

    /// Releases the layer; whoever does looks into the inbox again.
    fn let_go(&self, bench: MutexGuard<'_, Bench<L, X>>) {
        drop(bench);
        fence(Ordering::SeqCst);
    }

    /// What follows a run, without any lock.
    fn finish(&self, outcome: Outcome, wakes: &mut Wakes) -> Due {
        let Outcome { messages: _, due, calls, panic } = outcome;
        if !wakes.is_empty() {
            add_woken(wakes.drain(..).filter(|waiting| waiting.notify()).count());
        }
        if calls {
            self.entry.call();
        }
        if let Some(panic) = panic {
            self.trouble.report(self.thread, panic);
            self.entry.call();
        }
        self.windows.pass(Window::Released);
        due
    }
}

impl<L: Stage, X: Extra<L::Message>> Bench<L, X>
where
    L::Message: Message,
{
    fn is_over(&self) -> bool {
        self.has_failed || self.looper.as_ref().is_none_or(LayerLoop::is_finished)
    }

    fn sleeps_until(&self) -> Option<Instant> {
        self.looper.as_ref().and_then(|looper| looper.layer.sleeps_until())
    }

    /// The layer's thread is about to sleep: until when.
    fn arm(&mut self) -> Option<std::time::Instant> {
        self.armed = self.sleeps_until();
        self.looper.as_ref().and_then(LayerLoop::sleeps_until)
    }

    /// Whether the layer's thread sleeps for longer than the layer wants it to.
    fn arm_earlier(&mut self) -> bool {
        let wanted = self.sleeps_until();
        let is_earlier = wanted.is_some_and(|wanted| self.armed.is_none_or(|armed| wanted < armed));
        if is_earlier {
            self.armed = wanted;
        }
        is_earlier
    }

    fn count_wakeup(&self, was_woken: bool) {
        if let Some(looper) = self.looper.as_ref().filter(|_| was_woken) {
            looper.count_wakeup();
        }
    }
}

impl<L: Stage, X: Extra<L::Message>, W: Windows> Visit for Station<L, X, W>
where
    L::Message: Message,
{
    fn visit(&self, quota: usize, now: &mut Moment) -> Due {
        let (mut due, mut left, mut wakes) = (Due::default(), quota, Wakes::new());
        loop {
            self.windows.pass(Window::Pushed);
            if self.is_idle() {
                return due;
            }
            if left == 0 {
                self.entry.call();
                return due;
            }
            let Some(mut bench) = self.try_enter() else { return due };
            if bench.has_failed || bench.looper.is_none() {
                return due;
            }
            let outcome = self.run(&mut bench, left, now, &mut wakes);
            let is_late = bench.arm_earlier();
            self.let_go(bench);
            if is_late {
                self.entry.bell().call_early();
            }
            // A turn that found nothing but a kick counts as well: this ends.
            left = left.saturating_sub(outcome.messages.max(1));
            due = due.and(self.finish(outcome, &mut wakes));
        }
    }

    fn call(&self) {
        self.entry.call();
    }

    fn set_attendant(&self, attendant: Arc<dyn Attendant>) {
        self.entry.set_attendant(attendant);
    }

    fn clear(&self) {
        drop(self.bench.lock().looper.take());
    }
}

impl<L: Stage, X: Extra<L::Message>, W: Windows> Desk<L::Message> for Station<L, X, W>
where
    L::Message: Message,
{
    fn lay(&self, messages: &mut VecDeque<L::Message>) {
        let Some(mut bench) = self.bench.try_lock() else { return };
        let Bench { looper: Some(looper), has_failed: false, .. } = &mut *bench else { return };
        if looper.laid.is_empty() && self.entry.is_empty() {
            std::mem::swap(&mut looper.laid, messages);
            self.has_laid.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "combining_tests.rs"]
mod tests;
