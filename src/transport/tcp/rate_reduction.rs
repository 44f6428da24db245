//! Proportional Rate Reduction: how much may be sent during fast recovery (RFC 6937, as RFC 9937 revises it).
//!
//! Owns the account of what was delivered and sent during one recovery. Refuses to know what is lost, and the target: `ssthresh` is congestion control's.

/// What one acknowledgement says (RFC 9937 §6.2, "on every ACK during fast recovery").
#[derive(Copy, Clone, Debug)]
pub(super) struct Delivery {
    /// DeliveredData: bytes newly delivered.
    pub(super) delivered: usize,
    /// Bytes in flight now: `pipe`, or `inflight`.
    pub(super) in_flight: usize,
    /// ssthresh.
    pub(super) threshold: usize,
    /// MSS.
    pub(super) segment_size: usize,
    /// SafeACK: SND.UNA advanced, and no further loss was found.
    pub(super) is_safe: bool,
}

/// The account.
#[derive(Clone, Debug)]
pub(super) struct RateReduction {
    /// RecoverFS: what was in flight when recovery began.
    flight: usize,
    /// prr_delivered.
    delivered: usize,
    /// prr_out.
    out: usize,
    /// sndcnt, less what has been sent since.
    room: usize,
}

impl RateReduction {
    /// Recovery begins with so many bytes in flight that were not known to be delivered.
    pub(super) fn new(flight: usize) -> RateReduction {
        RateReduction { flight: flight.max(1), delivered: 0, out: 0, room: 0 }
    }

    /// Bytes that may be sent now.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// So many bytes were sent, new or again.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.out = self.out.saturating_add(bytes);
        self.room = self.room.saturating_sub(bytes);
    }

    /// An acknowledgement arrived.
    pub(super) fn acknowledged(&mut self, delivery: Delivery) {
        if delivery.delivered > 0 {
            self.delivered = self.delivered.saturating_add(delivery.delivered);
            self.room = if delivery.in_flight > delivery.threshold { self.proportion(&delivery) } else { self.bounded(&delivery) };
        }
        if self.out == 0 {
            // RFC 9937 §6.2: "Force a fast retransmit upon entering recovery".
            self.room = self.room.max(delivery.segment_size);
        }
    }

    /// The reduction is spread over the round trip: CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out.
    fn proportion(&self, delivery: &Delivery) -> usize {
        let share = (self.delivered as u128 * delivery.threshold as u128).div_ceil(self.flight as u128);
        usize::try_from(share).unwrap_or(usize::MAX).saturating_sub(self.out)
    }

    /// Below the threshold: packet conservation (PRR-CRB), and a segment more for each acknowledgement that finds no new loss (PRR-SSRB), up to the threshold.
    fn bounded(&self, delivery: &Delivery) -> usize {
        let conserved = self.delivered.saturating_sub(self.out).max(delivery.delivered);
        let limit = conserved + if delivery.is_safe { delivery.segment_size } else { 0 };
        limit.min(delivery.threshold.saturating_sub(delivery.in_flight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges one segment of 1; sends what is admitted, up to `most`; gives it.
    fn step(reduction: &mut RateReduction, pipe: &mut usize, is_safe: bool) -> usize {
        let delivery = Delivery { delivered: 1, in_flight: *pipe, threshold: 10, segment_size: 1, is_safe };
        reduction.acknowledged(delivery);
        let sent = reduction.room();
        reduction.sent(sent);
        *pipe += sent;
        sent
    }

    /// RFC 6937 §3.1, first figure: 20 in flight, the first lost; acks 1 and 2 let limited transmit send. From ack 3 on.
    #[test]
    fn rfc6937_3_1_a_single_loss_is_spread_over_the_round_trip() {
        let (mut reduction, mut pipe) = (RateReduction::new(20), 19);
        let mut sent = vec![];
        for _ in 3..=19 {
            pipe -= 1;
            sent.push(step(&mut reduction, &mut pipe, false));
        }
        assert_eq!(sent, [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]);
        assert_eq!(pipe, 10, "at ssthresh: 7 new segments, and 1 again");
    }

    /// RFC 6937 §3.1, second figure: 15 of 20 lost. PRR-SSRB sends 2 for each of the three acknowledgements left, if they are safe.
    #[test]
    fn rfc6937_3_1_a_burst_of_losses_with_the_slow_start_bound() {
        let (mut reduction, mut pipe) = (RateReduction::new(20), 4);
        let mut seen = vec![];
        for ack in 0..3 {
            pipe -= usize::from(ack > 0);
            let sent = step(&mut reduction, &mut pipe, true);
            seen.push((pipe - sent, sent));
        }
        assert_eq!(seen, [(4, 2), (5, 2), (6, 2)]);
    }

    /// The same with PRR-CRB: RFC 9937 takes it while losses are still being found.
    #[test]
    fn rfc6937_3_1_a_burst_of_losses_with_the_conservative_bound() {
        let (mut reduction, mut pipe) = (RateReduction::new(20), 4);
        let mut seen = vec![];
        for ack in 0..3 {
            pipe -= usize::from(ack > 0);
            let sent = step(&mut reduction, &mut pipe, false);
            seen.push((pipe - sent, sent));
        }
        assert_eq!(seen, [(4, 1), (4, 1), (4, 1)]);
    }

    #[test]
    fn rfc6937_3_the_bound_stops_at_the_threshold_and_the_first_retransmission_is_forced() {
        let mut reduction = RateReduction::new(20);
        reduction.acknowledged(Delivery { delivered: 0, in_flight: 15, threshold: 10, segment_size: 1, is_safe: false });
        assert_eq!(reduction.room(), 1);
        reduction.sent(1);
        reduction.acknowledged(Delivery { delivered: 8, in_flight: 9, threshold: 10, segment_size: 1, is_safe: true });
        assert_eq!(reduction.room(), 1);
    }
}
