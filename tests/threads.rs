//! Two whole stacks on threads, joined by a virtual link in real time.

#[path = "common/handoff.rs"]
mod handoff;

use hopline::config::Config;
use hopline::counters::Counters;
use hopline::device::Device;
use hopline::device::virtual_link::{LinkMedium, LinkOptions, pair};
use hopline::layer::DropReason;
use hopline::packet::Pool;
use hopline::random::PublicRandom;
use hopline::socket::{Event, Handoff, Interest, Poller, Stack, TcpListener, TcpStream};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "192.0.2.2";
const GRACE: Duration = Duration::from_secs(5);

fn stacks() -> (Stack, Stack) {
    stacks_with(LinkOptions::default(), Config::default())
}

fn stacks_with(link: LinkOptions, config: Config) -> (Stack, Stack) {
    let (left, right) = pair(link);
    let build = |device, address: &str, seed| {
        let address = format!("{address}/24").parse().unwrap();
        let builder = Stack::builder().device(device).address(address).config(config.clone());
        builder.handoff(handoff::current()).seed(seed).start().unwrap()
    };
    (build(left, CLIENT, 1), build(right, SERVER, 2))
}

/// A connection between two stacks: the client's end and the server's.
fn connection(client: &Stack, server: &Stack) -> (TcpStream, TcpStream) {
    let listener = server.listen("0.0.0.0:80").unwrap();
    let stream = client.connect((SERVER, 80)).unwrap();
    (stream, listener.accept().unwrap().0)
}

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut random = PublicRandom::from_seed(seed);
    (0..count.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).take(count).collect()
}

/// Nothing was dropped; a segment that was sent again too early, on a busy machine, is no loss. If it was the last one, it may
/// find nobody, and a reset answers it.
#[track_caller]
fn assert_nothing_lost(counters: &Counters) {
    assert_eq!(counters.pipeline.inbox_overflows.get(), 0);
    let dropped: Vec<_> = counters
        .all_dropped()
        .filter(|(reason, _)| ![DropReason::OutOfWindow, DropReason::NoSocket, DropReason::LateReset].contains(reason))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

fn datagrams_are_echoed() {
    let (client, server) = stacks();
    let echo = server.bind_udp("0.0.0.0:7").unwrap();
    let socket = client.bind_udp("0.0.0.0:0").unwrap();
    let answering = thread::spawn(move || {
        let mut buffer = [0; 2_000];
        for _ in 0..100 {
            let (length, from) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..length], from).unwrap();
        }
    });
    let server_address: std::net::SocketAddr = format!("{SERVER}:7").parse().unwrap();
    for number in 0..100u32 {
        socket.send_to(&number.to_be_bytes(), server_address).unwrap();
        let mut buffer = [0; 2_000];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&number.to_be_bytes()[..], server_address));
    }
    answering.join().unwrap();
    client.shutdown(GRACE).unwrap();
    server.shutdown(GRACE).unwrap();
}

