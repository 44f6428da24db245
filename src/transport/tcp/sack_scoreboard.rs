//! What was sent and has not been cumulatively acknowledged: ranges of sequence numbers, each with the time of its last transmission
//! and what became of it.
//!
//! Owns the ranges and the rules that say from them what is lost (RFC 6675 §4, RFC 6582 without SACK). Refuses to send, and to know bytes:
//! SYN and FIN are one number each. A range is as large as the super-segment that carried it, and is cut where an acknowledgement
//! or a retransmission cuts it.

use crate::time::{Duration, Instant};
use crate::wire::{SackBlock, SequenceNumber};
use std::collections::VecDeque;

/// RFC 6675 §2.
const DUPLICATE_THRESHOLD: usize = 3;
/// Small segments sent within this time share a range, so that a stream of single bytes does not make a range of each.
const MERGE_WITHIN: Duration = Duration::from_millis(1);
/// What became of a range, as far as known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// On its way.
    InFlight,
    /// The peer has it (SACK).
    Delivered,
    /// To be sent again.
    Lost,
}

#[derive(Copy, Clone, Debug)]
struct SentRange {
    start: SequenceNumber,
    end: SequenceNumber,
    /// Last transmission.
    sent: Instant,
    /// If it was sent again: SND.NXT at that time, so that what was sent later can prove the retransmission lost as well.
    resent_before: Option<SequenceNumber>,
    fate: Fate,
}

impl SentRange {
    fn length(&self) -> usize {
        self.end.distance_from(self.start) as usize
    }
}

/// What an acknowledgement did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Numbers that were not known to be delivered before.
    pub(super) delivered: usize,
    /// When the latest of them that was sent only once was sent: makes a sample of the round trip (Karn).
    pub(super) sent: Option<Instant>,
    /// When the latest of them that was sent more than once was last sent.
    pub(super) resent: Option<Instant>,
    /// Blocks that were not looked at, because of the bound on ranges.
    pub(super) blocks_ignored: u64,
}

impl Progress {
    fn note(&mut self, range: &SentRange) {
        self.delivered += range.length();
        match range.resent_before {
            Some(_) => self.resent = self.resent.max(Some(range.sent)),
            None => self.sent = self.sent.max(Some(range.sent)),
        }
    }
}

/// The scoreboard.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    ranges: VecDeque<SentRange>,
    in_flight: usize,
    lost: usize,
    delivered: usize,
}

impl Scoreboard {
    /// Whether everything sent has been acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Numbers believed to be in the network: "pipe" of RFC 6675 §4.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether something waits to be sent again.
    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// Notes a first transmission of `start..end`, behind everything noted before.
    pub(super) fn sent(&mut self, start: SequenceNumber, end: SequenceNumber, now: Instant, segment_size: usize) {
        self.in_flight += end.distance_from(start) as usize;
        if let Some(last) = self.ranges.back_mut().filter(|last| last.fate == Fate::InFlight && last.resent_before.is_none())
            && last.end == start
            && end.distance_from(last.start) as usize <= segment_size
            && now.since(last.sent) < MERGE_WITHIN
        {
            last.end = end;
            return;
        }
        self.ranges.push_back(SentRange { start, end, sent: now, resent_before: None, fate: Fate::InFlight });
    }

    /// Notes that `start..end` was sent again while SND.NXT was `next`.
    pub(super) fn resent(&mut self, start: SequenceNumber, end: SequenceNumber, now: Instant, next: SequenceNumber) {
        self.split_at(start);
        self.split_at(end);
        for index in self.indices(start, end) {
            self.set_fate(index, Fate::InFlight);
            if let Some(range) = self.ranges.get_mut(index) {
                range.sent = now;
                range.resent_before = Some(next);
            }
        }
    }

    /// Everything before `next` is acknowledged.
    pub(super) fn acknowledge(&mut self, next: SequenceNumber) -> Progress {
        self.split_at(next);
        let mut progress = Progress::default();
        while let Some(range) = self.ranges.front().filter(|range| range.start.before(next)).copied() {
            if range.fate != Fate::Delivered {
                progress.note(&range);
            }
            self.set_fate(0, Fate::Delivered);
            self.delivered = self.delivered.saturating_sub(range.length());
            self.ranges.pop_front();
        }
        // Without SACK, what lies behind a retransmission may have arrived long ago.
        progress.sent = progress.sent.filter(|_| progress.resent.is_none());
        progress
    }

