//! Two whole stacks under virtual time over links of every quality: what is written is read, bit for bit, or the test says with which seed it was not.

mod buffers;
mod lifecycle;

use hopline::config::{Config, PipelineConfig, SynCookies, TcpConfig};
use hopline::device::DeviceOffload;
use hopline::device::virtual_link::{BurstLoss, Impairments};
use hopline::layer::DropReason;
use hopline::packet::Packet;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::{ListenOptions, TcpListener, TcpStream};
use hopline::transport::Message;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// One row of the table: a link, two hosts, and how much they send each other.
#[derive(Clone)]
struct Case {
    name: &'static str,
    link: Impairments,
    mtu: usize,
    receive_buffer: usize,
    send_buffer: usize,
    memory: usize,
    offload: bool,
    bytes: [usize; 2],
    seeds: u64,
}

impl Default for Case {
    fn default() -> Case {
        let link = Impairments { delay: Duration::from_millis(5), ..Impairments::default() };
        Case {
            name: "",
            link,
            mtu: 1500,
            receive_buffer: 256 << 10,
            send_buffer: 256 << 10,
            memory: 1 << 30,
            offload: false,
            bytes: [60_000; 2],
            seeds: 50,
        }
    }
}

fn link(loss: f64, change: impl FnOnce(&mut Impairments)) -> Impairments {
    let mut link = Impairments { loss, delay: Duration::from_millis(5), ..Impairments::default() };
    change(&mut link);
    link
}

fn bad(link: &mut Impairments) {
    *link = Impairments {
        loss: 0.05,
        reordering: 0.05,
        reordering_delay: Duration::from_millis(7),
        duplication: 0.05,
        jitter: Duration::from_millis(2),
        ..link.clone()
    };
}

fn table() -> Vec<Case> {
    let reordering = |link: &mut Impairments| (link.reordering, link.reordering_delay) = (0.2, Duration::from_millis(8));
    let bottleneck = |link: &mut Impairments| (link.rate_bits_per_second, link.queue_bytes) = (Some(4_000_000), 20_000);
    let burst = BurstLoss { enter: 0.02, leave: 0.3, loss: 0.8, step: Duration::from_millis(10) };
    let case = Case::default;
    vec![
        Case { name: "perfect", link: Impairments::default(), bytes: [300_000, 100_000], ..case() },
        Case { name: "5 % loss", link: link(0.05, |_| ()), ..case() },
        Case { name: "20 % loss", link: link(0.2, |_| ()), bytes: [20_000, 20_000], ..case() },
        Case { name: "bursts of loss", link: link(0.0, |link| link.burst_loss = Some(burst)), ..case() },
        Case { name: "reordering", link: link(0.0, reordering), ..case() },
        Case { name: "duplication", link: link(0.0, |link| link.duplication = 0.3), ..case() },
        Case { name: "corruption", link: link(0.0, |link| link.corruption = 0.05), ..case() },
        Case { name: "loss, reordering, duplication, jitter", link: link(0.0, bad), seeds: 100, ..case() },
        Case { name: "the same with corruption", link: Impairments { corruption: 0.02, ..link(0.0, bad) }, ..case() },
        Case { name: "bad link, smallest MTU", link: link(0.0, bad), mtu: 576, ..case() },
        Case { name: "bad link, jumbo frames", link: link(0.0, bad), mtu: 9000, ..case() },
        Case { name: "bad link, super-segments", link: link(0.0, bad), offload: true, bytes: [300_000; 2], ..case() },
        Case { name: "bad link, tiny windows", link: link(0.0, bad), receive_buffer: 4_096, bytes: [30_000; 2], ..case() },
        Case { name: "bad link, tiny send buffer", link: link(0.0, bad), send_buffer: 4_096, bytes: [30_000; 2], ..case() },
        Case { name: "bad link, memory always used up", link: link(0.0, bad), memory: 0, bytes: [30_000; 2], ..case() },
        Case { name: "narrow with a short queue", link: link(0.0, bottleneck), ..case() },
        Case { name: "narrow and bad", link: Impairments { loss: 0.02, ..link(0.02, bottleneck) }, ..case() },
        Case { name: "far away", link: link(0.02, |link| link.delay = Duration::from_millis(300)), ..case() },
        Case { name: "no delay at all, lossy", link: link(0.05, |link| link.delay = Duration::ZERO), ..case() },
        Case { name: "one way only", link: link(0.0, bad), bytes: [100_000, 0], ..case() },
        Case { name: "nothing at all", link: link(0.0, bad), bytes: [0, 0], ..case() },
    ]
}

