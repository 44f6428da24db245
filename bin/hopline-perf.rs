//! `hopline-perf`: how fast a TCP/IP stack of our own moves bytes, as server or as client.

#[allow(dead_code, reason = "each program uses its own part of what they share")]
mod common;
mod perf;

use clap::Parser;
use common::{INTERRUPTED, NetworkOptions, Session, tell};
use std::net::IpAddr;
use std::process::ExitCode;

const PROGRAM: &str = "hopline-perf";

/// Measure throughput and round trips over a Hopline stack
#[derive(Parser)]
#[command(name = PROGRAM, version)]
enum Role {
    /// Serve TCP 7 and 8 (echo), 9 (discard), 19 (endless data), and UDP 7 (echo), 9 (count), 19 (bursts), on one thread
    Serve {
        #[command(flatten)]
        network: NetworkOptions,
    },
    /// Send to a server, or receive from it
    Client {
        #[command(flatten)]
        load: perf::client::Options,
        #[command(flatten)]
        network: NetworkOptions,
    },
}

impl Role {
    fn network(&self) -> &NetworkOptions {
        match self {
            Role::Serve { network } | Role::Client { network, .. } => network,
        }
    }

    /// Where a client goes, if that is an address.
    fn destination(&self) -> Option<IpAddr> {
        match self {
            Role::Serve { .. } => None,
            Role::Client { load, .. } => load.host.parse().ok(),
        }
    }
}

fn main() -> ExitCode {
    let role = Role::parse();
    let code = match Session::open(PROGRAM, role.network(), role.destination()) {
        Ok(session) => {
            session.notes().iter().for_each(|note| tell(format_args!("{PROGRAM}: {note}")));
            run(&role, session)
        }
        Err(failure) => failure.report(PROGRAM),
    };
    ExitCode::from(code as u8)
}

fn run(role: &Role, session: Session) -> i32 {
    let stack = session.stack().clone();
    let grace = hopline::config::Config::default().pipeline.shutdown_grace;
    session.interrupt().set_ending(move || stack.shutdown(grace).map_or(1, |()| INTERRUPTED));
    let result = match role {
        Role::Serve { .. } => perf::serve::run(session.stack()),
        Role::Client { load, .. } => perf::client::run(session.stack(), load),
    };
    let code = match result {
        Ok(()) => 0,
        Err(_) if session.interrupt().has_come() => INTERRUPTED,
        Err(error) => {
            tell(format_args!("{PROGRAM}: {error}"));
            1
        }
    };
    session.close(code)
}