    /// Marks what `blocks` say the peer has (RFC 6675 §4, Update). Blocks at or below the acknowledgement, D-SACK among them, and ones
    /// beyond what was sent change nothing. While there are `range_limit` ranges, none does: a peer that acknowledges every other byte gets no
    /// more memory than that.
    pub(super) fn selectively_acknowledge(&mut self, blocks: &[SackBlock], range_limit: usize) -> Progress {
        let mut progress = Progress::default();
        for block in blocks {
            if self.ranges.len() < range_limit {
                self.mark_delivered(block, &mut progress);
            } else {
                progress.blocks_ignored += 1;
            }
        }
        progress
    }

    fn mark_delivered(&mut self, block: &SackBlock, progress: &mut Progress) {
        let (Some(first), Some(last)) = (self.ranges.front(), self.ranges.back()) else { return };
        let is_plausible = block.left.before(block.right) && block.left.after(first.start) && block.right.before_or_equal(last.end);
        if !is_plausible {
            return;
        }
        self.split_at(block.left);
        self.split_at(block.right);
        for index in self.indices(block.left, block.right) {
            if let Some(range) = self.ranges.get(index).filter(|range| range.fate != Fate::Delivered) {
                progress.note(range);
                self.set_fate(index, Fate::Delivered);
            }
        }
    }

    /// Finds what is lost by SACK (RFC 6675 §4, IsLost): numbers with more than two segments, or three separate pieces, delivered above them. A
    /// retransmission is lost when as much of what was sent after it has been delivered. Says whether anything was found.
    pub(super) fn find_losses(&mut self, segment_size: usize) -> bool {
        let Some(edge) = self.loss_edge(segment_size) else { return false };
        let before = self.lost;
        for index in 0..self.ranges.len() {
            let Some(range) = self.ranges.get(index) else { break };
            if range.start.after_or_equal(edge) {
                break;
            }
            let proof = range.resent_before.unwrap_or(range.end);
            if range.fate == Fate::InFlight && proof.before_or_equal(edge) {
                self.set_fate(index, Fate::Lost);
            }
        }
        self.lost > before
    }

    /// The highest number above which enough has been delivered.
    fn loss_edge(&self, segment_size: usize) -> Option<SequenceNumber> {
        if self.delivered == 0 {
            return None;
        }
        let needed = (DUPLICATE_THRESHOLD - 1).saturating_mul(segment_size).saturating_add(1);
        let (mut bytes, mut pieces, mut in_piece) = (0_usize, 0, false);
        for range in self.ranges.iter().rev() {
            if range.fate != Fate::Delivered {
                in_piece = false;
                continue;
            }
            pieces += usize::from(!in_piece);
            in_piece = true;
            if pieces >= DUPLICATE_THRESHOLD {
                return Some(range.start);
            }
            if bytes + range.length() >= needed {
                return Some(range.end - (needed - bytes) as u32);
            }
            bytes += range.length();
        }
        None
    }

    /// The first segment is lost: three duplicate acknowledgements, or a partial one, say so (RFC 5681 §3.2, RFC 6582 §3.2). Says whether
    /// that is news; it is not if the segment has been sent again already.
    pub(super) fn first_is_lost(&mut self, segment_size: usize) -> bool {
        let Some(first) = self.ranges.front().copied() else { return false };
        if first.fate != Fate::InFlight || first.resent_before.is_some() {
            return false;
        }
        if first.length() > segment_size {
            self.split_at(first.start + segment_size as u32);
        }
        self.set_fate(0, Fate::Lost);
        true
    }

    /// Everything not known to be delivered is lost: the retransmission timer expired, or the peer's window was closed. If the first range was
    /// said to be delivered, the peer has thrown away what it promised to keep, and its promises count no more (RFC 2018 §8).
    pub(super) fn all_is_lost(&mut self) {
        let is_broken = self.ranges.front().is_some_and(|first| first.fate == Fate::Delivered);
        for index in 0..self.ranges.len() {
            if self.ranges.get(index).is_some_and(|range| is_broken || range.fate == Fate::InFlight) {
                self.set_fate(index, Fate::Lost);
            }
        }
    }

