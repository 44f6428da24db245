//! The Fast Open cookie (RFC 7413 §4.1.1), the value of a TCP option.

/// A Fast Open cookie: 4 to 16 bytes, an even number of them, or none at all in a request (RFC 7413 §4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpenCookie {
    /// Bytes beyond `length` are zero, so that derived equality is right.
    bytes: [u8; Self::MAXIMUM_LENGTH],
    length: u8,
}

impl FastOpenCookie {
    /// The longest cookie in bytes.
    pub const MAXIMUM_LENGTH: usize = 16;
    /// The empty cookie, which asks for one.
    pub const REQUEST: Self = Self { bytes: [0; Self::MAXIMUM_LENGTH], length: 0 };

    /// A cookie with these bytes; `None` if it may not have this length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let is_allowed = bytes.is_empty() || bytes.len() >= 4 && bytes.len().is_multiple_of(2);
        let mut cookie = Self { length: bytes.len() as u8, ..Self::REQUEST };
        cookie.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        is_allowed.then_some(cookie)
    }

    /// The cookie's bytes; empty in a request.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Whether this asks for a cookie rather than being one.
    pub const fn is_request(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_lengths_are_allowed() {
        let allowed: Vec<_> = (0..20).filter(|length| FastOpenCookie::new(&[7; 20][..*length]).is_some()).collect();
        assert_eq!(allowed, [0, 4, 6, 8, 10, 12, 14, 16]);
        assert_eq!(FastOpenCookie::new(&[7; 4]).unwrap().as_bytes(), [7; 4]);
        assert!(FastOpenCookie::REQUEST.is_request());
    }
}
