//! The receive sequence space (RFC 9293 §3.3.1): windows offered, data kept, acknowledgements owed.
//!
//! Owns RCV.*, the data not yet handed to the program, and what is known of the peer's timestamps. Refuses to send: it says what is due.

use super::buffer_tuning::Tuning;
use super::reassembly::Reassembly;
use crate::packet::{Pool, SMALL_SLOT, Slice};
use crate::time::{Duration, Instant};
use crate::wire::{SackBlock, SackBlocks, SequenceNumber, TcpOptions};

/// Segments at the start of a connection that are acknowledged at once, so that the peer's slow start is not held up (Linux: 16).
const QUICK_SEGMENTS: u32 = 16;
/// A received slice of at most this many bytes is copied behind its predecessor where that one's slot has room.
const SMALL_SLICE: usize = 512;
/// No full segment is smaller: RFC 9293 §3.7.1 has 536 bytes, of which options may take 40.
const LEAST_FULL_SEGMENT: usize = 536 - 40;
/// Segments that are offered while memory is used up.
const SEGMENTS_UNDER_PRESSURE: usize = 4;
/// RFC 7323 §5.5: a timestamp older than this says nothing.
const TIMESTAMP_VALIDITY: Duration = Duration::from_secs(24 * 24 * 3_600);
/// Numbers after which what a gap is compared with is brought up to date: with the largest window (2^30) they are less than 2^31.
const OLDEST_GAP: u32 = 1 << 29;

/// When an acknowledgement is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Nothing is to be acknowledged.
    Not,
    /// With the next segment, or when the delay is over.
    Delayed,
    /// With the program's answer, if it comes at once; it is not waited for any longer.
    Soon,
    /// At the end of the batch.
    Now,
}

/// The receiving half's variables.
#[derive(Debug)]
pub(super) struct ReceiveSide {
    /// IRS.
    pub(super) initial: SequenceNumber,
    /// RCV.NXT.
    pub(super) next: SequenceNumber,
    /// RCV.NXT + RCV.WND, as offered. Never goes back (RFC 9293 §3.8.6, SHLD-14).
    pub(super) edge: SequenceNumber,
    /// RCV.WND.SHIFT.
    pub(super) shift: u8,
    /// Bytes that may wait unread.
    pub(super) buffer: usize,
    /// What makes it grow.
    pub(super) tuning: Tuning,
    /// The stack's memory is used up: the window falls to a few segments as data arrives.
    pub(super) is_under_pressure: bool,
    /// Bytes with the program, unread when we last looked.
    pub(super) unread: usize,
    /// In order, on their way to the program.
    pub(super) pending: Vec<Slice>,
    /// Bytes that were ever in order.
    pub(super) received_bytes: u64,
    /// Bytes in `pending`.
    pub(super) pending_bytes: usize,
    /// Out of order.
    pub(super) reassembly: Reassembly,
    /// Where the peer's FIN stands, once seen.
    pub(super) finish_at: Option<SequenceNumber>,
    /// Whether RCV.NXT is behind it.
    pub(super) finished: bool,
    /// RCV.UP: what follows the peer's urgent data, while that has not been read.
    pub(super) urgent: Option<SequenceNumber>,
    /// Our segment size, for silly-window rules and the count of full segments, lowered to what the peer really sends.
    pub(super) segment_size: usize,
    /// Our segment size as announced.
    pub(super) largest_segment: usize,
    /// The size of the last segment.
    pub(super) last_size: usize,
    /// Last.ACK.sent (RFC 7323 §4.3).
    pub(super) acknowledged: SequenceNumber,
    /// What is owed.
    pub(super) due: Due,
    /// Duplicate acknowledgements owed besides: without SACK the peer counts them (RFC 5681 §4.2).
    pub(super) duplicates: usize,
    /// Segments that will be acknowledged at once.
    pub(super) quick: u32,
    /// A range that arrived twice, to be reported once (RFC 2883 §4).
    pub(super) duplicate: Option<SackBlock>,
    /// TS.Recent, and when it was set.
    pub(super) recent: Option<(u32, Instant)>,
    /// TS.Recent before the present gaps began, and RCV.NXT then.
    before_gaps: Option<(u32, SequenceNumber)>,
    /// When data last arrived.
    pub(super) last_data: Option<Instant>,
}

