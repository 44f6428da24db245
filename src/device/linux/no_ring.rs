//! What stands in for `ring` on processors that the crate io-uring does not know: there are no results, ever, and the caller goes on with plain calls.

use super::receive_buffer::ReceiveBuffer;
use super::sys::{MESSAGES, OutgoingBatch};
use smallvec::SmallVec;
use std::io;
use std::os::fd::OwnedFd;

pub(super) type Results = SmallVec<[io::Result<usize>; MESSAGES]>;

#[derive(Default)]
pub(super) struct Ring;

impl Ring {
    /// Never.
    pub(super) fn is_worthwhile(&self, _: usize) -> bool {
        false
    }

    pub(super) fn write(&mut self, _: &OwnedFd, _: &OutgoingBatch<'_>) -> Option<Results> {
        None
    }

    pub(super) fn read(&mut self, _: &OwnedFd, _: &mut [ReceiveBuffer]) -> Option<Results> {
        None
    }
}
