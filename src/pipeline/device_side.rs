//! The link thread's lower side: frames on their way into the device.
//!
//! Owns the backlog of frames that the device had no room for. It never waits: when the device is full, the receive thread, which can wait on it,
//! is asked to say when it takes frames again. Frames that programs sent are bounded by their sockets; the stack's own are bounded here.

use super::layer_loop::Port;
use crate::counters::Counters;
use crate::device::{FrameSender, Waker};
use crate::layer::DropReason;
use crate::packet::Packet;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What link thread and receive thread tell each other about room in the device.
#[derive(Debug, Default)]
pub(crate) struct Writability {
    wanted: AtomicBool,
    reported: AtomicBool,
}

impl Writability {
    /// Whether the link thread waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// The device takes frames again. The link inbox has to be kicked afterwards.
    pub(crate) fn report(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        self.reported.store(true, Ordering::SeqCst);
    }

    fn want(&self) {
        self.reported.store(false, Ordering::SeqCst);
        self.wanted.store(true, Ordering::SeqCst);
    }
}

/// Frames for the device.
pub(crate) struct DeviceSide {
    sender: Box<dyn FrameSender>,
    waker: Arc<dyn Waker>,
    writability: Arc<Writability>,
    counters: Arc<Counters>,
    backlog: VecDeque<Packet>,
    own: usize,
    own_limit: usize,
    waiting: bool,
}

impl DeviceSide {
    /// Sends through `sender`; at most `own_limit` of the stack's own frames wait.
    pub(crate) fn new(
        sender: Box<dyn FrameSender>,
        waker: Arc<dyn Waker>,
        writability: Arc<Writability>,
        counters: Arc<Counters>,
        own_limit: usize,
    ) -> DeviceSide {
        DeviceSide { sender, waker, writability, counters, backlog: VecDeque::new(), own: 0, own_limit, waiting: false }
    }

    fn admit(&mut self, frame: Packet, refuse: &mut dyn FnMut(DropReason, Packet)) {
        if frame.guard.is_some() {
            self.backlog.push_back(frame);
        } else if self.own < self.own_limit {
            self.own += 1;
            self.backlog.push_back(frame);
        } else {
            refuse(DropReason::DeviceBacklogFull, frame);
        }
    }

    /// Gives the device what it takes. A frame that it fails on is dropped, so that one bad frame does not stop the rest.
    fn transmit(&mut self, refuse: &mut dyn FnMut(DropReason, Packet)) {
        if self.waiting {
            return;
        }
        while !self.backlog.is_empty() && !self.waiting {
            match self.send_batch() {
                Ok(()) if self.backlog.is_empty() => {}
                Ok(()) => self.wait_for_room(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(),
                Err(_) => {
                    if let Some(frame) = self.backlog.pop_front() {
                        refuse(DropReason::DeviceError, frame);
                    }
                }
            }
        }
        self.count_own();
    }

    fn count_own(&mut self) {
        self.own = self.backlog.iter().filter(|frame| frame.guard.is_none()).count();
    }

    fn send_batch(&mut self) -> io::Result<()> {
        let sent = self.sender.send(&mut self.backlog)?;
        self.counters.device.frames_sent.add_alone(sent.frames);
        self.counters.device.bytes_sent.add_alone(sent.bytes);
        self.counters.device.send_batches.add_alone(1);
        if sent.refused > 0 {
            self.counters.dropped(DropReason::DeviceError).add(sent.refused);
        }
        Ok(())
    }

    fn wait_for_room(&mut self) {
        self.waiting = true;
        self.counters.device.send_stalls.increment();
        self.writability.want();
        self.waker.wake();
    }
}

impl Port<Packet> for DeviceSide {
    fn carry(&mut self, frames: &mut VecDeque<Packet>, refuse: &mut dyn FnMut(DropReason, Packet)) {
        for frame in frames.drain(..) {
            self.admit(frame, refuse);
        }
        if self.waiting && self.writability.reported.swap(false, Ordering::SeqCst) {
            self.waiting = false;
        }
        self.transmit(refuse);
    }

    fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Sent;
    use crate::packet::{Account, Guard, Pool};
    use parking_lot::Mutex;
    use std::sync::atomic::AtomicUsize;

    /// A device with so much room, and how many frames it got.
    #[derive(Default)]
    struct Room {
        frames: Mutex<Vec<Vec<u8>>>,
        room: AtomicUsize,
        wakes: AtomicUsize,
    }

    struct Sender(Arc<Room>);

    impl FrameSender for Sender {
        fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
            let mut sent = Sent::default();
            while self.0.room.load(Ordering::SeqCst) > 0 {
                match frames.front().map(|frame| frame.to_vec()) {
                    None => break,
                    Some(bytes) if bytes == b"bad" => return Err(io::ErrorKind::InvalidInput.into()),
                    Some(bytes) => self.0.frames.lock().push(bytes),
                }
                frames.pop_front();
                self.0.room.fetch_sub(1, Ordering::SeqCst);
                sent.frames += 1;
            }
            Ok(sent)
        }
    }

    impl Waker for Room {
        fn wake(&self) {
            self.wakes.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Account for Room {
        fn give_back(&self, _bytes: usize) {}
    }

    fn side(room: usize, own_limit: usize) -> (DeviceSide, Arc<Room>, Arc<Writability>) {
        let device = Arc::new(Room { room: room.into(), ..Room::default() });
        let writability = Arc::new(Writability::default());
        let sender = Box::new(Sender(device.clone()));
        let side = DeviceSide::new(sender, device.clone(), writability.clone(), Arc::default(), own_limit);
        (side, device, writability)
    }

    fn carry(side: &mut DeviceSide, frames: Vec<Packet>) -> Vec<DropReason> {
        let mut dropped = Vec::new();
        side.carry(&mut frames.into(), &mut |reason, _| dropped.push(reason));
        dropped
    }

    fn frame(bytes: &[u8]) -> Packet {
        Packet::from_bytes(&Pool::default(), bytes)
    }

    #[test]
    fn what_finds_no_room_waits_for_the_report_and_keeps_its_order() {
        let (mut side, device, writability) = side(1, 10);
        assert!(carry(&mut side, vec![frame(b"1"), frame(b"2")]).is_empty());
        assert!(writability.is_wanted() && device.wakes.load(Ordering::SeqCst) == 1);
        device.room.store(9, Ordering::SeqCst);
        carry(&mut side, vec![frame(b"3")]);
        assert_eq!(device.frames.lock().len(), 1, "nothing is tried before the device says so");
        writability.report();
        carry(&mut side, vec![]);
        assert_eq!(*device.frames.lock(), [b"1", b"2", b"3"]);
        assert!(side.is_empty() && !writability.is_wanted());
    }

    #[test]
    fn the_stacks_own_frames_are_bounded_and_lent_ones_are_not() {
        let (mut side, device, _) = side(0, 2);
        let lent = || {
            let mut frame = frame(b"lent");
            frame.guard = Some(Guard::new(device.clone(), 0));
            frame
        };
        let frames = vec![frame(b"1"), frame(b"2"), frame(b"3"), lent(), lent(), lent()];
        assert_eq!(carry(&mut side, frames), [DropReason::DeviceBacklogFull]);
        assert_eq!(side.backlog.len(), 5);
    }

    #[test]
    fn a_frame_that_the_device_fails_on_does_not_stop_the_rest() {
        let (mut side, device, _) = side(9, 9);
        assert_eq!(carry(&mut side, vec![frame(b"1"), frame(b"bad"), frame(b"2")]), [DropReason::DeviceError]);
        assert_eq!(*device.frames.lock(), [b"1", b"2"]);
    }
}
