//! One host: link, network and transport layer, driven by hand.

use super::VirtualClock;
use super::driven::{Driven, Lag};
use crate::config::Config;
use crate::counters::Counters;
use crate::device::segmentation::prepare;
use crate::device::virtual_link::path::receive_copy;
use crate::device::{DeviceOffload, Medium};
use crate::layer::{Notify, Observer, Outbox};
use crate::link::{self, Link};
use crate::network::topology::{AddressMode, Cidr, Route, Topology, Via};
use crate::network::{self, Network};
use crate::packet::{Packet, Pool};
use crate::random::{PublicRandom, SecretRandom};
use crate::socket::backend::{Backend, BackendParts, Waiting};
use crate::socket::{ConnectOptions, IcmpSocket, ListenOptions, RawSocket, TcpListener, TcpStream, ToAddress, UdpSocket};
use crate::time::{Clock, Duration, Instant};
use crate::transport::ports::OwnPorts;
use crate::transport::shared::{DeviceRoom, MarkQueue, Socket};
use crate::transport::{self, Transport};
use crate::wire::{MacAddress, Protocol};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Rounds of work at one instant after which a host is said to be stuck.
const ROUNDS_AT_ONE_INSTANT: u32 = 1_000_000;

/// What a host is like.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Its addresses with the lengths of their networks.
    pub addresses: Vec<Cidr>,
    /// Routes beside those to its own networks.
    pub routes: Vec<Route>,
    /// Ethernet frames or bare IP packets. [`MacAddress::ZERO`] has the world choose an address.
    pub medium: Medium,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// What its device does for it. By default nothing: each packet is cut to the MTU and complete, as it would be on a wire.
    pub offload: DeviceOffload,
    /// Bounds and defaults.
    pub config: Config,
    /// Of its secret randomness; a world mixes in its own.
    pub seed: u64,
    /// How late its layers may come to what they have to do, as real threads do: half of all batches wait for part of this time, and then are one with what has come
    /// and fallen due meanwhile. By default they are in time. With a lag, what handles ask for takes time, too.
    pub lag: Duration,
}

impl HostOptions {
    /// A host on Ethernet with one address, such as `"192.0.2.1/24"`.
    ///
    /// # Panics
    /// If `address` is not an address with a prefix length.
    pub fn new(address: &str) -> HostOptions {
        HostOptions {
            addresses: vec![address.parse().expect("an address with a prefix length")],
            routes: Vec::new(),
            medium: Medium::Ethernet(MacAddress::ZERO),
            mtu: 1500,
            offload: DeviceOffload::default(),
            config: Config::default(),
            seed: 0,
            lag: Duration::ZERO,
        }
    }

    /// The same host with a default route through `gateway`.
    pub fn gateway(mut self, gateway: IpAddr) -> HostOptions {
        let everything = Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix_length: 0 };
        self.routes.push(Route { destination: everything, via: Via::Gateway(gateway), metric: 0, source: None });
        self
    }

    fn topology(&self) -> Topology {
        Topology {
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
            mtu: self.mtu,
            medium: self.medium,
            offload: self.offload,
            mode: AddressMode::Own,
        }
    }
}

/// A packet that a host gave to its device.
#[derive(Debug)]
pub struct SentPacket {
    /// When.
    pub at: Instant,
    /// On Ethernet, a frame.
    pub packet: Packet,
}

/// A whole stack, driven by hand. Handles never wait: what would have to is `WouldBlock`.
///
/// ```
/// use hopline::simulation::{Host, HostOptions};
/// let mut host = Host::new(HostOptions::new("192.0.2.1/24"));
/// let socket = host.bind_udp("192.0.2.1:4000")?;
/// socket.send_to(b"hello", "192.0.2.2:53".parse::<std::net::SocketAddr>().unwrap())?;
/// host.settle();
/// // A cold neighbour cache: the first thing to leave is a question for the neighbour's address.
/// assert!(!host.take_sent().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Host {
    clock: Arc<VirtualClock>,
    backend: Arc<Backend>,
    marks: Arc<DirtyList>,
    counters: Arc<Counters>,
    pool: Pool,
    medium: Medium,
    offload: DeviceOffload,
    link: Driven<Link>,
    network: Driven<Network>,
    transport: Driven<Transport>,
    /// Taken off the dirty list.
    marked: VecDeque<transport::Message>,
    sent: Vec<SentPacket>,
    injected: u64,
}