#[test]
fn whatever_the_link_does_the_bytes_arrive_in_order_and_both_ends_close() {
    for case in table() {
        for seed in 0..case.seeds {
            transfer(&case, seed);
        }
    }
}

fn host(case: &Case, address: &str) -> HostOptions {
    let tcp = TcpConfig {
        receive_buffer: case.receive_buffer,
        receive_buffer_maximum: case.receive_buffer,
        send_buffer: case.send_buffer,
        send_buffer_maximum: case.send_buffer,
        memory_bytes: case.memory,
        ..TcpConfig::default()
    };
    let all = DeviceOffload { checksum: true, tcp_segmentation_ipv4: true, tcp_segmentation_ipv6: true, udp_segmentation: true };
    HostOptions {
        mtu: case.mtu,
        offload: if case.offload { all } else { DeviceOffload::default() },
        config: Config { tcp, ..Config::default() },
        ..HostOptions::new(address)
    }
}

fn world_of(case: &Case, seed: u64) -> (World, [HostId; 2]) {
    let mut world = World::new(seed);
    let hosts = [world.host(host(case, "192.0.2.1/24")), world.host(host(case, "192.0.2.2/24"))];
    world.join(&hosts, &case.link);
    (world, hosts)
}

/// One end of a transfer: writes its pattern, closes, reads the other's to the end.
struct End {
    stream: TcpStream,
    to_write: usize,
    written: usize,
    read: usize,
    writes: u8,
    reads: u8,
    is_closed: bool,
    is_finished: bool,
    failure: Option<std::io::Error>,
}

/// What stands at a place of the stream: differs between places that lie near each other, and between the directions.
fn pattern(salt: u8, position: usize) -> u8 {
    let mixed = (position as u32).wrapping_mul(0x9e37_79b9) ^ (position as u32 >> 7);
    (mixed >> 24) as u8 ^ salt
}

impl End {
    fn new(stream: TcpStream, to_write: usize, writes: u8, reads: u8) -> End {
        End { stream, to_write, written: 0, read: 0, writes, reads, is_closed: false, is_finished: false, failure: None }
    }