impl ReceiveSide {
    pub(super) fn new(buffer: usize, segment_size: usize, now: Instant) -> ReceiveSide {
        let zero = SequenceNumber::default();
        ReceiveSide {
            initial: zero,
            next: zero,
            edge: zero,
            shift: 0,
            buffer,
            tuning: Tuning::new(now),
            is_under_pressure: false,
            unread: 0,
            pending: Vec::new(),
            received_bytes: 0,
            pending_bytes: 0,
            reassembly: Reassembly::default(),
            finish_at: None,
            finished: false,
            urgent: None,
            segment_size,
            largest_segment: segment_size,
            last_size: 0,
            acknowledged: zero,
            due: Due::Not,
            duplicates: 0,
            quick: QUICK_SEGMENTS,
            duplicate: None,
            recent: None,
            before_gaps: None,
            last_data: None,
        }
    }

    /// The peer's SYN has the number `initial`.
    pub(super) fn synchronize(&mut self, initial: SequenceNumber) {
        self.initial = initial;
        self.next = initial + 1;
        self.edge = self.next;
        self.acknowledged = self.next;
    }

    /// RCV.WND as offered.
    pub(super) fn window(&self) -> u32 {
        self.edge.offset_from(self.next).max(0) as u32
    }

    /// Bytes that the buffer has room for, and the window field can tell, from RCV.NXT on. What waits out of order lies within that room already: it is beyond RCV.NXT, and
    /// takes the room when it becomes readable.
    fn free(&self) -> usize {
        let free = self.capacity().saturating_sub(self.unread).saturating_sub(self.pending_bytes);
        free.min(usize::from(u16::MAX) << self.shift)
    }

    /// As much of that as is offered now. Under pressure a few segments, which the program's reading gives back: so nothing stands still.
    fn offered(&self) -> usize {
        let free = self.free();
        if self.is_under_pressure { free.min(self.segment_size.saturating_mul(SEGMENTS_UNDER_PRESSURE).max(2 << self.shift)) } else { free }
    }

    /// The buffer, but at least two units of the scaled window: else the window of a tiny buffer could not be expressed, and never opened.
    fn capacity(&self) -> usize {
        self.buffer.max(2 << self.shift)
    }

    /// Whether the window may be opened: by a segment or half of the buffer at least (RFC 9293 §3.8.6.2.2).
    fn window_to_offer(&self) -> usize {
        let current = self.window() as usize;
        let step = self.segment_size.min(self.capacity() / 2).max(1 << self.shift);
        if self.offered() >= current.saturating_add(step) { self.offered() } else { current }
    }

    /// The same in units of the window field. What was offered is not taken back: where the shift cannot express it, it is rounded up, by no more than a unit
    /// in all. Beyond that it is rounded down, and seems to shrink (RFC 7323 §2.4): else many small segments, each acknowledged with a little
    /// more, would fill a buffer without end. What was offered is taken all the same.
    fn units_to_offer(&self) -> usize {
        let (window, unit) = (self.window() as usize, 1 << self.shift);
        let room = (self.capacity() + unit).saturating_sub(self.unread).saturating_sub(self.pending_bytes);
        let current = if window.next_multiple_of(unit) <= room.max(window) { window.div_ceil(unit) } else { window >> self.shift };
        (self.window_to_offer() >> self.shift).max(current).min(u16::MAX.into())
    }

    /// The window field of a segment that is sent now. Moves the edge.
    pub(super) fn advertise(&mut self) -> u16 {
        let units = self.units_to_offer();
        self.edge = self.edge.latest(self.next + ((units as u32) << self.shift));
        self.acknowledged = self.next;
        self.due = Due::Not;
        units as u16
    }

    /// The window field of a SYN, which is never scaled (RFC 7323 §2.2).
    pub(super) fn advertise_unscaled(&mut self) -> u16 {
        let shift = std::mem::take(&mut self.shift);
        let window = self.advertise();
        self.shift = shift;
        window
    }

