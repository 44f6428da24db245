//! What the client prints: lines as iperf3 has them, or JSON.

use hopline::socket::StreamInfo;
use std::fmt;
use std::time::Duration;

/// Who sent, seen from the client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// What one flow moved.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub direction: Direction,
    /// Bytes of payload that arrived.
    pub bytes: u64,
    pub time: Duration,
    /// With UDP only.
    pub datagrams_sent: u64,
    /// With UDP only.
    pub datagrams_delivered: u64,
    /// How the sending end of a stream stood at the end, if that was ours.
    pub stream: Option<StreamInfo>,
}

/// All flows of a run.
pub(crate) struct Report {
    pub flows: Vec<Flow>,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Received => "received",
        }
    }
}

impl Flow {
    pub(crate) fn new(direction: Direction) -> Flow {
        Flow { direction, bytes: 0, time: Duration::ZERO, datagrams_sent: 0, datagrams_delivered: 0, stream: None }
    }

    fn megabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64().max(1e-9) / 1e6
    }

    fn json(&self) -> String {
        let Flow { direction, bytes, time, datagrams_sent, datagrams_delivered, stream } = self;
        format!(
            r#"{{"direction":"{}","bytes":{bytes},"seconds":{:.6},"bits_per_second":{:.0},"datagrams_sent":{datagrams_sent},"datagrams_delivered":{datagrams_delivered}{}}}"#,
            direction.name(),
            time.as_secs_f64(),
            self.megabits_per_second() * 1e6,
            stream.as_ref().map(stream_json).unwrap_or_default(),
        )
    }
}

fn stream_json(stream: &StreamInfo) -> String {
    format!(
        r#","retransmits":{},"congestion_window":{},"round_trip_seconds":{:.6},"delivery_rate":{}"#,
        stream.retransmitted,
        stream.congestion_window,
        stream.smoothed_round_trip.as_secs_f64(),
        stream.delivery_rate,
    )
}

impl Report {
    /// One object: every flow, and the sum of each direction.
    pub(crate) fn json(&self) -> String {
        let join = |flows: &[Flow]| flows.iter().map(Flow::json).collect::<Vec<_>>().join(",");
        format!(r#"{{"flows":[{}],"sums":[{}]}}"#, join(&self.flows), join(&self.sums()))
    }

    /// The flows of each direction as one: bytes added, the longest time.
    fn sums(&self) -> Vec<Flow> {
        [Direction::Sent, Direction::Received].into_iter().filter_map(|direction| self.sum(direction)).collect()
    }

    fn sum(&self, direction: Direction) -> Option<Flow> {
        let flows = self.flows.iter().filter(|flow| flow.direction == direction).cloned();
        flows.reduce(|sum, flow| Flow {
            direction,
            bytes: sum.bytes + flow.bytes,
            time: sum.time.max(flow.time),
            datagrams_sent: sum.datagrams_sent + flow.datagrams_sent,
            datagrams_delivered: sum.datagrams_delivered + flow.datagrams_delivered,
            stream: None,
        })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, megabytes) = (self.time.as_secs_f64(), self.bytes as f64 / 1e6);
        let rate = self.megabits_per_second();
        write!(f, "{:<8}  0.00-{seconds:.2} sec  {megabytes:10.1} MBytes  {rate:10.1} Mbits/sec", self.direction.name())?;
        if self.datagrams_sent > 0 {
            let lost = self.datagrams_sent.saturating_sub(self.datagrams_delivered);
            write!(f, "  {lost}/{} datagrams lost", self.datagrams_sent)?;
        }
        self.stream.as_ref().map_or(Ok(()), |stream| {
            let (window, round_trip) = (stream.congestion_window / 1_000, stream.smoothed_round_trip.as_secs_f64() * 1e3);
            write!(f, "  {} sent again  cwnd {window} kB  rtt {round_trip:.3} ms", stream.retransmitted)
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, flow) in self.flows.iter().enumerate() {
            writeln!(f, "[{number:3}]  {flow}")?;
        }
        for sum in self.sums() {
            writeln!(f, "[SUM]  {sum}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(direction: Direction, bytes: u64) -> Flow {
        Flow { bytes, time: Duration::from_secs(2), ..Flow::new(direction) }
    }

    #[test]
    fn directions_are_summed_apart() {
        let report = Report { flows: vec![flow(Direction::Sent, 1_000_000), flow(Direction::Received, 5), flow(Direction::Sent, 250_000)] };
        let text = report.to_string();
        assert!(text.contains("[SUM]  sent      0.00-2.00 sec         1.2 MBytes         5.0 Mbits/sec"), "{text}");
        assert_eq!(text.lines().count(), 5);
        assert!(report.json().contains(r#""sums":[{"direction":"sent","bytes":1250000,"seconds":2.000000,"bits_per_second":5000000"#));
    }
}
