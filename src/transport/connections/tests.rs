mod cookies;
mod rest;

use super::*;
use crate::config::{Config, SynCookies, TcpConfig};
use crate::layer::Layer;
use crate::link::Cast;
use crate::network::DeliveryError;
use crate::network::topology::Topology;
use crate::time::Duration;
use crate::transport::Message;
use crate::transport::ports::{PortGuard, PortLease};
use crate::transport::shared::{ListenerShared, Phase, Socket, SocketOptions, StreamInfo};
use crate::transport::testing::{Bench, ip, topology};
use crate::wire::{Protocol, SequenceNumber, TcpFlags, TcpOptions};
use std::collections::BTreeSet;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn header(flags: TcpFlags, sequence: u32, acknowledgement: SequenceNumber) -> TcpHeader {
    TcpHeader { flags, sequence: SequenceNumber(sequence), acknowledgement, ..TcpHeader::default() }
}

fn config(change: impl FnOnce(&mut TcpConfig)) -> Config {
    let mut config = Config::default();
    change(&mut config.tcp);
    config
}

struct TestGuard;
impl PortGuard for TestGuard {}

impl Bench {
    fn connect_with(&mut self, local: &str, remote: &str, lease: PortLease) -> Arc<TcpShared> {
        let options = TcpConfig::default().socket_options();
        let shared = TcpShared::new(self.marks.clone(), self.room.clone(), end(local), end(remote), options);
        shared.state.lock().lease = lease;
        shared.mark(Mark::Open);
        self.settle();
        shared
    }

    fn connect(&mut self, local: &str, remote: &str) -> Arc<TcpShared> {
        self.connect_with(local, remote, PortLease::default())
    }

    /// A connection whose peer has answered.
    fn established(&mut self, local: &str, remote: &str) -> Arc<TcpShared> {
        let shared = self.connect(local, remote);
        self.answer_syn(&shared);
        shared
    }

    fn answer_syn(&mut self, shared: &TcpShared) {
        let syn = self.segments().pop().unwrap().0;
        let (local, remote) = ends_of(shared);
        let options = TcpOptions { maximum_segment_size: Some(1460), sack_permitted: true, ..TcpOptions::default() };
        let answer = TcpHeader { options, ..header(TcpFlags::SYN_ACK, 1_000, syn.sequence + 1) };
        self.arrive_segment(&remote, &local, answer, b"");
        assert_eq!(shared.state.lock().phase, Phase::Connected);
        self.segments();
    }

    /// The figures of a connection.
    fn figures(&mut self, shared: &Arc<TcpShared>) -> StreamInfo {
        shared.state.lock().is_described = true;
        shared.mark(Mark::Options);
        self.settle();
        let info = shared.state.lock().info.clone().unwrap();
        *info
    }

    fn listen(&mut self, local: &str, backlog: usize) -> Arc<ListenerShared> {
        let options = SocketOptions { time_to_live: 42, ..TcpConfig::default().socket_options() };
        let shared = ListenerShared::new(self.marks.clone(), end(local), backlog, options);
        shared.mark(Mark::Open);
        self.settle();
        shared
    }

    /// The peer's SYN, and the answer if there is one.
    fn knock(&mut self, from: &str, to: &str) -> Option<TcpHeader> {
        self.arrive_segment(from, to, header(SYN, 500, SequenceNumber(0)), b"");
        self.segments().pop().map(|(header, _)| header)
    }

    fn complete(&mut self, from: &str, to: &str, answer: TcpHeader) {
        self.arrive_segment(from, to, header(ACK, 501, answer.sequence + 1), b"");
    }

    fn enter(&mut self, from: &str, to: &str) {
        let answer = self.knock(from, to).unwrap();
        self.complete(from, to, answer);
    }

    /// The program writes so many bytes, which leave as far as they may.
    fn write(&mut self, shared: &TcpShared, bytes: usize) {
        self.put(shared, bytes);
        self.settle();
    }

    /// The program writes so many bytes, which nobody takes yet.
    fn put(&self, shared: &TcpShared, bytes: usize) {
        let slice = self.pool.copy_from(0, &vec![7; bytes]);
        let mut state = shared.state.lock();
        state.unacknowledged += slice.len();
        state.to_send.push_back(slice);
        drop(state);
        shared.mark(Mark::Send);
    }

