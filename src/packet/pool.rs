//! Slots, and the pool they go back to.
//!
//! A slot is a reference-counted piece of memory. While one holder has it, it can be written; afterwards it is shared and immutable. On
//! the last drop, from whichever thread, it returns to its pool, so that no packet costs an allocation in steady state.
//!
//! The standard `Arc` cannot say "I was the last" before it frees, so each slot counts its holders itself: whoever takes that count to
//! zero gives the `Arc`, allocation and all, back to the pool.

use parking_lot::Mutex;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The bytes of a small slot: an Ethernet frame of the usual size, or headers with headroom.
pub const SMALL_SLOT: usize = 2_048;
/// The bytes of a large slot: the largest IP packet, an Ethernet header, two 802.1Q tags, and a virtio-net header of 12 bytes.
pub const LARGE_SLOT: usize = 65_535 + 14 + 8 + 12;
/// A small slot that holds fewer bytes than this wastes more than it keeps; see [`Pool::copy_down`].
const COPY_DOWN_BELOW: usize = SMALL_SLOT;

/// A pool of slots in two sizes. Cheap to clone; each stack has one.
#[derive(Clone)]
pub struct Pool {
    shelves: Arc<Shelves>,
}

struct Shelves {
    small: Shelf,
    large: Shelf,
    allocations: AtomicU64,
}

struct Shelf {
    slot_bytes: usize,
    keep: usize,
    free: Mutex<Vec<Arc<Slot>>>,
    /// Slots that somebody holds. Written under the lock of `free`, so that it needs no atomic addition.
    held: AtomicUsize,
}

struct Slot {
    holders: AtomicUsize,
    home: Weak<Shelves>,
    bytes: Box<[u8]>,
}

/// One holder's grip on a slot. `None` only while it is being dropped.
struct Holder(Option<Arc<Slot>>);

impl Pool {
    /// A pool that keeps at most this many idle slots of each size; further ones are freed when their last holder drops them.
    pub fn new(keep_small: usize, keep_large: usize) -> Pool {
        let shelf = |slot_bytes, keep| Shelf { slot_bytes, keep, free: Mutex::default(), held: AtomicUsize::new(0) };
        let shelves =
            Shelves { small: shelf(SMALL_SLOT, keep_small), large: shelf(LARGE_SLOT, keep_large), allocations: AtomicU64::new(0) };
        Pool { shelves: Arc::new(shelves) }
    }

    /// A writable buffer of `length` bytes (at most [`LARGE_SLOT`] with the headroom; longer ones are cut to that) behind `headroom` free ones.
    /// Its content is whatever the slot held before.
    pub fn buffer(&self, headroom: usize, length: usize) -> Buffer {
        let wanted = headroom.saturating_add(length).min(LARGE_SLOT);
        let slot = self.shelves.take(wanted);
        let start = headroom.min(wanted);
        Buffer { slot, range: start..wanted }
    }

    /// A shared copy of `bytes` (cut to [`LARGE_SLOT`]) behind `headroom` free bytes.
    pub fn copy_from(&self, headroom: usize, bytes: &[u8]) -> Slice {
        let mut buffer = self.buffer(headroom, bytes.len());
        copy_what_fits(buffer.bytes_mut(), bytes);
        buffer.freeze()
    }

    /// A slice in a small slot, if `slice` is a small part of a large one: so that a slow reader of small packets cannot pin large slots.
    pub fn copy_down(&self, slice: Slice) -> Slice {
        if slice.len() < COPY_DOWN_BELOW && slice.slot_bytes() > SMALL_SLOT { self.copy_from(0, &slice) } else { slice }
    }

    /// How often a slot had to be allocated because none was free. Stands still in steady state.
    pub fn allocations(&self) -> u64 {
        self.shelves.allocations.load(Ordering::Relaxed)
    }

    /// Bytes of the slots that somebody holds, whole slots counted.
    pub fn bytes_in_use(&self) -> usize {
        self.shelves.small.bytes_held() + self.shelves.large.bytes_held()
    }

    /// Idle slots: (small, large).
    pub fn idle(&self) -> (usize, usize) {
        (self.shelves.small.free.lock().len(), self.shelves.large.free.lock().len())
    }
}

impl Default for Pool {
    fn default() -> Pool {
        Pool::new(8_192, 512)
    }
}

