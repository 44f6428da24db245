//! The packet that travels the pipeline: up to 64 KB, in slices of pooled slots, with the facts that must not get lost on its way.
//!
//! Owns memory and metadata. Refuses to know any protocol: headers are bytes here. Read [`pool`] first.
//!
//! Received packets are one slice (or several, where segments of one flow were merged), and each layer strips its header from the
//! front. Packets to send are slices of what the program wrote, and each layer puts its header in front, into the headroom of the first
//! slice. Nothing is copied on either way.

pub mod pool;

pub use pool::{Buffer, LARGE_SLOT, Pool, SMALL_SLOT, Slice};

use crate::time::Instant;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// Free bytes in front of a transport header that the lower layers need: Ethernet with two 802.1Q tags, IPv4 with options or IPv6 with a
/// fragment header, and the virtio-net header.
pub const HEADROOM: usize = 12 + 14 + 8 + 60;

/// What is known of the checksum of the transport header within.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum ChecksumState {
    /// Received: nobody has verified it. To send: it is complete.
    #[default]
    Unknown,
    /// Received: the device, or a local peer, vouches for it.
    Verified,
    /// The field holds only the pseudo-header's sum. `start`: where summing begins, in bytes from the packet's front; `offset`: the field's
    /// place, from `start`. To send: somebody has yet to fill it in. Received from a local peer: as good as verified.
    Partial {
        /// Where summing begins, counted from the front of the packet.
        start: u16,
        /// Where the field is, counted from `start`.
        offset: u16,
    },
}

/// How a super-segment is cut: the transport payload in pieces of `size` bytes, each behind a copy of the headers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// What is cut.
    pub kind: SegmentationKind,
    /// Bytes of transport payload in each piece but the last.
    pub size: u16,
}

/// The protocols a super-segment can be cut for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    TcpIpv4,
    /// TCP over IPv6.
    TcpIpv6,
    /// Datagrams of equal size over UDP.
    Udp,
}

/// Offload facts: they travel with the packet, and the device's word decides, not the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// The transport checksum's state.
    pub checksum: ChecksumState,
    /// Set on super-segments.
    pub segmentation: Option<Segmentation>,
}

/// Somebody who lent room for a packet and gets it back: the receive thread's credits, a socket's send budget.
pub trait Account: Send + Sync {
    /// One packet of this many bytes is dropped, delivered, or taken by the device. Called from any thread; must not block.
    fn give_back(&self, bytes: usize);
}

/// Room in use by one packet; given back on drop.
pub struct Guard {
    account: Arc<dyn Account>,
    bytes: usize,
}

impl Guard {
    /// Remembers that `bytes` were taken from `account`, which has already counted them.
    pub fn new(account: Arc<dyn Account>, bytes: usize) -> Guard {
        Guard { account, bytes }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({} bytes)", self.bytes)
    }
}

/// A packet: bytes in slices, and what is known about them.
#[derive(Debug, Default)]
pub struct Packet {
    slices: SmallVec<[Slice; 3]>,
    length: usize,
    /// Checksum and segmentation.
    pub offload: Offload,
    /// When the device had it (received), by the one clock; for a packet to send, when it was made.
    pub arrived: Instant,
    /// A running number given by the receive thread or by the layer that made it; shows up in captures and logs.
    pub number: u64,
    /// To send: nothing that went this way lately was answered, so the neighbour that it goes to is to be asked whether it is still there (RFC 9293
    /// §3.8.3: "negative advice to the IP layer").
    pub doubts_path: bool,
    /// Room that returns when the packet is dropped.
    pub guard: Option<Guard>,
}

impl Packet {
    /// A packet of one slice.
    pub fn new(slice: Slice) -> Packet {
        let mut packet = Packet::default();
        packet.push(slice);
        packet
    }

    /// A packet that copies `bytes` into one slot with [`HEADROOM`] in front, or as much of it as a slot has room for. Bytes beyond
    /// [`LARGE_SLOT`] are cut off.
    pub fn from_bytes(pool: &Pool, bytes: &[u8]) -> Packet {
        let headroom = HEADROOM.min(LARGE_SLOT.saturating_sub(bytes.len()));
        Packet::new(pool.copy_from(headroom, bytes))
    }

    /// The number of bytes in all slices.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes of the first slice: headers are parsed from here.
    pub fn front(&self) -> &[u8] {
        self.slices.first().map_or(&[], |slice| slice)
    }

