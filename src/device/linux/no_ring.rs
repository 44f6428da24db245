//! What stands in for `ring` on processors that the crate io-uring does not know: there are no results, ever, and the caller goes on with plain calls.

use super::receive_buffer::ReceiveBuffer;
use super::sys::{OutgoingBatch, Results};
use std::os::fd::OwnedFd;

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