impl Shelves {
    fn take(self: &Arc<Shelves>, bytes: usize) -> Arc<Slot> {
        let shelf = if bytes <= SMALL_SLOT { &self.small } else { &self.large };
        shelf.take().unwrap_or_else(|| {
            self.allocations.fetch_add(1, Ordering::Relaxed);
            let bytes = vec![0; shelf.slot_bytes].into_boxed_slice();
            Arc::new(Slot { holders: AtomicUsize::new(1), home: Arc::downgrade(self), bytes })
        })
    }

    fn put(&self, slot: Arc<Slot>) {
        let shelf = if slot.bytes.len() <= SMALL_SLOT { &self.small } else { &self.large };
        shelf.put(slot);
    }
}

impl Shelf {
    /// Counts a slot as held, and gives an idle one that nobody else can see. A holder that counted itself out may still be about to drop its `Arc`; such a
    /// slot is let go.
    fn take(&self) -> Option<Arc<Slot>> {
        let mut free = self.free.lock();
        self.held.store(self.held.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::iter::from_fn(|| free.pop()).find(|slot| Arc::strong_count(slot) == 1)
    }

    fn put(&self, slot: Arc<Slot>) {
        slot.holders.store(1, Ordering::Relaxed);
        let mut free = self.free.lock();
        self.held.store(self.held.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        if free.len() < self.keep {
            free.push(slot);
        }
    }

    fn bytes_held(&self) -> usize {
        self.held.load(Ordering::Relaxed) * self.slot_bytes
    }
}

impl Holder {
    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |slot| &slot.bytes)
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.0.as_mut().and_then(Arc::get_mut).map(|slot| &mut slot.bytes[..])
    }
}

impl Clone for Holder {
    fn clone(&self) -> Holder {
        if let Some(slot) = &self.0 {
            slot.holders.fetch_add(1, Ordering::Relaxed);
        }
        Holder(self.0.clone())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(slot) = self.0.take() else { return };
        // Who holds it alone stays alone: others come by cloning a holder.
        let is_last = slot.holders.load(Ordering::Acquire) == 1 || slot.holders.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && let Some(home) = slot.home.upgrade() {
            home.put(slot);
        }
    }
}

/// A slot with one holder: bytes that can be written, then shared by [`Buffer::freeze`].
pub struct Buffer {
    slot: Arc<Slot>,
    range: Range<usize>,
}

impl Buffer {
    /// The writable bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range.clone();
        Arc::get_mut(&mut self.slot).and_then(|slot| slot.bytes.get_mut(range)).unwrap_or_default()
    }

    /// How many bytes can be written.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Keeps the first `length` bytes only.
    pub fn truncate(&mut self, length: usize) {
        self.range.end = self.range.end.min(self.range.start.saturating_add(length));
    }

    /// Ends the writing: from here on the bytes are shared and immutable.
    pub fn freeze(self) -> Slice {
        let Buffer { slot, range } = self;
        Slice { slot: Holder(Some(slot)), start: range.start as u32, end: range.end as u32 }
    }
}

/// A shared, immutable part of a slot. Cloning counts, it does not copy.
#[derive(Clone)]
pub struct Slice {
    slot: Holder,
    start: u32,
    end: u32,
}

impl Slice {
    /// No bytes, no slot.
    pub fn empty() -> Slice {
        Slice { slot: Holder(None), start: 0, end: 0 }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The size of the whole slot: what this slice pins in memory.
    pub fn slot_bytes(&self) -> usize {
        self.slot.bytes().len()
    }

    /// Drops the first `count` bytes (all, if there are fewer).
    pub fn advance(&mut self, count: usize) {
        self.start += count.min(self.len()) as u32;
    }

    /// Keeps the first `length` bytes (all, if there are fewer).
    pub fn truncate(&mut self, length: usize) {
        self.end = self.start + length.min(self.len()) as u32;
    }

    /// Takes the first `count` bytes (all, if there are fewer) off as a slice of their own.
    pub fn split_to(&mut self, count: usize) -> Slice {
        let mut front = self.clone();
        front.truncate(count);
        self.advance(count);
        front
    }

    /// A slice of `range`, counted from this slice's start; cut to what there is.
    pub fn part(&self, range: Range<usize>) -> Slice {
        let mut part = self.clone();
        part.truncate(range.end);
        part.advance(range.start);
        part
    }

    /// Whether [`Slice::grow_front`] gives something.
    pub fn may_grow_front(&self, count: usize) -> bool {
        self.start as usize >= count && self.slot.0.as_ref().is_some_and(|slot| Arc::strong_count(slot) == 1)
    }

    /// Grows to the front by `count` bytes and gives the whole slice for writing, if the slot has room there and no other holder.
    pub fn grow_front(&mut self, count: usize) -> Option<&mut [u8]> {
        let start = (self.start as usize).checked_sub(count)?;
        let end = self.end as usize;
        let bytes = self.slot.bytes_mut()?.get_mut(start..end)?;
        self.start = start as u32;
        Some(bytes)
    }

    /// Copies as much of `bytes` behind this slice's end as the slot has room for, if it has no other holder; says how much that was.
    pub fn grow_back(&mut self, bytes: &[u8]) -> usize {
        let end = self.end as usize;
        let Some(room) = self.slot.bytes_mut().and_then(|slot| slot.get_mut(end..)) else { return 0 };
        let count = copy_what_fits(room, bytes);
        self.end += count as u32;
        count
    }

    /// The bytes for writing, if there is no other holder.
    pub fn unique_mut(&mut self) -> Option<&mut [u8]> {
        self.grow_front(0)
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.slot.bytes().get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes of a slot of {})", self.len(), self.slot_bytes())
    }
}

