//! TCP sequence numbers.
//!
//! Owns: [`SequenceNumber`] and every comparison between two of them. Refuses `Ord`: on a circle "less than" is not
//! transitive, so a sorted collection of sequence numbers would be a lie (RFC 9293 §3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A point on the circle of 2³² sequence numbers. Two points can be compared when less than 2³¹ apart.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SequenceNumber(pub u32);

impl SequenceNumber {
    /// How far `self` lies after `other`; negative if it lies before.
    pub const fn offset_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// How far one must walk forward from `other` to reach `self`, round the circle if need be.
    pub const fn distance_from(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }

    /// `self < other`.
    pub const fn before(self, other: Self) -> bool {
        self.offset_from(other) < 0
    }

    /// `self =< other`.
    pub const fn before_or_equal(self, other: Self) -> bool {
        self.offset_from(other) <= 0
    }

    /// `self > other`.
    pub const fn after(self, other: Self) -> bool {
        self.offset_from(other) > 0
    }

    /// `self >= other`.
    pub const fn after_or_equal(self, other: Self) -> bool {
        self.offset_from(other) >= 0
    }

    /// `start =< self < end`: whether `self` lies in the window that begins at `start` and ends before `end`.
    pub const fn is_between(self, start: Self, end: Self) -> bool {
        self.distance_from(start) < end.distance_from(start)
    }

    /// Whether `self` lies in the `length` numbers from `start` on.
    pub const fn is_within(self, start: Self, length: u32) -> bool {
        self.distance_from(start) < length
    }

    /// The later of the two.
    #[must_use]
    pub const fn latest(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    #[must_use]
    pub const fn earliest(self, other: Self) -> Self {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for SequenceNumber {
    type Output = Self;

    /// Walks `count` forward, round the circle.
    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl Sub<u32> for SequenceNumber {
    type Output = Self;

    /// Walks `count` back, round the circle.
    fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }
}

impl AddAssign<u32> for SequenceNumber {
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

impl SubAssign<u32> for SequenceNumber {
    fn sub_assign(&mut self, count: u32) {
        *self = *self - count;
    }
}

impl From<u32> for SequenceNumber {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SequenceNumber({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::config;

    #[test]
    fn comparisons_hold_across_the_wrap() {
        let late = SequenceNumber(u32::MAX - 1);
        let wrapped = late + 4;
        assert_eq!(wrapped, SequenceNumber(2));
        assert!(late.before(wrapped) && wrapped.after(late));
        assert!(late.before_or_equal(late) && late.after_or_equal(late));
        assert_eq!(wrapped.offset_from(late), 4);
        assert_eq!(late.offset_from(wrapped), -4);
        assert_eq!(late.latest(wrapped), wrapped);
        assert_eq!(late.earliest(wrapped), late);
    }

    #[test]
    fn windows_include_their_start_and_exclude_their_end() {
        let start = SequenceNumber(u32::MAX);
        assert!(start.is_between(start, start + 2));
        assert!((start + 1).is_between(start, start + 2));
        assert!(!(start + 2).is_between(start, start + 2));
        assert!(!(start - 1).is_between(start, start + 2));
        assert!(!start.is_between(start, start));
        assert!(start.is_within(start, 1) && !start.is_within(start, 0));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn exactly_one_of_before_equal_after(start: u32, ahead in 1..(1_u32 << 31)) {
            let (first, second) = (SequenceNumber(start), SequenceNumber(start) + ahead);
            prop_assert!(first.before(second) && !first.after(second) && !first.after_or_equal(second));
            prop_assert_eq!(second.after(first), ahead < 1 << 31);
            prop_assert_eq!(second.distance_from(first), ahead);
            prop_assert_eq!(second - ahead, first);
        }
    }
}
