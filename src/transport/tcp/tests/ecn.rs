//! Explicit congestion notification, by the sections of RFC 3168 §6.1.

use super::trace::*;
use super::*;
use crate::transport::shared::Ecn;

const SETUP: TcpFlags = TcpFlags(TcpFlags::ECE.0 | TcpFlags::CWR.0);
const CE: u8 = 3;

fn asking() -> TcpConfig {
    TcpConfig { ecn: Ecn::Request, ..TcpConfig::default() }
}

/// An active connection on which ECN was agreed.
fn agreed() -> Trace {
    let mut trace = Trace::opening_with(asking());
    assert_eq!(trace.sent(), ["[SEW] 0"]);
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN | TcpFlags::ECE, options: with_sack(), ..Seg::default() });
    assert_eq!(trace.sent(), ["[.] 1 ack 1"], "§6.1.4: a pure acknowledgement is not ECN-capable");
    trace
}

fn echo(number: u32) -> Seg {
    Seg { flags: TcpFlags::ECE, ..ack(number) }
}

#[test]
fn section_6_1_1_a_listener_agrees_if_asked() {
    let mut trace = Trace::answering_with(TcpConfig::default(), plain(), TcpFlags::SYN | SETUP);
    assert_eq!(trace.sent(), ["[S.E] 0 ack 1"]);
    trace.receive(ack(1));
    trace.write(10);
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1 ect0"]);
    let mut trace = Trace::answering_with(TcpConfig { ecn: Ecn::Never, ..TcpConfig::default() }, plain(), TcpFlags::SYN | SETUP);
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
}

#[test]
fn section_6_1_1_1_a_lost_syn_asks_no_more() {
    let mut trace = Trace::opening_with(asking());
    assert_eq!(trace.sent(), ["[SEW] 0"]);
    trace.at(1_000);
    assert_eq!(trace.sent(), ["[S] 0"]);
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN | TcpFlags::ECE, options: plain(), ..Seg::default() });
    trace.write(10);
    assert_eq!(trace.sent(), ["[.] 1 ack 1", "[P.] 1..11 ack 1"], "we have sent a SYN without the question");
}

#[test]
fn section_6_1_1_1_a_repeated_syn_that_asks_no_more_is_answered_in_kind() {
    let mut trace = Trace::answering_with(TcpConfig::default(), plain(), TcpFlags::SYN | SETUP);
    trace.sent();
    trace.receive(Seg { seq: 0, ack: None, flags: TcpFlags::SYN, options: plain(), ..Seg::default() });
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
    trace.receive(ack(1));
    trace.write(10);
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1"]);
}

#[test]
fn section_6_1_2_an_echo_reduces_once_for_a_window_and_is_answered_once() {
    let mut trace = agreed();
    trace.write(20_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1 ect0"]);
    trace.receive(echo(1_001));
    assert_eq!(trace.connection.congestion.window(), 7_000, "slow start: the factor of a loss");
    trace.receive(echo(2_001));
    trace.receive(echo(3_001));
    assert_eq!(trace.connection.congestion.window(), 7_000, "the same window of data; and an echo grows nothing");
    assert_eq!(trace.sent().len(), 0);
    trace.receive(echo(6_001));
    assert_eq!(trace.sent(), ["[.W] 10001..11001 ack 1 ect0", "[.] 11001..13001/1000 ack 1 ect0"]);
    trace.receive(ack(10_001));
    assert_eq!(trace.sent(), ["[.] 13001..17001/1000 ack 1 ect0"]);
    trace.receive(echo(11_001));
    assert!(trace.connection.congestion.window() < 7_000, "a new window of data");
    assert_eq!(trace.host.counters.transport.congestion_echoes.get(), 2);
}

#[test]
fn section_6_1_2_a_loss_in_a_window_that_was_answered_changes_no_more() {
    let mut trace = agreed();
    trace.write(20_000);
    trace.sent();
    trace.receive(echo(1_001));
    let block = |left, right| crate::wire::SackBlock { left: SequenceNumber(ISS) + left, right: SequenceNumber(ISS) + right };
    let mut seg = echo(1_001);
    seg.options.sack = [block(2_001, 6_001)].into_iter().collect();
    trace.receive(seg);
    assert_eq!(trace.connection.congestion.threshold(), 7_000);
}

#[test]
fn section_6_1_2_losses_are_told_as_well() {
    let mut trace = agreed();
    trace.write(5_000);
    trace.sent();
    trace.at(1_000);
    assert_eq!(trace.sent()[..2], ["[P.] 4001..5001 ack 1", "[.] 1..1001 ack 1"], "§6.1.5: a retransmission is not ECN-capable");
    trace.receive(ack(5_001));
    trace.write(1_000);
    assert_eq!(trace.sent(), ["[P.W] 5001..6001 ack 1 ect0"]);
}

#[test]
fn section_6_1_3_marks_are_echoed_at_once_until_the_sender_has_reduced() {
    let mut trace = agreed();
    trace.receive(Seg { traffic_class: CE, ..data(1, 1_000) });
    assert_eq!(trace.sent(), ["[.E] 1 ack 1001"]);
    trace.receive_batch([data(1_001, 1_000), data(2_001, 1_000)]);
    trace.write(10);
    assert_eq!(trace.sent(), ["[.E] 1 ack 3001", "[P.E] 1..11 ack 3001 ect0"], "every segment, marked or not");
    trace.receive(Seg { flags: TcpFlags::CWR, ..data(3_001, 1_000) });
    assert_eq!(trace.sent(), ["[.] 11 ack 4001"]);
}

#[test]
fn section_6_1_5_marks_outside_of_the_window_are_ignored() {
    let mut trace = agreed();
    trace.receive(data(1, 1_000));
    trace.sent();
    trace.receive(Seg { traffic_class: CE, ..data(1, 1_000) });
    assert_eq!(trace.sent().first().map(|line| &line[..3]), Some("[.]"));
}

#[test]
fn section_6_1_6_a_window_probe_is_not_ecn_capable() {
    let mut trace = agreed();
    trace.receive(Seg { window: 0, ..ack(1) });
    trace.write(10);
    trace.at(1_500);
    assert_eq!(trace.sent().first().map(String::as_str), Some("[.] 1..2 ack 1"));
}

#[test]
fn the_programs_traffic_class_has_no_say_in_it() {
    let mut trace = agreed();
    trace.set_options(|options| options.traffic_class = 0xff);
    trace.write(10);
    let sent = trace.host.sent();
    assert_eq!(sent[0].traffic_class, 0xfe);
}
