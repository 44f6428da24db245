//! What `hopline-perf` does: `serve.rs` is the server with its poller, `connection.rs` and `datagrams.rs` are its services, `client.rs` is the load
//! and `report.rs` what it prints.

pub(crate) mod client;
mod connection;
mod datagrams;
mod report;
pub(crate) mod serve;
