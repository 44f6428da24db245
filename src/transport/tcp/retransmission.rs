//! Loss: how it is found, and what follows (RFC 5681 §3.2, RFC 6582, RFC 6675, RFC 6298 §5).
//!
//! Owns the phases of recovery. Refuses to know which numbers are lost (the scoreboard) and how fast to send (congestion control).

use super::{Connection, Context};
use crate::time::Instant;
use crate::transport::shared::Failure;
use crate::wire::SequenceNumber;

/// RFC 5681 §3.2: the third duplicate acknowledgement means loss.
const DUPLICATE_THRESHOLD: usize = 3;
/// R1: "SHOULD correspond to at least 3 retransmissions" (RFC 9293 §3.8.3, SHLD-10).
const RETRANSMISSIONS_BEFORE_DOUBT: u32 = 3;

/// Where recovery is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
enum Phase {
    /// No loss is known.
    #[default]
    Open,
    /// Loss was found by acknowledgements; over when this number is acknowledged.
    Fast(SequenceNumber),
    /// The timer expired; over when this number is acknowledged.
    Timeout(SequenceNumber),
}

/// The variables of loss recovery.
#[derive(Debug)]
pub(super) struct Recovery {
    phase: Phase,
    /// Duplicate acknowledgements in a row.
    duplicates: usize,
    /// One segment may go whatever the congestion window says.
    forced: bool,
    /// Timeouts in a row.
    timeouts: u32,
    /// Segments sent again.
    pub(super) retransmitted: u64,
    /// Bytes sent again since the last loss was found.
    pub(super) resent_bytes: usize,
    /// The retransmission timer is to start anew (RFC 6298 §5.3).
    pub(super) restarts_timer: bool,
    /// Since when nothing in flight has been acknowledged.
    pub(super) stalled_since: Instant,
    /// Probes of the present window.
    pub(super) probes: u32,
    /// Of those, the ones that nothing answered.
    pub(super) probes_unanswered: u32,
    /// Without SACK each duplicate acknowledgement stands for a segment that has left the network.
    counts_duplicates: bool,
}

impl Recovery {
    pub(super) fn new(now: Instant) -> Recovery {
        Recovery {
            phase: Phase::Open,
            duplicates: 0,
            forced: false,
            timeouts: 0,
            retransmitted: 0,
            resent_bytes: 0,
            restarts_timer: false,
            stalled_since: now,
            probes: 0,
            probes_unanswered: 0,
            counts_duplicates: false,
        }
    }
}

/// What an acknowledgement told, as far as recovery is concerned.
#[derive(Copy, Clone, Debug)]
pub(super) struct Told {
    /// Numbers cumulatively acknowledged.
    pub(super) advanced: usize,
    /// It was a duplicate (RFC 5681 §2), or had news by SACK (RFC 6675 §2).
    pub(super) is_duplicate: bool,
}

impl Recovery {
    /// Bytes that duplicate acknowledgements say have left the network, when there is no SACK to say it: what RFC 6582 inflates the window by.
    pub(super) fn left_network(&self, segment_size: usize) -> usize {
        if self.counts_duplicates { self.duplicates.saturating_mul(segment_size) } else { 0 }
    }

    /// R1 (RFC 9293 §3.8.3): so many timeouts in a row cast doubt on the path.
    pub(super) fn doubts_path(&self) -> bool {
        self.timeouts >= RETRANSMISSIONS_BEFORE_DOUBT
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Lets one segment go whatever the congestion window says.
    pub(super) fn force_one(&mut self) {
        self.forced = true;
    }

    pub(super) fn sent_one(&mut self) {
        self.forced = false;
    }

    /// Whether the congestion window is frozen.
    pub(super) fn is_fast(&self) -> bool {
        matches!(self.phase, Phase::Fast(_))
    }

    /// Why data is being sent again.
    pub(super) fn cause(&self) -> &'static str {
        match self.phase {
            Phase::Open => "path or window changed",
            Phase::Fast(_) => "fast retransmission",
            Phase::Timeout(_) => "retransmission timeout",
        }
    }

    pub(super) fn note_probe(&mut self) {
        self.probes = self.probes.saturating_add(1);
        self.probes_unanswered = self.probes_unanswered.saturating_add(1);
    }

    fn end_of_phase(&self) -> Option<SequenceNumber> {
        match self.phase {
            Phase::Open => None,
            Phase::Fast(end) | Phase::Timeout(end) => Some(end),
        }
    }

