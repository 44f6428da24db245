//! An in-memory cable for Ethernet frames of the usual size, between any two stacks: a bounded queue each way. Nothing is merged or cut in it.

use crossbeam_channel::{Receiver, Sender, bounded};
use hopline::device::{
    Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Medium, OpenDevice, Received, Sent, Waker, merge, segmentation,
};
use hopline::packet::{Packet, Pool};
use hopline::wire::MacAddress;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the largest IP packet.
pub(crate) const MTU: usize = 1_500;
/// Frames on their way: more than any window here, so that none is lost.
const QUEUE: usize = 8_192;

/// One end: what a stack is started on.
pub(crate) struct End {
    address: MacAddress,
    input: Receiver<Vec<u8>>,
    output: Sender<Vec<u8>>,
    /// Into our own input: an empty frame ends a wait.
    waker: Sender<Vec<u8>>,
}

/// Both ends.
pub(crate) fn cable(a: MacAddress, b: MacAddress) -> (End, End) {
    let (to_a, at_a) = bounded(QUEUE);
    let (to_b, at_b) = bounded(QUEUE);
    let first = End { address: a, input: at_a, output: to_b.clone(), waker: to_a.clone() };
    (first, End { address: b, input: at_b, output: to_a, waker: to_b })
}

impl End {
    /// The station at this end.
    pub(crate) fn address(&self) -> MacAddress {
        self.address
    }

    /// The next frame, if there is one.
    pub(crate) fn try_next(&self) -> Option<Vec<u8>> {
        self.input.try_recv().ok()
    }

    /// Waits for a frame; `None` after `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        self.input.recv_timeout(patience).ok()
    }

    /// Puts a frame onto the cable.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        let _ = self.output.try_send(frame);
    }
}

impl Device for End {
    fn properties(&self) -> DeviceProperties {
        let medium = Medium::Ethernet(self.address);
        DeviceProperties { name: "cable".to_owned(), medium, mtu: MTU, offload: DeviceOffload::default() }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let (medium, waker) = (Medium::Ethernet(self.address), Arc::new(CableWaker(self.waker)));
        let sender = CableSender { output: self.output, medium, pool: Pool::default() };
        let receiver = CableReceiver { input: self.input, medium };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker })
    }
}

struct CableReceiver {
    input: Receiver<Vec<u8>>,
    medium: Medium,
}

impl FrameReceiver for CableReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let Ok(first) = self.input.recv() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let start = batch.len();
        let rest = self.input.try_iter().take(limit.saturating_sub(1));
        batch.extend(
            std::iter::once(first).chain(rest).filter(|frame| !frame.is_empty()).map(|frame| Packet::new(pool.copy_from(0, &frame))),
        );
        merge::merge(batch, start, self.medium, pool);
        Ok(Received { woken: true, writable: want_writable, ..Received::default() })
    }
}

struct CableSender {
    output: Sender<Vec<u8>>,
    medium: Medium,
    pool: Pool,
}

impl FrameSender for CableSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let refused = segmentation::prepare(frames, &DeviceOffload::default(), self.medium, &self.pool);
        let mut sent = Sent { refused, ..Sent::default() };
        for frame in frames.drain(..) {
            sent.frames += 1;
            sent.bytes += frame.len() as u64;
            let mut bytes = vec![0; frame.len()];
            frame.copy_to(&mut bytes);
            let _ = self.output.try_send(bytes);
        }
        Ok(sent)
    }
}

struct CableWaker(Sender<Vec<u8>>);

impl Waker for CableWaker {
    fn wake(&self) {
        let _ = self.0.try_send(Vec::new());
    }
}
