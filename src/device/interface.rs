//! Devices by the name of an interface, whatever the system.
//!
//! Owns nothing: each system has its own [`InterfaceDevice`], with the same methods, and its own TAP and TUN. `elsewhere.rs` has the list of what a
//! system has to bring.

use super::{Device, Medium, system};
use crate::wire::MacAddress;
use std::io;

pub use system::{FilterHandle, InterfaceDevice};

/// The TAP interface `name`, made if it does not exist, with `mac` or a random address of our own; `offload` as far as the system has it.
pub fn tap(name: &str, offload: bool, mac: Option<MacAddress>) -> io::Result<Box<dyn Device>> {
    system::tap(name, offload, mac)
}

/// The TUN interface `name`, made if it does not exist.
pub fn tun(name: &str, offload: bool) -> io::Result<Box<dyn Device>> {
    system::tun(name, offload)
}

/// The medium of interface `name` once we send from `mac`, beside the interface's own address `its`. Refused where there are no MAC addresses; and, with
/// the interface's own, where the host forwards, for it would route our packets as well: then `forwarder` says who does so, in words.
pub(super) fn with_mac(
    name: &str,
    medium: Medium,
    its: Option<MacAddress>,
    mac: MacAddress,
    forwarder: impl FnOnce() -> Option<String>,
) -> io::Result<Medium> {
    if medium == Medium::Ip {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} carries bare IP packets: it has no MAC addresses")));
    }
    match (its == Some(mac)).then(forwarder).flatten() {
        Some(forwarder) => Err(forwarding_error(&forwarder)),
        None => Ok(Medium::Ethernet(mac)),
    }
}

fn forwarding_error(forwarder: &str) -> io::Error {
    let text = format!(
        "{forwarder}, so the host would answer for addresses behind its own MAC address: leave out the MAC address, or switch forwarding off"
    );
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interfaces_own_address_is_refused_where_the_host_forwards() {
        let (its, other) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let with = |medium, mac| with_mac("eth0", medium, Some(its), mac, || Some("eth0 forwards packets".to_owned()));
        assert_eq!(with(Medium::Ethernet(its), other).unwrap(), Medium::Ethernet(other), "nobody is asked whether it forwards");
        assert!(with(Medium::Ethernet(its), its).unwrap_err().to_string().starts_with("eth0 forwards packets, so the host would"));
        assert!(with(Medium::Ip, other).unwrap_err().to_string().contains("no MAC addresses"));
        assert_eq!(with_mac("eth0", Medium::Ethernet(its), Some(its), its, || None).unwrap(), Medium::Ethernet(its));
    }
}
