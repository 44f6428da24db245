//! UDP both ways: every size, fragments, and the errors that ICMP tells.

use crate::common::trial;
use crate::host::{HOPLINE, KERNEL, Medium, NAMESPACES, Network, PATIENCE};
use crate::paths::snmp;
use crate::transfer::bytes;
use libtest_mimic::Trial;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Payload bytes: the largest first, to a cold neighbour; then around one frame and around the slots' sizes.
const SIZES: [usize; 9] = [65_507, 0, 1, 1_471, 1_472, 1_473, 2_953, 9_000, 65_000];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Medium::ALL
        .into_iter()
        .map(|medium| trial(&format!("datagrams_of_every_size_pass_over_{}", medium.name()), NAMESPACES, move || every_size(medium)))
        .collect();
    trials.extend([
        trial("a_closed_port_of_the_kernel_refuses", NAMESPACES, kernel_refuses),
        trial("a_closed_port_of_hopline_refuses", NAMESPACES, hopline_refuses),
        trial("many_datagrams_arrive_in_order", NAMESPACES, many_datagrams),
    ]);
    trials
}

fn every_size(medium: Medium) {
    let network = Network::new(medium);
    echo_every_size(&network);
    network.assert_nothing_lost();
}

/// Datagrams of every size from Hopline to the kernel and back.
#[track_caller]
pub(crate) fn echo_every_size(network: &Network) {
    let (theirs, ours) = (network.kernel_datagrams(), network.hopline_datagrams());
    let mut buffer = vec![0; 65_536];
    for size in SIZES {
        let sent = bytes(size, size as u64);
        ours.send_to(&sent, theirs.local_addr().unwrap()).unwrap();
        let (got, from) = theirs.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{size} bytes to the kernel: {error}"));
        assert!(buffer[..got] == sent && from == ours.local_addr().unwrap(), "{size} bytes to the kernel: {got} from {from}");
        theirs.send_to(&sent, from).unwrap();
        let (got, from) = ours.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{size} bytes from the kernel: {error}"));
        assert!(buffer[..got] == sent && from == theirs.local_addr().unwrap(), "{size} bytes from the kernel: {got} from {from}");
    }
}

fn kernel_refuses() {
    let network = Network::new(Medium::Veth);
    let socket = network.hopline_datagrams();
    socket.connect((KERNEL, 9)).unwrap();
    socket.send(b"anybody?").unwrap();
    let error = socket.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    socket.send(b"the error is told once").unwrap();
}

fn hopline_refuses() {
    let network = Network::new(Medium::Veth);
    let socket = network.kernel_datagrams();
    socket.connect((HOPLINE, 9)).unwrap();
    socket.send(b"anybody?").unwrap();
    let error = socket.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert_eq!(snmp(&network.kernel.run("cat /proc/net/snmp"), "Icmp", "InDestUnreachs"), 1);
}

/// A paced sender loses nothing and nothing changes places; in both directions at once.
fn many_datagrams() {
    const COUNT: u32 = 2_000;
    let network = Network::new(Medium::Veth);
    let (theirs, ours) = (network.kernel_datagrams(), network.hopline_datagrams());
    let (their_address, our_address): (SocketAddr, SocketAddr) = (theirs.local_addr().unwrap(), ours.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| send_paced(COUNT, |bytes| theirs.send_to(bytes, our_address)));
        scope.spawn(|| send_paced(COUNT, |bytes| ours.send_to(bytes, their_address)));
        scope.spawn(|| expect_in_order(COUNT, |buffer| theirs.recv(buffer)));
        expect_in_order(COUNT, |buffer| ours.recv_from(buffer).map(|(count, _)| count));
    });
    network.assert_nothing_lost();
}

#[track_caller]
fn send_paced(count: u32, send: impl Fn(&[u8]) -> std::io::Result<usize>) {
    for number in 0..count {
        send(&number.to_be_bytes()).unwrap();
        if number % 20 == 19 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[track_caller]
fn expect_in_order(count: u32, mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>) {
    let start = Instant::now();
    for number in 0..count {
        let mut buffer = [0; 8];
        assert_eq!(receive(&mut buffer).unwrap(), 4);
        assert_eq!(u32::from_be_bytes(buffer[..4].try_into().unwrap()), number);
    }
    assert!(start.elapsed() < PATIENCE);
}
