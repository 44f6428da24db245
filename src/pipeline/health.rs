//! The life of a stack, as its handles see it.

use std::sync::atomic::{AtomicU8, Ordering};

/// How a stack is. Later ones are worse; there is no way back.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Status {
    /// Everything works.
    Running = 0,
    /// The interface is gone for good, or the address that was shared with the host is.
    NetworkGone = 1,
    /// Shutdown has begun: data may still drain, nothing new starts.
    Closing = 2,
    /// A layer panicked.
    Failed = 3,
}

/// A [`Status`] that threads share.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

impl Health {
    pub(crate) fn status(&self) -> Status {
        match self.0.load(Ordering::SeqCst) {
            0 => Status::Running,
            1 => Status::NetworkGone,
            2 => Status::Closing,
            _ => Status::Failed,
        }
    }

    /// Moves on to `status`, unless it is worse already.
    pub(crate) fn worsen(&self, status: Status) {
        self.0.fetch_max(status as u8, Ordering::SeqCst);
    }
}
