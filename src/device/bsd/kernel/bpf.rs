//! `/dev/bpf`: the frames of an interface, beside the kernel's own stack (bpf(4)).
//!
//! Owns the descriptor, its options, and both halves of the device. Refuses protocols: what is ours is decided by a [`Filter`]. A read brings a buffer
//! full of frames at once ([`crate::device::bsd::records`]); a write sends one. There is no offload: frames are cut and summed, and received runs merged, in software.

use super::host::{interface_by_name, is_forwarding};
use super::platform::{BIOCSETF, BIOCSETFNR, BIOCSSEESENT, RECORDS};
use super::sending::DescriptorSender;
use super::sys;
use super::wait::Waiter;
use crate::device::bsd::framing::Framing;
use crate::device::bsd::records::RecordReader;
use crate::device::filter::Filter;
use crate::device::host::HostInterface;
use crate::device::interface::with_mac;
use crate::device::{Device, DeviceOffload, DeviceProperties, FrameReceiver, Losses, Medium, OpenDevice, Received, Wanted, merge};
use crate::packet::{Packet, Pool};
use crate::wire::MacAddress;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the kernel's buffer that we ask for; it gives what its own limit lets it (`debug.bpf_maxbufsize`, `net.bpf.maxbufsize`: 512 KiB).
const BUFFER_BYTES: u32 = 4 << 20;
/// Numbers tried where the system does not clone `/dev/bpf`.
const MOST_DEVICES: u32 = 256;

// Link types (pcap-linktype(7)).
const NULL: u32 = 0;
const EN10MB: u32 = 1;
const RAW: u32 = 12;
const LOOP: u32 = 108;

/// An interface's frames, not yet started.
pub struct InterfaceDevice {
    bpf: Arc<OwnedFd>,
    interface: HostInterface,
    medium: Medium,
    framing: Framing,
    buffer_bytes: usize,
    has_filter: bool,
    watched: Option<IpAddr>,
}

impl InterfaceDevice {
    /// The named interface, under its own MAC address. Receives nothing before it is started. Fails with one line that says what to do: no such
    /// interface, no privilege, a kind of link that is neither Ethernet nor bare IP.
    pub fn open(interface: &str) -> io::Result<InterfaceDevice> {
        let interface = interface_by_name(interface)?;
        let bpf = Arc::new(OwnedFd::from(open_free()?));
        sys::ioctl(&bpf, libc::BIOCSBLEN, &mut { BUFFER_BYTES })?;
        sys::set_filter(&bpf, BIOCSETF, Filter::drop_all().instructions())?;
        sys::ioctl(&bpf, libc::BIOCSETIF, &mut name_request(&interface.name)).map_err(|error| attach_error(&interface.name, error))?;
        let (medium, framing) = link_type(&bpf, &interface)?;
        let mut buffer_bytes = 0_u32;
        sys::ioctl(&bpf, libc::BIOCGBLEN, &mut buffer_bytes)?;
        Ok(InterfaceDevice { bpf, interface, medium, framing, buffer_bytes: buffer_bytes as usize, has_filter: false, watched: None })
    }

    /// There is no offload here to switch.
    pub fn offload(self, _on: bool) -> InterfaceDevice {
        self
    }

    /// Sends from and receives on `mac`: an address of our own, beside the interface's, which has to take every frame for that (promiscuous; Wi-Fi does
    /// not). With the interface's own MAC address this fails where the host forwards.
    pub fn mac(mut self, mac: MacAddress) -> io::Result<InterfaceDevice> {
        let forwarder = || is_forwarding().then(|| "this host forwards packets (net.inet.ip.forwarding=1)".to_owned());
        self.medium = with_mac(&self.interface.name, self.medium, self.interface.mac, mac, forwarder)?;
        self.filter(&Filter::for_station(mac))
    }

    /// Takes only what the filter accepts.
    pub fn filter(mut self, filter: &Filter) -> io::Result<InterfaceDevice> {
        sys::set_filter(&self.bpf, BIOCSETF, filter.instructions())?;
        self.has_filter = true;
        Ok(self)
    }

    /// Reports when the host loses this address ([`LinkChange::AddressLost`](crate::device::LinkChange::AddressLost)).
    pub fn watch_address(mut self, address: IpAddr) -> InterfaceDevice {
        self.watched = Some(address);
        self
    }

    /// Changes the filter at any time, also after the device was started.
    pub fn filter_handle(&self) -> FilterHandle {
        FilterHandle(self.bpf.clone())
    }

    /// At once (not only when the buffer is full), with our own source address, without what the host or we send.
    fn configure(&self) -> io::Result<()> {
        for (request, mut value) in [(libc::BIOCIMMEDIATE, 1_u32), (libc::BIOCSHDRCMPLT, 1), (BIOCSSEESENT, 0)] {
            sys::ioctl(&self.bpf, request, &mut value)?;
        }
        if matches!(self.medium, Medium::Ethernet(mac) if self.interface.mac != Some(mac)) {
            sys::ioctl(&self.bpf, libc::BIOCPROMISC.into(), &mut ())?;
        }
        if !self.has_filter {
            sys::set_filter(&self.bpf, BIOCSETF, Filter::accept_all().instructions())?;
        }
        Ok(())
    }
}

