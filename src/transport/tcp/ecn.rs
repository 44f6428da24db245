//! Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them, the receiver echoes the marks, the sender slows down.
//!
//! Owns the negotiation and both halves of the echo. Refuses to change a window: congestion control does, once for a window of data.
//!
//! New data carries ECT(0); SYNs, pure acknowledgements, retransmissions and window probes carry nothing (§6.1.1, §6.1.4 to 6.1.6). A SYN that is lost is sent
//! again without the question (§6.1.1.1), and then the answer does not count.

use super::{Connection, Context, Segment};
use crate::transport::shared::Ecn as Policy;
use crate::wire::{SequenceNumber, TcpFlags};

/// The two bits of the IP header that are not DSCP.
const FIELD: u8 = 3;
/// "ECN-Capable Transport", the codepoint that says nothing else.
const ECT_0: u8 = 2;
/// "Congestion Experienced".
const CE: u8 = 3;
/// The flags of an ECN-setup SYN; an ECN-setup SYN-ACK has ECE alone.
const SETUP: TcpFlags = TcpFlags(TcpFlags::ECE.0 | TcpFlags::CWR.0);

/// The variables of one connection.
#[derive(Debug, Default)]
pub(super) struct Ecn {
    /// Our last SYN asked.
    has_asked: bool,
    /// Both ends take part.
    is_agreed: bool,
    /// Marks have arrived, and the peer has not said that it slowed down: acknowledgements carry ECE.
    echoes: bool,
    /// The window was reduced: the next new data says so.
    owes_reduced: bool,
    /// SND.NXT at the last reduction; `None` if all of that window is acknowledged.
    answered_up_to: Option<SequenceNumber>,
}

impl Ecn {
    pub(super) fn is_agreed(&self) -> bool {
        self.is_agreed
    }

    /// The flags of our SYN, for the first time or again (§6.1.1.1).
    pub(super) fn syn_flags(&mut self, policy: Policy, is_repeated: bool) -> TcpFlags {
        self.has_asked = policy == Policy::Request && !is_repeated;
        if self.has_asked { SETUP } else { TcpFlags::NONE }
    }

    /// The flags of our SYN-ACK.
    pub(super) fn syn_ack_flags(&self) -> TcpFlags {
        if self.is_agreed { TcpFlags::ECE } else { TcpFlags::NONE }
    }

    /// Takes the peer's SYN, its repetition, or its SYN-ACK. One that does not ask, or repeats our own flags (§6.1.1.2), settles it: no.
    pub(super) fn take_syn(&mut self, flags: TcpFlags, policy: Policy, is_active: bool) {
        let setup = flags & SETUP;
        self.is_agreed = if flags.contains(TcpFlags::ACK) {
            self.has_asked && setup == TcpFlags::ECE
        } else {
            is_granted(flags, policy) && (self.has_asked || !is_active)
        };
    }

    /// The field of a packet with these many bytes of data.
    pub(super) fn field(&self, is_new_data: bool) -> u8 {
        if self.is_agreed && is_new_data { ECT_0 } else { 0 }
    }

    /// What every segment behind the handshake carries.
    pub(super) fn echo(&self) -> TcpFlags {
        if self.echoes { TcpFlags::ECE } else { TcpFlags::NONE }
    }

    /// Whether the next new data says that the window was reduced. It goes as one segment, since each piece of a longer one would say it.
    pub(super) fn owes_reduced(&self) -> bool {
        self.owes_reduced
    }

    /// The flag for new data that is sent now.
    pub(super) fn take_reduced(&mut self) -> TcpFlags {
        if std::mem::take(&mut self.owes_reduced) { TcpFlags::CWR } else { TcpFlags::NONE }
    }

    /// The window was reduced, for whatever reason (§6.1.2).
    pub(super) fn note_reduced(&mut self, next: SequenceNumber) {
        if self.is_agreed {
            self.owes_reduced = true;
            self.answered_up_to = Some(next);
        }
    }

    /// Whether congestion within the window that `unacknowledged` begins has been answered already.
    pub(super) fn is_answered(&self, unacknowledged: SequenceNumber) -> bool {
        self.answered_up_to.is_some_and(|end| unacknowledged.before(end))
    }

