//! Listeners under attack: SYN cookies (RFC 4987 §3.6), and the bounds on listeners and what waits for them.

use super::*;
use crate::wire::Timestamps;

const TO: &str = "192.0.2.1:80";

fn cookies(change: impl FnOnce(&mut TcpConfig)) -> Bench {
    Bench::new(&config(|tcp| {
        tcp.syn_queue = 2;
        change(tcp);
    }))
}

/// What a peer of today offers.
fn modern(value: u32) -> TcpOptions {
    TcpOptions {
        maximum_segment_size: Some(1_460),
        window_scale: Some(9),
        sack_permitted: true,
        timestamps: Some(Timestamps { value, echo_reply: 0 }),
        ..TcpOptions::default()
    }
}

impl Bench {
    fn flood(&mut self, count: u16) {
        for port in 1..=count {
            self.knock(&format!("192.0.2.66:{port}"), TO);
        }
    }

    fn knock_with(&mut self, from: &str, options: TcpOptions) -> Option<TcpHeader> {
        self.arrive_segment(from, TO, TcpHeader { options, ..header(SYN, 500, SequenceNumber(0)) }, b"");
        self.segments().pop().map(|(header, _)| header)
    }

    fn counted(&self) -> (u64, u64, u64) {
        let transport = &self.out.counters().transport;
        (transport.syn_cookies_sent.get(), transport.syn_cookies_accepted.get(), transport.syn_cookies_failed.get())
    }
}

#[test]
fn a_full_syn_queue_is_no_obstacle_to_who_answers() {
    let mut bench = cookies(|_| {});
    let listener = bench.listen("0.0.0.0:80", 9);
    bench.flood(1_000);
    assert_eq!((bench.count(), bench.counted()), (2, (998, 0, 0)));
    let answer = bench.knock("192.0.2.9:5", TO).unwrap();
    assert_eq!((answer.flags, answer.acknowledgement, bench.count()), (TcpFlags::SYN_ACK, SequenceNumber(501), 2));
    bench.complete("192.0.2.9:5", TO, answer);
    assert_eq!((bench.count(), bench.counted(), bench.segments().len()), (3, (999, 1, 0), 0));
    let accepted = listener.state.lock().accepted.pop_front().unwrap();
    let state = accepted.state.lock();
    assert_eq!((state.phase, state.remote, state.options.time_to_live), (Phase::Connected, end("192.0.2.9:5"), 42));
}

#[test]
fn the_timestamp_brings_the_options_back() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let listener = bench.listen("0.0.0.0:80", 9);
    let answer = bench.knock_with("192.0.2.9:5", modern(77)).unwrap();
    let told = answer.options.timestamps.unwrap();
    assert_eq!((answer.options.window_scale, answer.options.sack_permitted, told.echo_reply), (Some(10), true, 77));
    let timestamps = Some(Timestamps { value: 78, echo_reply: told.value });
    let options = TcpOptions { timestamps, ..TcpOptions::default() };
    bench.arrive_segment("192.0.2.9:5", TO, TcpHeader { options, ..header(ACK, 501, answer.sequence + 1) }, b"hello");
    bench.advance(Duration::from_millis(1));
    let (acknowledgement, _) = bench.segments().pop().unwrap();
    let stamps = acknowledgement.options.timestamps.unwrap();
    assert_eq!((acknowledgement.acknowledgement, stamps.echo_reply), (SequenceNumber(506), 78));
    assert!(SequenceNumber(stamps.value).after_or_equal(SequenceNumber(told.value)), "or the peer's PAWS would drop it");
    let accepted = listener.state.lock().accepted.pop_front().unwrap();
    let info = bench.figures(&accepted);
    let state = accepted.state.lock();
    assert_eq!((info.window_scale, info.timestamps, info.selective_acknowledgements), (Some((10, 9)), true, true));
    assert_eq!((state.unread, info.maximum_segment_size, info.send_window), (5, 1_448, 65_000 << 9));
}

#[test]
fn without_timestamps_only_the_segment_size_comes_back() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let listener = bench.listen("0.0.0.0:80", 9);
    let answer = bench.knock_with("192.0.2.9:5", TcpOptions { timestamps: None, ..modern(0) }).unwrap();
    assert_eq!((answer.options.window_scale, answer.options.sack_permitted, answer.options.timestamps), (None, false, None));
    bench.complete("192.0.2.9:5", TO, answer);
    let accepted = listener.state.lock().accepted.pop_front().unwrap();
    let info = bench.figures(&accepted);
    assert_eq!((info.window_scale, info.selective_acknowledgements, info.maximum_segment_size), (None, false, 1_460));
}

