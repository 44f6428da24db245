//! What one hop of the pipeline costs, beside a bare crossbeam channel with a thread behind it.
//!
//! Each measurement goes there and back: into the hop's inbox and out at a channel. `asleep`: the thread behind has gone to sleep before each packet, so that it
//! has to be woken: both are parked. `at_once`: the next packet follows as soon as the last is back; a bare channel's threads spin meanwhile and never sleep, a
//! layer's yields a few times and does. `busy`: given for one packet of many on their way, nobody waits: both are busy.

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use crossbeam_channel::{Receiver, Sender, bounded};
use hopline::packet::{Packet, Pool};
use hopline::pipeline::Hop;
use std::time::{Duration, Instant};

/// Packets on their way when busy: one batch of a layer.
const WINDOW: usize = 64;
/// After this time without a packet every thread sleeps, and so does its processor: one that still polls wakes five times as fast.
const PAUSE: Duration = Duration::from_millis(1);
/// Packets of one busy measurement.
const BURST: usize = 4_096;

/// A thread behind two bounded channels that passes on what it gets, one by one.
struct Bare {
    input: Option<Sender<Packet>>,
    output: Receiver<Packet>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bare {
    fn start(packets: usize) -> Bare {
        let (input, receiver) = bounded(packets);
        let (sender, output) = bounded(packets);
        let thread = std::thread::spawn(move || receiver.into_iter().for_each(|packet| sender.send(packet).expect("the bench reads")));
        Bare { input: Some(input), output, thread: Some(thread) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.input.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What is compared.
trait Passage {
    fn send(&self, packet: Packet);
    fn receive(&self) -> Packet;
}

impl Passage for Bare {
    fn send(&self, packet: Packet) {
        self.input.as_ref().expect("open until dropped").send(packet).expect("the thread runs");
    }

    fn receive(&self) -> Packet {
        self.output.recv().expect("the thread runs")
    }
}

impl Passage for Hop {
    fn send(&self, packet: Packet) {
        assert!(Hop::send(self, packet), "the window fits");
    }

    fn receive(&self) -> Packet {
        Hop::receive(self).expect("the thread runs")
    }
}

fn packet() -> Packet {
    Packet::from_bytes(&Pool::default(), &[0x5a; 64])
}

/// One packet there and back, after a pause that is not counted.
fn after_a_pause(passage: &impl Passage, packet: &mut Option<Packet>) -> Duration {
    let pause = Instant::now();
    while pause.elapsed() < PAUSE {
        std::hint::spin_loop();
    }
    let start = Instant::now();
    passage.send(packet.take().expect("it came back"));
    *packet = Some(passage.receive());
    start.elapsed()
}

fn asleep(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, passage: &impl Passage) {
    let mut packet = Some(packet());
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| after_a_pause(passage, &mut packet)).sum());
    });
}

fn at_once(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, passage: &impl Passage) {
    let mut packet = Some(packet());
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            passage.send(packet.take().expect("it came back"));
            packet = Some(passage.receive());
        });
    });
}

/// Keeps the window full until the whole burst has come back.
fn burst(passage: &impl Passage, packets: &mut Vec<Packet>) {
    packets.drain(..).for_each(|packet| passage.send(packet));
    for _ in WINDOW..BURST {
        passage.send(passage.receive());
    }
    packets.extend((0..WINDOW).map(|_| passage.receive()));
}

fn busy(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, passage: &impl Passage) {
    let mut packets: Vec<_> = (0..WINDOW).map(|_| packet()).collect();
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(name, |bencher| bencher.iter(|| burst(passage, &mut packets)));
}

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let mut criterion = criterion.configure_from_args();
    let (hop, bare) = (Hop::start(WINDOW).expect("a thread can be started"), Bare::start(WINDOW));
    let mut group = criterion.benchmark_group("hop/asleep");
    asleep(&mut group, "crossbeam", &bare);
    asleep(&mut group, "pipeline", &hop);
    group.finish();
    let mut group = criterion.benchmark_group("hop/at_once");
    at_once(&mut group, "crossbeam", &bare);
    at_once(&mut group, "pipeline", &hop);
    group.finish();
    let mut group = criterion.benchmark_group("hop/busy");
    busy(&mut group, "crossbeam", &bare);
    busy(&mut group, "pipeline", &hop);
    group.finish();
    criterion.final_summary();
}