    fn count(&self) -> usize {
        self.transport.connections()
    }

    /// How many bytes lie between `start` and the FIN that has left.
    fn bytes_before_fin(&mut self, start: SequenceNumber) -> Option<u32> {
        let sent = self.sent();
        let headers = sent.iter().map(|outgoing| (TcpHeader::parse(&outgoing.packet.to_vec()).unwrap().0, outgoing.packet.len()));
        let mut fins = headers.filter(|(header, _)| header.flags.contains(TcpFlags::FIN));
        fins.next().map(|(header, length)| header.sequence.distance_from(start) + (length - header.header_length()) as u32)
    }
}

fn ends_of(shared: &TcpShared) -> (String, String) {
    let state = shared.state.lock();
    (state.local.to_string(), state.remote.to_string())
}

fn failure(shared: &TcpShared) -> Option<Failure> {
    shared.state.lock().failure.take()
}

#[test]
fn an_active_open_chooses_address_and_port_and_holds_them() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.connect("0.0.0.0:0", "192.0.2.9:80");
    let (syn, to) = bench.segments().pop().unwrap();
    let local = shared.state.lock().local;
    assert_eq!((local.ip(), local.port(), to), (ip("192.0.2.1"), syn.source_port, end("192.0.2.9:80")));
    assert_eq!((syn.flags, shared.state.lock().lease.port, bench.count()), (SYN, local.port(), 1));
    let rival = bench.connect(&local.to_string(), "192.0.2.9:80");
    assert_eq!((failure(&rival), rival.state.lock().phase), (Some(Failure::AddressInUse), Phase::Closed));
    assert!(failure(&bench.connect(&local.to_string(), "192.0.2.9:81")).is_none(), "another remote may have the same port");
}

#[test]
fn what_cannot_be_opened_says_why_and_lets_its_port_go() {
    let mut bench = Bench::new(&Config::default());
    let _listener = bench.listen("0.0.0.0:8080", 1);
    let cases = [
        ("0.0.0.0:0", "203.0.113.1:80", Failure::NetworkUnreachable),
        ("0.0.0.0:0", "[2001:db8::1]:80", Failure::NetworkUnreachable),
        ("0.0.0.0:0", "192.0.2.255:80", Failure::NetworkUnreachable),
        ("192.0.2.7:0", "192.0.2.9:80", Failure::AddressNotAvailable),
        ("0.0.0.0:8080", "192.0.2.9:80", Failure::AddressInUse),
    ];
    for (local, remote, expected) in cases {
        let guard: Arc<dyn PortGuard> = Arc::new(TestGuard);
        let lease = PortLease { port: end(local).port(), guard: Some(guard.clone()) };
        let shared = bench.connect_with(local, remote, lease);
        assert_eq!((failure(&shared), Arc::strong_count(&guard)), (Some(expected), 1), "{local} to {remote}");
    }
    assert_eq!((bench.count(), bench.segments().len()), (0, 0));
}

#[test]
fn ephemeral_ports_run_out_for_one_remote_only() {
    let mut bench = Bench::new(&config(|tcp| tcp.ephemeral_ports = (40_000, 40_009)));
    let _listener = bench.listen("0.0.0.0:40005", 1);
    let open: Vec<_> = (0..9).map(|_| bench.connect("0.0.0.0:0", "192.0.2.9:80")).collect();
    let ports: BTreeSet<u16> = open.iter().map(|shared| shared.state.lock().local.port()).collect();
    assert_eq!((ports.len(), ports.contains(&40_005)), (9, false));
    assert_eq!(failure(&bench.connect("0.0.0.0:0", "192.0.2.9:80")), Some(Failure::AddressInUse));
    assert_eq!(failure(&bench.connect("0.0.0.0:0", "192.0.2.9:81")), None);
}

#[test]
fn the_bound_on_connections_holds_both_ways() {
    let mut bench = Bench::new(&config(|tcp| tcp.connections = 2));
    let _listener = bench.listen("0.0.0.0:80", 9);
    let first = bench.connect("0.0.0.0:0", "192.0.2.9:80");
    assert!(bench.knock("192.0.2.9:5", "192.0.2.1:80").is_some());
    assert_eq!(failure(&bench.connect("0.0.0.0:0", "192.0.2.9:80")), Some(Failure::ResourceLimit));
    assert!(bench.knock("192.0.2.9:6", "192.0.2.1:80").is_none());
    assert_eq!(bench.dropped(DropReason::TooManyConnections), 1);
    first.mark(Mark::Released);
    bench.settle();
    assert!(bench.knock("192.0.2.9:6", "192.0.2.1:80").is_some());
}

