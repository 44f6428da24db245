//! UDP, ICMP and listener handles against shared structs that are changed by hand.

use super::backend::Waiting;
use super::testing::Fake;
use super::*;
use crate::config::Config;
use crate::layer::Notify;
use crate::network::{DeliveryError, ErrorReport, Fragmentation};
use crate::packet::{Account, Packet};
use crate::pipeline::testing::FakeStack;
use crate::time::Instant;
use crate::transport::shared::{Datagram, DatagramShared, Failure, Mark, Phase, Readiness};
use crate::wire::Protocol;
use crate::wire::icmpv4::Icmpv4Message;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn udp(fake: &Fake) -> (UdpSocket, Arc<DatagramShared>) {
    let socket = UdpSocket::open(&fake.backend, "0.0.0.0:53".parse().unwrap()).unwrap();
    (socket, fake.next_datagram().0)
}

fn arrive(fake: &Fake, shared: &DatagramShared, peer: &str, bytes: &[u8]) {
    let datagram = Datagram {
        peer: peer.parse().unwrap(),
        local: "192.0.2.1:53".parse().unwrap(),
        packet: Packet::from_bytes(&fake.backend.pool, bytes),
        time_to_live: 60,
        traffic_class: 0,
        arrived: Instant::from_millis(7),
        fragmentation: Fragmentation::Allowed,
    };
    let mut state = shared.state.lock();
    state.unread += datagram.receive_cost();
    state.received.push_back(datagram);
    drop(state);
    if shared.wakeup.raise(Readiness::READABLE) {
        shared.notify();
    }
}

#[test]
fn opening_waits_until_the_layer_has_bound_the_socket() {
    let fake = Fake::new(Waiting::Allowed);
    let backend = fake.backend.clone();
    let program = thread::spawn(move || UdpSocket::open(&backend, "192.0.2.1:0".parse().unwrap()));
    let (shared, marks) = fake.next_datagram();
    assert!(marks.has(Mark::Open));
    let mut state = shared.state.lock();
    (state.bound, state.local) = (true, "192.0.2.1:40000".parse().unwrap());
    drop(state);
    shared.wakeup.raise(Readiness::STATE);
    shared.notify();
    assert_eq!(program.join().unwrap().unwrap().local_addr().unwrap(), "192.0.2.1:40000".parse().unwrap());
}

#[test]
fn a_port_in_use_says_so() {
    let fake = Fake::new(Waiting::Allowed);
    let backend = fake.backend.clone();
    let program = thread::spawn(move || UdpSocket::open(&backend, "0.0.0.0:53".parse().unwrap()));
    let (shared, _) = fake.next_datagram();
    shared.state.lock().failure = Some(Failure::AddressInUse);
    shared.wakeup.raise(Readiness::STATE);
    shared.notify();
    assert_eq!(kind(program.join().unwrap()), ErrorKind::AddrInUse);
}

#[test]
fn datagrams_keep_their_bounds() {
    let fake = Fake::new(Waiting::Never);
    let (socket, shared) = udp(&fake);
    arrive(&fake, &shared, "192.0.2.2:9", b"first");
    arrive(&fake, &shared, "192.0.2.3:9", b"second");
    let mut buffer = [0; 3];
    assert_eq!(socket.peek_from(&mut buffer).unwrap(), (3, "192.0.2.2:9".parse().unwrap()));
    assert_eq!(socket.recv_from(&mut buffer).unwrap(), (3, "192.0.2.2:9".parse().unwrap()));
    let (copied, info) = socket.recv_info(&mut buffer).unwrap();
    assert_eq!((copied, info.length, info.time_to_live, info.arrived), (3, 6, 60, Instant::from_millis(7)));
    assert_eq!((kind(socket.recv(&mut buffer)), shared.state.lock().unread), (ErrorKind::WouldBlock, 0));
}

