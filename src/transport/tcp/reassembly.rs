//! Data that arrived out of order.
//!
//! Owns the blocks beyond RCV.NXT, their bound in memory, and the order in which SACK reports them (RFC 2018 §4). Refuses to know windows: what
//! comes here has been trimmed to one.

use crate::packet::{LARGE_SLOT, Packet, Pool, SMALL_SLOT, Slice};
use crate::wire::{SackBlock, SequenceNumber};
use smallvec::{SmallVec, smallvec};
use std::collections::VecDeque;

/// Slices of at most this many bytes are copied behind their predecessor where its slot has room.
const SMALL_SLICE: usize = 512;

#[derive(Debug)]
struct Block {
    start: SequenceNumber,
    end: SequenceNumber,
    slices: VecDeque<Slice>,
}

impl Block {
    fn push(&mut self, slice: Slice, pinned: &mut usize) {
        self.end += slice.len() as u32;
        push_compactly(&mut self.slices, slice, pinned);
    }
}

/// What became of data that was to be kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it, or what was new of it.
    Stored,
    /// It was all there already.
    Duplicate,
    /// The memory bound is reached.
    Full,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// In order, neither overlapping nor touching.
    blocks: VecDeque<Block>,
    pinned: usize,
    /// Numbers in the blocks that changed last, the latest first.
    recent: SmallVec<[SequenceNumber; 4]>,
    /// How many of those have changed since they were reported.
    unreported: usize,
}

impl Reassembly {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The end of the last block.
    pub(super) fn end(&self) -> Option<SequenceNumber> {
        self.blocks.back().map(|last| last.end)
    }

    /// Bytes of memory that the slots in use take.
    #[cfg(test)]
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    /// Keeps what is new of `payload`, which begins at `start`. What is there already stays as it came first.
    pub(super) fn insert(&mut self, start: SequenceNumber, payload: &Packet, limit: usize, pool: &Pool) -> Kept {
        let missing = self.missing(start, start + payload.len() as u32);
        if missing.is_empty() {
            self.note(start);
            return Kept::Duplicate;
        }
        let cost: usize = payload.slices().iter().map(cost).sum();
        if self.pinned.saturating_add(cost) > limit {
            return Kept::Full;
        }
        for (from, to) in missing {
            let range = from.distance_from(start) as usize..to.distance_from(start) as usize;
            self.insert_block(from, payload.part(range), pool);
        }
        self.note(start);
        Kept::Stored
    }

    /// The parts of `start..end` that no block has.
    fn missing(&self, start: SequenceNumber, end: SequenceNumber) -> SmallVec<[(SequenceNumber, SequenceNumber); 2]> {
        let mut missing = SmallVec::new();
        let mut from = start;
        let first = self.blocks.partition_point(|block| block.end.before_or_equal(start));
        for block in self.blocks.iter().skip(first).take_while(|block| block.start.before(end)) {
            if from.before(block.start) {
                missing.push((from, block.start));
            }
            from = from.latest(block.end);
        }
        if from.before(end) {
            missing.push((from, end));
        }
        missing
    }

    /// The first part of `start..end` that a block has already.
    pub(super) fn overlap(&self, start: SequenceNumber, end: SequenceNumber) -> Option<SackBlock> {
        let index = self.blocks.partition_point(|block| block.end.before_or_equal(start));
        let block = self.blocks.get(index).filter(|block| block.start.before(end))?;
        Some(SackBlock { left: block.start.latest(start), right: block.end.earliest(end) })
    }

    /// Blocks that have changed since they were last reported.
    pub(super) fn unreported(&self) -> usize {
        self.unreported
    }

    /// They have been reported.
    pub(super) fn note_reported(&mut self) {
        self.unreported = 0;
    }

    fn insert_block(&mut self, start: SequenceNumber, part: Packet, pool: &Pool) {
        let mut index = self.blocks.partition_point(|block| block.end.before(start));
        if !self.blocks.get(index).is_some_and(|block| block.end == start) {
            self.blocks.insert(index, Block { start, end: start, slices: VecDeque::new() });
        }
        if let Some(block) = self.blocks.get_mut(index) {
            for slice in part.into_slices().flat_map(|slice| without_waste(slice, pool)) {
                block.push(slice, &mut self.pinned);
            }
        }
        index += 1;
        self.join(index);
    }

