//! A Hopline listener with many kernel clients: one thread for each connection, and one poller for all.

use crate::common::{Need, trial};
use crate::host::{Medium, NAMESPACES, Network, PATIENCE, patient};
use crate::transfer::bytes;
use hopline::socket::{Interest, Poller, TcpListener, TcpStream};
use libtest_mimic::Trial;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Barrier;

/// Clients at once.
const CLIENTS: usize = 200;
/// Bytes of each request and its reply.
const REQUEST: usize = 20_000;
/// The token of the listener in the poller.
const LISTENER: u64 = u64::MAX;

pub(crate) fn trials() -> Vec<Trial> {
    let curl = &[Need::Namespaces, Need::Program("curl")];
    vec![
        trial("curl_fetches_and_posts", curl, curl_fetches_and_posts),
        trial("200_clients_are_served_by_threads", NAMESPACES, || serve_clients(serve_by_threads)),
        trial("200_clients_are_served_by_one_poller", NAMESPACES, || serve_clients(serve_by_poller)),
    ]
}

fn curl_fetches_and_posts() {
    let network = Network::new(Medium::Veth);
    let listener = network.stack.listen((network.address, 80)).unwrap();
    let server = listener.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || server.incoming().take(4).for_each(|stream| answer_http(patient(stream.unwrap()))));
        let curl = |arguments: &str| network.kernel.run(&format!("curl -sS --fail --max-time 30 {arguments}"));
        assert_eq!(curl("http://192.0.2.2/"), "GET / 0");
        assert_eq!(curl("http://192.0.2.2/?with=query"), "GET /?with=query 0");
        assert_eq!(curl("-d hello http://192.0.2.2/form"), "POST /form 5");
        assert_eq!(curl("-H Expect: --data-binary @/proc/self/exe http://192.0.2.2/big -o - | cut -d' ' -f1,2"), "POST /big\n");
    });
}

/// Answers one request with its method, target and the length of its body.
fn answer_http(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 65_536];
    let head = loop {
        let got = stream.read(&mut buffer).unwrap();
        assert!(got > 0, "the client hung up");
        request.extend_from_slice(&buffer[..got]);
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8(request.drain(..end + 4).collect()).unwrap();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
    while request.len() < length {
        let got = stream.read(&mut buffer).unwrap();
        assert!(got > 0, "the client hung up in its body");
        request.extend_from_slice(&buffer[..got]);
    }
    let (line, _) = head.split_once(" HTTP/1.1").unwrap();
    let body = format!("{line} {length}");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
}

/// All clients are connected before the first sends; each sends a request of its own, ends its direction, and must get it back.
fn serve_clients(serve: fn(&TcpListener)) {
    let network = Network::new(Medium::Veth);
    let listener = network.stack.listen((network.address, 7)).unwrap();
    let target = SocketAddr::new(network.address.into(), 7);
    let all_connected = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener));
        for number in 0..CLIENTS {
            let (network, all_connected) = (&network, &all_connected);
            scope.spawn(move || {
                let stream = network.kernel_stream(target);
                all_connected.wait();
                ask(stream.expect("the kernel connects"), number);
            });
        }
    });
    network.assert_nothing_lost();
}

fn ask(mut stream: std::net::TcpStream, number: usize) {
    let request = bytes(REQUEST + number, number as u64 + 1);
    stream.write_all(&request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap_or_else(|error| panic!("client {number} after {} bytes: {error}", reply.len()));
    assert!(reply == request, "client {number} got {} bytes, other than it sent", reply.len());
}

fn serve_by_threads(listener: &TcpListener) {
    std::thread::scope(|scope| {
        for stream in listener.incoming().take(CLIENTS) {
            let mut stream = patient(stream.unwrap());
            scope.spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                std::io::copy(&mut stream, &mut writer).unwrap();
            });
        }
    });
}

/// A connection of the poller's server: what was read and not yet written.
struct Echo {
    stream: TcpStream,
    pending: Vec<u8>,
    ended: bool,
}

fn serve_by_poller(listener: &TcpListener) {
    let poller = Poller::new().unwrap();
    listener.set_nonblocking(true).unwrap();
    poller.register(listener, LISTENER, Interest::READABLE).unwrap();
    let mut connections: HashMap<u64, Echo> = HashMap::new();
    let (mut accepted, mut done) = (0, 0);
    let mut events = Vec::new();
    while done < CLIENTS {
        assert!(poller.wait(&mut events, Some(PATIENCE)).unwrap() > 0, "nothing happens: {accepted} accepted, {done} done");
        for event in &events {
            if event.token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    poller.register(&stream, accepted, Interest::READABLE).unwrap();
                    connections.insert(accepted, Echo { stream, pending: Vec::new(), ended: false });
                    accepted += 1;
                }
            } else if connections.get_mut(&event.token).is_some_and(|echo| echo.proceed(&poller, event.token)) {
                connections.remove(&event.token);
                done += 1;
            }
        }
    }
}

impl Echo {
    /// Reads and writes what it can; true when everything is written.
    fn proceed(&mut self, poller: &Poller, token: u64) -> bool {
        self.ended = self.ended || self.read();
        self.write();
        let wish = Interest { readable: !self.ended, writable: !self.pending.is_empty(), urgent: false };
        poller.modify(token, wish).unwrap();
        self.ended && self.pending.is_empty()
    }

    /// True at the end of the stream.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(got) => self.pending.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    fn write(&mut self) {
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("writing: {error}"),
            }
        }
    }
}
