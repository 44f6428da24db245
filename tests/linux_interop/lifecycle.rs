//! Interfaces that go down, come back, or vanish under a running stack; and what is left of a stack that ended.

use crate::common::trial;
use crate::host::{KERNEL, Medium, NAMESPACES, Network};
use crate::transfer::{receive, receive_part, send};
use libtest_mimic::Trial;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_transfer_survives_veth_down_and_up", NAMESPACES, || down_and_up(Medium::Veth, "h0")),
        trial("a_transfer_survives_tap_down_and_up", NAMESPACES, || down_and_up(Medium::Tap, "tap0")),
        trial("a_deleted_veth_is_network_down", NAMESPACES, || deleted(Medium::Veth, "h0")),
        trial("a_deleted_tap_is_network_down", NAMESPACES, || deleted(Medium::Tap, "tap0")),
        trial("shutdown_ends_what_waits_and_closes_what_is_open", NAMESPACES, shutdown),
    ]
}

fn down_and_up(medium: Medium, interface: &str) {
    const COUNT: u64 = 24 << 20;
    let network = Network::new(medium);
    let (mut theirs, mut ours) = network.hopline_connects();
    let mut ours_too = ours.try_clone().unwrap();
    let mut theirs_too = theirs.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&mut ours, COUNT));
        scope.spawn(|| send(&mut theirs, COUNT));
        scope.spawn(|| {
            receive_part(&mut theirs_too, COUNT / 4);
            network.own().run(&format!("ip link set {interface} down"));
            std::thread::sleep(Duration::from_millis(400));
            network.own().run(&format!("ip link set {interface} up"));
            restore_address(&network, interface);
            rest(&mut theirs_too, COUNT / 4, COUNT);
        });
        receive(&mut ours_too, COUNT);
    });
}

/// Routes of an interface go away when it goes down; addresses stay.
fn restore_address(network: &Network, interface: &str) {
    if network.others.is_empty() {
        network.kernel.run(&format!("ip address replace 192.0.2.1/24 dev {interface}"));
    }
}

/// Reads from `position` to the end, `count` bytes in all.
fn rest(stream: &mut impl Read, position: u64, count: u64) {
    let got = std::io::copy(stream, &mut std::io::sink()).unwrap();
    assert_eq!(position + got, count);
}

fn deleted(medium: Medium, interface: &str) {
    let network = Network::new(medium);
    let (_theirs, mut ours) = network.hopline_connects();
    let listener = network.stack.listen((network.address, 80)).unwrap();
    let datagrams = network.hopline_datagrams();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| ours.read(&mut [0; 8]).unwrap_err().kind());
        let acceptor = scope.spawn(|| listener.accept().unwrap_err().kind());
        let receiver = scope.spawn(|| datagrams.recv_from(&mut [0; 8]).unwrap_err().kind());
        std::thread::sleep(Duration::from_millis(100));
        network.own().run(&format!("ip link delete {interface}"));
        for (who, waiting) in [("reader", reader), ("acceptor", acceptor), ("receiver", receiver)] {
            assert_eq!(waiting.join().unwrap(), ErrorKind::NetworkDown, "the {who}");
        }
    });
    assert_eq!(network.stack.connect((KERNEL, 80)).unwrap_err().kind(), ErrorKind::NetworkDown);
    let start = Instant::now();
    network.stack.shutdown(Duration::from_secs(60)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "ending took {:?}", start.elapsed());
}

/// Whether a call waits cannot be seen from outside, and one that comes late is told `NotConnected`: then they get more time.
fn shutdown() {
    assert!([100, 1_000, 10_000].into_iter().any(shut_down_after), "calls that wait are not told that they were aborted");
}

/// Whether the calls that were to wait did so after so many milliseconds.
fn shut_down_after(millis: u64) -> bool {
    let network = Network::new(Medium::Veth);
    let (mut theirs, mut ours) = network.hopline_connects();
    let listener = network.stack.listen((network.address, 80)).unwrap();
    std::thread::scope(|scope| {
        let acceptor = scope.spawn(|| listener.accept().unwrap_err().kind());
        let reader = scope.spawn(|| ours.read(&mut [0; 8]).map_err(|error| error.kind()));
        let peer = scope.spawn(move || theirs.read(&mut [0; 8]).map_err(|error| error.kind()));
        std::thread::sleep(Duration::from_millis(millis));
        network.stack.shutdown(Duration::from_secs(3)).unwrap();
        let (accepted, read) = (acceptor.join().unwrap(), reader.join().unwrap());
        assert!(matches!(accepted, ErrorKind::ConnectionAborted | ErrorKind::NotConnected), "{accepted:?}");
        assert!(matches!(read, Ok(0) | Err(ErrorKind::ConnectionAborted | ErrorKind::NotConnected)), "{read:?}");
        assert_eq!(peer.join().unwrap(), Ok(0), "the peer sees an orderly end");
        assert_eq!(network.stack.connect((KERNEL, 80)).unwrap_err().kind(), ErrorKind::NotConnected);
        accepted == ErrorKind::ConnectionAborted && read != Err(ErrorKind::NotConnected)
    })
}