    /// Joins the block at `index` to the one before, if they touch.
    fn join(&mut self, index: usize) {
        let touches = |before: &Block, after: &Block| before.end == after.start;
        let (Some(before), Some(after)) = (index.checked_sub(1).and_then(|index| self.blocks.get(index)), self.blocks.get(index)) else {
            return;
        };
        if touches(before, after)
            && let Some(after) = self.blocks.remove(index)
            && let Some(before) = self.blocks.get_mut(index - 1)
        {
            before.end = after.end;
            before.slices.extend(after.slices);
        }
    }

    /// Takes what has become in order: everything up to the end of a block that `next` has reached. Gives the slices from `next` on, and the number
    /// behind them.
    pub(super) fn take(&mut self, mut next: SequenceNumber, into: &mut Vec<Slice>) -> SequenceNumber {
        while self.blocks.front().is_some_and(|first| first.start.before_or_equal(next)) {
            let Some(block) = self.blocks.pop_front() else { break };
            let mut skip = next.distance_from(block.start) as usize;
            for mut slice in block.slices {
                self.pinned = self.pinned.saturating_sub(slice.slot_bytes());
                let over = skip.min(slice.len());
                slice.advance(over);
                skip -= over;
                if !slice.is_empty() {
                    into.push(slice);
                }
            }
            next = next.latest(block.end);
        }
        next
    }

    /// The blocks as SACK reports them: the one that changed last first (RFC 2018 §4).
    pub(super) fn sack_blocks(&self) -> impl Iterator<Item = SackBlock> + '_ {
        let mut reported: SmallVec<[SequenceNumber; 4]> = SmallVec::new();
        self.recent.iter().filter_map(move |&number| {
            let block = self.block_with(number).filter(|block| !reported.contains(&block.start))?;
            reported.push(block.start);
            Some(SackBlock { left: block.start, right: block.end })
        })
    }

    fn block_with(&self, number: SequenceNumber) -> Option<&Block> {
        let index = self.blocks.partition_point(|block| block.end.before_or_equal(number));
        self.blocks.get(index).filter(|block| block.start.before_or_equal(number))
    }

    /// Remembers that the block with `number` changed. The last four different blocks are remembered.
    fn note(&mut self, number: SequenceNumber) {
        let Some(start) = self.block_with(number).map(|block| block.start) else { return };
        let mut recent: SmallVec<[SequenceNumber; 4]> = SmallVec::new();
        recent.push(start);
        let is_new = !self.recent.iter().take(self.unreported).any(|&old| self.block_with(old).is_some_and(|block| block.start == start));
        self.unreported += usize::from(is_new);
        let others = self.recent.iter().filter_map(|&old| self.block_with(old)).map(|block| block.start);
        for other in others {
            if recent.len() < 4 && !recent.contains(&other) {
                recent.push(other);
            }
        }
        self.recent = recent;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Reassembly::default();
    }
}

/// The same bytes in small slots, if they fill less than half of a large one: else a window of jumbo frames would pin seven times its size.
fn without_waste(slice: Slice, pool: &Pool) -> SmallVec<[Slice; 5]> {
    match slice.slot_bytes() > SMALL_SLOT && slice.len() < LARGE_SLOT / 2 {
        true => slice.chunks(SMALL_SLOT).map(|part| pool.copy_from(0, part)).collect(),
        false => smallvec![slice],
    }
}

/// What keeping `slice` costs in memory.
fn cost(slice: &Slice) -> usize {
    if slice.len() < LARGE_SLOT / 2 { slice.len().div_ceil(SMALL_SLOT) * SMALL_SLOT } else { slice.slot_bytes() }
}