    fn turn(&mut self) {
        if let Err(error) = self.write().and_then(|()| self.read())
            && error.kind() != ErrorKind::WouldBlock
        {
            self.failure.get_or_insert(error);
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.to_write {
            let end = self.to_write.min(self.written + 10_000);
            let chunk: Vec<u8> = (self.written..end).map(|position| pattern(self.writes, position)).collect();
            match self.stream.write(&chunk) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if !std::mem::replace(&mut self.is_closed, true) {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 5_000];
        while !self.is_finished {
            let count = self.stream.read(&mut buffer)?;
            for (offset, &byte) in buffer[..count].iter().enumerate() {
                assert_eq!(byte, pattern(self.reads, self.read + offset), "byte {} of direction {}", self.read + offset, self.reads);
            }
            self.read += count;
            self.is_finished = count == 0;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.failure.is_some() || (self.is_closed && self.is_finished)
    }
}

fn accept(world: &mut World, listener: &TcpListener) -> Option<TcpStream> {
    let mut accepted = None;
    world.run_until(Duration::from_secs(300), || {
        accepted = accepted.take().or_else(|| listener.accept().ok());
        accepted.is_some()
    });
    accepted.map(|(stream, _)| stream)
}

fn transfer(case: &Case, seed: u64) {
    let (mut world, [a, b]) = world_of(case, seed);
    let what = format!("{}, seed {seed}", case.name);
    let listener = world[b].listen("0.0.0.0:80").unwrap();
    let client = world[a].connect("192.0.2.2:80").unwrap();
    let Some(server) = accept(&mut world, &listener) else { panic!("{what}: no connection\n{world}") };
    let mut ends = [End::new(client, case.bytes[0], 1, 2), End::new(server, case.bytes[1], 2, 1)];
    let done = world.run_until(Duration::from_secs(3_600), || {
        ends.iter_mut().for_each(End::turn);
        ends.iter().all(End::is_done)
    });
    for (index, end) in ends.iter().enumerate() {
        let End { written, read, is_closed, is_finished, failure, .. } = end;
        let state = format!("end {index}: {written} written, {read} read, closed {is_closed}, finished {is_finished}, {failure:?}");
        let complete = done && failure.is_none() && *read == case.bytes[1 - index];
        assert!(complete, "{what}: {state}\n{:?}\n{world}", end.stream);
    }
    drop((ends, listener));
    world.run_for(Duration::from_secs(200));
    assert_eq!((world[a].connections(), world[b].connections()), (0, 0), "{what}: connections are left\n{world}");
}

#[test]
fn connections_open_and_close_in_every_way_under_loss() {
    for seed in 0..100 {
        let case = Case { link: link(0.15, |_| ()), ..Case::default() };
        let (mut world, [a, b]) = world_of(&case, seed);
        let listener = world[b].listen("0.0.0.0:80").unwrap();
        let streams: Vec<TcpStream> = (0..6).map(|_| world[a].connect("192.0.2.2:80").unwrap()).collect();
        let mut accepted = Vec::new();
        world.run_until(Duration::from_secs(400), || {
            accepted.extend(listener.accept().ok());
            accepted.len() == streams.len()
        });
        // A SYN that is lost seven times in a row fails its connection: rare, and no stall.
        let failed = streams.iter().filter(|stream| matches!(stream.connected(), Some(Err(_)))).count();
        assert_eq!(accepted.len() + failed, streams.len(), "seed {seed}\n{world}");
        for (index, (mut stream, (mut peer, _))) in streams.into_iter().zip(accepted).enumerate() {
            match index % 3 {
                0 => drop((stream, peer)),
                1 => {
                    stream.write_all(b"unread").ok();
                    stream.shutdown(Shutdown::Both).ok();
                    peer.write_all(b"unread").ok();
                    drop(peer);
                    world.run_for(Duration::from_millis(index as u64 * 7));
                }
                _ => {
                    stream.set_linger(Some(Duration::ZERO)).unwrap();
                    drop(stream);
                    world.run_for(Duration::from_millis(3));
                    peer.shutdown(Shutdown::Write).ok();
                }
            }
        }
        drop(listener);
        world.run_for(Duration::from_secs(1_500));
        assert_eq!((world[a].connections(), world[b].connections()), (0, 0), "seed {seed}: connections are left\n{world}");
    }
}

#[test]
fn little_room_on_the_way_to_the_device_stalls_nobody() {
    for room in [1, 2, 3, 8] {
        let pipeline = PipelineConfig { device_room_packets: room, ..PipelineConfig::default() };
        let options = |address| {
            let case = Case { offload: room == 3, ..Case::default() };
            let config = Config { pipeline: pipeline.clone(), ..host(&case, address).config };
            HostOptions { config, ..host(&case, address) }
        };
        let mut world = World::new(room as u64);
        let hosts = [world.host(options("192.0.2.1/24")), world.host(options("192.0.2.2/24"))];
        world.join(&hosts, &link(0.01, |_| ()));
        let listener = world[hosts[1]].listen("0.0.0.0:80").unwrap();
        let sockets: Vec<_> = (0..3).map(|_| world[hosts[0]].bind_udp("0.0.0.0:0").unwrap()).collect();
        let mut ends = Vec::new();
        for _ in 0..8 {
            let client = world[hosts[0]].connect("192.0.2.2:80").unwrap();
            let server = accept(&mut world, &listener).unwrap();
            ends.push(End::new(client, 100_000, 1, 2));
            ends.push(End::new(server, 100_000, 2, 1));
        }
        let mut datagrams = 0;
        let done = world.run_until(Duration::from_secs(600), || {
            ends.iter_mut().for_each(End::turn);
            if datagrams < 3_000 {
                let sent = sockets.iter().filter(|socket| socket.send_to(&[0; 700], "192.0.2.2:9".parse::<SocketAddr>().unwrap()).is_ok());
                datagrams += sent.count();
            }
            ends.iter().all(End::is_done)
        });
        let failures: Vec<_> = ends.iter().filter_map(|end| end.failure.as_ref()).collect();
        assert!(done && failures.is_empty(), "room for {room}, {datagrams} datagrams: {failures:?}\n{world}");
    }
}

#[test]
fn a_listener_under_more_connections_than_it_can_take_serves_them_all_in_the_end() {
    let mut world = World::new(5);
    // Whoever got a cookie believes to be connected, and would wait without a word.
    let tcp = TcpConfig { syn_queue: 16, syn_cookies: SynCookies::Off, ..TcpConfig::default() };
    let server = HostOptions { config: Config { tcp, ..Config::default() }, ..HostOptions::new("192.0.2.2/24") };
    let hosts = [world.host(HostOptions::new("192.0.2.1/24")), world.host(server)];
    world.join(&hosts, &link(0.0, |_| ()));
    let few = ListenOptions { backlog: Some(12), ..ListenOptions::default() };
    let listener = world[hosts[1]].listen_with("0.0.0.0:80", &few).unwrap();
    let mut waiting: Vec<TcpStream> = (0..60).map(|_| world[hosts[0]].connect("192.0.2.2:80").unwrap()).collect();
    for stream in &mut waiting {
        // Too early, or taken by the connection: both are fine.
        stream.write_all(b"hello").ok();
    }
    let mut served = Vec::new();
    for _ in 0..6_000 {
        world.run_for(Duration::from_millis(50));
        served.extend(listener.accept().ok());
    }
    let failed = waiting.iter().filter(|stream| matches!(stream.connected(), Some(Err(_)))).count();
    assert!(world[hosts[1]].counters().dropped(DropReason::ListenerFull).get() > 0, "the bounds were not reached");
    assert_eq!((served.len(), failed), (60, 0), "{world}");
    drop((served, waiting, listener));
    world.run_for(Duration::from_secs(2_000));
    assert_eq!((world[hosts[0]].connections(), world[hosts[1]].connections()), (0, 0), "{world}");
}

#[test]
fn a_closed_port_refuses_streams_and_datagrams() {
    let (mut world, [a, _]) = world_of(&Case::default(), 1);
    let mut stream = world[a].connect("192.0.2.2:80").unwrap();
    let socket = world[a].bind_udp("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.2:9".parse::<SocketAddr>().unwrap()).unwrap();
    socket.send(b"anybody?").unwrap();
    world.run_for(Duration::from_secs(2));
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{world}");
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{world}");
}

#[test]
fn closing_everything_leaves_both_hosts_quiet() {
    for seed in 0..20 {
        let (mut world, [a, b]) = world_of(&Case { link: link(0.1, |_| ()), ..Case::default() }, seed);
        let listener = world[b].listen("0.0.0.0:80").unwrap();
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut client = world[a].connect("192.0.2.2:80").unwrap();
            streams.extend(accept(&mut world, &listener));
            client.write_all(&[1; 20_000]).ok();
            streams.push(client);
        }
        world[a].tell_transport(Message::CloseAll);
        world[b].tell_transport(Message::CloseAll);
        world.run_for(Duration::from_secs(120));
        assert!(world[a].is_quiet() && world[b].is_quiet(), "seed {seed}\n{world}");
        drop(streams);
        world[a].tell_transport(Message::AbortAll);
        world[b].tell_transport(Message::AbortAll);
        world.run_for(Duration::from_secs(1));
        assert_eq!((world[a].connections(), world[b].connections()), (0, 0), "seed {seed}\n{world}");
    }
}

#[test]
fn a_neighbour_that_asked_first_is_asked_back_under_our_own_address() {
    let (mut world, [a, b]) = world_of(&Case::default(), 1);
    let listener = world[b].listen("0.0.0.0:80").unwrap();
    let mut client = world[a].connect("192.0.2.2:80").unwrap();
    let server = accept(&mut world, &listener).unwrap();
    for _ in 0..20 {
        client.write_all(b"still here").unwrap();
        world.run_for(Duration::from_secs(5));
    }
    for host in [a, b] {
        assert_eq!(world[host].counters().link.address_conflicts.get(), 0, "{world}");
    }
    drop(server);
}

/// The bytes of TCP payload in an Ethernet frame.
fn payload_of(frame: &Packet) -> usize {
    let bytes = frame.to_vec();
    if bytes.get(12..14) != Some(&[8, 0]) || bytes.get(23) != Some(&6) {
        return 0;
    }
    let header = usize::from(bytes[14] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    total - header - usize::from(bytes[14 + header + 12] >> 4) * 4
}

#[test]
fn no_frame_exceeds_the_mtu_and_small_writes_become_large_segments() {
    let (mut world, [a, b]) = world_of(&Case::default(), 1);
    let frames = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = frames.clone();
    world.set_tap(move |_, _, frame| log.borrow_mut().push((frame.len(), payload_of(frame))));
    let listener = world[b].listen("0.0.0.0:80").unwrap();
    let mut client = world[a].connect("192.0.2.2:80").unwrap();
    let mut server = accept(&mut world, &listener).unwrap();
    (0..10_000).for_each(|_| assert_eq!(client.write(b"0123456789").unwrap(), 10));
    let (mut read, mut buffer) = (0, [0; 4_096]);
    world.run_until(Duration::from_secs(60), || {
        while let Ok(count) = server.read(&mut buffer) {
            read += count;
        }
        read == 100_000
    });
    assert_eq!(read, 100_000, "{world}");
    let frames = frames.borrow();
    assert!(frames.iter().all(|&(length, _)| length <= 1514));
    let carrying = frames.iter().filter(|&&(_, payload)| payload > 0).count();
    assert!(carrying < 80, "{carrying} segments for 100,000 bytes");
}

/// Megabits per second of payload from one host to the other in virtual time, through a bottleneck of 100 Mbit/s.
fn throughput(loss: f64, delay_millis: u64) -> f64 {
    const BYTES: usize = 8 << 20;
    let change = |link: &mut Impairments| {
        link.delay = Duration::from_millis(delay_millis);
        (link.rate_bits_per_second, link.queue_bytes) = (Some(100_000_000), 500_000);
    };
    let case = Case { link: link(loss, change), receive_buffer: 4 << 20, send_buffer: 4 << 20, ..Case::default() };
    let (mut world, [a, b]) = world_of(&case, 1);
    let listener = world[b].listen("0.0.0.0:80").unwrap();
    let mut client = world[a].connect("192.0.2.2:80").unwrap();
    let mut server = accept(&mut world, &listener).unwrap();
    let (start, data) = (world.now(), vec![7; 1 << 16]);
    let (mut written, mut read, mut buffer) = (0, 0, vec![0; 1 << 16]);
    let done = world.run_until(Duration::from_secs(3_600), || {
        while written < BYTES
            && let Ok(count) = client.write(&data)
        {
            written += count;
        }
        while let Ok(count) = server.read(&mut buffer) {
            read += count;
        }
        read >= BYTES
    });
    assert!(done, "loss {loss}, delay {delay_millis} ms\n{world}");
    read as f64 * 8.0 / world.now().since(start).as_secs_f64() / 1e6
}

#[test]
fn throughput_over_loss_and_delay_stays_above_its_floors() {
    let mut table = String::from("Mbit/s    0 ms   1 ms  10 ms  50 ms\n");
    let mut is_low = false;
    // Floors, not goals: about two thirds of what is reached today, so that a change for the worse is seen.
    let rows = [
        (0.0, [60.0, 60.0, 55.0, 30.0]),
        (0.001, [60.0, 60.0, 30.0, 11.0]),
        (0.01, [60.0, 44.0, 5.0, 1.0]),
        // With few segments in flight, losses are often the last ones: the timer's 200 ms are most of the time.
        (0.05, [25.0, 12.0, 1.7, 0.4]),
    ];
    for (loss, floors) in rows {
        table += &format!("{:>4} %", loss * 100.0);
        for (delay, floor) in [0, 1, 10, 50].into_iter().zip(floors) {
            let reached = throughput(loss, delay);
            is_low |= reached < floor;
            table += &format!("{reached:>7.1}");
        }
        table += "\n";
    }
    println!("{table}");
    assert!(!is_low, "{table}");
}
