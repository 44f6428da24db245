//! Waiting on many handles at once.
//!
//! Owns the registrations and the list of those that may be ready. Level-triggered: a socket that is ready is reported by each
//! [`Poller::wait`] until it is drained. What a wait costs grows with the sockets that may be ready, never with those that are registered.

use super::datagram::DatagramHandle;
use super::{IcmpSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use crate::pipeline::{Next, Seat, found_ready, rest};
use crate::transport::shared::{DatagramShared, ListenerShared, Readiness, TcpShared, Watch, Watcher, Watches};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Until a read, receive or accept would not wait.
    pub readable: bool,
    /// Until a write, send or connect would not wait.
    pub writable: bool,
    /// While urgent data is announced and not read (TCP alone).
    pub urgent: bool,
}

impl Interest {
    /// Reading alone.
    pub const READABLE: Interest = Interest { readable: true, writable: false, urgent: false };
    /// Writing alone.
    pub const WRITABLE: Interest = Interest { readable: false, writable: true, urgent: false };
    /// Both.
    pub const BOTH: Interest = Interest { readable: true, writable: true, urgent: false };
    /// Urgent data alone.
    pub const URGENT: Interest = Interest { readable: false, writable: false, urgent: true };

    fn readiness(self) -> Readiness {
        let part = |wanted, readiness| if wanted { readiness } else { Readiness::NONE };
        part(self.readable, Readiness::READABLE) | part(self.writable, Readiness::WRITABLE) | part(self.urgent, Readiness::URGENT)
    }
}

/// A registered socket that is ready. The end of a stream and a failure are readable and writable: the call tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name under which it was registered.
    pub token: u64,
    /// A read, receive or accept would not wait.
    pub readable: bool,
    /// A write, send or connect would not wait.
    pub writable: bool,
    /// Urgent data is announced and not read.
    pub urgent: bool,
}

/// Waits on many handles at once, and can itself be woken from any thread.
pub struct Poller {
    core: Arc<Core>,
}

/// A handle that a [`Poller`] can watch.
pub trait Pollable: sealed::Source {}

pub(super) mod sealed {
    use super::{Readiness, Watches};
    use crate::pipeline::Seat;
    use std::sync::Arc;

    /// What a poller needs of a socket's shared part.
    pub trait Shared: Send + Sync {
        /// What would not wait now.
        fn readiness(&self) -> Readiness;
        /// Changes who watches, under the socket's lock.
        fn change_watches(&self, change: &mut dyn FnMut(&mut Watches));
    }

    /// A handle with such a part.
    pub trait Source {
        /// The shared part.
        fn shared(&self) -> Arc<dyn Shared>;
        /// Where a thread that waits for it can receive.
        fn seat(&self) -> &Arc<Seat>;
    }
}

use sealed::{Shared, Source};

/// A socket that may be ready, taken off the list to be asked.
struct Candidate {
    token: u64,
    shared: Arc<dyn Shared>,
    interest: Interest,
}

/// The memory for so many candidates is kept from one wait to the next.
const SPARE: usize = 64;

struct Core {
    state: Mutex<State>,
    ready: Condvar,
    signpost: Signpost,
}

#[derive(Default)]
struct State {
    /// Tokens are the program's own: no peer chooses them, so nothing has to be secret.
    registered: FxHashMap<u64, Registration>,
    /// Tokens that may be ready, each once.
    candidates: Vec<u64>,
    /// Empty; kept for its memory.
    spare: Vec<Candidate>,
    notified: bool,
    /// That of the stack of the last socket to be registered.
    seat: Option<Arc<Seat>>,
    /// That in which a thread waits for this poller.
    led: Option<Arc<Seat>>,
}

struct Registration {
    shared: Weak<dyn Shared>,
    interest: Interest,
    /// Whether the token is among the candidates.
    queued: bool,
}

