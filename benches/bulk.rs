//! Bulk transfer and connection set-up between two stacks in one process, over a virtual link.
//!
//! With offload, super-segments of up to 64 KB cross the link whole, as between two virtual interfaces of one host. Without it each end
//! cuts them to 1500-byte packets, sums every checksum, and merges what arrives.

mod support;

use criterion::{Criterion, SamplingMode, Throughput};
use hopline::socket::TcpStream;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use support::pair::{Pair, SERVER};
use support::samples::timed;

const PORT: u16 = 9;
/// Bytes of one measured transfer.
const TRANSFER: usize = 64 << 20;
/// Bytes of one read or write.
const BLOCK: usize = 128 << 10;

/// Reads one transfer after the other, answering each with one byte, until the peer closes.
fn serve_transfers(mut stream: TcpStream) {
    let mut block = vec![0; BLOCK];
    let mut left = TRANSFER;
    while let Ok(count @ 1..) = stream.read(&mut block) {
        left -= count;
        if left == 0 {
            left = TRANSFER;
            stream.write_all(&[1]).expect("the client waits for the answer");
        }
    }
}

fn transfer(stream: &mut TcpStream, block: &[u8]) {
    for _ in 0..TRANSFER / block.len() {
        stream.write_all(block).expect("the server reads");
    }
    stream.read_exact(&mut [0]).expect("the server answers");
}

fn bulk(criterion: &mut Criterion, name: &str, offload: bool) {
    let pair = Pair::start(offload);
    let listener = pair.server.listen((SERVER, PORT)).expect("the port is free");
    let service = std::thread::spawn(move || serve_transfers(listener.accept().expect("the client connects").0));
    let mut stream = pair.client.connect((SERVER, PORT)).expect("the server listens");
    let block = vec![0x5a; BLOCK];
    let mut group = criterion.benchmark_group("bulk");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Bytes(TRANSFER as u64));
    group.bench_function(name, |bencher| bencher.iter(|| transfer(&mut stream, &block)));
    group.finish();
    drop(stream);
    service.join().expect("the service ends with its client");
}

/// Connects, and sees the connection through to both ends' close.
fn connect(pair: &Pair) {
    let mut stream = pair.client.connect((SERVER, PORT)).expect("the server listens");
    stream.shutdown(Shutdown::Write).expect("an open stream can be closed");
    assert_eq!(stream.read(&mut [0]).expect("the server closes"), 0);
}

fn connections(criterion: &mut Criterion) {
    let pair = Pair::start(true);
    let listener = pair.server.listen((SERVER, PORT)).expect("the port is free");
    // Ends with the stack, when accept fails.
    let service = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0]);
        }
    });
    let mut group = criterion.benchmark_group("connections");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    group.bench_function("open and close, one after the other", |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| timed(|| connect(&pair))).sum());
    });
    group.finish();
    drop(pair);
    service.join().expect("the service ends with its stack");
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    let mut criterion = criterion.configure_from_args();
    bulk(&mut criterion, "super-segments of 64 KB", true);
    bulk(&mut criterion, "packets of 1500 bytes", false);
    connections(&mut criterion);
    criterion.final_summary();
}
