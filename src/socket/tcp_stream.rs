//! A TCP connection, as a program holds it.
//!
//! Owns reading, writing and closing. What the connection does is the transport layer's; what both share is
//! [`TcpShared`], whose rules (one lock, marks, readiness) to read first. Options are in [`super::tcp_options`].

mod copying;

use super::backend::{Backend, unspecified};
use super::waiting::{Patience, Settings, Side, Wait};
use crate::layer::Notify;
use crate::packet::{Pool, Slice};
use crate::pipeline::Status;
use crate::transport::shared::{Failure, Mark, Phase, Readiness, SocketOptions, StreamInfo, TcpShared, TcpSharedState};
use crate::transport::tcp::State;
use crate::wire::Protocol;
use copying::{LARGE_CHUNK, Source, copy_out};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Slices that one read takes off the socket, so that it need not allocate: most of a 64 KB buffer in Ethernet segments.
const SLICES_PER_READ: usize = 32;
/// Bytes that one write copies at most; a longer one is a partial write.
const LONGEST_WRITE: usize = 1 << 20;
/// Slices on their way to or from a program's buffer.
type Slices = SmallVec<[Slice; SLICES_PER_READ]>;

/// A TCP connection on a Hopline stack: the methods of [`std::net::TcpStream`], with the same meaning and the same error kinds.
///
/// `&TcpStream` reads and writes too; clones share one connection, as in std. Dropping the last clone closes gracefully in the background
/// (or as [`TcpStream::set_linger`] says) and never blocks. There is no kernel descriptor: wait on many with [`super::Poller`].
///
/// Under a simulation nothing ever waits: what would block is `WouldBlock`.
pub struct TcpStream {
    pub(super) handle: Arc<Handle>,
}

/// What the clones of a stream have in common.
pub(super) struct Handle {
    pub(super) shared: Arc<TcpShared>,
    pub(super) backend: Arc<Backend>,
    settings: Settings,
    /// Held by one writer while it copies, never while it waits: keeps the chunks of two writers apart and lets small writes share a slot.
    turn: Mutex<()>,
}

/// How to open a connection, beyond its target.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The address and port to connect from; an unspecified address and port 0 leave the choice to the stack.
    pub local: Option<SocketAddr>,
    /// Give up after this time (`TimedOut`); `None`: when the SYN retries are used up.
    pub timeout: Option<Duration>,
    /// What the socket starts with, where it is not the stack's default.
    pub options: Option<SocketOptions>,
    /// Written before the connection is opened: it follows the handshake at once, and with [`SocketOptions::fast_open`], and a cookie from an earlier
    /// connection, goes with the SYN (RFC 7413), where the server may see it twice. At most a send buffer, else `InvalidInput`.
    pub first_data: Vec<u8>,
}

impl TcpStream {
    /// Starts to open a connection and returns at once.
    pub(crate) fn open(backend: &Arc<Backend>, remote: SocketAddr, connect: &ConnectOptions) -> io::Result<TcpStream> {
        check_target(backend, remote)?;
        let local = connect.local.unwrap_or_else(|| unspecified(remote.ip(), 0));
        backend.check_local(local.ip())?;
        let lease = backend.ports.lease(Protocol::TCP, local.port(), Some(remote))?;
        let local = SocketAddr::new(local.ip(), lease.port);
        let options = connect.options.clone().unwrap_or_else(|| backend.config.tcp.socket_options());
        let shared = TcpShared::new(backend.marks.clone(), backend.device_room.clone(), local, remote, options);
        shared.state.lock().lease = lease;
        put_first(&backend.pool, &shared, &connect.first_data)?;
        shared.mark(Mark::Open);
        Ok(TcpStream::adopt(backend, shared))
    }

    /// A handle for a connection that exists: an accepted one.
    pub(crate) fn adopt(backend: &Arc<Backend>, shared: Arc<TcpShared>) -> TcpStream {
        if !backend.may_wait() {
            // Who asks could not wait for the answer.
            shared.state.lock().is_described = true;
        }
        let (settings, turn) = (Settings::default(), Mutex::new(()));
        TcpStream { handle: Arc::new(Handle { shared, backend: backend.clone(), settings, turn }) }
    }

