//! The one copy of a write, and the one of a read: between a program's buffers and slots, outside the socket's lock, but for what a short write puts behind the
//! last chunk.
//!
//! Owns how a write is cut into chunks. Refuses to know sockets: who has room, and what waits, is `tcp_stream.rs`'s to say.

use crate::packet::{Pool, SMALL_SLOT, Slice};
use smallvec::SmallVec;
use std::io::{IoSlice, IoSliceMut};

/// Longer writes go to large slots, shorter ones to small slots, so that little memory is pinned for nothing.
const LARGE_WRITE: usize = 8 * SMALL_SLOT;
/// Bytes of one chunk in a large slot.
pub(super) const LARGE_CHUNK: usize = 64 << 10;

/// Copies `slices` to `buffers`, as far as there is room; says how many bytes those were.
pub(super) fn copy_out(slices: &[Slice], buffers: &mut [IoSliceMut<'_>]) -> usize {
    let mut rooms = buffers.iter_mut().map(|buffer| &mut buffer[..]).filter(|room| !room.is_empty());
    let mut room: &mut [u8] = rooms.next().unwrap_or_default();
    let mut done = 0;
    for slice in slices {
        let mut rest: &[u8] = slice;
        while !rest.is_empty() {
            if room.is_empty() {
                let Some(next) = rooms.next() else { return done };
                room = next;
            }
            let count = rest.len().min(room.len());
            let (now, later) = rest.split_at(count);
            let (here, beyond) = std::mem::take(&mut room).split_at_mut(count);
            here.copy_from_slice(now);
            (rest, room) = (later, beyond);
            done += count;
        }
    }
    done
}

/// What is still to be copied of a write: the first `left` bytes of what `first` and then `buffers` hold.
pub(super) struct Source<'a> {
    buffers: &'a [IoSlice<'a>],
    first: &'a [u8],
    left: usize,
}

impl<'a> Source<'a> {
    /// The first `count` bytes of `buffers`, which hold as many at least.
    pub(super) fn new(buffers: &'a [IoSlice<'a>], count: usize) -> Source<'a> {
        Source { buffers, first: &[], left: count }
    }

    /// Leaves no more than `count` bytes to be copied, and says how many.
    pub(super) fn limit(&mut self, count: usize) -> usize {
        self.left = self.left.min(count);
        self.left
    }

    /// Copies what has room behind `tail`, and says how much that was. None of it, if more is left than a small slot holds: then the rest is copied anyway.
    pub(super) fn join(&mut self, tail: &mut Slice) -> usize {
        let before = self.left;
        while self.left > 0 && before < SMALL_SLOT {
            match tail.grow_back(self.next()) {
                0 => break,
                count => self.advance(count),
            }
        }
        before - self.left
    }

    /// Copies the rest into chunks of its own.
    pub(super) fn into_chunks(mut self, pool: &Pool) -> SmallVec<[Slice; 4]> {
        let chunk_bytes = if self.left > LARGE_WRITE { LARGE_CHUNK } else { SMALL_SLOT };
        let mut chunks = SmallVec::new();
        while self.left > 0 {
            let mut buffer = pool.buffer(0, self.left.min(chunk_bytes));
            self.fill(buffer.bytes_mut());
            chunks.push(buffer.freeze());
        }
        chunks
    }

    /// The next bytes that lie together.
    fn next(&mut self) -> &'a [u8] {
        while self.first.is_empty() {
            let Some((buffer, rest)) = self.buffers.split_first() else { return &[] };
            (self.first, self.buffers) = (buffer, rest);
        }
        self.first.get(..self.left.min(self.first.len())).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.first = self.first.get(count..).unwrap_or_default();
        self.left -= count;
    }

    /// Fills `room`, which is no longer than what is left.
    fn fill(&mut self, mut room: &mut [u8]) {
        while !room.is_empty() {
            let bytes = self.next();
            let count = bytes.len().min(room.len());
            let (now, later) = room.split_at_mut(count);
            now.copy_from_slice(&bytes[..count]);
            room = later;
            self.advance(count);
        }
    }
}