    /// The slices in order.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The slices, without the facts. The guard is dropped: the room is given back.
    pub fn into_slices(mut self) -> impl Iterator<Item = Slice> {
        std::mem::take(&mut self.slices).into_iter()
    }

    /// Appends a slice. Empty ones are left out.
    pub fn push(&mut self, slice: Slice) {
        if !slice.is_empty() {
            self.length += slice.len();
            self.slices.push(slice);
        }
    }

    /// Puts a slice in front of all others, and moves the checksum's place along. Empty ones are left out.
    pub fn push_front(&mut self, slice: Slice) {
        if !slice.is_empty() {
            self.shift_checksum(slice.len() as isize);
            self.length += slice.len();
            self.slices.insert(0, slice);
        }
    }

    /// Makes room for so many slices more, with one allocation instead of several.
    pub fn reserve(&mut self, slices: usize) {
        self.slices.reserve(slices);
    }

    /// Drops the first `count` bytes (all, if there are fewer) and moves the checksum's place along.
    pub fn advance(&mut self, count: usize) {
        self.shift_checksum(-(count.min(self.length) as isize));
        match self.slices.first_mut() {
            Some(first) if count < first.len() => {
                first.advance(count);
                self.length -= count;
            }
            _ => self.advance_across(count),
        }
    }

    fn advance_across(&mut self, count: usize) {
        let mut left = count.min(self.length);
        self.length -= left;
        while left > 0 {
            let Some(first) = self.slices.first_mut() else { return };
            let here = left.min(first.len());
            first.advance(here);
            left -= here;
            if first.is_empty() {
                self.slices.remove(0);
            }
        }
    }

    /// Keeps the first `length` bytes: link-layer padding goes.
    pub fn truncate(&mut self, length: usize) {
        while self.length > length {
            let Some(last) = self.slices.last_mut() else { return };
            let excess = (self.length - length).min(last.len());
            last.truncate(last.len() - excess);
            self.length -= excess;
            if last.is_empty() {
                self.slices.pop();
            }
        }
    }

    /// A packet of the bytes in `range` (counted from the front), sharing the slots. Metadata is copied, guard and offload facts are not.
    pub fn part(&self, range: Range<usize>) -> Packet {
        let mut part = Packet { arrived: self.arrived, number: self.number, ..Packet::default() };
        self.cut(range).for_each(|(slice, within)| part.push(slice.part(within)));
        part
    }

