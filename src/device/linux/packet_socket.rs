//! AF_PACKET: the frames of an interface, beside the kernel's own stack.
//!
//! Owns the socket, its options, and both halves of the device. Refuses protocols: what is ours is decided by a [`Filter`]. Read packet(7) first.
//!
//! With `PACKET_VNET_HDR` each frame has a virtio-net header in front, and super-segments pass whole in both directions; without it (switched
//! off, or unknown to the kernel) super-segments are cut and merged here. Received runs of segments are merged in either case: the driver may not do it.
//!
//! Interfaces without a link header (TUN, WireGuard, PPP: `ARPHRD_NONE` and the like) carry bare IP packets. `SOCK_RAW` serves them as well, since
//! they have nothing in front of the packet (and `PACKET_VNET_HDR` wants it); only the protocol has to be said with each packet sent.
//!
//! `PACKET_QDISC_BYPASS` is left off: the host's queueing disciplines keep us fair to others, and tell us when there is no room.

use super::host;
use super::netlink::{Link, link_by_name};
use super::receive_buffer::ReceiveBuffer;
use super::sending::{Verdict, batch, headers, judge};
use super::sys::{self, Incoming, MESSAGES};
use super::wait::{OnFailure, Waiter, parted};
use crate::device::filter::Filter;
use crate::device::frame::layout;
use crate::device::interface::with_mac;
use crate::device::segmentation::{Preparer, cut};
use crate::device::{
    Device, DeviceOffload, DeviceProperties, FrameReceiver, FrameSender, Losses, Medium, OpenDevice, Received, Sent, Stock, Waits, Wanted,
    merge, virtio,
};
use crate::packet::{ChecksumState, Packet, Pool, SegmentationKind};
use crate::wire::{EtherType, EthernetHeader, MacAddress, Protocol, TcpHeader, UdpHeader, VlanTag};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of the kernel's buffers for us, each way: the usual 208 KB are three super-frames.
const SOCKET_BUFFER_BYTES: libc::c_int = 16 << 20;
/// Room in front of a received frame for the 802.1Q tag that the kernel took out.
const TAG_ROOM: usize = 4;
/// Frames that a call is prepared for when few come: one, and the next to tell that there are no more.
const FEW: usize = 2;
/// The kernel counts what it drops; we ask at least this often, and whenever a batch was full.
const STATISTICS_EVERY: u32 = 64;

/// A packet socket that has not been started.
pub struct PacketSocket {
    socket: Arc<OwnedFd>,
    link: Link,
    medium: Medium,
    has_header: bool,
    watched: Option<IpAddr>,
}

impl PacketSocket {
    /// A socket for the named interface, with offload where the kernel has it, and the interface's own MAC address. Receives nothing before it
    /// is started. Fails with one line that says what to do: no such interface, no privilege.
    pub fn open(interface: &str) -> io::Result<PacketSocket> {
        let link = link_by_name(interface).map_err(|error| host::interface_error(interface, error))?;
        let medium = host::medium_of(&link)?;
        let socket = Arc::new(sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(privilege_error)?);
        let device = PacketSocket { socket, link, medium, has_header: false, watched: None };
        Ok(device.offload(true))
    }

