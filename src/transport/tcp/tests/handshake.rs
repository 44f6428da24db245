//! Opening: RFC 9293 §3.5 and its figures, RFC 6298 §5.7, RFC 7323, RFC 9293 §3.7.1.

use super::trace::*;
use super::*;
use crate::wire::TcpOptions;

fn syn() -> Seg {
    Seg { seq: 0, ack: None, flags: TcpFlags::SYN, options: plain(), ..Seg::default() }
}

fn syn_ack() -> Seg {
    Seg { seq: 0, flags: TcpFlags::SYN, options: plain(), ..Seg::default() }
}

#[test]
fn figure_6_active_side() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    assert_eq!(trace.phase(), Phase::Connecting);
    trace.receive(syn_ack());
    assert_eq!((trace.sent(), trace.state(), trace.phase()), (vec!["[.] 1 ack 1".to_owned()], State::Established, Phase::Connected));
    assert_eq!(trace.wakes(), 1);
    assert_eq!(trace.deadline(), None);
}

#[test]
fn figure_6_passive_side() {
    let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
    assert_eq!((trace.state(), trace.phase()), (State::SynReceived, Phase::Connecting));
    trace.receive(data(1, 10));
    assert_eq!((trace.state(), trace.phase()), (State::Established, Phase::Connected));
    assert_eq!(trace.sent(), ["[.] 1 ack 11"]);
    assert_eq!(trace.read(99), bytes(1, 10));
}

#[test]
fn figure_7_simultaneous_open() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(syn());
    assert_eq!((trace.sent(), trace.state()), (vec!["[S.] 0 ack 1".to_owned()], State::SynReceived));
    trace.receive(syn_ack());
    assert_eq!(trace.state(), State::Established);
    assert_eq!(trace.phase(), Phase::Connected);
}

#[test]
fn figure_8_an_old_duplicate_syn_ack_is_reset() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(Seg { ack: Some(0u32.wrapping_sub(500)), ..syn_ack() });
    assert_eq!((trace.sent(), trace.state()), (vec!["[R] -500".to_owned()], State::SynSent));
    trace.receive(syn_ack());
    assert_eq!(trace.state(), State::Established);
}

#[test]
fn figure_9_a_half_open_peer_answers_our_syn() {
    // The peer believes in an old connection, and acknowledges something of it: it gets a RST, and our SYN is sent again.
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(Seg { seq: 300, ack: Some(90_000), ..Seg::default() });
    assert_eq!(trace.sent(), ["[R] 90000"]);
    trace.at(1_000);
    assert_eq!(trace.sent(), ["[S] 0"]);
    trace.receive(syn_ack());
    assert_eq!(trace.state(), State::Established);
}

#[test]
fn figure_10_data_to_a_peer_that_has_forgotten_us_is_reset() {
    let mut trace = Trace::established();
    trace.write(10);
    assert_eq!(trace.sent(), ["[P.] 1..11 ack 1"]);
    trace.receive(Seg { flags: TcpFlags::RST, ack: None, ..Seg::default() });
    assert_eq!((trace.state(), trace.failure(), trace.phase()), (State::Closed, Some(Failure::Reset), Phase::Closed));
    assert!(trace.connection.is_closed() && trace.sent().is_empty() && trace.deadline().is_none());
}

#[test]
fn a_rst_that_acknowledges_our_syn_refuses() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(Seg { seq: 0, ack: None, flags: TcpFlags::RST, ..Seg::default() });
    trace.receive(Seg { seq: 0, ack: Some(9), flags: TcpFlags::RST, ..Seg::default() });
    assert_eq!((trace.state(), trace.sent().len()), (State::SynSent, 0));
    trace.receive(Seg { seq: 0, flags: TcpFlags::RST, ..Seg::default() });
    assert_eq!((trace.state(), trace.failure()), (State::Closed, Some(Failure::Refused)));
}

