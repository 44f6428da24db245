//! How DNS messages get to a server and back: the blocking half of the resolver.
//!
//! Owns the [`Carriers`] trait and its two implementations: over a Hopline stack (`stack_carriers`), and over the host's own sockets for servers
//! that frames cannot reach (127.0.0.53). Refuses to look into messages: [`super::query`] does.

use super::query::Request;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Sends requests and waits for what comes back.
pub trait Carriers: Send + Sync {
    /// Sends the request as one datagram, from a socket that nothing else uses, and hands each datagram that comes back to `take` until it
    /// returns `false`. An error of kind `TimedOut` says that `timeout` is over; any other, that the server cannot be reached.
    fn datagram(&self, request: &Request, timeout: Duration, take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) -> io::Result<()>;

    /// Sends the request over a new TCP connection and returns the message that comes back.
    fn stream(&self, request: &Request, timeout: Duration) -> io::Result<Vec<u8>>;
}

/// A datagram socket, as far as this needs one.
pub(super) trait DatagramSocket {
    fn send(&self, message: &[u8], server: SocketAddr) -> io::Result<usize>;
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    fn set_receive_timeout(&self, timeout: Duration) -> io::Result<()>;
}

/// One datagram out, any number in, until `take` has enough or the time is over.
pub(super) fn exchange_datagrams(
    socket: &dyn DatagramSocket,
    request: &Request,
    timeout: Duration,
    take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool,
) -> io::Result<()> {
    let until = Instant::now() + timeout;
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    socket.send(&request.message, request.server)?;
    loop {
        socket.set_receive_timeout(time_left(until)?)?;
        let (length, from) = socket.receive(&mut buffer).map_err(timed_out_by_any_name)?;
        if !take(from, buffer.get(..length).unwrap_or_default()) {
            return Ok(());
        }
    }
}

/// The length goes in front of each message (RFC 1035 §4.2.2), in the same write (RFC 7766 §8). `arm` sets the time that the next call may take.
pub(super) fn exchange_over_stream<S: Read + Write>(
    stream: &mut S,
    message: &[u8],
    arm: impl Fn(&S) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let framed = [&length.to_be_bytes(), message].concat();
    arm(stream)?;
    stream.write_all(&framed).map_err(timed_out_by_any_name)?;
    let mut length = [0; 2];
    read_exactly(stream, &mut length, &arm)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    read_exactly(stream, &mut answer, &arm)?;
    Ok(answer)
}

fn read_exactly<S: Read>(stream: &mut S, mut buffer: &mut [u8], arm: impl Fn(&S) -> io::Result<()>) -> io::Result<()> {
    while !buffer.is_empty() {
        arm(stream)?;
        match stream.read(buffer).map_err(timed_out_by_any_name)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = buffer.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// What is left until then; `TimedOut` if nothing is.
pub(super) fn time_left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads that took too long say `WouldBlock` on Unix and `TimedOut` elsewhere.
pub(super) fn timed_out_by_any_name(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

const LARGEST_DATAGRAM: usize = 65_535;

/// The host's own sockets: for a resolver on the host itself, which frames cannot reach.
#[derive(Copy, Clone, Debug, Default)]
pub struct HostCarriers;

impl Carriers for HostCarriers {
    fn datagram(&self, request: &Request, timeout: Duration, take: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(unspecified_for(request.server), 0))?;
        exchange_datagrams(&socket, request, timeout, take)
    }

    fn stream(&self, request: &Request, timeout: Duration) -> io::Result<Vec<u8>> {
        let until = Instant::now() + timeout;
        let mut stream = std::net::TcpStream::connect_timeout(&request.server, timeout)?;
        exchange_over_stream(&mut stream, &request.message, |stream| {
            let left = time_left(until)?;
            stream.set_write_timeout(Some(left)).and_then(|()| stream.set_read_timeout(Some(left)))
        })
    }
}

/// The address to bind to in order to reach `server`.
pub(super) fn unspecified_for(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

impl DatagramSocket for std::net::UdpSocket {
    fn send(&self, message: &[u8], server: SocketAddr) -> io::Result<usize> {
        self.send_to(message, server)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }

    fn set_receive_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Gives what is in `input` a byte at a time, and keeps what is written.
    struct Pipe {
        input: Cursor<Vec<u8>>,
        output: Vec<u8>,
    }

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let first = buffer.len().min(1);
            self.input.read(&mut buffer[..first])
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.output.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn messages_over_streams_have_their_length_in_front() {
        let mut pipe = Pipe { input: Cursor::new(b"\x00\x05hello and more".to_vec()), output: vec![] };
        assert_eq!(exchange_over_stream(&mut pipe, b"abc", |_| Ok(())).unwrap(), b"hello");
        assert_eq!(pipe.output, b"\x00\x03abc");
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let mut pipe = Pipe { input: Cursor::new(b"\x00\x05hell".to_vec()), output: vec![] };
        assert_eq!(exchange_over_stream(&mut pipe, b"abc", |_| Ok(())).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
