//! A UDP socket, as a program holds it.

use super::backend::Backend;
use super::datagram::{DatagramHandle, DatagramInfo, Taking};
use super::target::ToAddress;
use super::waiting::{Side, buffer_size, time_to_live, unsupported};
use crate::network::Fragmentation;
use crate::transport::shared::DatagramKind;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A UDP socket on a Hopline stack: the methods of [`std::net::UdpSocket`], with the same meaning and the same error kinds. Multicast and
/// v6-only calls are `Unsupported`.
///
/// A send waits only while this socket has more than its send buffer on the way to the device.
pub struct UdpSocket {
    pub(super) handle: Arc<DatagramHandle>,
}

impl UdpSocket {
    pub(crate) fn open(backend: &Arc<Backend>, local: SocketAddr) -> io::Result<UdpSocket> {
        Ok(UdpSocket { handle: DatagramHandle::open(backend, DatagramKind::Udp, local)? })
    }

    /// Receives one datagram; what does not fit into `buffer` is lost. Gives the bytes copied and the sender.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.handle.receive(buffer, Taking::Consume).map(|(copied, info)| (copied, info.peer))
    }

    /// As [`UdpSocket::recv_from`], but the datagram stays.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.handle.receive(buffer, Taking::Peek).map(|(copied, info)| (copied, info.peer))
    }

    /// As [`UdpSocket::recv_from`], with everything that is known of the datagram: its whole length, time to live, arrival.
    pub fn recv_info(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramInfo)> {
        self.handle.receive(buffer, Taking::Consume)
    }

    /// Sends one datagram to `destination`. More than 65,507 bytes are `InvalidInput`; a broadcast address needs
    /// [`UdpSocket::set_broadcast`], else it is `PermissionDenied`.
    pub fn send_to(&self, buffer: &[u8], destination: impl ToAddress) -> io::Result<usize> {
        let destination = destination.address()?;
        if destination.port() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a datagram cannot be sent to port 0"));
        }
        self.handle.send(destination, &[buffer])
    }

    /// From now on, sends go to `remote`, only its datagrams are received, and ICMP errors about it are told (`ConnectionRefused`).
    pub fn connect(&self, remote: impl ToAddress) -> io::Result<()> {
        self.handle.connect(remote.address()?)
    }

    /// Sends to the connected remote; `NotConnected` without one, which std on Linux has as `EDESTADDRREQ`.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let remote = self.handle.remote()?;
        self.handle.send(remote, &[buffer])
    }

    /// Receives one datagram; what does not fit into `buffer` is lost.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle.receive(buffer, Taking::Consume).map(|(copied, _)| copied)
    }

    /// As [`UdpSocket::recv`], but the datagram stays.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle.receive(buffer, Taking::Peek).map(|(copied, _)| copied)
    }

    /// The connected remote.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.handle.remote()
    }

    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.handle.state().local)
    }

    /// A second handle for the same socket: non-blocking mode and timeouts are shared, as in std.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        Ok(UdpSocket { handle: self.handle.clone() })
    }

    /// With `true`, what would wait is `WouldBlock`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.handle.settings.set_nonblocking(nonblocking);
        Ok(())
    }

    /// How long a receive waits (`WouldBlock` after that); zero is `InvalidInput`.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_timeout(Side::Read, timeout)
    }

    /// How long a send waits for room (`WouldBlock` after that); zero is `InvalidInput`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_timeout(Side::Write, timeout)
    }

    /// As set.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.timeout(Side::Read))
    }

    /// As set.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.timeout(Side::Write))
    }

    /// Whether broadcast addresses may be sent to.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.handle.change(|options| options.broadcast = broadcast)
    }

    /// As set.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(self.handle.options().broadcast)
    }

    /// The time to live of what is sent: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = time_to_live(ttl)?;
        self.handle.change(|options| options.time_to_live = ttl)
    }

    /// As set.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.handle.options().time_to_live.into())
    }

    /// DSCP and ECN bits of what is sent (IPv4: TOS).
    pub fn set_traffic_class(&self, traffic_class: u8) -> io::Result<()> {
        self.handle.change(|options| options.traffic_class = traffic_class)
    }

    /// As set.
    pub fn traffic_class(&self) -> io::Result<u8> {
        Ok(self.handle.options().traffic_class)
    }

    /// Whether what is sent may be fragmented, here or on the way.
    pub fn set_fragmentation(&self, fragmentation: Fragmentation) -> io::Result<()> {
        self.handle.set_fragmentation(fragmentation);
        Ok(())
    }

    /// As set.
    pub fn fragmentation(&self) -> io::Result<Fragmentation> {
        Ok(self.handle.fragmentation())
    }

    /// Bytes that may wait unread, counted as the slots they pin.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.handle.change(|options| options.receive_buffer = buffer_size(bytes))
    }

    /// As set.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        Ok(self.handle.options().receive_buffer)
    }

    /// Bytes that may be on their way to the device.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.handle.change(|options| options.send_buffer = buffer_size(bytes))
    }

    /// As set.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        Ok(self.handle.options().send_buffer)
    }

    /// Datagrams dropped because the receive buffer was full.
    pub fn receive_drops(&self) -> u64 {
        self.handle.state().receive_drops
    }

    /// The failure that no call has told yet. Told once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle.state().failure.take().map(io::Error::from))
    }
}

/// What is not there yet: each is `Unsupported`.
impl UdpSocket {
    /// `Unsupported`.
    pub fn join_multicast_v4(&self, _group: &Ipv4Addr, _interface: &Ipv4Addr) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn leave_multicast_v4(&self, _group: &Ipv4Addr, _interface: &Ipv4Addr) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn join_multicast_v6(&self, _group: &Ipv6Addr, _interface: u32) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn leave_multicast_v6(&self, _group: &Ipv6Addr, _interface: u32) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn set_multicast_loop_v4(&self, _on: bool) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn set_multicast_ttl_v4(&self, _ttl: u32) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn set_multicast_loop_v6(&self, _on: bool) -> io::Result<()> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        unsupported("multicast")
    }

    /// `Unsupported`.
    pub fn set_only_v6(&self, _on: bool) -> io::Result<()> {
        unsupported("IPv6")
    }

    /// `Unsupported`.
    pub fn only_v6(&self) -> io::Result<bool> {
        unsupported("IPv6")
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.handle.state();
        write!(f, "UdpSocket({} -> {:?})", state.local, state.remote)
    }
}