#[test]
fn sending_checks_what_the_layer_could_only_drop() {
    let fake = Fake::new(Waiting::Never);
    let (socket, shared) = udp(&fake);
    let peer: std::net::SocketAddr = "192.0.2.2:9".parse().unwrap();
    assert_eq!(socket.send_to(&[7; 65_507], peer).unwrap(), 65_507);
    assert_eq!(shared.state.lock().to_send.front().unwrap().packet.len(), 65_507);
    assert_eq!(kind(socket.send_to(&[7; 65_508], peer)), ErrorKind::InvalidInput);
    assert_eq!(kind(socket.send_to(b"x", "192.0.2.255:9".parse::<std::net::SocketAddr>().unwrap())), ErrorKind::PermissionDenied);
    socket.set_broadcast(true).unwrap();
    assert!(socket.send_to(b"x", "192.0.2.255:9".parse::<std::net::SocketAddr>().unwrap()).is_ok());
    assert_eq!(kind(socket.send_to(b"x", "203.0.113.1:9".parse::<std::net::SocketAddr>().unwrap())), ErrorKind::NetworkUnreachable);
    assert_eq!(kind(socket.send(b"x")), ErrorKind::NotConnected);
    socket.connect(peer).unwrap();
    assert_eq!((socket.send(b"x").unwrap(), socket.peer_addr().unwrap()), (1, peer));
    assert_eq!(kind(socket.join_multicast_v4(&"224.0.0.251".parse().unwrap(), &"0.0.0.0".parse().unwrap())), ErrorKind::Unsupported);
}

#[test]
fn who_connects_learns_its_own_address() {
    let fake = Fake::new(Waiting::Never);
    let (socket, _) = udp(&fake);
    socket.connect("192.0.2.2:9").unwrap();
    assert_eq!(socket.local_addr().unwrap(), "192.0.2.1:53".parse().unwrap());
}

#[test]
fn a_sender_waits_for_its_own_budget() {
    let mut config = Config::default();
    config.datagram.send_buffer = 1;
    let fake = Fake::with_config(Waiting::Allowed, config);
    let backend = fake.backend.clone();
    let opening = thread::spawn(move || UdpSocket::open(&backend, "0.0.0.0:0".parse().unwrap()).unwrap());
    let (shared, _) = fake.next_datagram();
    shared.state.lock().bound = true;
    shared.wakeup.raise(Readiness::STATE);
    shared.notify();
    let socket = opening.join().unwrap();
    let peer: std::net::SocketAddr = "192.0.2.2:9".parse().unwrap();
    socket.send_to(b"fills it", peer).unwrap();
    socket.set_write_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
    assert_eq!(kind(socket.send_to(b"x", peer)), ErrorKind::WouldBlock);
    socket.set_write_timeout(None).unwrap();
    let sending = thread::spawn(move || socket.send_to(b"waits", peer));
    let sent = shared.state.lock().to_send.pop_front().unwrap();
    assert!(shared.device_room().take());
    shared.give_back(sent.send_cost());
    assert_eq!(sending.join().unwrap().unwrap(), 5);
}

#[test]
fn an_icmp_error_is_told_once_before_data() {
    let fake = Fake::new(Waiting::Never);
    let (socket, shared) = udp(&fake);
    arrive(&fake, &shared, "192.0.2.2:9", b"data");
    shared.state.lock().failure = Some(Failure::Refused);
    assert_eq!(kind(socket.recv(&mut [0; 9])), ErrorKind::ConnectionRefused);
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 4);
}

