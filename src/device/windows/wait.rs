//! Waking the receive thread: for the waker, for a new filter, for news of the adapter.
//!
//! Owns one event for all of them. Where the driver has an event of its own, the thread waits for both; elsewhere it waits inside the library, and
//! is interrupted there: its timeout is not relied on, a silent link may outlast it.

use super::handle::{Handle, Interrupter};
use super::ip_helper::{self, Monitor};
use super::sys::{Event, Signal};
use crate::device::filter::Filter;
use crate::device::{LinkChange, Waker};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Ends the receive thread's wait.
pub(super) struct Bell {
    event: Event,
    interrupter: Option<Interrupter>,
    woken: AtomicBool,
}

impl Bell {
    /// For the thread that reads from `handle`.
    pub(super) fn new(handle: &Handle) -> io::Result<Bell> {
        let interrupter = handle.event().is_none().then(|| handle.interrupter());
        Ok(Bell { event: Event::new()?, interrupter, woken: AtomicBool::new(false) })
    }

    /// Ends the wait. What for, the thread has to find out.
    pub(super) fn ring(&self) {
        self.event.set();
        self.interrupter.iter().for_each(Interrupter::interrupt);
    }

    pub(super) fn signal(&self) -> Signal<'_> {
        self.event.signal()
    }

    /// Makes it silent again; says whether the waker was used. Comes before looking for whatever else it may have rung for.
    pub(super) fn take(&self) -> bool {
        self.event.signal().reset();
        self.woken.swap(false, Ordering::SeqCst)
    }
}

impl Waker for Bell {
    fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.ring();
    }
}

/// The filter that the receive thread has to install: only the thread that reads may touch the library's capture.
#[derive(Default)]
pub(super) struct FilterSlot {
    wanted: Mutex<Option<Filter>>,
    bell: OnceLock<Arc<Bell>>,
}

impl FilterSlot {
    /// Wants this filter from now on.
    pub(super) fn put(&self, filter: &Filter) {
        *self.wanted.lock() = Some(filter.clone());
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// From here on somebody listens.
    pub(super) fn connect(&self, bell: Arc<Bell>) {
        // There is one receive thread for a device.
        let _ = self.bell.set(bell);
    }

    /// The filter wanted, if it has not been taken yet.
    pub(super) fn take(&self) -> Option<Filter> {
        self.wanted.lock().take()
    }
}

/// What happens to the adapter.
pub(super) struct News {
    monitor: Monitor,
    index: u32,
    watched: Option<IpAddr>,
    is_up: bool,
    waiting: VecDeque<LinkChange>,
}

impl News {
    /// Of the adapter with this number; `watched` is an address to watch for being removed.
    pub(super) fn new(index: u32, watched: Option<IpAddr>, bell: Arc<Bell>) -> io::Result<News> {
        Ok(News { monitor: Monitor::new(bell)?, index, watched, is_up: true, waiting: VecDeque::new() })
    }

    /// The next piece of news.
    pub(super) fn next(&mut self) -> Option<LinkChange> {
        if self.monitor.has_changed() {
            self.look();
        }
        self.waiting.pop_front()
    }

    fn look(&mut self) {
        let Ok(adapters) = ip_helper::adapters() else { return };
        let Some(adapter) = adapters.iter().find(|adapter| adapter.index == self.index) else {
            return self.waiting.push_back(LinkChange::Gone);
        };
        if adapter.up != self.is_up {
            self.is_up = adapter.up;
            self.waiting.push_back(if adapter.up { LinkChange::Up } else { LinkChange::Down });
        }
        if self.watched.is_some_and(|watched| adapter.addresses.iter().all(|own| own.address != watched)) {
            self.watched = None;
            self.waiting.push_back(LinkChange::AddressLost);
        }
    }
}
