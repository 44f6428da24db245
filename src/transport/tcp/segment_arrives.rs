//! SEGMENT ARRIVES (RFC 9293 §3.10.7): read it beside the RFC. Each step is a function that says to go on, or why not.

use super::receive_side::Due;
use super::{Connection, Context, Segment, State};
use crate::layer::{DropReason, Level};
use crate::time::Instant;
use crate::transport::shared::Failure;
use crate::wire::{SackBlock, TcpFlags};
use std::ops::ControlFlow;

/// Go on, or stop; with a reason if the segment is to be counted as dropped.
pub(super) type Check = ControlFlow<Option<DropReason>>;

/// Stop, because.
pub(super) fn drop_because(reason: DropReason) -> Check {
    ControlFlow::Break(Some(reason))
}

/// Stop: the segment has had its effect.
pub(super) const DONE: Check = ControlFlow::Break(None);

impl Connection {
    /// Takes one segment that is this connection's. Acknowledgements, data and wakes wait for [`Connection::end_batch`].
    pub fn segment_arrives(&mut self, cx: &mut Context<'_>, mut segment: Segment) {
        if cx.out.is_observed() {
            self.log_arrival(cx, &segment);
        }
        let check = match self.state {
            State::Closed | State::Listen => self.arrives_in_closed(cx, &segment),
            State::SynSent => self.arrives_in_syn_sent(cx, &mut segment),
            State::TimeWait => self.arrives_in_time_wait(cx, &segment),
            _ => self.arrives_in_other_states(cx, &mut segment),
        };
        if let ControlFlow::Break(Some(reason)) = check {
            cx.out.drop_packet(reason, segment.payload);
        }
    }

    fn log_arrival(&self, cx: &Context<'_>, segment: &Segment) {
        let (header, length) = (&segment.header, segment.payload.len());
        let state = self.state.name();
        cx.out.log(
            "tcp",
            Level::Trace,
            format_args!(
                "{} <- {} {} seq {} ack {} win {} len {length} in {state}",
                self.local, self.remote, header.flags, header.sequence.0, header.acknowledgement.0, header.window
            ),
        );
    }

    /// §3.10.7.1.
    fn arrives_in_closed(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        super::reset_for(cx, segment);
        drop_because(DropReason::NoSocket)
    }

    /// §3.10.7.4.
    fn arrives_in_other_states(&mut self, cx: &mut Context<'_>, segment: &mut Segment) -> Check {
        self.check_timestamp(cx, segment)?;
        self.check_sequence_number(cx, segment)?; // First
        self.check_reset(cx, segment)?; // Second
        // Third, security and compartment: RFC 9293 appendix A.1, nobody uses them.
        self.check_syn(cx, segment)?; // Fourth
        self.heard_from_peer(cx, segment);
        self.check_acknowledgement(cx, segment)?; // Fifth
        self.check_urgent(segment); // Sixth
        self.segment_text_and_finish(cx, segment) // Seventh and eighth
    }

    /// RFC 7323 §5.3 R1 and §3.2: before the sequence number, the timestamp, of all but what fills a gap. A SYN without one goes on to its challenge: so does a peer that has
    /// forgotten us learn of us.
    fn check_timestamp(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        let is_exempt = segment.has(TcpFlags::RST) || (segment.has(TcpFlags::SYN) && segment.header.options.timestamps.is_none());
        if !self.agreement.timestamps || is_exempt {
            return ControlFlow::Continue(());
        }
        match segment.header.options.timestamps {
            // "a TCP SHOULD silently drop the segment"
            None => drop_because(DropReason::OldTimestamp),
            Some(timestamps) if self.is_old_duplicate(segment, timestamps.value, cx.now) => {
                self.answer_old(cx, segment);
                drop_because(DropReason::OldTimestamp)
            }
            Some(_) => ControlFlow::Continue(()),
        }
    }

    fn is_old_duplicate(&self, segment: &Segment, timestamp: u32, now: Instant) -> bool {
        let fills_gap = || segment.length() > 0 && self.receive.fills_gap(timestamp, segment.header.sequence, segment.end());
        self.receive.is_timestamp_old(timestamp, now) && !fills_gap()
    }

    /// "First, check sequence number."
    fn check_sequence_number(&mut self, cx: &mut Context<'_>, segment: &mut Segment) -> Check {
        self.accept_crossing_syn(segment);
        if self.is_acceptable(segment) {
            return ControlFlow::Continue(());
        }
        if segment.has(TcpFlags::RST) {
            return drop_because(DropReason::OutOfWindow);
        }
        if self.state == State::SynReceived && segment.has(TcpFlags::SYN) && segment.header.sequence == self.receive.initial {
            // The peer has not had our SYN-ACK. If it asks for less than before, that counts (RFC 3168 §6.1.1).
            self.ecn.take_syn(segment.header.flags, self.options.ecn, self.is_active);
            self.send_syn(cx);
            return drop_because(DropReason::OutOfWindow);
        }
        if segment.has(TcpFlags::SYN) {
            // RFC 5961 §4.2: "irrespective of the sequence number". That of the peer's own SYN is most likely its SYN again.
            self.challenge(cx);
            let is_repeated = segment.header.sequence == self.receive.initial;
            return drop_because(if is_repeated { DropReason::OutOfWindow } else { DropReason::Suspicious });
        }
        self.answer_unacceptable(cx, segment);
        drop_because(DropReason::OutOfWindow)
    }