    /// The first run of lost numbers: what to send again next.
    pub(super) fn next_lost(&self) -> Option<(SequenceNumber, SequenceNumber)> {
        if self.lost == 0 {
            return None;
        }
        let mut lost = self.ranges.iter().skip_while(|range| range.fate != Fate::Lost);
        let first = lost.next()?;
        let end = lost.take_while(|range| range.fate == Fate::Lost).last().map_or(first.end, |last| last.end);
        Some((first.start, end))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Scoreboard::default();
    }

    fn set_fate(&mut self, index: usize, fate: Fate) {
        let Some(range) = self.ranges.get_mut(index) else { return };
        let (old, length) = (std::mem::replace(&mut range.fate, fate), range.length());
        let totals = [(Fate::InFlight, &mut self.in_flight), (Fate::Lost, &mut self.lost), (Fate::Delivered, &mut self.delivered)];
        for (which, total) in totals {
            *total = total.saturating_sub(if old == which { length } else { 0 }) + if fate == which { length } else { 0 };
        }
    }

    /// Makes `at` a boundary, if it lies inside a range.
    fn split_at(&mut self, at: SequenceNumber) {
        let index = self.ranges.partition_point(|range| range.end.before_or_equal(at));
        let Some(range) = self.ranges.get_mut(index).filter(|range| range.start.before(at)) else { return };
        let rest = SentRange { start: at, ..*range };
        range.end = at;
        self.ranges.insert(index + 1, rest);
    }