#[test]
fn a_passive_open_is_accepted_when_the_handshake_is_complete() {
    let mut bench = Bench::new(&Config::default());
    let guard: Arc<dyn PortGuard> = Arc::new(TestGuard);
    let listener =
        ListenerShared::new(bench.marks.clone(), end("0.0.0.0:80"), 4, SocketOptions::clone(&TcpConfig::default().socket_options()));
    listener.state.lock().lease = PortLease { port: 80, guard: Some(guard.clone()) };
    listener.mark(Mark::Open);
    bench.settle();
    let answer = bench.knock("192.0.2.9:5", "192.0.2.1:80").unwrap();
    assert_eq!((answer.flags, listener.state.lock().accepted.len()), (TcpFlags::SYN_ACK, 0));
    bench.complete("192.0.2.9:5", "192.0.2.1:80", answer);
    let child = listener.state.lock().accepted.pop_front().unwrap();
    assert_eq!((ends_of(&child), child.state.lock().phase), (("192.0.2.1:80".into(), "192.0.2.9:5".into()), Phase::Connected));
    assert_eq!(Arc::strong_count(&guard), 3, "the test, the listener, the connection");
    listener.mark(Mark::Released);
    bench.settle();
    assert_eq!((Arc::strong_count(&guard), bench.count()), (2, 1), "an accepted connection outlives its listener");
    bench.arrive_segment("192.0.2.9:5", "192.0.2.1:80", header(TcpFlags::RST, 501, SequenceNumber(0)), b"");
    assert_eq!((Arc::strong_count(&guard), bench.count(), child.place.load(Ordering::Relaxed)), (1, 0, 0));
}

#[test]
fn accepted_connections_start_with_the_listeners_options() {
    let mut bench = Bench::new(&Config::default());
    let listener = bench.listen("0.0.0.0:80", 4);
    bench.arrive_segment("192.0.2.9:5", "192.0.2.1:80", header(SYN, 500, SequenceNumber(0)), b"");
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].time_to_live), (1, 42));
    assert!(listener.state.lock().listening);
}

#[test]
fn a_full_syn_queue_drops_syns_until_a_handshake_ends() {
    let mut bench = Bench::new(&config(|tcp| (tcp.syn_queue, tcp.syn_retries, tcp.syn_cookies) = (3, 1, SynCookies::Off)));
    let _listener = bench.listen("0.0.0.0:80", 100);
    let answers: Vec<_> = (1..=5).map(|port| bench.knock(&format!("192.0.2.9:{port}"), "192.0.2.1:80")).collect();
    assert_eq!(answers.iter().flatten().count(), 3);
    assert_eq!((bench.dropped(DropReason::ListenerFull), bench.count()), (2, 3));
    bench.complete("192.0.2.9:1", "192.0.2.1:80", answers[0].unwrap());
    assert!(bench.knock("192.0.2.9:4", "192.0.2.1:80").is_some());
    assert!(bench.knock("192.0.2.9:5", "192.0.2.1:80").is_none());
    bench.advance(Duration::from_secs(30));
    assert_eq!(bench.count(), 1, "handshakes that nobody completes are given up");
    bench.segments();
    assert!(bench.knock("192.0.2.9:5", "192.0.2.1:80").is_some());
}

#[test]
fn a_full_accept_queue_holds_handshakes_back_until_somebody_accepts() {
    let mut bench = Bench::new(&Config::default());
    let listener = bench.listen("0.0.0.0:80", 2);
    let names: Vec<String> = (1..=3).map(|port| format!("192.0.2.9:{port}")).collect();
    let answers: Vec<_> = names.iter().map(|name| bench.knock(name, "192.0.2.1:80").unwrap()).collect();
    for (name, answer) in names.iter().zip(&answers) {
        bench.complete(name, "192.0.2.1:80", *answer);
    }
    assert_eq!((listener.state.lock().accepted.len(), bench.dropped(DropReason::ListenerFull)), (2, 1));
    assert!(bench.knock("192.0.2.9:4", "192.0.2.1:80").is_none(), "and no further handshake begins");
    drop(listener.state.lock().accepted.pop_front());
    bench.complete(&names[2], "192.0.2.1:80", answers[2]);
    assert_eq!(listener.state.lock().accepted.len(), 2);
}

