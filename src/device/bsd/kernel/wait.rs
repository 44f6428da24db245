//! Waiting for a device, the waker, and news of the interface at once, by kqueue(2).
//!
//! Owns the wait of the receive thread, shared by `/dev/bpf` and tunnels, and the routing socket that tells of changes. Refuses to read frames.

use super::host::interface_by_index;
use super::platform::MESSAGES;
use super::sys::{self, Happened, Interest, Queue};
use crate::device::bsd::routing_message::{InterfaceNews, messages, parse_news};
use crate::device::{LinkChange, Received, Waker, Wanted};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before sending again when the queue behind the device was full: nothing tells when it drains.
const CONGESTION_PAUSE: Duration = Duration::from_millis(1);
/// Messages of the routing socket are never longer.
const MESSAGE_BYTES: usize = 4 << 10;

/// Wakes by an event of the queue's own.
pub(super) struct QueueWaker(Arc<Queue>);

impl Waker for QueueWaker {
    fn wake(&self) {
        self.0.trigger();
    }
}

/// The receive thread's wait.
pub(super) struct Waiter {
    queue: Arc<Queue>,
    device: Arc<OwnedFd>,
    is_listening: bool,
    monitor: OwnedFd,
    index: u32,
    /// The address that we share with the host.
    watched: Option<IpAddr>,
    is_up: bool,
    is_gone: bool,
    news: VecDeque<LinkChange>,
}

/// What ended a wait.
pub(super) struct Outcome {
    pub(super) received: Received,
    /// There may be something to read.
    pub(super) readable: bool,
}

impl Waiter {
    /// A wait for `device`, that also hears of changes to interface `index`; `watched` is an address to watch for being removed.
    pub(super) fn new(device: Arc<OwnedFd>, index: u32, watched: Option<IpAddr>) -> io::Result<Waiter> {
        let queue = Arc::new(Queue::new()?);
        let monitor = sys::socket(libc::PF_ROUTE, libc::SOCK_RAW, 0)?;
        sys::set_nonblocking(&monitor)?;
        queue.add(Interest::Trigger)?;
        queue.add(Interest::Readable(monitor.as_fd()))?;
        let news = VecDeque::new();
        let mut waiter = Waiter { queue, device, is_listening: false, monitor, index, watched, is_up: true, is_gone: false, news };
        // What happened before the monitor listened.
        waiter.look_again();
        Ok(waiter)
    }

    pub(super) fn waker(&self) -> Arc<QueueWaker> {
        Arc::new(QueueWaker(self.queue.clone()))
    }

    /// The interface will not come back.
    pub(super) fn report_gone(&mut self) {
        if !self.is_gone {
            self.is_gone = true;
            self.news.push_back(LinkChange::Gone);
        }
    }

    /// Waits for what is `wanted` (for room a short while: nothing tells of it), for the waker, or for news.
    pub(super) fn wait(&mut self, wanted: Wanted) -> io::Result<Outcome> {
        self.listen(wanted.frames && !self.is_gone)?;
        let has_news = (!self.news.is_empty()).then_some(Duration::ZERO);
        let room = wanted.writable.then_some(CONGESTION_PAUSE);
        let (events, count) = self.queue.wait([has_news, room, wanted.at_most].into_iter().flatten().min())?;
        let mut outcome = Outcome { received: Received { writable: wanted.writable, ..Received::default() }, readable: false };
        for event in events.iter().take(count) {
            self.note(event, &mut outcome);
        }
        outcome.received.link = self.news.pop_front();
        Ok(outcome)
    }

    fn listen(&mut self, on: bool) -> io::Result<()> {
        if on != self.is_listening {
            let device = Interest::Readable(self.device.as_fd());
            if on {
                self.queue.add(device)?
            } else {
                self.queue.remove(device)?
            }
            self.is_listening = on;
        }
        Ok(())
    }

    fn note(&mut self, event: &Happened, outcome: &mut Outcome) {
        if event.descriptor < 0 {
            outcome.received.woken = true;
        } else if event.descriptor == self.monitor.as_raw_fd() {
            self.read_news();
        } else {
            outcome.readable = true;
            if event.is_over {
                self.report_gone();
            }
        }
    }

    fn read_news(&mut self) {
        let mut buffer = [0; MESSAGE_BYTES];
        loop {
            match sys::read(&self.monitor, &mut buffer) {
                Ok(length) => messages(buffer.get(..length).unwrap_or_default()).for_each(|message| self.read_message(message)),
                // Messages were lost: look what became of it.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.look_again(),
                Err(_) => return,
            }
        }
    }

    fn read_message(&mut self, message: &[u8]) {
        match parse_news(MESSAGES, message) {
            Some(InterfaceNews::Flags { index, flags }) if index == self.index => self.note_state(carries(flags)),
            Some(InterfaceNews::Gone { index }) if index == self.index => self.report_gone(),
            Some(InterfaceNews::AddressLost { index, address }) if index == self.index && Some(address) == self.watched => {
                self.news.push_back(LinkChange::AddressLost);
            }
            _ => {}
        }
    }

    fn look_again(&mut self) {
        match interface_by_index(self.index) {
            Ok(Some(interface)) => self.note_state(interface.up),
            Ok(None) => self.report_gone(),
            Err(_) => {}
        }
    }

    fn note_state(&mut self, is_up: bool) {
        if self.is_up != is_up {
            self.is_up = is_up;
            self.news.push_back(if is_up { LinkChange::Up } else { LinkChange::Down });
        }
    }
}

/// Up, and with a carrier.
pub(super) fn carries(flags: u32) -> bool {
    let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    flags & wanted == wanted
}