    /// Switches super-segments and checksum offload on or off. A kernel that cannot do it leaves it off, and says nothing.
    pub fn offload(mut self, on: bool) -> PacketSocket {
        let done = sys::set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, libc::c_int::from(on));
        self.has_header = on && done.is_ok();
        self
    }

    /// Sends from and receives on `mac`: an address of our own, beside the interface's. With the interface's own MAC address this fails where the
    /// interface forwards: the host would route our packets as well (RFC 1812 §5.2.7 redirects, then unreachables).
    pub fn mac(mut self, mac: MacAddress) -> io::Result<PacketSocket> {
        let name = &self.link.name;
        let forwarder = || host::is_forwarding(name).then(|| format!("{name} forwards packets (ip_forward=1)"));
        self.medium = with_mac(name, self.medium, self.link.mac, mac, forwarder)?;
        self.filter(&Filter::for_station(mac))
    }

    /// Takes only what the filter accepts.
    pub fn filter(self, filter: &Filter) -> io::Result<PacketSocket> {
        sys::attach_filter(&self.socket, filter.instructions())?;
        Ok(self)
    }

    /// Reports when the host loses this address ([`LinkChange::AddressLost`](crate::device::LinkChange::AddressLost)).
    pub fn watch_address(mut self, address: IpAddr) -> PacketSocket {
        self.watched = Some(address);
        self
    }

    /// Changes the filter of this socket at any time, also after it was started.
    pub fn filter_handle(&self) -> FilterHandle {
        FilterHandle(self.socket.clone())
    }

    fn configure(&self) -> io::Result<()> {
        sys::set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        sys::set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            sys::set_option(&self.socket, libc::SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
                .or_else(|_| sys::set_option(&self.socket, libc::SOL_SOCKET, plain, SOCKET_BUFFER_BYTES))?;
        }
        self.listen_on_mac()?;
        sys::bind(&self.socket, link_address(libc::ETH_P_ALL as u16, self.link.index))
    }

    /// Has the interface take frames for our MAC address; a driver without a filter for it has to take everything.
    fn listen_on_mac(&self) -> io::Result<()> {
        let Medium::Ethernet(mac) = self.medium else { return Ok(()) };
        if self.link.mac == Some(mac) {
            return Ok(());
        }
        let mut request: libc::packet_mreq = sys::zero();
        request.mr_ifindex = self.link.index as libc::c_int;
        request.mr_type = libc::PACKET_MR_UNICAST as libc::c_ushort;
        request.mr_alen = 6;
        request.mr_address.iter_mut().zip(mac.octets()).for_each(|(to, from)| *to = from);
        let promiscuous = libc::packet_mreq { mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort, ..request };
        let join = |request| sys::set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request);
        join(request).or_else(|_| join(promiscuous))
    }
}

impl Device for PacketSocket {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties { name: self.link.name.clone(), medium: self.medium, mtu: self.link.mtu, offload: offload(self.has_header) }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        self.configure()?;
        let waiter = Waiter::new(Some(&self.link), self.watched, OnFailure::ReadError)?;
        let waker = waiter.waker();
        let sender = PacketSender {
            socket: self.socket.clone(),
            medium: self.medium,
            has_header: self.has_header,
            offload: offload(self.has_header),
            preparer: Preparer::new(self.medium),
            congestion: waiter.congestion(),
            addresses: [libc::ETH_P_IP, libc::ETH_P_IPV6].map(|protocol| link_address(protocol as u16, self.link.index)),
        };
        let receiver = PacketReceiver {
            socket: self.socket,
            medium: self.medium,
            has_header: self.has_header,
            waiter: Some(waiter),
            buffers: Vec::new(),
            incoming: Box::new([Incoming::EMPTY; MESSAGES]),
            expected: FEW,
            left_over: VecDeque::new(),
            truncated: 0,
            calls_since_statistics: STATISTICS_EVERY,
        };
        Ok(OpenDevice { receiver: Box::new(receiver), sender: Box::new(sender), waker })
    }
}

/// Replaces the filter of a packet socket, from any thread.
#[derive(Clone)]
pub struct FilterHandle(Arc<OwnedFd>);

impl FilterHandle {
    /// From now on only what `filter` accepts is received.
    pub fn set(&self, filter: &Filter) -> io::Result<()> {
        sys::attach_filter(&self.0, filter.instructions())
    }
}

fn offload(on: bool) -> DeviceOffload {
    DeviceOffload { checksum: on, tcp_segmentation_ipv4: on, tcp_segmentation_ipv6: on, udp_segmentation: on }
}

fn link_address(protocol: u16, index: u32) -> libc::sockaddr_ll {
    let mut address: libc::sockaddr_ll = sys::zero();
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index as i32;
    address
}

fn privilege_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let text = "no permission for raw frames: run as root or give the program CAP_NET_RAW (setcap cap_net_raw+ep PROGRAM)";
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        _ => error,
    }
}