    /// Simultaneous open (RFC 9293 §3.5, figure 7): the peer's SYN-ACK repeats a SYN we have, but acknowledges ours.
    fn accept_crossing_syn(&self, segment: &mut Segment) {
        let repeats = segment.has(TcpFlags::SYN_ACK) && segment.header.sequence == self.receive.initial;
        if self.state == State::SynReceived && repeats && segment.header.acknowledgement == self.send.next {
            segment.trim_front(1);
        }
    }

    /// Table 6, with two allowances: a segment at the very edge is acceptable if it is empty (a peer that has filled the window may still
    /// acknowledge), and one at RCV.NXT if the window is closed: "special allowance should be made to accept valid ACKs, URGs, and RSTs"; its
    /// text is trimmed to nothing.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let (sequence, length, window) = (segment.header.sequence, segment.length(), self.receive.window());
        if length == 0 || window == 0 {
            return sequence == self.receive.next || sequence.is_within(self.receive.next, window.saturating_add(1));
        }
        sequence.is_within(self.receive.next, window) || (sequence + (length - 1)).is_within(self.receive.next, window)
    }

    /// "Send an acknowledgment in reply" (RFC 7323 §5.3 R1), to what is no data at a bounded rate.
    fn answer_old(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        if segment.payload.is_empty() && !segment.has(TcpFlags::FIN) { self.challenge(cx) } else { self.receive.owe(Due::Now) }
    }

    /// "An acknowledgment should be sent in reply": at the end of the batch for data, at a bounded rate for what two confused ends could throw at each other for ever.
    fn answer_unacceptable(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        if segment.length() == 0 && segment.header.sequence != self.receive.next - 1 {
            return self.challenge(cx);
        }
        self.note_duplicate(cx, segment);
        self.receive.owe(Due::Now);
    }

    /// Data that has been received before is reported by D-SACK (RFC 2883 §4.1).
    fn note_duplicate(&mut self, cx: &mut Context<'_>, segment: &Segment) {
        if !segment.payload.is_empty() && segment.end().before_or_equal(self.receive.next) {
            cx.out.counters().transport.duplicate_segments.increment();
            let right = segment.header.sequence + segment.payload.len() as u32;
            self.received_twice(cx, SackBlock { left: segment.header.sequence, right });
        }
    }

    /// "Second, check the RST bit", as RFC 5961 §3.2 has it: the very next number resets, any other in the window is challenged.
    fn check_reset(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        if !segment.has(TcpFlags::RST) {
            return ControlFlow::Continue(());
        }
        if segment.header.sequence != self.receive.next {
            self.challenge(cx);
            return drop_because(DropReason::Suspicious);
        }
        self.reset_by_peer(cx);
        DONE
    }

    fn reset_by_peer(&mut self, cx: &mut Context<'_>) {
        cx.out.counters().transport.resets.increment();
        match self.state {
            State::SynReceived if !self.is_active && !self.is_early() => self.finish(cx),
            State::SynReceived if self.is_early() => self.fail(cx, Failure::Reset),
            State::SynReceived => self.fail(cx, Failure::Refused),
            State::Closing | State::LastAck | State::TimeWait => self.finish(cx),
            _ => self.fail(cx, Failure::Reset),
        }
    }

    /// "Fourth, check the SYN bit": a passive connection whose handshake is not over is forgotten, any other challenges (RFC 5961 §4.2).
    fn check_syn(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        if !segment.has(TcpFlags::SYN) {
            return ControlFlow::Continue(());
        }
        if self.state == State::SynReceived && !self.is_active {
            self.reset_by_peer(cx);
        } else {
            self.challenge(cx);
        }
        drop_because(DropReason::Suspicious)
    }

    /// "Sixth, check the URG bit": urgent data is delivered in line, as RFC 6093 §4 advises; the program learns where it ends.
    pub(super) fn check_urgent(&mut self, segment: &Segment) {
        if segment.has(TcpFlags::URG) && self.state.may_receive() {
            let end = segment.header.sequence + u32::from(segment.header.urgent_pointer);
            self.news.is_wanted |= self.receive.note_urgent(end);
        }
    }

    /// The segment is believed: the peer lives, and its timestamp counts (RFC 7323 §4.3).
    fn heard_from_peer(&mut self, cx: &Context<'_>, segment: &Segment) {
        self.last_heard = cx.now;
        self.keepalive_probes = 0;
        self.take_user_timeout(segment.header.options.user_timeout, cx.config.user_timeout_limits);
        if let Some(timestamps) = segment.header.options.timestamps.filter(|_| self.agreement.timestamps) {
            self.receive.note_timestamp(timestamps.value, segment.header.sequence, cx.now);
        }
    }

    /// TIME-WAIT: a retransmitted FIN is acknowledged and restarts 2 MSL; a RST does not end it (RFC 1337 §3); a SYN that might open a new connection has been
    /// looked at before ([`Connection::may_be_reused_by`]), any other is challenged.
    fn arrives_in_time_wait(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        if segment.has(TcpFlags::RST) {
            return drop_because(DropReason::LateReset);
        }
        if segment.has(TcpFlags::SYN) {
            self.challenge(cx);
            return drop_because(DropReason::Suspicious);
        }
        if segment.has(TcpFlags::FIN) && segment.end() == self.receive.next {
            self.timers.set(super::Timer::TimeWait, cx.now + self.time_wait(cx));
        }
        if segment.length() > 0 {
            self.receive.owe(Due::Now);
        }
        drop_because(DropReason::OutOfWindow)
    }
}