impl Device for InterfaceDevice {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties {
            name: self.interface.name.clone(),
            medium: self.medium,
            mtu: self.interface.mtu,
            offload: DeviceOffload::default(),
        }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        self.configure()?;
        let waiter = Waiter::new(self.bpf.clone(), self.interface.index, self.watched)?;
        let waker = waiter.waker();
        let sender = DescriptorSender::new(self.bpf.clone(), self.medium, self.framing);
        let receiver = BpfReceiver {
            bpf: self.bpf,
            medium: self.medium,
            framing: self.framing,
            waiter,
            buffer: vec![0; self.buffer_bytes].into_boxed_slice(),
            records: RecordReader::empty(RECORDS),
            truncated: 0,
            dropped: 0,
        };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker })
    }
}

/// Replaces the filter of a device, from any thread.
#[derive(Clone)]
pub struct FilterHandle(Arc<OwnedFd>);

impl FilterHandle {
    /// From now on only what `filter` accepts is received.
    pub fn set(&self, filter: &Filter) -> io::Result<()> {
        sys::set_filter(&self.0, BIOCSETFNR, filter.instructions())
    }
}

/// `/dev/bpf`, where opening it makes a new one, else the first free of the numbered ones.
fn open_free() -> io::Result<File> {
    let open = |path: &str| OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut last = open("/dev/bpf");
    let mut number = 0;
    while number < MOST_DEVICES && last.as_ref().is_err_and(|error| goes_on(error, number)) {
        last = open(&format!("/dev/bpf{number}"));
        number += 1;
    }
    last.map_err(open_error)
}

/// The numbered ones follow the first, which may be missing; of them a missing one is the last.
fn goes_on(error: &io::Error, number: u32) -> bool {
    match error.raw_os_error() {
        Some(libc::EBUSY) => true,
        Some(libc::ENOENT) => number == 0,
        _ => false,
    }
}

fn open_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let text = "no permission for raw frames: run as root, or give your user access to /dev/bpf* (chmod, devfs.rules, ChmodBPF)";
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        Some(libc::EBUSY | libc::ENOENT) => io::Error::new(error.kind(), "no free /dev/bpf: other programs have them all"),
        _ => io::Error::new(error.kind(), format!("/dev/bpf: {error}")),
    }
}

/// `struct ifreq` with a name.
fn name_request(name: &str) -> [u8; 32] {
    let mut request = [0; 32];
    request.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)).for_each(|(to, from)| *to = from);
    request
}

fn attach_error(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENETDOWN) => io::Error::new(error.kind(), format!("{name} is down (ifconfig {name} up)")),
        _ => io::Error::new(error.kind(), format!("{name}: {error}")),
    }
}

fn link_type(bpf: &OwnedFd, interface: &HostInterface) -> io::Result<(Medium, Framing)> {
    let mut kind = 0_u32;
    sys::ioctl(bpf, libc::BIOCGDLT, &mut kind)?;
    match kind {
        EN10MB => Ok((Medium::Ethernet(interface.mac.unwrap_or(MacAddress::ZERO)), Framing::None)),
        NULL => Ok((Medium::Ip, Framing::FamilyInHostOrder)),
        LOOP => Ok((Medium::Ip, Framing::FamilyInNetworkOrder)),
        RAW => Ok((Medium::Ip, Framing::None)),
        other => {
            let text = format!("{} is neither Ethernet nor bare IP (link type {other})", interface.name);
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

struct BpfReceiver {
    bpf: Arc<OwnedFd>,
    medium: Medium,
    framing: Framing,
    waiter: Waiter,
    /// As large as the kernel's: it refuses any other.
    buffer: Box<[u8]>,
    /// What of it was not delivered yet.
    records: RecordReader,
    truncated: u64,
    /// The kernel's count of drops, at the last look.
    dropped: u32,
}

impl FrameReceiver for BpfReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let has_left_over = limit > 0 && !self.records.is_empty();
        let at_most = has_left_over.then_some(Duration::ZERO);
        let outcome = self.waiter.wait(Wanted { frames: limit > 0, writable: want_writable, at_most, ..Wanted::default() })?;
        let first = batch.len();
        self.deliver(pool, first + limit, batch);
        if outcome.readable && batch.len() < first + limit && self.fill()? {
            self.deliver(pool, first + limit, batch);
        }
        merge::merge(batch, first, self.medium, pool);
        Ok(outcome.received)
    }

    fn losses(&mut self) -> Losses {
        // `bpf_stat`: received and dropped, since the device was opened.
        let mut counts = [0_u32; 2];
        let dropped = sys::ioctl(&self.bpf, libc::BIOCGSTATS, &mut counts).map_or(self.dropped, |()| counts[1]);
        let kernel_drops = dropped.wrapping_sub(self.dropped).into();
        self.dropped = dropped;
        Losses { kernel_drops, truncated: std::mem::take(&mut self.truncated) }
    }
}

impl BpfReceiver {
    /// Takes frames out of the buffer until the batch is full.
    fn deliver(&mut self, pool: &Pool, room: usize, batch: &mut Vec<Packet>) {
        while batch.len() < room
            && let Some(record) = self.records.next(&self.buffer)
        {
            if record.is_truncated() {
                self.truncated += 1;
            } else if let Some(packet) = self.buffer.get(record.bytes).and_then(|frame| self.framing.strip(frame)) {
                batch.push(Packet::from_bytes(pool, packet));
            }
        }
    }

    /// Reads what the kernel has; says whether that was anything.
    fn fill(&mut self) -> io::Result<bool> {
        match sys::read(&self.bpf, &mut self.buffer) {
            Ok(length) => self.records = RecordReader::new(RECORDS, length),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => return Ok(false),
                // The interface was detached.
                Some(libc::ENXIO | libc::EIO) => {
                    self.waiter.report_gone();
                    return Ok(false);
                }
                _ => return Err(error),
            },
        }
        Ok(true)
    }
}
