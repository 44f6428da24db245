//! Devices of macOS and FreeBSD: `/dev/bpf`, tunnels, and what the system tells of its interfaces and routes.
//!
//! Owns everything that talks to these kernels. What parses their bytes compiles, and is tested, everywhere: [`records`], [`routing_message`].

pub mod records;
pub mod routing_message;
