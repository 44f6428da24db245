//! How a layer's own thread sleeps, and how it is woken: once for a batch.
//!
//! Owns one flag and one parked thread. The channel's own way to wait would wake at the first message of a batch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Instant;

/// How often a thread yields the processor before it sleeps. Often the next message is made meanwhile, by the thread that was let go first: then
/// nobody has to sleep and be woken, the dearest part of a hop. Spinning instead costs more than it gains on few processors: measured on two,
/// a 1-byte round trip takes 73 µs without, 51 µs with four yields, and 67 µs with 128 pauses before them; and who spins takes messages one by one that
/// would have made a batch (a busy hop then costs up to twice as much). By combining, where bulk alone comes to a
/// layer's own thread, they bring a tenth more into the stack in 1500-byte frames, and a tenth more out of it in super-segments.
const YIELDS: usize = 4;

/// The bell of one thread.
#[derive(Default)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    called: AtomicBool,
    /// Whether a call since the last look was for work.
    has_work: AtomicBool,
    sleeper: OnceLock<Thread>,
}

/// What became of a [`Bell::sleep`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// There was none.
    None,
    /// Somebody woke the sleeper.
    Woken,
    /// Its time was over.
    Over,
}

impl Bell {
    /// Wakes the sleeper, if there is one. What it is to find was made before.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        // An unpark that comes late ends the next sleep, which begins anew.
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Acquire)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Ends a [`Bell::sleep`], or the next one, though there is nothing to find: for work that is left to the sleeper.
    pub(crate) fn call(&self) {
        self.has_work.store(true, Ordering::Relaxed);
        self.call_early();
    }

    /// The same, only to have the deadline looked at again.
    pub(crate) fn call_early(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Whether there was a call for work since this was asked last.
    pub(crate) fn was_called_for_work(&self) -> bool {
        self.has_work.load(Ordering::Relaxed) && self.has_work.swap(false, Ordering::Relaxed)
    }

    /// Waits until `look` finds something, or until `deadline`. Only ever called by one thread.
    pub(crate) fn wait<T>(&self, deadline: Option<Instant>, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(found) = after_a_yield(&mut look) {
            return Some(found);
        }
        loop {
            self.prepare_to_sleep();
            let found = look();
            if found.is_some() || is_over(deadline) {
                self.stay_awake();
                return found;
            }
            park(deadline);
        }
    }

    /// Looks a few times before a [`Bell::sleep`], letting others go first: true if there was a call meanwhile, or `has_work` says so. Only ever called by
    /// one thread.
    pub(crate) fn linger(&self, has_work: impl Fn() -> bool) -> bool {
        let found = after_a_yield(|| (self.called.load(Ordering::Relaxed) || has_work()).then_some(())).is_some();
        if found {
            self.answer();
        }
        found
    }

    /// Sleeps until somebody rings or calls, or until `deadline`; not at all if there was a call meanwhile, or `has_work` says so. Only ever called by one
    /// thread.
    pub(crate) fn sleep(&self, deadline: Option<Instant>, has_work: impl Fn() -> bool) -> Sleep {
        self.prepare_to_sleep();
        let sleeps = !self.answer() && !has_work() && !is_over(deadline);
        if sleeps {
            park(deadline);
        }
        let was_called = sleeps && self.answer();
        self.stay_awake();
        match sleeps {
            false => Sleep::None,
            true if was_called || !is_over(deadline) => Sleep::Woken,
            true => Sleep::Over,
        }
    }

    /// Whether there was a call. Whoever called before this has done so before what follows, which looks at everything.
    fn answer(&self) -> bool {
        self.called.swap(false, Ordering::SeqCst)
    }

    /// Says that the current thread is about to sleep. It has to look once more: what was made without a look at this flag was made before, and is
    /// seen by that look.
    fn prepare_to_sleep(&self) {
        self.sleeper.get_or_init(std::thread::current);
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    fn stay_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// What `look` finds after one of a few yields.
fn after_a_yield<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..YIELDS).find_map(|_| {
        std::thread::yield_now();
        look()
    })
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

fn park(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => std::thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
        None => std::thread::park(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;

    /// Nothing here sleeps this long, unless it overslept.
    fn patience() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(20))
    }

    /// A look that finds nothing, and right after it somebody makes what it looked for, and rings: whichever look that is.
    #[test]
    fn what_is_made_after_any_look_is_found() {
        let looks_before_sleep = YIELDS + 1;
        for made_after in 0..=looks_before_sleep {
            let (bell, looks) = (Bell::default(), Cell::new(0));
            let look = || {
                looks.set(looks.get() + 1);
                if looks.get() == made_after {
                    bell.ring();
                }
                (looks.get() > made_after).then_some(())
            };
            assert!(bell.wait(patience(), look).is_some(), "made after look {made_after}");
        }
    }

    #[test]
    fn who_is_rung_or_called_before_or_during_the_last_look_does_not_oversleep() {
        let bell = Bell::default();
        bell.ring();
        assert_eq!(bell.sleep(patience(), || true), Sleep::None, "there is work");
        bell.call();
        assert_eq!(bell.sleep(patience(), || false), Sleep::None, "there was a call");
        let deadline = patience();
        let ring = || {
            bell.ring();
            false
        };
        assert_eq!(bell.sleep(deadline, ring), Sleep::Woken, "the ring ends the sleep");
        let call = || {
            bell.call();
            false
        };
        assert_eq!(bell.sleep(deadline, call), Sleep::Woken, "so does the call");
        assert!(!bell.linger(|| false) && bell.linger(|| true));
    }
}
