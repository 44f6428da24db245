//! The figures of a connection for whoever asks: gathered from the modules that know them.
//!
//! Owns which figure comes from where. Refuses to compute any.

use super::Connection;
use crate::time::Instant;
use crate::transport::shared::{StreamInfo, TcpSharedState};

impl Connection {
    /// Writes down what the figures are now.
    pub(super) fn describe(&self, now: Instant, state: &mut TcpSharedState) {
        let info = &mut **state.info.get_or_insert_default();
        self.describe_agreement(info);
        self.describe_path(info);
        self.describe_sending(info, now);
        self.describe_receiving(info, now);
        (info.send_buffer, info.unread) = (state.options.send_buffer, state.unread);
    }

    fn describe_agreement(&self, info: &mut StreamInfo) {
        info.state = self.state.name();
        info.timestamps = self.agreement.timestamps;
        info.selective_acknowledgements = self.agreement.sack;
        info.window_scale = self.agreement.window_scale;
        info.ecn = self.ecn.is_agreed();
        info.congestion_control = self.congestion.name();
    }

    fn describe_path(&self, info: &mut StreamInfo) {
        info.smoothed_round_trip = self.round_trip.smoothed().unwrap_or_default();
        info.round_trip_variation = self.round_trip.variation();
        info.minimum_round_trip = self.round_trip.minimum();
        info.retransmission_timeout = self.round_trip.timeout();
        info.delivery_rate = self.send.scoreboard.rate.bytes_per_second();
        info.is_delivery_rate_program_limited = self.send.scoreboard.rate.is_program_limited();
        info.maximum_segment_size = self.send.segment_size;
        info.path_mtu = self.path_mtu.into();
    }

    fn describe_sending(&self, info: &mut StreamInfo, now: Instant) {
        info.congestion_window = self.congestion.window();
        info.slow_start_threshold = self.congestion.threshold();
        info.in_flight = self.send.flight_size();
        info.unsent = self.send.unsent();
        info.send_window = self.send.window as usize;
        info.acknowledged_bytes = self.send.acknowledged_bytes;
        info.since_sent = now.since(self.send.last_sent);
        info.retransmitted = self.recovery.retransmitted;
        info.lost = self.recovery.lost;
        info.reordering_seen = self.recovery.rack.reordering_seen();
        info.recoveries_undone = self.recovery.undone;
        info.loss_probes = self.recovery.loss_probes.sent;
    }

    fn describe_receiving(&self, info: &mut StreamInfo, now: Instant) {
        info.receive_window = self.receive.window() as usize;
        info.receive_buffer = self.receive.buffer;
        info.received_bytes = self.receive.received_bytes;
        info.since_heard = now.since(self.last_heard);
    }
}
