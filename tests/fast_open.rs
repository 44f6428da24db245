//! Fast Open (RFC 7413) between two stacks under virtual time: 10 ms each way.

use hopline::config::Config;
use hopline::counters::TransportCounters;
use hopline::device::Medium;
use hopline::device::virtual_link::Impairments;
use hopline::simulation::{HostId, HostOptions, World};
use hopline::socket::{ConnectOptions, TcpListener, TcpStream};
use hopline::transport::shared::SocketOptions;
use std::io::{Read, Write};
use std::time::Duration;

const SERVICE: &str = "192.0.2.2:80";

struct Pair {
    world: World,
    client: HostId,
    server: HostId,
    listener: TcpListener,
}

impl Pair {
    fn new(queue: usize) -> Pair {
        let mut world = World::new(3);
        let host = |address: &str| HostOptions { medium: Medium::Ip, ..HostOptions::new(address) };
        let (client, server) = (world.host(host("192.0.2.1/24")), world.host(host("192.0.2.2/24")));
        world.join(&[client, server], &Impairments { delay: Duration::from_millis(10), ..Impairments::default() });
        let listener = world[server].listen(SERVICE).unwrap();
        listener.set_fast_open(queue).unwrap();
        Pair { world, client, server, listener }
    }

    /// The client opens a connection with these bytes.
    fn open(&mut self, data: &[u8]) -> TcpStream {
        let options = SocketOptions { fast_open: true, ..Config::default().tcp.socket_options() };
        let options = ConnectOptions { options: Some(options), first_data: data.to_vec(), ..ConnectOptions::default() };
        self.world[self.client].connect_with(SERVICE, &options).unwrap()
    }

    /// The server's end, as soon as it can be had.
    #[track_caller]
    fn accept(&mut self, limit: u64) -> TcpStream {
        let (mut accepted, listener) = (None, &self.listener);
        let is_there = self.world.run_until(Duration::from_millis(limit), || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        assert!(is_there, "nobody to accept\n{}", self.world);
        accepted.unwrap().0
    }

    #[track_caller]
    fn expect(&mut self, stream: &mut TcpStream, data: &[u8], limit: u64) {
        let mut found = vec![];
        let mut buffer = vec![0; 4096];
        self.world.run_until(Duration::from_millis(limit), || {
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                found.extend_from_slice(&buffer[..count]);
            }
            found.len() >= data.len()
        });
        assert!(found == data, "{} of {} bytes\n{}", found.len(), data.len(), self.world);
    }

    /// A whole connection, after which the client has a cookie if the server gives one.
    fn acquaint(&mut self) {
        let _request = self.open(b"first");
        let mut response = self.accept(100);
        self.expect(&mut response, b"first", 100);
    }

    fn counted(&self, host: HostId) -> &TransportCounters {
        &self.world[host].counters().transport
    }
}

#[test]
fn the_first_connection_gets_a_cookie_and_its_data_follows_the_handshake() {
    let mut pair = Pair::new(8);
    let _request = pair.open(b"hello");
    let mut response = pair.accept(31);
    pair.expect(&mut response, b"hello", 1);
    assert_eq!((pair.counted(pair.client).fast_opens_active.get(), pair.counted(pair.server).fast_opens_passive.get()), (0, 0));
}

#[test]
fn the_next_one_is_answered_after_one_round_trip() {
    let mut pair = Pair::new(8);
    pair.acquaint();
    let data: Vec<u8> = (0..1_000).map(|at| at as u8).collect();
    let mut request = pair.open(&data);
    let mut response = pair.accept(11);
    pair.expect(&mut response, &data, 0);
    response.write_all(&[7; 10_000]).unwrap();
    pair.expect(&mut request, &[7; 10_000], 11);
    assert_eq!((pair.counted(pair.client).fast_opens_active.get(), pair.counted(pair.server).fast_opens_passive.get()), (1, 1));
    assert_eq!(pair.counted(pair.client).fast_opens_refused.get(), 0);
}

