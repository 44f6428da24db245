//! Routing netlink, as little of it as a stack beside the kernel needs: which route, which interface, which addresses, what changed.
//!
//! Owns the messages (rtnetlink(7)) and the monitor of one interface. Refuses policy: what a route means for a stack is in
//! [`crate::device::host`]. Parsers read the kernel's bytes as carefully as a peer's.

use super::sys;
use crate::network::topology::Cidr;
use crate::wire::MacAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const HEADER_LENGTH: usize = 16;
/// Messages are never longer: the kernel's own dump buffers have this size.
const BUFFER_BYTES: usize = 32 << 10;
const RTAX_MTU: u16 = 2;

/// An interface as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::device) struct Link {
    pub(in crate::device) name: String,
    pub(in crate::device) index: u32,
    pub(in crate::device) mac: Option<MacAddress>,
    pub(in crate::device) mtu: usize,
    pub(in crate::device) flags: u32,
    /// `ARPHRD_…`.
    pub(in crate::device) hardware: u16,
}

/// A route as the kernel would use it for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::device) struct Route {
    /// `None` for a default route.
    pub(in crate::device) destination: Option<IpAddr>,
    pub(in crate::device) metric: u32,
    pub(in crate::device) index: u32,
    pub(in crate::device) gateway: Option<IpAddr>,
    pub(in crate::device) source: Option<IpAddr>,
    pub(in crate::device) mtu: Option<usize>,
    /// `RTN_…`.
    pub(in crate::device) kind: u8,
    pub(in crate::device) prefix_length: u8,
    /// `RT_TABLE_…`.
    pub(in crate::device) table: u32,
}

/// What a monitor saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The interface, as it is now.
    Link(Link),
    /// The interface is gone, or in another namespace.
    Gone,
    /// It lost an address.
    AddressLost(IpAddr),
    /// Messages were lost: look again.
    Overrun,
}

impl Link {
    /// Up, and with a carrier.
    pub(in crate::device) fn carries(&self) -> bool {
        let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        self.flags & wanted == wanted
    }
}

/// The interface of this name.
pub(in crate::device) fn link_by_name(name: &str) -> io::Result<Link> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &[0; 16]);
    request.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    one(request, parse_link)
}

/// The interface of this number.
pub(in crate::device) fn link_by_index(index: u32) -> io::Result<Link> {
    one(Request::new(libc::RTM_GETLINK, 0, &link_header(index, 0, 0)), parse_link)
}

/// Sets an interface up.
pub(super) fn set_up(index: u32) -> io::Result<()> {
    let up = libc::IFF_UP as u32;
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK as u16, &link_header(index, up, up)).exchange().map(drop)
}

/// The addresses of an interface.
pub(in crate::device) fn addresses(index: u32) -> io::Result<Vec<Cidr>> {
    let replies = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; 8]).exchange()?;
    let parsed = replies.iter().filter(|reply| reply.kind == libc::RTM_NEWADDR).filter_map(|reply| parse_address(&reply.body));
    Ok(parsed.filter(|&(of, _)| of == index).map(|(_, address)| address).collect())
}

/// The route that the kernel takes to `destination`, policy rules included.
pub(in crate::device) fn route_to(destination: IpAddr) -> io::Result<Route> {
    let (family, bytes, length) = address_parts(destination);
    let mut header = [0; 12];
    header[..2].copy_from_slice(&[family, length]);
    let mut request = Request::new(libc::RTM_GETROUTE, 0, &header);
    request.attribute(libc::RTA_DST, &bytes);
    one(request, parse_route)
}

/// Every IPv4 route of the main table.
pub(in crate::device) fn routes() -> io::Result<Vec<Route>> {
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    let replies = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16, &header).exchange()?;
    Ok(replies.iter().filter_map(|reply| parse_route(&reply.body)).filter(|route| route.table == u32::from(libc::RT_TABLE_MAIN)).collect())
}

fn one<T>(request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
    let replies = request.exchange()?;
    replies.first().and_then(|reply| parse(&reply.body)).ok_or_else(|| io::Error::other("netlink: no usable answer"))
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn address_parts(address: IpAddr) -> (u8, Vec<u8>, u8) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec(), 32),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec(), 128),
    }
}

/// A request on a socket of its own.
pub(super) struct Request {
    bytes: Vec<u8>,
    protocol: libc::c_int,
    is_dump: bool,
}

/// One message of an answer.
pub(super) struct Reply {
    kind: u16,
    pub(super) body: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        let is_dump = flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        Request { bytes, protocol: libc::NETLINK_ROUTE, is_dump }
    }

    /// A dump request to netfilter.
    pub(super) fn netfilter_dump(kind: u16, body: &[u8]) -> Request {
        Request { protocol: libc::NETLINK_NETFILTER, ..Request::new(kind, libc::NLM_F_DUMP as u16, body) }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the request and collects the answer: one message, or a whole dump. The kernel answers at once.
    pub(super) fn exchange(mut self) -> io::Result<Vec<Reply>> {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, self.protocol)?;
        let length = (self.bytes.len() as u32).to_ne_bytes();
        self.bytes[..4].copy_from_slice(&length);
        sys::write(&socket, &self.bytes)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut replies = Vec::new();
        loop {
            let count = receive(&socket, &mut buffer)?;
            for message in Messages(buffer.get(..count).unwrap_or_default()) {
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(replies),
                    libc::NLMSG_ERROR => return error_of(message.body).map(|()| replies),
                    _ => replies.push(Reply { kind: message.kind, body: message.body.to_vec() }),
                }
            }
            if !self.is_dump && !replies.is_empty() {
                return Ok(replies);
            }
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match sys::read(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sys::poll(&mut [sys::poll_entry(socket.as_fd(), libc::POLLIN)], None)?
            }
            result => return result,
        }
    }
}

