//! Npcap: the frames of an adapter, beside the system's own stack.
//!
//! Owns both halves of the device, each with a capture of its own: the library's captures are made for one thread at a time. Refuses protocols: what is
//! ours is decided by a [`Filter`]. Read `handle` and `wait` first.
//!
//! There is no offload: super-segments are cut before they are sent, and runs of received segments are merged. A capture also sees what this host sends, ourselves
//! included, so frames from our own MAC address are filtered out.

use super::adapters::Adapter;
use super::handle::{Handle, Next, Purpose};
use super::pcap_records::SendRecords;
use super::wait::{Bell, FilterSlot, News};
use super::{host, ip_helper, sys};
use crate::device::filter::Filter;
use crate::device::interface::with_mac;
use crate::device::segmentation::Preparer;
use crate::device::{
    Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Losses, Medium, OpenDevice, Received, Sent, merge,
};
use crate::packet::{Packet, Pool};
use crate::wire::MacAddress;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Frames given to the driver by one call.
const BATCH: usize = 64;
/// The driver counts what it drops; we ask at least this often.
const STATISTICS_EVERY: u32 = 64;
/// `DLT_EN10MB` and `DLT_RAW`.
const ETHERNET: i32 = 1;
const BARE_IP: i32 = 12;

/// An adapter that has not been started.
pub struct NpcapDevice {
    adapter: Adapter,
    medium: Medium,
    watched: Option<IpAddr>,
    filter: Arc<FilterSlot>,
}

impl NpcapDevice {
    /// The adapter that the user calls so (`Ethernet`), or with this GUID, and its own MAC address. Receives nothing before it is started. Fails with
    /// one line that says what to do: no such adapter, no Npcap.
    pub fn open(interface: &str) -> io::Result<NpcapDevice> {
        let adapter = host::adapter(interface)?;
        let medium = host::medium_of(&adapter)?;
        super::library::library()?;
        let filter = FilterSlot::default();
        filter.put(&Filter::accept_all());
        Ok(NpcapDevice { adapter, medium, watched: None, filter: Arc::new(filter) })
    }

    /// There is none to switch.
    pub fn offload(self, _on: bool) -> NpcapDevice {
        self
    }

    /// Sends from and receives on `mac`: an address of our own, beside the adapter's. With the adapter's own MAC address this fails where the
    /// system forwards: it would route our packets as well.
    pub fn mac(mut self, mac: MacAddress) -> io::Result<NpcapDevice> {
        let name = &self.adapter.name;
        let forwarder = || ip_helper::is_forwarding(self.adapter.index).then(|| format!("{name} forwards packets"));
        self.medium = with_mac(name, self.medium, self.adapter.mac, mac, forwarder)?;
        self.filter(&Filter::for_station(mac))
    }

    /// Takes only what the filter accepts.
    pub fn filter(self, filter: &Filter) -> io::Result<NpcapDevice> {
        self.filter.put(filter);
        Ok(self)
    }

    /// Reports when the host loses this address ([`LinkChange::AddressLost`](crate::device::LinkChange::AddressLost)).
    pub fn watch_address(mut self, address: IpAddr) -> NpcapDevice {
        self.watched = Some(address);
        self
    }

    /// Changes the filter at any time, also after the device was started.
    pub fn filter_handle(&self) -> FilterHandle {
        FilterHandle(self.filter.clone())
    }

    /// An own MAC address needs the adapter to take everything.
    fn hears_everything(&self) -> bool {
        matches!(self.medium, Medium::Ethernet(mac) if self.adapter.mac != Some(mac))
    }

    fn open_handle(&self, purpose: Purpose) -> io::Result<Handle> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.adapter.name));
        let handle = Handle::open(&self.adapter.device(), purpose).map_err(named)?;
        match (handle.link_type(), self.medium) {
            (ETHERNET, Medium::Ethernet(_)) | (BARE_IP, Medium::Ip) => Ok(handle),
            (other, _) => {
                let text = format!("{}: Npcap gives frames of type {other} here, neither Ethernet nor bare IP", self.adapter.name);
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }
}

impl Device for NpcapDevice {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties { name: self.adapter.name.clone(), medium: self.medium, mtu: self.adapter.mtu, offload: DeviceOffload::default() }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        let mut sending = self.open_handle(Purpose::Send)?;
        sending.set_filter(&Filter::drop_all())?;
        let mut handle = self.open_handle(Purpose::Receive { everything: self.hears_everything() })?;
        handle.set_blocking(false)?;
        let bell = Arc::new(Bell::new(&handle)?);
        self.filter.connect(bell.clone());
        let mut receiver = NpcapReceiver {
            handle,
            medium: self.medium,
            news: News::new(self.adapter.index, self.watched, bell.clone())?,
            bell: bell.clone(),
            filter: self.filter,
            first: None,
            drops: 0,
            truncated: 0,
            calls_since_statistics: 0,
        };
        receiver.install_filter()?;
        let sender = NpcapSender { handle: sending, records: SendRecords::default(), preparer: Preparer::new(self.medium) };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker: bell })
    }
}