    /// Whether the program's reading has made an acknowledgement worth sending for its window alone. The window of a SYN, which is not scaled,
    /// is more than a peer sends at first (RFC 6928): the acknowledgement of that opens the rest.
    pub(super) fn update_is_due(&self) -> bool {
        if self.next == self.initial + 1 && self.window() > 0 {
            return false;
        }
        let gain = self.offered().saturating_sub(self.window() as usize);
        gain >= self.update_step() && self.units_to_offer() << self.shift > self.window() as usize
    }

    /// Bytes that the program has to read for [`super::super::shared::Mark::Window`] to be worth setting; `usize::MAX` while the window is
    /// half open at least, for then the acknowledgements of data tell it in time; or while it is about to be, by the one that waits for an answer.
    pub(super) fn window_mark_at(&self) -> usize {
        let half = self.capacity().min(usize::from(u16::MAX) << self.shift) / 2;
        let opens_soon = self.due == Due::Soon && self.offered() >= half;
        if self.finished || opens_soon || self.window() as usize >= half {
            return usize::MAX;
        }
        let closed_by = self.free().saturating_sub(self.window() as usize);
        self.update_step().saturating_sub(closed_by).max(1)
    }

    /// Two segments while the peer may wait for them; later an eighth of the buffer.
    fn update_step(&self) -> usize {
        let two_segments = self.segment_size.saturating_mul(2).min(self.capacity() / 2).max(1 << self.shift);
        if self.window() as usize >= two_segments { two_segments.max(self.capacity() / 8) } else { two_segments }
    }

    /// Takes slices that are in order. Small ones are joined. While the program does not keep up, large slots are not kept for parts of them.
    pub(super) fn push_pending(&mut self, slices: impl Iterator<Item = Slice>, pool: &Pool) {
        for slice in slices {
            let is_slow = self.unread.saturating_add(self.pending_bytes) > self.buffer / 4;
            self.pending_bytes += slice.len();
            self.received_bytes += slice.len() as u64;
            if is_slow && slice.len() < slice.slot_bytes() / 2 && slice.len() > SMALL_SLOT {
                slice.chunks(SMALL_SLOT).for_each(|part| self.pending.push(pool.copy_from(0, part)));
            } else {
                self.push_slice(pool.copy_down(slice));
            }
        }
    }

    fn push_slice(&mut self, mut slice: Slice) {
        if slice.len() <= SMALL_SLICE {
            slice.advance(self.pending.last_mut().map_or(0, |last| last.grow_back(&slice)));
        }
        if !slice.is_empty() {
            self.pending.push(slice);
        }
    }

    /// Moves RCV.NXT to `next`. The window shrinks by as much, its edge stays.
    pub(super) fn advance(&mut self, next: SequenceNumber) {
        self.next = next;
        self.edge = self.edge.latest(next);
    }

    /// Counts data in order: every second full segment is acknowledged at once (RFC 5681 §4.2), the first ones each. A small one among those is most likely
    /// a request, whose answer can take the acknowledgement along.
    pub(super) fn owe_for(&mut self, segments: usize, segment_size: usize, now: Instant) {
        self.learn_segment_size(segment_size);
        self.last_data = Some(now);
        let unacknowledged = self.next.distance_from(self.acknowledged) as usize;
        let quick = self.quick > 0;
        self.quick = self.quick.saturating_sub(u32::try_from(segments).unwrap_or(u32::MAX));
        let is_enough = unacknowledged >= self.segment_size.saturating_mul(2);
        let is_full = segment_size.saturating_add(TcpOptions::MAXIMUM_LENGTH) >= self.segment_size;
        self.owe(match quick {
            _ if is_enough => Due::Now,
            true if is_full => Due::Now,
            true => Due::Soon,
            false => Due::Delayed,
        });
    }

    /// What the peer calls a full segment may be less than what we announced: a size that comes twice in a row is believed.
    fn learn_segment_size(&mut self, seen: usize) {
        let before = std::mem::replace(&mut self.last_size, seen);
        if seen > self.segment_size || (seen == before && seen >= LEAST_FULL_SEGMENT) {
            // Merged segments may come without a word of how they were cut.
            self.segment_size = seen.min(self.largest_segment);
        }
    }

