//! What an idle established connection costs: bytes of heap, with both ends registered at a poller.
//!
//! Alone in its program, since it counts the allocations of all threads.

use hopline::device::virtual_link::{self, LinkOptions, VirtualDevice};
use hopline::socket::{Interest, Poller, Stack, TcpStream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// As many as the aim is stated for. What the tables keep in reserve at that number is counted.
const CONNECTIONS: usize = 10_000;
/// What one end may cost: what it does, and room for a few more fields. Whoever adds to a connection finds out here what that costs a hundred thousand of them.
const BYTES_PER_END: isize = 1_024;
/// How long the last acknowledgements, and the way to rest, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long without a change there will be none.
const CALM: Duration = Duration::from_millis(700);

fn stack(device: VirtualDevice, address: &str) -> Stack {
    Stack::builder().device(device).address(address.parse().unwrap()).start().unwrap()
}

#[test]
fn an_idle_connection_is_small() {
    let (a, b) = virtual_link::pair(LinkOptions::default());
    let (client, server) = (stack(a, "192.0.2.1/24"), stack(b, "192.0.2.2/24"));
    let listener = server.listen("192.0.2.2:7").unwrap();
    let (here, there) = (Poller::new().unwrap(), Poller::new().unwrap());
    let mut ends: Vec<TcpStream> = Vec::with_capacity(4 * CONNECTIONS);
    let open = |count: usize, ends: &mut Vec<TcpStream>| {
        for _ in 0..count {
            let near = client.connect("192.0.2.2:7").unwrap();
            let (far, _) = listener.accept().unwrap();
            here.register(&near, ends.len() as u64, Interest::READABLE).unwrap();
            there.register(&far, ends.len() as u64, Interest::READABLE).unwrap();
            ends.extend([near, far]);
        }
    };
    open(CONNECTIONS / 10, &mut ends);
    let region = Region::new(ALLOCATOR);
    let before = ends.len();
    open(CONNECTIONS, &mut ends);
    // What is on its way, and what the tables of timers still hold, goes as soon as the threads get to it.
    let deadline = Instant::now() + PATIENCE;
    let bytes_per_end = || {
        let change = region.change();
        (change.bytes_allocated as isize - change.bytes_deallocated as isize) / (ends.len() - before) as isize
    };
    let (mut last, mut since) = (bytes_per_end(), Instant::now());
    while (last > BYTES_PER_END || since.elapsed() < CALM) && Instant::now() < deadline {
        std::thread::yield_now();
        let now = bytes_per_end();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    println!("{} bytes for each end", bytes_per_end());
    assert!(bytes_per_end() <= BYTES_PER_END, "{} bytes for each end", bytes_per_end());
}