/// Replaces the filter of an adapter, from any thread.
#[derive(Clone)]
pub struct FilterHandle(Arc<FilterSlot>);

impl FilterHandle {
    /// Soon only what `filter` accepts is received: the receive thread installs it.
    pub fn set(&self, filter: &Filter) -> io::Result<()> {
        self.0.put(filter);
        Ok(())
    }
}

struct NpcapReceiver {
    handle: Handle,
    medium: Medium,
    bell: Arc<Bell>,
    news: News,
    filter: Arc<FilterSlot>,
    /// A frame that ended a wait inside the library.
    first: Option<Packet>,
    drops: u32,
    truncated: u64,
    calls_since_statistics: u32,
}

impl FrameReceiver for NpcapReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        loop {
            let woken = self.bell.take();
            self.install_filter()?;
            // The driver has room whenever it is asked.
            let received = Received { woken, writable: want_writable, link: self.news.next() };
            let first = batch.len();
            self.read(pool, limit, batch)?;
            merge::merge(batch, first, self.medium, pool);
            if batch.len() > first || received != Received::default() {
                return Ok(received);
            }
            self.wait(pool, limit > 0)?;
        }
    }

    fn losses(&mut self) -> Losses {
        let truncated = std::mem::take(&mut self.truncated);
        self.calls_since_statistics += 1;
        if self.calls_since_statistics < STATISTICS_EVERY {
            return Losses { kernel_drops: 0, truncated };
        }
        self.calls_since_statistics = 0;
        let drops = self.handle.dropped();
        let before = std::mem::replace(&mut self.drops, drops);
        Losses { kernel_drops: drops.saturating_sub(before).into(), truncated }
    }
}

impl NpcapReceiver {
    fn install_filter(&mut self) -> io::Result<()> {
        let Some(filter) = self.filter.take() else { return Ok(()) };
        match self.medium {
            Medium::Ethernet(mac) => self.handle.set_filter(&filter.without_frames_from(mac)),
            Medium::Ip => self.handle.set_filter(&filter),
        }
    }

    /// What is there, at most `limit` frames, without waiting.
    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<()> {
        let room = batch.len() + limit;
        if batch.len() < room {
            batch.extend(self.first.take());
        }
        // Taken back before reading, so that a frame which comes meanwhile signals it again.
        self.handle.event().into_iter().for_each(sys::Signal::reset);
        while batch.len() < room {
            match self.handle.next()? {
                Next::Frame(frame, false) => batch.push(Packet::new(pool.copy_from(0, frame))),
                Next::Frame(_, true) => self.truncated += 1,
                Next::Nothing | Next::Interrupted => break,
            }
        }
        Ok(())
    }

    fn wait(&mut self, pool: &Pool, want_frames: bool) -> io::Result<()> {
        match self.handle.event() {
            _ if !want_frames => sys::wait_for_any(&[self.bell.signal()], false).map(drop),
            Some(event) => sys::wait_for_any(&[self.bell.signal(), event], false).map(drop),
            None => self.wait_in_library(pool),
        }
    }

    /// Until a frame comes or the bell rings: it interrupts the library, also when it does so before the call.
    fn wait_in_library(&mut self, pool: &Pool) -> io::Result<()> {
        if sys::wait_for_any(&[self.bell.signal()], true)?.is_some() {
            return Ok(());
        }
        self.handle.set_blocking(true)?;
        match self.handle.next()? {
            Next::Frame(frame, false) => self.first = Some(Packet::new(pool.copy_from(0, frame))),
            Next::Frame(_, true) => self.truncated += 1,
            Next::Nothing | Next::Interrupted => {}
        }
        self.handle.set_blocking(false)
    }
}

struct NpcapSender {
    handle: Handle,
    records: SendRecords,
    preparer: Preparer,
}

impl FrameSender for NpcapSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            sent.refused += self.preparer.prepare_front(frames, BATCH, &DeviceOffload::default());
            if frames.is_empty() {
                return Ok(sent);
            }
            self.records.clear();
            for frame in frames.iter().take(BATCH) {
                self.records.push(frame.slices().iter().map(|slice| &**slice));
            }
            match self.handle.send(&self.records) {
                Ok(count) => sent.take_front(frames, count),
                Err(_) => sent.refuse_front(frames),
            }
        }
    }
}