    /// The bytes in `range` (counted from the front), piece by piece.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.cut(range).filter_map(|(slice, within)| slice.get(within))
    }

    /// The slices that have bytes in `range`, and which of theirs those are.
    fn cut(&self, range: Range<usize>) -> impl Iterator<Item = (&Slice, Range<usize>)> {
        let mut position = 0;
        self.slices.iter().filter_map(move |slice| {
            let start = range.start.saturating_sub(position);
            let end = range.end.saturating_sub(position).min(slice.len());
            position += slice.len();
            (start < end).then_some((slice, start..end))
        })
    }

    /// A second packet over the same bytes, with the same facts and no guard: what a retransmission or a capture holds.
    pub fn share(&self) -> Packet {
        Packet {
            slices: self.slices.clone(),
            length: self.length,
            offload: self.offload,
            arrived: self.arrived,
            number: self.number,
            doubts_path: self.doubts_path,
            guard: None,
        }
    }

    /// Puts `count` bytes in front and gives them for writing; moves the checksum's place along. They hold whatever the slot held. Uses the
    /// headroom of the first slice if nobody else holds that slot, else a new small slot.
    pub fn prepend(&mut self, count: usize, pool: &Pool) -> &mut [u8] {
        self.shift_checksum(count as isize);
        if !self.slices.first().is_some_and(|first| first.may_grow_front(count)) {
            self.slices.insert(0, pool.buffer(HEADROOM + count, 0).freeze());
        }
        self.length += count;
        self.slices.first_mut().and_then(|first| first.grow_front(count)).and_then(|front| front.get_mut(..count)).unwrap_or_default()
    }

    /// The first slice for writing, if nobody else holds its slot.
    pub fn front_mut(&mut self) -> Option<&mut [u8]> {
        self.slices.first_mut().and_then(Slice::unique_mut)
    }

    /// Makes the first `count` bytes writable, wherever they are: in place if possible, else copied into a new slot. `None` if the packet is shorter.
    pub fn make_writable(&mut self, count: usize, pool: &Pool) -> Option<&mut [u8]> {
        if self.length < count {
            return None;
        }
        let in_place = self.slices.first_mut().is_some_and(|first| first.len() >= count && first.unique_mut().is_some());
        if !in_place {
            let mut copy = pool.buffer(HEADROOM, count);
            self.copy_to(copy.bytes_mut());
            let checksum = self.offload.checksum;
            self.advance(count);
            self.offload.checksum = checksum;
            self.slices.insert(0, copy.freeze());
            self.length += count;
        }
        self.front_mut().and_then(|front| front.get_mut(..count))
    }

    /// Copies as many bytes as fit into `to`; says how many.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            let room = to.get_mut(done..).unwrap_or_default();
            done += pool::copy_what_fits(room, slice);
        }
        done
    }

    /// The bytes as one vector: for tests, captures and errors, not for the hot path.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    /// Makes the first `count` bytes (all, if there are fewer) lie in the first slice, copying only if they do not.
    pub fn gather_front(&mut self, count: usize, pool: &Pool) {
        let count = count.min(self.length);
        if self.front().len() < count {
            self.make_writable(count, pool);
        }
    }

    fn shift_checksum(&mut self, by: isize) {
        if let ChecksumState::Partial { start, offset } = self.offload.checksum {
            let moved = (start as isize).saturating_add(by).max(0).min(u16::MAX as isize);
            self.offload.checksum = ChecksumState::Partial { start: moved as u16, offset };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn packet_of(pool: &Pool, pieces: &[&[u8]]) -> Packet {
        let mut packet = Packet::default();
        for piece in pieces {
            packet.push(pool.copy_from(0, piece));
        }
        packet
    }

    #[test]
    fn headers_come_and_go_at_the_front() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, b"payload");
        packet.offload.checksum = ChecksumState::Partial { start: 0, offset: 16 };
        packet.prepend(2, &pool).copy_from_slice(b"ip");
        assert_eq!((packet.to_vec().as_slice(), packet.slices().len()), (&b"ippayload"[..], 1));
        assert_eq!(packet.offload.checksum, ChecksumState::Partial { start: 2, offset: 16 });
        packet.advance(2);
        assert_eq!(packet.offload.checksum, ChecksumState::Partial { start: 0, offset: 16 });
        assert_eq!(packet.front(), b"payload");
    }

    #[test]
    fn a_shared_front_is_left_alone() {
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, b"payload");
        let copy = packet.share();
        packet.prepend(2, &pool).copy_from_slice(b"ip");
        assert_eq!((packet.to_vec(), copy.to_vec()), (b"ippayload".to_vec(), b"payload".to_vec()));
        assert_eq!(packet.slices().len(), 2);
    }

    #[test]
    fn cutting_crosses_slices() {
        let pool = Pool::default();
        let mut packet = packet_of(&pool, &[b"0123", b"4567", b"89"]);
        assert_eq!(packet.part(3..9).to_vec(), b"345678");
        assert_eq!(packet.pieces(3..9).collect::<Vec<_>>().concat(), b"345678");
        packet.truncate(9);
        packet.advance(5);
        assert_eq!((packet.to_vec(), packet.len()), (b"5678".to_vec(), 4));
        packet.advance(100);
        assert!(packet.is_empty() && packet.slices().is_empty());
    }

    #[test]
    fn gathering_and_writing_work_across_slices() {
        let pool = Pool::default();
        let mut packet = packet_of(&pool, &[b"01", b"2345", b"6789"]);
        packet.offload.checksum = ChecksumState::Partial { start: 1, offset: 0 };
        packet.gather_front(5, &pool);
        assert!(packet.front().len() >= 5);
        packet.make_writable(3, &pool).unwrap().copy_from_slice(b"abc");
        assert_eq!((packet.to_vec(), packet.len()), (b"abc3456789".to_vec(), 10));
        assert_eq!(packet.offload.checksum, ChecksumState::Partial { start: 1, offset: 0 });
        assert!(packet.make_writable(11, &pool).is_none());
    }

    #[test]
    fn a_guard_gives_back_once_wherever_the_packet_ends() {
        #[derive(Default)]
        struct Room(AtomicUsize);
        impl Account for Room {
            fn give_back(&self, bytes: usize) {
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let room = Arc::new(Room::default());
        let pool = Pool::default();
        let mut packet = Packet::from_bytes(&pool, b"x");
        packet.guard = Some(Guard::new(room.clone(), 42));
        let shared = packet.share();
        let slices: Vec<_> = packet.into_slices().collect();
        assert_eq!(room.0.load(Ordering::Relaxed), 42);
        drop((shared, slices));
        assert_eq!(room.0.load(Ordering::Relaxed), 42);
    }
}
