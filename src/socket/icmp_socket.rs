//! An ICMP echo socket: what a ping program holds.

use super::backend::Backend;
use super::datagram::{DatagramHandle, DatagramInfo, Taking, describe, try_receive};
use super::waiting::{Side, buffer_size, time_to_live};
use crate::network::{DeliveryError, ErrorReport, Fragmentation};
use crate::time::Instant;
use crate::transport::shared::{Datagram, DatagramKind, DatagramState};
use crate::wire::icmpv4::Icmpv4Message;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The bytes of an echo message's header (RFC 792).
const ECHO_HEADER: usize = Icmpv4Message::HEADER_LENGTH;

/// A socket that sends ICMP echo requests and receives their replies, and the ICMP errors about them (RFC 792).
///
/// Each socket has an identifier of its own, chosen when it is opened unless the program wants a certain one; it sees only what carries it.
/// Round-trip times are measured from the time that [`IcmpSocket::send_echo`] gives to the arrival at the device, not to the program's waking.
pub struct IcmpSocket {
    pub(super) handle: Arc<DatagramHandle>,
}

/// A reply to an echo request. Its data has been copied out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Who replied.
    pub source: IpAddr,
    /// Which of our addresses it was sent to.
    pub destination: IpAddr,
    /// The request's sequence number.
    pub sequence: u16,
    /// Bytes of data in the reply; more than what was copied if the buffer was too short.
    pub length: usize,
    /// The reply's time to live, as it arrived.
    pub time_to_live: u8,
    /// DSCP and ECN bits, as they arrived.
    pub traffic_class: u8,
    /// When the device had it, by the stack's clock.
    pub arrived: Instant,
}

/// An error about an echo request.
#[derive(Clone, Debug)]
pub struct EchoError {
    /// What is wrong.
    pub error: DeliveryError,
    /// Who says so.
    pub reporter: IpAddr,
    /// Where the request went.
    pub destination: IpAddr,
    /// The request's sequence number, if the report quotes that much.
    pub sequence: Option<u16>,
    /// When the report arrived, by the stack's clock.
    pub arrived: Instant,
}

/// What an ICMP socket receives.
#[derive(Clone, Debug)]
pub enum IcmpEvent {
    /// A reply.
    Reply(EchoReply),
    /// A request of ours failed.
    Error(EchoError),
}

impl IcmpSocket {
    /// `local` is the source address, or unspecified; its port is the identifier, or 0 for any.
    pub(crate) fn open(backend: &Arc<Backend>, local: SocketAddr) -> io::Result<IcmpSocket> {
        Ok(IcmpSocket { handle: DatagramHandle::open(backend, DatagramKind::IcmpEcho, local)? })
    }

    /// The identifier that requests carry.
    pub fn identifier(&self) -> u16 {
        self.handle.state().local.port()
    }

    /// The address that requests are sent from; unspecified if the route decides.
    pub fn local_addr(&self) -> io::Result<IpAddr> {
        Ok(self.handle.state().local.ip())
    }

    /// Sends an echo request. Gives the time at which it was handed to the stack.
    pub fn send_echo(&self, destination: IpAddr, sequence: u16, data: &[u8]) -> io::Result<Instant> {
        let mut header = [0; ECHO_HEADER];
        Icmpv4Message::EchoRequest { identifier: self.identifier(), sequence }.emit(&mut header);
        let sent = self.handle.backend.clock.now();
        self.handle.send(SocketAddr::new(destination, 0), &[&header, data])?;
        Ok(sent)
    }

    /// Waits for a reply or an error about a request. A reply's data is copied to `data`, as much as fits.
    pub fn receive(&self, data: &mut [u8]) -> io::Result<IcmpEvent> {
        loop {
            match self.handle.wait(Side::Read).until(&self.handle.shared.state, next_arrival)? {
                Arrival::Report(arrived, report) => return Ok(IcmpEvent::Error(describe_error(arrived, &report))),
                Arrival::Message(datagram) => {
                    if let Some(reply) = read_reply(datagram, data) {
                        return Ok(IcmpEvent::Reply(reply));
                    }
                }
            }
        }
    }