    /// Takes data within the window (§6.1.3). Says whether it is to be acknowledged at once: the sender should hear of a change soon.
    pub(super) fn take_data(&mut self, flags: TcpFlags, traffic_class: u8) -> bool {
        let before = self.echoes;
        if self.is_agreed && flags.contains(TcpFlags::CWR) {
            self.echoes = false;
        }
        if self.is_agreed && traffic_class & FIELD == CE {
            self.echoes = true;
        }
        self.echoes != before
    }
}

/// Whether a listener agrees to what a SYN with these flags asks for.
pub(super) fn is_granted(flags: TcpFlags, policy: Policy) -> bool {
    flags & SETUP == SETUP && policy != Policy::Never
}

/// The program's traffic class, whose two ECN bits are not its own to set on a connection.
pub(super) fn without_field(traffic_class: u8) -> u8 {
    traffic_class & !FIELD
}

impl Connection {
    /// "an ACK packet with the ECN-Echo flag set" (§6.1.2): the window is reduced, once for a window of data. Says whether it was one, for then the
    /// window does not grow.
    pub(super) fn take_echo(&mut self, cx: &Context<'_>, segment: &Segment) -> bool {
        if !self.ecn.is_agreed() || !segment.has(TcpFlags::ECE) || segment.has(TcpFlags::SYN) {
            return false;
        }
        if !self.ecn.is_answered(self.send.unacknowledged) {
            cx.out.counters().transport.congestion_echoes.increment();
            self.congestion.on_congestion_experienced(cx.now, self.send.flight_size());
            self.ecn.note_reduced(self.send.next);
        }
        if self.congestion.window() <= self.send.segment_size {
            // "the sending TCP MUST reset the retransmit timer on receiving the ECN-Echo packet when the congestion window is one"
            self.recovery.restarts_timer = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is asked by whom with which flags; whether that is an agreement.
    #[track_caller]
    fn assert_agreed(policy: Policy, is_active: bool, flags: TcpFlags, expected: bool) {
        let mut ecn = Ecn::default();
        if is_active {
            ecn.syn_flags(policy, false);
        }
        ecn.take_syn(flags, policy, is_active);
        assert_eq!(ecn.is_agreed(), expected);
    }

    #[test]
    fn section_6_1_1_who_asks_and_who_agrees() {
        let (syn, syn_ack) = (TcpFlags::SYN, TcpFlags::SYN_ACK);
        for (policy, agrees) in [(Policy::Never, false), (Policy::WhenAsked, true), (Policy::Request, true)] {
            assert_agreed(policy, false, syn | SETUP, agrees);
            assert_agreed(policy, false, syn, false);
            assert_agreed(policy, false, syn | TcpFlags::ECE, false);
            assert_agreed(policy, true, syn_ack | TcpFlags::ECE, policy == Policy::Request);
            assert_agreed(policy, true, syn_ack, false);
            assert_agreed(policy, true, syn | SETUP, policy == Policy::Request);
        }
    }

    #[test]
    fn section_6_1_1_2_an_echo_of_the_reserved_field_is_no_agreement() {
        assert_agreed(Policy::Request, true, TcpFlags::SYN_ACK | SETUP, false);
    }

    #[test]
    fn section_6_1_3_the_echo_goes_on_until_the_sender_has_reduced() {
        let mut ecn = Ecn { is_agreed: true, ..Ecn::default() };
        assert!(!ecn.take_data(TcpFlags::ACK, ECT_0) && ecn.echo() == TcpFlags::NONE);
        assert!(ecn.take_data(TcpFlags::ACK, CE));
        assert!(!ecn.take_data(TcpFlags::ACK, ECT_0) && ecn.echo() == TcpFlags::ECE);
        assert!(!ecn.take_data(TcpFlags::CWR, CE) && ecn.echo() == TcpFlags::ECE, "marked again");
        assert!(ecn.take_data(TcpFlags::CWR, ECT_0) && ecn.echo() == TcpFlags::NONE);
    }

    #[test]
    fn without_agreement_marks_mean_nothing() {
        let mut ecn = Ecn::default();
        ecn.take_data(TcpFlags::ACK, CE);
        ecn.note_reduced(SequenceNumber(1));
        assert_eq!((ecn.echo(), ecn.take_reduced(), ecn.field(true)), (TcpFlags::NONE, TcpFlags::NONE, 0));
    }
}