#[test]
fn a_listener_that_goes_resets_what_nobody_accepted() {
    let mut bench = Bench::new(&Config::default());
    let listener = bench.listen("0.0.0.0:80", 9);
    bench.enter("192.0.2.9:1", "192.0.2.1:80");
    bench.knock("192.0.2.9:2", "192.0.2.1:80").unwrap();
    listener.mark(Mark::Released);
    bench.settle();
    let resets: Vec<_> =
        bench.segments().into_iter().filter(|(header, _)| header.flags.contains(TcpFlags::RST)).map(|(_, to)| to).collect();
    assert_eq!((resets, bench.count()), (vec![end("192.0.2.9:2"), end("192.0.2.9:1")], 0));
    assert!(bench.listen("0.0.0.0:80", 9).state.lock().listening, "the port is free again");
}

#[test]
fn two_listeners_on_one_port_need_two_addresses() {
    let mut bench = Bench::new(&Config::default());
    let wildcard = bench.listen("0.0.0.0:80", 9);
    let exact = bench.listen("192.0.2.2:80", 9);
    let rival = bench.listen("192.0.2.2:80", 9);
    let foreign = bench.listen("192.0.2.7:80", 9);
    let failures = [&wildcard, &exact, &rival, &foreign].map(|listener| listener.state.lock().failure);
    assert_eq!(failures, [None, None, Some(Failure::AddressInUse), Some(Failure::AddressNotAvailable)]);
    bench.enter("192.0.2.9:1", "192.0.2.2:80");
    bench.enter("192.0.2.9:1", "192.0.2.1:80");
    assert_eq!((exact.state.lock().accepted.len(), wildcard.state.lock().accepted.len()), (1, 1));
    let chosen = bench.listen("0.0.0.0:0", 9);
    assert!((32_768..=60_999).contains(&chosen.state.lock().local.port()));
}

#[test]
fn nobodys_segments_are_reset_on_our_own_address_alone() {
    let mut bench = Bench::new(&Config::default());
    bench.arrive_segment("192.0.2.9:1", "192.0.2.1:80", header(SYN, 500, SequenceNumber(0)), b"");
    let (reset, _) = bench.segments().pop().unwrap();
    assert_eq!((reset.flags, reset.acknowledgement), (TcpFlags::RST | ACK, SequenceNumber(501)));
    bench.arrive_segment("192.0.2.9:1", "192.0.2.1:80", header(TcpFlags::RST, 500, SequenceNumber(0)), b"");
    assert!(bench.segments().is_empty(), "a RST is never answered");
    bench.handle(Message::Topology(Arc::new(Topology { mode: AddressMode::Shared, ..topology(&["192.0.2.1/24"]) })));
    let _listener = bench.listen("0.0.0.0:443", 1);
    bench.arrive_segment("192.0.2.9:1", "192.0.2.1:80", header(SYN, 500, SequenceNumber(0)), b"");
    bench.arrive_segment("192.0.2.9:1", "192.0.2.1:80", header(ACK, 500, SequenceNumber(7)), b"x");
    assert!(bench.segments().is_empty(), "the host's ports are the host's");
    bench.arrive_segment("192.0.2.9:1", "192.0.2.1:443", header(ACK, 500, SequenceNumber(7)), b"x");
    assert_eq!(bench.segments().len(), 1, "our listener's port is ours");
}

