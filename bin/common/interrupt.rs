//! Ctrl-C and SIGTERM: the first one ends the program in order, a second one at once.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell calls a program that SIGINT ended.
pub(crate) const INTERRUPTED: i32 = 130;

type Ending = Box<dyn FnOnce() -> i32 + Send>;

/// What to do when the program is interrupted. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    ending: Arc<Mutex<Option<Ending>>>,
    over: Arc<AtomicBool>,
}

impl Interrupt {
    /// From here on signals are handled. Without an ending the first one exits at once.
    pub(crate) fn install() -> Interrupt {
        let interrupt = Interrupt::default();
        let handler = interrupt.clone();
        // Fails only if a handler exists already; then that one has been asked for.
        let _ = ctrlc::set_handler(move || handler.handle());
        interrupt
    }

    /// What the first signal does, in a thread of its own; its result is the exit code.
    pub(crate) fn set_ending(&self, ending: impl FnOnce() -> i32 + Send + 'static) {
        *self.ending.lock() = Some(Box::new(ending));
    }

    /// Whether a signal has come: then the program's own end leaves the rest to the ending.
    pub(crate) fn has_come(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn handle(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        let ending = self.ending.lock().take();
        // The handler's own thread must stay free for the second signal.
        std::thread::spawn(move || std::process::exit(ending.map_or(INTERRUPTED, |ending| ending())));
    }
}
