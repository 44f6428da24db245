//! What FreeBSD has of its own: numbers of its headers, `tun` and `tap`, and where its packet filter takes rules.

use super::sys;
use super::tunnel::Tunnel;
use crate::device::bsd::framing::Framing;
use crate::device::bsd::records::RecordLayout;
use crate::device::bsd::routing_message::MessageLayout;
use crate::device::{Device, local_mac};
use crate::random::SecretRandom;
use crate::wire::MacAddress;
use std::fs::OpenOptions;
use std::io;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) const RECORDS: RecordLayout = RecordLayout::FREEBSD;
pub(super) const MESSAGES: MessageLayout = MessageLayout::FREEBSD;
pub(super) use libc::{BIOCSETF, BIOCSETFNR, BIOCSSEESENT};

/// An anchor that the host's ruleset has to have: see [`super::guard`].
pub(super) const ANCHOR: &str = "hopline/";
/// Whether the packet filter runs is the administrator's decision.
pub(super) const CAN_ENABLE: bool = false;

/// `_IOW('t', 96, int)`: the address family in front of each packet.
const TUNSIFHEAD: libc::c_ulong = 0x8004_7460;

const _: () = assert!(offset_of!(libc::bpf_hdr, bh_caplen) == RECORDS.time_bytes && libc::BPF_ALIGNMENT == RECORDS.alignment);
const _: () = assert!(size_of::<libc::sockaddr_dl>() == MESSAGES.link_address as usize && MESSAGES.inet6 as i32 == libc::AF_INET6);

/// `tapN`, with `mac` or a random address of our own.
pub(super) fn tap(name: &str, mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    let mac = mac.map_or_else(|| Ok(local_mac(&mut SecretRandom::from_os()?)), io::Result::Ok)?;
    Ok(Box::new(Tunnel::new(open(name, "tap")?, name, Framing::None, Some(mac))?))
}

/// `tunN`. Addresses are the caller's business (`ifconfig tunN inet OURS THEIRS`).
pub(super) fn tun(name: &str) -> io::Result<Tunnel> {
    let tun = open(name, "tun")?;
    sys::ioctl(&tun, TUNSIFHEAD, &mut 1_i32)?;
    Tunnel::new(tun, name, Framing::FamilyInNetworkOrder, None)
}

fn open(name: &str, kind: &str) -> io::Result<OwnedFd> {
    if name.strip_prefix(kind).is_none_or(|number| number.parse::<u16>().is_err()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name}: interfaces of this kind are called {kind}0, {kind}1 and so on"),
        ));
    }
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(Path::new("/dev").join(name));
    file.map(OwnedFd::from).map_err(|error| open_error(name, error))
}

fn open_error(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            io::Error::new(io::ErrorKind::PermissionDenied, format!("no permission to open /dev/{name}: run as root"))
        }
        Some(libc::EBUSY) => io::Error::new(error.kind(), format!("{name} is in use by another program")),
        Some(libc::ENOENT) => io::Error::new(error.kind(), format!("there is no /dev/{name} (kldload if_tuntap; ifconfig {name} create)")),
        _ => io::Error::new(error.kind(), format!("{name}: {error}")),
    }
}
