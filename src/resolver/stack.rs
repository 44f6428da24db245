//! The resolver of a stack: questions travel over the stack itself.

use super::carriers::{Carriers, DatagramSocket, HostCarriers, exchange_datagrams, exchange_over_stream, time_left, unspecified_for};
use super::query::Request;
use super::{Answer, Hosts, Names, ResolverConfig};
use crate::random::SecretRandom;
use crate::socket::{Resolve, Stack, UdpSocket};
use crate::wire::dns::RecordType;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Looks names up over a stack, for `stack.connect("example.com:443")`. A stack makes one of its name servers; `Stack::builder().resolver(…)` takes
/// one that is configured otherwise.
///
/// Servers on the host's loopback (127.0.0.53) cannot be reached by frames: they are asked through a socket of the host's.
#[derive(Debug)]
pub struct Resolver {
    names: Names,
}

impl Resolver {
    /// A resolver with these servers and this hosts file. Fails if the operating system has no randomness.
    pub fn new(config: ResolverConfig, hosts: Hosts) -> io::Result<Resolver> {
        Ok(Resolver { names: Names::new(config, hosts, SecretRandom::from_os()?) })
    }

    /// A resolver that asks these servers and knows the host's own names: what a stack has unless it is given another.
    pub fn for_servers(servers: &[IpAddr]) -> io::Result<Resolver> {
        Resolver::new(ResolverConfig::for_servers(servers), Hosts::of_system())
    }

    /// How names are looked up.
    pub fn config(&self) -> &ResolverConfig {
        self.names.config()
    }

    /// The addresses of a host: see [`Names::lookup_host`].
    pub fn lookup_host(&self, stack: &Stack, host: &str) -> io::Result<Vec<IpAddr>> {
        self.names.lookup_host(&StackCarriers { stack }, host)
    }

    /// The records of one type that a name has: see [`Names::lookup`].
    pub fn lookup(&self, stack: &Stack, name: &str, kind: RecordType) -> io::Result<Answer> {
        self.names.lookup(&StackCarriers { stack }, name, kind)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, stack: &Stack, host: &str) -> io::Result<Vec<IpAddr>> {
        self.lookup_host(stack, host)
    }
}

struct StackCarriers<'a> {
    stack: &'a Stack,
}

impl Carriers for StackCarriers<'_> {
    fn datagram(&self, request: &Request, timeout: Duration, take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) -> io::Result<()> {
        if request.server.ip().is_loopback() {
            return HostCarriers.datagram(request, timeout, take);
        }
        let socket = self.stack.bind_udp(SocketAddr::new(unspecified_for(request.server), 0))?;
        // Connected, so that a server that is not there is known at once (ICMP port unreachable).
        socket.connect(request.server)?;
        exchange_datagrams(&socket, request, timeout, take)
    }

    fn stream(&self, request: &Request, timeout: Duration) -> io::Result<Vec<u8>> {
        if request.server.ip().is_loopback() {
            return HostCarriers.stream(request, timeout);
        }
        let until = Instant::now() + timeout;
        let mut stream = self.stack.connect_timeout(request.server, timeout)?;
        exchange_over_stream(&mut stream, &request.message, |stream| {
            let left = time_left(until)?;
            stream.set_write_timeout(Some(left)).and_then(|()| stream.set_read_timeout(Some(left)))
        })
    }
}

impl DatagramSocket for UdpSocket {
    fn send(&self, message: &[u8], _server: SocketAddr) -> io::Result<usize> {
        UdpSocket::send(self, message)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }

    fn set_receive_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}
