//! Hopline: a TCP/IP stack for synchronous programs.
//!
//! It runs in the program's own process, on raw frames, on plain threads: one for each layer, joined by bounded channels. A program holds
//! blocking handles like those of `std::net`, on a stack that it owns.
//!
//! ```text
//!             program threads            TcpStream  TcpListener  UdpSocket  IcmpSocket  RawSocket      socket, resolver, app
//!                   |   ^
//!           marks   |   |  per-socket buffers + condition variables                                     transport::shared
//!                   v   |
//!             [ hopline-transport ]      demux, TCP connections, datagram sockets, their timers         transport
//!                   |   ^
//!                   v   |
//!             [ hopline-net ]            IPv4, routes, ICMP, fragments, path MTU                        network
//!                   |   ^
//!                   v   |
//!             [ hopline-link ]           Ethernet, 802.1Q, neighbour cache, transmission                link
//!                   |   ^
//!                   v   |  frames
//!             device <--- [ hopline-rx ]         blocks in the kernel, reads batches                    device
//! ```
//!
//! Bytes ([`wire`]), state machines ([`link`], [`network`], [`transport`]) and threads ([`pipeline`]) are three things. The state machines never
//! block, lock, read a clock or touch a descriptor, so the same ones run in threads and, for tests, in lockstep under a virtual clock.
//!
//! A program starts at [`socket::Stack`].

// In reading order: what travels, what a layer is, ...
pub mod packet;
pub mod time;
pub mod random;
pub mod rate_limit;
pub mod layer;
pub mod counters;
pub mod config;
// ... the bytes, the layers from the device up, ...
pub mod wire;
pub mod device;
pub mod link;
pub mod network;
pub mod transport;
// ... who drives them, and what programs hold.
pub mod pipeline;
pub mod simulation;
pub mod socket;
pub mod resolver;
pub mod app;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