    /// RFC 9293 §3.10.7.4, sixth: RCV.UP <- max(RCV.UP, SEG.UP). Says whether it moved on.
    pub(super) fn note_urgent(&mut self, end: SequenceNumber) -> bool {
        let is_news = end.after(self.urgent.unwrap_or(self.next));
        if is_news {
            self.urgent = Some(end);
        }
        is_news
    }

    /// Bytes up to the end of urgent data from the one that the program reads next, with `unread` bytes before it.
    pub(super) fn take_urgent(&mut self, unread: usize) -> usize {
        let Some(end) = self.urgent else { return 0 };
        let reads_next = self.next - u32::from(self.finished) - u32::try_from(unread).unwrap_or(u32::MAX);
        let left = end.offset_from(reads_next).max(0) as usize;
        if left == 0 {
            self.urgent = None;
        }
        left
    }

    pub(super) fn owe(&mut self, due: Due) {
        self.due = self.due.max(due);
    }

    /// Data goes out soon after data came in: a dialogue, in which acknowledgements ride on data.
    pub(super) fn note_dialogue(&mut self, now: Instant, delay: Duration) {
        if self.last_data.is_some_and(|last| now.since(last) < delay) {
            self.quick = 0;
        }
    }

    /// The SACK option of the next segment: what arrived twice first (RFC 2883 §4), then the blocks, as many as fit `room`.
    pub(super) fn sack(&self, room: usize) -> SackBlocks {
        if self.duplicate.is_none() && self.reassembly.is_empty() {
            return SackBlocks::default();
        }
        self.duplicate.into_iter().chain(self.reassembly.sack_blocks()).take(room).collect()
    }

    /// TS.Recent, for the echo; zero before the first.
    pub(super) fn recent_timestamp(&self) -> u32 {
        self.recent.map_or(0, |(value, _)| value)
    }

    /// RFC 7323 §4.3 (2): takes the timestamp of a segment that spans the last acknowledgement.
    pub(super) fn note_timestamp(&mut self, value: u32, sequence: SequenceNumber, now: Instant) {
        let is_newer = self.recent.is_none_or(|(recent, since)| !is_older(value, recent) || is_outdated(since, now));
        if is_newer && sequence.before_or_equal(self.acknowledged) {
            self.recent = Some((value, now));
            let is_far = self.before_gaps.is_none_or(|(_, next)| self.next.distance_from(next) >= OLDEST_GAP);
            if is_far || self.reassembly.is_empty() {
                self.before_gaps = Some((value, self.next));
            }
        }
    }

    /// PAWS, R1 (RFC 7323 §5.3): the timestamp is older than TS.Recent, and that one is not older than 24 days (§5.5).
    pub(super) fn is_timestamp_old(&self, value: u32, now: Instant) -> bool {
        self.recent.is_some_and(|(recent, since)| is_older(value, recent) && !is_outdated(since, now))
    }

    /// Whether `start..end` lies in a gap before what has arrived out of order, and is no older than the gap. That is no duplicate of an earlier lap of the sequence
    /// numbers, but what a retransmission overtook: RFC 7323 §5.3 knows that R1 discards it "unnecessarily", and takes it to be very unlikely. On a path that
    /// reorders it is not: what is then sent again overtakes the next, a loss in each round trip. (Linux forgives a tick.) What PAWS is for is kept: the timestamp to
    /// compare with is that of less than 2^31 numbers ago, later than any of an earlier lap.
    pub(super) fn fills_gap(&self, value: u32, start: SequenceNumber, end: SequenceNumber) -> bool {
        let is_in_gap = start.after_or_equal(self.next) && self.reassembly.end().is_some_and(|last| end.before_or_equal(last));
        is_in_gap && self.before_gaps.is_some_and(|(floor, _)| !is_older(value, floor))
    }

    /// Whether a new connection's first timestamp is later than anything of this one (RFC 6191 §2).
    pub(super) fn is_timestamp_newer(&self, value: u32) -> bool {
        self.recent.is_some_and(|(recent, _)| is_older(recent, value))
    }
}

fn is_older(value: u32, than: u32) -> bool {
    SequenceNumber(value).before(SequenceNumber(than))
}