#[test]
fn segments_that_are_for_nobody_in_particular_are_dropped() {
    let mut bench = Bench::new(&Config::default());
    let _listener = bench.listen("0.0.0.0:80", 1);
    let syn = |bench: &Bench, source: &str| {
        let header = TcpHeader { source_port: 1, destination_port: 80, flags: SYN, ..TcpHeader::default() };
        let mut bytes = vec![0; 20];
        header.emit(&mut bytes);
        bench.delivery(source, "192.0.2.1", Protocol::TCP, bytes, TcpHeader::CHECKSUM_OFFSET)
    };
    let mut broadcast = syn(&bench, "192.0.2.9");
    broadcast.cast = Cast::Broadcast;
    let mut corrupted = syn(&bench, "192.0.2.9");
    corrupted.packet.front_mut().unwrap()[4] ^= 1;
    let mut cut = syn(&bench, "192.0.2.9");
    cut.packet.truncate(12);
    cut.packet.offload.checksum = crate::packet::ChecksumState::Verified;
    let from_group = syn(&bench, "224.0.0.1");
    for delivery in [broadcast, corrupted, cut, from_group] {
        bench.handle(Message::Received(delivery));
    }
    bench.settle();
    let reasons = [DropReason::NotForUs, DropReason::BadChecksum, DropReason::Malformed, DropReason::BadSource];
    assert_eq!((reasons.map(|reason| bench.dropped(reason)), bench.count(), bench.segments().len()), ([1; 4], 0, 0));
}

/// Closes from our side first, so that the connection ends in TIME-WAIT.
fn into_time_wait(bench: &mut Bench, shared: &TcpShared) -> SequenceNumber {
    let (local, remote) = ends_of(shared);
    shared.mark(Mark::Released);
    bench.settle();
    let fin = bench.segments().pop().unwrap().0;
    assert!(fin.flags.contains(TcpFlags::FIN));
    bench.arrive_segment(&remote, &local, header(TcpFlags::FIN | ACK, 1_001, fin.sequence + 1), b"");
    assert!(bench.transport.is_quiet());
    bench.segments();
    fin.sequence + 1
}

#[test]
fn a_connection_in_time_wait_is_gone_after_two_segment_lifetimes() {
    let mut bench = Bench::new(&Config::default());
    let guard: Arc<dyn PortGuard> = Arc::new(TestGuard);
    let shared = bench.connect_with("0.0.0.0:0", "192.0.2.9:80", PortLease { port: 45_000, guard: Some(guard.clone()) });
    bench.answer_syn(&shared);
    into_time_wait(&mut bench, &shared);
    bench.advance(Duration::from_secs(59));
    assert_eq!((bench.count(), Arc::strong_count(&guard)), (1, 2));
    bench.advance(Duration::from_secs(2));
    assert_eq!((bench.count(), Arc::strong_count(&guard), bench.deadline()), (0, 1, None));
}

#[test]
fn a_connection_in_time_wait_makes_room_for_a_program_that_insists() {
    let mut bench = Bench::new(&Config::default());
    let old = bench.established("192.0.2.1:45000", "192.0.2.9:80");
    let last = into_time_wait(&mut bench, &old);
    let new = bench.connect("192.0.2.1:45000", "192.0.2.9:80");
    let (syn, _) = bench.segments().pop().unwrap();
    assert!((failure(&new), bench.count()) == (None, 1) && syn.sequence.after(last));
    assert_eq!(old.place.load(Ordering::Relaxed), 0);
}

#[test]
fn a_connection_in_time_wait_makes_room_for_a_later_syn_if_somebody_listens() {
    let mut bench = Bench::new(&Config::default());
    let listener = bench.listen("0.0.0.0:80", 9);
    bench.enter("192.0.2.9:5", "192.0.2.1:80");
    let old = listener.state.lock().accepted.pop_front().unwrap();
    old.mark(Mark::Released);
    bench.settle();
    let fin = bench.segments().pop().unwrap().0;
    bench.arrive_segment("192.0.2.9:5", "192.0.2.1:80", header(TcpFlags::FIN | ACK, 501, fin.sequence + 1), b"");
    bench.segments();
    bench.arrive_segment("192.0.2.9:5", "192.0.2.1:80", header(SYN, 100, SequenceNumber(0)), b"");
    assert!(bench.segments().iter().all(|(header, _)| !header.flags.contains(SYN)), "an old SYN opens nothing");
    bench.arrive_segment("192.0.2.9:5", "192.0.2.1:80", header(SYN, 10_000, SequenceNumber(0)), b"");
    let (answer, _) = bench.segments().pop().unwrap();
    assert!(answer.flags == TcpFlags::SYN_ACK && answer.sequence.after(fin.sequence));
    assert_eq!((bench.count(), old.place.load(Ordering::Relaxed)), (1, 0));
}