/// The dirty list of a host without threads; `None` once the host is gone. It would keep alive the sockets on it, and they it.
struct DirtyList(Mutex<Option<VecDeque<Socket>>>);

impl MarkQueue for DirtyList {
    fn push(&self, socket: Socket) {
        if let Some(sockets) = &mut *self.0.lock() {
            sockets.push_back(socket);
        }
    }
}

impl DirtyList {
    fn new() -> DirtyList {
        DirtyList(Mutex::new(Some(VecDeque::new())))
    }

    fn take(&self) -> VecDeque<Socket> {
        self.0.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        let left = self.0.lock().take();
        drop(left);
    }
}

impl Host {
    /// A host that is alone, with a clock of its own.
    pub fn new(options: HostOptions) -> Host {
        Host::with_clock(options, Arc::new(VirtualClock::default()))
    }

    pub(super) fn with_clock(options: HostOptions, clock: Arc<VirtualClock>) -> Host {
        let mut random = SecretRandom::from_seed(options.seed);
        let topology = Arc::new(options.topology());
        let HostOptions { medium, mtu, offload, config, seed, lag, .. } = options;
        let (pool, marks, counters) = (Pool::default(), Arc::new(DirtyList::new()), Arc::new(Counters::default()));
        let device_room = Arc::new(DeviceRoom::new(config.pipeline.device_room_packets, marks.clone()));
        let link = Link::new(config.link.clone(), medium, mtu, pool.clone(), random.split());
        let network = Network::new(config.network.clone(), topology.clone(), pool.clone(), random.split());
        let transport = Transport::new(&config, topology.clone(), pool.clone(), random.split(), marks.clone(), device_room.clone());
        let backend = Backend::new(BackendParts {
            marks: marks.clone(),
            device_room,
            pool: pool.clone(),
            ports: Arc::new(OwnPorts),
            config: Arc::new(config),
            clock: clock.clone(),
            topology,
            waiting: Waiting::Never,
            health: Arc::default(),
            seat: Arc::default(),
        });
        let mut lags = PublicRandom::from_seed(seed);
        let mut lag = || Lag::new(lag, lags.next_u64());
        Host {
            link: Driven::new(link, Outbox::new(counters.clone()), lag()),
            network: Driven::new(network, Outbox::new(counters.clone()), lag()),
            transport: Driven::new(transport, Outbox::new(counters.clone()), lag()),
            marked: VecDeque::new(),
            sent: Vec::new(),
            injected: 0,
            clock,
            backend,
            marks,
            counters,
            pool,
            medium,
            offload,
        }
    }

    /// Starts to open a connection.
    pub fn connect(&mut self, remote: impl ToAddress) -> io::Result<TcpStream> {
        self.connect_with(remote, &ConnectOptions::default())
    }

    /// Starts to open a connection from a chosen address, or with chosen options.
    pub fn connect_with(&mut self, remote: impl ToAddress, options: &ConnectOptions) -> io::Result<TcpStream> {
        let stream = TcpStream::open(&self.backend, remote.address()?, options)?;
        self.settle();
        Ok(stream)
    }

    /// Listens for connections.
    pub fn listen(&mut self, local: impl ToAddress) -> io::Result<TcpListener> {
        self.listen_with(local, &ListenOptions::default())
    }

    /// Listens with a chosen backlog, or with chosen options.
    pub fn listen_with(&mut self, local: impl ToAddress, options: &ListenOptions) -> io::Result<TcpListener> {
        let listener = TcpListener::open(&self.backend, local.address()?, options)?;
        self.settle_for_program();
        listener.take_error()?.map_or(Ok(listener), Err)
    }

