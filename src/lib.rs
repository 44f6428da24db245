//! Hopline: a TCP/IP stack for synchronous programs.
pub mod app;
pub mod config;
pub mod counters;
pub mod device;
pub mod layer;
pub mod link;
pub mod network;
pub mod packet;
pub mod pipeline;
pub mod random;
pub mod resolver;
pub mod socket;
pub mod time;
pub mod transport;
pub mod wire;