impl Poller {
    /// A poller that watches nothing.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { core: Arc::new(Core { state: Mutex::default(), ready: Condvar::new(), signpost: Signpost::default() }) })
    }

    /// Watches `handle` under the name `token`. A token in use is `AlreadyExists`. A handle may be dropped without being deregistered.
    pub fn register(&self, handle: &impl Pollable, token: u64, interest: Interest) -> io::Result<()> {
        let shared = handle.shared();
        let registration = Registration { shared: Arc::downgrade(&shared), interest, queued: false };
        let mut state = self.core.state.lock();
        match state.registered.entry(token) {
            std::collections::hash_map::Entry::Occupied(mut taken) if taken.get().shared.strong_count() == 0 => {
                taken.insert(registration);
            }
            std::collections::hash_map::Entry::Occupied(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the token is in use"));
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(registration);
            }
        }
        state.seat = Some(handle.seat().clone());
        drop(state);
        let watcher: Arc<dyn Watcher> = self.core.clone();
        shared.change_watches(&mut |watches| watches.push(Watch { watcher: watcher.clone(), token }));
        self.core.consider(token);
        Ok(())
    }

    /// Changes what is waited for under `token`; `NotFound` if it is not registered.
    pub fn modify(&self, token: u64, interest: Interest) -> io::Result<()> {
        let mut state = self.core.state.lock();
        let registration = state.registered.get_mut(&token).ok_or_else(not_registered)?;
        registration.interest = interest;
        drop(state);
        self.core.consider(token);
        Ok(())
    }

    /// Watches `token` no longer; `NotFound` if it is not registered.
    pub fn deregister(&self, token: u64) -> io::Result<()> {
        let registration = self.core.state.lock().registered.remove(&token).ok_or_else(not_registered)?;
        if let Some(shared) = registration.shared.upgrade() {
            forget(&*shared, &self.core, token);
        }
        Ok(())
    }

    /// Waits until a registered socket is ready, [`Poller::notify`] is called, or `timeout` has passed; then puts an event for each ready
    /// socket into `events`, which is emptied first. Says how many. Without a timeout it waits for ever.
    pub fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<usize> {
        events.clear();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (mut next, mut has_rested) = (Next::Look, false);
        let mut state = self.core.state.lock();
        loop {
            self.core.collect(&mut state, events);
            let notified = std::mem::take(&mut state.notified);
            if notified || !events.is_empty() {
                if has_rested {
                    found_ready(events.len());
                }
                return Ok(events.len());
            }
            if !state.candidates.is_empty() {
                continue;
            }
            rest();
            has_rested = true;
            match time_left(deadline) {
                Some(Duration::ZERO) => return Ok(0),
                left => next = self.core.sleep(&mut state, left, next),
            }
        }
    }

    /// Ends the wait of another thread, or the next one.
    pub fn notify(&self) {
        let mut state = self.core.state.lock();
        state.notified = true;
        let led = state.led.clone();
        drop(state);
        self.core.signal(led);
    }
}

#[cfg(target_os = "linux")]
impl Poller {
    /// A kernel descriptor that is readable while sockets may be ready or [`Poller::notify`] was called: for programs that wait in a loop of
    /// their own. Call [`Poller::wait`] with a zero timeout when it is; it stays readable until that finds nothing. One for each poller.
    pub fn event_descriptor(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        let state = self.core.state.lock();
        let descriptor = self.core.signpost.descriptor()?;
        if state.notified || !state.candidates.is_empty() {
            descriptor.signal();
        }
        Ok(descriptor.as_fd())
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let registered = std::mem::take(&mut self.core.state.lock().registered);
        for (token, registration) in registered {
            if let Some(shared) = registration.shared.upgrade() {
                forget(&*shared, &self.core, token);
            }
        }
    }
}

impl Core {
    /// Puts `token` among the candidates and wakes a waiting thread.
    fn consider(&self, token: u64) {
        let mut state = self.state.lock();
        if state.queue(token) {
            let led = state.led.clone();
            drop(state);
            self.signal(led);
        }
    }

    fn signal(&self, led: Option<Arc<Seat>>) {
        if let Some(seat) = led {
            seat.call();
        }
        self.ready.notify_one();
        self.signpost.signal();
    }

    /// Asks every candidate whether it is ready: those that are stay candidates, for they are reported until drained. A socket's own lock is taken
    /// with the poller's released; a change that comes in between makes it a candidate again.
    fn collect(&self, state: &mut MutexGuard<'_, State>, events: &mut Vec<Event>) {
        self.signpost.clear();
        if state.candidates.is_empty() {
            return;
        }
        let mut candidates = state.take_candidates();
        MutexGuard::unlocked(state, || {
            events.extend(candidates.iter().filter_map(Candidate::ask));
            // The last owner of a socket may be we.
            candidates.clear();
        });
        if candidates.capacity() <= SPARE {
            state.spare = candidates;
        }
        for event in events.iter() {
            state.queue(event.token);
        }
        if !state.candidates.is_empty() {
            self.signpost.signal();
        }
    }

    /// Sleeps until signalled, at most for `timeout`; in the seat of a stack, if it is to have.
    fn sleep(&self, state: &mut MutexGuard<'_, State>, timeout: Option<Duration>, next: Next) -> Next {
        let seat = state.seat.clone().filter(|_| next == Next::Look && state.led.is_none());
        if let Some(leader) = seat.as_ref().and_then(|seat| seat.take()) {
            state.led.clone_from(&seat);
            let next = MutexGuard::unlocked(state, || leader.wait(timeout));
            state.led = None;
            return next;
        }
        match timeout {
            None => self.ready.wait(state),
            Some(timeout) => drop(self.ready.wait_for(state, timeout)),
        }
        Next::Look
    }
}

fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

impl Candidate {
    /// What is ready of what is wanted.
    fn ask(&self) -> Option<Event> {
        let Candidate { token, shared, interest } = self;
        let ready = shared.readiness();
        ready.intersects(interest.readiness()).then(|| Event {
            token: *token,
            readable: interest.readable && ready.intersects(Readiness::READABLE),
            writable: interest.writable && ready.intersects(Readiness::WRITABLE),
            urgent: interest.urgent && ready.intersects(Readiness::URGENT),
        })
    }
}