fn is_outdated(since: Instant, now: Instant) -> bool {
    now.since(since) > TIMESTAMP_VALIDITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(buffer: usize, shift: u8) -> ReceiveSide {
        let mut receive = ReceiveSide::new(buffer, 1_000, Instant::ZERO);
        receive.synchronize(SequenceNumber(u32::MAX));
        receive.shift = shift;
        receive
    }

    fn take(receive: &mut ReceiveSide, bytes: u32) {
        receive.advance(receive.next + bytes);
        receive.unread += bytes as usize;
    }

    #[test]
    fn the_edge_never_goes_back_whatever_the_shift() {
        let mut receive = receiver(100_000, 7);
        let mut edge = SequenceNumber(0);
        for bytes in [1, 127, 128, 129, 1_000, 3] {
            let units = receive.advertise();
            let on_wire = receive.next + (u32::from(units) << 7);
            assert!(receive.edge.after_or_equal(edge) && receive.edge.before(on_wire + 128), "less than a unit is not told");
            edge = receive.edge;
            take(&mut receive, bytes);
            receive.buffer -= 500;
        }
    }

    #[test]
    fn small_segments_that_nobody_reads_close_the_window() {
        let mut receive = receiver(100_000, 10);
        let mut taken = 0;
        while receive.advertise() > 0 {
            let bytes = receive.window().min(100);
            take(&mut receive, bytes);
            taken += bytes as usize;
            assert!(taken + receive.window() as usize <= 100_000 + 1_024, "{taken} bytes wait, {} more are offered", receive.window());
        }
        assert!(taken > 99_000, "{taken}");
    }

    #[test]
    fn the_window_opens_by_a_segment_at_least() {
        let mut receive = receiver(4_000, 0);
        assert_eq!(receive.advertise(), 4_000);
        take(&mut receive, 4_000);
        assert_eq!(receive.advertise(), 0);
        receive.unread -= 999;
        assert_eq!((receive.advertise(), receive.update_is_due()), (0, false));
        receive.unread -= 1_000;
        assert!(!receive.update_is_due());
        receive.unread -= 1;
        assert!(receive.update_is_due());
        assert_eq!(receive.advertise(), 2_000);
    }

    #[test]
    fn the_unscaled_window_of_a_syn_is_opened_by_the_first_acknowledgement_of_data() {
        let mut receive = receiver(1 << 20, 7);
        assert_eq!((receive.advertise_unscaled(), receive.update_is_due()), (u16::MAX, false));
        take(&mut receive, 1);
        assert!(receive.update_is_due());
        assert_eq!(usize::from(receive.advertise()) << 7, (1 << 20) - 128);
    }

    #[test]
    fn a_tiny_buffer_opens_by_half() {
        let mut receive = receiver(100, 0);
        receive.advertise();
        take(&mut receive, 100);
        receive.advertise();
        assert_eq!(receive.window_mark_at(), 50);
        receive.unread -= 50;
        assert!(receive.update_is_due());
    }

    #[test]
    fn under_pressure_the_window_falls_to_a_few_segments_and_opens_again() {
        let mut receive = receiver(60_000, 0);
        receive.advertise();
        receive.is_under_pressure = true;
        assert_eq!(receive.advertise(), 60_000, "what was offered stays offered");
        take(&mut receive, 58_000);
        receive.unread = 0;
        assert_eq!(receive.advertise(), 4_000, "reading gives a few segments back, so nothing stands still");
        receive.is_under_pressure = false;
        assert!(receive.update_is_due());
        assert_eq!(receive.advertise(), 60_000);
    }

    #[test]
    fn a_slow_reader_of_jumbo_frames_pins_no_large_slots() {
        let (pool, mut receive) = (Pool::default(), receiver(100_000, 0));
        let frames = |count| (0..count).map(|_| pool.copy_from(0, &[7; 8_960])).collect::<Vec<_>>();
        receive.push_pending(frames(10).into_iter(), &pool);
        let pinned: usize = receive.pending.iter().map(Slice::slot_bytes).sum();
        assert!(receive.pending_bytes == 89_600 && pinned < 300_000, "{pinned}");
        assert_eq!(receive.pending.iter().map(|slice| slice.len()).sum::<usize>(), 89_600);
    }

    #[test]
    fn the_program_is_asked_to_mark_only_while_the_window_is_narrow() {
        let mut receive = receiver(80_000, 1);
        receive.advertise();
        assert_eq!(receive.window_mark_at(), usize::MAX);
        take(&mut receive, 50_000);
        assert_eq!(receive.window_mark_at(), 10_000);
        take(&mut receive, 30_000);
        assert_eq!(receive.window_mark_at(), 2_000);
        receive.unread -= 1_500;
        assert_eq!(receive.window_mark_at(), 500);
    }

    #[test]
    fn no_mark_is_asked_for_while_the_acknowledgement_that_opens_the_window_waits_for_an_answer() {
        let mut receive = receiver(1 << 20, 7);
        receive.advertise_unscaled();
        take(&mut receive, 1);
        assert_eq!(receive.window_mark_at(), 1);
        receive.due = Due::Soon;
        assert_eq!(receive.window_mark_at(), usize::MAX);
        receive.unread = 1 << 20;
        assert!(receive.window_mark_at() < usize::MAX, "it will not open by that");
    }

    #[test]
    fn every_second_full_segment_is_acknowledged_at_once() {
        let mut receive = receiver(100_000, 1);
        receive.quick = 0;
        let mut due = |bytes| {
            receive.advance(receive.next + bytes);
            receive.owe_for(1, bytes as usize, Instant::ZERO);
            receive.due
        };
        assert_eq!([due(1_000), due(999), due(1_000)], [Due::Delayed, Due::Delayed, Due::Now]);
    }

    #[test]
    fn the_smallest_full_segments_are_full_beside_their_options_too() {
        let mut receive = ReceiveSide { quick: 0, ..ReceiveSide::new(100_000, 536, Instant::ZERO) };
        receive.synchronize(SequenceNumber(0));
        let mut due = |bytes| {
            receive.advance(receive.next + bytes);
            receive.owe_for(1, bytes as usize, Instant::ZERO);
            let due = receive.due;
            if due == Due::Now {
                receive.advertise();
            }
            due
        };
        // 536 bytes less 12 of timestamps.
        assert_eq!([due(524), due(524), due(524), due(524)], [Due::Delayed, Due::Now, Due::Delayed, Due::Now]);
    }

    #[test]
    fn paws_with_its_exception_after_24_days() {
        let mut receive = receiver(1_000, 0);
        receive.note_timestamp(100, receive.next, Instant::ZERO);
        let days = |days: u64| Instant::from_secs(days * 24 * 3_600);
        assert!(receive.is_timestamp_old(99, days(23)) && !receive.is_timestamp_old(100, days(1)));
        assert!(!receive.is_timestamp_old(99, days(25)));
        receive.note_timestamp(200, receive.next + 1, days(1));
        assert_eq!(receive.recent_timestamp(), 100, "the segment lies beyond the last acknowledgement");
        receive.note_timestamp(99, receive.next, days(25));
        assert_eq!(receive.recent_timestamp(), 99);
    }

    #[test]
    fn what_fills_a_gap_may_be_as_old_as_the_gap_for_half_a_gigabyte() {
        let pool = crate::packet::Pool::default();
        let mut receive = receiver(1_000, 0);
        let arrives_beyond = |receive: &mut ReceiveSide| {
            let late = crate::packet::Packet::from_bytes(&pool, &[7; 10]);
            receive.reassembly.insert(receive.next + 500, &late, usize::MAX, &pool);
        };
        receive.note_timestamp(100, receive.next, Instant::ZERO);
        arrives_beyond(&mut receive);
        receive.note_timestamp(200, receive.next, Instant::ZERO);
        let fills = |receive: &ReceiveSide, value, from| receive.fills_gap(value, receive.next + from, receive.next + from + 10);
        assert!(receive.is_timestamp_old(100, Instant::ZERO) && fills(&receive, 100, 20) && !fills(&receive, 99, 20));
        assert!(!fills(&receive, 100, 501), "it ends beyond the gaps");
        for (numbers, floor) in [(OLDEST_GAP - 1, 100), (1, 300)] {
            receive.advance(receive.next + numbers);
            receive.advertise();
            arrives_beyond(&mut receive);
            receive.note_timestamp(300, receive.next, Instant::ZERO);
            assert!(fills(&receive, floor, 20) && !fills(&receive, floor - 1, 20), "{floor}");
        }
    }
}
