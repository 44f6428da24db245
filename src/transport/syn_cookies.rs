//! SYN cookies (RFC 4987 §3.6 and appendix A): what a listener would have to remember of a SYN, told to the peer instead, who tells it back.
//!
//! Owns the secret and the two encodings: in our initial sequence number, which the peer acknowledges, who it is, when that was, and its segment
//! size; in the low bits of our timestamp, which it echoes, its other options. Refuses to send and to decide when a cookie is called for.
//!
//! A cookie is `hash(ends, the peer's initial number, period) XOR index of the segment size`, in 32 bits, the index in the highest ones: so that who acknowledges a
//! little more than the cookie, as a segment does that comes late from a connection that is over, has none. It is taken in the period of [`PERIOD`] in which it
//! was made and in the next one. Whoever guesses hits one of 2 × 8 among 2³² numbers. That the index could be changed by whoever has a cookie harms nobody else:
//! it is the segment size of that peer.

use super::demux::Ends;
use crate::random::SecretRandom;
use crate::time::{Duration, Instant};
use crate::wire::{SequenceNumber, TcpHeader, TcpOptions, Timestamps};
use std::hash::Hash;

/// How long one period of the cookies' clock lasts.
const PERIOD: Duration = Duration::from_secs(64);
/// After this time no cookie is taken.
pub(super) const LIFETIME: Duration = Duration::from_secs(2 * 64);
/// High bits of a cookie that carry the index of the segment size.
const INDEX_BITS: u32 = 3;
/// The segment sizes that a cookie can tell: the largest that the peer takes is told. The first one every peer takes.
const SEGMENT_SIZES: [u16; 1 << INDEX_BITS] = [48, 536, 1_220, 1_300, 1_380, 1_440, 1_460, 8_960];

/// Low bits of the timestamp that carry options.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const SHIFT_MASK: u32 = 0xf;
/// A shift that no peer may have: there was no window scale option.
const NO_SHIFT: u32 = 0xf;
const SACK_PERMITTED: u32 = 1 << 4;
const ECN: u32 = 1 << 5;
/// RFC 7323 §2.3: larger shifts count as 14.
const LARGEST_SHIFT: u8 = 14;

/// The generator; a stack has one.
pub(super) struct SynCookies {
    secret: SecretRandom,
}

/// What a cookie, and the timestamp beside it, told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The options of the peer's SYN.
    pub(super) options: TcpOptions,
    /// Whether the SYN asked for ECN (RFC 3168 §6.1.1).
    pub(super) ecn: bool,
}

impl SynCookies {
    /// A generator with a secret of its own.
    pub(super) fn new(random: &mut SecretRandom) -> SynCookies {
        SynCookies { secret: random.split() }
    }

    /// Our initial number for the answer to a SYN.
    pub(super) fn make(&self, now: Instant, ends: Ends, syn: &TcpHeader) -> SequenceNumber {
        let peers = syn.options.maximum_segment_size.unwrap_or(536);
        let index = SEGMENT_SIZES.iter().rposition(|&size| size <= peers).unwrap_or(0);
        SequenceNumber(self.hash(period(now), ends, syn.sequence) ^ (index as u32).rotate_right(INDEX_BITS))
    }

    /// What the cookie that `header` acknowledges tells; `None` if we made none such for these ends.
    pub(super) fn check(&self, now: Instant, ends: Ends, header: &TcpHeader) -> Option<Remembered> {
        let (cookie, peers) = (header.acknowledgement - 1, header.sequence - 1);
        let present = period(now);
        let indices = [Some(present), present.checked_sub(1)].into_iter().flatten().map(|period| cookie.0 ^ self.hash(period, ends, peers));
        let size = indices.into_iter().find_map(|index| SEGMENT_SIZES.get(usize::try_from(index.rotate_left(INDEX_BITS)).ok()?))?;
        Some(recall(*size, header.options.timestamps))
    }

    fn hash(&self, period: u64, ends: Ends, peers: SequenceNumber) -> u32 {
        self.secret.keyed_hash(|mut hasher| (b"syn", period, ends, peers.0).hash(&mut hasher)) as u32
    }
}

fn period(now: Instant) -> u64 {
    now.as_millis() / PERIOD.as_millis() as u64
}

/// `timestamp`, or up to 64 ms less, such that its low bits carry the options of `syn` and whether ECN is agreed on. Never later than the clock, or
/// the next segment's timestamp would be older (RFC 7323 §5.3).
pub(super) fn timestamp_with_options(timestamp: u32, syn: &TcpOptions, ecn: bool) -> u32 {
    let shift = syn.window_scale.map_or(NO_SHIFT, |shift| shift.min(LARGEST_SHIFT).into());
    let bits = shift | if syn.sack_permitted { SACK_PERMITTED } else { 0 } | if ecn { ECN } else { 0 };
    let value = (timestamp & !OPTION_MASK) | bits;
    if SequenceNumber(value).after(SequenceNumber(timestamp)) { value.wrapping_sub(1 << OPTION_BITS) } else { value }
}

