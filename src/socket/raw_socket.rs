//! A raw IP socket, as a program holds it.

use super::backend::Backend;
use super::datagram::{DatagramHandle, DatagramInfo, Taking};
use super::waiting::{Side, buffer_size, time_to_live};
use crate::network::{ErrorReport, Fragmentation};
use crate::time::Instant;
use crate::transport::shared::DatagramKind;
use crate::wire::Protocol;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A socket that receives every packet of one IP protocol, beside whoever else gets it, and sends such packets. What it sends and receives
/// begins behind the IP header.
pub struct RawSocket {
    pub(super) handle: Arc<DatagramHandle>,
}

impl RawSocket {
    pub(crate) fn open(backend: &Arc<Backend>, protocol: Protocol) -> io::Result<RawSocket> {
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Ok(RawSocket { handle: DatagramHandle::open(backend, DatagramKind::Raw(protocol), local)? })
    }

    /// Sends what follows the IP header. Its checksum is the program's.
    pub fn send_to(&self, payload: &[u8], destination: IpAddr) -> io::Result<usize> {
        self.handle.send(SocketAddr::new(destination, 0), &[payload])
    }

    /// Receives what follows the IP header of one packet; what does not fit into `buffer` is lost.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramInfo)> {
        self.handle.receive(buffer, Taking::Consume)
    }

    /// As [`RawSocket::recv_from`], but the packet stays.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramInfo)> {
        self.handle.receive(buffer, Taking::Peek)
    }

    /// The oldest error about what was sent and when it arrived, if there is one; does not wait.
    pub fn next_error(&self) -> Option<(Instant, ErrorReport)> {
        self.handle.state().errors.pop_front()
    }

    /// From now on, only packets from `remote` are received.
    pub fn connect(&self, remote: IpAddr) -> io::Result<()> {
        self.handle.connect(SocketAddr::new(remote, 0))
    }

    /// A second handle for the same socket.
    pub fn try_clone(&self) -> io::Result<RawSocket> {
        Ok(RawSocket { handle: self.handle.clone() })
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

    /// The time to live of what is sent: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = time_to_live(ttl)?;
        self.handle.change(|options| options.time_to_live = ttl)
    }

    /// DSCP and ECN bits of what is sent (IPv4: TOS).
    pub fn set_traffic_class(&self, traffic_class: u8) -> io::Result<()> {
        self.handle.change(|options| options.traffic_class = traffic_class)
    }

    /// Whether broadcast addresses may be sent to.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.handle.change(|options| options.broadcast = broadcast)
    }

    /// Whether what is sent may be fragmented, here or on the way.
    pub fn set_fragmentation(&self, fragmentation: Fragmentation) -> io::Result<()> {
        self.handle.set_fragmentation(fragmentation);
        Ok(())
    }

    /// Bytes that may wait unread, counted as the slots they pin.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.handle.change(|options| options.receive_buffer = buffer_size(bytes))
    }

    /// The failure that no call has told yet. Told once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle.state().failure.take().map(io::Error::from))
    }
}

impl fmt::Debug for RawSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSocket({:?})", self.handle.shared.kind)
    }
}