    /// Waits until the connection is open, has failed, or `timeout` has passed (`TimedOut`).
    pub(crate) fn wait_connected(&self, timeout: Option<Duration>) -> io::Result<()> {
        let Handle { shared, backend, .. } = &*self.handle;
        let wait = Wait { backend, wakeup: &shared.wakeup, side: Side::Write, patience: Patience::at_most(timeout) };
        wait.until(&shared.state, connect_result).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
            _ => error,
        })
    }

    /// Waits for the figures that were asked for; there are none of what was never open, and under a simulation only that the connection rests.
    pub(super) fn wait_described(&self) -> io::Result<StreamInfo> {
        let Handle { shared, backend, .. } = &*self.handle;
        if !backend.may_wait() {
            let is_open = self.state().phase == Phase::Connected;
            return Ok(StreamInfo { state: if is_open { State::Established.name() } else { "" }, ..StreamInfo::default() });
        }
        let wait = Wait { backend, wakeup: &shared.wakeup, side: Side::Write, patience: Patience::Forever };
        wait.until(&shared.state, |state| match &state.info {
            Some(info) => Some(Ok(StreamInfo::clone(info))),
            None => (state.phase == Phase::Closed).then(|| Ok(StreamInfo::default())),
        })
    }

    /// How opening the connection ended; `None` while it is under way. A failure is told once.
    pub fn connected(&self) -> Option<io::Result<()>> {
        connect_result(&mut self.state())
    }

    /// The far end. `NotConnected` before the handshake and after the end, as in std.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let state = self.state();
        if state.phase == Phase::Connected { Ok(state.remote) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.state().local)
    }

    /// Ends one direction or both. Ending the reading side makes reads see the end of the stream; ending the writing side sends FIN behind
    /// the last byte.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        let turn = self.handle.turn.lock();
        {
            let mut state = self.state();
            if matches!(state.phase, Phase::New | Phase::Closed) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            state.read_closed |= read;
            state.write_closed |= write;
        }
        drop(turn);
        self.after_shutdown(read, write);
        Ok(())
    }

    fn after_shutdown(&self, read: bool, write: bool) {
        let shared = &self.handle.shared;
        if read {
            shared.mark(Mark::CloseRead);
        }
        if write {
            shared.mark(Mark::CloseWrite);
        }
        self.wake(Readiness::STATE);
    }

    /// Tells other threads and pollers of a change that the program itself made.
    pub(super) fn wake(&self, readiness: Readiness) {
        if self.handle.shared.wakeup.raise(readiness) {
            self.handle.shared.notify();
        }
    }

    /// A second handle for the same connection: non-blocking mode and timeouts are shared, as in std.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream { handle: self.handle.clone() })
    }

    /// Reads without taking: the next read gives the same bytes.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut slices = Slices::new();
        self.take(buffer.len(), Taking::Peek, &mut slices)?;
        Ok(copy_out(&slices, &mut [IoSliceMut::new(buffer)]))
    }

    /// Writes as [`Write::write`] does, and marks the end of it as the end of urgent data (RFC 9293 §3.8.5). It stays in its place in the stream; the peer's
    /// program is told that it is there. New protocols should not use this (RFC 6093 §5).
    pub fn write_urgent(&self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.send(&[IoSlice::new(buffer)])?;
        let mut state = self.state();
        state.urgent_to_send = Some(state.to_send.iter().map(|slice| slice.len()).sum());
        drop(state);
        self.handle.shared.mark(Mark::Send);
        Ok(count)
    }

    /// Bytes up to the end of the peer's urgent data, from the next one that is read; 0 if there is none. More than can be read while some has yet to come. A
    /// [`Poller`](super::Poller) tells when it becomes more than 0.
    pub fn urgent(&self) -> io::Result<usize> {
        Ok(self.state().urgent)
    }

    pub(super) fn state(&self) -> parking_lot::MutexGuard<'_, TcpSharedState> {
        self.handle.shared.state.lock()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.handle.settings
    }

    fn wait(&self, side: Side) -> Wait<'_> {
        self.handle.settings.wait(&self.handle.backend, &self.handle.shared.wakeup, side)
    }

    /// Takes at most `room` bytes off the socket, by reference, into `slices`; none at the end of the stream.
    fn take(&self, room: usize, taking: Taking, slices: &mut Slices) -> io::Result<()> {
        if room == 0 {
            return Ok(());
        }
        let announce = self.wait(Side::Read).until(&self.handle.shared.state, |state| self.try_take(state, room, taking, slices))?;
        if announce {
            self.handle.shared.mark(Mark::Window);
        }
        Ok(())
    }

    /// Data first, then the end of the stream, then the failure once: the order of Linux's `tcp_recvmsg`. A connection that its stack took down
    /// has no end of stream. Says whether the window has opened enough to be announced.
    fn try_take(&self, state: &mut TcpSharedState, room: usize, taking: Taking, slices: &mut Slices) -> Option<io::Result<bool>> {
        if state.unread > 0 && !state.read_closed {
            return Some(Ok(match taking {
                Taking::Peek => look(state, room, slices),
                Taking::Consume => consume(state, room, slices),
            }));
        }
        if state.receive_finished || state.read_closed {
            return Some(Ok(false));
        }
        if let Some(failure) = state.failure.take() {
            return Some(Err(failure.into()));
        }
        let over = state.phase == Phase::Closed && self.handle.backend.status() != Status::Closing;
        over.then_some(Ok(false))
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut slices = Slices::new();
        self.take(room, Taking::Consume, &mut slices)?;
        Ok(copy_out(&slices, buffers))
    }

    fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = buffers.iter().map(|buffer| buffer.len()).sum::<usize>().min(LONGEST_WRITE);
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            if let Some(result) = self.write_now(buffers, wanted) {
                return result;
            }
            self.wait(Side::Write).until(&self.handle.shared.state, room_to_write)?;
        }
    }

    /// Copies what there is room for into chunks and hands them over; `None` if there is no room, or an error to tell.
    fn write_now(&self, buffers: &[IoSlice<'_>], wanted: usize) -> Option<io::Result<usize>> {
        let Handle { shared, backend, turn, .. } = &*self.handle;
        let turn = turn.lock();
        let mut source = Source::new(buffers, wanted);
        let reserved = reserve(&mut shared.state.lock(), &mut source)?;
        let chunks = source.into_chunks(&backend.pool);
        let result = if chunks.is_empty() { Ok(reserved.joined) } else { hand_over(&mut shared.state.lock(), chunks, &reserved) };
        drop(turn);
        if result.is_ok() {
            shared.mark(Mark::Send);
        }
        Some(result)
    }
}

