//! What runs on the lab's server: one thread for each port, and one for each connection.

use super::certificates::Certificates;
use super::dns::{Reply, Zone};
use super::web::{self, Site};
use crate::app::tls;
use crate::socket::{Stack, TcpListener, TcpStream, UdpSocket};
use crate::wire::dns::Message;
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Connections served at once; more are closed as they come.
pub(super) const MOST_CONNECTIONS: usize = 512;
/// An idle connection is closed after this time.
const IDLE: Duration = Duration::from_secs(120);

/// What the services share.
pub(super) struct Shared {
    pub(super) site: Site,
    pub(super) zone: Zone,
    pub(super) certificates: Certificates,
    pub(super) crowd: Crowd,
}

type Service = fn(TcpStream, &Shared) -> io::Result<()>;

/// The ports of the lab, and who serves them.
const TCP_SERVICES: [(u16, Service); 6] = [(7, echo), (9, discard), (19, generate), (53, name_server), (80, web), (443, secure_web)];
type DatagramService = fn(&UdpSocket, &Shared) -> io::Result<()>;
const UDP_SERVICES: [(u16, DatagramService); 3] = [(7, echo_datagram), (9, discard_datagram), (53, answer_datagram)];

/// Starts every service on `stack`. The threads end with the stack.
pub(super) fn start(stack: &Stack, shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for (port, service) in TCP_SERVICES {
        let (listener, shared) = (stack.listen(("0.0.0.0", port))?, shared.clone());
        threads.push(Builder::new().name(format!("lab-tcp-{port}")).spawn(move || accept_all(&listener, service, &shared))?);
    }
    for (port, service) in UDP_SERVICES {
        let (socket, shared) = (stack.bind_udp(("0.0.0.0", port))?, shared.clone());
        threads.push(Builder::new().name(format!("lab-udp-{port}")).spawn(move || while service(&socket, &shared).is_ok() {})?);
    }
    Ok(threads)
}

/// Until the stack ends.
fn accept_all(listener: &TcpListener, service: Service, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let guest = shared.clone();
        if !shared.crowd.enter() {
            continue;
        }
        let serve = move || {
            // A connection that fails is its client's concern.
            let _ = stream.set_read_timeout(Some(IDLE)).and_then(|()| service(stream, &guest));
            guest.crowd.leave();
        };
        if Builder::new().name("lab-connection".to_owned()).spawn(serve).is_err() {
            shared.crowd.leave();
        }
    }
}

/// RFC 862.
fn echo(mut stream: TcpStream, _: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

/// RFC 863.
fn discard(mut stream: TcpStream, _: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// RFC 864: lines of 72 characters, each starting one further in the alphabet.
fn generate(mut stream: TcpStream, _: &Shared) -> io::Result<()> {
    let line = |start: usize| (0..72).map(move |index| b' ' + ((start + index) % 95) as u8).chain(*b"\r\n");
    let page: Vec<u8> = (0..95).flat_map(line).collect();
    loop {
        stream.write_all(&page)?;
    }
}

fn echo_datagram(socket: &UdpSocket, _: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    let (count, from) = socket.recv_from(&mut buffer)?;
    // Port 7 to port 7 would echo for ever.
    if from.port() != 7 {
        let _ = socket.send_to(buffer.get(..count).unwrap_or_default(), from);
    }
    Ok(())
}

fn discard_datagram(socket: &UdpSocket, _: &Shared) -> io::Result<()> {
    socket.recv_from(&mut [0; 1]).map(drop)
}

fn answer_datagram(socket: &UdpSocket, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    let (count, from) = socket.recv_from(&mut buffer)?;
    let query = buffer.get(..count).unwrap_or_default();
    if let Some(Reply::Send(message)) = shared.zone.answer(query) {
        let room = Message::parse(query).map_or(512, |query| query.udp_payload_size());
        let _ = socket.send_to(&message.encode_within(room), from);
    }
    Ok(())
}

/// DNS over TCP: messages with their length in front (RFC 1035 §4.2.2).
fn name_server(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        let Some(Reply::Send(message)) = shared.zone.answer(&query) else { return Ok(()) };
        let answer = message.encode();
        let length = (answer.len() as u16).to_be_bytes();
        stream.write_all(&[&length, answer.as_slice()].concat())?;
    }
}

fn web(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    web::serve(&stream, &shared.site)
}

fn secure_web(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls::accept(&shared.certificates.server, stream)?;
    web::serve(&mut stream, &shared.site)?;
    tls::close(&mut stream)
}

/// Counts connections, within a bound, so that the end can wait for them.
#[derive(Default)]
pub(super) struct Crowd {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Crowd {
    /// Whether there is room for one more.
    fn enter(&self) -> bool {
        let mut count = self.count.lock();
        let fits = *count < MOST_CONNECTIONS;
        *count += usize::from(fits);
        fits
    }

    fn leave(&self) {
        *self.count.lock() -= 1;
        self.changed.notify_all();
    }

    /// Waits until everybody is gone.
    pub(super) fn wait_empty(&self) {
        let mut count = self.count.lock();
        while *count > 0 {
            self.changed.wait(&mut count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_bounded() {
        let crowd = Crowd::default();
        assert!((0..MOST_CONNECTIONS).all(|_| crowd.enter()));
        assert!(!crowd.enter());
        crowd.leave();
        assert!(crowd.enter());
        (0..MOST_CONNECTIONS).for_each(|_| crowd.leave());
        crowd.wait_empty();
    }
}