    /// Sends a whole ICMP message; the transport layer fills identifier and checksum in.
    pub fn send_message(&self, destination: IpAddr, message: &[u8]) -> io::Result<usize> {
        self.handle.send(SocketAddr::new(destination, 0), &[message])
    }

    /// Receives a whole ICMP message. Errors stay for [`IcmpSocket::receive`] and [`IcmpSocket::next_error`].
    pub fn recv_message(&self, buffer: &mut [u8]) -> io::Result<(usize, DatagramInfo)> {
        self.handle.receive(buffer, Taking::Consume)
    }

    /// The oldest error about what was sent, if there is one; does not wait.
    pub fn next_error(&self) -> Option<EchoError> {
        let report = self.handle.state().errors.pop_front();
        report.map(|(arrived, report)| describe_error(arrived, &report))
    }

    /// The stack's clock, by which requests and replies are timed.
    pub fn now(&self) -> Instant {
        self.handle.backend.clock.now()
    }

    /// A second handle for the same socket.
    pub fn try_clone(&self) -> io::Result<IcmpSocket> {
        Ok(IcmpSocket { handle: self.handle.clone() })
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

    /// As set.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.timeout(Side::Read))
    }

    /// How long a send waits for room (`WouldBlock` after that); zero is `InvalidInput`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_timeout(Side::Write, timeout)
    }

    /// The time to live of requests: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = time_to_live(ttl)?;
        self.handle.change(|options| options.time_to_live = ttl)
    }

    /// As set.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.handle.options().time_to_live.into())
    }

    /// DSCP and ECN bits of requests (IPv4: TOS).
    pub fn set_traffic_class(&self, traffic_class: u8) -> io::Result<()> {
        self.handle.change(|options| options.traffic_class = traffic_class)
    }

    /// Whether requests may go to broadcast addresses.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.handle.change(|options| options.broadcast = broadcast)
    }

    /// Whether requests may be fragmented, here or on the way (ping's `-M`).
    pub fn set_fragmentation(&self, fragmentation: Fragmentation) -> io::Result<()> {
        self.handle.set_fragmentation(fragmentation);
        Ok(())
    }

    /// Bytes that may wait unread, counted as the slots they pin.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.handle.change(|options| options.receive_buffer = buffer_size(bytes))
    }

    /// Bytes of requests that may be on their way to the device.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.handle.change(|options| options.send_buffer = buffer_size(bytes))
    }

    /// The failure that no call has told yet. Told once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle.state().failure.take().map(io::Error::from))
    }
}

enum Arrival {
    Message(Datagram),
    Report(Instant, ErrorReport),
}

fn next_arrival(state: &mut DatagramState) -> Option<io::Result<Arrival>> {
    if let Some((arrived, report)) = state.errors.pop_front() {
        return Some(Ok(Arrival::Report(arrived, report)));
    }
    try_receive(state, Taking::Consume).map(|result| result.map(Arrival::Message))
}

/// What the message says, if it is an echo reply; its data goes to `data`.
fn read_reply(mut datagram: Datagram, data: &mut [u8]) -> Option<EchoReply> {
    let mut header = [0; ECHO_HEADER];
    datagram.packet.copy_to(&mut header);
    let Ok((Icmpv4Message::EchoReply { sequence, .. }, _)) = Icmpv4Message::parse(&header) else { return None };
    datagram.packet.advance(ECHO_HEADER);
    datagram.packet.copy_to(data);
    let DatagramInfo { peer, local, length, time_to_live, traffic_class, arrived } = describe(&datagram);
    Some(EchoReply { source: peer.ip(), destination: local.ip(), sequence, length, time_to_live, traffic_class, arrived })
}

fn describe_error(arrived: Instant, report: &ErrorReport) -> EchoError {
    let sequence = match Icmpv4Message::parse(&report.quoted) {
        Ok((Icmpv4Message::EchoRequest { sequence, .. }, _)) => Some(sequence),
        _ => None,
    };
    let ErrorReport { error, reporter, destination, .. } = *report;
    EchoError { error, reporter, destination, sequence, arrived }
}

impl fmt::Debug for IcmpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcmpSocket(identifier {})", self.identifier())
    }
}