struct PacketReceiver {
    socket: Arc<OwnedFd>,
    medium: Medium,
    has_header: bool,
    /// Until it is parted.
    waiter: Option<Waiter>,
    /// Slots that the next batch is received into.
    buffers: Vec<ReceiveBuffer>,
    incoming: Box<[Incoming; MESSAGES]>,
    /// Frames that the next call is prepared for, which takes its time: twice as many as came last.
    expected: usize,
    /// Datagrams cut from a received super-datagram, beyond the limit of the last batch.
    left_over: VecDeque<Packet>,
    truncated: u64,
    calls_since_statistics: u32,
}

impl FrameReceiver for PacketReceiver {
    fn receive(&mut self, pool: &Pool, limit: usize, want_writable: bool, batch: &mut Vec<Packet>) -> io::Result<Received> {
        let has_left_over = limit > 0 && !self.left_over.is_empty();
        let waiter = self.waiter.as_mut().ok_or_else(parted)?;
        let at_most = has_left_over.then_some(Duration::ZERO);
        let wanted = Wanted { frames: limit > 0, unshared: true, writable: want_writable, at_most };
        let (received, readable) = waiter.wait(self.socket.as_fd(), wanted)?;
        if readable || has_left_over {
            self.read(pool, limit, batch)?;
        }
        Ok(received)
    }

    fn part(&mut self) -> Option<Waits> {
        Waiter::part(&mut self.waiter, &self.socket)
    }

    fn read(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<Stock> {
        let first = batch.len();
        batch.extend(self.left_over.drain(..self.left_over.len().min(limit)));
        let left = limit.saturating_sub(batch.len() - first);
        let is_empty = left > 0 && self.read_new(pool, left, batch)?;
        merge::merge(batch, first, self.medium, pool);
        Ok(if is_empty && self.left_over.is_empty() { Stock::Empty } else { Stock::Unknown })
    }

    fn losses(&mut self) -> Losses {
        let truncated = std::mem::take(&mut self.truncated);
        self.calls_since_statistics += 1;
        if self.calls_since_statistics < STATISTICS_EVERY {
            return Losses { kernel_drops: 0, truncated };
        }
        self.calls_since_statistics = 0;
        // Reading sets the kernel's counter to zero.
        let statistics = sys::get_option::<libc::tpacket_stats>(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS);
        Losses { kernel_drops: statistics.map_or(0, |statistics| statistics.tp_drops.into()), truncated }
    }
}

impl PacketReceiver {
    /// Reads at most `limit` frames; true if there were fewer.
    fn read_new(&mut self, pool: &Pool, limit: usize, batch: &mut Vec<Packet>) -> io::Result<bool> {
        let (room, mut left) = (batch.len() + limit, limit);
        while left > 0 {
            let wanted = self.expected.min(left);
            let count = self.read_some(pool, wanted, room, batch)?;
            self.expected = count.saturating_mul(2).clamp(FEW, MESSAGES);
            if count < wanted {
                return Ok(true);
            }
            left -= count;
        }
        self.calls_since_statistics = STATISTICS_EVERY;
        Ok(false)
    }

    /// One call for `wanted` frames, which may cut them to more, up to `room` in the batch. Says how many came.
    fn read_some(&mut self, pool: &Pool, wanted: usize, room: usize, batch: &mut Vec<Packet>) -> io::Result<usize> {
        self.buffers.resize_with(wanted.max(self.buffers.len()), || ReceiveBuffer::new(TAG_ROOM, pool));
        let buffers = self.buffers.get_mut(..wanted).unwrap_or_default();
        let count = match sys::receive_many(&self.socket, self.has_header, buffers, &mut self.incoming) {
            Ok(count) => count,
            Err(error) if is_survivable(&error) => 0,
            Err(error) => return Err(error),
        };
        for (buffer, incoming) in self.buffers.iter_mut().zip(self.incoming.iter()).take(count) {
            if incoming.truncated {
                self.truncated += 1;
                continue;
            }
            let packet = with_facts(buffer.take(incoming.length, pool), incoming, self.has_header, self.medium, pool);
            deliver(packet, self.medium, pool, room, batch, &mut self.left_over);
        }
        Ok(count)
    }
}

/// Down, gone, or nothing there after all: the receiver goes on waiting.
fn is_survivable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN | libc::ENODEV | libc::ENXIO | libc::ENETUNREACH))
}

