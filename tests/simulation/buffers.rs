//! Buffers that grow with the path, and the figures that tell of it.

use super::{Case, accept, link, world_of};
use hopline::device::virtual_link::Impairments;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::{StreamInfo, TcpStream};
use std::io::{Read, Write};
use std::time::Duration;

/// Reads what is there; says how much.
fn drain(stream: &mut TcpStream, room: &mut [u8]) -> usize {
    std::iter::from_fn(|| stream.read(room).ok()).sum()
}

#[test]
fn buffers_grow_until_a_long_fat_path_is_full() {
    let path = Impairments {
        delay: Duration::from_millis(100),
        rate_bits_per_second: Some(200_000_000),
        queue_bytes: 5_000_000,
        ..Impairments::default()
    };
    let mut world = World::new(1);
    let hosts = [world.host(HostOptions::new("192.0.2.1/24")), world.host(HostOptions::new("192.0.2.2/24"))];
    world.join(&hosts, &path);
    let listener = world[hosts[1]].listen("0.0.0.0:80").unwrap();
    let mut writer = world[hosts[0]].connect("192.0.2.2:80").unwrap();
    let mut reader = None;
    assert!(world.run_until(Duration::from_secs(9), || {
        reader = reader.take().or_else(|| listener.accept().ok());
        reader.is_some()
    }));
    let (mut reader, _) = reader.unwrap();
    let (chunk, mut room, mut read) = (vec![7; 256 << 10], vec![0; 1 << 20], 0);
    let mut turn = || {
        while writer.write(&chunk).is_ok() {}
        read += drain(&mut reader, &mut room);
        read >= 120_000_000
    };
    // The path carries 24 MB/s for payload, of which a window of 1 MB would use a fifth: 24 s.
    assert!(world.run_until(Duration::from_secs(10), &mut turn), "{read} bytes in 10 s\n{world}");
}

/// Figures that are up to date: the first question only asks for them.
fn figures(world: &mut World, stream: &TcpStream) -> StreamInfo {
    stream.info().unwrap();
    world.settle();
    stream.info().unwrap()
}

/// The send buffer at the end of a transfer over a near path with a deep queue, on which nothing is lost.
fn grown_send_buffer(near_buffer: usize) -> usize {
    let mut world = World::new(1);
    let mut host = |address, near_buffer| {
        let mut options = HostOptions::new(address);
        (options.config.tcp.near_buffer, options.config.tcp.near_buffers) = (near_buffer, 64 << 20);
        world.host(options)
    };
    let hosts = [host("192.0.2.1/24", near_buffer), host("192.0.2.2/24", 64 << 20)];
    let (delay, rate_bits_per_second) = (Duration::from_micros(100), Some(1_000_000_000));
    world.join(&hosts, &Impairments { delay, rate_bits_per_second, queue_bytes: 64 << 20, ..Impairments::default() });
    let [_, writer, _] = transfer_with_figures(&mut world, hosts, 48 << 20);
    writer.send_buffer
}

#[test]
fn send_buffers_on_near_paths_stay_within_their_own_bound() {
    assert_eq!(grown_send_buffer(2 << 20), 2 << 20);
    assert!(grown_send_buffer(64 << 20) > 3 << 20, "the path alone lets it grow further");
}

/// The largest receive buffer of eight connections over a near path that are read in turns, each all that has come since its last one.
fn largest_receive_buffer(near_buffers: usize) -> usize {
    let mut world = World::new(1);
    let mut host = |address| {
        let mut options = HostOptions::new(address);
        options.config.tcp.near_buffers = near_buffers;
        world.host(options)
    };
    let [a, b] = [host("192.0.2.1/24"), host("192.0.2.2/24")];
    let (delay, rate_bits_per_second) = (Duration::from_micros(100), Some(10_000_000_000));
    world.join(&[a, b], &Impairments { delay, rate_bits_per_second, queue_bytes: 64 << 20, ..Impairments::default() });
    let listener = world[b].listen("0.0.0.0:80").unwrap();
    let mut flows: Vec<_> = std::iter::repeat_with(|| {
        let writer = world[a].connect("192.0.2.2:80").unwrap();
        (writer, accept(&mut world, &listener).unwrap())
    })
    .take(8)
    .collect();
    let (mut buffer, data) = (vec![0; 1 << 16], vec![7; 1 << 16]);
    for turn in 0..80 {
        for (writer, _) in &mut flows {
            while writer.write(&data).is_ok() {}
        }
        world.run_for(Duration::from_millis(1));
        drain(&mut flows[turn % 8].1, &mut buffer);
    }
    flows.iter().map(|(_, reader)| figures(&mut world, reader).receive_buffer).max().unwrap_or_default()
}

#[test]
fn near_paths_share_what_their_buffers_may_grow_to() {
    assert_eq!(largest_receive_buffer(8 << 20), 1 << 20);
    assert!(largest_receive_buffer(64 << 20) > 3 << 20, "what one turn brings lets them grow further");
}

