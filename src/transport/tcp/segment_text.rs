//! The seventh and eighth step of RFC 9293 §3.10.7.4: the segment's text, and its FIN.

use super::reassembly::Kept;
use super::receive_side::Due;
use super::segment_arrives::{Check, drop_because};
use super::timers::Timer;
use super::{Connection, Context, Segment, State};
use crate::layer::DropReason;
use crate::transport::shared::Failure;
use crate::wire::{SackBlock, TcpFlags};
use std::ops::ControlFlow;

impl Connection {
    /// "Seventh, process the segment text", "eighth, check the FIN bit".
    pub(super) fn segment_text_and_finish(&mut self, cx: &mut Context<'_>, segment: &mut Segment) -> Check {
        if segment.length() == 0 || !self.state.may_receive() {
            return ControlFlow::Continue(());
        }
        self.check_reader(cx, segment)?;
        self.trim_to_window(cx, segment);
        if !segment.payload.is_empty() && self.ecn.take_data(segment.header.flags, segment.traffic_class) {
            self.receive.owe(Due::Now);
        }
        if segment.has(TcpFlags::FIN) {
            self.receive.finish_at.get_or_insert(segment.end() - 1);
        }
        if segment.header.sequence == self.receive.next {
            self.take_in_order(cx, segment);
        } else if !segment.payload.is_empty() {
            self.keep_for_later(cx, segment)?;
        } else {
            self.receive.owe(Due::Now);
        }
        self.check_finish(cx);
        ControlFlow::Continue(())
    }

    /// Data for which there is no reader any more resets the connection: the peer must not believe it was read (RFC 9293 §3.6.1, RFC 1122
    /// §4.2.2.13).
    fn check_reader(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        let is_new = !segment.payload.is_empty() && (segment.header.sequence + segment.payload.len() as u32).after(self.receive.next);
        if self.is_released && is_new {
            self.abort(cx, Failure::Aborted);
            return drop_because(DropReason::NoSocket);
        }
        ControlFlow::Continue(())
    }

    /// "only the new parts are processed"
    fn trim_to_window(&mut self, cx: &mut Context<'_>, segment: &mut Segment) {
        let old = self.receive.next.offset_from(segment.header.sequence);
        if let Ok(old @ 1..) = u32::try_from(old) {
            if !segment.payload.is_empty() {
                self.received_twice(cx, SackBlock { left: segment.header.sequence, right: self.receive.next });
            }
            segment.trim_front(old);
            self.receive.owe(Due::Now);
        }
        let end = self.receive.finish_at.map_or(self.receive.edge, |finish| {
            let is_the_finish = segment.has(TcpFlags::FIN) && segment.end() == finish + 1;
            self.receive.edge.earliest(finish + u32::from(is_the_finish))
        });
        if segment.trim_back(end) {
            self.receive.owe(Due::Now);
        }
    }

    pub(super) fn take_in_order(&mut self, cx: &mut Context<'_>, segment: &mut Segment) {
        let (segments, size) = (segment.segments(), segment.segment_size());
        let payload = std::mem::take(&mut segment.payload);
        let mut next = self.receive.next + payload.len() as u32;
        let had_data = !payload.is_empty();
        if let Some(twice) = self.receive.reassembly.overlap(self.receive.next, next) {
            self.received_twice(cx, twice);
        }
        self.receive.push_pending(payload.into_slices(), cx.pool);
        if !self.receive.reassembly.is_empty() {
            // RFC 5681 §4.2: a segment that fills a gap is acknowledged at once.
            next = self.take_reassembled(cx, next);
            self.receive.owe(Due::Now);
        }
        self.receive.advance(next);
        if had_data {
            self.receive.owe_for(segments, size, cx.now);
        }
        if self.options.quick_ack {
            self.receive.owe(Due::Now);
        }
    }

    fn take_reassembled(&mut self, cx: &Context<'_>, next: crate::wire::SequenceNumber) -> crate::wire::SequenceNumber {
        let mut slices = Vec::new();
        let end = self.receive.reassembly.take(next, &mut slices);
        self.receive.push_pending(slices.into_iter(), cx.pool);
        end
    }

