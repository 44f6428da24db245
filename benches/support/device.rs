//! A device that the bench plays: it puts frames in at one end and takes at the same place what the stack sent.

use crossbeam_channel::{Receiver, Sender, bounded};
use hopline::device::{Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Medium, OpenDevice, Received, Sent, Waker};
use hopline::packet::{Packet, Pool};
use hopline::wire::MacAddress;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Frames that may wait at either end.
const QUEUE: usize = 1_024;

/// What comes in at the receiving half.
enum Input {
    Frame(Vec<u8>),
    Wake,
}

/// The stack's end.
pub(crate) struct ScriptedDevice {
    address: MacAddress,
    input: Receiver<Input>,
    waker: Sender<Input>,
    output: Sender<Packet>,
}

/// The bench's end.
pub(crate) struct Wire {
    input: Sender<Input>,
    output: Receiver<Packet>,
}

/// A device with this address, and the other end of its wire.
pub(crate) fn scripted(address: MacAddress) -> (ScriptedDevice, Wire) {
    let (to_stack, input) = bounded(QUEUE);
    let (output, from_stack) = bounded(QUEUE);
    (ScriptedDevice { address, input, waker: to_stack.clone(), output }, Wire { input: to_stack, output: from_stack })
}

impl Wire {
    /// Puts a frame in.
    pub(crate) fn inject(&self, frame: Vec<u8>) {
        self.input.send(Input::Frame(frame)).expect("the stack runs");
    }

    /// Waits for the next frame that the stack sends.
    pub(crate) fn next(&self) -> Packet {
        self.output.recv().expect("the stack runs")
    }

    /// The next frame, if it has been sent already.
    pub(crate) fn try_next(&self) -> Option<Packet> {
        self.output.try_recv().ok()
    }
}

impl Device for ScriptedDevice {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties {
            name: "scripted".to_owned(),
            medium: Medium::Ethernet(self.address),
            mtu: 1_500,
            offload: DeviceOffload::default(),
        }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let ScriptedDevice { input, waker, output, .. } = *self;
        Ok(OpenDevice {
            receiver: Box::new(ScriptedReceiver { input }),
            sender: Box::new(ScriptedSender { output }),
            waker: Arc::new(ScriptedWaker { waker }),
        })
    }
}

struct ScriptedReceiver {
    input: Receiver<Input>,
}

impl ScriptedReceiver {
    fn take(&self, input: Input, pool: &Pool, batch: &mut Vec<Packet>, received: &mut Received) {
        match input {
            Input::Frame(frame) => batch.push(Packet::new(pool.copy_from(0, &frame))),
            Input::Wake => received.woken = true,
        }
    }
}

impl FrameReceiver for ScriptedReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let mut received = Received { writable: want_writable, ..Received::default() };
        let Ok(first) = self.input.recv() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        self.take(first, pool, batch, &mut received);
        while batch.len() < limit
            && let Ok(next) = self.input.try_recv()
        {
            self.take(next, pool, batch, &mut received);
        }
        Ok(received)
    }
}

struct ScriptedSender {
    output: Sender<Packet>,
}

impl FrameSender for ScriptedSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        for mut frame in frames.drain(..) {
            sent.frames += 1;
            sent.bytes += frame.len() as u64;
            frame.guard = None;
            // A wire that nobody reads from loses frames, as wires do.
            let _ = self.output.try_send(frame);
        }
        Ok(sent)
    }
}

struct ScriptedWaker {
    waker: Sender<Input>,
}

impl Waker for ScriptedWaker {
    fn wake(&self) {
        let _ = self.waker.try_send(Input::Wake);
    }
}
