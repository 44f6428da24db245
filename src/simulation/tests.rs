use super::*;
use crate::layer::DropReason;
use crate::socket::{TcpListener, TcpStream};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

fn pair(seed: u64, impairments: &Impairments) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let a = world.host(HostOptions::new("192.0.2.1/24"));
    let b = world.host(HostOptions::new("192.0.2.2/24"));
    world.join(&[a, b], impairments);
    (world, a, b)
}

fn connected(world: &mut World, a: HostId, b: HostId) -> (TcpStream, TcpStream, TcpListener) {
    let listener = world[b].listen("192.0.2.2:80").unwrap();
    let stream = world[a].connect("192.0.2.2:80").unwrap();
    let mut accepted = None;
    world.run_until(Duration::from_secs(60), || {
        accepted = accepted.take().or_else(|| listener.accept().ok());
        accepted.is_some()
    });
    let (peer, _) = accepted.unwrap_or_else(|| panic!("no connection:\n{world}"));
    (stream, peer, listener)
}

fn is_blocked<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn bytes_cross_and_both_ends_close() {
    let (mut world, a, b) = pair(1, &Impairments { delay: Duration::from_millis(5), ..Impairments::default() });
    let (mut stream, mut peer, _listener) = connected(&mut world, a, b);
    stream.write_all(b"hello").unwrap();
    let mut greeting = [0; 5];
    assert!(world.run_until(Duration::from_secs(1), || peer.read(&mut greeting).is_ok()), "{world}");
    assert_eq!(&greeting, b"hello");
    assert!(is_blocked(&peer.read(&mut greeting)));
    drop(stream);
    assert!(world.run_until(Duration::from_secs(1), || peer.read(&mut greeting).is_ok_and(|count| count == 0)), "{world}");
    drop(peer);
    world.run_for(Duration::from_secs(200));
    assert_eq!((world[a].connections(), world[b].connections()), (0, 0), "{world}");
}

#[test]
fn nothing_is_lost_inside_when_the_link_loses_nothing() {
    let (mut world, a, b) = pair(1, &Impairments { delay: Duration::from_millis(20), ..Impairments::default() });
    let (mut stream, mut peer, _listener) = connected(&mut world, a, b);
    let data = vec![7; 16 << 20];
    let (mut written, mut read, mut buffer) = (0, 0, vec![0; 1 << 16]);
    let done = world.run_until(Duration::from_secs(100), || {
        while let Ok(count) = stream.write(&data[written..]) {
            written += count;
            if count == 0 {
                break;
            }
        }
        while let Ok(count) = peer.read(&mut buffer) {
            read += count;
        }
        read == data.len()
    });
    assert!(done, "{written} written, {read} read\n{world}");
    for host in [a, b] {
        let drops: Vec<(DropReason, u64)> = world[host].counters().all_dropped().collect();
        assert_eq!(drops, [], "{world}");
        assert_eq!(world[host].counters().transport.segments_retransmitted.get(), 0, "{world}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, a, b) = pair(seed, &Impairments { loss: 0.1, jitter: Duration::from_millis(9), ..Impairments::default() });
        let frames = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let log = frames.clone();
        world.set_tap(move |at, from, packet| log.borrow_mut().push((at, from, packet.to_vec())));
        let (mut stream, mut peer, _listener) = connected(&mut world, a, b);
        stream.write_all(&[1; 50_000]).unwrap();
        let mut buffer = [0; 50_000];
        let mut read = 0;
        world.run_until(Duration::from_secs(60), || {
            read += peer.read(&mut buffer).unwrap_or(0);
            read == buffer.len()
        });
        assert_eq!(read, 50_000, "{world}");
        frames.take()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn a_cold_neighbour_does_not_cost_a_fragment_of_the_largest_datagram() {
    let (mut world, a, b) = pair(1, &Impairments { delay: Duration::from_millis(5), ..Impairments::default() });
    let sender = world[a].bind_udp("192.0.2.1:1000").unwrap();
    let receiver = world[b].bind_udp("0.0.0.0:2000").unwrap();
    let sent: Vec<u8> = (0..65_507_u32).map(|index| (index * 7) as u8).collect();
    sender.send_to(&sent, "192.0.2.2:2000".parse::<SocketAddr>().unwrap()).unwrap();
    let mut buffer = vec![0; 65_535];
    let mut length = 0;
    world.run_until(Duration::from_secs(1), || {
        length = receiver.recv_from(&mut buffer).map_or(0, |(length, _)| length);
        length > 0
    });
    assert_eq!(&buffer[..length], &sent[..], "{world}");
}

#[test]
fn a_host_reaches_itself() {
    let (mut world, a, _) = pair(1, &Impairments::default());
    let listener = world[a].listen("192.0.2.1:80").unwrap();
    let mut stream = world[a].connect("192.0.2.1:80").unwrap();
    stream.write_all(b"to myself").unwrap_or_else(|error| panic!("{error}\n{world}"));
    world.run_for(Duration::from_millis(10));
    let (mut peer, _) = listener.accept().unwrap();
    let mut text = [0; 9];
    peer.read_exact(&mut text).unwrap();
    assert_eq!((&text, world[a].counters().device.frames_sent.get() <= 3), (b"to myself", true), "{world}");
}

#[test]
fn many_hosts_share_one_wire() {
    let mut world = World::new(1);
    let hosts: Vec<HostId> = (1..=4).map(|last| world.host(HostOptions::new(&format!("192.0.2.{last}/24")))).collect();
    world.join(&hosts, &Impairments { delay: Duration::from_millis(1), ..Impairments::default() });
    let server = world[hosts[3]].bind_udp("0.0.0.0:7").unwrap();
    let clients: Vec<_> = hosts[..3].iter().map(|&host| world[host].bind_udp("0.0.0.0:0").unwrap()).collect();
    for client in &clients {
        client.send_to(b"ping", "192.0.2.4:7".parse::<SocketAddr>().unwrap()).unwrap();
    }
    let mut peers = std::collections::BTreeSet::new();
    let mut buffer = [0; 4];
    world.run_until(Duration::from_secs(1), || {
        peers.extend(std::iter::from_fn(|| server.recv_from(&mut buffer).ok()).map(|(_, peer)| peer.ip()));
        peers.len() == 3
    });
    assert_eq!(peers.len(), 3, "{world}");
}

#[test]
fn an_idle_world_has_no_events() {
    let (mut world, ..) = pair(1, &Impairments::default());
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.next_event(), None, "{world}");
    assert!(!world.step());
}

#[test]
fn a_lone_host_is_driven_packet_by_packet() {
    let mut host = Host::new(HostOptions { medium: Medium::Ip, ..HostOptions::new("192.0.2.1/24") });
    host.advance_to(Instant::from_secs(1));
    let _stream = host.connect("192.0.2.2:80").unwrap();
    host.advance_by(Duration::from_secs(10));
    let sent: Vec<_> = host.take_sent().into_iter().map(|sent| sent.at.as_millis() / 100).collect();
    assert_eq!(sent, [10, 20, 40, 80], "SYNs, each wait twice as long as the one before (RFC 6298 §5.5)");
}
