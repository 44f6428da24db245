//! How connections begin in vain and how they end: half-closed, reset, refused, unreachable, timed out.

use crate::common::{Need, trial};
use crate::host::{HOPLINE, KERNEL, Medium, Network};
use crate::transfer::{receive, send};
use hopline::socket::Keepalive;
use libtest_mimic::Trial;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Vec<Trial> {
    let list: [(&str, fn()); 14] = [
        ("half_closed_connections_still_carry_the_other_direction", half_close),
        ("hopline_resets_when_it_closes_with_unread_data", hopline_resets),
        ("the_kernel_resets_when_it_closes_with_unread_data", kernel_resets),
        ("dropping_a_stream_still_delivers_what_was_written", dropped_streams_deliver),
        ("a_closed_tcp_port_of_the_kernel_refuses", kernel_refuses),
        ("a_closed_tcp_port_of_hopline_refuses", hopline_refuses),
        ("a_dead_neighbour_is_soon_unreachable", dead_neighbour),
        ("a_silent_host_times_out", silent_host),
        ("no_route_is_told_at_once", no_route),
        ("keepalive_finds_a_vanished_peer", keepalive_finds_out),
        ("hopline_answers_the_kernels_keepalive", keepalive_is_answered),
        ("a_slow_reader_stalls_and_resumes_the_sender", slow_readers),
        ("user_timeout_gives_up", user_timeout),
        ("a_reset_from_the_kernel_reaches_a_blocked_reader", reset_wakes_reader),
    ];
    let needs = &[Need::Namespaces, Need::Program("ethtool"), Need::Program("nft")];
    list.into_iter().map(|(name, body)| trial(name, needs, body)).collect()
}

fn half_close() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.hopline_connects();
    ours.write_all(b"question").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    theirs.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    std::thread::scope(|scope| {
        scope.spawn(|| send(&mut theirs, 3_000_000));
        receive(&mut ours, 3_000_000);
    });
    let (mut theirs, mut ours) = network.kernel_connects();
    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&mut ours, 3_000_000));
        receive(&mut theirs, 3_000_000);
    });
    assert_eq!(ours.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

fn hopline_resets() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.kernel_connects();
    theirs.write_all(b"nobody reads the second half").unwrap();
    ours.read_exact(&mut [0; 6]).unwrap();
    drop(ours);
    assert_eq!(theirs.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn kernel_resets() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.kernel_connects();
    ours.write_all(b"nobody reads the second half").unwrap();
    theirs.read_exact(&mut [0; 6]).unwrap();
    drop(theirs);
    assert_eq!(ours.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn dropped_streams_deliver() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.kernel_connects();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send(&mut ours, 1_000_000);
            drop(ours);
        });
        receive(&mut theirs, 1_000_000);
    });
    let (mut theirs, mut ours) = network.hopline_connects();
    ours.write_all(b"last words").unwrap();
    drop(ours);
    let mut words = String::new();
    theirs.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
}

fn kernel_refuses() {
    let network = Network::new(Medium::Veth);
    let error = network.stack.connect((KERNEL, 9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

fn hopline_refuses() {
    let network = Network::new(Medium::Veth);
    let error = network.kernel_stream(SocketAddr::new(HOPLINE.into(), 9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

fn dead_neighbour() {
    let network = Network::new(Medium::Veth);
    let start = Instant::now();
    let error = network.stack.connect((Ipv4Addr::new(192, 0, 2, 77), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    let again = Instant::now();
    let error = network.stack.connect((Ipv4Addr::new(192, 0, 2, 77), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    assert!(again.elapsed() < Duration::from_secs(30), "the second time it took {:?}", again.elapsed());
}

fn silent_host() {
    let network = Network::new(Medium::Veth);
    go_silent(&network);
    let start = Instant::now();
    let error = network.stack.connect_timeout((KERNEL, 80), Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!((Duration::from_millis(300)..Duration::from_secs(30)).contains(&start.elapsed()), "it took {:?}", start.elapsed());
}

fn no_route() {
    let network = Network::new(Medium::Veth);
    let error = network.stack.connect((Ipv4Addr::new(198, 51, 100, 1), 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
}

/// The kernel hears nothing any more, but answers ARP.
fn go_silent(network: &Network) {
    network.kernel.run("nft 'add table ip quiet; add chain ip quiet in { type filter hook input priority 0; policy drop; }'");
}

fn keepalive_finds_out() {
    let network = Network::new(Medium::Veth);
    let (_theirs, mut ours) = network.hopline_connects();
    let probing = Keepalive { idle: Duration::from_secs(1), interval: Duration::from_millis(300), count: 3 };
    let start = Instant::now();
    ours.set_keepalive(Some(probing)).unwrap();
    go_silent(&network);
    let error = ours.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!((Duration::from_millis(1_500)..Duration::from_secs(60)).contains(&start.elapsed()), "it took {:?}", start.elapsed());
}

fn keepalive_is_answered() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.kernel_connects();
    let probing = socket2::TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(1)).with_retries(1);
    socket2::SockRef::from(&theirs).set_tcp_keepalive(&probing).unwrap();
    let received = network.stack.counters().transport.segments_received.get();
    std::thread::sleep(Duration::from_millis(3_500));
    assert!(network.stack.counters().transport.segments_received.get() > received, "no probe came");
    ours.write_all(b"alive").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
}

/// A reader that sleeps closes the window; the sender must fill it, wait, and go on when it opens.
fn slow_readers() {
    const COUNT: u64 = 16 << 20;
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.kernel_connects();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&mut theirs, COUNT));
        std::thread::sleep(Duration::from_millis(700));
        receive(&mut ours, COUNT);
    });
    std::thread::scope(|scope| {
        scope.spawn(|| send(&mut ours, COUNT));
        std::thread::sleep(Duration::from_millis(700));
        receive(&mut theirs, COUNT);
    });
    network.assert_nothing_lost();
}

fn user_timeout() {
    let network = Network::new(Medium::Veth);
    let (_theirs, mut ours) = network.hopline_connects();
    ours.set_user_timeout(Some(Duration::from_secs(1))).unwrap();
    go_silent(&network);
    ours.write_all(b"is anybody there?").unwrap();
    let start = Instant::now();
    let error = ours.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(start.elapsed() < Duration::from_secs(60), "it took {:?}", start.elapsed());
}

fn reset_wakes_reader() {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.hopline_connects();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            theirs.write_all(b"the last of it").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
            drop(theirs);
        });
        ours.read_exact(&mut [0; 14]).unwrap();
        assert_eq!(ours.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
    assert_eq!(ours.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