    /// A UDP socket.
    pub fn bind_udp(&mut self, local: impl ToAddress) -> io::Result<UdpSocket> {
        let socket = UdpSocket::open(&self.backend, local.address()?)?;
        self.settle_for_program();
        socket.take_error()?.map_or(Ok(socket), Err)
    }

    /// A socket for ICMP echo.
    pub fn icmp(&mut self) -> io::Result<IcmpSocket> {
        let socket = IcmpSocket::open(&self.backend, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        self.settle_for_program();
        socket.take_error()?.map_or(Ok(socket), Err)
    }

    /// A socket for every packet of an IP protocol.
    pub fn raw(&mut self, protocol: Protocol) -> io::Result<RawSocket> {
        let socket = RawSocket::open(&self.backend, protocol)?;
        self.settle_for_program();
        socket.take_error()?.map_or(Ok(socket), Err)
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// What the host did so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// TCP connections, those in TIME-WAIT included.
    pub fn connections(&self) -> usize {
        self.transport.layer.connections()
    }

    /// Whether nothing is left that a peer has yet to hear of (see [`Transport::is_quiet`]).
    pub fn is_quiet(&self) -> bool {
        self.transport.layer.is_quiet()
    }

    /// Bytes of slots that packets and sockets hold.
    pub fn bytes_in_use(&self) -> usize {
        self.pool.bytes_in_use()
    }

    /// Packets of programs on their way to the device.
    pub fn packets_under_way(&self) -> usize {
        self.backend.device_room.used()
    }

    /// Frames or bare packets.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Tells `observer` whatever happens inside from now on: drops, retransmissions, log lines.
    pub fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.link.out.set_observer(Some(observer.clone()));
        self.network.out.set_observer(Some(observer.clone()));
        self.transport.out.set_observer(Some(observer));
    }

    /// Replaces addresses and routes.
    pub fn set_topology(&mut self, change: impl FnOnce(&mut Topology)) {
        let mut topology = (*self.backend.topology()).clone();
        change(&mut topology);
        let topology = Arc::new(topology);
        self.backend.set_topology(topology.clone());
        self.network.inbox.push_back(network::Message::Topology(topology));
    }

    /// Gives the transport layer a message that is not a packet: close or abort everything.
    pub fn tell_transport(&mut self, message: transport::Message) {
        self.transport.inbox.push_back(message);
    }

    /// What its device does for it from now on.
    pub fn set_offload(&mut self, offload: DeviceOffload) {
        self.offload = offload;
        self.set_topology(|topology| topology.offload = offload);
    }

    /// A packet arrives at the device now. (On Ethernet, a frame.)
    pub fn inject(&mut self, packet: Packet) {
        self.injected += 1;
        let mut packet = receive_copy(&packet, &self.pool);
        packet.arrived = self.now();
        packet.number = self.injected;
        self.counters.device.frames_received.increment();
        self.counters.device.bytes_received.add(packet.len() as u64);
        self.link.inbox.push_back(link::Message::Frame(packet));
    }

    /// The same for bytes.
    pub fn inject_bytes(&mut self, bytes: &[u8]) {
        let packet = Packet::from_bytes(&self.pool, bytes);
        self.inject(packet);
    }

    /// What the host gave to its device since the last call.
    pub fn take_sent(&mut self) -> Vec<SentPacket> {
        std::mem::take(&mut self.sent)
    }

    /// When the host next does something by itself.
    pub fn next_event(&self) -> Option<Instant> {
        [self.link.next_event(), self.network.next_event(), self.transport.next_event()].into_iter().flatten().min()
    }

    /// Turns the clock to `instant`, running every timer on the way at its own time.
    pub fn advance_to(&mut self, instant: Instant) {
        self.settle();
        for round in 0.. {
            let Some(next) = self.next_event().filter(|&next| next <= instant) else { break };
            self.clock.advance_to(next);
            self.settle();
            assert!(round < ROUNDS_AT_ONE_INSTANT, "the host does not come to rest:\n{self}");
        }
        self.clock.advance_to(instant);
    }

    /// Turns the clock on by `duration`.
    pub fn advance_by(&mut self, duration: Duration) {
        self.advance_to(self.now() + duration);
    }

    /// Does everything that can be done now, what is due included; false if there was nothing to do.
    ///
    /// # Panics
    /// If there is no end to it, with a description of the host.
    pub fn settle(&mut self) -> bool {
        let mut rounds = 0;
        while self.work() {
            rounds += 1;
            assert!(rounds < ROUNDS_AT_ONE_INSTANT, "the host does not come to rest:\n{self}");
        }
        rounds > 0
    }

    /// The same for a program that waits for its socket to be open: its wish is no longer delayed.
    fn settle_for_program(&mut self) {
        self.transport.hurry(self.now());
        self.settle();
    }

    /// One turn of each layer, as their threads would run it.
    fn work(&mut self) -> bool {
        let now = self.now();
        let mut worked = self.link.turn(now, &mut VecDeque::new());
        self.carry();
        worked |= self.network.turn(now, &mut VecDeque::new());
        self.carry();
        self.marked.extend(self.marks.take().into_iter().map(transport::Message::Marked));
        worked |= self.transport.turn(now, &mut self.marked);
        self.carry();
        worked
    }

    /// Carries what the layers made to where it belongs, then wakes whoever waits.
    fn carry(&mut self) {
        self.network.inbox.extend(self.link.out.up.drain(..));
        self.network.inbox.extend(self.transport.out.down.drain(..));
        self.transport.inbox.extend(self.network.out.up.drain(..));
        self.link.inbox.extend(self.network.out.down.drain(..));
        self.send_frames();
        let mut wakes: Vec<Arc<dyn Notify>> = std::mem::take(&mut self.transport.out.wakes);
        wakes.append(&mut self.network.out.wakes);
        wakes.append(&mut self.link.out.wakes);
        wakes.iter().for_each(|wake| {
            wake.notify();
        });
    }

    /// The device takes frames at once and gives their room back.
    fn send_frames(&mut self) {
        if self.link.out.down.is_empty() {
            return;
        }
        prepare(&mut self.link.out.down, &self.offload, self.medium, &self.pool);
        let at = self.clock.now();
        for mut packet in self.link.out.down.drain(..) {
            packet.guard = None;
            self.counters.device.frames_sent.increment();
            self.counters.device.bytes_sent.add(packet.len() as u64);
            self.sent.push(SentPacket { at, packet });
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.marks.close();
    }
}

/// The state of everything, for a test that failed.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.backend.topology().addresses.iter().map(Cidr::to_string).collect();
        writeln!(f, "addresses {addresses:?}, {} connections, device room in use {}", self.connections(), self.backend.device_room.used())?;
        let deadlines = (self.link.next_event(), self.network.next_event(), self.transport.next_event());
        writeln!(f, "next link, network, transport turn: {deadlines:?}")?;
        let inboxes = (self.link.inbox.len(), self.network.inbox.len(), self.transport.inbox.len());
        writeln!(f, "messages for link, network, transport: {inboxes:?}; {} frames to take", self.sent.len())?;
        for line in self.counters.to_string().lines().filter(|line| !line.ends_with(" 0")) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_dropped_before_its_handles_leaves_nothing_behind() {
        let mut host = Host::new(HostOptions::new("192.0.2.1/24"));
        let stream = host.connect("192.0.2.2:80").unwrap();
        let listener = host.listen("192.0.2.1:80").unwrap();
        let marks = Arc::downgrade(&host.marks);
        drop(listener);
        drop(host);
        drop(stream);
        assert!(marks.upgrade().is_none(), "sockets on the dirty list hold the list");
    }
}