/// The peer's SYN, as far as we know it again. Without timestamps nothing carried the other options, and they were not agreed on.
fn recall(segment_size: u16, timestamps: Option<Timestamps>) -> Remembered {
    let told = timestamps.map_or(NO_SHIFT, |timestamps| timestamps.echo_reply & OPTION_MASK);
    let shift = told & SHIFT_MASK;
    let options = TcpOptions {
        maximum_segment_size: Some(segment_size),
        window_scale: (shift != NO_SHIFT).then_some(shift as u8),
        sack_permitted: told & SACK_PERMITTED != 0,
        timestamps,
        ..TcpOptions::default()
    };
    Remembered { options, ecn: told & ECN != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TcpFlags;
    use proptest::prelude::*;

    fn cookies() -> SynCookies {
        SynCookies::new(&mut SecretRandom::from_seed(1))
    }

    fn ends(port: u16) -> Ends {
        Ends { local: "192.0.2.1:80".parse().unwrap(), remote: ([192, 0, 2, 9], port).into() }
    }

    fn syn(sequence: u32, options: TcpOptions) -> TcpHeader {
        TcpHeader { sequence: SequenceNumber(sequence), flags: TcpFlags::SYN, options, ..TcpHeader::default() }
    }

    fn answer(cookie: SequenceNumber, syn: &TcpHeader, echo: Option<u32>) -> TcpHeader {
        let timestamps = echo.map(|echo_reply| Timestamps { value: 7, echo_reply });
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        TcpHeader { sequence: syn.sequence + 1, acknowledgement: cookie + 1, flags: TcpFlags::ACK, options, ..TcpHeader::default() }
    }

    #[test]
    fn the_segment_size_comes_back_rounded_down() {
        for (told, remembered) in [(0, 48), (47, 48), (536, 536), (1_459, 1_440), (1_460, 1_460), (9_000, 8_960), (65_495, 8_960)] {
            let syn = syn(u32::MAX, TcpOptions { maximum_segment_size: Some(told), ..TcpOptions::default() });
            let cookie = cookies().make(Instant::ZERO, ends(5), &syn);
            let found = cookies().check(Instant::ZERO, ends(5), &answer(cookie, &syn, None)).unwrap();
            let expected = TcpOptions { maximum_segment_size: Some(remembered), ..TcpOptions::default() };
            assert_eq!(found, Remembered { options: expected, ecn: false });
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_ends_its_number_and_two_periods() {
        let (cookies, syn, made) = (cookies(), syn(500, TcpOptions::default()), Instant::from_secs(64));
        let good = answer(cookies.make(made, ends(5), &syn), &syn, None);
        let is_good = |secs, ends, header: &TcpHeader| cookies.check(Instant::from_secs(secs), ends, header).is_some();
        assert!(is_good(64, ends(5), &good) && is_good(191, ends(5), &good));
        assert!(!is_good(192, ends(5), &good) && !is_good(63, ends(5), &good));
        assert!(!is_good(64, ends(6), &good));
        assert!(!is_good(64, ends(5), &TcpHeader { sequence: SequenceNumber(502), ..good }));
        for more in 1..=9 {
            assert!(!is_good(64, ends(5), &TcpHeader { acknowledgement: good.acknowledgement + more, ..good }), "{more} more");
        }
    }

    #[test]
    fn guessing_is_in_vain() {
        let (cookies, syn) = (cookies(), syn(500, TcpOptions::default()));
        let hits = (0..100_000).filter(|guess: &u32| {
            let guess = SequenceNumber(guess.wrapping_mul(0x9e37_79b9));
            cookies.check(Instant::from_secs(64), ends(5), &answer(guess, &syn, None)).is_some()
        });
        assert_eq!(hits.count(), 0);
    }

    proptest! {
        #![proptest_config(crate::wire::testing::config())]

        #[test]
        fn options_come_back_and_the_timestamp_is_not_of_the_future(
            timestamp: u32, shift in proptest::option::of(0..=20_u8), sack: bool, ecn: bool,
        ) {
            let options = TcpOptions { window_scale: shift, sack_permitted: sack, ..TcpOptions::default() };
            let value = timestamp_with_options(timestamp, &options, ecn);
            prop_assert!(timestamp.wrapping_sub(value) < 64);
            let Remembered { options, ecn: again } = recall(1_460, Some(Timestamps { value: 1, echo_reply: value }));
            prop_assert_eq!(options.window_scale, shift.map(|shift| shift.min(14)));
            prop_assert_eq!((options.sack_permitted, again), (sack, ecn));
        }
    }
}