#[test]
fn marks_after_the_end_do_nothing_even_when_the_place_has_a_new_tenant() {
    let mut bench = Bench::new(&Config::default());
    let gone = bench.established("0.0.0.0:0", "192.0.2.9:80");
    let place = gone.place.load(Ordering::Relaxed);
    let (local, remote) = ends_of(&gone);
    bench.arrive_segment(&remote, &local, header(TcpFlags::RST, 1_001, SequenceNumber(0)), b"");
    assert_eq!((bench.count(), failure(&gone)), (0, Some(Failure::Reset)));
    let tenant = bench.established("0.0.0.0:0", "192.0.2.9:80");
    assert_eq!(tenant.place.load(Ordering::Relaxed), place);
    for mark in [Mark::Open, Mark::Send, Mark::Window, Mark::Options, Mark::CloseWrite, Mark::CloseRead, Mark::Room, Mark::Released] {
        gone.mark(mark);
    }
    bench.settle();
    assert_eq!((bench.count(), tenant.state.lock().phase, bench.segments().len()), (1, Phase::Connected, 0));
}

#[test]
fn a_handle_dropped_before_it_was_opened_leaves_nothing() {
    let mut bench = Bench::new(&Config::default());
    let options = TcpConfig::default().socket_options();
    let guard: Arc<dyn PortGuard> = Arc::new(TestGuard);
    let shared = TcpShared::new(bench.marks.clone(), bench.room.clone(), end("0.0.0.0:0"), end("192.0.2.9:80"), options);
    shared.state.lock().lease = PortLease { port: 45_000, guard: Some(guard.clone()) };
    shared.mark(Mark::Open);
    shared.mark(Mark::Released);
    bench.settle();
    assert_eq!((bench.count(), Arc::strong_count(&guard)), (0, 1));
}

#[test]
fn more_orphans_than_may_be_are_reset() {
    let mut bench = Bench::new(&config(|tcp| tcp.orphans = 2));
    let open: Vec<_> = (0..4).map(|_| bench.established("0.0.0.0:0", "192.0.2.9:80")).collect();
    for shared in &open {
        shared.mark(Mark::Released);
        bench.settle();
    }
    assert_eq!((bench.count(), bench.out.counters().transport.orphans_aborted.get()), (2, 2));
    let resets = bench.segments().into_iter().filter(|(header, _)| header.flags.contains(TcpFlags::RST)).count();
    assert_eq!(resets, 2);
    bench.advance(Duration::from_secs(3_600));
    assert_eq!((bench.count(), bench.transport.connections.orphans), (0, 0));
}

#[test]
fn an_error_report_reaches_the_connection_whose_segment_it_quotes() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.connect("0.0.0.0:0", "192.0.2.9:80");
    let (syn, _) = bench.segments().pop().unwrap();
    let mut quoted = vec![0; syn.header_length()];
    syn.emit(&mut quoted);
    for destination in ["192.0.2.8", "192.0.2.9"] {
        let report = ErrorReport {
            error: DeliveryError::Unreachable { code: 3 },
            reporter: ip("192.0.2.9"),
            source: ip("192.0.2.1"),
            destination: ip(destination),
            protocol: Protocol::TCP,
            quoted: quoted.iter().copied().collect(),
        };
        assert_eq!(bench.count(), 1);
        bench.handle(Message::Error(report));
    }
    assert_eq!((bench.count(), failure(&shared)), (0, Some(Failure::Refused)));
}

#[test]
fn a_vanished_address_fails_its_connections_only() {
    let mut bench = Bench::new(&Config::default());
    let kept = bench.established("192.0.2.1:0", "192.0.2.9:80");
    let lost = bench.established("192.0.2.2:0", "192.0.2.9:80");
    bench.handle(Message::Topology(Arc::new(topology(&["192.0.2.1/24"]))));
    bench.settle();
    assert_eq!((failure(&kept), failure(&lost), bench.count()), (None, Some(Failure::AddressNotAvailable), 1));
    assert!(bench.segments().is_empty(), "nothing is sent from an address that is not ours");
}

