//! Pure bytes: what every protocol looks like on the wire, read and written.
//!
//! Owns: one type for each header, with `parse` (bytes to type, checked once, at the edge) and `emit` (type to bytes);
//! the Internet checksum; sequence number arithmetic; DNS messages.
//!
//! Refuses: state, time, policy, input and output. Nothing here knows a socket, a route or a connection, and nothing
//! here depends on any other module of the crate. Parsers never panic, never loop and never read outside what they were
//! given, whatever the bytes say; what they reject comes back as [`Malformed`], which names the field. Emitters write
//! what their caller built, and panic only if the caller's buffer is too short for it.
//!
//! Read first: [`error`], then `cursor`, then [`ethernet`], [`ipv4`] and [`tcp`] in the order in which a frame carries them.

pub mod addresses;
pub mod arp;
pub mod checksum;
mod cursor;
pub mod dns;
pub mod error;
pub mod ethernet;
pub mod fast_open;
pub mod icmpv4;
pub mod ipv4;
pub mod ipv4_options;
pub mod protocol;
pub mod sack;
pub mod sequence;
pub mod tcp;
pub mod tcp_options;
#[cfg(test)]
pub(crate) mod testing;
pub mod udp;
pub mod vlan;

pub use addresses::{EtherType, MacAddress, ParseMacAddressError};
pub use arp::{ArpOperation, ArpPacket};
pub use checksum::Checksum;
pub use error::{Malformed, Reason};
pub use ethernet::EthernetHeader;
pub use fast_open::FastOpenCookie;
pub use icmpv4::{Icmpv4Message, ParameterProblemCode, RedirectCode, TimeExceededCode, UnreachableCode};
pub use ipv4::Ipv4Header;
pub use ipv4_options::{Ipv4Option, Ipv4Options};
pub use protocol::Protocol;
pub use sack::{SackBlock, SackBlocks};
pub use sequence::SequenceNumber;
pub use tcp::{TcpFlags, TcpHeader};
pub use tcp_options::{TcpOptions, Timestamps};
pub use udp::UdpHeader;
pub use vlan::VlanTag;
