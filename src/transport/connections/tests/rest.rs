//! Connections at rest: they cost little, and nobody notices.

use super::*;
use crate::layer::Layer;
use crate::transport::shared::Keepalive;
use crate::transport::tcp::Resting;
use std::mem::size_of;

/// A connection that has gone to rest, and its ends.
fn resting(bench: &mut Bench) -> (Arc<TcpShared>, String, String) {
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    bench.advance(Duration::from_secs(3));
    assert!(is_resting(bench, &shared));
    let (local, remote) = ends_of(&shared);
    (shared, local, remote)
}

fn is_resting(bench: &Bench, shared: &TcpShared) -> bool {
    let key = shared.place.load(Ordering::Relaxed) as usize - 1;
    bench.transport.connections.entries[key].connection().is_none()
}

/// The figures of a connection; asking for them wakes it.
fn figures(bench: &mut Bench, shared: &Arc<TcpShared>) -> StreamInfo {
    StreamInfo { since_sent: Duration::ZERO, since_heard: Duration::ZERO, ..bench.figures(shared) }
}

/// The next segment from the peer, which has received `acknowledged` bytes of ours and sent `sent`.
fn next(bench: &mut Bench, shared: &Arc<TcpShared>, acknowledged: u32, sent: u32) -> TcpHeader {
    shared.mark(Mark::Send);
    bench.settle();
    let key = shared.place.load(Ordering::Relaxed) as usize - 1;
    let ours = bench.transport.connections.entries[key].connection().unwrap().successor_sequence() - 65_537;
    header(ACK | TcpFlags::PSH, 1_001 + sent, ours + acknowledged)
}

#[test]
fn what_is_kept_of_an_idle_connection_is_small() {
    let sizes = [size_of::<Entry>(), size_of::<Resting>()];
    assert!(sizes[0] <= 56 && sizes[1] <= 448, "{sizes:?}");
}

#[test]
fn figures_are_for_who_asks_and_the_last_ones_for_whoever_is_left() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    assert!(shared.state.lock().info.is_none());
    shared.state.lock().write_closed = true;
    shared.mark(Mark::CloseWrite);
    bench.settle();
    let (local, remote) = ends_of(&shared);
    let (finish, _) = bench.segments().pop().unwrap();
    assert!(shared.state.lock().info.is_none());
    bench.arrive_segment(&remote, &local, header(ACK | TcpFlags::RST, 1_001, finish.sequence + 1), b"");
    let info = shared.state.lock().info.clone().unwrap();
    assert_eq!((info.state, info.send_window), ("CLOSED", 65_000));
}

/// What an acknowledgement waits for nearly always comes first: nobody need wake up for it in time, but whoever is awake sends it.
#[test]
fn a_delayed_acknowledgement_lets_its_driver_sleep_longer() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    let (local, remote) = ends_of(&shared);
    let request = next(&mut bench, &shared, 0, 0);
    bench.arrive_segment(&remote, &local, request, b"request");
    let deadline = bench.deadline().unwrap();
    assert_eq!(bench.transport.sleeps_until(), Some(deadline + LEEWAY));
    bench.advance(Duration::from_millis(1));
    assert_eq!(bench.segments().len(), 1);
    assert_eq!(bench.transport.sleeps_until(), bench.deadline());
}

#[test]
fn a_connection_that_rests_is_as_it_was() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    let (local, remote) = ends_of(&shared);
    let request = next(&mut bench, &shared, 0, 0);
    bench.arrive_segment(&remote, &local, request, b"request");
    shared.state.lock().received.clear();
    shared.state.lock().unread = 0;
    shared.mark(Mark::Window);
    let before = figures(&mut bench, &shared);
    assert_eq!((before.received_bytes, before.state, before.unread), (7, "ESTABLISHED", 0));
    bench.advance(Duration::from_secs(3));
    assert!(is_resting(&bench, &shared) && shared.state.lock().info.is_none());
    assert_eq!(figures(&mut bench, &shared), before);
    assert!(!is_resting(&bench, &shared));
}

