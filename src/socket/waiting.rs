//! How a call waits: on its own socket, holding nothing, as long as its handle says.
//!
//! Owns non-blocking mode and timeouts, and the one loop in which program threads wait.

use super::backend::Backend;
use crate::pipeline::{Leader, Next, rest};
use crate::transport::shared::{Wakeup, Watch, Watched, Watcher};
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Non-blocking mode and timeouts: shared by all clones of a handle, as the kernel does.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    nonblocking: AtomicBool,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

/// Nanoseconds; 0 stands for "none".
#[derive(Debug, Default)]
struct Timeout(AtomicU64);

/// On which side of a socket a call waits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Readers and acceptors.
    Read,
    /// Writers and connectors.
    Write,
}

/// How long a call may wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until then.
    Until(Instant),
    /// Until something happens.
    Forever,
}

/// A call that may have to wait.
pub(crate) struct Wait<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) wakeup: &'a Wakeup,
    pub(crate) side: Side,
    pub(crate) patience: Patience,
}

impl Wait<'_> {
    /// Runs `attempt` under the lock until it gives something. `WouldBlock` when patience is over; the stack's end is an error of its own.
    pub(crate) fn until<S: Watched, T>(&self, state: &Mutex<S>, mut attempt: impl FnMut(&mut S) -> Option<io::Result<T>>) -> io::Result<T> {
        let mut guard = state.lock();
        let (mut waited, mut next) = (false, Next::Look);
        loop {
            if let Some(result) = attempt(&mut guard) {
                return result.map_err(|error| self.backend.late(error, waited));
            }
            if let Some(error) = self.backend.unavailable(waited) {
                return Err(error);
            }
            rest();
            let left = self.patience.left()?;
            waited = true;
            // Taken only to sit down: who waits elsewhere must not keep it from others.
            let leader = if next == Next::Look { self.backend.seat().take() } else { None };
            next = match leader {
                Some(leader) => self.lead(&leader, &mut guard, left),
                None => self.park(&mut guard, left),
            };
        }
    }

    /// Waits in the stack's seat, which this socket calls meanwhile.
    fn lead<S: Watched>(&self, leader: &Leader<'_>, guard: &mut MutexGuard<'_, S>, timeout: Option<Duration>) -> Next {
        let seat: Arc<dyn Watcher> = self.backend.seat().clone();
        self.wakeup.change_watches(guard.watches(), &mut |watches| watches.push(Watch { watcher: seat.clone(), token: 0 }));
        let next = MutexGuard::unlocked(guard, || leader.wait(timeout));
        self.wakeup.change_watches(guard.watches(), &mut |watches| watches.retain(|watch| !Arc::ptr_eq(&watch.watcher, &seat)));
        next
    }

    fn park<S>(&self, guard: &mut MutexGuard<'_, S>, timeout: Option<Duration>) -> Next {
        match self.side {
            Side::Read => self.wakeup.wait_readable(guard, timeout),
            Side::Write => self.wakeup.wait_writable(guard, timeout),
        };
        Next::Look
    }
}

impl Patience {
    /// Waiting for at most `timeout` from now.
    pub(crate) fn at_most(timeout: Option<Duration>) -> Patience {
        timeout.and_then(|timeout| Instant::now().checked_add(timeout)).map_or(Patience::Forever, Patience::Until)
    }

    /// The time left; `None` is without end.
    fn left(self) -> io::Result<Option<Duration>> {
        let left = match self {
            Patience::Forever => return Ok(None),
            Patience::None => Duration::ZERO,
            Patience::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        };
        if left.is_zero() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Some(left)) }
    }
}

impl Settings {
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// A wait on `side` as this handle's mode and timeouts say.
    pub(crate) fn wait<'a>(&self, backend: &'a Backend, wakeup: &'a Wakeup, side: Side) -> Wait<'a> {
        let patience = match side {
            _ if !backend.may_wait() || self.nonblocking.load(Ordering::Relaxed) => Patience::None,
            side => Patience::at_most(self.timeout(side)),
        };
        Wait { backend, wakeup, side, patience }
    }