#[test]
fn a_ping_gets_its_reply_and_its_errors() {
    let fake = Fake::new(Waiting::Never);
    let socket = IcmpSocket::open(&fake.backend, "0.0.0.0:77".parse().unwrap()).unwrap();
    let shared = fake.next_datagram().0;
    assert_eq!(socket.send_echo("192.0.2.2".parse().unwrap(), 3, b"data").unwrap(), Instant::from_secs(1));
    let request = shared.state.lock().to_send.pop_front().unwrap().packet.to_vec();
    assert_eq!(Icmpv4Message::parse(&request).unwrap().0, Icmpv4Message::EchoRequest { identifier: 77, sequence: 3 });
    let mut reply = request.clone();
    Icmpv4Message::EchoReply { identifier: 77, sequence: 3 }.emit(&mut reply);
    arrive(&fake, &shared, "192.0.2.2:0", &reply);
    let mut data = [0; 9];
    let IcmpEvent::Reply(reply) = socket.receive(&mut data).unwrap() else { panic!("no reply") };
    assert_eq!((reply.sequence, reply.length, &data[..4], reply.arrived), (3, 4, &b"data"[..], Instant::from_millis(7)));
    let report = ErrorReport {
        error: DeliveryError::TimeExceeded { code: 0 },
        reporter: "192.0.2.254".parse().unwrap(),
        source: "192.0.2.1".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        protocol: Protocol::ICMP,
        quoted: request[..8].into(),
    };
    shared.state.lock().errors.push_back((Instant::from_millis(9), report));
    let IcmpEvent::Error(error) = socket.receive(&mut data).unwrap() else { panic!("no error") };
    assert_eq!((error.sequence, error.error, error.arrived), (Some(3), DeliveryError::TimeExceeded { code: 0 }, Instant::from_millis(9)));
    assert_eq!(kind(socket.receive(&mut data)), ErrorKind::WouldBlock);
}

#[test]
fn a_listener_gives_out_connections_in_order() {
    let fake = Fake::new(Waiting::Never);
    let listener = TcpListener::open(&fake.backend, "0.0.0.0:80".parse().unwrap(), &ListenOptions::default()).unwrap();
    let (shared, marks) = fake.next_listener();
    assert!(marks.has(Mark::Open));
    assert_eq!(kind(listener.accept()), ErrorKind::WouldBlock);
    shared.state.lock().accepted.push_back(fake.connection());
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!((peer, stream.peer_addr().unwrap()), ("192.0.2.2:80".parse().unwrap(), peer));
    shared.state.lock().failure = Some(Failure::NetworkDown);
    assert_eq!(kind(listener.accept()), ErrorKind::NetworkDown);
    drop(listener);
    assert!(fake.next_listener().1.has(Mark::Released));
}

#[test]
fn a_poller_reports_a_socket_until_it_is_drained() {
    let fake = Fake::new(Waiting::Never);
    let poller = Poller::new().unwrap();
    let (socket, shared) = udp(&fake);
    poller.register(&socket, 7, Interest::READABLE).unwrap();
    assert_eq!(kind(poller.register(&socket, 7, Interest::READABLE)), ErrorKind::AlreadyExists);
    let mut events = Vec::new();
    let zero = Some(std::time::Duration::ZERO);
    assert_eq!(poller.wait(&mut events, zero).unwrap(), 0);
    arrive(&fake, &shared, "192.0.2.2:9", b"1");
    for _ in 0..2 {
        poller.wait(&mut events, zero).unwrap();
        assert_eq!(events, [Event { token: 7, readable: true, writable: false, urgent: false }]);
    }
    socket.recv(&mut [0; 9]).unwrap();
    assert_eq!(poller.wait(&mut events, zero).unwrap(), 0);
    poller.modify(7, Interest::WRITABLE).unwrap();
    assert_eq!(poller.wait(&mut events, zero).unwrap(), 1);
    poller.deregister(7).unwrap();
    assert_eq!((poller.wait(&mut events, zero).unwrap(), kind(poller.deregister(7))), (0, ErrorKind::NotFound));
    poller.register(&socket, 7, Interest::WRITABLE).unwrap();
    poller.deregister(7).unwrap();
    poller.register(&socket, 7, Interest::WRITABLE).unwrap();
    assert_eq!(poller.wait(&mut events, zero).unwrap(), 1, "registered again, but reported once");
}

