//! Connecting to the first of several addresses that answers (RFC 8305 §5).

use super::backend::Backend;
use super::poller::{Interest, Poller};
use super::tcp_stream::{ConnectOptions, TcpStream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// RFC 8305 §5: the recommended delay between two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that answers. The error is that of the attempt that failed last.
pub(crate) fn connect_any(backend: &Arc<Backend>, addresses: &[SocketAddr], options: &ConnectOptions) -> io::Result<TcpStream> {
    match addresses {
        [] => Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")),
        [only] => {
            let stream = TcpStream::open(backend, *only, options)?;
            stream.wait_connected(options.timeout)?;
            Ok(stream)
        }
        several => Race::new(backend, several, options)?.run(),
    }
}

/// Attempts under way: each started a while after the one before, or at once when that has failed.
struct Race<'a> {
    backend: &'a Arc<Backend>,
    options: &'a ConnectOptions,
    waiting: std::slice::Iter<'a, SocketAddr>,
    attempts: Vec<(u64, TcpStream)>,
    poller: Poller,
    next_token: u64,
    next_start: Instant,
    deadline: Option<Instant>,
    failure: io::Error,
}

impl<'a> Race<'a> {
    fn new(backend: &'a Arc<Backend>, addresses: &'a [SocketAddr], options: &'a ConnectOptions) -> io::Result<Race<'a>> {
        let now = Instant::now();
        Ok(Race {
            backend,
            options,
            waiting: addresses.iter(),
            attempts: Vec::new(),
            poller: Poller::new()?,
            next_token: 0,
            next_start: now,
            deadline: options.timeout.and_then(|timeout| now.checked_add(timeout)),
            failure: timed_out(),
        })
    }

    fn run(mut self) -> io::Result<TcpStream> {
        let mut events = Vec::new();
        loop {
            self.start_what_is_due();
            if self.attempts.is_empty() {
                return Err(self.failure);
            }
            self.poller.wait(&mut events, self.time_to_wait())?;
            for event in &events {
                if let Some(winner) = self.settle(event.token) {
                    return Ok(winner);
                }
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(timed_out());
            }
        }
    }

    fn start_what_is_due(&mut self) {
        while self.attempts.is_empty() || self.next_start <= Instant::now() {
            let Some(&address) = self.waiting.next() else { return };
            match self.start(address) {
                Ok(()) => self.next_start = Instant::now() + ATTEMPT_DELAY,
                Err(error) => self.failure = error,
            }
        }
    }

    fn start(&mut self, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::open(self.backend, address, self.options)?;
        self.next_token += 1;
        self.poller.register(&stream, self.next_token, Interest::WRITABLE)?;
        self.attempts.push((self.next_token, stream));
        Ok(())
    }

    /// The time until the next attempt is to start, or until it is too late for all.
    fn time_to_wait(&self) -> Option<Duration> {
        let next = (self.waiting.len() > 0).then_some(self.next_start);
        let until = [next, self.deadline].into_iter().flatten().min()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// The stream, if its attempt succeeded; one that failed makes room for the next at once.
    fn settle(&mut self, token: u64) -> Option<TcpStream> {
        let place = self.attempts.iter().position(|(own, _)| *own == token)?;
        let outcome = self.attempts.get(place)?.1.connected()?;
        let (_, stream) = self.attempts.swap_remove(place);
        // Whoever is dropped takes its registration along.
        let _ = self.poller.deregister(token);
        match outcome {
            Ok(()) => Some(stream),
            Err(error) => {
                self.failure = error;
                self.next_start = Instant::now();
                None
            }
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "connection timed out")
}
