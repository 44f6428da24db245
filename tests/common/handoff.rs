//! Every test of a whole stack runs in each hand-off: the harness says in which one, and whoever starts a stack or a program asks here.

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

/// Runs `test`, which starts its stacks on this thread, in one hand-off.
pub fn in_handoff(handoff: Handoff, test: impl FnOnce()) {
    OF_THIS_THREAD.set(Some(handoff));
    test();
}

/// Runs the trials in one hand-off after the other, whatever their threads; exits if one failed.
pub fn run_in_each(arguments: &libtest_mimic::Arguments, trials: impl Fn() -> Vec<libtest_mimic::Trial>) {
    for (index, handoff) in Handoff::ALL.into_iter().enumerate() {
        if !arguments.list {
            println!("\nhandoff: {}", handoff.name());
        }
        OF_ALL_THREADS.store(index, Ordering::SeqCst);
        libtest_mimic::run(arguments, trials()).exit_if_failed();
        if arguments.list {
            return;
        }
    }
}

/// Makes a test of each function in each hand-off: `queue::name` and `combining::name`.
macro_rules! in_each_handoff {
    ($($test:ident,)*) => {
        mod queue {
            $(#[test] fn $test() { super::handoff::in_handoff(hopline::socket::Handoff::Queue, super::$test); })*
        }
        mod combining {
            $(#[test] fn $test() { super::handoff::in_handoff(hopline::socket::Handoff::Combining, super::$test); })*
        }
    };
}
pub(crate) use in_each_handoff;
