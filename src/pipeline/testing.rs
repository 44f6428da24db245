//! A device without a kernel: frames are put into it, and wake the guest if one waits, and else the host, as a real one does.

use super::clock::RealClock;
use super::credits::Credits;
use super::inbox::{Arrival, Entry, Inbox, inbox};
use super::reception::Reception;
use super::seat::{Chair, Grace, Seat};
use super::trouble::Trouble;
use super::{Health, Status};
use crate::counters::Counters;
use crate::device::{FrameReceiver, GuestWait, HostWait, Received, Stock, Waker, Wanted};
use crate::link;
use crate::packet::{Packet, Pool};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What happens to whoever reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    Error,
    /// An error as well: the interface is down.
    Down,
    Panic,
}

/// The device, and who waits for it.
#[derive(Default)]
pub(crate) struct FakeDevice {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    frames: VecDeque<Vec<u8>>,
    guest_waits: bool,
    /// A frame came while the guest waited: it alone is told.
    guest_is_told: bool,
    guest_is_called: bool,
    host_is_told: bool,
    host_is_called: bool,
    guest_wakes: u64,
    fault: Fault,
    link: Option<crate::device::LinkChange>,
    put_off: Vec<Duration>,
}

impl FakeDevice {
    /// By how much the end of the host's wait was put off, since this was asked last.
    pub(crate) fn take_put_off(&self) -> Vec<Duration> {
        std::mem::take(&mut self.inside.lock().put_off)
    }

    /// A frame comes.
    pub(crate) fn arrive(&self, frame: &[u8]) {
        let mut inside = self.inside.lock();
        inside.frames.push_back(frame.to_vec());
        // Once: who is woken does not wait any more, though it may not run yet.
        if std::mem::take(&mut inside.guest_waits) {
            inside.guest_is_told = true;
            inside.guest_wakes += 1;
        } else {
            inside.host_is_told = true;
        }
        self.changed.notify_all();
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.inside.lock().fault = fault;
    }

    /// News of the interface, which the host hears of.
    pub(crate) fn report(&self, change: crate::device::LinkChange) {
        self.inside.lock().link = Some(change);
        self.changed.notify_all();
    }

    /// Whether the receive thread has been called, once for each call.
    pub(crate) fn take_host_call(&self) -> bool {
        std::mem::take(&mut self.inside.lock().host_is_called)
    }

    /// Whether the receive thread would be woken for frames.
    pub(crate) fn host_is_told(&self) -> bool {
        self.inside.lock().host_is_told
    }

    /// How often the guest was woken for a frame.
    pub(crate) fn guest_wakes(&self) -> u64 {
        self.inside.lock().guest_wakes
    }

    /// Whether a guest waits now.
    pub(crate) fn guest_waits(&self) -> bool {
        self.inside.lock().guest_waits
    }

    #[track_caller]
    pub(crate) fn await_guest(&self) {
        self.await_that(|inside| inside.guest_waits);
    }

    #[track_caller]
    fn await_that(&self, is: impl Fn(&Inside) -> bool) {
        let mut inside = self.inside.lock();
        let result = self.changed.wait_while_for(&mut inside, |inside| !is(inside), PATIENCE);
        assert!(!result.timed_out(), "nobody waits there");
    }
}

impl Waker for FakeDevice {
    fn wake(&self) {
        self.inside.lock().host_is_called = true;
        self.changed.notify_all();
    }
}

impl GuestWait for FakeDevice {
    fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut inside = self.inside.lock();
        assert!(!inside.guest_waits, "two guests");
        // What came before is found as well, as by epoll.
        inside.guest_is_told |= !inside.frames.is_empty();
        inside.guest_waits = !inside.guest_is_told;
        self.changed.notify_all();
        let nothing = |inside: &mut Inside| !inside.guest_is_told && !inside.guest_is_called;
        let timeout = timeout.unwrap_or(2 * PATIENCE);
        self.changed.wait_while_for(&mut inside, nothing, timeout);
        inside.guest_waits = false;
        inside.guest_is_called = false;
        Ok(std::mem::take(&mut inside.guest_is_told))
    }

    fn wake(&self) {
        self.inside.lock().guest_is_called = true;
        self.changed.notify_all();
    }

    fn put_off(&self, at_most: Duration) {
        self.inside.lock().put_off.push(at_most);
    }
}