#[test]
fn a_poller_looks_only_at_sockets_that_changed_and_forgets_dropped_ones() {
    let fake = Fake::new(Waiting::Never);
    let poller = Poller::new().unwrap();
    let idle: Vec<_> = (0..100).map(|_| TcpStream::adopt(&fake.backend, fake.connection())).collect();
    for (token, stream) in idle.iter().enumerate() {
        poller.register(stream, token as u64, Interest::READABLE).unwrap();
    }
    let mut events = Vec::new();
    poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(format!("{poller:?}"), "Poller(100 registered, 0 candidates)");
    super::testing::change(&idle[42].handle.shared, |state| state.phase = Phase::Closed);
    assert_eq!(format!("{poller:?}"), "Poller(100 registered, 1 candidates)");
    poller.wait(&mut events, None).unwrap();
    assert_eq!(events[0].token, 42);
    drop(idle);
    while !fake.is_idle() {
        drop(fake.next());
    }
    poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

/// Of two stacks a poller leads in the last one, and hears of both.
#[test]
fn a_poller_leads_while_it_waits_and_hears_what_others_do() {
    let stacks = [FakeStack::new(64), FakeStack::new(64)];
    let fakes = [0, 1].map(|index: usize| Fake::with_seat(Waiting::Never, stacks[index].seat.clone()));
    let poller = Poller::new().unwrap();
    let sockets = [0, 1].map(|index: usize| udp(&fakes[index]));
    for (index, (socket, _)) in sockets.iter().enumerate() {
        poller.register(socket, index as u64, Interest::READABLE).unwrap();
    }
    let mut events = Vec::new();
    for round in 0..1_000 {
        let index = round % 2;
        let (socket, shared) = &sockets[index];
        thread::scope(|scope| {
            scope.spawn(|| {
                stacks[1].device.await_guest();
                stacks[1].device.arrive(b"frame");
                stacks[1].device.await_guest();
                match round % 3 {
                    0 => poller.notify(),
                    _ => arrive(&fakes[index], shared, "192.0.2.2:9", b"1"),
                }
            });
            poller.wait(&mut events, None).unwrap();
        });
        assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), if round % 3 == 0 { vec![] } else { vec![index as u64] });
        if round % 3 > 0 {
            socket.recv(&mut [0; 9]).unwrap();
        }
        assert_eq!(stacks[1].received().len(), 1);
    }
    assert_eq!((stacks[0].receptions(), stacks[1].receptions()), (0, 1_000));
    assert_eq!(poller.wait(&mut events, Some(std::time::Duration::from_millis(1))).unwrap(), 0);
    // Somebody else sits there: it waits beside.
    let seat = stacks[1].seat.take().expect("nobody sits there");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| poller.wait(&mut Vec::new(), None));
        poller.notify();
        waiting.join().unwrap().unwrap();
    });
    drop(seat);
}

#[test]
fn a_poller_can_be_woken_from_elsewhere() {
    let poller = Poller::new().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| poller.wait(&mut Vec::new(), None));
        poller.notify();
        assert_eq!(waiting.join().unwrap().unwrap(), 0);
    });
    assert_eq!(poller.wait(&mut Vec::new(), Some(std::time::Duration::from_millis(1))).unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_pollers_descriptor_is_readable_while_there_is_something() {
    let readable = |poller: &Poller| {
        use std::os::fd::AsFd;
        let copy = poller.event_descriptor().unwrap().as_fd().try_clone_to_owned().unwrap();
        let mut count = [0; 8];
        let read = io::Read::read(&mut std::fs::File::from(copy), &mut count);
        // Reading clears it, so it is raised again as it was.
        if read.is_ok() {
            poller.notify();
        }
        read.is_ok()
    };
    let fake = Fake::new(Waiting::Never);
    let poller = Poller::new().unwrap();
    let (socket, shared) = udp(&fake);
    poller.register(&socket, 1, Interest::READABLE).unwrap();
    let mut events = Vec::new();
    poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
    assert!(!readable(&poller));
    arrive(&fake, &shared, "192.0.2.2:9", b"1");
    assert!(readable(&poller));
    poller.wait(&mut events, None).unwrap();
    assert!(events.len() == 1 && readable(&poller), "not drained yet");
    socket.recv(&mut [0; 9]).unwrap();
    poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
    assert!(events.is_empty() && !readable(&poller));
}