fn an_unanswered_ping_and_an_answered_one() {
    use hopline::socket::IcmpEvent;
    let (client, _server) = stacks();
    let socket = client.bind_icmp("0.0.0.0".parse().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let sent = socket.send_echo(SERVER.parse().unwrap(), 1, &[7; 56]).unwrap();
    let mut data = [0; 56];
    let IcmpEvent::Reply(reply) = socket.receive(&mut data).unwrap() else { panic!("an error instead of a reply") };
    assert_eq!((reply.sequence, reply.length, data), (1, 56, [7; 56]));
    assert!(reply.arrived > sent);
    socket.send_echo("192.0.2.99".parse().unwrap(), 2, b"").unwrap();
    let IcmpEvent::Error(error) = socket.receive(&mut data).unwrap() else { panic!("a reply from nobody") };
    assert_eq!((error.sequence, error.reporter), (Some(2), CLIENT.parse().unwrap()));
}

fn a_stream_echoes_and_ends() {
    let (client, server) = stacks();
    let (mut ours, mut theirs) = connection(&client, &server);
    let echoing = thread::spawn(move || {
        let mut buffer = [0; 1_000];
        loop {
            match theirs.read(&mut buffer).unwrap() {
                0 => return,
                length => theirs.write_all(&buffer[..length]).unwrap(),
            }
        }
    });
    for number in 0..100u64 {
        ours.write_all(&number.to_be_bytes()).unwrap();
        let mut buffer = [0; 8];
        ours.read_exact(&mut buffer).unwrap();
        assert_eq!(u64::from_be_bytes(buffer), number);
    }
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
    echoing.join().unwrap();
    drop(ours);
    client.shutdown(GRACE).unwrap();
    server.shutdown(GRACE).unwrap();
}

/// 100 MB each way at once, bit-exact, and the pipeline itself loses nothing.
fn bulk_transfer_each_way_loses_nothing() {
    const BYTES: usize = 100_000_000;
    let (client, server) = stacks();
    let (ours, theirs) = connection(&client, &server);
    let started = Instant::now();
    thread::scope(|scope| {
        for (stream, out, back) in [(&ours, 1, 2), (&theirs, 2, 1)] {
            scope.spawn(move || (&mut &*stream).write_all(&bytes(out, BYTES)).and_then(|()| stream.shutdown(Shutdown::Write)).unwrap());
            scope.spawn(move || {
                let mut received = Vec::with_capacity(BYTES);
                (&mut &*stream).read_to_end(&mut received).unwrap();
                assert!(received == bytes(back, BYTES), "{} bytes arrived, not all as they were sent", received.len());
            });
        }
    });
    eprintln!("{:.1} Mbit/s each way", BYTES as f64 * 8e-6 / started.elapsed().as_secs_f64());
    drop((ours, theirs));
    client.shutdown(GRACE).unwrap();
    server.shutdown(GRACE).unwrap();
    assert_nothing_lost(client.counters());
    assert_nothing_lost(server.counters());
}

const CLIENTS: usize = 200;

/// The first client alone: the stacks get to know each other's addresses, for which fewer packets may wait than all would send at once.
fn run_clients(client: &Stack) {
    run_client(client, 0);
    thread::scope(|scope| {
        for number in 1..CLIENTS {
            scope.spawn(move || run_client(client, number));
        }
    });
}

/// Sends its number's worth of bytes, and expects them back.
fn run_client(client: &Stack, number: usize) {
    let mut stream = client.connect((SERVER, 80)).unwrap();
    let message = bytes(number as u64, 1_000 + number);
    stream.write_all(&message).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, message);
}

