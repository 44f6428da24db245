//! Reception: takes frames out of the device, and passes them to the link layer with their credit, their arrival time and their number.
//!
//! Owns the receiver and the order of what comes from it. Refuses to wait, but for a device that cannot wait apart from reading, whose only reader is the
//! receive thread. Whoever reads holds the reception's lock while it does, and [rings](Reading::ring) after its release: what is pushed is in order, and the
//! layers are run without a lock, as always.

use super::clock::RealClock;
use super::credits::Credits;
use super::inbox::Entry;
use super::layer_loop::EntryPort;
use crate::counters::Counters;
use crate::device::{FrameReceiver, Losses, Received, Stock};
use crate::link;
use crate::packet::{Guard, Packet, Pool};
use crate::time::{Clock, Instant};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What it takes to receive.
pub(crate) struct Reception {
    pub(crate) receiver: Box<dyn FrameReceiver>,
    pool: Pool,
    pub(crate) credits: Arc<Credits>,
    pub(crate) link: EntryPort<link::Message>,
    clock: RealClock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) batch_frames: usize,
    /// Frames so far.
    number: u64,
    /// When some were read last.
    read_at: Instant,
    /// Bytes that had been sent when it was read last.
    bytes_sent: u64,
    /// Between two readings empty, as is what becomes of it.
    batch: Vec<Packet>,
    frames: VecDeque<link::Message>,
    /// What the last reading left.
    pub(crate) stock: Stock,
    /// An error that another than the receive thread met.
    pub(crate) left_error: Option<io::Error>,
}

/// What a reading brought.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// What was sent since the reading before.
    pub(crate) bytes_sent: usize,
    pub(crate) stock: Stock,
    /// When frames were read last.
    pub(crate) at: Instant,
}

impl Reading {
    /// Sees to it that the link layer takes what was read. To be called without the reception's lock.
    pub(crate) fn ring(&self, link: &Entry<link::Message>) {
        if self.frames > 0 {
            link.ring_for(self.bytes);
        }
    }
}

impl Reception {
    /// Nothing was read yet; what is read goes to `link`.
    pub(crate) fn new(
        receiver: Box<dyn FrameReceiver>,
        pool: Pool,
        credits: Arc<Credits>,
        link: Entry<link::Message>,
        clock: RealClock,
        counters: Arc<Counters>,
        batch_frames: usize,
    ) -> Reception {
        Reception {
            receiver,
            pool,
            credits,
            link: EntryPort::new(link, counters.clone()),
            clock,
            counters,
            batch_frames,
            number: 0,
            read_at: Instant::ZERO,
            bytes_sent: 0,
            batch: Vec::new(),
            frames: VecDeque::new(),
            stock: Stock::Empty,
            left_error: None,
        }
    }

    /// How many frames may be read now.
    pub(crate) fn allowance(&self, most: usize) -> usize {
        let limit = self.credits.allowance(most);
        if limit == 0 {
            self.counters.device.credit_stalls.increment();
        }
        limit
    }

    /// Waits for frames and the like, and reads.
    pub(crate) fn receive(&mut self, want_writable: bool) -> io::Result<(Received, Reading)> {
        let limit = self.allowance(self.batch_frames);
        let received = self.receiver.receive(&self.pool, limit, want_writable, &mut self.batch)?;
        Ok((received, self.deliver(Stock::Empty)))
    }

    /// Reads at most `limit` frames of those that are there.
    pub(crate) fn read(&mut self, limit: usize) -> io::Result<Reading> {
        self.read_by(limit, limit)
    }

    /// The same, with room for no more than `at_once` at a time. They are delivered together. An error that comes after frames is left for the receive thread.
    pub(crate) fn read_by(&mut self, at_once: usize, limit: usize) -> io::Result<Reading> {
        let mut left = limit;
        self.stock = Stock::Unknown;
        while left > 0 && self.stock == Stock::Unknown {
            match self.receiver.read(&self.pool, at_once.min(left), &mut self.batch) {
                Ok(stock) => self.stock = stock,
                Err(error) if self.batch.is_empty() => return Err(error),
                Err(error) => {
                    self.left_error = Some(error);
                    break;
                }
            }
            left = left.saturating_sub(at_once);
        }
        Ok(self.deliver(self.stock))
    }

    fn deliver(&mut self, stock: Stock) -> Reading {
        self.count_losses();
        let (frames, bytes) = (self.batch.len(), self.batch.iter().map(Packet::len).sum());
        if frames == 0 {
            return Reading { frames, bytes, bytes_sent: 0, stock, at: self.read_at };
        }
        let now = self.clock.now();
        self.read_at = now;
        let counters = &self.counters.device;
        let sent_before = std::mem::replace(&mut self.bytes_sent, counters.bytes_sent.get());
        let bytes_sent = usize::try_from(self.bytes_sent.wrapping_sub(sent_before)).unwrap_or(usize::MAX);
        counters.receive_batches.add_alone(1);
        counters.frames_received.add_alone(frames as u64);
        counters.bytes_received.add_alone(bytes as u64);
        self.credits.take(frames, bytes);
        for mut packet in self.batch.drain(..) {
            self.number += 1;
            (packet.arrived, packet.number) = (now, self.number);
            packet.guard = Some(Guard::new(self.credits.clone(), packet.len()));
            self.frames.push_back(link::Message::Frame(packet));
        }
        self.link.put(&mut self.frames, &mut |reason, _| self.counters.dropped(reason).increment());
        Reading { frames, bytes, bytes_sent, stock, at: now }
    }

    fn count_losses(&mut self) {
        let Losses { kernel_drops, truncated } = self.receiver.losses();
        self.counters.device.kernel_drops.add(kernel_drops);
        self.counters.device.truncated.add(truncated);
    }
}
