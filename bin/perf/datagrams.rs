//! The server's datagram services.

use hopline::socket::{Interest, UdpSocket};
use std::io;
use std::net::SocketAddr;

/// Datagrams of one socket before the others get their turn.
const ROUNDS: usize = 64;
/// Asks the counter.
const ASK: &[u8] = b"?";

/// What a port does with datagrams.
pub(crate) enum Service {
    /// Sends each back.
    Echo,
    /// Counts them, and tells the count since it was last asked.
    Count(u64),
    /// Sends as many of a size as it is asked for.
    Burst(Option<Burst>),
}

/// Datagrams still to be sent.
pub(crate) struct Burst {
    to: SocketAddr,
    left: u32,
    size: usize,
}

/// A socket and its service.
pub(crate) struct Datagrams {
    pub socket: UdpSocket,
    service: Service,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket, service: Service) -> Datagrams {
        Datagrams { socket, service }
    }

    /// What the socket waits for.
    pub(crate) fn interest(&self) -> Interest {
        if matches!(self.service, Service::Burst(Some(_))) { Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Takes and sends datagrams until the socket would block or others wait for their turn.
    pub(crate) fn serve(&mut self, scratch: &mut [u8]) -> Interest {
        for _ in 0..ROUNDS {
            // Besides "would block", an error is a report about a datagram sent before: nothing to stop for.
            if self.step(scratch).is_err() {
                break;
            }
        }
        self.interest()
    }

    fn step(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        match &mut self.service {
            Service::Burst(Some(burst)) => {
                self.socket.send_to(scratch.get(..burst.size).unwrap_or_default(), burst.to)?;
                burst.left -= 1;
                if burst.left == 0 {
                    self.service = Service::Burst(None);
                }
                Ok(())
            }
            _ => self.answer(scratch),
        }
    }

    fn answer(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        let (length, from) = self.socket.recv_from(scratch)?;
        let bytes = &scratch[..length];
        match &mut self.service {
            Service::Echo => self.socket.send_to(bytes, from).map(drop),
            Service::Count(count) if bytes == ASK => self.socket.send_to(&std::mem::take(count).to_be_bytes(), from).map(drop),
            Service::Count(count) => {
                *count += 1;
                Ok(())
            }
            Service::Burst(burst) => {
                *burst = Burst::parse(bytes, from);
                Ok(())
            }
        }
    }
}

impl Burst {
    /// `!`, a count of four bytes, a size of two, big-endian.
    fn parse(bytes: &[u8], to: SocketAddr) -> Option<Burst> {
        let &[b'!', a, b, c, d, e, f] = bytes else { return None };
        let (left, size) = (u32::from_be_bytes([a, b, c, d]), usize::from(u16::from_be_bytes([e, f])));
        (left > 0).then_some(Burst { to, left, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_asked_for_in_seven_bytes() {
        let to = SocketAddr::from(([192, 0, 2, 1], 9));
        let burst = Burst::parse(&[b'!', 0, 0, 1, 2, 5, 0xc0], to).unwrap();
        assert_eq!((burst.left, burst.size), (258, 1_472));
        assert!(Burst::parse(b"!short", to).is_none());
        assert!(Burst::parse(&[b'!', 0, 0, 0, 0, 0, 1], to).is_none());
    }
}
