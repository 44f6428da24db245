//! Recoveries that were not needed, and what is done about them.
//!
//! A loss that was none is told by three things: the echo of a timestamp from before the retransmission (Eifel, RFC 3522), the peer's word that it has had every
//! retransmission before (D-SACK, RFC 2883), and, after a timeout, by which numbers are acknowledged next (F-RTO, RFC 5682). Owns what one recovery
//! must remember for that, and nothing once it is over. Congestion control then is as it was before (RFC 4015 §3.4).

use super::congestion::Controller;
use super::rate_reduction::RateReduction;
use super::retransmission::Told;
use crate::wire::{SackBlock, SequenceNumber};
use smallvec::SmallVec;

/// Runs of retransmitted numbers that are remembered; a recovery of more is never undone by D-SACK.
pub(super) const MOST_SUSPECTS: usize = 32;

/// How far the detection by timestamps has come (RFC 3522 §3.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Eifel {
    /// Step 1: nothing has been sent again.
    Begun,
    /// Step 2: RetransmitTS.
    Sent(u32),
    /// The first acceptable acknowledgement has been looked at.
    Done,
}

/// How far the detection by what is acknowledged has come (RFC 5682 §2.1, §3.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum ForwardStep {
    /// Step 2: the first segment has been sent again; its end, once it has been.
    Two(Option<SequenceNumber>),
    /// Step 3: what is new is sent instead of what seems lost; "recover", or RecoveryPoint.
    Three(SequenceNumber),
}

/// What an acknowledgement says of a timeout.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// The timer expired too early.
    Spurious,
    /// Something was lost, as far as can be told.
    Lost,
}

/// What one recovery remembers.
pub(super) struct Episode {
    /// Congestion control as it was before.
    pub(super) before: Box<dyn Controller>,
    /// Fast recovery: how much may be sent.
    pub(super) rate: Option<RateReduction>,
    /// It began with a timeout.
    pub(super) is_timeout: bool,
    /// The peer has echoed marks of congestion since: congestion control stays as it is, whatever became of the loss (RFC 4015 §3.1 step 9).
    pub(super) is_marked: bool,
    /// It is over, and forgotten once more than this is acknowledged.
    pub(super) ends_behind: Option<SequenceNumber>,
    eifel: Eifel,
    /// F-RTO, while it may still find something.
    pub(super) forward: Option<ForwardStep>,
    /// What was sent again and has not been reported as a duplicate.
    suspects: SmallVec<[(SequenceNumber, SequenceNumber); 2]>,
    /// Everything that was sent again is, or was, among them.
    is_complete: bool,
}

impl Episode {
    pub(super) fn fast(before: Box<dyn Controller>, flight: usize) -> Episode {
        Episode {
            before,
            rate: Some(RateReduction::new(flight)),
            is_timeout: false,
            is_marked: false,
            ends_behind: None,
            eifel: Eifel::Begun,
            forward: None,
            suspects: SmallVec::new(),
            is_complete: true,
        }
    }

    /// `judges`: not begun in the midst of another recovery (RFC 5682 §3.1, step 1).
    pub(super) fn timeout(before: Box<dyn Controller>, judges: bool) -> Episode {
        let forward = judges.then_some(ForwardStep::Two(None));
        Episode { rate: None, is_timeout: true, forward, ..Episode::fast(before, 0) }
    }

    /// `start..end` was sent again, with this timestamp.
    pub(super) fn sent_again(&mut self, start: SequenceNumber, end: SequenceNumber, timestamp: u32) {
        if self.eifel == Eifel::Begun {
            self.eifel = Eifel::Sent(timestamp);
        }
        if let Some(ForwardStep::Two(resent @ None)) = &mut self.forward {
            *resent = Some(end);
        }
        if let Some(last) = self.suspects.last_mut().filter(|last| last.1 == start) {
            last.1 = end;
        } else if self.suspects.len() < MOST_SUSPECTS {
            self.suspects.push((start, end));
        } else {
            self.is_complete = false;
        }
    }

    /// The peer has had `block` twice (RFC 2883 §4). Says whether it has had everything twice that was sent again.
    pub(super) fn reported(&mut self, block: SackBlock) -> bool {
        let Some(index) = self.suspects.iter().position(|&(start, end)| start.before(block.right) && block.left.before(end)) else {
            return false;
        };
        let (start, end) = self.suspects.remove(index);
        if start.before(block.left) {
            self.suspects.push((start, block.left));
        }
        if block.right.before(end) {
            self.suspects.push((block.right, end));
        }
        self.is_complete && self.suspects.is_empty()
    }

    /// RFC 3522 §3.2, steps 3 to 6: whether the first acknowledgement of something new echoes a timestamp from before the retransmission. If it covers all that is
    /// outstanding, that may be for lost acknowledgements (§3.3); unless the peer is known to send D-SACK, which would say so.
    pub(super) fn is_echo_older(&mut self, told: &Told, peer_reports_duplicates: bool) -> bool {
        let (Eifel::Sent(resent), Some(echo), true) = (self.eifel, told.echo, told.advanced > 0) else { return false };
        self.eifel = Eifel::Done;
        let is_older = SequenceNumber(echo).before(SequenceNumber(resent));
        is_older && told.report.is_none() && (peer_reports_duplicates || told.is_something_left)
    }

    /// RFC 5682 §2.1, or §3.1 with SACK: moves F-RTO along.
    pub(super) fn judge_timeout(&mut self, told: &Told, has_sack: bool) -> Verdict {
        let verdict = match self.forward {
            None => Verdict::Open,
            Some(ForwardStep::Two(resent)) => self.step_two(told, resent, has_sack),
            Some(ForwardStep::Three(recover)) => step_three(told, recover, has_sack),
        };
        if verdict != Verdict::Open {
            self.forward = None;
        }
        verdict
    }

    fn step_two(&mut self, told: &Told, resent: Option<SequenceNumber>, has_sack: bool) -> Verdict {
        if told.advanced == 0 {
            // With SACK, "stay in step 2 and wait for the next new acknowledgement".
            return if told.is_duplicate && !has_sack { Verdict::Lost } else { Verdict::Open };
        }
        let is_all_of_it = resent.is_some_and(|end| told.unacknowledged.after_or_equal(end));
        if !is_all_of_it || !told.is_something_left || !told.can_send_new {
            return Verdict::Lost;
        }
        self.forward = Some(ForwardStep::Three(told.next));
        Verdict::Open
    }
}

fn step_three(told: &Told, recover: SequenceNumber, has_sack: bool) -> Verdict {
    if !has_sack {
        return match (told.advanced > 0, told.is_duplicate) {
            (true, _) => Verdict::Spurious,
            (false, true) => Verdict::Lost,
            (false, false) => Verdict::Open,
        };
    }
    let is_beyond = told.unacknowledged.after(recover) || told.highest.is_some_and(|highest| highest.after(recover));
    if is_beyond {
        return Verdict::Lost;
    }
    match told.original {
        Some(_) => Verdict::Spurious,
        None if told.is_duplicate => Verdict::Lost,
        None => Verdict::Open,
    }
}
