//! What is wrong with bytes that do not parse.
//!
//! Owns: [`Malformed`], the one error of this folder. Refuses: allocation (a flood of bad packets must stay cheap) and
//! everything that is not about bytes; a packet that is well formed and unwanted is a drop, counted elsewhere.

use std::error::Error;
use std::fmt;

/// Bytes that do not form what they claim to be: which protocol, which of its fields, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed {
    /// The protocol as people write it, for example `"TCP"`.
    pub protocol: &'static str,
    /// The field in the words of the protocol's RFC, for example `"data offset"`.
    pub field: &'static str,
    /// What is wrong with the field.
    pub reason: Reason,
}

/// Why a field cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The bytes end before the field does.
    Truncated,
    /// The value is below the least the protocol allows.
    TooSmall,
    /// The value is above what the protocol, or the bytes at hand, allow.
    TooLarge,
    /// The checksum over the field does not match.
    Checksum,
    /// The value is none that the protocol defines.
    Invalid,
}

impl Malformed {
    /// An error about `field` of `protocol`.
    pub const fn new(protocol: &'static str, field: &'static str, reason: Reason) -> Self {
        Self { protocol, field, reason }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: {}", self.protocol, self.field, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "truncated",
            Self::TooSmall => "too small",
            Self::TooLarge => "too large",
            Self::Checksum => "wrong checksum",
            Self::Invalid => "invalid",
        })
    }
}

impl Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_protocol_field_and_reason() {
        let error = Malformed::new("TCP", "data offset", Reason::TooSmall);
        assert_eq!(error.to_string(), "TCP: data offset: too small");
    }
}
