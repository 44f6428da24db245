//! Systems without devices of their own yet: the lab and everything in memory works, raw frames do not.
//!
//! This is also the list of what a system brings, so a new one starts as a copy of this file: the device of an interface, TAP and TUN, [`host`] (what the
//! kernel knows of the network) and [`guard`] (how it is kept silent about ports that we use).

use super::filter::{Filter, TagPlace};
use super::{Device, DeviceOffload, DeviceProperties, Medium, OpenDevice};
use crate::wire::MacAddress;
use std::io;
use std::net::IpAddr;

/// Where filters find a frame's 802.1Q tag.
pub(super) const TAGS: TagPlace = TagPlace::InFrame;

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "raw devices are not supported on this system: use --lab")
}

/// The frames of an interface, beside the kernel's own stack. Here there is none.
pub struct InterfaceDevice(());

impl InterfaceDevice {
    /// The interface of this name. Receives nothing before it is started. Fails with one line that says what to do.
    pub fn open(_interface: &str) -> io::Result<InterfaceDevice> {
        Err(unsupported())
    }

    /// Switches super-segments and checksum offload on or off, as far as the system has it.
    pub fn offload(self, _on: bool) -> InterfaceDevice {
        self
    }

    /// Sends from and receives on `mac`: an address of our own, beside the interface's.
    pub fn mac(self, _mac: MacAddress) -> io::Result<InterfaceDevice> {
        Err(unsupported())
    }

    /// Takes only what the filter accepts.
    pub fn filter(self, _filter: &Filter) -> io::Result<InterfaceDevice> {
        Err(unsupported())
    }

    /// Reports when the host loses this address.
    pub fn watch_address(self, _address: IpAddr) -> InterfaceDevice {
        self
    }

    /// Changes the filter at any time, also after the device was started.
    pub fn filter_handle(&self) -> FilterHandle {
        FilterHandle(())
    }
}

impl Device for InterfaceDevice {
    fn properties(&self) -> DeviceProperties {
        DeviceProperties { name: String::new(), medium: Medium::Ip, mtu: 0, offload: DeviceOffload::default() }
    }

    fn open(self: Box<Self>) -> io::Result<OpenDevice> {
        Err(unsupported())
    }
}

/// Replaces the filter of a device, from any thread.
#[derive(Clone)]
pub struct FilterHandle(());

impl FilterHandle {
    /// From now on only what `filter` accepts is received.
    pub fn set(&self, _filter: &Filter) -> io::Result<()> {
        Err(unsupported())
    }
}

/// The TAP interface of this name.
pub(super) fn tap(_name: &str, _offload: bool, _mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    Err(unsupported())
}

/// The TUN interface of this name.
pub(super) fn tun(_name: &str, _offload: bool) -> io::Result<Box<dyn Device>> {
    Err(unsupported())
}

/// What this host knows of the network: the answers of [`crate::device::host`].
pub(super) mod host {
    use super::unsupported;
    use crate::device::host::{HostInterface, HostResolver, HostRoute};
    use crate::device::resolver_file::{RESOLVER_FILE, choose_resolvers, name_servers};
    use crate::network::topology::Route;
    use std::io;
    use std::net::IpAddr;

    /// How the kernel would send to `destination`; `None` if that is the host itself.
    pub(in crate::device) fn route_to(_destination: IpAddr) -> io::Result<Option<HostRoute>> {
        Err(unsupported())
    }

    /// The interface of this name.
    pub(in crate::device) fn interface(_name: &str) -> io::Result<HostInterface> {
        Err(unsupported())
    }

    /// The host's IPv4 routes through an interface.
    pub(in crate::device) fn routes_of(_interface: &str) -> io::Result<Vec<Route>> {
        Err(unsupported())
    }

    /// The host's name servers.
    pub(in crate::device) fn resolvers() -> io::Result<Vec<HostResolver>> {
        Ok(choose_resolvers(&name_servers(&std::fs::read_to_string(RESOLVER_FILE)?), &[]))
    }

    /// One line about what would answer our peers in our name.
    pub(in crate::device) fn shared_address_warning() -> Option<String> {
        None
    }

    /// The first and last port that the kernel chooses from for outgoing connections (RFC 6335 §6).
    pub(in crate::device) fn ephemeral_ports() -> (u16, u16) {
        (49_152, 65_535)
    }
}

/// How the kernel is kept silent about ports that we use.
pub(super) mod guard {
    use super::unsupported;
    use crate::device::filter::PortSet;
    use socket2::Socket;
    use std::io;
    use std::net::Ipv4Addr;

    /// Whether a guard for TCP has to listen.
    pub(in crate::device) const LISTENS: bool = false;

    /// What has to be done beside the guards.
    pub(in crate::device) struct HostSilence;

    impl HostSilence {
        /// For ports of `address`.
        pub(in crate::device) fn new(_address: Ipv4Addr) -> io::Result<HostSilence> {
            Err(unsupported())
        }

        /// The ports in use are now these. Undone when this is dropped.
        pub(in crate::device) fn cover(&self, _ports: &PortSet) -> io::Result<()> {
            Ok(())
        }
    }

    /// Prepares a guard before it is bound. With `reuse` remains of former connections on its port do not matter.
    pub(in crate::device) fn prepare(_socket: &Socket, _reuse: bool) -> io::Result<()> {
        Err(unsupported())
    }

    /// How many guards there may be.
    pub(in crate::device) fn most_descriptors() -> io::Result<usize> {
        Err(unsupported())
    }
}
