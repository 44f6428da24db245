//! Hopline: a TCP/IP stack for synchronous programs.
pub mod wire;