/// The packet with what the kernel says of it.
fn with_facts(mut packet: Packet, incoming: &Incoming, has_header: bool, medium: Medium, pool: &Pool) -> Packet {
    let auxiliary = Auxiliary::parse(incoming.control.0.get(..incoming.control_length).unwrap_or_default());
    if has_header {
        packet.offload = virtio::parse(&incoming.header);
    } else {
        packet.offload.checksum = auxiliary.checksum(packet.front(), medium);
    }
    if let (Some(tag), Medium::Ethernet(_)) = (auxiliary.tag, medium) {
        insert_tag(&mut packet, tag, pool);
    }
    packet
}

/// Appends the packet to the batch. A super-datagram is cut first: to UDP each piece is a datagram of its own.
fn deliver(packet: Packet, medium: Medium, pool: &Pool, room: usize, batch: &mut Vec<Packet>, left_over: &mut VecDeque<Packet>) {
    let is_super_datagram = packet.offload.segmentation.is_some_and(|segmentation| segmentation.kind == SegmentationKind::Udp);
    if !is_super_datagram {
        batch.push(packet);
    } else if let Err(packet) = cut(packet, medium, pool, left_over) {
        batch.push(*packet);
    } else {
        batch.extend(left_over.drain(..left_over.len().min(room.saturating_sub(batch.len()))));
    }
}

/// What the kernel says beside a frame (`tpacket_auxdata`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Auxiliary {
    status: u32,
    /// Tag protocol and control information.
    tag: Option<(EtherType, u16)>,
}

impl Auxiliary {
    /// From control messages as the kernel lays them out: length, level, type, then the structure.
    fn parse(control: &[u8]) -> Auxiliary {
        Auxiliary::parse_data(control).unwrap_or_default()
    }

    fn parse_data(control: &[u8]) -> Option<Auxiliary> {
        let level_at = size_of::<usize>();
        let level = i32::from_ne_bytes(*control.get(level_at..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*control.get(level_at + 4..)?.first_chunk()?);
        if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        let data = control.get(level_at + 8..)?;
        let status = u32::from_ne_bytes(*data.first_chunk()?);
        let half = |offset: usize| data.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes);
        let protocol = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { EtherType(half(18)?) } else { EtherType::VLAN };
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((protocol, half(16)?));
        Some(Auxiliary { status, tag })
    }

    /// The checksum's state where there is no virtio-net header to tell. A local peer leaves it partial without saying where it is.
    fn checksum(&self, frame: &[u8], medium: Medium) -> ChecksumState {
        if self.status & libc::TP_STATUS_CSUMNOTREADY != 0 {
            return partial_of(frame, medium).unwrap_or(ChecksumState::Verified);
        }
        if self.status & libc::TP_STATUS_CSUM_VALID != 0 { ChecksumState::Verified } else { ChecksumState::Unknown }
    }
}

fn partial_of(frame: &[u8], medium: Medium) -> Option<ChecksumState> {
    let layout = layout(frame, medium)?;
    let offset = match layout.ip.protocol {
        Protocol::TCP => TcpHeader::CHECKSUM_OFFSET,
        _ => UdpHeader::CHECKSUM_OFFSET,
    };
    Some(ChecksumState::Partial { start: layout.transport as u16, offset: offset as u16 })
}

/// Puts the tag back where it was on the wire: behind the two addresses.
fn insert_tag(packet: &mut Packet, (protocol, control): (EtherType, u16), pool: &Pool) {
    const ADDRESSES: usize = EthernetHeader::LENGTH - 2;
    if packet.front().len() < ADDRESSES {
        return;
    }
    packet.prepend(VlanTag::LENGTH, pool);
    let Some(front) = packet.make_writable(ADDRESSES + VlanTag::LENGTH, pool) else { return };
    front.copy_within(VlanTag::LENGTH.., 0);
    let [protocol_0, protocol_1] = protocol.0.to_be_bytes();
    let [control_0, control_1] = control.to_be_bytes();
    if let Some(tag) = front.last_chunk_mut() {
        *tag = [protocol_0, protocol_1, control_0, control_1];
    }
}

