//! `hopline-ping`: is a host there, and how far away, asked over a TCP/IP stack of our own.

#[allow(dead_code, reason = "each program uses its own part of what they share")]
mod common;
mod ping;

use clap::Parser;
use common::{Session, tell};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut options = ping::PingOptions::parse();
    options.network.interface = options.from.take().or(options.network.interface);
    let code = match Session::open("hopline-ping", &options.network, options.host.parse().ok()) {
        Ok(session) => {
            session.notes().iter().for_each(|note| tell(format_args!("hopline-ping: {note}")));
            ping::run(&options, session)
        }
        Err(failure) => failure.report("hopline-ping"),
    };
    ExitCode::from(code as u8)
}
