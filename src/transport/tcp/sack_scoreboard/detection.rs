//! What is lost: by time (RFC 8985 §6.2 step 5, §6.3), by count (RFC 5681 §3.2, RFC 6582 §3.2), by timeout (RFC 6298 §5.4).
//!
//! RACK wants the pieces in the order of their transmission. Those sent once are in that order by themselves; those sent again are listed apart, as they
//! were sent. Both are walked from the earliest to the first that is not judged yet, and what was passed is not looked at again: the cost
//! of an acknowledgement does not grow with the window.

use super::{Fate, Piece, Scoreboard};
use crate::time::{Duration, Instant};
use crate::transport::tcp::rack::{Rack, Sent};
use crate::wire::SequenceNumber;

/// Pieces that one look for the reordering timer's deadline goes over.
const WAITING_LOOKED_AT: usize = 32;
/// Lost numbers that are looked at together: as many as one packet carries.
const LONGEST_RUN: u32 = 65_535;

/// What a look at the clock said.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Judged {
    /// Numbers found lost.
    pub(in super::super) lost: usize,
    /// When those that may be late, and may be reordered, will be judged.
    pub(in super::super) wait_until: Option<Instant>,
}

impl Scoreboard {
    /// RACK_detect_loss() of RFC 8985 §6.2: what was sent before something that has arrived is lost once `window` is over.
    pub(in super::super) fn judge_by_time(&mut self, rack: &Rack, window: Duration, now: Instant) -> Judged {
        let before = self.lost;
        let again = self.judge_sent_again(rack, window, now);
        let once = self.judge_sent_once(rack, window, now);
        Judged { lost: self.lost - before, wait_until: once.max(again) }
    }

    fn judge_sent_once(&mut self, rack: &Rack, window: Duration, now: Instant) -> Option<Instant> {
        let mut index = self.index_of(self.first_unjudged);
        while let Some(piece) = self.pieces.get(index).copied() {
            if piece.fate == Fate::InFlight && !piece.is_resent {
                if !rack.is_sent_before(piece.last_sent()) {
                    return None;
                }
                if rack.deadline(piece.sent, window) > now {
                    return self.wait_for_once(index, rack, window);
                }
                self.set_fate(index, Fate::Lost);
            }
            self.first_unjudged = piece.end;
            index += 1;
        }
        None
    }

    /// "the earliest moment when RACK would conclude that all the unacknowledged segments within the reordering window were lost"
    fn wait_for_once(&self, from: usize, rack: &Rack, window: Duration) -> Option<Instant> {
        let waiting = self.pieces.iter().skip(from).filter(|piece| piece.fate == Fate::InFlight && !piece.is_resent);
        let late = waiting.take_while(|piece| rack.is_sent_before(piece.last_sent())).take(WAITING_LOOKED_AT);
        late.last().map(|piece| rack.deadline(piece.sent, window))
    }

    fn judge_sent_again(&mut self, rack: &Rack, window: Duration, now: Instant) -> Option<Instant> {
        while let Some((start, sent)) = self.again.front().copied().filter(|again| is_partly_before(rack, again)) {
            if rack.deadline(sent.at, window) > now && self.is_outstanding(start, sent) {
                let late = self.again.iter().take_while(|again| is_partly_before(rack, again)).take(WAITING_LOOKED_AT);
                return late.last().map(|(_, sent)| rack.deadline(sent.at, window));
            }
            for index in self.indices(start, sent.end) {
                if self.is_as_sent(index, sent.at) && self.pieces.get(index).is_some_and(|piece| rack.is_sent_before(piece.last_sent())) {
                    self.set_fate(index, Fate::Lost);
                }
            }
            if !rack.is_sent_before(Sent { end: sent.end - 1, ..sent }) {
                return None;
            }
            self.again.pop_front();
        }
        None
    }

    fn is_as_sent(&self, index: usize, at: Instant) -> bool {
        self.pieces.get(index).is_some_and(|piece| piece.fate == Fate::InFlight && piece.is_resent && piece.sent == at)
    }

    fn is_outstanding(&self, start: SequenceNumber, sent: Sent) -> bool {
        self.indices(start, sent.end).any(|index| self.is_as_sent(index, sent.at))
    }

