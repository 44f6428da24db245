//! Waiting for a device, the waker, and news of the interface at once.
//!
//! Owns the poll of the receive thread, shared by packet sockets and TUN/TAP. Refuses to read frames.

use super::event::EventDescriptor;
use super::netlink::{Change, Link, Monitor, link_by_index};
use super::sys;
use crate::device::{LinkChange, Received, Waker};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long to wait before sending again when the queue behind the device was full: nothing tells when it drains.
const CONGESTION_PAUSE_MILLIS: i32 = 1;

/// Wakes by an eventfd.
pub(super) struct EventWaker(EventDescriptor);

impl Waker for EventWaker {
    fn wake(&self) {
        self.0.signal();
    }
}

/// The receive thread's wait.
pub(super) struct Waiter {
    waker: Arc<EventWaker>,
    monitor: Option<Monitor>,
    /// Whether the interface carried frames when we last heard of it.
    is_up: bool,
    /// Whether it is gone: its descriptor, which would report errors for ever, is not polled any more.
    is_gone: bool,
    /// The address that we share with the host.
    watched: Option<IpAddr>,
    index: u32,
    news: VecDeque<LinkChange>,
    congestion: Arc<AtomicBool>,
}

/// What ended a wait.
pub(super) struct Outcome {
    pub(super) received: Received,
    /// There is something to read.
    pub(super) readable: bool,
    /// The device reports an error.
    pub(super) failed: bool,
}

impl Waiter {
    /// A wait that also hears of changes to the interface `link`, if it is one of ours; `watched` is an address to watch for being removed.
    pub(super) fn new(link: Option<&Link>, watched: Option<IpAddr>) -> io::Result<Waiter> {
        let mut waiter = Waiter {
            waker: Arc::new(EventWaker(EventDescriptor::new()?)),
            monitor: link.map(|link| Monitor::new(link.index)).transpose()?,
            is_up: true,
            is_gone: false,
            watched,
            index: link.map_or(0, |link| link.index),
            news: VecDeque::new(),
            congestion: Arc::default(),
        };
        // What happened before the monitor listened.
        waiter.look_again();
        Ok(waiter)
    }

    pub(super) fn waker(&self) -> Arc<EventWaker> {
        self.waker.clone()
    }

    /// Set by the sender when the queue behind the device was full, which polling for room does not show.
    pub(super) fn congestion(&self) -> Arc<AtomicBool> {
        self.congestion.clone()
    }

    /// The interface will not come back.
    pub(super) fn report_gone(&mut self) {
        if !self.is_gone {
            self.is_gone = true;
            self.monitor = None;
            self.news.push_back(LinkChange::Gone);
        }
    }

    /// Waits for `device` to have something to read (if `want_readable`) or room (if `want_writable`), for the waker, or for news; does not wait
    /// at all if `is_ready`.
    pub(super) fn wait(&mut self, device: BorrowedFd<'_>, want_readable: bool, want_writable: bool, is_ready: bool) -> io::Result<Outcome> {
        let congested = want_writable && self.congestion.swap(false, Ordering::Relaxed);
        let mut events = if want_readable { libc::POLLIN } else { 0 };
        if want_writable && !congested {
            events |= libc::POLLOUT;
        }
        let timeout = match () {
            () if is_ready || !self.news.is_empty() => 0,
            () if congested => CONGESTION_PAUSE_MILLIS,
            () => -1,
        };
        let waker = self.waker.0.as_fd();
        let (device, events) = if self.is_gone { (waker, 0) } else { (device, events) };
        let mut entries = [
            sys::poll_entry(device, events),
            sys::poll_entry(waker, libc::POLLIN),
            sys::poll_entry(self.monitor.as_ref().map_or(waker, Monitor::descriptor), libc::POLLIN),
        ];
        sys::poll(&mut entries, timeout)?;
        let [device, waker, monitor] = entries.map(|entry| entry.revents);
        let woken = waker & libc::POLLIN != 0;
        if woken {
            self.waker.0.clear();
        }
        if monitor & libc::POLLIN != 0 {
            self.read_news();
        }
        let writable = want_writable && (congested || device & libc::POLLOUT != 0);
        let received = Received { woken, writable, link: self.news.pop_front() };
        Ok(Outcome { received, readable: device & libc::POLLIN != 0, failed: device & (libc::POLLERR | libc::POLLHUP) != 0 })
    }

    fn read_news(&mut self) {
        let changes = self.monitor.as_mut().map(Monitor::read).and_then(Result::ok).unwrap_or_default();
        for change in changes {
            match change {
                Change::Link(link) => self.note_state(link.carries()),
                Change::Gone => self.report_gone(),
                Change::AddressLost(address) if Some(address) == self.watched => self.news.push_back(LinkChange::AddressLost),
                Change::AddressLost(_) => {}
                Change::Overrun => self.look_again(),
            }
        }
    }

    fn look_again(&mut self) {
        if self.monitor.is_none() {
            return;
        }
        match link_by_index(self.index) {
            Ok(link) => self.note_state(link.carries()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => self.report_gone(),
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
