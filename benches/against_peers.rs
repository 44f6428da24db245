//! Hopline and smoltcp as servers at one end of the same in-memory cable, with the same client (Hopline) at the other end: frames of 1500 bytes, no
//! offload, every checksum computed and verified. No root, no network. smoltcp runs on one thread with its server, Hopline on its own ones.

#[path = "support/cable.rs"]
mod cable;
#[path = "support/services.rs"]
mod services;
#[path = "support/smoltcp_server.rs"]
mod smoltcp_server;

use cable::{End, cable};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use hopline::config::Config;
use hopline::socket::Stack;
use hopline::wire::MacAddress;
use services::{BLOCK, DISCARD, ECHO, GENERATE, TRANSFER};
use smoltcp_server::SmoltcpServer;
use std::any::Any;
use std::net::Ipv4Addr;
use std::time::Duration;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A name, and how the server is started; it lives as long as what comes back.
type Candidate = (&'static str, fn(End) -> Box<dyn Any>);

const CANDIDATES: [Candidate; 3] = [
    ("hopline", |end| {
        let stack = stack(end, SERVER);
        services::serve(&stack, SERVER);
        Box::new(stack)
    }),
    ("smoltcp, 64 KiB buffers", |end| Box::new(SmoltcpServer::start(end, SERVER, 64 << 10))),
    ("smoltcp, 1 MiB buffers", |end| Box::new(SmoltcpServer::start(end, SERVER, 1 << 20))),
];

fn stack(end: End, address: Ipv4Addr) -> Stack {
    let mut config = Config::default();
    // So that thousands of connections in a row do not use up the ports.
    config.tcp.maximum_segment_lifetime = Duration::from_millis(1);
    let address = format!("{address}/24").parse().expect("an address with a prefix");
    Stack::builder().device(end).address(address).config(config).start().expect("the stack starts")
}

/// Runs `measure` against each candidate.
fn compare(group: &mut BenchmarkGroup<'_, WallTime>, mut measure: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, &str, &Stack)) {
    for (name, start) in CANDIDATES {
        let (near, far) = cable(MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let (server, client) = (start(far), stack(near, CLIENT));
        measure(group, name, &client);
        drop((client, server));
    }
}

fn bulk(criterion: &mut Criterion) {
    let mut block = vec![0x5a; BLOCK];
    let mut group = criterion.benchmark_group("against_peers/bulk in");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Bytes(TRANSFER as u64));
    compare(&mut group, |group, name, client| {
        let mut stream = services::open(client, SERVER, DISCARD);
        group.bench_function(name, |bencher| bencher.iter(|| services::send(&mut stream, &block)));
    });
    group.finish();
    let mut group = criterion.benchmark_group("against_peers/bulk out");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Bytes(TRANSFER as u64));
    compare(&mut group, |group, name, client| {
        let mut stream = services::open(client, SERVER, GENERATE);
        group.bench_function(name, |bencher| bencher.iter(|| services::receive(&mut stream, &mut block)));
    });
    group.finish();
}

fn small(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("against_peers/1-byte round trip");
    compare(&mut group, |group, name, client| {
        let mut stream = services::open(client, SERVER, ECHO);
        stream.set_nodelay(true).expect("an open stream has options");
        group.bench_function(name, |bencher| bencher.iter(|| services::round_trip(&mut stream)));
    });
    group.finish();
    let mut group = criterion.benchmark_group("against_peers/open and close");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    compare(&mut group, |group, name, client| {
        group.bench_function(name, |bencher| bencher.iter(|| services::connect(client, SERVER)));
    });
    group.finish();
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let mut criterion = criterion.configure_from_args();
    bulk(&mut criterion);
    small(&mut criterion);
    criterion.final_summary();
}