#[test]
fn data_wakes_it_and_it_rests_again() {
    let mut bench = Bench::new(&Config::default());
    let (shared, local, remote) = resting(&mut bench);
    assert_eq!(bench.deadline(), None);
    let first = next(&mut bench, &shared, 0, 0);
    bench.advance(Duration::from_secs(3));
    assert!(is_resting(&bench, &shared));
    bench.arrive_segment(&remote, &local, first, b"hello");
    bench.advance(Duration::from_millis(1));
    assert_eq!((shared.state.lock().unread, bench.segments().len()), (5, 1), "received and acknowledged");
    bench.advance(Duration::from_secs(9));
    assert!(!is_resting(&bench, &shared), "while something is unread it does not rest");
    assert_eq!(bench.deadline(), None, "nor is it looked at again and again");
    shared.state.lock().received.clear();
    shared.state.lock().unread = 0;
    shared.mark(Mark::Window);
    bench.settle();
    bench.advance(Duration::from_secs(3));
    assert!(is_resting(&bench, &shared));
}

#[test]
fn what_a_program_writes_wakes_it() {
    let mut bench = Bench::new(&Config::default());
    let (shared, ..) = resting(&mut bench);
    {
        let mut state = shared.state.lock();
        state.to_send.push_back(bench.pool.copy_from(0, b"hello"));
        state.unacknowledged = 5;
    }
    shared.mark(Mark::Send);
    bench.settle();
    let (segment, _) = bench.segments().pop().unwrap();
    assert!(segment.flags.contains(TcpFlags::PSH));
    bench.advance(Duration::from_secs(3));
    assert!(!is_resting(&bench, &shared), "the peer has not acknowledged it");
}

#[test]
fn keepalive_probes_wake_it() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    let keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 2 };
    Arc::make_mut(&mut shared.state.lock().options).keepalive = Some(keepalive);
    shared.mark(Mark::Options);
    bench.settle();
    bench.advance(Duration::from_secs(59));
    assert!(is_resting(&bench, &shared) && bench.segments().is_empty());
    bench.advance(Duration::from_secs(2));
    assert_eq!(bench.segments().len(), 1);
    bench.advance(Duration::from_secs(20));
    assert_eq!((failure(&shared), bench.count()), (Some(Failure::TimedOut), 0));
}

#[test]
fn it_can_be_reset_closed_and_left_behind() {
    let mut bench = Bench::new(&Config::default());
    let (reset, local, remote) = resting(&mut bench);
    bench.arrive_segment(&remote, &local, header(TcpFlags::RST, 1_001, SequenceNumber(0)), b"");
    assert_eq!((failure(&reset), bench.count()), (Some(Failure::Reset), 0));
    let (closed, ..) = resting(&mut bench);
    closed.mark(Mark::Released);
    bench.settle();
    assert!(bench.segments().pop().unwrap().0.flags.contains(TcpFlags::FIN));
    let (aborted, ..) = resting(&mut bench);
    bench.handle(Message::AbortAll);
    bench.settle();
    assert_eq!((failure(&aborted), bench.count()), (Some(Failure::Aborted), 0));
}

#[test]
fn a_busy_stack_looks_a_few_times_in_a_second() {
    let mut bench = Bench::new(&Config::default());
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(bench.established("0.0.0.0:0", "192.0.2.9:80"));
        bench.now += Duration::from_millis(1);
    }
    // The timers of the handshakes are over.
    bench.advance(Duration::from_secs(1));
    let mut moments = BTreeSet::new();
    while let Some(at) = bench.deadline() {
        moments.insert(at);
        bench.now = bench.now.max(at);
        bench.transport.run_timers(bench.now, &mut bench.out);
        bench.settle();
    }
    assert!(moments.len() <= 4 && open.iter().all(|shared| is_resting(&bench, shared)), "{moments:?}");
}
