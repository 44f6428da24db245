//! Waiting for a device, the waker, and news of the interface at once.
//!
//! Owns the poll of the receive thread, shared by packet sockets and TUN/TAP, and the wait of a guest that reads in its place. Refuses to read frames.
//!
//! Who of the two is woken for a frame is the kernel's decision (`EPOLLEXCLUSIVE`, epoll_ctl(2)): the device wakes the descriptors that were added so in
//! their order, until one says that somebody waits in `epoll_wait` on it at this moment. The guest's is the first. The host polls a descriptor of its own that
//! stands behind it in that order, and so is reached only if there is no guest that waits.

use super::event::EventDescriptor;
use super::netlink::{Change, Link, Monitor, link_by_index};
use super::sys;
use crate::device::{GuestWait, HostWait, LinkChange, Received, Waits, Waker, Wanted};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait before sending again when the queue behind the device was full: nothing tells when it drains.
const CONGESTION_PAUSE: Duration = Duration::from_millis(1);

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
    loss: Arc<AtomicBool>,
    on_failure: OnFailure,
    /// Where a guest comes first.
    order: Option<Order>,
    /// Ends a wait that must not last, unless the guest has put that off.
    timer: Option<Arc<OwnedFd>>,
}

/// What an error of the device's descriptor means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// The interface went down or away, the monitor says which; reading the error clears it.
    ReadError,
    /// There is no interface any more.
    Gone,
}

/// Tells the wait, from where frames are read, that the interface is no more.
pub(super) struct LossReport {
    lost: Arc<AtomicBool>,
    waker: Arc<EventWaker>,
}