#[test]
fn a_path_mtu_concerns_every_connection_to_the_destination() {
    let mut bench = Bench::new(&Config::default());
    let open: Vec<_> = ["192.0.2.9:80", "192.0.2.9:81", "192.0.2.8:80"].map(|remote| bench.established("0.0.0.0:0", remote)).into();
    bench.handle(Message::PathMtu { destination: ip("192.0.2.9"), mtu: 900 });
    open.iter().for_each(|shared| bench.write(shared, 5_000));
    let mut sizes: Vec<_> =
        bench.sent().iter().map(|sent| (sent.destination, sent.packet.offload.segmentation.map(|cut| cut.size))).collect();
    sizes.dedup();
    assert_eq!(sizes, [(ip("192.0.2.9"), Some(860)), (ip("192.0.2.8"), Some(1460))]);
}

#[test]
fn closing_everything_ends_gracefully_and_opens_nothing() {
    let mut bench = Bench::new(&Config::default());
    let listener = bench.listen("0.0.0.0:80", 9);
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    bench.knock("192.0.2.9:5", "192.0.2.1:80").unwrap();
    bench.handle(Message::CloseAll);
    bench.settle();
    assert_eq!((listener.state.lock().failure, bench.count(), bench.transport.is_quiet()), (Some(Failure::Aborted), 1, false));
    let sent = bench.segments();
    let fin = sent.iter().find(|(header, _)| header.flags.contains(TcpFlags::FIN)).unwrap().0;
    assert!(sent.iter().any(|(header, to)| header.flags.contains(TcpFlags::RST) && *to == end("192.0.2.9:5")));
    assert_eq!(failure(&bench.connect("0.0.0.0:0", "192.0.2.9:80")), Some(Failure::Aborted));
    let (local, remote) = ends_of(&shared);
    bench.arrive_segment(&remote, &local, header(TcpFlags::FIN | ACK, 1_001, fin.sequence + 1), b"");
    assert!(bench.transport.is_quiet() && bench.count() == 1, "TIME-WAIT may be left");
}

/// Nobody has asked for its figures before; who asks afterwards cannot wait for them.
#[test]
fn what_is_over_leaves_its_figures() {
    let mut bench = Bench::new(&Config::default());
    let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
    assert!(shared.state.lock().info.is_none());
    let (local, remote) = ends_of(&shared);
    shared.state.lock().write_closed = true;
    shared.mark(Mark::CloseWrite);
    bench.settle();
    let fin = bench.segments().pop().unwrap().0;
    bench.arrive_segment(&remote, &local, header(TcpFlags::FIN | ACK, 1_001, fin.sequence + 1), b"");
    let state = shared.state.lock();
    let info = state.info.as_ref().expect("figures");
    assert_eq!((state.phase, info.state, info.maximum_segment_size), (Phase::Closed, "TIME-WAIT", 1_460));
}

#[test]
fn aborting_everything_resets_and_failing_everything_is_silent() {
    for (message, resets, expected) in
        [(Message::AbortAll, 1, Failure::Aborted), (Message::FailAll(Failure::NetworkDown), 0, Failure::NetworkDown)]
    {
        let mut bench = Bench::new(&Config::default());
        let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
        bench.handle(message);
        bench.settle();
        let sent = bench.segments();
        assert_eq!((sent.len(), failure(&shared), bench.count()), (resets, Some(expected), 0));
        assert!(bench.transport.is_quiet());
    }
}

