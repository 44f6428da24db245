//! A tunnel: an interface of the kernel's whose other end is a descriptor in our hands (`utun` of macOS, `tun` and `tap` of FreeBSD).
//!
//! Owns both halves of the device. Refuses to open one: each system does that in its own way.

use super::host::interface_by_name;
use super::sending::DescriptorSender;
use super::sys;
use super::wait::Waiter;
use crate::device::bsd::framing::Framing;
use crate::device::{Device, DeviceOffload, DeviceProperties, FrameReceiver, Losses, Medium, OpenDevice, Received, Wanted, merge};
use crate::packet::{Packet, Pool};
use crate::wire::MacAddress;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Longest frame of a tunnel.
const FRAME_BYTES: usize = 64 << 10;

/// A tunnel that has not been started.
pub(super) struct Tunnel {
    descriptor: OwnedFd,
    name: String,
    index: u32,
    mtu: usize,
    framing: Framing,
    medium: Medium,
}

impl Tunnel {
    /// The non-blocking descriptor of interface `name`; with a MAC address it carries Ethernet frames.
    pub(super) fn new(descriptor: OwnedFd, name: &str, framing: Framing, mac: Option<MacAddress>) -> io::Result<Tunnel> {
        let interface = interface_by_name(name)?;
        let medium = mac.map_or(Medium::Ip, Medium::Ethernet);
        Ok(Tunnel { descriptor, name: name.to_owned(), index: interface.index, mtu: interface.mtu, framing, medium })
    }
}

impl Device for Tunnel {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties { name: self.name.clone(), medium: self.medium, mtu: self.mtu, offload: DeviceOffload::default() }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let descriptor = Arc::new(self.descriptor);
        let waiter = Waiter::new(descriptor.clone(), self.index, None)?;
        let waker = waiter.waker();
        let sender = DescriptorSender::new(descriptor.clone(), self.medium, self.framing);
        let buffer = vec![0; FRAME_BYTES].into_boxed_slice();
        let receiver = TunnelReceiver { descriptor, medium: self.medium, framing: self.framing, waiter, buffer, truncated: 0 };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker })
    }
}

struct TunnelReceiver {
    descriptor: Arc<OwnedFd>,
    medium: Medium,
    framing: Framing,
    waiter: Waiter,
    buffer: Box<[u8]>,
    truncated: u64,
}

impl FrameReceiver for TunnelReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let outcome = self.waiter.wait(Wanted { frames: limit > 0, writable: want_writable, ..Wanted::default() })?;
        let first = batch.len();
        while outcome.readable && batch.len() - first < limit && self.read(pool, batch)? {}
        merge::merge(batch, first, self.medium, pool);
        Ok(outcome.received)
    }

    fn losses(&mut self) -> Losses {
        Losses { kernel_drops: 0, truncated: std::mem::take(&mut self.truncated) }
    }
}

impl TunnelReceiver {
    /// Reads a frame; says whether there was one.
    fn read(&mut self, pool: &Pool, batch: &mut Vec<Packet>) -> io::Result<bool> {
        let length = match sys::read(&self.descriptor, &mut self.buffer) {
            Ok(length) => length,
            Err(error) => return self.survive(error),
        };
        // The kernel cuts a frame that is longer than our room, and does not say so.
        self.truncated += u64::from(length == self.buffer.len());
        let frame = self.buffer.get(..length).unwrap_or_default();
        if let Some(packet) = self.framing.strip(frame) {
            batch.push(Packet::from_bytes(pool, packet));
        }
        Ok(length > 0)
    }

    fn survive(&mut self, error: io::Error) -> io::Result<bool> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR | libc::EHOSTDOWN | libc::ENETDOWN) => Ok(false),
            Some(libc::ENXIO | libc::EIO) => {
                self.waiter.report_gone();
                Ok(false)
            }
            _ => Err(error),
        }
    }
}
