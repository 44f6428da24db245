//! Devices of Linux: packet sockets and TUN/TAP, with what the kernel tells of its interfaces and routes.
//!
//! Owns everything that talks to the kernel. Refuses to know a protocol beyond what an offload header or a socket filter needs. Read
//! `sys` first (the system calls behind safe functions), then `wait`,
//! [`packet_socket`], [`tun_tap`]; [`crate::device::host`] and [`crate::device::shared_address`] stand on `netlink`.

pub mod event;
pub(in crate::device) mod firewall;
pub(in crate::device) mod guard;
pub(in crate::device) mod host;
pub mod namespace;
pub(in crate::device) mod netlink;
pub mod packet_socket;
mod receive_buffer;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "no_ring.rs")]
mod ring;
mod sending;
pub(in crate::device) mod sys;
pub mod tun_tap;
mod wait;

use super::Device;
use super::filter::TagPlace;
use crate::wire::MacAddress;
use std::io;
use tun_tap::{TunTap, TunTapKind};

pub use packet_socket::{FilterHandle, PacketSocket as InterfaceDevice};

/// Where filters find a frame's 802.1Q tag.
pub(super) const TAGS: TagPlace = TagPlace::Beside;

/// The TAP interface of this name.
pub(super) fn tap(name: &str, offload: bool, mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    let tap = TunTap::open_named(name, TunTapKind::Tap, offload)?;
    Ok(Box::new(match mac {
        Some(mac) => tap.mac(mac),
        None => tap,
    }))
}

/// The TUN interface of this name.
pub(super) fn tun(name: &str, offload: bool) -> io::Result<Box<dyn Device>> {
    Ok(Box::new(TunTap::open_named(name, TunTapKind::Tun, offload)?))
}
