//! The receive thread: blocks in the device, gives each packet its credit, its arrival time and its number, and passes it to the link layer.
//!
//! It is the only thread that waits in the kernel, so it also watches for what others cannot: that the device takes frames again, that the
//! interface changed. Without credit it does not read, but still waits for those.

use super::clock::RealClock;
use super::credits::Credits;
use super::device_side::Writability;
use super::health::{Health, Status};
use super::inbox::{Entry, Refusal};
use crate::counters::Counters;
use crate::device::{FrameReceiver, LinkChange, Losses, Received};
use crate::layer::DropReason;
use crate::packet::{Guard, Packet, Pool};
use crate::time::Clock;
use crate::transport::shared::Failure;
use crate::{link, network, transport};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Errors of the device in a row, without a frame or an event between them, after which it is given up.
const ERRORS_IN_A_ROW: u32 = 64;

/// The entries of all three layers: what concerns the interface concerns them all.
#[derive(Clone)]
pub(crate) struct Entries {
    pub(crate) link: Entry<link::Message>,
    pub(crate) network: Entry<network::Message>,
    pub(crate) transport: Entry<transport::Message>,
}

/// Everything that the receive thread works with.
pub(crate) struct ReceiveThread {
    pub(crate) receiver: Box<dyn FrameReceiver>,
    pub(crate) pool: Pool,
    pub(crate) credits: Arc<Credits>,
    pub(crate) entries: Entries,
    pub(crate) writability: Arc<Writability>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) clock: RealClock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: Arc<Health>,
    pub(crate) batch_frames: usize,
}

/// Whether there is anything more to expect from the device.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Device {
    Alive,
    Dead,
}

impl ReceiveThread {
    /// Receives until told to stop, or until the device is dead; then waits to be told to stop.
    pub(crate) fn run(&mut self) {
        let mut batch = Vec::with_capacity(self.batch_frames);
        let mut number = 0;
        let mut errors = 0;
        while !self.is_stopped() {
            let device = match self.receive(&mut batch) {
                Ok(received) => {
                    errors = 0;
                    self.deliver(&mut batch, &mut number);
                    self.react(received)
                }
                Err(error) => self.react_to_error(&error, &mut errors),
            };
            if device == Device::Dead {
                return self.wait_for_stop();
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn receive(&mut self, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let limit = self.credits.allowance(self.batch_frames);
        if limit == 0 {
            self.counters.device.credit_stalls.increment();
        }
        self.receiver.receive(&self.pool, limit, self.writability.is_wanted(), batch)
    }

    fn deliver(&mut self, batch: &mut Vec<Packet>, number: &mut u64) {
        self.count_losses();
        if batch.is_empty() {
            return;
        }
        let now = self.clock.now();
        let counters = &self.counters.device;
        counters.receive_batches.increment();
        counters.frames_received.add(batch.len() as u64);
        let batch_bytes = batch.iter().map(Packet::len).sum();
        for mut packet in batch.drain(..) {
            let bytes = packet.len();
            counters.bytes_received.add(bytes as u64);
            *number += 1;
            (packet.arrived, packet.number) = (now, *number);
            self.credits.take(bytes);
            packet.guard = Some(Guard::new(self.credits.clone(), bytes));
            if let Err(refused) = self.entries.link.push(link::Message::Frame(packet)) {
                self.count_refused(refused.cause);
            }
        }
        self.entries.link.ring_for(batch_bytes);
    }

    fn count_refused(&self, cause: Refusal) {
        let reason = if cause == Refusal::Closed { DropReason::ShuttingDown } else { DropReason::InboxFull };
        self.counters.dropped(reason).increment();
        if cause == Refusal::Overflow {
            self.counters.pipeline.inbox_overflows.increment();
        }
    }

    fn count_losses(&mut self) {
        let Losses { kernel_drops, truncated } = self.receiver.losses();
        self.counters.device.kernel_drops.add(kernel_drops);
        self.counters.device.truncated.add(truncated);
    }

    fn react(&self, received: Received) -> Device {
        let Received { woken: _, writable, link } = received;
        if writable {
            self.writability.report();
            self.entries.link.kick();
        }
        match link {
            None => {}
            Some(LinkChange::Up) => self.post_link_state(true),
            Some(LinkChange::Down) => self.post_link_state(false),
            Some(LinkChange::AddressLost) => self.give_up(),
            Some(LinkChange::Gone) => {
                self.give_up();
                return Device::Dead;
            }
        }
        Device::Alive
    }

    /// An interface that is down may come up again; one that keeps failing is as good as gone.
    fn react_to_error(&self, error: &io::Error, errors: &mut u32) -> Device {
        match error.kind() {
            io::ErrorKind::Interrupted => return Device::Alive,
            io::ErrorKind::NetworkDown => self.post_link_state(false),
            _ => {}
        }
        *errors += 1;
        if *errors < ERRORS_IN_A_ROW {
            return Device::Alive;
        }
        self.give_up();
        Device::Dead
    }

    fn post_link_state(&self, up: bool) {
        self.entries.link.post(link::Message::LinkState(up));
        self.entries.network.post(network::Message::LinkState(up));
        self.entries.transport.post(transport::Message::LinkState(up));
    }

    /// Nothing will come any more: every socket is told, instead of waiting for ever.
    fn give_up(&self) {
        self.health.worsen(Status::NetworkGone);
        self.entries.transport.post(transport::Message::FailAll(Failure::NetworkDown));
    }

    fn wait_for_stop(&self) {
        while !self.is_stopped() {
            std::thread::park();
        }
    }
}
