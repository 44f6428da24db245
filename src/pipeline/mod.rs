//! The pipeline: the only threads and channels.
//!
//! Owns the four threads of a stack (receive, link, network, transport), their inboxes, the credits of received packets, the dirty list,
//! the real clock, and shutdown. Refuses to know any protocol: it drives whatever is a [`crate::layer::Layer`].
//!
//! Read `handoff.rs` first (how a message gets from one layer to the next), then `inbox.rs` (where it waits), `layer_loop.rs` (one turn of a layer), `queue.rs`
//! and `combining.rs` (whose thread takes it), then `reception.rs`, `receive_thread.rs`, `seat.rs` (a program's thread in the receive thread's place) and
//! `device_side.rs` (the two ends at the device), then `threads.rs` (start and stop).
//!
//! Nobody here waits for another: what enters is bounded where it enters (credits for packets from the device, room for packets of
//! programs, a share of each inbox for the stack's own packets), and each inbox is as large as all of that together. Nothing polls: a
//! thread without messages and without an armed timer sleeps.

mod bell;
mod clock;
mod combining;
mod credits;
mod device_side;
mod handoff;
mod health;
mod hop;
mod inbox;
mod layer_loop;
pub(crate) mod marks;
mod messages;
mod queue;
mod receive_thread;
mod reception;
mod seat;
#[cfg(test)]
pub(crate) mod testing;
mod threads;
mod trouble;

pub use handoff::Handoff;
pub use hop::Hop;

pub(crate) use clock::RealClock;
pub(crate) use combining::{found_ready, got_socket, rest};
pub(crate) use health::{Health, Status};
pub(crate) use seat::{Leader, Next, Seat};
pub(crate) use threads::{Inboxes, Pipeline, Plan};