    /// The places of the ranges between two boundaries.
    fn indices(&self, start: SequenceNumber, end: SequenceNumber) -> std::ops::Range<usize> {
        let first = self.ranges.partition_point(|range| range.start.before(start));
        first..self.ranges.partition_point(|range| range.end.before_or_equal(end)).max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 100;
    const RANGE_LIMIT: usize = 64;

    fn number(value: u32) -> SequenceNumber {
        SequenceNumber(value.wrapping_sub(500))
    }

    fn block(left: u32, right: u32) -> SackBlock {
        SackBlock { left: number(left), right: number(right) }
    }

    /// One super-segment of ten segments, from 0 to 1000.
    fn board() -> Scoreboard {
        let mut board = Scoreboard::default();
        board.sent(number(0), number(1_000), Instant::from_millis(1), SEGMENT);
        board
    }

    fn lost(board: &Scoreboard) -> Option<(SequenceNumber, SequenceNumber)> {
        board.next_lost()
    }

    #[test]
    fn cumulative_acknowledgements_cut_ranges() {
        let mut board = board();
        let progress = board.acknowledge(number(250));
        assert_eq!((progress.delivered, progress.sent), (250, Some(Instant::from_millis(1))));
        assert_eq!(board.in_flight(), 750);
        board.acknowledge(number(1_000));
        assert!(board.is_empty() && board.in_flight() == 0);
    }

    #[test]
    fn more_than_two_segments_above_mean_loss() {
        let mut board = board();
        board.selectively_acknowledge(&[block(100, 300)], RANGE_LIMIT);
        assert!(!board.find_losses(SEGMENT), "just two segments are above");
        board.selectively_acknowledge(&[block(100, 301)], RANGE_LIMIT);
        assert!(board.find_losses(SEGMENT));
        assert_eq!(lost(&board), Some((number(0), number(100))));
        assert_eq!(board.in_flight(), 699);
    }

    #[test]
    fn three_pieces_above_mean_loss() {
        let mut board = board();
        board.selectively_acknowledge(&[block(100, 110), block(200, 210), block(300, 310)], RANGE_LIMIT);
        assert!(board.find_losses(SEGMENT));
        assert_eq!(lost(&board), Some((number(0), number(100))));
    }

    #[test]
    fn several_holes_are_found_at_once() {
        let mut board = board();
        board.selectively_acknowledge(&[block(100, 200), block(300, 400), block(600, 1_000)], RANGE_LIMIT);
        assert!(board.find_losses(SEGMENT));
        assert_eq!(lost(&board), Some((number(0), number(100))));
        board.resent(number(0), number(100), Instant::from_millis(2), number(1_000));
        assert_eq!(lost(&board), Some((number(200), number(300))));
        board.resent(number(200), number(300), Instant::from_millis(2), number(1_000));
        assert_eq!(lost(&board), Some((number(400), number(600))));
        assert!(!board.find_losses(SEGMENT), "nothing sent later has been delivered");
    }

    #[test]
    fn a_lost_retransmission_is_found_by_what_was_sent_after_it() {
        let mut board = board();
        board.selectively_acknowledge(&[block(100, 1_000)], RANGE_LIMIT);
        board.find_losses(SEGMENT);
        board.resent(number(0), number(100), Instant::from_millis(2), number(1_000));
        board.sent(number(1_000), number(1_400), Instant::from_millis(3), SEGMENT);
        board.selectively_acknowledge(&[block(100, 1_200)], RANGE_LIMIT);
        assert!(!board.find_losses(SEGMENT));
        board.selectively_acknowledge(&[block(100, 1_201)], RANGE_LIMIT);
        assert!(board.find_losses(SEGMENT));
        assert_eq!(lost(&board), Some((number(0), number(100))));
    }

    #[test]
    fn samples_obey_karn() {
        let mut board = board();
        board.sent(number(1_000), number(1_100), Instant::from_millis(5), SEGMENT);
        board.all_is_lost();
        board.resent(number(0), number(100), Instant::from_millis(9), number(1_100));
        let progress = board.acknowledge(number(1_100));
        assert_eq!(progress, Progress { delivered: 1_100, resent: Some(Instant::from_millis(9)), ..Progress::default() });
    }

    #[test]
    fn samples_by_sack_come_from_what_is_new() {
        let mut board = board();
        board.sent(number(1_000), number(1_100), Instant::from_millis(5), SEGMENT);
        let progress = board.selectively_acknowledge(&[block(1_000, 1_100)], RANGE_LIMIT);
        assert_eq!((progress.delivered, progress.sent), (100, Some(Instant::from_millis(5))));
        assert_eq!(board.selectively_acknowledge(&[block(1_000, 1_100)], RANGE_LIMIT), Progress::default());
        let rest = board.acknowledge(number(1_100));
        assert_eq!((rest.delivered, rest.sent), (1_000, Some(Instant::from_millis(1))));
    }

    #[test]
    fn impossible_blocks_are_ignored() {
        let mut board = board();
        let blocks = [block(0, 100), block(900, 1_001), block(300, 200), block(200, 200), block(2_000_000_000, 100)];
        assert_eq!(board.selectively_acknowledge(&blocks, RANGE_LIMIT), Progress::default());
        assert_eq!(board.in_flight(), 1_000);
    }

    #[test]
    fn the_first_segment_is_marked_once() {
        let mut board = board();
        assert!(board.first_is_lost(SEGMENT));
        assert_eq!(lost(&board), Some((number(0), number(100))));
        assert!(!board.first_is_lost(SEGMENT));
        board.resent(number(0), number(100), Instant::from_millis(2), number(1_000));
        assert!(!board.first_is_lost(SEGMENT));
        board.acknowledge(number(100));
        assert!(board.first_is_lost(SEGMENT));
    }

    #[test]
    fn a_timeout_keeps_what_was_delivered_unless_the_peer_reneged() {
        let mut board = board();
        board.selectively_acknowledge(&[block(100, 300)], RANGE_LIMIT);
        board.all_is_lost();
        assert_eq!((board.in_flight(), board.next_lost()), (0, Some((number(0), number(100)))));
        board.acknowledge(number(100));
        board.all_is_lost();
        assert_eq!(lost(&board), Some((number(100), number(1_000))));
    }

    #[test]
    fn ranges_are_bounded_whatever_the_peer_acknowledges() {
        let mut board = Scoreboard::default();
        board.sent(number(0), number(100_000), Instant::ZERO, SEGMENT);
        let mut ignored = 0;
        for at in (1..99_999).step_by(2) {
            ignored += board.selectively_acknowledge(&[block(at, at + 1)], RANGE_LIMIT).blocks_ignored;
        }
        assert!(board.ranges.len() <= RANGE_LIMIT + 2 && ignored > 40_000, "{} {ignored}", board.ranges.len());
        assert_eq!(board.acknowledge(number(100_000)).delivered + RANGE_LIMIT / 2, 100_000);
    }

    #[test]
    fn tiny_segments_sent_together_share_a_range() {
        let mut board = Scoreboard::default();
        for at in 0..250 {
            board.sent(number(at), number(at + 1), Instant::from_micros(at.into()), SEGMENT);
        }
        assert_eq!((board.ranges.len(), board.in_flight()), (3, 250));
    }
}