/// Appends `slice`, small ones behind their predecessor's bytes where its slot has room and nobody else holds it.
fn push_compactly(slices: &mut VecDeque<Slice>, mut slice: Slice, pinned: &mut usize) {
    if slice.len() <= SMALL_SLICE {
        slice.advance(slices.back_mut().map_or(0, |last| last.grow_back(&slice)));
    }
    if !slice.is_empty() {
        *pinned += slice.slot_bytes();
        slices.push_back(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(value: u32) -> SequenceNumber {
        SequenceNumber(value.wrapping_sub(300))
    }

    /// Bytes that depend on their place only.
    fn packet(pool: &Pool, from: u32, to: u32) -> Packet {
        let bytes: Vec<u8> = (from..to).map(|at| (at * 7) as u8).collect();
        Packet::new(pool.copy_from(0, &bytes))
    }

    fn insert(queue: &mut Reassembly, pool: &Pool, from: u32, to: u32) -> Kept {
        queue.insert(number(from), &packet(pool, from, to), 1 << 20, pool)
    }

    fn reported(queue: &Reassembly) -> Vec<(u32, u32)> {
        let plain = |number: SequenceNumber| number.0.wrapping_add(300);
        queue.sack_blocks().map(|block| (plain(block.left), plain(block.right))).collect()
    }

    #[test]
    fn blocks_join_and_are_reported_latest_first() {
        let (pool, mut queue) = (Pool::default(), Reassembly::default());
        insert(&mut queue, &pool, 100, 200);
        insert(&mut queue, &pool, 300, 400);
        insert(&mut queue, &pool, 500, 600);
        assert_eq!(reported(&queue), [(500, 600), (300, 400), (100, 200)]);
        insert(&mut queue, &pool, 200, 300);
        assert_eq!(reported(&queue), [(100, 400), (500, 600)]);
        assert_eq!(insert(&mut queue, &pool, 150, 350), Kept::Duplicate);
        let mut slices = vec![];
        assert_eq!(queue.take(number(150), &mut slices), number(400));
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(bytes, packet(&pool, 150, 400).to_vec());
        assert_eq!(reported(&queue), [(500, 600)]);
    }

    #[test]
    fn memory_is_bounded_and_returns_to_zero() {
        let (pool, mut queue) = (Pool::default(), Reassembly::default());
        for at in 0..4 {
            assert_eq!(
                queue.insert(number(at * 2_000), &packet(&pool, at * 2_000, at * 2_000 + 1_000), 3 * 2_048, &pool),
                [Kept::Stored, Kept::Stored, Kept::Stored, Kept::Full][at as usize]
            );
        }
        assert_eq!(queue.pinned(), 3 * 2_048);
        queue.take(number(0), &mut vec![]);
        queue.take(number(5_000), &mut vec![]);
        assert!(queue.is_empty() && queue.pinned() == 0);
    }

    #[test]
    fn jumbo_frames_pin_little_more_than_their_bytes() {
        let (pool, mut queue) = (Pool::default(), Reassembly::default());
        let in_large_slot = |from| Packet::new(pool.copy_from(0, &packet(&pool, from, from + 8_948).to_vec()));
        for at in 1..=6 {
            assert_eq!(queue.insert(number(at * 8_948), &in_large_slot(at * 8_948), 6 * 5 * SMALL_SLOT, &pool), Kept::Stored);
        }
        assert_eq!((queue.pinned(), pool.bytes_in_use()), (6 * 5 * SMALL_SLOT, 6 * 5 * SMALL_SLOT), "not six large slots");
        let mut slices = vec![];
        assert_eq!(queue.take(number(8_948), &mut slices), number(7 * 8_948));
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        assert!(bytes == packet(&pool, 8_948, 7 * 8_948).to_vec());
        assert!(queue.is_empty() && queue.pinned() == 0);
    }

    #[test]
    fn single_bytes_share_slots() {
        let (pool, mut queue) = (Pool::default(), Reassembly::default());
        for at in 10..1_010 {
            assert_eq!(insert(&mut queue, &pool, at, at + 1), Kept::Stored);
        }
        assert!(queue.pinned() <= 2 * 2_048, "{}", queue.pinned());
    }

    proptest! {
        #[test]
        fn whatever_the_order_the_bytes_are_right(pieces in prop::collection::vec((1_u32..400, 1_u32..60), 0..60)) {
            let (pool, mut queue) = (Pool::default(), Reassembly::default());
            let mut have = [false; 500];
            for (from, length) in pieces {
                insert(&mut queue, &pool, from, from + length);
                have[from as usize..(from + length) as usize].fill(true);
            }
            prop_assert!(queue.blocks.iter().zip(queue.blocks.iter().skip(1)).all(|(one, two)| one.end.before(two.start)));
            insert(&mut queue, &pool, 0, 1);
            have[0] = true;
            let mut slices = vec![];
            let end = queue.take(number(0), &mut slices);
            let expected = have.iter().take_while(|&&have| have).count() as u32;
            prop_assert_eq!(end, number(expected));
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            prop_assert_eq!(bytes, packet(&pool, 0, expected).to_vec());
        }
    }
}