    /// RFC 6582 §3.2 step 3: what a partial acknowledgement covers no longer counts as having left the network, but for one segment.
    fn note_advance(&mut self, advanced: usize, segment_size: usize) {
        self.timeouts = 0;
        self.restarts_timer = true;
        let segments = advanced / segment_size.max(1);
        self.duplicates = if self.is_fast() { self.duplicates.saturating_sub(segments.saturating_sub(1)) } else { 0 };
    }
}

impl Connection {
    /// Moves recovery along after an acknowledgement has been entered in the scoreboard.
    pub(super) fn recover(&mut self, cx: &mut Context<'_>, told: Told) {
        let size = self.send.segment_size;
        self.recovery.counts_duplicates = !self.agreement.sack;
        if told.advanced > 0 {
            self.recovery.note_advance(told.advanced, size);
            self.recovery.stalled_since = cx.now;
        }
        if told.is_duplicate {
            let bound = self.send.flight_size() / size.max(1) + 1;
            self.recovery.duplicates = (self.recovery.duplicates + 1).min(bound);
        }
        let was_fast = self.recovery.is_fast();
        if self.recovery.end_of_phase().is_some_and(|end| self.send.unacknowledged.after_or_equal(end)) {
            self.end_phase();
        }
        if self.find_partial(told) {
            self.recovery.force_one();
        }
        let found = self.find_losses() || (was_fast && self.recovery.phase == Phase::Open && self.send.scoreboard.has_lost());
        if found && self.recovery.phase == Phase::Open {
            self.enter_fast_recovery(cx);
        }
    }

    fn end_phase(&mut self) {
        if self.recovery.is_fast() {
            self.congestion.on_recovered(self.recovery.resent_bytes);
        }
        self.recovery.phase = Phase::Open;
        self.recovery.duplicates = 0;
    }

    /// Without SACK, an acknowledgement that does not cover all of the window in which a loss was found says that the next segment is lost as well,
    /// and to be sent at once (RFC 6582 §3.2 step 3).
    fn find_partial(&mut self, told: Told) -> bool {
        let is_partial = told.advanced > 0 && self.recovery.is_fast() && !self.agreement.sack;
        is_partial && self.send.scoreboard.first_is_lost(self.send.segment_size)
    }

    fn find_losses(&mut self) -> bool {
        let size = self.send.segment_size;
        let by_sack = self.agreement.sack && self.send.scoreboard.find_losses(size);
        let is_third = self.recovery.phase == Phase::Open && self.recovery.duplicates >= DUPLICATE_THRESHOLD;
        let by_count = is_third && self.send.scoreboard.first_is_lost(size);
        by_sack || by_count
    }

    /// RFC 5681 §3.2 steps 2 and 3, RFC 6675 §5 step 4.
    fn enter_fast_recovery(&mut self, cx: &mut Context<'_>) {
        cx.out.counters().transport.fast_retransmits.increment();
        self.recovery.phase = Phase::Fast(self.send.next);
        self.recovery.resent_bytes = 0;
        // RFC 3168 §6.1.2: once for a window, whether it was marks or losses that told.
        if !self.ecn.is_answered(self.send.unacknowledged) {
            self.congestion.on_loss(cx.now, self.send.flight_size());
            self.ecn.note_reduced(self.send.next);
        }
        self.recovery.force_one();
        self.recovery.restarts_timer = true;
    }

    /// The retransmission timer expired (RFC 6298 §5.4 to 5.7).
    pub(super) fn retransmission_timeout(&mut self, cx: &mut Context<'_>) {
        let retries = if self.state.is_opening() { cx.config.syn_retries } else { cx.config.data_retries };
        if self.recovery.timeouts >= retries || self.is_stalled_too_long(cx.now) {
            return self.give_up(cx);
        }
        cx.out.counters().transport.retransmission_timeouts.increment();
        let first = self.recovery.timeouts == 0;
        self.recovery.timeouts += 1;
        self.round_trip.back_off();
        if self.state.is_opening() {
            self.recovery.retransmitted += 1;
            return self.send_syn(cx);
        }
        self.congestion.on_timeout(cx.now, self.send.flight_size(), first);
        self.ecn.note_reduced(self.send.next);
        self.send.scoreboard.all_is_lost();
        self.recovery.phase = Phase::Timeout(self.send.next);
        self.recovery.duplicates = 0;
        self.recovery.force_one();
    }

    fn is_stalled_too_long(&self, now: Instant) -> bool {
        self.options.user_timeout.is_some_and(|limit| now.since(self.recovery.stalled_since) >= limit)
    }

    /// R2, or the user timeout, is reached (RFC 9293 §3.8.3, §3.10.8): the last soft error says why, if there was one (RFC 1122 §4.2.3.9).
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>) {
        let failure = self.news.soft_failure().unwrap_or(Failure::TimedOut);
        self.fail(cx, failure);
    }
}
