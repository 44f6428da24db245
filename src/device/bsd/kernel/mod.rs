//! Where these kernels run: everything that calls them.
//!
//! Owns what a system brings (see `elsewhere.rs` beside `bsd`): the device of an interface, tunnels, [`host`] and [`guard`]. Read `sys` first (the
//! system calls behind safe functions), then `bpf`. The two systems differ in numbers and in their tunnels: `platform`, which is `macos.rs` or `freebsd.rs`.

pub mod bpf;
pub(in crate::device) mod guard;
pub(in crate::device) mod host;
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(target_os = "freebsd", path = "freebsd.rs")]
mod platform;
mod sending;
mod sys;
mod tunnel;
mod wait;

pub use bpf::{FilterHandle, InterfaceDevice};

use crate::device::Device;
use crate::device::filter::TagPlace;
use crate::wire::MacAddress;
use std::io;

/// Where filters find a frame's 802.1Q tag.
pub(in crate::device) const TAGS: TagPlace = TagPlace::InFrame;

/// The TAP interface of this name.
pub(in crate::device) fn tap(name: &str, _offload: bool, mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    platform::tap(name, mac)
}

/// The TUN interface of this name.
pub(in crate::device) fn tun(name: &str, _offload: bool) -> io::Result<Box<dyn Device>> {
    Ok(Box::new(platform::tun(name)?))
}
