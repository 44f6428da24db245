//! Devices by the name of an interface, whatever the system.
//!
//! Owns nothing: each system has its own [`InterfaceDevice`], with the same methods, and its own TAP and TUN. `elsewhere.rs` has the list of what a
//! system has to bring.

use super::{Device, system};
use crate::wire::MacAddress;
use std::io;

pub use system::{FilterHandle, InterfaceDevice};

/// The TAP interface `name`, made if it does not exist, with `mac` or a random address of our own; `offload` as far as the system has it.
pub fn tap(name: &str, offload: bool, mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    system::tap(name, offload, mac)
}

/// The TUN interface `name`, made if it does not exist.
pub fn tun(name: &str, offload: bool) -> io::Result<Box<dyn Device>> {
    system::tun(name, offload)
}