impl LossReport {
    /// The interface will not come back.
    pub(super) fn send(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Waiter {
    /// A wait that also hears of changes to the interface `link`, if it is one of ours; `watched` is an address to watch for being removed.
    pub(super) fn new(link: Option<&Link>, watched: Option<IpAddr>, on_failure: OnFailure) -> io::Result<Waiter> {
        let mut waiter = Waiter {
            waker: Arc::new(EventWaker(EventDescriptor::new()?)),
            monitor: link.map(|link| Monitor::new(link.index)).transpose()?,
            is_up: true,
            is_gone: false,
            watched,
            index: link.map_or(0, |link| link.index),
            news: VecDeque::new(),
            congestion: Arc::default(),
            loss: Arc::default(),
            on_failure,
            order: None,
            timer: None,
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

    /// For whoever reads frames.
    pub(super) fn loss_report(&self) -> LossReport {
        LossReport { lost: self.loss.clone(), waker: self.waker.clone() }
    }

    /// Shares the wait for the frames of `device` with a guest. Without descriptors enough for it, or on a kernel before 4.5, there is none, and `waiter`
    /// stays.
    pub(super) fn part(waiter: &mut Option<Waiter>, device: &Arc<OwnedFd>) -> Option<Waits> {
        let guest = Guest::new().ok()?;
        let mut order = Order::new(&guest).ok()?;
        order.restore(device).ok()?;
        let mut waiter = waiter.take()?;
        waiter.order = Some(order);
        waiter.timer = Some(guest.timer.clone());
        Some(Waits { host: Box::new(Host { waiter, device: device.clone() }), guest: Arc::new(guest) })
    }

    fn report_gone(&mut self) {
        if !self.is_gone {
            self.is_gone = true;
            self.monitor = None;
            self.news.push_back(LinkChange::Gone);
        }
    }

    /// Waits for what is `wanted` of `device`, for the waker, or for news. Says also whether there is something to read.
    pub(super) fn wait(&mut self, device: BorrowedFd<'_>, wanted: Wanted) -> io::Result<(Received, bool)> {
        let congested = wanted.writable && self.congestion.swap(false, Ordering::Relaxed);
        let behind_guest = self.order.as_mut().and_then(|order| order.behind_guest(device, wanted.unshared));
        let mut events = if wanted.frames && behind_guest.is_none() { libc::POLLIN } else { 0 };
        if wanted.writable && !congested {
            events |= libc::POLLOUT;
        }
        let has_news = (!self.news.is_empty()).then_some(Duration::ZERO);
        let (timer, at_most) = match (&self.timer, wanted.at_most) {
            (Some(timer), Some(at_most)) if !at_most.is_zero() => {
                sys::set_timer(timer, at_most)?;
                (Some(timer), None)
            }
            (_, at_most) => (None, at_most),
        };
        let timeout = [has_news, congested.then_some(CONGESTION_PAUSE), at_most].into_iter().flatten().min();
        let waker = self.waker.0.as_fd();
        let (polled, events) = if self.is_gone { (waker, 0) } else { (device, events) };
        let behind_guest = behind_guest.filter(|_| wanted.frames && !self.is_gone);
        let nothing = sys::poll_entry(waker, 0);
        let readable = |descriptor: &OwnedFd| sys::poll_entry(descriptor.as_fd(), libc::POLLIN);
        let mut entries = [
            sys::poll_entry(polled, events),
            sys::poll_entry(waker, libc::POLLIN),
            sys::poll_entry(self.monitor.as_ref().map_or(waker, Monitor::descriptor), libc::POLLIN),
            behind_guest.map_or(nothing, readable),
            timer.map_or(nothing, |timer| readable(timer)),
        ];
        sys::poll(&mut entries, timeout)?;
        let [revents, waker, monitor, frames, _] = entries.map(|entry| entry.revents);
        let woken = waker & libc::POLLIN != 0;
        if woken {
            self.waker.0.clear();
        }
        if monitor & libc::POLLIN != 0 {
            self.read_news();
        }
        if revents & (libc::POLLERR | libc::POLLHUP) != 0 {
            self.heed_failure(device);
        }
        if self.loss.swap(false, Ordering::SeqCst) {
            self.report_gone();
        }
        let writable = wanted.writable && (congested || revents & libc::POLLOUT != 0);
        Ok((Received { woken, writable, link: self.news.pop_front() }, (revents | frames) & libc::POLLIN != 0))
    }

    fn heed_failure(&mut self, device: BorrowedFd<'_>) {
        match self.on_failure {
            OnFailure::Gone => self.report_gone(),
            OnFailure::ReadError => drop(sys::get_option::<libc::c_int>(device, libc::SOL_SOCKET, libc::SO_ERROR)),
        }
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

/// What the guest's descriptor tells: there are frames; it was called.
const FRAMES: u64 = 0;
const CALL: u64 = 1;

/// The receive thread's side.
struct Host {
    waiter: Waiter,
    device: Arc<OwnedFd>,
}

impl HostWait for Host {
    fn wait(&mut self, wanted: Wanted) -> io::Result<(Received, bool)> {
        self.waiter.wait(self.device.as_fd(), wanted)
    }
}

/// The guest's side. Its events are told once each (`EPOLLET`): so nobody has to read the event descriptor, and frames that were read are not looked for again.
struct Guest {
    epoll: Arc<OwnedFd>,
    event: EventDescriptor,
    /// Ends the host's wait.
    timer: Arc<OwnedFd>,
}

impl Guest {
    fn new() -> io::Result<Guest> {
        let guest = Guest { epoll: Arc::new(sys::epoll()?), event: EventDescriptor::new()?, timer: Arc::new(sys::timer()?) };
        sys::epoll_add(&guest.epoll, &guest.event, libc::EPOLLIN | libc::EPOLLET, CALL)?;
        Ok(guest)
    }
}

/// Who is told of frames: the guest before the host. In each place that the device tells a frame costs its sender some hundred nanoseconds, so both are given up
/// while there is no guest for some time. (Measured: then 6 % more is received over a TAP, frame by frame.)
struct Order {
    guest: Arc<OwnedFd>,
    /// Shows the frames that no guest waits for.
    behind_guest: OwnedFd,
    is_kept: bool,
}

impl Order {
    fn new(guest: &Guest) -> io::Result<Order> {
        Ok(Order { guest: guest.epoll.clone(), behind_guest: sys::epoll()?, is_kept: false })
    }

    /// The host's place behind the guest, unless it has the device for itself: because that is what it wants, or because there is no memory for places.
    fn behind_guest(&mut self, device: BorrowedFd<'_>, unshared: bool) -> Option<&OwnedFd> {
        match (self.is_kept, unshared) {
            (true, true) => self.give_up(device),
            (false, false) if self.restore(device).is_err() => self.give_up(device),
            _ => {}
        }
        self.is_kept.then_some(&self.behind_guest)
    }

    /// What came meanwhile is told anew.
    fn restore(&mut self, device: impl AsFd + Copy) -> io::Result<()> {
        sys::epoll_add(&self.guest, device, libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE, FRAMES)?;
        sys::epoll_add(&self.behind_guest, device, libc::EPOLLIN | libc::EPOLLEXCLUSIVE, FRAMES)?;
        self.is_kept = true;
        Ok(())
    }

    /// A guest that waits just now hears of no frames, only of calls.
    fn give_up(&mut self, device: impl AsFd + Copy) {
        sys::epoll_remove(&self.guest, device);
        sys::epoll_remove(&self.behind_guest, device);
        self.is_kept = false;
    }
}

/// The error of a receiver whose waits were given away.
pub(super) fn parted() -> io::Error {
    io::Error::other("the waits of this receiver were given away")
}

impl GuestWait for Guest {
    fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let millis = timeout.map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        sys::epoll_wait(&self.epoll, millis).map(|mut told| told.any(|name| name == FRAMES))
    }

    fn wake(&self) {
        self.event.signal();
    }

    fn put_off(&self, at_most: Duration) {
        // Refused it ends when it would have.
        let _ = sys::set_timer(&self.timer, at_most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_the_device_for_itself_hears_of_frames_alone_and_the_guest_before_it_afterwards() {
        let device = Arc::new(sys::eventfd().unwrap());
        let mut waiter = Some(Waiter::new(None, None, OnFailure::Gone).unwrap());
        let Waits { mut host, guest } = Waiter::part(&mut waiter, &device).unwrap();
        let mut hears = |unshared| {
            let wanted = Wanted { frames: true, unshared, at_most: Some(Duration::ZERO), ..Wanted::default() };
            host.wait(wanted).unwrap() == (Received::default(), true)
        };
        let frame = || sys::write(&device, &1_u64.to_ne_bytes()).unwrap();
        let guest_hears = || guest.wait(Some(Duration::ZERO)).unwrap();
        assert!(!hears(true));
        frame();
        assert!(hears(true) && hears(true) && !guest_hears());
        assert!(hears(false) && guest_hears(), "what was not read is told anew");
        assert!(!guest_hears(), "once");
        frame();
        assert!(guest_hears());
        assert!(hears(true) && !guest_hears());
    }

    #[test]
    fn a_guest_sets_how_long_the_host_waits() {
        let device = Arc::new(sys::eventfd().unwrap());
        let mut waiter = Some(Waiter::new(None, None, OnFailure::Gone).unwrap());
        let Waits { mut host, guest } = Waiter::part(&mut waiter, &device).unwrap();
        let nothing = |at_most| Wanted { at_most: Some(at_most), ..Wanted::default() };
        for at_most in [Duration::ZERO, Duration::from_millis(1)] {
            assert_eq!(host.wait(nothing(at_most)).unwrap(), (Received::default(), false));
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| host.wait(nothing(Duration::from_secs(3_600))).unwrap());
            while !waiting.is_finished() {
                guest.put_off(Duration::ZERO);
                std::thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap(), (Received::default(), false));
        });
    }
}