/// The receive thread's wait.
pub(crate) struct FakeHost(pub(crate) Arc<FakeDevice>);

impl HostWait for FakeHost {
    fn wait(&mut self, wanted: Wanted) -> io::Result<(Received, bool)> {
        let mut inside = self.0.inside.lock();
        // A frame that the guest was told of is none that the host sees.
        let is_told = |inside: &Inside| wanted.frames && inside.host_is_told && !inside.frames.is_empty();
        let nothing = |inside: &mut Inside| !is_told(inside) && !inside.host_is_called && inside.link.is_none();
        match wanted.at_most {
            Some(at_most) => drop(self.0.changed.wait_while_for(&mut inside, nothing, at_most)),
            None => self.0.changed.wait_while(&mut inside, nothing),
        }
        let readable = is_told(&inside);
        inside.host_is_told &= !inside.frames.is_empty();
        let received = Received { woken: std::mem::take(&mut inside.host_is_called), writable: false, link: inside.link.take() };
        Ok((received, readable))
    }
}

/// What is read from.
struct FakeReceiver(Arc<FakeDevice>);

impl FrameReceiver for FakeReceiver {
    fn receive(&mut self, _pool: &Pool, _limit: usize, _writable: bool, _batch: &mut Vec<Packet>) -> io::Result<Received> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let mut inside = self.0.inside.lock();
        match inside.fault {
            Fault::None => {}
            Fault::Error => return Err(io::ErrorKind::PermissionDenied.into()),
            Fault::Down => return Err(io::ErrorKind::NetworkDown.into()),
            Fault::Panic => panic!("as told"),
        }
        let count = limit.min(inside.frames.len());
        batch.extend(inside.frames.drain(..count).map(|frame| Packet::from_bytes(pool, &frame)));
        Ok(if count < limit { Stock::Empty } else { Stock::Unknown })
    }
}

/// A stack of which there is no more than its reception and its seat: what is received stays in the link layer's inbox.
pub(crate) struct FakeStack {
    pub(crate) device: Arc<FakeDevice>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) reception: Arc<Mutex<Reception>>,
    pub(crate) link: Entry<link::Message>,
    pub(crate) inbox: Inbox<link::Message>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: Arc<Health>,
    pub(crate) trouble: Arc<Trouble>,
}

impl FakeStack {
    /// With credit for so many packets.
    pub(crate) fn new(credit: usize) -> FakeStack {
        let (device, seat, counters, health) = (Arc::<FakeDevice>::default(), Arc::<Seat>::default(), Arc::default(), Arc::default());
        let (link, inbox) = inbox(credit, 8);
        let (transport, _) = super::inbox::inbox(0, 0);
        let trouble = Trouble::new(Arc::clone(&health), transport);
        let receiver = Box::new(FakeReceiver(device.clone()));
        let credits = Credits::new(credit, 1 << 30, device.clone());
        let reception = Reception::new(receiver, Pool::default(), credits, link.clone(), RealClock::start(), Arc::clone(&counters), 32);
        let reception = Arc::new(Mutex::new(reception));
        let chair = Chair {
            grace: Grace::default(),
            reception: reception.clone(),
            link: link.clone(),
            waker: device.clone(),
            quota: 64,
            counters: Arc::clone(&counters),
            trouble: trouble.clone(),
        };
        seat.furnish(device.clone(), chair);
        FakeStack { device, seat, reception, link, inbox, counters, health, trouble }
    }

    /// The frames received since the last call, in the order of their numbers.
    pub(crate) fn received(&self) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| self.next_frame()).map(|packet| (packet.number, packet.to_vec())).collect()
    }

    /// The number of the next one.
    pub(crate) fn received_one(&self) -> Option<u64> {
        self.next_frame().map(|packet| packet.number)
    }

    fn next_frame(&self) -> Option<Packet> {
        match self.inbox.look() {
            Arrival::Message(link::Message::Frame(packet)) => Some(packet),
            _ => None,
        }
    }

    pub(crate) fn receptions(&self) -> u64 {
        self.counters.pipeline.receptions_by_programs.get()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.health.status() == Status::Failed
    }
}

/// Waits for what others do.
#[track_caller]
pub(crate) fn await_that(is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::yield_now();
    }
}
