//! What the benches share: a device that the bench itself plays, a TCP peer made by hand, and percentiles.

#![allow(dead_code, reason = "each bench uses its own part of this")]

pub(crate) mod device;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod samples;
