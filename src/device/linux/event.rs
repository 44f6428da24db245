//! An event that a kernel descriptor shows: for programs that wait in a loop of their own.

use super::sys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A descriptor that is readable while it is signalled (an eventfd). Several signals are one.
#[derive(Debug)]
pub struct EventDescriptor(OwnedFd);

impl EventDescriptor {
    /// Not signalled.
    pub fn new() -> io::Result<EventDescriptor> {
        sys::eventfd().map(EventDescriptor)
    }

    /// Makes it readable. Never blocks.
    pub fn signal(&self) {
        // Only a full counter refuses, and then it is readable already.
        let _ = sys::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        // Only an empty counter refuses, and then it is unreadable already.
        let _ = sys::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for EventDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
