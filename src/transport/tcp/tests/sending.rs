//! Sending: Nagle and silly windows (RFC 9293 §3.7.4, §3.8.6.2.1), closed windows (§3.8.6.1), room on the way to the device, super-segments,
//! congestion windows (RFC 5681, 6928).

use super::trace::*;
use super::*;

#[test]
fn nagle_holds_a_small_segment_while_another_is_on_its_way() {
    let mut trace = Trace::established();
    trace.write(1);
    assert_eq!(trace.sent(), ["[P.] 1..2 ack 1"]);
    trace.write(1);
    trace.write(1);
    assert!(trace.sent().is_empty());
    trace.receive(ack(2));
    assert_eq!(trace.sent(), ["[P.] 2..4 ack 1"]);
    trace.write(1_500);
    assert_eq!(trace.sent(), ["[.] 4..1004 ack 1"]);
}

#[test]
fn no_delay_sends_at_once() {
    let mut trace = Trace::established();
    trace.set_options(|options| options.no_delay = true);
    trace.write(1);
    trace.write(1);
    assert_eq!(trace.sent(), ["[P.] 1..2 ack 1", "[P.] 2..3 ack 1"]);
}

#[test]
fn switching_nagle_off_sends_what_it_held() {
    let mut trace = Trace::established();
    trace.write(1);
    trace.write(1);
    trace.sent();
    trace.set_options(|options| options.no_delay = true);
    assert_eq!(trace.sent(), ["[P.] 2..3 ack 1"]);
}

#[test]
fn long_data_goes_as_super_segments_within_the_congestion_window() {
    let mut trace = Trace::established();
    trace.write(200_000);
    assert_eq!(trace.sent(), ["[.] 1..10001/1000 ack 1"], "ten segments, RFC 6928");
    let mut acknowledged = 1;
    let mut largest = 0;
    while acknowledged < 200_001 {
        acknowledged = (acknowledged + 10_000).min(trace.connection.send.next.0 - ISS);
        trace.receive(ack(acknowledged));
        trace.host.now += Duration::from_micros(10);
        for line in trace.sent() {
            let range = line.split([' ', '/']).nth(1).unwrap();
            let (from, to) = range.split_once("..").unwrap();
            largest = largest.max(to.parse::<u32>().unwrap() - from.parse::<u32>().unwrap());
        }
    }
    assert!((11_000..=65_000).contains(&largest), "{largest}");
}

#[test]
fn packets_never_exceed_what_ip_carries() {
    let mut trace = Trace::established();
    trace.connection.congestion.set_segment_size(1_000);
    for _ in 0..6 {
        // Grow the window by acknowledging all there is.
        trace.write(100_000);
        trace.sent();
        let next = trace.connection.send.next.0 - ISS;
        trace.receive(ack(next));
    }
    trace.write(100_000);
    assert!(trace.sent().iter().any(|line| line.contains("/1000")));
}

#[test]
fn the_peers_window_bounds_what_is_sent_and_small_windows_are_avoided() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 2_500, ..Seg::default() });
    trace.write(10_000);
    assert_eq!(trace.sent(), ["[.] 1..2001/1000 ack 1"]);
    trace.receive(Seg { window: 900, ..ack(2_001) });
    assert!(trace.sent().is_empty());
    trace.receive(Seg { window: 1_000, ..ack(2_001) });
    assert_eq!(trace.sent(), ["[.] 2001..3001 ack 1"]);
}

#[test]
fn a_window_that_stays_small_is_used_after_a_while() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 900, ..Seg::default() });
    trace.write(10_000);
    assert!(trace.sent().is_empty());
    trace.at(200);
    assert_eq!(trace.sent(), ["[.] 1..901 ack 1"]);
}

/// What overrides the avoidance of silly windows is no probe of a closed one: it comes as soon each time (RFC 9293 §3.8.6.2.1).
#[test]
fn a_window_that_stays_small_is_used_as_soon_each_time() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 400, ..Seg::default() });
    trace.write(4_000);
    for turn in 0..8 {
        assert_eq!(trace.sent(), [""; 0]);
        let (at, number) = (trace.deadline().expect("an override"), 1 + 400 * turn);
        assert_eq!(at, 200 * (u64::from(turn) + 1));
        trace.at(at);
        assert_eq!(trace.sent(), [format!("[.] {number}..{} ack 1", number + 400)]);
        trace.receive(Seg { window: 400, ..ack(number + 400) });
    }
}

#[test]
fn a_closed_window_is_probed_for_ever_while_the_peer_answers() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 0, ..Seg::default() });
    trace.write(5_000);
    assert!(trace.sent().is_empty());
    let mut times = vec![];
    for _ in 0..40 {
        let due = trace.deadline().expect("a probe");
        trace.at(due);
        times.push(due);
        assert_eq!(trace.sent(), ["[.] 1..2 ack 1"]);
        trace.receive(Seg { window: 0, ..Seg::default() });
    }
    assert_eq!(times[..4], [200, 600, 1_400, 3_000], "exponentially later");
    assert_eq!(times[39] - times[38], 60_000);
    assert_eq!((trace.state(), trace.host.counters.transport.fast_retransmits.get()), (State::Established, 0));
    trace.receive(Seg { window: 60_000, ..Seg::default() });
    assert_eq!(trace.sent(), ["[.] 1..2 ack 1", "[.] 2..4002/1000 ack 1"], "the byte that was refused, and full segments");
}