fn error_of(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().copied().map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::other("netlink: short error message")),
    }
}

/// The messages of a datagram.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;
    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let message = Message { kind: u16_at(self.0, 4)?, body: self.0.get(HEADER_LENGTH..length)? };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes behind a message's fixed part.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        // The two highest bits say that the value is nested or in network order.
        let attribute = (u16_at(self.0, 2)? & 0x3fff, self.0.get(4..length)?);
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let mut link = Link { hardware: u16_at(body, 2)?, index: u32_at(body, 4)?, flags: u32_at(body, 8)?, ..Link::default() };
    for (kind, value) in Attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)? as usize,
            libc::IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(MacAddress),
            _ => {}
        }
    }
    Some(link)
}

/// The interface's number and one of its addresses. On point-to-point links `IFA_ADDRESS` is the peer's and `IFA_LOCAL` ours.
fn parse_address(body: &[u8]) -> Option<(u32, Cidr)> {
    let (mut address, mut local) = (None, None);
    for (kind, value) in Attributes(body.get(8..)?) {
        match kind {
            libc::IFA_ADDRESS => address = ip(value),
            libc::IFA_LOCAL => local = ip(value),
            _ => {}
        }
    }
    Some((u32_at(body, 4)?, Cidr::new(local.or(address)?, *body.get(1)?)?))
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let mut route = Route { prefix_length: *body.get(1)?, table: u32::from(*body.get(4)?), kind: *body.get(7)?, ..Route::default() };
    for (kind, value) in Attributes(body.get(12..)?) {
        match kind {
            libc::RTA_OIF => route.index = u32_at(value, 0)?,
            libc::RTA_DST => route.destination = ip(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            libc::RTA_GATEWAY => route.gateway = ip(value),
            libc::RTA_PREFSRC => route.source = ip(value),
            libc::RTA_TABLE => route.table = u32_at(value, 0)?,
            libc::RTA_METRICS => route.mtu = metric_mtu(value),
            _ => {}
        }
    }
    Some(route)
}

fn metric_mtu(value: &[u8]) -> Option<usize> {
    Attributes(value).find(|&(kind, _)| kind == RTAX_MTU).and_then(|(_, value)| u32_at(value, 0)).map(|mtu| mtu as usize)
}

pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// A socket that hears of changes to one interface.
pub(super) struct Monitor {
    socket: OwnedFd,
    index: u32,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens from now on.
    pub(super) fn new(index: u32) -> io::Result<Monitor> {
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        let mut address: libc::sockaddr_nl = sys::zero();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        sys::bind(&socket, address)?;
        Ok(Monitor { socket, index, buffer: vec![0; BUFFER_BYTES] })
    }

    /// What to poll for reading.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what is there, without waiting.
    pub(super) fn read(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            match sys::read(&self.socket, &mut self.buffer) {
                Ok(count) => changes.extend(changes_of(self.buffer.get(..count).unwrap_or_default(), self.index)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.push(Change::Overrun),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn changes_of(datagram: &[u8], index: u32) -> Vec<Change> {
    Messages(datagram).filter_map(|message| change_of(&message, index)).collect()
}

fn change_of(message: &Message<'_>, index: u32) -> Option<Change> {
    let is_ours = u32_at(message.body, 4)? == index;
    // Bridges send messages of their own family when a port leaves them.
    let is_plain = *message.body.first()? == libc::AF_UNSPEC as u8;
    match message.kind {
        libc::RTM_NEWLINK if is_ours && is_plain => parse_link(message.body).map(Change::Link),
        libc::RTM_DELLINK if is_ours && is_plain => Some(Change::Gone),
        libc::RTM_DELADDR if is_ours => parse_address(message.body).map(|(_, address)| Change::AddressLost(address.address)),
        _ => None,
    }
}

/// Every parser of this file over any bytes.
#[cfg(fuzzing)]
pub(in crate::device) fn fuzz(bytes: &[u8]) {
    let _ = (changes_of(bytes, 1), parse_link(bytes), parse_address(bytes), parse_route(bytes), error_of(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loopback_is_what_everybody_knows() {
        let link = link_by_name("lo").unwrap();
        assert_eq!((link.name.as_str(), link.hardware), ("lo", libc::ARPHRD_LOOPBACK));
        assert_eq!(link_by_index(link.index).unwrap(), link);
        let error = link_by_name("no-such-if").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_way_to_oneself_is_local() {
        let route = route_to(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(route.kind, libc::RTN_LOCAL);
        assert!(addresses(route.index).unwrap().contains(&"127.0.0.1/8".parse().unwrap()));
    }

    #[test]
    fn only_our_interface_is_heard() {
        let message = |kind: u16, index: u32| {
            let mut request = Request::new(kind, 0, &link_header(index, (libc::IFF_UP | libc::IFF_RUNNING) as u32, 0));
            request.attribute(libc::IFLA_IFNAME, b"eth0\0");
            let length = (request.bytes.len() as u32).to_ne_bytes();
            request.bytes[..4].copy_from_slice(&length);
            request.bytes
        };
        let datagram = [message(libc::RTM_NEWLINK, 7), message(libc::RTM_DELLINK, 8), message(libc::RTM_DELLINK, 7)].concat();
        let changes = changes_of(&datagram, 7);
        let [Change::Link(link), Change::Gone] = &changes[..] else { panic!("{changes:?}") };
        assert!(link.carries() && link.name == "eth0");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            changes_of(&bytes, 1);
            let _ = (parse_link(&bytes), parse_address(&bytes), parse_route(&bytes), error_of(&bytes));
        }
    }
}