#[test]
fn a_lost_syn_is_sent_again_with_backoff_then_given_up() {
    let mut trace = Trace::syn_sent_with(TcpConfig { syn_retries: 2, ..TcpConfig::default() });
    trace.at(999);
    assert!(trace.sent().is_empty());
    trace.at(1_000);
    assert_eq!(trace.sent(), ["[S] 0"]);
    trace.at(3_000);
    assert_eq!(trace.sent(), ["[S] 0"]);
    trace.at(6_999);
    assert_eq!(trace.state(), State::SynSent);
    trace.at(7_000);
    assert_eq!((trace.state(), trace.failure()), (State::Closed, Some(Failure::TimedOut)));
    assert!(trace.sent().is_empty());
}

#[test]
fn after_a_lost_syn_the_first_window_is_one_segment() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.at(1_000);
    trace.sent();
    trace.receive(syn_ack());
    trace.sent();
    trace.write(5_000);
    assert_eq!(trace.sent(), ["[.] 1..1001 ack 1"]);
    assert_eq!(trace.deadline(), Some(4_000), "RFC 6298 §5.7: 3 s");
}

#[test]
fn a_repeated_syn_gets_the_syn_ack_again() {
    let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
    trace.receive(syn());
    assert_eq!((trace.sent(), trace.state()), (vec!["[S.] 0 ack 1".to_owned()], State::SynReceived));
}

#[test]
fn a_lost_syn_ack_is_sent_again() {
    let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
    trace.at(1_000);
    assert_eq!(trace.sent(), ["[S.] 0 ack 1"]);
}

#[test]
fn a_syn_received_connection_that_is_passive_forgets_on_rst_or_syn() {
    for flags in [TcpFlags::RST, TcpFlags::SYN] {
        let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
        trace.receive(Seg { flags, ack: None, ..Seg::default() });
        assert_eq!((trace.state(), trace.failure()), (State::Closed, None));
    }
}

#[test]
fn an_active_one_is_refused_by_rst() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(syn());
    trace.receive(Seg { flags: TcpFlags::RST, ack: None, ..Seg::default() });
    assert_eq!((trace.state(), trace.failure()), (State::Closed, Some(Failure::Refused)));
}

#[test]
fn a_wrong_acknowledgement_of_our_syn_ack_is_reset() {
    let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
    trace.receive(ack(77));
    assert_eq!((trace.sent(), trace.state()), (vec!["[R] 77".to_owned()], State::SynReceived));
}

#[test]
fn a_repeated_syn_ack_is_acknowledged() {
    let mut trace = Trace::established();
    trace.receive(syn_ack());
    assert_eq!((trace.sent(), trace.state()), (vec!["[.] 1 ack 1".to_owned()], State::Established));
}

#[test]
fn our_syn_offers_everything_and_the_answer_agrees() {
    let mut host = Host::new(TcpConfig::default());
    let shared = host.shared();
    let (near, far) = ("192.0.2.1:5".parse().unwrap(), "192.0.2.2:6".parse().unwrap());
    Connection::connect(&mut host.context(), shared, near, far, SequenceNumber(1));
    let options = host.sent()[0].header.options;
    assert_eq!((options.maximum_segment_size, options.window_scale, options.sack_permitted), (Some(1_460), Some(10), true));
    assert!(options.timestamps.is_some());
    let trace = Trace::syn_received_with(TcpConfig::default(), plain());
    let options = trace.last_header().options;
    assert_eq!(options, TcpOptions { maximum_segment_size: Some(1_460), ..TcpOptions::default() });
}

#[test]
fn the_segment_size_is_the_least_of_peer_path_and_default() {
    let size = |options, path_mtu| {
        let mut trace = Trace::syn_sent_with(TcpConfig::default());
        trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, options, ..Seg::default() });
        trace.connection.path_mtu_changed(&mut trace.host.context(), path_mtu);
        trace.connection.send.segment_size
    };
    assert_eq!(size(plain(), 1_500), 1_000);
    assert_eq!(size(TcpOptions { maximum_segment_size: Some(9_000), ..plain() }, 1_400), 1_360);
    assert_eq!(size(TcpOptions { maximum_segment_size: None, ..plain() }, 1_500), 536);
    assert_eq!(size(with_timestamps(5), 1_500), 988);
}