#[test]
fn nothing_is_remembered_of_a_handshake_if_cookies_are_always_sent() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let _listener = bench.listen("0.0.0.0:80", 9);
    bench.flood(1_000);
    assert_eq!((bench.count(), bench.deadline(), bench.counted()), (0, None, (1_000, 0, 0)));
}

#[test]
fn forged_and_stale_cookies_are_reset_and_counted() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let _listener = bench.listen("0.0.0.0:80", 9);
    let answer = bench.knock("192.0.2.9:5", TO).unwrap();
    let forged = TcpHeader { sequence: answer.sequence + 99, ..answer };
    bench.complete("192.0.2.9:5", TO, forged);
    let (reset, _) = bench.segments().pop().unwrap();
    assert_eq!((reset.flags, reset.sequence), (TcpFlags::RST, forged.sequence + 1), "RFC 9293 §3.10.7.2");
    bench.complete("192.0.2.9:6", TO, answer);
    bench.advance(Duration::from_secs(64));
    bench.knock("192.0.2.9:7", TO);
    bench.advance(Duration::from_secs(64));
    bench.complete("192.0.2.9:5", TO, answer);
    assert_eq!((bench.count(), bench.counted()), (0, (2, 0, 3)));
    bench.advance(Duration::from_secs(64));
    bench.complete("192.0.2.9:5", TO, answer);
    assert_eq!(bench.counted(), (2, 0, 3), "a listener that sent none for long does not even look");
    assert_eq!(bench.segments().len(), 2);
}

#[test]
fn a_cookie_waits_for_room_in_the_accept_queue() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let listener = bench.listen("0.0.0.0:80", 1);
    let answers = ["192.0.2.9:1", "192.0.2.9:2"].map(|from| (from, bench.knock(from, TO).unwrap()));
    answers.iter().for_each(|(from, answer)| bench.complete(from, TO, *answer));
    assert_eq!((listener.state.lock().accepted.len(), bench.dropped(DropReason::ListenerFull), bench.segments().len()), (1, 1, 0));
    assert_eq!(bench.knock("192.0.2.9:3", TO), None, "and no cookie is sent meanwhile");
    drop(listener.state.lock().accepted.pop_front());
    let (from, answer) = answers[1];
    bench.arrive_segment(from, TO, header(ACK, 501, answer.sequence + 1), b"data says so again");
    assert_eq!((listener.state.lock().accepted.len(), bench.counted().1), (1, 2));
}

#[test]
fn an_unbelievable_answer_to_a_cookie_leaves_nothing() {
    let mut bench = cookies(|tcp| tcp.syn_cookies = SynCookies::Always);
    let listener = bench.listen("0.0.0.0:80", 9);
    let answer = bench.knock("192.0.2.9:5", TO).unwrap();
    bench.arrive_segment("192.0.2.9:5", TO, header(ACK | TcpFlags::RST, 501, answer.sequence + 1), b"");
    assert_eq!((bench.count(), listener.state.lock().accepted.len(), bench.counted()), (0, 0, (1, 0, 0)));
    bench.arrive_segment("192.0.2.9:5", TO, header(ACK | TcpFlags::FIN, 501, answer.sequence + 1), b"");
    assert_eq!((bench.count(), listener.state.lock().accepted.len()), (1, 1), "a FIN at once is fine");
}

#[test]
fn the_bound_on_listeners_holds() {
    let mut bench = cookies(|tcp| tcp.listeners = 2);
    let open: Vec<_> = (1..=3).map(|port| bench.listen(&format!("0.0.0.0:{port}"), 9)).collect();
    assert_eq!(open.iter().filter(|listener| listener.state.lock().listening).count(), 2);
    assert_eq!((open[2].state.lock().failure, bench.out.counters().transport.listeners_refused.get()), (Some(Failure::ResourceLimit), 1));
    open[0].mark(Mark::Released);
    bench.settle();
    assert!(bench.listen("0.0.0.0:4", 9).state.lock().listening);
}
