//! One hop, alone: a layer that only passes packets on, in the real loop and behind the real inbox. For measuring what a hop costs.

use super::clock::RealClock;
use super::inbox::{Entry, inbox};
use super::layer_loop::{LayerLoop, Nowhere, Pace, Port, Reins};
use super::messages::Stage;
use crate::config::PipelineConfig;
use crate::counters::Counters;
use crate::layer::{DropReason, Layer, Outbox};
use crate::link::Message;
use crate::packet::Packet;
use crate::time::Instant;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A thread that runs one trivial layer: what is [sent](Hop::send) to its inbox comes out unchanged at [`Hop::receive`].
///
/// ```
/// use hopline::packet::{Packet, Pool};
/// use hopline::pipeline::Hop;
/// let hop = Hop::start(16)?;
/// assert!(hop.send(Packet::from_bytes(&Pool::default(), b"there")));
/// assert_eq!(hop.receive().unwrap().front(), b"there");
/// # std::io::Result::Ok(())
/// ```
pub struct Hop {
    entry: Entry<Message>,
    output: Receiver<Packet>,
    reins: Arc<Reins>,
    thread: Option<JoinHandle<()>>,
}

impl Hop {
    /// Starts the thread. At most `packets` may be on their way.
    pub fn start(packets: usize) -> io::Result<Hop> {
        let (entry, inbox) = inbox(0, packets);
        let (sender, output) = bounded(packets);
        let reins = Arc::new(Reins::default());
        let mut looper = LayerLoop {
            layer: PassOn,
            inbox,
            laid: VecDeque::new(),
            extra: (),
            out: Outbox::new(Arc::new(Counters::default())),
            up: Box::new(sender),
            down: Box::new(Nowhere),
            pace: Pace {
                clock: RealClock::start(),
                batch_messages: PipelineConfig::default().batch_messages,
                wakeups: |counters| &counters.pipeline.link_wakeups,
            },
            reins: reins.clone(),
        };
        let thread = std::thread::Builder::new().name("hopline-hop".to_owned()).spawn(move || looper.run())?;
        Ok(Hop { entry, output, reins, thread: Some(thread) })
    }

    /// Puts a packet into the inbox; false if too many are on their way. Never waits.
    pub fn send(&self, packet: Packet) -> bool {
        self.entry.send(Message::Frame(packet)).is_ok()
    }

    /// Waits for the next packet to come out.
    pub fn receive(&self) -> Option<Packet> {
        self.output.recv().ok()
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.reins.stop(std::time::Instant::now());
        self.entry.kick();
        let ended = self.thread.take().map(JoinHandle::join);
        debug_assert!(!matches!(ended, Some(Err(_))), "a layer that only passes on does not panic");
    }
}

struct PassOn;

impl Layer for PassOn {
    type Message = Message;
    type Up = Packet;
    type Down = Infallible;

    fn handle(&mut self, _now: Instant, message: Message, out: &mut Outbox<Packet, Infallible>) {
        if let Message::Frame(packet) = message {
            out.up.push_back(packet);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn run_timers(&mut self, _now: Instant, _out: &mut Outbox<Packet, Infallible>) {}
}

impl Stage for PassOn {}

impl Port<Packet> for Sender<Packet> {
    fn carry(&mut self, packets: &mut VecDeque<Packet>, refuse: &mut dyn FnMut(DropReason, Packet)) {
        for packet in packets.drain(..) {
            if let Err(crossbeam_channel::TrySendError::Full(packet) | crossbeam_channel::TrySendError::Disconnected(packet)) =
                self.try_send(packet)
            {
                refuse(DropReason::InboxFull, packet);
            }
        }
    }
}
