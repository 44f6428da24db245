//! Devices of Linux: packet sockets and TUN/TAP, with what the kernel tells of its interfaces and routes.
//!
//! Owns everything that talks to the kernel. Refuses to know a protocol beyond what an offload header or a socket filter needs. Read
//! `sys` first (the system calls behind safe functions), then `wait`,
//! [`packet_socket`], [`tun_tap`]; [`crate::device::host`] and [`crate::device::shared_address`] stand on `netlink`.

pub mod event;
pub(in crate::device) mod firewall;
pub mod namespace;
pub(in crate::device) mod netlink;
pub mod packet_socket;
mod sending;
pub(in crate::device) mod sys;
pub mod tun_tap;
mod wait;
