//! What a hundred thousand idle connections cost the busy ones: round trips and bulk without them and beside them. Takes a minute to open them.

#[path = "support/services.rs"]
#[allow(dead_code, reason = "each bench uses its own part of this")]
mod services;
mod support;

use criterion::{Criterion, SamplingMode, Throughput};
use hopline::socket::{Interest, Poller, TcpListener, TcpStream};
use services::{BLOCK, DISCARD, ECHO, TRANSFER};
use std::time::Duration;
use support::pair::{Pair, SERVER};

/// Idle connections; `HOPLINE_BENCH_IDLE` says otherwise.
const IDLE: usize = 100_000;
/// They are spread over ports, since one remote address has 28,000 ports for each of ours.
const FIRST_PORT: u16 = 1_000;
const PER_PORT: usize = 20_000;

/// Opens idle connections; both ends are registered at a poller, and held by what comes back.
fn open_idle(pair: &Pair, count: usize) -> (Poller, Vec<TcpStream>) {
    let poller = Poller::new().expect("a poller");
    let mut streams = Vec::with_capacity(2 * count);
    for (index, first) in (0..count).step_by(PER_PORT).enumerate() {
        let port = FIRST_PORT + index as u16;
        let listener = pair.server.listen((SERVER, port)).expect("the port is free");
        (first..count.min(first + PER_PORT)).for_each(|_| open_one(pair, &listener, port, &poller, &mut streams));
    }
    (poller, streams)
}

fn open_one(pair: &Pair, listener: &TcpListener, port: u16, poller: &Poller, streams: &mut Vec<TcpStream>) {
    let near = pair.client.connect((SERVER, port)).expect("the server listens");
    let (far, _) = listener.accept().expect("the handshake is complete");
    for stream in [near, far] {
        poller.register(&stream, streams.len() as u64, Interest::READABLE).expect("a new token");
        streams.push(stream);
    }
}

fn measure(criterion: &mut Criterion, pair: &Pair, idle: usize) {
    let mut group = criterion.benchmark_group(format!("beside {idle} idle connections"));
    let mut echo = pair.client.connect((SERVER, ECHO)).expect("the server listens");
    echo.set_nodelay(true).expect("an open stream has options");
    group.bench_function("1-byte round trip", |bencher| bencher.iter(|| services::round_trip(&mut echo)));
    let mut sink = pair.client.connect((SERVER, DISCARD)).expect("the server listens");
    let block = vec![0x5a; BLOCK];
    group.sampling_mode(SamplingMode::Flat).sample_size(20).throughput(Throughput::Bytes(TRANSFER as u64));
    group.bench_function("bulk", |bencher| bencher.iter(|| services::send(&mut sink, &block)));
    group.finish();
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let mut criterion = criterion.configure_from_args();
    let count = std::env::var("HOPLINE_BENCH_IDLE").ok().and_then(|text| text.parse().ok()).unwrap_or(IDLE);
    let pair = Pair::start(true);
    services::serve(&pair.server, SERVER);
    measure(&mut criterion, &pair, 0);
    let idle = open_idle(&pair, count);
    measure(&mut criterion, &pair, count);
    criterion.final_summary();
    drop(pair);
    drop(idle);
}
