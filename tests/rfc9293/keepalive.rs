//! Keepalive (RFC 9293 §3.8.4).

use crate::peer::*;
use hopline::socket::Keepalive;
use std::io::ErrorKind;
use std::time::Duration;

const HOURS: u64 = 3_600_000;

fn every(idle: u64, interval: u64, count: u32) -> Option<Keepalive> {
    Some(Keepalive { idle: Duration::from_millis(idle), interval: Duration::from_millis(interval), count })
}

/// "The application MUST be able to turn them on or off for each TCP connection."
#[test]
fn must_24_keepalive_can_be_turned_on_and_off() {
    let (mut trace, stream) = Trace::established(plain());
    stream.set_keepalive(every(10_000, 1_000, 5)).unwrap();
    trace.at(10_000);
    assert_eq!(trace.sent_with_times(), ["10000 [.] 0 ack 1"], "SEG.SEQ = SND.NXT-1, no data (SHLD-12)");
    trace.send(ack(1));
    stream.set_keepalive(None).unwrap();
    trace.at(10 * HOURS);
    assert_eq!(trace.sent(), [""; 0]);
    stream.set_keepalive(every(5_000, 1_000, 5)).unwrap();
    trace.host.settle();
    trace.at(11 * HOURS);
    assert!(!trace.sent().is_empty());
}

/// "They MUST default to off."
#[test]
fn must_25_keepalive_is_off_at_first() {
    for (mut trace, stream) in [Trace::established(plain()), Trace::accepted(plain())] {
        assert_eq!(stream.keepalive().unwrap(), None);
        trace.at(100 * HOURS);
        assert_eq!(trace.sent(), [""; 0]);
        assert_eq!(stream.info().unwrap().state, "ESTABLISHED");
    }
}

/// "MUST only be sent when no sent data is outstanding, and no data or acknowledgment packets have been received for the connection within
/// an interval."
#[test]
fn must_26_only_an_idle_connection_is_probed() {
    let (mut trace, mut stream) = Trace::established(plain());
    stream.set_keepalive(every(10_000, 1_000, 5)).unwrap();
    trace.at(9_000);
    trace.send(ack(1));
    trace.at(18_000);
    trace.send(data(1, 10));
    trace.at(18_500);
    trace.sent();
    trace.at(27_999);
    assert_eq!(trace.sent(), [""; 0], "heard of the peer at 9 s and at 18 s");
    trace.at(28_000);
    assert_eq!(trace.sent_with_times(), ["28000 [.] 0 ack 11"]);
    trace.send(Seg { seq: 11, ..ack(1) });
    // Data outstanding: it is sent again, nothing else.
    write(&mut stream, 0, 10);
    trace.at(60_000);
    let lines = trace.sent();
    assert!(lines.len() > 3 && lines.iter().all(|line| line == "[P.] 1..11 ack 11"), "{lines:?}");
}

/// "This interval MUST be configurable."
#[test]
fn must_27_the_interval_is_the_programs() {
    for idle in [1_000, 77_000, 5 * HOURS] {
        let (mut trace, stream) = Trace::established(plain());
        stream.set_keepalive(every(idle, 1_000, 5)).unwrap();
        trace.at(idle - 1);
        assert_eq!(trace.sent(), [""; 0]);
        trace.at(idle);
        assert_eq!(trace.sent(), ["[.] 0 ack 1"]);
    }
}

/// "MUST default to no less than two hours."
#[test]
fn must_28_the_default_is_two_hours() {
    assert!(Keepalive::default().idle >= Duration::from_secs(2 * 3_600));
    let (mut trace, stream) = Trace::established(plain());
    stream.set_keepalive(Some(Keepalive::default())).unwrap();
    trace.at(2 * HOURS - 1);
    assert_eq!(trace.sent(), [""; 0]);
    trace.at(2 * HOURS);
    assert_eq!(trace.sent(), ["[.] 0 ack 1"]);
}

/// "MUST NOT interpret failure to respond to any specific probe as a dead connection": only to all of them, one after the other.
#[test]
fn must_not_29_one_lost_probe_means_death() {
    let (mut trace, mut stream) = Trace::established(plain());
    stream.set_keepalive(every(10_000, 1_000, 5)).unwrap();
    for round in 0..20 {
        // Four of five probes stay without an answer, over and over.
        let idle_since = round * 14_000;
        trace.at(idle_since + 14_000);
        assert_eq!(trace.sent().len(), 5, "round {round}");
        trace.send(ack(1));
    }
    assert_eq!(stream.info().unwrap().state, "ESTABLISHED");
    trace.at(20 * 14_000 + 10_000 + 5_000);
    assert_eq!(read_error(&mut stream), ErrorKind::TimedOut, "all five");
}
