//! Echo requests both ways, from nothing to the largest datagram, the first one to a cold neighbour.

use crate::common::{Need, trial, wait_until};
use crate::host::{KERNEL, Medium, Network, PATIENCE, on_a_lossless_wire};
use crate::transfer::bytes;
use hopline::socket::{IcmpEvent, IcmpSocket};
use libtest_mimic::Trial;

/// Data bytes of echo messages: nothing, around one frame, around the slots' sizes, and the largest of all, which comes first: it is cold.
const SIZES: [usize; 12] = [65_507, 0, 1, 7, 56, 1_471, 1_472, 1_473, 2_953, 9_000, 32_768, 65_506];

pub(crate) fn trials() -> Vec<Trial> {
    let needs = &[Need::Namespaces, Need::Program("ping")];
    Medium::ALL
        .into_iter()
        .flat_map(|medium| {
            [
                trial(&format!("hopline_pings_the_kernel_over_{}", medium.name()), needs, move || {
                    on_a_lossless_wire(|| hopline_pings_the_kernel(medium))
                }),
                trial(&format!("the_kernel_pings_hopline_over_{}", medium.name()), needs, move || {
                    on_a_lossless_wire(|| the_kernel_pings_hopline(medium))
                }),
            ]
        })
        .collect()
}

fn hopline_pings_the_kernel(medium: Medium) {
    let network = Network::new(medium);
    let socket = network.stack.bind_icmp(network.address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for (sequence, size) in SIZES.into_iter().enumerate() {
        echo(&socket, sequence as u16, size);
    }
    network.assert_nothing_lost();
}

#[track_caller]
fn echo(socket: &IcmpSocket, sequence: u16, size: usize) {
    let data = bytes(size, size as u64);
    let sent = socket.send_echo(KERNEL.into(), sequence, &data).unwrap();
    let mut back = vec![0; 65_536];
    let event = socket.receive(&mut back).unwrap_or_else(|error| panic!("no reply of {size} bytes: {error}"));
    let IcmpEvent::Reply(reply) = event else { panic!("{size} bytes: {event:?}") };
    assert_eq!((reply.sequence, reply.length, reply.source), (sequence, size, KERNEL.into()));
    assert!(back[..size] == data, "other data than was sent, of {size} bytes");
    assert!(reply.arrived >= sent);
}

fn the_kernel_pings_hopline(medium: Medium) {
    let network = Network::new(medium);
    for size in SIZES {
        network.kernel.run(&format!("ping -n -q -c 1 -W 10 -s {size} 192.0.2.2"));
    }
    // ping does not wait long for its last replies; that each was sent is known better here.
    network.kernel.run("ping -n -q -c 100 -i 0.002 -s 1400 192.0.2.2");
    let answered = || network.stack.counters().network.echo_requests_answered.get();
    wait_until("every answer", || answered() == SIZES.len() as u64 + 100);
    network.assert_nothing_lost();
}
