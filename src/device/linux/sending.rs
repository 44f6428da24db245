//! What an error means for the frame at the head of the queue: the same for packet sockets and TUN/TAP.

use crate::device::DeviceOffload;
use crate::packet::{Packet, SegmentationKind};
use std::io;

/// What to do after a frame was not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again.
    Again,
    /// Wait until the device has room.
    Wait,
    /// The queue behind the device is full: wait a little, polling does not tell.
    Pause,
    /// Drop the frame, go on with the next.
    Refuse,
}

/// Judges an error. A super-segment that is refused as invalid takes its offload along: the kernel is too old for it, from now on it is cut in
/// software.
pub(super) fn judge(error: &io::Error, front: Option<&Packet>, offload: &mut DeviceOffload) -> Verdict {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Verdict::Wait,
        Some(libc::ENOBUFS) => Verdict::Pause,
        Some(libc::EINTR) => Verdict::Again,
        Some(libc::EINVAL) if front.is_some_and(|packet| give_up(packet, offload)) => Verdict::Again,
        _ => Verdict::Refuse,
    }
}

fn give_up(packet: &Packet, offload: &mut DeviceOffload) -> bool {
    let Some(segmentation) = packet.offload.segmentation else { return false };
    let ability = match segmentation.kind {
        SegmentationKind::TcpIpv4 => &mut offload.tcp_segmentation_ipv4,
        SegmentationKind::TcpIpv6 => &mut offload.tcp_segmentation_ipv6,
        SegmentationKind::Udp => &mut offload.udp_segmentation,
    };
    std::mem::replace(ability, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Pool, Segmentation};

    #[test]
    fn one_bad_frame_does_not_stop_the_others() {
        let mut offload = DeviceOffload { udp_segmentation: true, ..DeviceOffload::default() };
        let mut judge = |code, packet: Option<&Packet>| judge(&io::Error::from_raw_os_error(code), packet, &mut offload);
        let plain = Packet::from_bytes(&Pool::default(), b"frame");
        let mut super_datagram = plain.share();
        super_datagram.offload.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 9 });
        assert_eq!(judge(libc::EAGAIN, Some(&plain)), Verdict::Wait);
        assert_eq!(judge(libc::ENOBUFS, Some(&plain)), Verdict::Pause);
        assert_eq!(judge(libc::EMSGSIZE, Some(&plain)), Verdict::Refuse);
        assert_eq!(judge(libc::ENETDOWN, Some(&plain)), Verdict::Refuse);
        assert_eq!(judge(libc::EINVAL, Some(&plain)), Verdict::Refuse);
        assert_eq!(judge(libc::EINVAL, Some(&super_datagram)), Verdict::Again);
        assert_eq!(judge(libc::EINVAL, Some(&super_datagram)), Verdict::Refuse, "its offload is off already");
    }
}
