//! What macOS has of its own: numbers of its headers, `utun`, and where its packet filter takes rules.

use super::sys::{self, Plain};
use super::tunnel::Tunnel;
use crate::device::Device;
use crate::device::bsd::framing::Framing;
use crate::device::bsd::records::RecordLayout;
use crate::device::bsd::routing_message::MessageLayout;
use crate::wire::MacAddress;
use std::io;
use std::mem::offset_of;

pub(super) const RECORDS: RecordLayout = RecordLayout::MACOS;
pub(super) const MESSAGES: MessageLayout = MessageLayout::MACOS;
/// `_IOW('B', 103, struct bpf_program)`.
pub(super) const BIOCSETF: libc::c_ulong = 0x8010_4267;
/// `_IOW('B', 126, struct bpf_program)`: replaces the filter, keeps what was received.
pub(super) const BIOCSETFNR: libc::c_ulong = 0x8010_427e;
/// `_IOW('B', 119, u_int)`.
pub(super) const BIOCSSEESENT: libc::c_ulong = 0x8004_4277;

/// The anchors of the system's own ruleset are called `com.apple/*`, so that one of ours needs no change to it.
pub(super) const ANCHOR: &str = "com.apple/hopline-";
/// `pfctl -E` counts who needs the packet filter, and `-X` gives that back.
pub(super) const CAN_ENABLE: bool = true;

const _: () = assert!(size_of::<libc::rt_msghdr>() == MESSAGES.route_header);
const _: () = assert!(offset_of!(libc::rt_msghdr, rtm_rmx) + offset_of!(libc::rt_metrics, rmx_mtu) == MESSAGES.mtu_offset);
const _: () = assert!(size_of::<libc::sockaddr_dl>() == MESSAGES.link_address as usize && MESSAGES.inet6 as i32 == libc::AF_INET6);

/// The name of the kernel's tunnels.
const UTUN_CONTROL: &[u8] = b"com.apple.net.utun_control";

// SAFETY: integers and arrays of them.
unsafe impl Plain for libc::ctl_info {}

/// There is no TAP here.
pub(super) fn tap(name: &str, _mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name}: macOS has no TAP interfaces: use --tun utunN or --interface")))
}

/// `utunN`, which is made, and vanishes with the descriptor. Its addresses are the caller's business (`ifconfig utunN inet OURS THEIRS`).
pub(super) fn tun(name: &str) -> io::Result<Tunnel> {
    let unit: u32 = name.strip_prefix("utun").and_then(|number| number.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: tunnels of macOS are called utun0, utun1 and so on"))
    })?;
    let socket = sys::socket(libc::PF_SYSTEM, libc::SOCK_DGRAM, libc::SYSPROTO_CONTROL)?;
    let mut info: libc::ctl_info = sys::zero();
    info.ctl_name.iter_mut().zip(UTUN_CONTROL).for_each(|(to, &from)| *to = from as libc::c_char);
    sys::ioctl(&socket, libc::CTLIOCGINFO, &mut info)?;
    // Unit 0 stands for any, 1 for utun0.
    sys::connect_control(&socket, info.ctl_id, unit.saturating_add(1)).map_err(|error| open_error(name, error))?;
    sys::set_nonblocking(&socket)?;
    Tunnel::new(socket, name, Framing::FamilyInNetworkOrder, None)
}

fn open_error(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            io::Error::new(io::ErrorKind::PermissionDenied, format!("no permission to make {name}: run as root"))
        }
        Some(libc::EBUSY) => io::Error::new(error.kind(), format!("{name} is in use by another program")),
        _ => io::Error::new(error.kind(), format!("{name}: {error}")),
    }
}
