//! The figures of a connection: what `ss -ti` shows of the kernel's.
//!
//! Owns names, units and the printed line. Refuses to measure: the connection notes them whenever it meets its program.

use std::fmt;
use std::time::Duration;

/// Figures of a connection, as `ss -ti` shows them. Sizes, windows and buffers are in bytes. `Display` prints one line in the manner of `ss`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The RFC 9293 state's name: `ESTABLISHED`, …
    pub state: &'static str,
    /// Smoothed round-trip time (RFC 6298); zero before the first measurement.
    pub smoothed_round_trip: Duration,
    /// Its variation.
    pub round_trip_variation: Duration,
    /// The shortest round trip of the last minutes (RFC 8985 §6.2); zero before the first measurement.
    pub minimum_round_trip: Duration,
    /// Retransmission timeout, its backoff included.
    pub retransmission_timeout: Duration,
    /// Congestion window.
    pub congestion_window: usize,
    /// Slow-start threshold; `usize::MAX` before the first loss.
    pub slow_start_threshold: usize,
    /// Sent and not acknowledged (FlightSize of RFC 5681).
    pub in_flight: usize,
    /// Written and not sent.
    pub unsent: usize,
    /// Received in order and not read.
    pub unread: usize,
    /// Bytes of data in each second that the path delivered, when last measured (draft-cheng-iccrg-delivery-rate-estimation); zero before that.
    pub delivery_rate: u64,
    /// The program sent less than it might have when that was measured: the path may carry more.
    pub is_delivery_rate_program_limited: bool,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Segments found lost.
    pub lost: u64,
    /// Whether segments were ever delivered out of order (RFC 8985 §6.2).
    pub reordering_seen: bool,
    /// Recoveries that were undone because nothing had been lost.
    pub recoveries_undone: u64,
    /// Tail loss probes sent (RFC 8985 §7).
    pub loss_probes: u64,
    /// Bytes of data that the peer acknowledged.
    pub acknowledged_bytes: u64,
    /// Bytes of data received in order.
    pub received_bytes: u64,
    /// How long ago data was last sent.
    pub since_sent: Duration,
    /// How long ago the peer was last heard.
    pub since_heard: Duration,
    /// Bytes of payload in a full segment, as we send them.
    pub maximum_segment_size: usize,
    /// The largest IP packet that the path carries, as far as known.
    pub path_mtu: usize,
    /// The peer's window.
    pub send_window: usize,
    /// Our window.
    pub receive_window: usize,
    /// What may wait unacknowledged; it grows with the path, unless the program set it.
    pub send_buffer: usize,
    /// What may wait unread; the same.
    pub receive_buffer: usize,
    /// Whether timestamps are in use (RFC 7323).
    pub timestamps: bool,
    /// Whether SACK was agreed on (RFC 2018).
    pub selective_acknowledgements: bool,
    /// Our and the peer's window shift, if in use (RFC 7323).
    pub window_scale: Option<(u8, u8)>,
    /// Whether explicit congestion notification was agreed on (RFC 3168).
    pub ecn: bool,
    /// The congestion control's name.
    pub congestion_control: &'static str,
}

impl fmt::Display for StreamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        self.write_agreement(f)?;
        self.write_path(f)?;
        self.write_traffic(f)?;
        write!(f, " snd_wnd:{} rcv_wnd:{}", self.send_window, self.receive_window)?;
        write!(f, " snd_buf:{} rcv_buf:{}", self.send_buffer, self.receive_buffer)
    }
}

impl StreamInfo {
    fn write_agreement(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [(self.timestamps, " ts"), (self.selective_acknowledgements, " sack"), (self.ecn, " ecn")];
        options.iter().filter(|(is_in_use, _)| *is_in_use).try_for_each(|(_, name)| f.write_str(name))?;
        write!(f, " {}", self.congestion_control)?;
        self.window_scale.map_or(Ok(()), |(own, peer)| write!(f, " wscale:{peer},{own}"))
    }

    fn write_path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (smoothed, variation) = (millis(self.smoothed_round_trip), millis(self.round_trip_variation));
        write!(f, " rto:{:.0} rtt:{smoothed:.3}/{variation:.3}", millis(self.retransmission_timeout))?;
        write!(f, " minrtt:{:.3} mss:{} pmtu:{}", millis(self.minimum_round_trip), self.maximum_segment_size, self.path_mtu)?;
        let segments = |bytes: usize| bytes / self.maximum_segment_size.max(1);
        write!(f, " cwnd:{}", segments(self.congestion_window))?;
        if self.slow_start_threshold != usize::MAX {
            write!(f, " ssthresh:{}", segments(self.slow_start_threshold))?;
        }
        write!(f, " delivery_rate:{}bps", self.delivery_rate.saturating_mul(8))?;
        f.write_str(if self.is_delivery_rate_program_limited { " app_limited" } else { "" })
    }

    /// Totals; of what is mostly zero, only what is not.
    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " bytes_acked:{} bytes_received:{}", self.acknowledged_bytes, self.received_bytes)?;
        write!(f, " lastsnd:{:.0} lastrcv:{:.0}", millis(self.since_sent), millis(self.since_heard))?;
        let counts = [
            ("in_flight", self.in_flight as u64),
            ("notsent", self.unsent as u64),
            ("unread", self.unread as u64),
            ("retrans", self.retransmitted),
            ("lost", self.lost),
            ("undone", self.recoveries_undone),
            ("probes", self.loss_probes),
            ("reordering", self.reordering_seen.into()),
        ];
        counts.iter().filter(|(_, count)| *count > 0).try_for_each(|(name, count)| write!(f, " {name}:{count}"))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_like_ss() {
        let info = StreamInfo {
            state: "ESTABLISHED",
            congestion_control: "cubic",
            timestamps: true,
            ecn: true,
            window_scale: Some((10, 7)),
            smoothed_round_trip: Duration::from_micros(20_500),
            retransmission_timeout: Duration::from_millis(220),
            maximum_segment_size: 1_448,
            path_mtu: 1_500,
            congestion_window: 14_480,
            slow_start_threshold: usize::MAX,
            delivery_rate: 1_000_000,
            retransmitted: 3,
            ..StreamInfo::default()
        };
        let line = info.to_string();
        assert!(
            line.starts_with("ESTABLISHED ts ecn cubic wscale:7,10 rto:220 rtt:20.500/0.000 minrtt:0.000 mss:1448 pmtu:1500 "),
            "{line}"
        );
        assert!(line.contains(" cwnd:10 delivery_rate:8000000bps bytes_acked:0 ") && line.contains(" retrans:3 snd_wnd:"), "{line}");
    }
}
