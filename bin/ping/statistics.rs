//! What a ping has sent and heard, and the summary that scripts read.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Requests whose replies are waited for; an older one's reply is counted but not timed.
const REMEMBERED: usize = 1 << 15;

/// Counts and times of one run.
#[derive(Debug)]
pub(crate) struct Statistics {
    host: String,
    started: std::time::Instant,
    last_sent: std::time::Instant,
    sent: u64,
    received: u64,
    duplicates: u64,
    errors: u64,
    minimum: Duration,
    maximum: Duration,
    sum_seconds: f64,
    sum_squares: f64,
    outstanding: VecDeque<Outstanding>,
    most_outstanding: u64,
}

#[derive(Copy, Clone, Debug)]
struct Outstanding {
    sequence: u64,
    sent: hopline::time::Instant,
    answered: bool,
}

/// What a reply is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// The first to its request, after this time.
    First(Duration),
    /// Another one.
    Duplicate(Option<Duration>),
}

impl Statistics {
    pub(crate) fn new(host: &str) -> Statistics {
        let now = std::time::Instant::now();
        Statistics {
            host: host.to_owned(),
            started: now,
            last_sent: now,
            sent: 0,
            received: 0,
            duplicates: 0,
            errors: 0,
            minimum: Duration::MAX,
            maximum: Duration::ZERO,
            sum_seconds: 0.0,
            sum_squares: 0.0,
            outstanding: VecDeque::new(),
            most_outstanding: 0,
        }
    }

    /// A request was sent, the `sent`th; its number counts from 1 and is on the wire modulo 2^16.
    pub(crate) fn request_sent(&mut self, at: hopline::time::Instant) -> u64 {
        self.sent += 1;
        self.last_sent = std::time::Instant::now();
        if self.outstanding.len() >= REMEMBERED {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding { sequence: self.sent, sent: at, answered: false });
        self.sent
    }

    /// The number that the next request will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// A reply came.
    pub(crate) fn reply_received(&mut self, sequence: u16, at: hopline::time::Instant) -> Reply {
        let sent = self.sent;
        let Some(request) = self.outstanding.iter_mut().rev().find(|request| request.sequence as u16 == sequence) else {
            self.duplicates += 1;
            return Reply::Duplicate(None);
        };
        let round_trip = at.since(request.sent);
        if std::mem::replace(&mut request.answered, true) {
            self.duplicates += 1;
            return Reply::Duplicate(Some(round_trip));
        }
        self.most_outstanding = self.most_outstanding.max(sent - request.sequence + 1);
        self.received += 1;
        self.take_round_trip(round_trip);
        Reply::First(round_trip)
    }

    fn take_round_trip(&mut self, round_trip: Duration) {
        self.minimum = self.minimum.min(round_trip);
        self.maximum = self.maximum.max(round_trip);
        self.sum_seconds += round_trip.as_secs_f64();
        self.sum_squares += round_trip.as_secs_f64().powi(2);
    }