#[test]
fn windows_of_syns_are_not_scaled_later_ones_are() {
    let scaled = TcpOptions { window_scale: Some(3), ..plain() };
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.receive(Seg { seq: 0, flags: TcpFlags::SYN, window: 100, options: scaled, ..Seg::default() });
    assert_eq!(trace.connection.send.window, 100);
    trace.sent();
    assert_eq!(
        trace.last_header().window,
        ((512 << 10) >> 10) as u16,
        "our own shift is 10, and half a megabyte is where near paths start"
    );
    trace.receive(Seg { window: 100, ..Seg::default() });
    assert_eq!(trace.connection.send.window, 800);
}

#[test]
fn closing_before_the_handshake_ends_it() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.release();
    assert_eq!((trace.state(), trace.sent().len()), (State::Closed, 0));
    let mut trace = Trace::syn_received_with(TcpConfig::default(), plain());
    trace.connection.close(&mut trace.host.context());
    assert_eq!(trace.state(), State::SynReceived);
    trace.receive(ack(1));
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 1 ack 1".to_owned()], State::FinWait1));
}

#[test]
fn data_written_before_the_handshake_goes_with_its_end() {
    let mut trace = Trace::syn_sent_with(TcpConfig::default());
    trace.write(10);
    trace.close_write();
    assert!(trace.sent().is_empty());
    trace.receive(syn_ack());
    assert_eq!((trace.sent(), trace.state()), (vec!["[FP.] 1..11 ack 1".to_owned()], State::FinWait1));
}

#[test]
fn a_segment_to_no_connection_is_reset_unless_it_is_a_reset() {
    let mut trace = Trace::established();
    let mut reset = |header: TcpHeader| {
        let segment =
            segment_of(&trace.host.pool, header, b"abc", None, trace.connection.remote(), trace.connection.local(), trace.host.now);
        reset_for(&mut trace.host.context(), &segment);
        trace.host.sent().into_iter().map(|sent| (sent.header.flags, sent.header.sequence.0, sent.header.acknowledgement.0)).next()
    };
    let header = TcpHeader { sequence: SequenceNumber(7), acknowledgement: SequenceNumber(9), ..TcpHeader::default() };
    assert_eq!(reset(TcpHeader { flags: TcpFlags::ACK, ..header }), Some((TcpFlags::RST, 9, 0)));
    assert_eq!(reset(TcpHeader { flags: TcpFlags::SYN, ..header }), Some((TcpFlags::RST | TcpFlags::ACK, 0, 11)));
    assert_eq!(reset(TcpHeader { flags: TcpFlags::RST, ..header }), None);
}

/// Many handshakes at once: the second one's peer is the first one's, and its round trip is time in queues.
#[test]
fn a_path_is_near_if_it_was_for_another_connection() {
    let mut host = Host::new(TcpConfig::default());
    let near = |host: &mut Host, millis: u64, port: u16| {
        let shared = host.shared();
        let (local, remote) = (SocketAddr::from(([192, 0, 2, 1], port)), "192.0.2.2:80".parse().unwrap());
        let mut connection = Connection::connect(&mut host.context(), shared, local, remote, SequenceNumber(1));
        host.now += Duration::from_millis(millis);
        connection.round_trip.sample(Duration::from_millis(millis), host.now);
        connection.start_near(&mut host.context());
        (connection.round_trip.is_near(), connection.receive.buffer)
    };
    assert_eq!(near(&mut host, 2, 1), (false, 1 << 20));
    assert_eq!(near(&mut host, 0, 2), (true, 512 << 10));
    assert_eq!(near(&mut host, 2, 3), (true, 512 << 10));
}
