//! UDP both ways: every size, fragments, and the errors that ICMP tells.

use crate::common::{Need, trial};
use crate::host::{HOPLINE, KERNEL, Medium, NAMESPACES, Network, PATIENCE, on_a_lossless_wire};
use crate::paths::snmp;
use crate::transfer::bytes;
use libtest_mimic::Trial;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Payload bytes: the largest first, to a cold neighbour; then around one frame and around the slots' sizes.
const SIZES: [usize; 9] = [65_507, 0, 1, 1_471, 1_472, 1_473, 2_953, 9_000, 65_000];

/// Small datagrams each way, and how many of them may be under way.
const MANY: u32 = 5_000;
const UNDER_WAY: u32 = 100;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Medium::ALL
        .into_iter()
        .map(|medium| {
            trial(&format!("datagrams_of_every_size_pass_over_{}", medium.name()), NAMESPACES, move || {
                on_a_lossless_wire(|| every_size(medium))
            })
        })
        .collect();
    trials.extend([
        trial("a_closed_port_of_the_kernel_refuses", NAMESPACES, || on_a_lossless_wire(kernel_refuses)),
        trial("a_closed_port_of_hopline_refuses", NAMESPACES, || on_a_lossless_wire(hopline_refuses)),
        trial("many_datagrams_arrive_in_order", &[Need::Namespaces, Need::Program("ping")], || on_a_lossless_wire(many_datagrams)),
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
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}\n{}", network.stack.counters());
    assert_eq!(snmp(&network.kernel.run("cat /proc/net/snmp"), "Icmp", "InDestUnreachs"), 1);
}

/// With no more under way than both sockets' buffers hold, nothing is lost and nothing changes places, in both directions at once.
fn many_datagrams() {
    let network = Network::new(Medium::Veth);
    let (theirs, ours) = (network.kernel_datagrams(), network.hopline_datagrams());
    let (their_address, our_address) = (theirs.local_addr().unwrap(), ours.local_addr().unwrap());
    // While the kernel sends what waited for a cold neighbour, another processor may send later datagrams before them.
    network.kernel.run("ping -n -q -c 1 -W 10 192.0.2.2");
    let (there, back) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| send_in_order(&back, |bytes| theirs.send_to(bytes, our_address)));
        scope.spawn(|| send_in_order(&there, |bytes| ours.send_to(bytes, their_address)));
        scope.spawn(|| expect_in_order("the kernel", &there, |buffer| theirs.recv(buffer)));
        expect_in_order("Hopline", &back, |buffer| ours.recv_from(buffer).map(|(count, _)| count));
    });
    network.assert_nothing_lost();
}

/// Sends numbered datagrams, but waits while too many have not been received.
#[track_caller]
fn send_in_order(received: &AtomicU32, send: impl Fn(&[u8]) -> std::io::Result<usize>) {
    for number in 0..MANY {
        let start = Instant::now();
        while number - received.load(Ordering::Relaxed) >= UNDER_WAY {
            assert!(start.elapsed() < PATIENCE, "nobody receives");
            std::thread::sleep(Duration::from_micros(100));
        }
        send(&number.to_be_bytes()).unwrap();
    }
}

#[track_caller]
fn expect_in_order(who: &str, received: &AtomicU32, receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) {
    for number in 0..MANY {
        let mut buffer = [0; 8];
        let length = receive(&mut buffer).unwrap_or_else(|error| panic!("{who} waits for datagram {number}: {error}"));
        assert_eq!((length, u32::from_be_bytes(buffer[..4].try_into().unwrap())), (4, number), "to {who}");
        received.store(number + 1, Ordering::Relaxed);
    }
}
