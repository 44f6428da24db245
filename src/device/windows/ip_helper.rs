//! The IP Helper API: adapters, routes, and news of them.
//!
//! Owns the calls and the walk over the lists that they return. Refuses to choose: [`super::adapters`] does.

use super::adapters::{Adapter, ForwardRow, socket_address};
use super::sys::check;
use super::wait::Bell;
use crate::network::topology::Cidr;
use crate::wire::MacAddress;
use std::ffi::c_void;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use windows_sys::Win32::Foundation::{ERROR_BUFFER_OVERFLOW, HANDLE};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CancelMibChangeNotify2, FreeMibTable, GAA_FLAG_SKIP_ANYCAST, GAA_FLAG_SKIP_MULTICAST, GetAdaptersAddresses, GetIpForwardTable2,
    GetIpInterfaceEntry, IP_ADAPTER_ADDRESSES_LH, MIB_IPFORWARD_ROW2, MIB_IPFORWARD_TABLE2, MIB_IPINTERFACE_ROW, MIB_NOTIFICATION_TYPE,
    MIB_UNICASTIPADDRESS_ROW, NotifyIpInterfaceChange, NotifyUnicastIpAddressChange,
};
use windows_sys::Win32::NetworkManagement::Ndis::IfOperStatusUp;
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_UNSPEC, SOCKADDR_INET, SOCKET_ADDRESS};

/// Bytes that Microsoft recommends to begin with.
const FIRST_BYTES: u32 = 16 << 10;
/// The list may grow while it is asked for.
const ATTEMPTS: usize = 8;
/// The largest IP packet: the loopback's MTU says more.
const LARGEST_PACKET: u32 = 65_535;

/// All adapters.
pub(super) fn adapters() -> io::Result<Vec<Adapter>> {
    let buffer = adapter_list()?;
    let mut found = Vec::new();
    let mut next = buffer.as_ptr().cast::<IP_ADAPTER_ADDRESSES_LH>();
    // SAFETY: the system filled the buffer with a list of aligned structures that ends with a null pointer; it lives until the end of this function.
    while let Some(row) = unsafe { next.as_ref() } {
        // SAFETY: `row` is of such a list.
        found.push(unsafe { adapter(row) });
        next = row.Next;
    }
    Ok(found)
}

/// The list as the system lays it out, aligned for pointers. An empty one is zeros, which end it.
fn adapter_list() -> io::Result<Vec<u64>> {
    let mut size = FIRST_BYTES;
    for _ in 0..ATTEMPTS {
        let mut buffer = vec![0_u64; size as usize / 8 + 1];
        size = (buffer.len() * 8) as u32;
        let flags = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST;
        // SAFETY: the system writes at most `size` bytes, which is the length of the buffer.
        let result = unsafe { GetAdaptersAddresses(AF_UNSPEC.into(), flags, std::ptr::null(), buffer.as_mut_ptr().cast(), &mut size) };
        if result != ERROR_BUFFER_OVERFLOW {
            return check(result).map(|()| buffer);
        }
    }
    Err(io::Error::other("the list of adapters changes too fast to be read"))
}

/// # Safety
/// The row must be of a list that the system made, with valid pointers.
unsafe fn adapter(row: &IP_ADAPTER_ADDRESSES_LH) -> Adapter {
    // SAFETY: the variant of the union that this function fills in; any bytes are a valid number.
    let index = unsafe { row.Anonymous1.Anonymous.IfIndex };
    let [a, b, c, d, e, f, ..] = row.PhysicalAddress;
    Adapter {
        index,
        // SAFETY: the system's texts end with a zero.
        guid: unsafe { super::library::text(row.AdapterName.cast_const().cast()) },
        // SAFETY: as above.
        name: unsafe { wide_text(row.FriendlyName) },
        mac: (row.PhysicalAddressLength == 6).then_some(MacAddress([a, b, c, d, e, f])),
        mtu: row.Mtu.min(LARGEST_PACKET) as usize,
        up: row.OperStatus == IfOperStatusUp,
        kind: row.IfType,
        metric: row.Ipv4Metric,
        // SAFETY: the caller's promise covers the lists that the row leads to.
        addresses: unsafe { addresses(row) },
        // SAFETY: as above.
        name_servers: unsafe { name_servers(row) },
    }
}

/// # Safety
/// As for [`adapter`].
unsafe fn addresses(row: &IP_ADAPTER_ADDRESSES_LH) -> Vec<Cidr> {
    let mut found = Vec::new();
    let mut next = row.FirstUnicastAddress.cast_const();
    // SAFETY: the list ends with a null pointer; the caller's promise.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the address is the system's.
        let address = unsafe { address_of(&entry.Address) };
        found.extend(address.map(|address| Cidr { address, prefix_length: entry.OnLinkPrefixLength }));
        next = entry.Next;
    }
    found
}

/// # Safety
/// As for [`adapter`].
unsafe fn name_servers(row: &IP_ADAPTER_ADDRESSES_LH) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut next = row.FirstDnsServerAddress.cast_const();
    // SAFETY: the list ends with a null pointer; the caller's promise.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the address is the system's.
        found.extend(unsafe { address_of(&entry.Address) });
        next = entry.Next;
    }
    found
}