    pub(crate) fn timeout(&self, side: Side) -> Option<Duration> {
        let nanos = self.of(side).0.load(Ordering::Relaxed);
        (nanos > 0).then_some(Duration::from_nanos(nanos))
    }

    /// Zero is `InvalidInput`, as in std.
    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = match timeout {
            Some(Duration::ZERO) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout")),
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
            None => 0,
        };
        self.of(side).0.store(nanos, Ordering::Relaxed);
        Ok(())
    }

    fn of(&self, side: Side) -> &Timeout {
        match side {
            Side::Read => &self.read_timeout,
            Side::Write => &self.write_timeout,
        }
    }
}

/// What multicast and v6-only calls say.
pub(crate) fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{what} is not supported")))
}

/// A time to live from a program: 1 to 255, as Linux takes it.
pub(crate) fn time_to_live(ttl: u32) -> io::Result<u8> {
    u8::try_from(ttl)
        .ok()
        .filter(|&ttl| ttl > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a time to live is between 1 and 255"))
}

/// The smallest and the largest socket buffer that a program can ask for; what lies beyond is silently moved here, as the kernel does.
pub(crate) fn buffer_size(bytes: usize) -> usize {
    bytes.clamp(2_048, 1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Status;
    use crate::pipeline::testing::{FakeStack, Fault, await_that};
    use crate::socket::backend::Waiting;
    use crate::socket::testing::Fake;
    use crate::transport::shared::{Readiness, Watches};
    use std::io::ErrorKind;

    #[derive(Default)]
    struct Attempts {
        count: u32,
        watches: Watches,
    }

    impl Watched for Attempts {
        fn watches(&mut self) -> &mut Watches {
            &mut self.watches
        }
    }

    /// What a program waits for comes from elsewhere while it leads, and before; and frames come meanwhile, which it receives.
    #[test]
    fn a_call_leads_while_it_waits_and_hears_what_others_do() {
        let stack = FakeStack::new(64);
        let fake = Fake::with_seat(Waiting::Allowed, stack.seat.clone());
        let (state, wakeup) = (Mutex::new(Attempts::default()), Wakeup::default());
        let wait = Wait { backend: &fake.backend, wakeup: &wakeup, side: Side::Read, patience: Patience::Forever };
        let change = || {
            state.lock().count = 1;
            wakeup.raise(Readiness::READABLE);
            wakeup.tell(|| state.lock().watches.clone());
        };
        for round in 0..2_000 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    if round % 2 == 0 {
                        stack.device.await_guest();
                        stack.device.arrive(b"frame");
                        stack.device.await_guest();
                    }
                    change();
                });
                let attempt = |attempts: &mut Attempts| (std::mem::take(&mut attempts.count) == 1).then_some(Ok(()));
                wait.until(&state, attempt).unwrap();
            });
            assert!(state.lock().watches.is_empty(), "nobody watches any more");
            assert_eq!(stack.received().len(), usize::from(round % 2 == 0));
        }
        assert_eq!(stack.receptions(), 1_000);
        drop(stack.seat.take().expect("nobody sits there"));
    }

    #[test]
    fn patience_ends_in_the_seat_as_well() {
        let stack = FakeStack::new(1);
        let fake = Fake::with_seat(Waiting::Allowed, stack.seat.clone());
        let (state, wakeup) = (Mutex::new(Attempts::default()), Wakeup::default());
        let patience = Patience::at_most(Some(Duration::from_millis(2)));
        let wait = Wait { backend: &fake.backend, wakeup: &wakeup, side: Side::Write, patience };
        let result: io::Result<()> = wait.until(&state, |_| None);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(state.lock().watches.is_empty() && stack.seat.take().is_some());
    }

    #[test]
    fn who_has_stood_up_waits_without_the_seat() {
        let stack = FakeStack::new(1);
        let fake = Fake::with_seat(Waiting::Allowed, stack.seat.clone());
        let (state, wakeup) = (Mutex::new(Attempts::default()), Wakeup::default());
        let wait = Wait { backend: &fake.backend, wakeup: &wakeup, side: Side::Read, patience: Patience::Forever };
        std::thread::scope(|scope| {
            let look = scope.spawn(|| {
                stack.device.await_guest();
                stack.device.set_fault(Fault::Error);
                stack.device.arrive(b"frame");
                // The lock is free after the second look only while the call waits again.
                await_that(|| state.lock().count == 2);
                let mut guard = state.lock();
                let is_free = stack.seat.take().is_some();
                guard.count = 3;
                drop(guard);
                wakeup.raise(Readiness::READABLE);
                wakeup.tell(|| state.lock().watches.clone());
                is_free
            });
            let attempt = |attempts: &mut Attempts| {
                if attempts.count == 3 {
                    return Some(Ok(()));
                }
                attempts.count += 1;
                None
            };
            wait.until(&state, attempt).unwrap();
            assert!(look.join().unwrap(), "the seat is free");
        });
    }

    /// The one in the seat receives for the other one, who waits beside it.
    #[test]
    fn two_calls_wait_and_the_second_is_told_by_its_own_wakeup() {
        let stack = FakeStack::new(1);
        let fake = Fake::with_seat(Waiting::Allowed, stack.seat.clone());
        let sockets = [(Mutex::new(Attempts::default()), Wakeup::default()), (Mutex::new(Attempts::default()), Wakeup::default())];
        std::thread::scope(|scope| {
            for (state, wakeup) in &sockets {
                let wait = Wait { backend: &fake.backend, wakeup, side: Side::Read, patience: Patience::Forever };
                scope.spawn(move || wait.until(state, |attempts| (attempts.count == 1).then_some(Ok(()))).unwrap());
            }
            stack.device.await_guest();
            for (state, wakeup) in &sockets {
                state.lock().count = 1;
                wakeup.raise(Readiness::READABLE);
                wakeup.tell(|| state.lock().watches.clone());
            }
        });
    }

    /// Waits on a state; the stack ends once the caller really waits, for only then is the lock free. Then the state says `at_the_end`.
    fn wait_until_the_end(at_the_end: impl Fn() -> Option<io::Result<()>>) -> ErrorKind {
        let fake = Fake::new(Waiting::Allowed);
        let (state, wakeup) = (Mutex::new(Attempts::default()), Wakeup::default());
        let wait = Wait { backend: &fake.backend, wakeup: &wakeup, side: Side::Read, patience: Patience::Forever };
        std::thread::scope(|scope| {
            let result: io::Result<()> = wait.until(&state, |attempts| {
                attempts.count += 1;
                if attempts.count > 1 {
                    return at_the_end();
                }
                scope.spawn(|| {
                    let guard = state.lock();
                    fake.backend.health().worsen(Status::Closing);
                    drop(guard);
                    wakeup.raise(Readiness::STATE);
                    wakeup.tell(Default::default);
                });
                None
            });
            result.unwrap_err().kind()
        })
    }

    #[test]
    fn a_call_that_waits_when_the_stack_ends_is_aborted() {
        assert_eq!(wait_until_the_end(|| None), ErrorKind::ConnectionAborted);
        // Shutdown closes the writing side itself: a writer may see that before it is told of the end.
        assert_eq!(wait_until_the_end(|| Some(Err(ErrorKind::BrokenPipe.into()))), ErrorKind::ConnectionAborted);
        assert_eq!(wait_until_the_end(|| Some(Err(ErrorKind::ConnectionReset.into()))), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_stack_that_failed_says_so() {
        let fake = Fake::new(Waiting::Allowed);
        fake.backend.health().worsen(Status::Failed);
        fake.backend.health().worsen(Status::Closing);
        let error = fake.backend.check().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::Other, "the stack failed"));
    }
}
