//! SYN-SENT (RFC 9293 §3.10.7.3), and what every handshake has in common.

use super::receive_side::Due;
use super::segment_arrives::{Check, DONE, drop_because};
use super::{Connection, Context, Segment, State};
use crate::layer::DropReason;
use crate::transport::shared::Failure;
use crate::wire::TcpFlags;
use std::ops::ControlFlow;

impl Connection {
    /// §3.10.7.3.
    pub(super) fn arrives_in_syn_sent(&mut self, cx: &mut Context<'_>, segment: &mut Segment) -> Check {
        self.check_acknowledgement_of_syn(cx, segment)?; // First
        self.check_refusal(cx, segment)?; // Second
        // Third, security: nobody uses it.
        if !segment.has(TcpFlags::SYN) {
            return drop_because(DropReason::OutOfWindow); // Fifth
        }
        self.take_peers_syn(segment); // Fourth
        self.take_user_timeout(segment.header.options.user_timeout, cx.config.user_timeout_limits);
        if !segment.has(TcpFlags::ACK) {
            return self.open_simultaneously(cx);
        }
        self.take_syn_ack(cx, segment)
    }

    /// "First, check the ACK bit."
    fn check_acknowledgement_of_syn(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        let acknowledgement = segment.header.acknowledgement;
        let is_acceptable = acknowledgement.after(self.send.initial) && acknowledgement.before_or_equal(self.send.next);
        if !segment.has(TcpFlags::ACK) || is_acceptable {
            return ControlFlow::Continue(());
        }
        super::reset_for(cx, segment);
        drop_because(DropReason::Suspicious)
    }

    /// "Second, check the RST bit": one that acknowledges our SYN refuses.
    fn check_refusal(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        if !segment.has(TcpFlags::RST) {
            return ControlFlow::Continue(());
        }
        if !segment.has(TcpFlags::ACK) {
            return drop_because(DropReason::Suspicious);
        }
        cx.out.counters().transport.resets.increment();
        self.fail(cx, Failure::Refused);
        DONE
    }

    /// Takes the peer's number and options from its SYN.
    pub(super) fn take_peers_syn(&mut self, syn: &Segment) {
        self.agreement.conclude(&syn.header.options);
        self.ecn.take_syn(syn.header.flags, self.options.ecn, self.is_active);
        self.receive.synchronize(syn.header.sequence);
        self.receive.shift = self.agreement.own_shift();
        if let Some(timestamps) = syn.header.options.timestamps.filter(|_| self.agreement.timestamps) {
            self.receive.note_timestamp(timestamps.value, syn.header.sequence, syn.arrived);
        }
        self.send.set_window(&syn.header, u32::from(syn.header.window));
        self.update_segment_size();
    }

    /// Both SYNs crossed: SYN-RECEIVED, with a SYN-ACK (§3.5, figure 7).
    fn open_simultaneously(&mut self, cx: &mut Context<'_>) -> Check {
        self.enter(cx, State::SynReceived);
        self.send_syn(cx);
        DONE
    }

    /// Our SYN is acknowledged: ESTABLISHED; then the rest of the segment, from the sixth step of §3.10.7.4 on.
    fn take_syn_ack(&mut self, cx: &mut Context<'_>, segment: &mut Segment) -> Check {
        self.last_heard = cx.now;
        self.take_acknowledgement(cx, segment);
        self.conclude_fast_open(cx, segment);
        self.receive.advertise_unscaled();
        self.receive.owe(Due::Now);
        self.enter(cx, State::Established);
        segment.trim_front(1);
        self.check_urgent(segment);
        self.segment_text_and_finish(cx, segment)
    }

    /// The handshake is complete.
    pub(super) fn on_established(&mut self, cx: &mut Context<'_>) {
        if self.recovery.retransmitted > 0 {
            // RFC 6298 §5.7, RFC 5681 §3.1: the SYN was lost.
            self.round_trip.handshake_was_retransmitted();
            self.congestion.start_with_one_segment();
        }
        self.send.last_sent = cx.now;
        self.advertise_user_timeout();
        self.fast_open = None;
    }
}