    /// "Segments with higher beginning sequence numbers SHOULD be held for later processing", and are acknowledged at once (RFC 5681 §4.2).
    fn keep_for_later(&mut self, cx: &mut Context<'_>, segment: &Segment) -> Check {
        self.receive.owe(Due::Now);
        if !self.agreement.sack {
            self.receive.duplicates += segment.segments();
        }
        if cx.is_under_pressure() {
            return self.prune(cx);
        }
        let (start, end) = (segment.header.sequence, segment.header.sequence + segment.payload.len() as u32);
        if let Some(twice) = self.receive.reassembly.overlap(start, end) {
            // RFC 2883 §4.2: of a partial duplicate, the first part that is one.
            self.received_twice(cx, twice);
        }
        match self.receive.reassembly.insert(start, &segment.payload, self.out_of_order_limit(cx), cx.pool) {
            Kept::Stored => {}
            Kept::Duplicate => cx.out.counters().transport.duplicate_segments.increment(),
            Kept::Full => return drop_because(DropReason::OutOfOrderFull),
        }
        self.report_blocks_in_time(cx);
        ControlFlow::Continue(())
    }

    /// Each block is reported before there are more new ones than one acknowledgement holds: else a batch of segments with many gaps
    /// between them would hide some of what arrived (RFC 2018 §4).
    fn report_blocks_in_time(&mut self, cx: &mut Context<'_>) {
        let room = self.sack_room() - usize::from(self.receive.duplicate.is_some() && self.agreement.sack);
        if self.agreement.sack && self.receive.reassembly.unreported() >= room {
            self.send_acknowledgement(cx);
        }
    }

    /// `block` was received before, which the next acknowledgement says (RFC 2883 §4). Each range is said once: one that does not touch the last, if that has not been
    /// said yet, has it said now.
    pub(super) fn received_twice(&mut self, cx: &mut Context<'_>, block: SackBlock) {
        if !self.agreement.sack {
            return;
        }
        let pending = self.receive.duplicate.filter(|pending| block.left == pending.right);
        if pending.is_none() && self.receive.duplicate.is_some() {
            self.send_acknowledgement(cx);
        }
        self.receive.duplicate = Some(SackBlock { left: pending.map_or(block.left, |pending| pending.left), right: block.right });
    }

    /// As much as a window that has grown admits, in slots that are half full at least.
    fn out_of_order_limit(&self, cx: &Context<'_>) -> usize {
        let grown = if self.receive.buffer > cx.config.receive_buffer { self.receive.buffer.saturating_mul(2) } else { 0 };
        cx.config.out_of_order_bytes.max(grown)
    }

    /// The stack's memory is used up: what is out of order goes, as RFC 2018 §8 allows; the peer has it still.
    fn prune(&mut self, cx: &mut Context<'_>) -> Check {
        if !self.receive.reassembly.is_empty() {
            cx.out.counters().transport.out_of_order_pruned.increment();
            self.receive.reassembly.clear();
        }
        drop_because(DropReason::OutOfOrderFull)
    }

    /// "Eighth, check the FIN bit": once everything before it is here.
    fn check_finish(&mut self, cx: &mut Context<'_>) {
        if self.receive.finished || self.receive.finish_at != Some(self.receive.next) {
            return;
        }
        self.receive.finished = true;
        self.receive.advance(self.receive.next + 1);
        // A program that is about to close, too, sends the acknowledgement with its own FIN.
        self.receive.owe(if self.state == State::Established { Due::Soon } else { Due::Now });
        self.receive.reassembly.clear();
        self.news.is_wanted = true;
        let next = match self.state {
            State::FinWait1 if self.send.is_finish_acknowledged() => State::TimeWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            _ => State::CloseWait,
        };
        self.timers.cancel(Timer::FinWait2);
        self.enter(cx, next);
    }
}
