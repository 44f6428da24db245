//! One connection, as ureq wants it: buffers, deadlines, and the question whether it is still open.

use super::HttpObserver;
use super::tap::Tap;
use crate::app::tls::{self, ClientConnection, HalfClose, StreamOwned, TlsClient};
use crate::socket::TcpStream;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, ShutdownHandle, Transport, time};

/// When the present step has to be over, and what to call it if it is not.
#[derive(Copy, Clone, Debug)]
pub(super) struct Until {
    deadline: Option<Instant>,
    reason: Timeout,
}

impl Until {
    pub(super) fn new(timeout: NextTimeout) -> Until {
        let deadline = match timeout.after {
            time::Duration::Exact(after) => Instant::now().checked_add(after),
            time::Duration::NotHappening => None,
        };
        Until { deadline, reason: timeout.reason }
    }

    const NEVER: Until = Until { deadline: None, reason: Timeout::Global };

    /// What is left; `None` is without end.
    pub(super) fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    /// A wait that the deadline ended is a timeout of ureq's; anything else is what it is.
    pub(super) fn explain(&self, error: io::Error) -> ureq::Error {
        let waited = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        if waited && self.left().is_err() { ureq::Error::Timeout(self.reason) } else { error.into() }
    }
}

/// A stream each of whose reads and writes minds one deadline, which a handshake of many reads needs.
pub(super) struct Timed {
    stream: TcpStream,
    until: Until,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.until.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.until.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl HalfClose for Timed {
    fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

enum Wire {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
    /// Only while a handshake has the stream.
    Gone,
}

impl Wire {
    fn timed(&mut self) -> Option<&mut Timed> {
        match self {
            Wire::Plain(timed) => Some(timed),
            Wire::Tls(stream) => Some(&mut stream.sock),
            Wire::Gone => None,
        }
    }

    fn set_until(&mut self, until: Until) {
        if let Some(timed) = self.timed() {
            timed.until = until;
        }
    }

    fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        self.timed().map_or(Ok(()), |timed| timed.stream.set_nonblocking(nonblocking))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(timed) => timed.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
            Wire::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Writes and flushes: rustls tells only a flush what became of the bytes.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(timed) => timed.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Wire::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// One connection.
pub(super) struct HoplineTransport {
    wire: Wire,
    buffers: LazyBuffers,
    tap: Tap,
    breaker: Arc<Breaker>,
}

impl HoplineTransport {
    pub(super) fn new(
        stream: TcpStream,
        config: &ureq::config::Config,
        observer: Option<Arc<dyn HttpObserver>>,
    ) -> io::Result<HoplineTransport> {
        // Requests are small and wait for their answers: Nagle would only delay them.
        stream.set_nodelay(config.no_delay())?;
        Ok(HoplineTransport {
            breaker: Arc::new(Breaker(stream.try_clone()?)),
            wire: Wire::Plain(Timed { stream, until: Until::NEVER }),
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            tap: Tap::new(observer),
        })
    }

    /// What ends this connection from another thread, as long as it lives.
    pub(super) fn shutdown_handle(&self) -> Weak<dyn ShutdownHandle> {
        let breaker: Weak<Breaker> = Arc::downgrade(&self.breaker);
        breaker
    }

    /// Does the handshake and tells what was agreed on.
    pub(super) fn start_tls(&mut self, client: &TlsClient, host: &str, until: Until) -> Result<String, ureq::Error> {
        let Wire::Plain(mut timed) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            return Err(ureq::Error::Tls("TLS within TLS"));
        };
        timed.until = until;
        let stream = client.handshake(host, timed).map_err(|error| until.explain(error))?;
        let agreed = tls::description(&stream.conn);
        self.wire = Wire::Tls(Box::new(stream));
        Ok(agreed)
    }

    /// Whether an idle connection has nothing to say: anything but `WouldBlock` (data nobody asked for, an end, an error) makes it useless.
    /// Session tickets that come late are taken in by the way.
    fn is_idle(&mut self) -> io::Result<bool> {
        self.wire.set_until(Until::NEVER);
        self.wire.set_nonblocking(true)?;
        let result = self.wire.read(&mut [0]);
        self.wire.set_nonblocking(false)?;
        Ok(matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
    }
}

impl Transport for HoplineTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let until = Until::new(timeout.for_write());
        self.wire.set_until(until);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.wire.write_all(output).map_err(|error| until.explain(error))?;
        self.tap.sent(output);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let until = Until::new(timeout.for_read());
        self.wire.set_until(until);
        let room = self.buffers.input_append_buf();
        let amount = self.wire.read(room).map_err(|error| until.explain(interruption(error)))?;
        self.tap.received(room.get(..amount).unwrap_or_default());
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.is_idle().unwrap_or(false)
    }

    fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }
}

/// ureq takes a reset, an abort, or an end without close_notify for the end of a body that has no length. It is not one: anybody can cause it. So
/// they go by a kind that ureq passes on, with the original inside.
fn interruption(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            io::Error::other(Interruption(error))
        }
        _ => error,
    }
}

/// A connection that did not end in order.
#[derive(Debug)]
pub(super) struct Interruption(pub(super) io::Error);

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection was cut: {}", self.0)
    }
}

impl std::error::Error for Interruption {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Drop for HoplineTransport {
    /// Says close_notify if there is room for it at once; the connection itself closes in the background.
    fn drop(&mut self) {
        if let Wire::Tls(stream) = &mut self.wire {
            let _ = stream.sock.stream.set_nonblocking(true);
            let _ = tls::close(stream);
        }
    }
}

impl fmt::Debug for HoplineTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoplineTransport").field("is_tls", &self.is_tls()).finish_non_exhaustive()
    }
}

/// Ends a connection that another thread waits on.
struct Breaker(TcpStream);

impl ShutdownHandle for Breaker {
    fn shutdown(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