/// Puts what is to be sent first into a socket that nobody else knows yet.
fn put_first(pool: &Pool, shared: &TcpShared, data: &[u8]) -> io::Result<()> {
    let chunks: Vec<Slice> = data.chunks(LARGE_CHUNK).map(|chunk| pool.copy_from(0, chunk)).collect();
    let mut state = shared.state.lock();
    if data.len() > state.send_room() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more first data than the send buffer holds"));
    }
    state.unacknowledged += data.len();
    state.to_send.extend(chunks);
    Ok(())
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Taking {
    Consume,
    Peek,
}

fn check_target(backend: &Backend, remote: SocketAddr) -> io::Result<()> {
    if remote.port() == 0 {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody can listen on port 0"));
    }
    backend.check_remote(remote.ip())
}

fn connect_result(state: &mut TcpSharedState) -> Option<io::Result<()>> {
    match state.phase {
        Phase::New | Phase::Connecting if state.failure.is_none() => None,
        Phase::Connected => Some(Ok(())),
        _ => Some(Err(state.failure.take().unwrap_or(Failure::Aborted).into())),
    }
}

/// Takes slices, and says whether the window has opened enough to be announced.
fn consume(state: &mut TcpSharedState, room: usize, taken: &mut Slices) -> bool {
    let mut left = room;
    while left > 0 && taken.len() < SLICES_PER_READ {
        let Some(first) = state.received.front_mut() else { break };
        let slice = if first.len() <= left { state.received.pop_front().unwrap_or(Slice::empty()) } else { first.split_to(left) };
        left -= slice.len();
        taken.push(slice);
    }
    let count = room - left;
    state.unread = state.unread.saturating_sub(count);
    state.urgent = state.urgent.saturating_sub(count);
    state.consumed_unannounced = state.consumed_unannounced.saturating_add(count);
    state.consumed_unannounced >= state.window_mark_at
}

/// Shares slices; that opens no window.
fn look(state: &TcpSharedState, room: usize, seen: &mut Slices) -> bool {
    let mut left = room;
    for slice in state.received.iter().take(SLICES_PER_READ) {
        let part = slice.part(0..left);
        left -= part.len();
        seen.push(part);
        if left == 0 {
            break;
        }
    }
    false
}

fn is_over_for_writers(state: &TcpSharedState) -> bool {
    state.phase == Phase::Closed || state.write_closed || state.failure.is_some()
}

/// The failure once, then `BrokenPipe`: the order of Linux's `tcp_sendmsg`.
fn take_write_error(state: &mut TcpSharedState) -> io::Error {
    state.failure.take().map_or_else(|| io::ErrorKind::BrokenPipe.into(), io::Error::from)
}

fn write_error(state: &mut TcpSharedState) -> Option<io::Error> {
    is_over_for_writers(state).then(|| take_write_error(state))
}

fn room_to_write(state: &mut TcpSharedState) -> Option<io::Result<()>> {
    match write_error(state) {
        Some(error) => Some(Err(error)),
        None if state.phase == Phase::Connected && state.send_room() > 0 => Some(Ok(())),
        None => None,
    }
}

/// The room that a write has taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Reserved {
    count: usize,
    /// Of these already behind the last chunk.
    joined: usize,
}

/// Counts what will be written, so that no other writer takes the same room, and puts a short write behind the last chunk, as far as that has room.
fn reserve(state: &mut TcpSharedState, source: &mut Source<'_>) -> Option<Reserved> {
    let count = source.limit(state.send_room());
    if count == 0 || state.phase != Phase::Connected || is_over_for_writers(state) {
        return None;
    }
    state.unacknowledged += count;
    let joined = state.to_send.back_mut().map_or(0, |tail| source.join(tail));
    Some(Reserved { count, joined })
}

/// Gives the chunks to the connection, unless it ended meanwhile: then what was joined is all that was written.
fn hand_over(state: &mut TcpSharedState, chunks: SmallVec<[Slice; 4]>, reserved: &Reserved) -> io::Result<usize> {
    let Reserved { count, joined } = *reserved;
    if is_over_for_writers(state) {
        state.unacknowledged = state.unacknowledged.saturating_sub(count - joined);
        return if joined > 0 { Ok(joined) } else { Err(take_write_error(state)) };
    }
    state.to_send.extend(chunks);
    Ok(count)
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.mark(Mark::Released);
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(buffers)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.shared.fmt(f)
    }
}

#[cfg(test)]
mod tests;
