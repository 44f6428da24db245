//! What becomes of a panic inside a stack: the stack has failed, every socket is told, and shutdown gives the text.

use super::health::{Health, Status};
use super::inbox::Entry;
use crate::transport::Message;
use crate::transport::shared::Failure;
use parking_lot::Mutex;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Where a panic goes.
pub(crate) struct Trouble {
    health: Arc<Health>,
    transport: Entry<Message>,
    panics: Mutex<Vec<String>>,
}

impl Trouble {
    /// Tells `health`, and every socket through `transport`.
    pub(crate) fn new(health: Arc<Health>, transport: Entry<Message>) -> Arc<Trouble> {
        Arc::new(Trouble { health, transport, panics: Mutex::default() })
    }

    /// The stack's health.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Notes a panic of what `thread` runs: the stack has failed, and every socket is to know it. Call it without any lock.
    pub(crate) fn report(&self, thread: &str, panic: Box<dyn Any + Send>) {
        self.panics.lock().push(format!("the thread {thread} panicked: {}", panic_text(&*panic)));
        self.health.worsen(Status::Failed);
        self.transport.post(Message::FailAll(Failure::StackFailed));
    }

    /// The panics so far, as an error.
    pub(crate) fn outcome(&self) -> io::Result<()> {
        let panics = std::mem::take(&mut *self.panics.lock());
        if panics.is_empty() { Ok(()) } else { Err(io::Error::other(panics.join("; "))) }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "for a reason that is no text",
    }
}

/// Runs `body`; a panic ends it, and the stack with it. True if there was none.
pub(crate) fn guarded(thread: &str, trouble: &Trouble, body: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => true,
        Err(panic) => {
            trouble.report(thread, panic);
            false
        }
    }
}
