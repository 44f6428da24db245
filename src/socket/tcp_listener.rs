//! A TCP listener, as a program holds it.

use super::backend::Backend;
use super::tcp_stream::TcpStream;
use super::waiting::{Settings, Side, buffer_size, time_to_live, unsupported};
use crate::pipeline::got_socket;
use crate::transport::shared::{ListenerShared, ListenerState, Mark, SocketOptions};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::sync::Arc;

/// A listening TCP socket on a Hopline stack: the methods of [`std::net::TcpListener`], with the same meaning and the same error kinds.
///
/// Options that are set here are what accepted connections start with. Dropping the last clone ends the listening and resets what was not
/// accepted.
pub struct TcpListener {
    pub(super) handle: Arc<Handle>,
}

/// What the clones of a listener have in common.
pub(super) struct Handle {
    pub(super) shared: Arc<ListenerShared>,
    pub(super) backend: Arc<Backend>,
    settings: Settings,
}

/// How to listen, beyond the address.
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// Connections that may wait for accept; `None`: the configuration's `accept_queue`.
    pub backlog: Option<usize>,
    /// What accepted connections start with, where it is not the stack's default.
    pub options: Option<SocketOptions>,
}

impl TcpListener {
    /// Starts to listen; waits until the transport layer does, where waiting is possible.
    pub(crate) fn open(backend: &Arc<Backend>, local: SocketAddr, listen: &ListenOptions) -> io::Result<TcpListener> {
        backend.check_local(local.ip())?;
        let lease = backend.ports.lease_listener(local.port())?;
        let local = SocketAddr::new(local.ip(), lease.port);
        let backlog = listen.backlog.unwrap_or(backend.config.tcp.accept_queue).max(1);
        let options = listen.options.clone().unwrap_or_else(|| backend.config.tcp.socket_options());
        let shared = ListenerShared::new(backend.marks.clone(), local, backlog, options);
        shared.state.lock().lease = lease;
        shared.mark(Mark::Open);
        let handle = Arc::new(Handle { shared, backend: backend.clone(), settings: Settings::default() });
        let listener = TcpListener { handle };
        listener.wait_open()?;
        Ok(listener)
    }

    fn wait_open(&self) -> io::Result<()> {
        let Handle { shared, backend, settings } = &*self.handle;
        if !backend.may_wait() {
            return Ok(());
        }
        settings.wait(backend, &shared.wakeup, Side::Read).until(&shared.state, |state| match state.failure.take() {
            Some(failure) => Some(Err(failure.into())),
            None => state.listening.then_some(Ok(())),
        })
    }

    /// The next connection whose handshake is complete, and its far end.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Handle { shared, backend, settings } = &*self.handle;
        let accepted = settings.wait(backend, &shared.wakeup, Side::Read).until(&shared.state, try_accept)?;
        got_socket();
        let remote = accepted.state.lock().remote;
        Ok((TcpStream::adopt(backend, accepted), remote))
    }

    /// Accepts for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Accepts for ever.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.state().local)
    }

    /// A second handle for the same listener.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener { handle: self.handle.clone() })
    }

    /// With `true`, an accept that would wait is `WouldBlock`. Accepted streams start in blocking mode.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.handle.settings.set_nonblocking(nonblocking);
        Ok(())
    }

    /// The time to live of what accepted connections send: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = time_to_live(ttl)?;
        self.change(|options| options.time_to_live = ttl)
    }

    /// As set.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.state().options.time_to_live.into())
    }

    /// Whether accepted connections start without Nagle's algorithm.
    pub fn set_nodelay(&self, no_delay: bool) -> io::Result<()> {
        self.change(|options| options.no_delay = no_delay)
    }

    /// Bytes that may wait unread on each accepted connection.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.change(|options| (options.receive_buffer, options.tunes_receive_buffer) = (buffer_size(bytes), false))
    }

    /// Bytes that may wait unacknowledged on each accepted connection.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.change(|options| (options.send_buffer, options.tunes_send_buffer) = (buffer_size(bytes), false))
    }

    /// Takes the data of SYNs whose Fast Open cookie is good, and hands their connections over before the handshake is complete (RFC 7413): at most so many
    /// at once; zero, as it is by default, switches it off. Such data may come twice: only for requests that may be repeated.
    pub fn set_fast_open(&self, queue: usize) -> io::Result<()> {
        self.state().fast_open = queue;
        Ok(())
    }

    /// `Unsupported`.
    pub fn set_only_v6(&self, _on: bool) -> io::Result<()> {
        unsupported("IPv6")
    }

    /// `Unsupported`.
    pub fn only_v6(&self) -> io::Result<bool> {
        unsupported("IPv6")
    }

    /// The failure that no call has told yet. Told once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.state().failure.take().map(io::Error::from))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, ListenerState> {
        self.handle.shared.state.lock()
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        change(Arc::make_mut(&mut self.state().options));
        self.handle.shared.mark(Mark::Options);
        Ok(())
    }
}

fn try_accept(state: &mut ListenerState) -> Option<io::Result<Arc<crate::transport::shared::TcpShared>>> {
    match state.accepted.pop_front() {
        Some(accepted) => Some(Ok(accepted)),
        None => state.failure.take().map(|failure| Err(failure.into())),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.mark(Mark::Released);
    }
}

/// Accepts for ever: [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

/// Accepts for ever: [`TcpListener::into_incoming`].
#[derive(Debug)]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for IntoIncoming {}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpListener({})", self.state().local)
    }
}