    pub(crate) fn error_received(&mut self) {
        self.errors += 1;
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Replies and errors: requests of which we know what became of them.
    pub(crate) fn settled(&self) -> u64 {
        self.received + self.errors
    }

    pub(crate) fn longest_round_trip(&self) -> Option<Duration> {
        (self.received > 0).then_some(self.maximum)
    }

    /// Whether the last request has been answered.
    pub(crate) fn last_is_answered(&self) -> bool {
        self.outstanding.back().is_none_or(|request| request.answered)
    }

    /// 0 if a reply came, 1 otherwise; with a deadline, every reply that was wanted must have come.
    pub(crate) fn exit_code(&self, count: Option<u64>, deadline: Option<Duration>) -> i32 {
        let wanted = if deadline.is_some() { count.unwrap_or(1) } else { 1 };
        i32::from(self.received < wanted)
    }

    fn loss_percent(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { 100.0 * self.sent.saturating_sub(self.received) as f64 / self.sent as f64 }
    }

    /// Average and mean deviation, in seconds.
    fn average_and_deviation(&self) -> (f64, f64) {
        let count = self.received as f64;
        let average = self.sum_seconds / count;
        (average, (self.sum_squares / count - average * average).max(0.0).sqrt())
    }
}

impl fmt::Display for Statistics {
    /// The lines that scripts read, as iputils has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n--- {} ping statistics ---", self.host)?;
        write!(f, "{} packets transmitted, {} received", self.sent, self.received)?;
        if self.duplicates > 0 {
            write!(f, ", +{} duplicates", self.duplicates)?;
        }
        if self.errors > 0 {
            write!(f, ", +{} errors", self.errors)?;
        }
        let elapsed = self.last_sent.duration_since(self.started).as_millis();
        writeln!(f, ", {}% packet loss, time {elapsed}ms", short(self.loss_percent()))?;
        if self.received == 0 {
            return Ok(());
        }
        let (average, deviation) = self.average_and_deviation();
        let [minimum, maximum] = [self.minimum, self.maximum].map(|time| time.as_secs_f64());
        let [minimum, average, maximum, deviation] = [minimum, average, maximum, deviation].map(|seconds| seconds * 1e3);
        write!(f, "rtt min/avg/max/mdev = {minimum:.3}/{average:.3}/{maximum:.3}/{deviation:.3} ms")?;
        if self.most_outstanding > 1 {
            write!(f, ", pipe {}", self.most_outstanding)?;
        }
        writeln!(f)
    }
}

/// Six significant digits at most, without zeros at the end (`%g`).
fn short(percent: f64) -> String {
    let text = format!("{percent:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A round trip as iputils prints it: three significant digits or more.
pub(crate) fn milliseconds(time: Duration) -> String {
    let micros = (time.as_nanos() + 500) / 1_000;
    let milliseconds = micros as f64 / 1e3;
    match micros {
        100_000.. => format!("{milliseconds:.0}"),
        10_000.. => format!("{milliseconds:.1}"),
        1_000.. => format!("{milliseconds:.2}"),
        _ => format!("{milliseconds:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopline::time::Instant;

    #[test]
    fn the_summary_is_what_scripts_expect() {
        let mut statistics = Statistics::new("lab.test");
        for index in 0..3 {
            statistics.request_sent(Instant::from_millis(1000 * index));
        }
        assert_eq!(statistics.reply_received(1, Instant::from_millis(10)), Reply::First(Duration::from_millis(10)));
        assert_eq!(statistics.reply_received(1, Instant::from_millis(11)), Reply::Duplicate(Some(Duration::from_millis(11))));
        assert_eq!(statistics.reply_received(3, Instant::from_millis(2020)), Reply::First(Duration::from_millis(20)));
        statistics.error_received();
        let text = statistics.to_string();
        assert!(text.starts_with("\n--- lab.test ping statistics ---\n"));
        assert!(text.contains("3 packets transmitted, 2 received, +1 duplicates, +1 errors, 33.3333% packet loss, time "), "{text}");
        assert!(text.contains("rtt min/avg/max/mdev = 10.000/15.000/20.000/5.000 ms, pipe 3\n"), "{text}");
    }

    #[test]
    fn without_a_reply_there_is_no_rtt_line_and_exit_is_1() {
        let mut statistics = Statistics::new("lab.test");
        statistics.request_sent(Instant::ZERO);
        assert!(statistics.to_string().contains("1 packets transmitted, 0 received, 100% packet loss"));
        assert!(!statistics.to_string().contains("rtt"));
        assert_eq!(statistics.exit_code(None, None), 1);
        statistics.reply_received(1, Instant::ZERO);
        assert_eq!((statistics.exit_code(Some(3), None), statistics.exit_code(Some(3), Some(Duration::ZERO))), (0, 1));
    }

    #[test]
    fn times_have_as_many_digits_as_they_deserve() {
        let of = |micros| milliseconds(Duration::from_micros(micros));
        assert_eq!([of(42), of(1_234), of(12_345), of(123_456)], ["0.042", "1.23", "12.3", "123"]);
    }
}
