//! smoltcp at one end of a cable, with the services that `against_peers` measures: the loop that its own examples have, on one thread.

use crate::cable::{End, MTU};
use crate::services::{DISCARD, ECHO, GENERATE, TRANSFER};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sockets that wait on each port: smoltcp has no listeners.
const SOCKETS: usize = 16;
/// The longest sleep, after which the stop flag is looked at.
const PATIENCE: Duration = Duration::from_millis(20);

/// The running server; ends when dropped.
pub(crate) struct SmoltcpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SmoltcpServer {
    /// Starts it with socket buffers of so many bytes.
    pub(crate) fn start(end: End, address: Ipv4Addr, buffer: usize) -> SmoltcpServer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || Server::new(end, address, buffer).run(&stopped));
        SmoltcpServer { stop, thread: Some(thread) }
    }
}

impl Drop for SmoltcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// One socket, and how much of a transfer is left.
struct Place {
    port: u16,
    handle: SocketHandle,
    left: usize,
}

struct Server {
    phy: Phy,
    interface: Interface,
    sockets: SocketSet<'static>,
    places: Vec<Place>,
    block: Vec<u8>,
}

impl Server {
    fn new(end: End, address: Ipv4Addr, buffer: usize) -> Server {
        let mut config = Config::new(EthernetAddress(end.address().octets()).into());
        config.random_seed = 1;
        let mut phy = Phy { end, waiting: None };
        let mut interface = Interface::new(config, &mut phy, Instant::now());
        let [a, b, c, d] = address.octets();
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24)).expect("there is room for one"));
        let mut sockets = SocketSet::new(Vec::new());
        let mut places = Vec::new();
        for port in [ECHO, DISCARD, GENERATE].into_iter().flat_map(|port| std::iter::repeat_n(port, SOCKETS)) {
            let mut socket = Socket::new(SocketBuffer::new(vec![0; buffer]), SocketBuffer::new(vec![0; buffer]));
            socket.set_nagle_enabled(false);
            places.push(Place { port, handle: sockets.add(socket), left: 0 });
        }
        Server { phy, interface, sockets, places, block: vec![0; 128 << 10] }
    }

    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.interface.poll(Instant::now(), &mut self.phy, &mut self.sockets);
            for place in &mut self.places {
                place.serve(self.sockets.get_mut(place.handle), &mut self.block);
            }
            let now = Instant::now();
            match self.interface.poll_at(now, &self.sockets) {
                Some(at) if at <= now => {}
                Some(at) => self.phy.wait(Duration::from(at - now).min(PATIENCE)),
                None => self.phy.wait(PATIENCE),
            }
        }
    }
}

impl Place {
    fn serve(&mut self, socket: &mut Socket<'_>, block: &mut [u8]) {
        if !socket.is_open() {
            self.left = if self.port == DISCARD { TRANSFER } else { 0 };
            socket.listen(self.port).expect("a closed socket can listen");
        }
        match self.port {
            ECHO => echo(socket, block),
            DISCARD => self.discard(socket),
            _ => self.generate(socket, block),
        }
        if socket.state() == State::CloseWait && !socket.can_recv() {
            socket.close();
        }
    }

    /// Reads one transfer after the other, each answered with one byte.
    fn discard(&mut self, socket: &mut Socket<'_>) {
        while socket.can_recv() {
            let count = socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
            self.left -= count;
            if self.left == 0 {
                self.left = TRANSFER;
                socket.send_slice(&[1]).expect("there is room for a byte");
            }
        }
    }

    /// Sends one transfer for each byte that comes.
    fn generate(&mut self, socket: &mut Socket<'_>, block: &[u8]) {
        if socket.can_recv() {
            self.left += TRANSFER * socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
        }
        while self.left > 0 && socket.can_send() {
            self.left -= socket.send_slice(&block[..self.left.min(block.len())]).unwrap_or(0);
        }
    }
}

fn echo(socket: &mut Socket<'_>, block: &mut [u8]) {
    if socket.can_recv() && socket.can_send() {
        let count = socket.recv_slice(&mut block[..2_048]).unwrap_or(0);
        socket.send_slice(&block[..count]).expect("what one read takes fits");
    }
}

struct Phy {
    end: End,
    waiting: Option<Vec<u8>>,
}

impl Phy {
    fn wait(&mut self, patience: Duration) {
        if self.waiting.is_none() {
            self.waiting = self.end.next(patience);
        }
    }
}

impl phy::Device for Phy {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        // smoltcp counts the Ethernet header.
        capabilities.max_transmission_unit = MTU + 14;
        capabilities.medium = Medium::Ethernet;
        capabilities
    }

    fn receive(&mut self, _now: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let frame = self.waiting.take().or_else(|| self.end.try_next())?;
        Some((RxToken(frame), TxToken(&self.end)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&self.end))
    }
}

struct RxToken(Vec<u8>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct TxToken<'a>(&'a End);

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.send(frame);
        result
    }
}