    /// Lists a retransmission. What has been delivered since is dropped from the list when that is twice as long as there are pieces.
    pub(super) fn remember_again(&mut self, start: SequenceNumber, sent: Sent) {
        if self.again.len() > 2 * self.pieces.len() {
            let mut again = std::mem::take(&mut self.again);
            again.retain(|&(start, sent)| self.is_outstanding(start, sent));
            self.again = again;
        }
        self.again.push_back((start, sent));
    }

    /// RACK_mark_losses_on_RTO() of RFC 8985 §6.3: the first segment is lost, and all that was sent long enough ago. If the first was said to be delivered, the peer
    /// has thrown away what it promised to keep, and its promises count no more (RFC 2018 §8). Says how much was found.
    pub(in super::super) fn judge_on_timeout(&mut self, rack: &Rack, window: Duration, segment_size: usize, now: Instant) -> usize {
        let before = self.lost;
        if self.pieces.front().is_some_and(|first| first.fate == Fate::Delivered) {
            self.all_is_lost();
        }
        if let Some(first) = self.pieces.front() {
            self.split_at(first.start + u32::try_from(segment_size).unwrap_or(u32::MAX >> 1));
        }
        for index in 0..self.pieces.len() {
            let is_late = |sent| index == 0 || rack.deadline(sent, window) <= now;
            if self.pieces.get(index).is_some_and(|piece| piece.fate == Fate::InFlight && is_late(piece.sent)) {
                self.set_fate(index, Fate::Lost);
            }
        }
        self.lost - before
    }

    /// The first segment is lost: three duplicate acknowledgements, or a partial one, say so (RFC 5681 §3.2, RFC 6582 §3.2). Says how much of that is
    /// news: nothing, if the segment has been sent again already.
    pub(in super::super) fn first_is_lost(&mut self, segment_size: usize) -> usize {
        let before = self.lost;
        let Some(first) = self.pieces.front().copied() else { return 0 };
        if first.fate == Fate::InFlight && !first.is_resent {
            self.split_at(first.start + u32::try_from(segment_size).unwrap_or(u32::MAX >> 1));
            self.set_fate(0, Fate::Lost);
        }
        self.lost - before
    }

    /// Everything that is outstanding is lost, whatever was said of it: the timer expired at a peer without SACK, a window was closed or reneged on.
    pub(in super::super) fn all_is_lost(&mut self) {
        let is_broken = self.pieces.front().is_some_and(|first| first.fate == Fate::Delivered);
        for index in 0..self.pieces.len() {
            if self.pieces.get(index).is_some_and(|piece| is_broken || piece.fate == Fate::InFlight) {
                self.set_fate(index, Fate::Lost);
            }
        }
        self.again.clear();
    }

    /// Nothing was lost after all: what waits to be sent again is on its way (RFC 4015 §3.3).
    pub(in super::super) fn nothing_is_lost(&mut self) {
        let from = self.index_of(self.first_lost);
        for index in from..self.pieces.len() {
            if self.lost > 0 && self.pieces.get(index).is_some_and(|piece| piece.fate == Fate::Lost) {
                self.set_fate(index, Fate::InFlight);
            }
        }
        if let Some(first) = self.pieces.get(from) {
            self.first_unjudged = self.first_unjudged.earliest(first.start);
        }
    }

    /// The first run of lost numbers: what to send again next.
    pub(in super::super) fn next_lost(&mut self) -> Option<(SequenceNumber, SequenceNumber)> {
        if self.lost == 0 {
            return None;
        }
        let mut lost = self.pieces.iter().skip(self.index_of(self.first_lost)).skip_while(|piece| piece.fate != Fate::Lost);
        let first = lost.next()?;
        let start = first.start;
        let joins = |piece: &&Piece| piece.fate == Fate::Lost && piece.start.distance_from(start) < LONGEST_RUN;
        let end = lost.take_while(joins).last().map_or(first.end, |last| last.end);
        self.first_lost = start;
        Some((start, end))
    }
}

/// Whether the first number of a retransmission was sent before what has arrived. Of a super-segment that may be true for a part.
fn is_partly_before(rack: &Rack, &(start, sent): &(SequenceNumber, Sent)) -> bool {
    rack.is_sent_before(Sent { end: start, ..sent })
}
