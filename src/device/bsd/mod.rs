//! Devices of macOS and FreeBSD: `/dev/bpf`, tunnels, and what the system tells of its interfaces and routes.
//!
//! Owns what their kernels' bytes mean ([`records`], [`routing_message`], [`framing`]) and what is said to their tools ([`pf_rules`]): these compile, and are
//! tested, everywhere. What calls the kernels is in `kernel`, which exists where they do.

pub mod framing;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
pub mod kernel;
pub mod pf_rules;
pub mod records;
pub mod routing_message;
