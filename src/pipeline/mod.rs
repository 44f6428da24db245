//! The pipeline: the only threads and channels.
//!
//! Owns the four threads of a stack (receive, link, network, transport), their inboxes, the credits of received packets, the dirty list,
//! the real clock, and shutdown. Refuses to know any protocol: it drives whatever is a [`crate::layer::Layer`].
//!
//! Read `handoff.rs` first (how a message gets from one layer to the next), then `layer_loop.rs` (the one loop), then `receive_thread.rs`
//! and `device_side.rs` (the two ends at the device), then `threads.rs` (start and stop).
//!
//! Nobody here waits for another: what enters is bounded where it enters (credits for packets from the device, room for packets of
//! programs, a share of each inbox for the stack's own packets), and each inbox is as large as all of that together. Nothing polls: a
//! thread without messages and without an armed timer sleeps.

mod clock;
mod credits;
mod device_side;
pub(crate) mod handoff;
mod health;
mod hop;
mod layer_loop;
pub(crate) mod marks;
mod messages;
mod receive_thread;
mod threads;

pub use hop::Hop;

pub(crate) use clock::RealClock;
pub(crate) use health::{Health, Status};
pub(crate) use threads::{Inboxes, Pipeline, Plan};

/// How a message gets from one layer to the next.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Handoff {
    /// Over bounded channels, a thread for each layer: the reference.
    #[default]
    Queue,
}
