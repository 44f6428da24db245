//! In steady state no packet costs an allocation, from the program's write to the other program's read.
//!
//! Alone in its program, since it counts the allocations of all threads.

use hopline::device::virtual_link::{self, LinkOptions, VirtualDevice};
use hopline::socket::{Handoff, Stack, TcpStream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 5_000;
/// Timers, and queues that reach a new length, may still allocate now and then.
const FEW: usize = ROUNDS / 50;

fn stack(device: VirtualDevice, address: &str, handoff: Handoff) -> Stack {
    Stack::builder().device(device).address(address.parse().unwrap()).handoff(handoff).start().unwrap()
}

/// Answers each request of `request` bytes with one of `response` bytes, until the peer closes.
fn serve(mut stream: TcpStream, request: usize, response: usize) {
    let (mut question, answer) = (vec![0; request], vec![0; response]);
    while stream.read_exact(&mut question).is_ok() && stream.write_all(&answer).is_ok() {}
}

/// Allocations of all threads during so many rounds, after as many to warm up.
fn allocations(client: &Stack, server: &Stack, request: usize, response: usize, rounds: usize) -> usize {
    let listener = server.listen("192.0.2.2:7").unwrap();
    let service = std::thread::spawn(move || serve(listener.accept().unwrap().0, request, response));
    let mut stream = client.connect("192.0.2.2:7").unwrap();
    let (question, mut answer) = (vec![0; request], vec![0; response]);
    let mut ask = || {
        stream.write_all(&question).unwrap();
        stream.read_exact(&mut answer).unwrap();
    };
    (0..rounds).for_each(|_| ask());
    let count = least_of(rounds, &mut ask);
    drop(stream);
    service.join().unwrap();
    count
}

/// Allocations of all threads in `rounds` calls: those of the best of five equal parts, five times. What a packet allocates is in every part; what a
/// busy machine adds is not: probes and retransmissions to a peer that did not run in time.
fn least_of(rounds: usize, mut ask: impl FnMut()) -> usize {
    const PARTS: usize = 5;
    let part = || {
        let region = Region::new(ALLOCATOR);
        (0..rounds / PARTS).for_each(|_| ask());
        region.change().allocations
    };
    std::iter::repeat_with(part).take(PARTS).min().unwrap_or_default() * PARTS
}

/// Allocations of all threads while so many datagrams go there and back, after as many to warm up.
fn datagram_allocations(client: &Stack, server: &Stack) -> usize {
    let echo = server.bind_udp("192.0.2.2:7").unwrap();
    let service = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        for _ in 0..2 * ROUNDS {
            let (length, from) = echo.recv_from(&mut bytes).unwrap();
            echo.send_to(&bytes[..length], from).unwrap();
        }
    });
    let socket = client.bind_udp("192.0.2.1:0").unwrap();
    socket.connect("192.0.2.2:7").unwrap();
    let ask = || {
        socket.send(&[7; 64]).unwrap();
        socket.recv(&mut [0; 64]).unwrap();
    };
    (0..ROUNDS).for_each(|_| ask());
    let count = least_of(ROUNDS, ask);
    service.join().unwrap();
    count
}

fn in_handoff(handoff: Handoff) {
    let (a, b) = virtual_link::pair(LinkOptions::default());
    let (client, server) = (stack(a, "192.0.2.1/24", handoff), stack(b, "192.0.2.2/24", handoff));
    let small = allocations(&client, &server, 1, 1, ROUNDS);
    assert!(small < FEW, "{small} allocations ({}) in {ROUNDS} small round trips", handoff.name());
    // A write of a megabyte lists more chunks than fit on the stack, and the link's own queue grows with each burst: that is all.
    let megabytes = ROUNDS / 10;
    let large = allocations(&client, &server, 1 << 20, 1, megabytes);
    assert!(large < 4 * megabytes, "{large} allocations ({}) in {megabytes} megabytes of about twenty packets each", handoff.name());
    let back = allocations(&client, &server, 1, 1 << 20, megabytes);
    assert!(back < 4 * megabytes, "{back} allocations ({}) in {megabytes} megabytes the other way", handoff.name());
    let datagrams = datagram_allocations(&client, &server);
    assert!(datagrams < FEW, "{datagrams} allocations ({}) in {ROUNDS} datagrams there and back", handoff.name());
}

/// One after the other: allocations are counted for the whole process.
#[test]
fn packets_cost_no_allocations() {
    for handoff in Handoff::ALL {
        in_handoff(handoff);
    }
}