fn two_hundred_clients_by_threads() {
    let (client, server) = stacks();
    let listener = server.listen("0.0.0.0:80").unwrap();
    let serving = thread::spawn(move || {
        let serve = |mut stream: TcpStream| {
            let mut message = Vec::new();
            stream.read_to_end(&mut message).unwrap();
            stream.write_all(&message).unwrap();
        };
        let threads: Vec<_> = listener.incoming().take(CLIENTS).map(|stream| thread::spawn(move || serve(stream.unwrap()))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    run_clients(&client);
    serving.join().unwrap();
    assert_nothing_lost(server.counters());
}

/// Echoes on every connection that comes, from one thread, until `count` have ended.
fn serve_by_poller(listener: &TcpListener, count: usize) -> io::Result<()> {
    let poller = Poller::new()?;
    listener.set_nonblocking(true)?;
    poller.register(listener, 0, Interest::READABLE)?;
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let (mut events, mut next, mut ended) = (Vec::new(), 1, 0);
    while ended < count {
        poller.wait(&mut events, None)?;
        for &Event { token, .. } in &events {
            if token == 0 {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                poller.register(&stream, next, Interest::READABLE)?;
                streams.insert(next, stream);
                next += 1;
            } else if echo_what_is_there(&streams[&token])? {
                poller.deregister(token)?;
                streams.remove(&token);
                ended += 1;
            }
        }
    }
    Ok(())
}

/// True at the end of the stream. What a client sends fits into the send buffer.
fn echo_what_is_there(mut stream: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 4_096];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(true),
        Ok(length) => stream.write_all(&buffer[..length]).map(|()| false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn two_hundred_clients_by_one_poller_thread() {
    let (client, server) = stacks();
    let listener = server.listen("0.0.0.0:80").unwrap();
    let serving = thread::spawn(move || serve_by_poller(&listener, CLIENTS).unwrap());
    run_clients(&client);
    serving.join().unwrap();
    assert_nothing_lost(server.counters());
}

fn an_idle_stack_sleeps() {
    let (client, server) = stacks();
    let (ours, theirs) = connection(&client, &server);
    let wakeups = || {
        let counters = &client.counters().pipeline;
        counters.link_wakeups.get() + counters.network_wakeups.get() + counters.transport_wakeups.get()
    };
    // The handshake's last acknowledgement and ARP's timers come to rest within this time, or the test would see it.
    let mut before = wakeups();
    let mut quiet = 0;
    while quiet < 5 {
        thread::sleep(Duration::from_millis(100));
        quiet = if wakeups() == before { quiet + 1 } else { 0 };
        before = wakeups();
    }
    drop((ours, theirs));
}

/// As with `std::net`: what was dropped is given back when its port is asked for again.
fn ports_of_dropped_sockets_are_free_at_once() {
    let (_client, server) = stacks();
    for _ in 0..500 {
        drop(server.listen("0.0.0.0:80").unwrap());
        drop(server.bind_udp("0.0.0.0:80").unwrap());
    }
}

fn nobody_listens() {
    let (client, _server) = stacks();
    assert_eq!(client.connect((SERVER, 81)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let late = client.connect_timeout(("192.0.2.99", 80), Duration::from_millis(50)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
}

fn the_first_address_that_answers_wins() {
    let (client, server) = stacks();
    let listener = server.listen("0.0.0.0:80").unwrap();
    let addresses = ["192.0.2.99:80", "192.0.2.2:81", "192.0.2.2:80"].map(|address| address.parse().unwrap());
    let stream = client.connect(&addresses[..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[2]);
    listener.accept().unwrap();
}

/// Whether a call is blocked cannot be seen from outside, and one that comes late is told `NotConnected`: then they get more time.
fn shutdown_ends_what_was_blocked_and_refuses_what_comes() {
    assert!([50, 500, 5_000].into_iter().any(shut_down_after), "blocked calls are not told that they were aborted");
}

/// Whether the calls that were to block did so after so many milliseconds.
fn shut_down_after(millis: u64) -> bool {
    let (client, server) = stacks();
    let (ours, theirs) = connection(&client, &server);
    let listener = client.listen("0.0.0.0:90").unwrap();
    let socket = client.bind_udp("0.0.0.0:0").unwrap();
    let (reader, acceptor, receiver) = (ours.try_clone().unwrap(), listener.try_clone().unwrap(), socket.try_clone().unwrap());
    let blocked = [
        thread::spawn(move || (&reader).read(&mut [0; 1]).map(drop)),
        thread::spawn(move || acceptor.accept().map(drop)),
        thread::spawn(move || receiver.recv(&mut [0; 1]).map(drop)),
    ];
    thread::sleep(Duration::from_millis(millis));
    client.shutdown(Duration::from_millis(100)).unwrap();
    let ends = blocked.map(|call| call.join().unwrap().unwrap_err().kind());
    assert!(ends.iter().all(|end| matches!(end, ErrorKind::ConnectionAborted | ErrorKind::NotConnected)), "{ends:?}");
    assert_eq!((&ours).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!((&ours).write(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(socket.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(client.connect((SERVER, 80)).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(client.bind_udp("0.0.0.0:0").unwrap_err().kind(), ErrorKind::NotConnected);
    client.shutdown(GRACE).unwrap();
    // The peer was told.
    assert!(matches!((&theirs).read(&mut [0; 1]), Ok(0) | Err(_)));
    ends == [ErrorKind::ConnectionAborted; 3]
}

fn shutdown_lets_what_was_written_arrive() {
    let (client, server) = stacks();
    let (ours, mut theirs) = connection(&client, &server);
    // As much as the buffers take while nobody reads.
    let message = bytes(3, 500_000);
    (&ours).write_all(&message).unwrap();
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).map(|_| received)
    });
    client.shutdown(GRACE).unwrap();
    assert!(reading.join().unwrap().unwrap() == message);
}

fn dropping_the_stack_closes_its_connections() {
    let (client, server) = stacks();
    let (ours, mut theirs) = connection(&client, &server);
    drop(client);
    assert_eq!((&ours).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(matches!(theirs.read(&mut [0; 1]), Ok(0) | Err(_)));
}

fn what_cannot_be_started_says_why() {
    let (left, _right) = pair(LinkOptions::default());
    let error = Stack::builder().address("192.0.2.1/24".parse().unwrap()).start().unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("device")), (ErrorKind::InvalidInput, true));
    let error = Stack::builder().device(left).start().unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("address")), (ErrorKind::InvalidInput, true));
}

/// An observer that brings down the layer that drops something for a certain reason.
struct Saboteur(DropReason);

impl hopline::layer::Observer for Saboteur {
    fn observe(&self, _now: hopline::time::Instant, event: &hopline::layer::Event<'_>) {
        if matches!(event, hopline::layer::Event::Dropped { reason, .. } if *reason == self.0) {
            panic!("sabotage");
        }
    }
}

/// A stack with a saboteur in its network or transport thread, and a sender of what is dropped there.
fn panic_in(layer: &'static str, reason: DropReason, provoke: impl Fn(&Stack)) {
    let (left, right) = pair(LinkOptions::default());
    let builder = Stack::builder().device(left).address("192.0.2.1/24".parse().unwrap());
    let victim = builder.observer(std::sync::Arc::new(Saboteur(reason))).handoff(handoff::current()).start().unwrap();
    let peer = Stack::builder().device(right).address("192.0.2.2/24".parse().unwrap()).start().unwrap();
    let listener = victim.listen("0.0.0.0:80").unwrap();
    let socket = victim.bind_udp("0.0.0.0:53").unwrap();
    let accepting = thread::spawn(move || listener.accept().map(drop));
    let receiving = thread::spawn(move || socket.recv(&mut [0; 1]));
    provoke(&peer);
    assert_eq!(accepting.join().unwrap().unwrap_err().to_string(), "the stack failed");
    assert_eq!(receiving.join().unwrap().unwrap_err().to_string(), "the stack failed");
    assert_eq!(victim.bind_udp("0.0.0.0:0").unwrap_err().to_string(), "the stack failed");
    let error = victim.shutdown(GRACE).unwrap_err().to_string();
    assert!(error.contains("sabotage") && error.contains(layer), "{error}");
}

fn a_panic_in_the_transport_layer_fails_every_socket() {
    // Nobody listens there: the SYN is dropped.
    panic_in("hopline-transport", DropReason::NoSocket, |peer| drop(peer.connect_timeout("192.0.2.1:9", Duration::from_millis(10))));
}

fn a_panic_in_the_network_layer_fails_every_socket() {
    // An echo request without a checksum is dropped.
    panic_in("hopline-net", DropReason::BadChecksum, |peer| {
        let raw = peer.raw(hopline::wire::Protocol::ICMP).unwrap();
        raw.send_to(&[8, 0, 0, 0, 0, 0, 0, 0], "192.0.2.1".parse().unwrap()).unwrap();
    });
}

/// A device that is read by the test, not by a stack: as long as it reads nothing, everything waits where it entered. Nothing is lost inside.
fn a_slow_device_makes_programs_wait_and_loses_nothing() {
    const COUNT: u16 = 64;
    const LENGTH: usize = 1_000;
    let link = LinkOptions { capacity_packets: 4, medium: LinkMedium::Ip, offload: false, ..LinkOptions::default() };
    let (left, right) = pair(link);
    let mut config = Config::default();
    config.datagram.send_buffer = 8 * LENGTH;
    let builder = Stack::builder().device(left).address("192.0.2.1/24".parse().unwrap());
    let stack = builder.config(config).handoff(handoff::current()).start().unwrap();
    let socket = stack.bind_udp("0.0.0.0:0").unwrap();
    let mut reader = Box::new(right).open().unwrap().receiver;
    thread::scope(|scope| {
        let send = |number: u16| socket.send_to(&number.to_be_bytes().repeat(LENGTH / 2), ([192, 0, 2, 2], 9)).unwrap();
        let sending = scope.spawn(move || (0..COUNT).map(send).sum::<usize>());
        while stack.counters().device.send_stalls.get() == 0 {
            thread::yield_now();
        }
        assert!(!sending.is_finished(), "four are in the device, eight may be on their way to it: the program waits");
        let mut received = Vec::new();
        while received.len() < usize::from(COUNT) {
            reader.receive(&Pool::default(), 1, false, &mut received).unwrap();
        }
        let numbers: Vec<[u8; 2]> = received.iter().map(|packet| *packet.to_vec().last_chunk().unwrap()).collect();
        assert_eq!(numbers, (0..COUNT).map(u16::to_be_bytes).collect::<Vec<_>>());
        assert_eq!(sending.join().unwrap(), usize::from(COUNT) * LENGTH);
    });
    assert_nothing_lost(stack.counters());
}

/// What crosses a device that takes few packets at a time is whole.
fn a_stream_through_a_narrow_device_is_whole() {
    let mut link = LinkOptions { capacity_packets: 4, ..LinkOptions::default() };
    link.a_to_b.rate_bits_per_second = Some(50_000_000);
    link.a_to_b.queue_bytes = 64 << 20;
    let (client, server) = stacks_with(link, Config::default());
    let (ours, mut theirs) = connection(&client, &server);
    let message = bytes(5, 2_000_000);
    let writing = thread::scope(|scope| {
        let writing = scope.spawn(|| (&ours).write_all(&message).and_then(|()| ours.shutdown(Shutdown::Write)));
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert!(received == message);
        writing.join().unwrap()
    });
    writing.unwrap();
    assert_nothing_lost(client.counters());
}

/// With credit for one packet at a time, everything still arrives.
fn little_credit_slows_but_loses_nothing() {
    let mut config = Config::default();
    config.pipeline.credit_packets = 2;
    config.pipeline.credit_bytes = 1;
    let (client, server) = stacks_with(LinkOptions::default(), config);
    let (ours, mut theirs) = connection(&client, &server);
    let message = bytes(6, 1_000_000);
    thread::scope(|scope| {
        scope.spawn(|| (&ours).write_all(&message).and_then(|()| ours.shutdown(Shutdown::Write)).unwrap());
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert!(received == message);
    });
    // By combining, who reads a packet brings it to its socket before reading the next: credit returns before it is missed.
    assert!(server.counters().device.credit_stalls.get() > 0 || handoff::current() == Handoff::Combining);
    assert_nothing_lost(server.counters());
}

handoff::in_each_handoff! {
    datagrams_are_echoed,
    an_unanswered_ping_and_an_answered_one,
    a_stream_echoes_and_ends,
    bulk_transfer_each_way_loses_nothing,
    two_hundred_clients_by_threads,
    two_hundred_clients_by_one_poller_thread,
    an_idle_stack_sleeps,
    ports_of_dropped_sockets_are_free_at_once,
    nobody_listens,
    the_first_address_that_answers_wins,
    shutdown_ends_what_was_blocked_and_refuses_what_comes,
    shutdown_lets_what_was_written_arrive,
    dropping_the_stack_closes_its_connections,
    what_cannot_be_started_says_why,
    a_panic_in_the_transport_layer_fails_every_socket,
    a_panic_in_the_network_layer_fails_every_socket,
    a_slow_device_makes_programs_wait_and_loses_nothing,
    a_stream_through_a_narrow_device_is_whole,
    little_credit_slows_but_loses_nothing,
}
