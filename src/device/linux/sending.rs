//! Frames offered together, and what an error means for one of them: the same for packet sockets and TUN/TAP.

use super::sys::{MESSAGES, OutgoingBatch};
use crate::device::{DeviceOffload, virtio};
use crate::packet::{Packet, SegmentationKind};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;

/// The virtio-net headers of as many frames from the front as one call takes; none for a device that has none.
pub(super) fn headers(frames: &VecDeque<Packet>, has_header: bool) -> SmallVec<[[u8; virtio::LENGTH]; MESSAGES]> {
    frames.iter().take(if has_header { MESSAGES } else { 0 }).map(virtio::emit).collect()
}

/// As many frames from the front as one call takes, each behind its header.
pub(super) fn batch<'a>(
    frames: &'a VecDeque<Packet>,
    headers: &'a [[u8; virtio::LENGTH]],
    address_for: impl Fn(&Packet) -> Option<&'a libc::sockaddr_ll>,
) -> OutgoingBatch<'a> {
    let mut batch = OutgoingBatch::default();
    for (number, packet) in frames.iter().take(MESSAGES).enumerate() {
        headers.get(number).into_iter().for_each(|header| batch.push(header));
        packet.slices().iter().for_each(|slice| batch.push(slice));
        batch.end_frame(address_for(packet));
    }
    batch
}

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
/// software, and so are those that were `offered` together with it.
pub(super) fn judge(error: &io::Error, front: Option<&Packet>, offered: DeviceOffload, offload: &mut DeviceOffload) -> Verdict {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Verdict::Wait,
        Some(libc::ENOBUFS) => Verdict::Pause,
        Some(libc::EINTR) => Verdict::Again,
        Some(libc::EINVAL) if front.is_some_and(|packet| give_up(packet, offered, offload)) => Verdict::Again,
        _ => Verdict::Refuse,
    }
}

/// Whether it was offered.
fn give_up(packet: &Packet, mut offered: DeviceOffload, offload: &mut DeviceOffload) -> bool {
    let Some(segmentation) = packet.offload.segmentation else { return false };
    *ability(offload, segmentation.kind) = false;
    *ability(&mut offered, segmentation.kind)
}

fn ability(offload: &mut DeviceOffload, kind: SegmentationKind) -> &mut bool {
    match kind {
        SegmentationKind::TcpIpv4 => &mut offload.tcp_segmentation_ipv4,
        SegmentationKind::TcpIpv6 => &mut offload.tcp_segmentation_ipv6,
        SegmentationKind::Udp => &mut offload.udp_segmentation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Pool, Segmentation};

    #[test]
    fn one_bad_frame_does_not_stop_the_others() {
        let mut offload = DeviceOffload { udp_segmentation: true, ..DeviceOffload::default() };
        let mut judge = |code, packet: Option<&Packet>| judge(&io::Error::from_raw_os_error(code), packet, offload, &mut offload);
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
