//! The stack, as a program holds it: everything else is opened from here.

use super::backend::Backend;
use super::connect::connect_any;
use super::target::{Resolve, ToTarget};
use super::{ConnectOptions, IcmpSocket, ListenOptions, RawSocket, StackBuilder, TcpListener, TcpStream, UdpSocket};
use crate::counters::Counters;
use crate::device::DeviceProperties;
use crate::network::topology::{Cidr, Route, Topology};
use crate::pipeline::Pipeline;
use crate::time::Instant;
use crate::transport::shared::SocketOptions;
use crate::wire::Protocol;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A running TCP/IP stack. Cheap to clone: all clones are one stack.
///
/// Dropping the last clone shuts it down with the grace of the configuration, as [`Stack::shutdown`] does. Streams and sockets do not keep it
/// alive: what they still try afterwards is `NotConnected`.
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) backend: Arc<Backend>,
    pub(super) pipeline: Pipeline,
    pub(super) counters: Arc<Counters>,
    pub(super) properties: DeviceProperties,
    pub(super) name_servers: Vec<IpAddr>,
    pub(super) resolve: Arc<dyn Resolve>,
}

impl Stack {
    /// What a stack is made of.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    pub(super) fn from_inner(inner: Inner) -> Stack {
        Stack { inner: Arc::new(inner) }
    }

    /// Opens a TCP connection: resolves the target if it has a name, tries its addresses one 250 ms after the other (RFC 8305 §5), and waits
    /// until one of them answers.
    pub fn connect(&self, target: impl ToTarget) -> io::Result<TcpStream> {
        self.connect_with(target, &ConnectOptions::default())
    }

    /// As [`Stack::connect`], but gives up after `timeout` (`TimedOut`), name resolution not counted; zero is `InvalidInput`.
    pub fn connect_timeout(&self, target: impl ToTarget, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        self.connect_with(target, &ConnectOptions { timeout: Some(timeout), ..ConnectOptions::default() })
    }

    /// As [`Stack::connect`], with everything that can be chosen.
    pub fn connect_with(&self, target: impl ToTarget, options: &ConnectOptions) -> io::Result<TcpStream> {
        let addresses = target.targets(self)?;
        connect_any(&self.inner.backend, &addresses, options)
    }

    /// Connects by Fast Open (RFC 7413) where the server's cookie is known, so that `data` goes with the SYN; else as usual, with `data` behind the
    /// handshake, and asks for a cookie for the next time. `data` may arrive twice: only for requests that may be repeated.
    pub fn connect_with_data(&self, target: impl ToTarget, data: &[u8], options: &ConnectOptions) -> io::Result<TcpStream> {
        let socket = options.options.clone().unwrap_or_else(|| self.inner.backend.config.tcp.socket_options());
        let socket = SocketOptions { fast_open: true, ..socket };
        self.connect_with(target, &ConnectOptions { options: Some(socket), first_data: data.to_vec(), ..options.clone() })
    }

    /// Tries `addresses` one 250 ms after the other, without a pause after one that failed; the first that answers wins.
    pub fn connect_any(&self, addresses: &[SocketAddr], options: &ConnectOptions) -> io::Result<TcpStream> {
        connect_any(&self.inner.backend, addresses, options)
    }

    /// Starts to open a TCP connection and returns at once: [`TcpStream::connected`] tells the outcome, a [`super::Poller`] waits for it (writable).
    pub fn start_connect(&self, remote: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
        TcpStream::open(&self.inner.backend, remote, options)
    }

    /// Listens on an address and port; port 0 leaves the choice to the stack.
    pub fn listen(&self, local: impl ToTarget) -> io::Result<TcpListener> {
        self.listen_with(local, &ListenOptions::default())
    }

    /// As [`Stack::listen`], with everything that can be chosen.
    pub fn listen_with(&self, local: impl ToTarget, options: &ListenOptions) -> io::Result<TcpListener> {
        self.first_that_works(local, |local| TcpListener::open(&self.inner.backend, local, options))
    }

    /// Opens a UDP socket on an address and port; port 0 leaves the choice to the stack.
    pub fn bind_udp(&self, local: impl ToTarget) -> io::Result<UdpSocket> {
        self.first_that_works(local, |local| UdpSocket::open(&self.inner.backend, local))
    }

    /// Opens an ICMP echo socket on an address of ours (or the unspecified one), with an identifier of the stack's choice.
    pub fn bind_icmp(&self, local: IpAddr) -> io::Result<IcmpSocket> {
        self.bind_icmp_as(local, 0)
    }

    /// Opens an ICMP echo socket with a certain identifier; 0 leaves the choice to the stack.
    pub fn bind_icmp_as(&self, local: IpAddr, identifier: u16) -> io::Result<IcmpSocket> {
        IcmpSocket::open(&self.inner.backend, SocketAddr::new(local, identifier))
    }

    /// Opens a raw socket for one IP protocol.
    pub fn raw(&self, protocol: Protocol) -> io::Result<RawSocket> {
        RawSocket::open(&self.inner.backend, protocol)
    }

    fn first_that_works<T>(&self, local: impl ToTarget, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "no address to bind to");
        for local in local.targets(self)? {
            match open(local) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The addresses of a host, by name, by the stack's resolver. An address literal is its own answer.
    pub fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        self.inner.resolve.resolve(self, host)
    }

    /// The name servers that the stack was given.
    pub fn name_servers(&self) -> &[IpAddr] {
        &self.inner.name_servers
    }

    /// What the stack has counted so far.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// What is known of the device.
    pub fn properties(&self) -> &DeviceProperties {
        &self.inner.properties
    }

    /// Our addresses.
    pub fn addresses(&self) -> Vec<Cidr> {
        self.topology().addresses.clone()
    }

    /// Bytes of the largest IP packet on the link.
    pub fn mtu(&self) -> usize {
        self.topology().mtu
    }

    /// Addresses, routes and the link at this moment.
    pub fn topology(&self) -> Arc<Topology> {
        self.inner.backend.topology()
    }

    /// Replaces addresses and routes. Connections from addresses that are gone fail with `AddrNotAvailable`; the sockets bound to them are told so.
    pub fn set_addresses(&self, addresses: Vec<Cidr>, routes: Vec<Route>) {
        let topology = Arc::new(Topology { addresses, routes, ..(*self.topology()).clone() });
        self.inner.backend.set_topology(topology.clone());
        self.inner.pipeline.set_topology(topology);
    }

    /// The stack's clock, by which arrivals are timed.
    pub fn now(&self) -> Instant {
        self.inner.backend.clock.now()
    }

    /// Ends the stack: closes every connection, waits until each is closed or in TIME-WAIT, resets after `grace` what is left, then ends and
    /// joins every thread and gives back the ports. Calls that were blocked return `ConnectionAborted`, later ones `NotConnected`. A second call
    /// waits for the first. An error says that a thread had panicked.
    pub fn shutdown(&self, grace: Duration) -> io::Result<()> {
        self.inner.end(grace)
    }

    /// Ends the stack at once: resets every connection. Cuts short the grace of a [`Stack::shutdown`] in another thread.
    pub fn abort(&self) -> io::Result<()> {
        self.inner.pipeline.hurry();
        self.inner.end(Duration::ZERO)
    }
}

impl Inner {
    fn end(&self, grace: Duration) -> io::Result<()> {
        let outcome = self.pipeline.shutdown(grace);
        self.backend.ports.close();
        outcome
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let grace = self.backend.config.pipeline.shutdown_grace;
        // Nobody is left to be told of a panic but whoever listens to the panic hook, and that has been called.
        let _ = self.end(grace);
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.topology();
        f.debug_struct("Stack").field("device", &self.inner.properties.name).field("addresses", &topology.addresses).finish()
    }
}
