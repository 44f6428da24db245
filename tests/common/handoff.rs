//! Every test of a whole stack runs in each hand-off: the harness says in which one, and whoever starts a stack or a program asks here.
//!
//! Each test file is its own crate and uses its own part of this one.
#![allow(dead_code, unused_imports, unused_macros, unreachable_pub, reason = "every test crate uses its own part")]

use hopline::socket::Handoff;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static OF_THIS_THREAD: Cell<Option<Handoff>> = const { Cell::new(None) };
}

/// An index into [`Handoff::ALL`], for harnesses that run their tests in one hand-off after the other.
static OF_ALL_THREADS: AtomicUsize = AtomicUsize::new(0);

/// The hand-off that the current test is about.
pub fn current() -> Handoff {
    OF_THIS_THREAD.get().unwrap_or_else(|| Handoff::ALL[OF_ALL_THREADS.load(Ordering::SeqCst)])
}

/// From now on tests are about `handoff`, whatever their threads.
pub fn set_for_all_threads(handoff: Handoff) {
    let index = Handoff::ALL.iter().position(|each| *each == handoff);
    OF_ALL_THREADS.store(index.unwrap_or_default(), Ordering::SeqCst);
}

/// Runs `test`, which starts its stacks on this thread, in one hand-off.
pub fn in_handoff(handoff: Handoff, test: impl FnOnce()) {
    OF_THIS_THREAD.set(Some(handoff));
    test();
}

/// Makes a test of each function in each hand-off: `queue::name` and `combining::name`.
macro_rules! in_each_handoff {
    ($($(#[$attribute:meta])* $test:ident,)*) => {
        mod queue {
            $($(#[$attribute])* #[test] fn $test() { super::handoff::in_handoff(hopline::socket::Handoff::Queue, super::$test); })*
        }
        mod combining {
            $($(#[$attribute])* #[test] fn $test() { super::handoff::in_handoff(hopline::socket::Handoff::Combining, super::$test); })*
        }
    };
}
pub(crate) use in_each_handoff;
