//! The bytes to send: slices of what the program wrote, from the first unacknowledged byte to the last written one.
//!
//! Owns the chunks; the same ones serve first transmission and retransmission. Refuses to know what has been sent.

use crate::packet::{Packet, Pool, Slice};
use crate::wire::SequenceNumber;
use std::collections::VecDeque;

/// A chunk of at most this many bytes is copied behind its predecessor, where that one's slot has room and nobody else holds it: a thousand
/// one-byte writes become few slices.
const SMALL_CHUNK: usize = 512;

#[derive(Debug)]
struct Chunk {
    start: SequenceNumber,
    slice: Slice,
}

/// The queue.
#[derive(Debug)]
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    start: SequenceNumber,
    end: SequenceNumber,
}

impl SendQueue {
    /// An empty queue whose first byte will have the number `start`.
    pub(super) fn new(start: SequenceNumber) -> SendQueue {
        SendQueue { chunks: VecDeque::new(), start, end: start }
    }

    /// The number behind the last byte.
    pub(super) fn end(&self) -> SequenceNumber {
        self.end
    }

    /// Appends a chunk.
    pub(super) fn push(&mut self, mut slice: Slice, pool: &Pool) {
        let length = slice.len();
        if length <= SMALL_CHUNK {
            slice.advance(self.chunks.back_mut().map_or(0, |last| last.slice.grow_back(&slice)));
            slice = pool.copy_down(slice);
        }
        if !slice.is_empty() {
            let start = self.end + (length - slice.len()) as u32;
            self.chunks.push_back(Chunk { start, slice });
        }
        self.end += length as u32;
    }

    /// Forgets what lies before `next`; says how many bytes that were.
    pub(super) fn acknowledge(&mut self, next: SequenceNumber) -> usize {
        let next = next.earliest(self.end).latest(self.start);
        let count = next.distance_from(self.start);
        self.start = next;
        while let Some(first) = self.chunks.front_mut() {
            let over = next.offset_from(first.start).max(0) as usize;
            if over < first.slice.len() {
                first.slice.advance(over);
                first.start = first.start.latest(next);
                break;
            }
            self.chunks.pop_front();
        }
        count as usize
    }

    /// Appends the bytes from `start` on to `packet`: `length` of them, or fewer where they end or come in too many slices. Says how many.
    pub(super) fn copy_to(&self, packet: &mut Packet, start: SequenceNumber, length: usize, slices: usize) -> usize {
        let first = self.chunks.partition_point(|chunk| chunk.start.before_or_equal(start)).saturating_sub(1);
        let mut done = 0;
        for chunk in self.chunks.iter().skip(first).take(slices) {
            let skip = (start + done as u32).offset_from(chunk.start).max(0) as usize;
            let part = chunk.slice.part(skip..skip.saturating_add(length - done));
            done += part.len();
            packet.push(part);
            if done >= length {
                break;
            }
        }
        done
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.start = self.end;
    }

    #[cfg(test)]
    fn chunk_count(&self) -> usize {
        self.chunks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(pool: &Pool, pieces: &[&[u8]]) -> SendQueue {
        let mut queue = SendQueue::new(SequenceNumber(u32::MAX - 2));
        for piece in pieces {
            queue.push(pool.copy_from(0, piece), pool);
        }
        queue
    }

    fn bytes(queue: &SendQueue, from: u32, length: usize, slices: usize) -> Vec<u8> {
        let mut packet = Packet::default();
        let count = queue.copy_to(&mut packet, SequenceNumber(u32::MAX - 2) + from, length, slices);
        assert_eq!(count, packet.len());
        packet.to_vec()
    }

    #[test]
    fn parts_cross_chunks_and_the_end_of_the_circle() {
        let pool = Pool::default();
        let large = [7_u8; 600];
        let mut queue = queue_of(&pool, &[b"0123", &large, b"abc", &large]);
        assert_eq!(bytes(&queue, 2, 4, 9), [b'2', b'3', 7, 7]);
        assert_eq!(bytes(&queue, 603, 5, 9), [7, b'a', b'b', b'c', 7]);
        assert_eq!(bytes(&queue, 2, 4, 1), *b"23");
        assert_eq!(queue.acknowledge(SequenceNumber(u32::MAX - 2) + 605), 605);
        assert_eq!(queue.acknowledge(SequenceNumber(u32::MAX - 2) + 5), 0);
        assert_eq!(bytes(&queue, 605, 3, 9), [b'b', b'c', 7]);
        assert_eq!(queue.acknowledge(SequenceNumber(u32::MAX - 2) + 9_999), 602);
        assert_eq!((queue.chunk_count(), bytes(&queue, 1_207, 4, 9).len()), (0, 0));
    }

    #[test]
    fn a_thousand_small_writes_become_few_chunks() {
        let pool = Pool::default();
        let mut queue = queue_of(&pool, &[]);
        for index in 0..1_000_u32 {
            queue.push(pool.copy_from(0, &[index as u8, 1, 2]), &pool);
        }
        assert!(queue.chunk_count() <= 2, "{}", queue.chunk_count());
        assert_eq!(bytes(&queue, 2_994, 6, 9), [230, 1, 2, 231, 1, 2]);
    }

    #[test]
    fn a_chunk_in_flight_is_not_touched() {
        let pool = Pool::default();
        let mut queue = queue_of(&pool, &[b"one"]);
        let mut packet = Packet::default();
        queue.copy_to(&mut packet, SequenceNumber(u32::MAX - 2), 3, 9);
        queue.push(pool.copy_from(0, b"two"), &pool);
        assert_eq!((queue.chunk_count(), packet.to_vec(), bytes(&queue, 0, 6, 9)), (2, b"one".to_vec(), b"onetwo".to_vec()));
    }
}