/// A transfer in one direction: so many bytes, so many written, so many read.
struct Flow {
    writer: TcpStream,
    reader: TcpStream,
    bytes: usize,
    written: usize,
    read: usize,
}

impl Flow {
    fn open(world: &mut World, [a, b]: [HostId; 2], bytes: usize) -> Flow {
        let listener = world[b].listen("0.0.0.0:80").unwrap();
        let writer = world[a].connect("192.0.2.2:80").unwrap();
        let reader = accept(world, &listener).unwrap();
        Flow { writer, reader, bytes, written: 0, read: 0 }
    }

    #[track_caller]
    fn run_until_read(&mut self, world: &mut World, goal: usize) {
        let (mut buffer, data) = (vec![0; 1 << 16], vec![7; 1 << 16]);
        assert!(world.run_until(Duration::from_secs(600), || {
            while self.written < self.bytes
                && let Ok(count) = self.writer.write(&data[..data.len().min(self.bytes - self.written)])
            {
                self.written += count;
            }
            self.read += drain(&mut self.reader, &mut buffer);
            self.read >= goal
        }));
    }
}

/// Sends `bytes` from the first host to the second; gives the writer's figures on the way, and both ends' when all is acknowledged.
fn transfer_with_figures(world: &mut World, hosts: [HostId; 2], bytes: usize) -> [StreamInfo; 3] {
    let mut flow = Flow::open(world, hosts, bytes);
    flow.run_until_read(world, bytes * 3 / 4);
    let halfway = figures(world, &flow.writer);
    flow.run_until_read(world, bytes);
    world.run_for(Duration::from_secs(1));
    [halfway, figures(world, &flow.writer), figures(world, &flow.reader)]
}

#[test]
fn the_figures_of_a_connection_are_those_of_its_path() {
    let path = link(0.0, |link| {
        link.delay = Duration::from_millis(10);
        (link.rate_bits_per_second, link.queue_bytes) = (Some(20_000_000), 100_000);
    });
    let (mut world, hosts) = world_of(&Case { link: path, ..Case::default() }, 1);
    let [halfway, writer, reader] = transfer_with_figures(&mut world, hosts, 4_000_000);
    let line = halfway.to_string();
    assert_eq!((halfway.state, halfway.maximum_segment_size, halfway.path_mtu), ("ESTABLISHED", 1_448, 1_500), "{line}");
    assert!(halfway.timestamps && halfway.selective_acknowledgements && !halfway.ecn && halfway.window_scale.is_some(), "{line}");
    assert_eq!((halfway.send_buffer, halfway.congestion_control), (256 << 10, "cubic"), "{line}");
    // Twice the delay, and what the rate takes for a frame and for its acknowledgement.
    let (least, smoothed) = (halfway.minimum_round_trip.as_secs_f64() * 1e3, halfway.smoothed_round_trip.as_secs_f64() * 1e3);
    assert!((20.0..21.5).contains(&least) && (least..65.0).contains(&smoothed), "{line}");
    assert!(halfway.retransmission_timeout >= halfway.smoothed_round_trip + Duration::from_millis(200), "{line}");
    // The bottleneck takes 1514 bytes for each 1448 of data.
    let rate = halfway.delivery_rate as f64 / (20e6 / 8.0 * 1448.0 / 1514.0);
    assert!((0.93..1.05).contains(&rate) && !halfway.is_delivery_rate_program_limited, "{rate} of the path's rate: {line}");
    assert!(halfway.in_flight > 40_000 && halfway.in_flight <= halfway.send_window, "{line}");
    assert_eq!((writer.acknowledged_bytes, writer.in_flight, writer.unsent), (4_000_000, 0, 0), "{writer}");
    assert_eq!((reader.received_bytes, reader.unread, reader.receive_buffer), (4_000_000, 0, 256 << 10), "{reader}");
    assert!(writer.since_heard >= Duration::from_millis(900) && writer.since_sent >= writer.since_heard, "{writer}");
    assert!(reader.retransmitted == 0 && reader.acknowledged_bytes == 0, "{reader}");
}

#[test]
fn the_figures_count_what_was_lost() {
    let (mut world, hosts) = world_of(&Case { link: link(0.01, |_| ()), ..Case::default() }, 2);
    let [_, writer, reader] = transfer_with_figures(&mut world, hosts, 2_000_000);
    let lost: u64 = world.link_counters(hosts[0]).iter().map(|path| path.lost).sum();
    assert!(lost > 5 && (lost..lost + 5).contains(&writer.retransmitted), "{lost} packets were lost: {writer}");
    assert!((lost / 2..=writer.retransmitted).contains(&writer.lost), "{lost} packets were lost: {writer}");
    assert!(writer.slow_start_threshold < usize::MAX && writer.to_string().contains(" ssthresh:"), "{writer}");
    assert!(!writer.reordering_seen && reader.lost == 0, "{writer}");
}