#[test]
fn a_probe_that_is_taken_goes_on_from_there() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 0, ..Seg::default() });
    trace.write(3);
    for number in 2..4 {
        trace.at(trace.deadline().unwrap());
        trace.sent();
        trace.receive(Seg { window: 0, ..ack(number) });
    }
    trace.at(trace.deadline().unwrap());
    assert_eq!(trace.sent(), ["[P.] 3..4 ack 1"]);
    trace.receive(Seg { window: 0, ..ack(4) });
    assert_eq!(trace.deadline(), None);
}

#[test]
fn a_peer_that_does_not_answer_probes_is_given_up() {
    let mut trace = Trace::established_with(TcpConfig { data_retries: 3, ..TcpConfig::default() }, plain());
    trace.receive(Seg { window: 0, ..Seg::default() });
    trace.write(3);
    trace.at(20_000);
    assert_eq!((trace.state(), trace.failure(), trace.sent().len()), (State::Closed, Some(Failure::TimedOut), 3));
}

#[test]
fn a_fin_gets_through_a_closed_window() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 0, ..Seg::default() });
    trace.close_write();
    assert!(trace.sent().is_empty());
    trace.at(200);
    assert_eq!((trace.sent(), trace.state()), (vec!["[F.] 1 ack 1".to_owned()], State::FinWait1));
    trace.at(600);
    assert_eq!(trace.sent(), ["[F.] 1 ack 1"]);
    trace.receive(Seg { window: 0, ..ack(2) });
    assert_eq!((trace.state(), trace.deadline()), (State::FinWait2, None));
}

#[test]
fn a_window_update_that_was_lost_is_found_by_the_probe() {
    let mut trace = Trace::established();
    trace.receive(Seg { window: 0, ..Seg::default() });
    trace.write(2_000);
    trace.at(200);
    trace.sent();
    trace.receive(Seg { window: 9_000, ..ack(2) });
    assert_eq!(trace.sent(), ["[P.] 2..2001/1000 ack 1"]);
}

#[test]
fn the_socket_has_two_super_segments_on_their_way_at_most() {
    let mut trace =
        Trace::established_with(TcpConfig { in_stack_bytes: 6_000, in_stack_bytes_when_fast: 6_000, ..TcpConfig::default() }, plain());
    trace.device_is_stuck = true;
    trace.write(5_000);
    trace.write(4_000);
    trace.write(1_000);
    assert_eq!(trace.sent(), ["[P.] 1..5001/1000 ack 1", "[P.] 5001..9001/1000 ack 1"]);
    assert!(!trace.connection.waits_for_device_room());
    trace.in_device.clear();
    trace.take_marks();
    assert_eq!(trace.sent(), ["[P.] 9001..10001 ack 1"]);
}

#[test]
fn a_full_device_is_waited_for() {
    let mut trace = Trace::established();
    trace.device_is_stuck = true;
    while trace.host.device_room.take() {}
    trace.write(1_000);
    trace.close_write();
    assert!(trace.sent().is_empty() && trace.connection.waits_for_device_room());
    assert_eq!(trace.deadline(), None, "no timer: the device will tell");
    (0..1_024).for_each(|_| trace.host.device_room.give_back());
    trace.connection.device_room(&mut trace.host.context());
    assert_eq!(trace.sent(), ["[FP.] 1..1001 ack 1"]);
    assert!(!trace.connection.waits_for_device_room());
}

#[test]
fn a_retransmission_waits_for_room_as_well() {
    let mut trace =
        Trace::established_with(TcpConfig { in_stack_bytes: 1_000, in_stack_bytes_when_fast: 1_000, ..TcpConfig::default() }, plain());
    trace.device_is_stuck = true;
    trace.write(1_000);
    assert_eq!(trace.sent().len(), 1);
    trace.at(200);
    assert!(trace.sent().is_empty());
    trace.in_device.clear();
    trace.take_marks();
    assert_eq!(trace.sent(), ["[P.] 1..1001 ack 1"]);
}

#[test]
fn writers_are_woken_when_half_of_the_buffer_is_free() {
    let mut trace = Trace::established_with(TcpConfig { send_buffer: 8_000, send_buffer_maximum: 8_000, ..TcpConfig::default() }, plain());
    trace.wakes();
    trace.write(8_000);
    trace.receive(ack(3_001));
    assert_eq!(trace.wakes(), 0);
    trace.receive(ack(4_001));
    assert_eq!(trace.wakes(), 1);
    trace.receive(ack(8_001));
    assert_eq!((trace.wakes(), trace.connection.shared().state.lock().unacknowledged), (0, 0));
}

#[test]
fn after_idleness_the_window_is_kept_for_five_minutes_then_halved() {
    let mut trace = Trace::established();
    let mut acknowledged = 1;
    trace.write(300_000);
    while acknowledged < 300_001 {
        acknowledged = trace.connection.send.next.0 - ISS;
        trace.receive(ack(acknowledged));
        trace.sent();
        trace.take_marks();
    }
    let window = trace.connection.congestion.window();
    assert!(window > 50_000);
    trace.at(10_000);
    trace.write(1_000);
    trace.receive(ack(301_001));
    assert_eq!(trace.connection.congestion.window(), window, "RFC 7661 §4.4");
    trace.at(310_000);
    trace.write(1_000);
    assert_eq!(trace.connection.congestion.window(), window / 2, "RFC 7661 §4.4.3");
}

#[test]
fn a_thousand_small_writes_become_few_segments() {
    let mut trace = Trace::established();
    for _ in 0..1_000 {
        trace.connection.shared().state.lock().to_send.push_back(trace.host.pool.copy_from(0, &[7]));
    }
    trace.mark(Mark::Send);
    assert_eq!(trace.sent(), ["[P.] 1..1001/1000 ack 1".replace("/1000", "")]);
}