#[test]
fn more_data_than_a_segment_goes_on_behind_the_handshake() {
    let mut pair = Pair::new(8);
    pair.acquaint();
    let data = vec![9; 50_000];
    let _request = pair.open(&data);
    let mut response = pair.accept(11);
    pair.expect(&mut response, &data, 200);
}

/// RFC 7413 §4.2.2: "no latency penalty"; §4.1.3.1: the refusal is remembered.
#[test]
fn a_server_that_takes_no_data_costs_nothing_and_is_left_alone() {
    let mut pair = Pair::new(8);
    pair.acquaint();
    pair.listener.set_fast_open(0).unwrap();
    for _ in 0..2 {
        let _request = pair.open(b"hello");
        let mut response = pair.accept(31);
        pair.expect(&mut response, b"hello", 1);
    }
    let client = pair.counted(pair.client);
    assert_eq!((client.fast_opens_active.get(), client.fast_opens_refused.get(), client.retransmission_timeouts.get()), (1, 1, 0));
    pair.world.run_for(Duration::from_secs(3_600));
    pair.listener.set_fast_open(8).unwrap();
    pair.acquaint();
    let _request = pair.open(b"hello");
    pair.accept(11);
}

/// RFC 7413 §4.2.1, §4.1.3.1: what is sent again goes without data and option, and a path that may dislike them is left alone.
#[test]
fn a_lost_syn_is_sent_again_without_data() {
    let mut pair = Pair::new(8);
    pair.acquaint();
    let client = pair.client;
    pair.world.impair(client, |link| link.loss = 1.0);
    let _request = pair.open(b"hello");
    pair.world.run_for(Duration::from_millis(500));
    pair.world.impair(client, |link| link.loss = 0.0);
    let mut response = pair.accept(2_000);
    pair.expect(&mut response, b"hello", 100);
    let _request = pair.open(b"again");
    pair.world.run_for(Duration::from_millis(11));
    assert!(pair.listener.accept().is_err());
    assert_eq!(pair.counted(pair.client).fast_opens_active.get(), 1);
}

/// RFC 7413 §4.2, PendingFastOpenRequests, and §5.1: connections that are reset count on.
#[test]
fn the_bound_on_early_connections_holds() {
    let mut pair = Pair::new(2);
    pair.acquaint();
    let server = pair.server;
    pair.world.impair(server, |link| link.loss = 1.0);
    let _requests: Vec<_> = (0..5).map(|_| pair.open(b"hello")).collect();
    pair.world.run_for(Duration::from_millis(11));
    let early: Vec<_> = std::iter::from_fn(|| pair.listener.accept().ok()).collect();
    assert_eq!((early.len(), pair.counted(server).fast_opens_declined.get()), (2, 3));
    pair.world.impair(server, |link| link.loss = 0.0);
    let rest: Vec<_> = (0..3).map(|_| pair.accept(5_000)).collect();
    assert_eq!(rest.len(), 3);
    let _request = pair.open(b"hello");
    pair.world.run_for(Duration::from_millis(31));
    assert!(pair.listener.accept().is_ok());
}

#[test]
fn an_early_connection_can_be_closed_at_once() {
    let mut pair = Pair::new(8);
    pair.acquaint();
    let mut request = pair.open(b"question");
    let mut response = pair.accept(11);
    pair.expect(&mut response, b"question", 0);
    response.write_all(b"answer").unwrap();
    drop(response);
    pair.expect(&mut request, b"answer", 11);
    pair.world.run_for(Duration::from_millis(50));
    assert_eq!(request.read(&mut [0; 9]).unwrap(), 0, "end of stream\n{}", pair.world);
    drop(request);
    pair.world.run_for(Duration::from_secs(100));
    assert_eq!(pair.world[pair.server].connections(), 0, "{}", pair.world);
}
