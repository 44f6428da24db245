//! The sending half of `/dev/bpf` and of tunnels: one frame for each system call, cut and summed in software.

use super::platform::MESSAGES;
use super::sys;
use crate::device::bsd::framing::Framing;
use crate::device::segmentation::Preparer;
use crate::device::{DeviceOffload, FrameSender, Medium, Sent};
use crate::packet::Packet;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Sends frames by writing them.
pub(super) struct DescriptorSender {
    descriptor: Arc<OwnedFd>,
    framing: Framing,
    preparer: Preparer,
}

impl DescriptorSender {
    pub(super) fn new(descriptor: Arc<OwnedFd>, medium: Medium, framing: Framing) -> DescriptorSender {
        DescriptorSender { descriptor, framing, preparer: Preparer::new(medium) }
    }

    fn write(&self, packet: &Packet) -> io::Result<usize> {
        let header = self.framing.header(packet, MESSAGES.inet6);
        let header = (self.framing != Framing::None).then(|| IoSlice::new(&header));
        let slices = packet.slices().iter().map(|slice| IoSlice::new(slice));
        let pieces: SmallVec<[IoSlice<'_>; 32]> = header.into_iter().chain(slices).collect();
        sys::write_frame(&self.descriptor, &pieces)
    }
}

impl FrameSender for DescriptorSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            sent.refused += self.preparer.prepare_front(frames, 1, &DeviceOffload::default());
            let Some(packet) = frames.front() else { return Ok(sent) };
            match self.write(packet) {
                Ok(_) => sent.take_front(frames, 1),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    // The interface's queue is full: the receiver's wait tries again soon.
                    Some(libc::ENOBUFS | libc::EAGAIN) => return Ok(sent),
                    _ => sent.refuse_front(frames),
                },
            }
        }
    }
}
