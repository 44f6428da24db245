//! Parsers of this folder that nobody else may call, for the fuzz targets in `tests/fuzz`. Compiled under `cfg(fuzzing)` alone, which
//! cargo-fuzz sets.
//!
//! Owns nothing, refuses everything that is not a parser of bytes.

/// Routing messages of the kernel's netlink, and netfilter's.
#[cfg(target_os = "linux")]
pub fn netlink(bytes: &[u8]) {
    super::linux::netlink::fuzz(bytes);
    super::linux::firewall::fuzz(bytes);
}
