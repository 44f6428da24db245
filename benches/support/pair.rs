//! Two stacks in one process, joined by a virtual link.

use hopline::config::Config;
use hopline::device::virtual_link::{self, LinkOptions, VirtualDevice};
use hopline::socket::{Handoff, Stack};
use std::net::Ipv4Addr;
use std::time::Duration;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The server's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A client and a server.
pub(crate) struct Pair {
    pub(crate) client: Stack,
    pub(crate) server: Stack,
}

impl Pair {
    /// Starts both. With `offload`, super-segments and partial checksums cross the link as they are.
    pub(crate) fn start(offload: bool) -> Pair {
        Pair::start_with(offload, Handoff::default())
    }

    /// The same, in a certain hand-off.
    pub(crate) fn start_with(offload: bool, handoff: Handoff) -> Pair {
        let (a, b) = virtual_link::pair(LinkOptions { offload, ..LinkOptions::default() });
        Pair { client: start(a, CLIENT, handoff), server: start(b, SERVER, handoff) }
    }
}

fn start(device: VirtualDevice, address: Ipv4Addr, handoff: Handoff) -> Stack {
    let address = format!("{address}/24").parse().expect("an address with a prefix");
    // So that thousands of connections in a row do not use up the ports.
    let mut config = Config::default();
    config.tcp.maximum_segment_lifetime = Duration::from_millis(1);
    Stack::builder().device(device).address(address).config(config).handoff(handoff).start().expect("the stack starts")
}