/// Copies as much of `from` as `to` has room for; says how much that was.
pub(crate) fn copy_what_fits(to: &mut [u8], from: &[u8]) -> usize {
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_returns_on_the_last_drop_and_is_used_again() {
        let pool = Pool::new(4, 4);
        let first = pool.copy_from(0, b"abc");
        let second = first.clone();
        drop(first);
        assert_eq!(pool.idle(), (0, 0));
        drop(second);
        assert_eq!(pool.idle(), (1, 0));
        let again = pool.buffer(0, 10);
        assert_eq!((pool.idle(), pool.allocations(), again.len()), ((0, 0), 1, 10));
    }

    #[test]
    fn steady_state_allocates_nothing_across_threads() {
        let pool = Pool::new(64, 64);
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Slice>(8);
        let reader = std::thread::spawn(move || receiver.into_iter().map(|slice| slice.len()).sum::<usize>());
        for _ in 0..10_000 {
            let slice = pool.copy_from(16, &[7; 100]);
            drop(slice.clone());
            sender.send(slice).unwrap();
        }
        drop(sender);
        assert_eq!(reader.join().unwrap(), 1_000_000);
        assert!(pool.allocations() < 100, "{} allocations", pool.allocations());
    }

    #[test]
    fn the_pool_keeps_no_more_than_it_may() {
        let pool = Pool::new(1, 0);
        let slices: Vec<_> = (0..3).map(|_| pool.buffer(0, 1).freeze()).collect();
        let large = pool.buffer(0, 5_000);
        drop((slices, large.freeze()));
        assert_eq!(pool.idle(), (1, 0));
    }

    #[test]
    fn slots_outlive_their_pool() {
        let slice = Pool::default().copy_from(0, b"still here");
        assert_eq!(&*slice, b"still here");
    }

    #[test]
    fn writing_needs_the_only_hold() {
        let pool = Pool::default();
        let mut slice = pool.copy_from(4, b"body");
        let other = slice.clone();
        assert!(slice.grow_front(4).is_none());
        assert_eq!(slice.grow_back(b"!"), 0);
        drop(other);
        slice.grow_front(4).unwrap()[..4].copy_from_slice(b"head");
        assert_eq!(slice.grow_back(b"!"), 1);
        assert_eq!(&*slice, b"headbody!");
        assert!(slice.grow_front(1).is_none(), "no headroom is left");
    }

    #[test]
    fn slices_cut_themselves_to_what_there_is() {
        let mut slice = Pool::default().copy_from(0, b"0123456789");
        assert_eq!(&*slice.part(2..4), b"23");
        assert_eq!(&*slice.part(8..99), b"89");
        assert_eq!(&*slice.split_to(3), b"012");
        slice.truncate(100);
        slice.advance(100);
        assert!(slice.is_empty());
        assert_eq!(&*Slice::empty(), b"");
    }

    #[test]
    fn a_small_packet_leaves_its_large_slot() {
        let pool = Pool::default();
        let mut large = pool.buffer(0, LARGE_SLOT).freeze();
        large.truncate(100);
        assert_eq!(pool.copy_down(large).slot_bytes(), SMALL_SLOT);
    }
}