impl State {
    /// Takes the candidates off the list; forgets those whose sockets are gone.
    fn take_candidates(&mut self) -> Vec<Candidate> {
        let State { registered, candidates, spare, .. } = self;
        let mut taken = std::mem::take(spare);
        let take = |token: u64| {
            // A token that was deregistered and registered again may be on the list twice.
            let registration = registered.get_mut(&token).filter(|registration| registration.queued)?;
            registration.queued = false;
            let candidate = registration.shared.upgrade().map(|shared| Candidate { token, shared, interest: registration.interest });
            if candidate.is_none() {
                registered.remove(&token);
            }
            candidate
        };
        taken.extend(candidates.drain(..).filter_map(take));
        taken
    }

    /// True if the token is registered and was not among the candidates.
    fn queue(&mut self, token: u64) -> bool {
        match self.registered.get_mut(&token) {
            Some(registration) if !registration.queued => {
                registration.queued = true;
                self.candidates.push(token);
                true
            }
            _ => false,
        }
    }
}

impl Watcher for Core {
    fn changed(&self, token: u64, _readiness: Readiness) {
        self.consider(token);
    }
}

/// What shows other loops that there is something to collect.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Signpost(std::sync::OnceLock<crate::device::linux::event::EventDescriptor>);

#[cfg(target_os = "linux")]
impl Signpost {
    fn descriptor(&self) -> io::Result<&crate::device::linux::event::EventDescriptor> {
        if self.0.get().is_none() {
            // If another thread was faster, its descriptor is the one.
            let _ = self.0.set(crate::device::linux::event::EventDescriptor::new()?);
        }
        self.0.get().ok_or_else(|| io::Error::other("no event descriptor"))
    }

    fn signal(&self) {
        if let Some(descriptor) = self.0.get() {
            descriptor.signal();
        }
    }

    fn clear(&self) {
        if let Some(descriptor) = self.0.get() {
            descriptor.clear();
        }
    }
}

/// Elsewhere there is no such descriptor.
#[cfg(not(target_os = "linux"))]
#[derive(Default)]
struct Signpost(());

#[cfg(not(target_os = "linux"))]
impl Signpost {
    fn signal(&self) {}

    fn clear(&self) {}
}

fn forget(shared: &dyn Shared, core: &Arc<Core>, token: u64) {
    let own = Arc::as_ptr(core).cast::<()>();
    shared.change_watches(&mut |watches| watches.retain(|watch| watch.token != token || Arc::as_ptr(&watch.watcher).cast::<()>() != own));
}

fn not_registered() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the token is not registered")
}

impl Shared for TcpShared {
    fn readiness(&self) -> Readiness {
        self.state.lock().readiness()
    }

    fn change_watches(&self, change: &mut dyn FnMut(&mut Watches)) {
        self.wakeup.change_watches(&mut self.state.lock().watches, change);
    }
}

impl Shared for ListenerShared {
    fn readiness(&self) -> Readiness {
        self.state.lock().readiness()
    }

    fn change_watches(&self, change: &mut dyn FnMut(&mut Watches)) {
        self.wakeup.change_watches(&mut self.state.lock().watches, change);
    }
}

impl Shared for DatagramShared {
    fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        state.readiness(self.in_stack())
    }

    fn change_watches(&self, change: &mut dyn FnMut(&mut Watches)) {
        self.wakeup.change_watches(&mut self.state.lock().watches, change);
    }
}

impl Source for TcpStream {
    fn shared(&self) -> Arc<dyn Shared> {
        self.handle.shared.clone()
    }

    fn seat(&self) -> &Arc<Seat> {
        self.handle.backend.seat()
    }
}

impl Source for TcpListener {
    fn shared(&self) -> Arc<dyn Shared> {
        self.handle.shared.clone()
    }

    fn seat(&self) -> &Arc<Seat> {
        self.handle.backend.seat()
    }
}

impl Source for DatagramHandle {
    fn shared(&self) -> Arc<dyn Shared> {
        self.shared.clone()
    }

    fn seat(&self) -> &Arc<Seat> {
        self.backend.seat()
    }
}

impl Source for UdpSocket {
    fn shared(&self) -> Arc<dyn Shared> {
        Source::shared(&*self.handle)
    }

    fn seat(&self) -> &Arc<Seat> {
        Source::seat(&*self.handle)
    }
}

impl Source for IcmpSocket {
    fn shared(&self) -> Arc<dyn Shared> {
        Source::shared(&*self.handle)
    }

    fn seat(&self) -> &Arc<Seat> {
        Source::seat(&*self.handle)
    }
}

impl Source for RawSocket {
    fn shared(&self) -> Arc<dyn Shared> {
        Source::shared(&*self.handle)
    }

    fn seat(&self) -> &Arc<Seat> {
        Source::seat(&*self.handle)
    }
}

impl Pollable for TcpStream {}
impl Pollable for TcpListener {}
impl Pollable for UdpSocket {}
impl Pollable for IcmpSocket {}
impl Pollable for RawSocket {}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.core.state.lock();
        write!(f, "Poller({} registered, {} candidates)", state.registered.len(), state.candidates.len())
    }
}