/// The program of a connection that a segment closed is told as the batch ends. What else concerns it until then must not take it out of the table untold.
#[test]
fn who_was_reset_hears_of_it_whatever_comes_in_the_same_batch() {
    type Event = fn(&mut Bench);
    let in_one_batch: [(&str, Event); 7] = [
        ("nothing", |_| {}),
        ("a timer that is due", |bench| bench.transport.run_timers(bench.now, &mut bench.out)),
        ("room", |bench| bench.handle(Message::Marked(Socket::DeviceRoom))),
        ("a path MTU", |bench| bench.handle(Message::PathMtu { destination: ip("192.0.2.9"), mtu: 900 })),
        ("another address", |bench| bench.handle(Message::Topology(Arc::new(topology(&["198.51.100.1/24"]))))),
        ("a shutdown", |bench| bench.handle(Message::CloseAll)),
        ("its end", |bench| bench.handle(Message::AbortAll)),
    ];
    for (what, happens) in in_one_batch {
        for (is_closing, expected) in [(false, Some(Failure::Reset)), (true, None)] {
            let mut bench = Bench::new(&Config::default());
            let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
            let (local, remote) = ends_of(&shared);
            bench.write(&shared, 5_000);
            let [(data, _), ..] = bench.segments()[..] else { panic!("nothing left") };
            if is_closing {
                // In LAST-ACK a reset is no failure (RFC 9293 §3.10.7.4).
                bench.arrive_segment(&remote, &local, header(TcpFlags::FIN | ACK, 1_001, data.sequence), b"");
                shared.state.lock().write_closed = true;
                shared.mark(Mark::CloseWrite);
                bench.settle();
            }
            bench.out.wakes.drain(..).for_each(|waiting| assert!(!waiting.notify()));
            bench.now = bench.deadline().expect("a retransmission timer");
            let sequence = 1_001 + u32::from(is_closing);
            bench.take_segment(&remote, &local, header(TcpFlags::RST, sequence, SequenceNumber(0)), b"");
            happens(&mut bench);
            bench.settle();
            assert_eq!((failure(&shared), shared.state.lock().phase), (expected, Phase::Closed), "{what}, closing: {is_closing}");
            assert_eq!((bench.out.wakes.len(), bench.count()), (1, 0), "{what}, closing: {is_closing}");
        }
    }
}

/// A timer that sends something new, such as a loss probe, may come between the program's end and that of the batch, when what it wrote is taken.
#[test]
fn the_fin_follows_all_that_was_written_whatever_comes_in_the_same_batch() {
    type Event = fn(&mut Bench, &TcpShared);
    let ends: [(&str, Event); 3] = [
        ("dropped", |_, shared| shared.mark(Mark::Released)),
        ("half-closed", |_, shared| {
            shared.state.lock().write_closed = true;
            shared.mark(Mark::CloseWrite);
        }),
        ("shut down", |bench, _| bench.handle(Message::CloseAll)),
    ];
    let in_one_batch: [(&str, Event); 4] = [
        ("nothing", |_, _| {}),
        ("a timer that is due", |bench, _| bench.transport.run_timers(bench.now, &mut bench.out)),
        ("room", |bench, _| bench.handle(Message::Marked(Socket::DeviceRoom))),
        ("a path MTU", |bench, _| bench.handle(Message::PathMtu { destination: ip("192.0.2.9"), mtu: 1_400 })),
    ];
    for (end, ends) in ends {
        for (what, happens) in in_one_batch {
            let mut bench = Bench::new(&Config::default());
            let shared = bench.established("0.0.0.0:0", "192.0.2.9:80");
            bench.write(&shared, 5_000);
            let start = bench.segments()[0].0.sequence;
            bench.now = bench.deadline().expect("a loss probe");
            bench.put(&shared, 3_000);
            ends(&mut bench, &shared);
            bench.take_marks();
            happens(&mut bench, &shared);
            bench.settle();
            assert_eq!(bench.bytes_before_fin(start), Some(8_000), "{end}, then {what}");
        }
    }
}

#[test]
fn idle_connections_cost_no_timer() {
    let mut bench = Bench::new(&Config::default());
    let open: Vec<_> = (0..50).map(|_| bench.established("0.0.0.0:0", "192.0.2.9:80")).collect();
    bench.advance(Duration::from_secs(120));
    assert_eq!((bench.deadline(), bench.count(), open.len()), (None, 50, 50));
}

#[test]
fn a_syn_with_options_is_parsed_across_slices() {
    let mut bench = Bench::new(&Config::default());
    let _listener = bench.listen("0.0.0.0:80", 9);
    let options = TcpOptions { maximum_segment_size: Some(1400), ..TcpOptions::default() };
    let header = TcpHeader { source_port: 1, destination_port: 80, flags: SYN, options, ..TcpHeader::default() };
    let mut bytes = vec![0; header.header_length()];
    header.emit(&mut bytes);
    let mut delivery = bench.delivery("192.0.2.9", "192.0.2.1", Protocol::TCP, bytes, TcpHeader::CHECKSUM_OFFSET);
    let whole = std::mem::take(&mut delivery.packet).to_vec();
    whole.chunks(3).for_each(|piece| delivery.packet.push(bench.pool.copy_from(0, piece)));
    bench.handle(Message::Received(delivery));
    bench.settle();
    assert_eq!((bench.count(), bench.segments().len()), (1, 1));
}
