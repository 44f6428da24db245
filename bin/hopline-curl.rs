//! `hopline-curl`: transfers URLs over a TCP/IP stack of our own.

#[allow(dead_code, reason = "each program uses its own part of what they share")]
mod common;
mod curl;

use clap::Parser;
use common::Session;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = curl::CurlOptions::parse();
    let code = match Session::open("hopline-curl", &options.network, curl::target_of(&options)) {
        Ok(session) => curl::run(&options, session),
        Err(failure) => failure.report("hopline-curl"),
    };
    ExitCode::from(code as u8)
}