struct PacketSender {
    socket: Arc<OwnedFd>,
    medium: Medium,
    has_header: bool,
    /// Less than at the start if the kernel turned out not to know some kind of super-segment.
    offload: DeviceOffload,
    preparer: Preparer,
    congestion: Arc<AtomicBool>,
    /// For bare packets: IPv4, IPv6.
    addresses: [libc::sockaddr_ll; 2],
}

impl FrameSender for PacketSender {
    fn send(&mut self, frames: &mut VecDeque<Packet>) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            sent.refused += self.preparer.prepare_front(frames, MESSAGES, &self.offload);
            if frames.is_empty() {
                return Ok(sent);
            }
            match self.send_batch(frames) {
                Ok(count) => sent.take_front(frames, count),
                Err(error) => match judge(&error, frames.front(), self.offload, &mut self.offload) {
                    Verdict::Again => {}
                    Verdict::Wait => return Ok(sent),
                    Verdict::Pause => {
                        self.congestion.store(true, Ordering::Relaxed);
                        return Ok(sent);
                    }
                    Verdict::Refuse => sent.refuse_front(frames),
                },
            }
        }
    }
}

impl PacketSender {
    /// Offers as many frames from the front as one call takes.
    fn send_batch(&self, frames: &VecDeque<Packet>) -> io::Result<usize> {
        let headers = headers(frames, self.has_header);
        batch(frames, &headers, |packet| self.address_for(packet)).send(&self.socket)
    }

    /// An Ethernet frame says its protocol itself.
    fn address_for(&self, packet: &Packet) -> Option<&libc::sockaddr_ll> {
        let [ipv4, ipv6] = &self.addresses;
        let is_ipv6 = packet.front().first().is_some_and(|byte| byte >> 4 == 6);
        (self.medium == Medium::Ip).then_some(if is_ipv6 { ipv6 } else { ipv4 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn control(status: u32, tag: u16, protocol: u16) -> Vec<u8> {
        let mut bytes = 36_usize.to_ne_bytes().to_vec();
        bytes.extend(libc::SOL_PACKET.to_ne_bytes());
        bytes.extend(libc::PACKET_AUXDATA.to_ne_bytes());
        bytes.extend(status.to_ne_bytes());
        bytes.extend([0; 12]);
        bytes.extend(tag.to_ne_bytes());
        bytes.extend(protocol.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_tag_beside_the_frame_returns_into_it() {
        let pool = Pool::default();
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        let auxiliary = Auxiliary::parse(&control(status, 0x2007, 0x88a8));
        assert_eq!(auxiliary.tag, Some((EtherType::QINQ, 0x2007)));
        let mut packet = Packet::new(pool.copy_from(TAG_ROOM, b"ddddddssssssTTpayload"));
        packet.offload.checksum = ChecksumState::Partial { start: 34, offset: 16 };
        insert_tag(&mut packet, auxiliary.tag.unwrap(), &pool);
        assert_eq!(packet.to_vec(), b"ddddddssssss\x88\xa8\x20\x07TTpayload");
        assert_eq!(packet.offload.checksum, ChecksumState::Partial { start: 38, offset: 16 });
        assert_eq!(packet.slices().len(), 1, "there was room in front");
    }

    #[test]
    fn the_kernels_word_on_checksums_is_heard() {
        let state = |status| Auxiliary::parse(&control(status, 0, 0)).checksum(&[], MEDIUM);
        const MEDIUM: Medium = Medium::Ip;
        assert_eq!(state(0), ChecksumState::Unknown);
        assert_eq!(state(libc::TP_STATUS_CSUM_VALID), ChecksumState::Verified);
        assert_eq!(state(libc::TP_STATUS_CSUMNOTREADY), ChecksumState::Verified);
    }

    #[test]
    fn an_unknown_interface_is_named() {
        let error = PacketSocket::open("no-such-if").err().unwrap().to_string();
        assert!(error.contains("no-such-if"), "{error}");
    }

    proptest! {
        #[test]
        fn no_control_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Auxiliary::parse(&bytes);
        }
    }
}
