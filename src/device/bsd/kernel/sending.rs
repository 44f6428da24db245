//! The sending half of `/dev/bpf` and of tunnels: one frame for each system call, cut and summed in software.

use super::platform::MESSAGES;
use super::sys;
use crate::device::bsd::framing::Framing;
use crate::device::segmentation::prepare_front;
use crate::device::{DeviceOffload, FrameSender, Medium, Sent};
use crate::packet::{Packet, Pool};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Slots that the sending half keeps for the headers of cut segments.
const HEADER_SLOTS: usize = 256;

/// Sends frames by writing them.
pub(super) struct DescriptorSender {
    descriptor: Arc<OwnedFd>,
    medium: Medium,
    framing: Framing,
    pool: Pool,
    spare: VecDeque<Packet>,
}

impl DescriptorSender {
    pub(super) fn new(descriptor: Arc<OwnedFd>, medium: Medium, framing: Framing) -> DescriptorSender {
        DescriptorSender { descriptor, medium, framing, pool: Pool::new(HEADER_SLOTS, 0), spare: VecDeque::new() }
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
            sent.refused += prepare_front(frames, 1, &DeviceOffload::default(), self.medium, &self.pool, &mut self.spare);
            let Some(packet) = frames.front() else { return Ok(sent) };
            match self.write(packet) {
                Ok(_) => {
                    sent.frames += 1;
                    sent.bytes += packet.len() as u64;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    // The interface's queue is full: the receiver's wait tries again soon.
                    Some(libc::ENOBUFS | libc::EAGAIN) => return Ok(sent),
                    _ => sent.refused += 1,
                },
            }
            frames.pop_front();
        }
    }
}