/// # Safety
/// Pointer and length must describe bytes.
unsafe fn address_of(address: &SOCKET_ADDRESS) -> Option<IpAddr> {
    if address.lpSockaddr.is_null() {
        return None;
    }
    let length = usize::try_from(address.iSockaddrLength).unwrap_or(0);
    // SAFETY: the caller's promise.
    socket_address(unsafe { std::slice::from_raw_parts(address.lpSockaddr.cast_const().cast(), length) })
}

/// # Safety
/// The pointer must be null, or lead to a text with a zero at its end.
unsafe fn wide_text(from: *const u16) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: every unit up to the zero is part of the text.
    let length = (0..).take_while(|&index| unsafe { *from.add(index) } != 0).count();
    // SAFETY: as above.
    String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(from, length) })
}

/// The system's IPv4 routes.
pub(super) fn forward_rows() -> io::Result<Vec<ForwardRow>> {
    let mut table: *mut MIB_IPFORWARD_TABLE2 = std::ptr::null_mut();
    // SAFETY: the system writes one pointer.
    check(unsafe { GetIpForwardTable2(AF_INET, &mut table) })?;
    // SAFETY: the pointer leads to a count and as many rows, which stay until they are freed.
    let rows =
        unsafe { std::slice::from_raw_parts((&raw const (*table).Table).cast::<MIB_IPFORWARD_ROW2>(), (*table).NumEntries as usize) };
    let found = rows.iter().filter_map(forward_row).collect();
    // SAFETY: the table is the system's, and not used after this.
    unsafe { FreeMibTable(table.cast_const().cast()) };
    Ok(found)
}

fn forward_row(row: &MIB_IPFORWARD_ROW2) -> Option<ForwardRow> {
    let destination = Cidr { address: inet_address(&row.DestinationPrefix.Prefix)?, prefix_length: row.DestinationPrefix.PrefixLength };
    let gateway = inet_address(&row.NextHop).filter(|address| !address.is_unspecified());
    Some(ForwardRow { interface: row.InterfaceIndex, destination, gateway, metric: row.Metric })
}

fn inet_address(address: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: a union of integers, all of whose bytes the system wrote.
    socket_address(unsafe { std::slice::from_raw_parts(std::ptr::from_ref(address).cast(), size_of::<SOCKADDR_INET>()) })
}

/// Whether the system routes IPv4 packets that arrive on this adapter. If that cannot be read, it is assumed not to.
pub(super) fn is_forwarding(index: u32) -> bool {
    let mut row = MIB_IPINTERFACE_ROW { Family: AF_INET, InterfaceIndex: index, ..MIB_IPINTERFACE_ROW::default() };
    // SAFETY: the system reads the key and writes the rest of one row, which we hold.
    check(unsafe { GetIpInterfaceEntry(&mut row) }).is_ok() && row.ForwardingEnabled
}

/// What the system's notifications set.
struct Change {
    has_come: AtomicBool,
    bell: Arc<Bell>,
}

/// Tells when something about adapters or addresses changes.
pub(super) struct Monitor {
    change: Arc<Change>,
    notifications: [HANDLE; 2],
}

// SAFETY: the handles belong to no thread.
unsafe impl Send for Monitor {}

impl Monitor {
    /// Rings `bell` at every change.
    pub(super) fn new(bell: Arc<Bell>) -> io::Result<Monitor> {
        // What happened before it listened is looked at once.
        let change = Arc::new(Change { has_come: AtomicBool::new(true), bell });
        let mut monitor = Monitor { change, notifications: [std::ptr::null_mut(); 2] };
        let context = Arc::as_ptr(&monitor.change).cast::<c_void>();
        let [interfaces, addresses] = &mut monitor.notifications;
        // SAFETY: the context outlives the notification, which `Drop` cancels; the system writes one handle.
        check(unsafe { NotifyIpInterfaceChange(AF_INET, Some(interface_changed), context, false, interfaces) })?;
        // SAFETY: as above.
        check(unsafe { NotifyUnicastIpAddressChange(AF_INET, Some(address_changed), context, false, addresses) })?;
        Ok(monitor)
    }

    /// Whether something changed since this was asked last.
    pub(super) fn has_changed(&self) -> bool {
        self.change.has_come.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for notification in self.notifications.into_iter().filter(|notification| !notification.is_null()) {
            // SAFETY: the handle is ours; the call returns when no callback runs any more, so the context may go.
            unsafe { CancelMibChangeNotify2(notification) };
        }
    }
}

unsafe extern "system" fn interface_changed(context: *const c_void, _row: *const MIB_IPINTERFACE_ROW, _kind: MIB_NOTIFICATION_TYPE) {
    // SAFETY: the context is what `Monitor::new` passed.
    unsafe { note(context) }
}

unsafe extern "system" fn address_changed(context: *const c_void, _row: *const MIB_UNICASTIPADDRESS_ROW, _kind: MIB_NOTIFICATION_TYPE) {
    // SAFETY: as above.
    unsafe { note(context) }
}

/// # Safety
/// The context must be that of a living [`Monitor`].
unsafe fn note(context: *const c_void) {
    // SAFETY: the caller's promise.
    let change = unsafe { &*context.cast::<Change>() };
    change.has_come.store(true, Ordering::SeqCst);
    change.bell.ring();
}
