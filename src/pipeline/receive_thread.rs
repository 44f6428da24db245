//! The receive thread: waits for the device, and has the [reception](super::reception) read.
//!
//! It also watches for what others do not: that the device takes frames again, that the interface changed. Without credit it does not read, but still
//! waits for those. Where a program's thread can read in its place (`seat.rs`), it is woken for frames only while none does.

use super::device_side::Writability;
use super::health::{Health, Status};
use super::inbox::Entry;
use super::reception::Reception;
use super::seat::{Reader, Seat};
use crate::device::{HostWait, LinkChange, Received, Stock, Wanted};
use crate::transport::shared::Failure;
use crate::{link, network, transport};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

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
    pub(crate) reception: Arc<Mutex<Reception>>,
    /// Where it waits apart from reading: then programs' threads may read as well.
    pub(crate) wait: Option<Box<dyn HostWait>>,
    pub(crate) seat: Arc<Seat>,
    /// For how long frames are left to leaders, if none reads any.
    pub(crate) grace: Option<Duration>,
    pub(crate) entries: Entries,
    pub(crate) writability: Arc<Writability>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) health: Arc<Health>,
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
        let mut errors = 0;
        while !self.is_stopped() {
            let device = match self.receive() {
                Ok(received) => {
                    errors = 0;
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

    fn receive(&mut self) -> io::Result<Received> {
        let want_writable = self.writability.is_wanted();
        let Some(wait) = &mut self.wait else {
            let (received, reading) = self.reception.lock().receive(want_writable)?;
            reading.ring(&self.entries.link);
            return Ok(received);
        };
        let (limit, stock) = {
            let mut reception = self.reception.lock();
            if let Some(error) = reception.left_error.take() {
                return Err(error);
            }
            (reception.allowance(reception.batch_frames), reception.stock)
        };
        let grace = self.grace.take();
        let has_frames = limit > 0 && stock == Stock::Unknown;
        let at_most = if has_frames { Some(Duration::ZERO) } else { grace };
        let frames = limit > 0 && grace.is_none();
        let wanted = Wanted { frames, unshared: self.seat.is_far_off(), writable: want_writable, at_most };
        let (received, has_frames) = wait.wait(wanted)?;
        // Who calls may have been woken for frames that it did not read, and of which nobody else is told.
        let is_called = received.woken || stock == Stock::Unknown;
        if grace.is_some() {
            self.seat.end_grace();
        } else if has_frames && !is_called {
            self.grace = self.seat.let_leader_go_first();
        }
        if self.grace.is_none() && (is_called || has_frames || grace.is_some()) {
            self.read()?;
        }
        Ok(received)
    }

    /// Others may have used the credit up, or read the frames, since the wait began.
    fn read(&self) -> io::Result<()> {
        let mut reception = self.reception.lock();
        let limit = reception.credits.allowance(reception.batch_frames);
        if limit > 0 {
            let reading = reception.read(limit)?;
            drop(reception);
            self.seat.note(&reading, Reader::ReceiveThread);
            reading.ring(&self.entries.link);
        }
        Ok(())
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
        self.seat.close();
        while !self.is_stopped() {
            thread::park();
        }
    }
}
