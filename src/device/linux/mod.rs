//! Devices of Linux: packet sockets and TUN/TAP, with what the kernel tells of its interfaces and routes.
//!
//! Owns everything that talks to the kernel. Refuses to know a protocol beyond what an offload header or a socket filter needs. Read
//! `sys` first: the system calls behind safe functions.

pub mod namespace;
mod sys;
