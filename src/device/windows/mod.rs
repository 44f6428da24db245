//! Devices of Windows: Npcap, and what the system tells of its adapters and routes.
//!
//! Owns everything that talks to Windows and to `wpcap.dll`. What can do without them compiles, and is tested, everywhere: [`pcap_records`],
//! [`adapters`], [`stealth`]; read these first, then `library` (the functions of `wpcap.dll`), `handle`, `npcap`. There is no TAP or TUN here.

pub mod adapters;
pub mod pcap_records;
pub mod stealth;

#[cfg(windows)]
pub(in crate::device) mod guard;
#[cfg(windows)]
mod handle;
#[cfg(windows)]
pub(in crate::device) mod host;
#[cfg(windows)]
mod ip_helper;
#[cfg(windows)]
mod library;
#[cfg(windows)]
pub mod npcap;
#[cfg(windows)]
mod sys;
#[cfg(windows)]
mod wait;

#[cfg(windows)]
pub use npcap::{FilterHandle, NpcapDevice as InterfaceDevice};
#[cfg(windows)]
pub(super) use system::{TAGS, tap, tun};

/// What is left of the list in `elsewhere.rs`.
#[cfg(windows)]
mod system {
    use crate::device::Device;
    use crate::device::filter::TagPlace;
    use crate::wire::MacAddress;
    use std::io;

    /// Where filters find a frame's 802.1Q tag.
    pub(in crate::device) const TAGS: TagPlace = TagPlace::InFrame;

    /// There is none.
    pub(in crate::device) fn tap(name: &str, _offload: bool, _mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
        Err(unsupported(name))
    }

    /// There is none.
    pub(in crate::device) fn tun(name: &str, _offload: bool) -> io::Result<Box<dyn Device>> {
        Err(unsupported(name))
    }

    fn unsupported(name: &str) -> io::Error {
        let text = format!("{name}: TAP and TUN are not supported on Windows: use --interface, or --lab");
        io::Error::new(io::ErrorKind::Unsupported, text)
    }
}
