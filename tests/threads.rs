//! Two whole stacks on threads, joined by a virtual link in real time.

use hopline::config::Config;
use hopline::device::virtual_link::{LinkOptions, pair};
use hopline::socket::Stack;
use std::time::{Duration, Instant};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "192.0.2.2";

fn stacks() -> (Stack, Stack) {
    stacks_with(LinkOptions::default(), Config::default())
}

fn stacks_with(link: LinkOptions, config: Config) -> (Stack, Stack) {
    let (left, right) = pair(link);
    let build = |device, address: &str, seed| {
        let address = format!("{address}/24").parse().unwrap();
        Stack::builder().device(device).address(address).config(config.clone()).seed(seed).start().unwrap()
    };
    (build(left, CLIENT, 1), build(right, SERVER, 2))
}

#[test]
fn datagrams_are_echoed() {
    let (client, server) = stacks();
    let echo = server.bind_udp("0.0.0.0:7").unwrap();
    let socket = client.bind_udp("0.0.0.0:0").unwrap();
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        for _ in 0..100 {
            let (length, from) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..length], from).unwrap();
        }
    });
    let started = Instant::now();
    for number in 0..100u32 {
        socket.send_to(&number.to_be_bytes(), (SERVER.parse::<std::net::IpAddr>().unwrap(), 7)).unwrap();
        let mut buffer = [0; 2_000];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&number.to_be_bytes()[..], format!("{SERVER}:7").parse().unwrap()));
    }
    eprintln!("{:?} for each round trip", started.elapsed() / 100);
    answering.join().unwrap();
    client.shutdown(Duration::from_secs(1)).unwrap();
    server.shutdown(Duration::from_secs(1)).unwrap();
}
