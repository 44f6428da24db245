//! How long a small packet takes through the pipeline, in each direction and both: means by criterion, percentiles printed below each.
//!
//! The plain pipeline of channels first (`queue`), the other hand-off beside it.
//!
//! The device is played by the bench, so that nothing but the stack is measured. Every thread is parked when a round begins, as in a
//! program that talks and waits: this is where latency is made.

mod support;

use criterion::{Criterion, SamplingMode};
use hopline::socket::{Handoff, Stack, TcpListener, TcpStream};
use std::io::{Read, Write};
use std::time::Duration;
use support::device::scripted;
use support::pair::{Pair, SERVER};
use support::peer::{Peer, STACK, STACK_MAC};
use support::samples::{Samples, timed};

const PORT: u16 = 7;

/// A stack on a scripted device, and the station at the other end of its wire.
fn scripted_stack(handoff: Handoff) -> (Stack, Peer) {
    let (device, wire) = scripted(STACK_MAC);
    let address = format!("{STACK}/24").parse().expect("an address with a prefix");
    let stack = Stack::builder().device(device).address(address).handoff(handoff).start().expect("the stack starts");
    (stack, Peer::new(wire, PORT))
}

/// A connection between a stack and its scripted peer.
fn scripted_connection(handoff: Handoff) -> (Stack, Peer, TcpStream) {
    let (stack, mut peer) = scripted_stack(handoff);
    let listener = stack.listen((STACK, PORT)).expect("the port is free");
    peer.connect();
    let (stream, _) = listener.accept().expect("the peer connected");
    stream.set_nodelay(true).expect("an open stream takes options");
    (stack, peer, stream)
}

/// Measures `round`, which says itself how long its interesting part took.
fn measure(criterion: &mut Criterion, handoff: Handoff, what: &str, mut round: impl FnMut() -> Duration) {
    let name = &format!("{}: {what}", handoff.name());
    let mut samples = Samples::default();
    let mut group = criterion.benchmark_group("latency");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bencher| bencher.iter_custom(|count| samples.collect(count, &mut round)));
    group.finish();
    samples.print(name);
}

fn frame_to_read(criterion: &mut Criterion, handoff: Handoff) {
    let (stack, mut peer, mut stream) = scripted_connection(handoff);
    let mut byte = [0];
    measure(criterion, handoff, "frame at the device to read returns", || {
        let frame = peer.data(&byte);
        peer.discard_output();
        timed(|| {
            peer.inject(frame);
            stream.read_exact(&mut byte)
        })
    });
    drop((stack, stream));
}

fn write_to_frame(criterion: &mut Criterion, handoff: Handoff) {
    let (stack, mut peer, mut stream) = scripted_connection(handoff);
    measure(criterion, handoff, "write to frame at the device", || {
        let time = timed(|| {
            stream.write_all(&[1]).expect("the peer takes data");
            peer.expect_data();
        });
        peer.acknowledge();
        time
    });
    drop((stack, stream));
}

fn echo_in_network_layer(criterion: &mut Criterion, handoff: Handoff) {
    let (stack, peer) = scripted_stack(handoff);
    let mut sequence = 0;
    measure(criterion, handoff, "ICMP echo turned in the network layer", || {
        sequence = u16::wrapping_add(sequence, 1);
        let request = peer.echo_request(sequence, &[0x5a; 56]);
        timed(|| {
            peer.inject(request);
            peer.expect_icmp();
        })
    });
    drop(stack);
}

/// Echoes until the peer closes.
fn serve_echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("the client connects");
    stream.set_nodelay(true).expect("an open stream takes options");
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count > 0) && stream.write_all(&byte).is_ok() {}
}

fn tcp_echo(criterion: &mut Criterion, handoff: Handoff) {
    let Pair { client, server } = Pair::start_with(true, handoff);
    let listener = server.listen((SERVER, PORT)).expect("the port is free");
    let service = std::thread::spawn(move || serve_echo(&listener));
    let mut stream = client.connect((SERVER, PORT)).expect("the server listens");
    stream.set_nodelay(true).expect("an open stream takes options");
    let mut byte = [1];
    measure(criterion, handoff, "1-byte TCP echo through two stacks", || {
        timed(|| {
            stream.write_all(&byte).expect("the server echoes");
            stream.read_exact(&mut byte).expect("the server echoes");
        })
    });
    drop(stream);
    service.join().expect("the echo service ends with its client");
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    let mut criterion = criterion.configure_from_args();
    for handoff in Handoff::ALL {
        frame_to_read(&mut criterion, handoff);
        write_to_frame(&mut criterion, handoff);
        echo_in_network_layer(&mut criterion, handoff);
        tcp_echo(&mut criterion, handoff);
    }
    criterion.final_summary();
}
