//! What is seen of a transfer while it runs: for `-v`, for `-i`, for `-w`, and for saying what an error means.

use super::failure::Stage;
use crate::common::tell;
use hopline::app::http::{HttpObserver, HttpStep};
use hopline::socket::TcpStream;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Sees every step of one agent.
#[derive(Default)]
pub(crate) struct Report {
    verbose: bool,
    state: Mutex<Progress>,
}

/// How far the present transfer is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Host and port, for messages.
    pub(crate) target: String,
    /// Response headers, redirects' and interim ones included.
    pub(crate) headers: Vec<Vec<u8>>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) connections: u32,
    pub(crate) requests: u32,
    pub(crate) resolved_after: Duration,
    pub(crate) connected_after: Duration,
    pub(crate) secured_after: Duration,
    pub(crate) answered_after: Duration,
    started: Option<Instant>,
}

impl Progress {
    /// Time since the transfer began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.map(|started| started.elapsed()).unwrap_or_default()
    }
}

impl Report {
    pub(crate) fn new(verbose: bool) -> Report {
        Report { verbose, state: Mutex::default() }
    }

    /// A new transfer begins.
    pub(crate) fn restart(&self) {
        *self.state.lock() = Progress { started: Some(Instant::now()), ..Progress::default() };
    }

    /// What is known so far.
    pub(crate) fn progress(&self) -> Progress {
        self.state.lock().clone()
    }

    /// A line of `-v`.
    pub(crate) fn note(&self, text: std::fmt::Arguments<'_>) {
        if self.verbose {
            tell(format_args!("* {text}"));
        }
    }

    fn show(&self, mark: char, header: &[u8]) {
        if self.verbose {
            String::from_utf8_lossy(header).lines().for_each(|line| tell(format_args!("{mark} {line}")));
        }
    }

    fn connected(&self, stream: &TcpStream) {
        let mut state = self.state.lock();
        state.stage = Stage::Request;
        state.connections += 1;
        state.connected_after = state.elapsed();
        state.local = stream.local_addr().ok();
        state.remote = stream.peer_addr().ok();
        let (local, remote) = (address(state.local), address(state.remote));
        self.note(format_args!("Connected to {} at {remote} from {local}", state.target));
    }

    fn response(&self, header: &[u8]) {
        let mut state = self.state.lock();
        let is_interim = header.get(9..10) == Some(b"1");
        state.stage = if is_interim { Stage::Response } else { Stage::Body };
        state.answered_after = state.elapsed();
        state.headers.push(header.to_vec());
    }

    /// Notes how far it is; `update` gets the state and the time since the start.
    fn reach(&self, stage: Stage, update: impl FnOnce(&mut Progress, Duration)) {
        let mut state = self.state.lock();
        let elapsed = state.elapsed();
        state.stage = stage;
        update(&mut state, elapsed);
    }
}

impl HttpObserver for Report {
    fn observe(&self, step: HttpStep<'_>) {
        match step {
            HttpStep::Resolving(host) => {
                self.note(format_args!("Looking up {host}"));
                self.reach(Stage::Resolve, |state, _| state.target = host.to_owned());
            }
            HttpStep::Resolved(addresses) => {
                self.note(format_args!("Addresses: {}", joined(addresses)));
                self.reach(Stage::Request, |state, elapsed| state.resolved_after = elapsed);
            }
            HttpStep::Connecting(remote) => {
                self.note(format_args!("  Trying {remote}..."));
                self.reach(Stage::Connect, |_, _| {});
            }
            HttpStep::ConnectFailed(remote, error) => self.note(format_args!("connect to {remote} failed: {error}")),
            HttpStep::Connected(stream) => self.connected(stream),
            HttpStep::TlsStarted(host) => {
                self.note(format_args!("TLS handshake with {host}"));
                self.reach(Stage::Handshake, |_, _| {});
            }
            HttpStep::TlsDone(agreed) => {
                self.note(format_args!("TLS: {agreed}"));
                self.reach(Stage::Request, |state, elapsed| state.secured_after = elapsed);
            }
            HttpStep::RequestHeader(header) => {
                self.show('>', header);
                self.reach(Stage::Request, |state, _| state.requests += 1);
            }
            HttpStep::ResponseHeader(header) => {
                self.show('<', header);
                self.response(header);
            }
        }
    }
}

fn joined(addresses: &[std::net::IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "?".to_owned(), |address| address.to_string())
}
