//! TCP options (RFC 9293 §3.2 and the RFC of each).
//!
//! Owns: the options this stack understands, their layout, and the safe walk over everyone else's; the larger values are in
//! [`sack`](super::sack) and [`fast_open`](super::fast_open). Refuses: what they mean for a connection. Whether an option is allowed on this segment (maximum segment size, window scale and
//! SACK-permitted count on a SYN only) and where its value is clamped (a shift count above 14, RFC 7323 §2.3) is up to the
//! user.

use super::cursor::{Reader, Writer};
use super::error::{Malformed, Reason};
use super::fast_open::FastOpenCookie;
use super::sack::{SackBlock, SackBlocks};
use super::sequence::SequenceNumber;

/// The options of one segment; the default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Largest segment the sender takes, in bytes without TCP and IP headers (RFC 9293 §3.7.1).
    pub maximum_segment_size: Option<u16>,
    /// Shift count for the sender's windows, as on the wire: may be above 14 (RFC 7323 §2).
    pub window_scale: Option<u8>,
    /// The sender understands SACK (RFC 2018 §2).
    pub sack_permitted: bool,
    /// Ranges that have arrived beyond the acknowledgment number (RFC 2018 §3).
    pub sack: SackBlocks,
    /// Timestamps (RFC 7323 §3).
    pub timestamps: Option<Timestamps>,
    /// A Fast Open cookie, or with an empty one the request for it (RFC 7413 §4.1.1).
    pub fast_open: Option<FastOpenCookie>,
    /// User timeout as on the wire: granularity bit and 15 bits of value (RFC 5482 §3).
    pub user_timeout: Option<u16>,
}

/// The two numbers of the timestamps option (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's timestamp clock.
    pub value: u32,
    /// TSecr: the latest value of the other side; with ACK only.
    pub echo_reply: u32,
}

// Option kinds (IANA "TCP Option Kind Numbers").
const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const USER_TIMEOUT: u8 = 28;
const FAST_OPEN: u8 = 34;

impl TcpOptions {
    /// What the data offset leaves room for, in bytes.
    pub const MAXIMUM_LENGTH: usize = 40;
    /// What timestamps take of it, with their padding.
    pub const TIMESTAMPS_LENGTH: usize = 12;

    /// Reads the options between the fixed header and the payload.
    ///
    /// Unknown options are skipped (RFC 9293 §3.1, MUST-6); an option given twice counts as last given. A length that cannot be
    /// right is an error that names the option (MUST-7), but for Fast Open, whose bad lengths "MUST be ignored" (RFC 7413
    /// §4.1.1).
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut options = Self::default();
        let mut reader = Reader::new("TCP", bytes);
        while !reader.is_empty() {
            match reader.take_u8("option kind")? {
                END_OF_LIST => break,
                NO_OPERATION => {}
                kind => options.take(&mut reader, kind)?,
            }
        }
        Ok(options)
    }

    fn take(&mut self, reader: &mut Reader<'_>, kind: u8) -> Result<(), Malformed> {
        let name = option_name(kind);
        let length = usize::from(reader.take_u8(name)?);
        let data_length = length.checked_sub(2).ok_or_else(|| reader.malformed(name, Reason::TooSmall))?;
        let mut data = Reader::new("TCP", reader.take_slice(data_length, name)?);
        self.set(kind, &mut data)?;
        if data.is_empty() { Ok(()) } else { Err(reader.malformed(name, Reason::TooLarge)) }
    }

    /// Takes what the option needs out of `data`; what is left over then makes it malformed.
    fn set(&mut self, kind: u8, data: &mut Reader<'_>) -> Result<(), Malformed> {
        let name = option_name(kind);
        match kind {
            MAXIMUM_SEGMENT_SIZE => self.maximum_segment_size = Some(data.take_u16(name)?),
            WINDOW_SCALE => self.window_scale = Some(data.take_u8(name)?),
            SACK_PERMITTED => self.sack_permitted = true,
            SACK => self.sack = take_sack(data)?,
            TIMESTAMPS => {
                self.timestamps = Some(Timestamps { value: data.take_u32(name)?, echo_reply: data.take_u32(name)? });
            }
            USER_TIMEOUT => self.user_timeout = Some(data.take_u16(name)?),
            FAST_OPEN => self.fast_open = FastOpenCookie::new(take_all(data)).or(self.fast_open),
            _ => {
                take_all(data);
            }
        }
        Ok(())
    }

    /// Bytes that `emit` writes: a multiple of four, at most 40.
    pub fn length(&self) -> usize {
        self.lay_out(|_| {})
    }

    /// Writes the options into the first [`length`](Self::length) bytes of `out`; panics if it is shorter.
    ///
    /// Each option is padded in front with "no operation" to four bytes, as everyone does and fast paths expect.
    /// What does not fit into 40 bytes is left out, in the order in which one can do without: SACK blocks, user timeout,
    /// Fast Open.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(out);
        self.lay_out(|option| writer.put(option));
    }

    /// Hands each padded option to `put` and returns their length together.
    fn lay_out(&self, mut put: impl FnMut(&[u8])) -> usize {
        let mut used = 0;
        let mut place = |option: &[u8]| {
            if used + option.len() <= Self::MAXIMUM_LENGTH {
                put(option);
                used += option.len();
            }
            Self::MAXIMUM_LENGTH - used
        };
        if let Some(size) = self.maximum_segment_size {
            let [high, low] = size.to_be_bytes();
            place(&[MAXIMUM_SEGMENT_SIZE, 4, high, low]);
        }
        self.lay_out_sack_permitted_and_timestamps(&mut place);
        if let Some(shift) = self.window_scale {
            place(&[NO_OPERATION, WINDOW_SCALE, 3, shift]);
        }
        if let Some(cookie) = self.fast_open {
            lay_out_fast_open(cookie, &mut place);
        }
        if let Some(timeout) = self.user_timeout {
            let [high, low] = timeout.to_be_bytes();
            place(&[USER_TIMEOUT, 4, high, low]);
        }
        lay_out_sack(self.sack.as_slice(), &mut place);
        used
    }

    /// SACK-permitted takes the place of the padding before timestamps, as Linux lays out a SYN.
    fn lay_out_sack_permitted_and_timestamps(&self, place: &mut impl FnMut(&[u8]) -> usize) {
        let Some(Timestamps { value, echo_reply }) = self.timestamps else {
            if self.sack_permitted {
                place(&[NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2]);
            }
            return;
        };
        let [first, second] = if self.sack_permitted { [SACK_PERMITTED, 2] } else { [NO_OPERATION; 2] };
        let mut option = [0; Self::TIMESTAMPS_LENGTH];
        let mut writer = Writer::new(&mut option);
        writer.put(&[first, second, TIMESTAMPS, 10]);
        writer.put_u32(value);
        writer.put_u32(echo_reply);
        place(&option);
    }
}

/// A cookie has an even length, so two bytes of padding at most make it a multiple of four.
fn lay_out_fast_open(cookie: FastOpenCookie, place: &mut impl FnMut(&[u8]) -> usize) {
    let bytes = cookie.as_bytes();
    let padding = (2 + bytes.len()) % 4;
    let length = padding + 2 + bytes.len();
    let mut option = [NO_OPERATION; 2 + 2 + FastOpenCookie::MAXIMUM_LENGTH];
    let mut writer = Writer::new(&mut option[padding..length]);
    writer.put(&[FAST_OPEN, 2 + bytes.len() as u8]);
    writer.put(bytes);
    place(&option[..length]);
}

/// As many blocks as there is room for, the first ones: the most recent comes first (RFC 2018 §4).
fn lay_out_sack(blocks: &[SackBlock], place: &mut impl FnMut(&[u8]) -> usize) {
    let room = place(&[]).saturating_sub(4) / 8;
    let blocks = &blocks[..room.min(blocks.len())];
    if blocks.is_empty() {
        return;
    }
    place(&[NO_OPERATION, NO_OPERATION, SACK, 2 + 8 * blocks.len() as u8]);
    for block in blocks {
        place(&block.left.0.to_be_bytes());
        place(&block.right.0.to_be_bytes());
    }
}

/// One to four blocks of eight bytes.
fn take_sack(data: &mut Reader<'_>) -> Result<SackBlocks, Malformed> {
    let name = option_name(SACK);
    let mut blocks = SackBlocks::default();
    loop {
        let left = SequenceNumber(data.take_u32(name)?);
        let right = SequenceNumber(data.take_u32(name)?);
        if !blocks.push(SackBlock { left, right }) {
            return Err(data.malformed(name, Reason::TooLarge));
        }
        if data.is_empty() {
            return Ok(blocks);
        }
    }
}

fn take_all<'a>(data: &mut Reader<'a>) -> &'a [u8] {
    let rest = data.rest();
    *data = Reader::new("TCP", &[]);
    rest
}

const fn option_name(kind: u8) -> &'static str {
    match kind {
        MAXIMUM_SEGMENT_SIZE => "maximum segment size option",
        WINDOW_SCALE => "window scale option",
        SACK_PERMITTED => "SACK-permitted option",
        SACK => "SACK option",
        TIMESTAMPS => "timestamps option",
        USER_TIMEOUT => "user timeout option",
        FAST_OPEN => "Fast Open option",
        _ => "unknown option",
    }
}

/// Generators for property tests here and in `tcp`.
#[cfg(test)]
pub(super) mod strategies {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn any_cookie() -> impl Strategy<Value = FastOpenCookie> {
        let length = prop_oneof![Just(0_usize), (2..=8_usize).prop_map(|half| 2 * half)];
        length.prop_flat_map(|length| vec(any::<u8>(), length)).prop_map(|bytes| FastOpenCookie::new(&bytes).unwrap())
    }

    fn any_blocks() -> impl Strategy<Value = SackBlocks> {
        let block = any::<(u32, u32)>().prop_map(|(left, right)| SackBlock { left: left.into(), right: right.into() });
        vec(block, 0..=4).prop_map(SackBlocks::from_iter)
    }

    prop_compose! {
        /// All options in all combinations, whether or not they fit.
        pub(crate) fn unlimited_options()(
            (maximum_segment_size, window_scale, sack_permitted) in any::<(Option<u16>, Option<u8>, bool)>(),
            (timestamps, user_timeout) in any::<(Option<(u32, u32)>, Option<u16>)>(),
            fast_open in option::of(any_cookie()),
            sack in any_blocks(),
        ) -> TcpOptions {
            let timestamps = timestamps.map(|(value, echo_reply)| Timestamps { value, echo_reply });
            TcpOptions { maximum_segment_size, window_scale, sack_permitted, sack, timestamps, fast_open, user_timeout }
        }
    }

    prop_compose! {
        /// Combinations that fit into 40 bytes: those of a SYN without blocks, or timestamps and blocks.
        pub(crate) fn any_options()(mut options in unlimited_options(), is_syn: bool) -> TcpOptions {
            if is_syn {
                options.sack = SackBlocks::default();
                options.user_timeout = None;
            } else {
                let room = if options.timestamps.is_some() { 3 } else { 4 };
                let sack = options.sack.iter().copied().take(room).collect();
                options = TcpOptions { sack, timestamps: options.timestamps, ..TcpOptions::default() };
            }
            options
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::strategies::{any_options, unlimited_options};
    use super::*;
    use crate::wire::testing::{bytes, config};

    const STAMPS: Timestamps = Timestamps { value: 0x0102_0304, echo_reply: 0x0506_0708 };

    fn block(left: u32, right: u32) -> SackBlock {
        SackBlock { left: SequenceNumber(left), right: SequenceNumber(right) }
    }

    fn emitted(options: &TcpOptions) -> Vec<u8> {
        let mut out = vec![0xa5; options.length()];
        options.emit(&mut out);
        out
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], field: &'static str, reason: Reason) {
        assert_eq!(TcpOptions::parse(bytes), Err(Malformed::new("TCP", field, reason)));
    }

    #[test]
    fn a_syn_is_laid_out_as_linux_does() {
        let options = TcpOptions {
            maximum_segment_size: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(STAMPS),
            ..TcpOptions::default()
        };
        let expected = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7];
        assert_eq!(emitted(&options), expected);
        let options = TcpOptions { timestamps: None, ..options };
        assert_eq!(emitted(&options), [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7]);
    }

    #[test]
    fn timestamps_alone_follow_rfc_7323_appendix_a() {
        let options = TcpOptions { timestamps: Some(STAMPS), ..TcpOptions::default() };
        assert_eq!(emitted(&options), [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn only_three_blocks_fit_beside_timestamps() {
        let blocks = [block(1, 2), block(3, 4), block(5, 6), block(7, 8)];
        let options = TcpOptions { sack: blocks.into_iter().collect(), ..TcpOptions::default() };
        assert_eq!(TcpOptions::parse(&emitted(&options)).unwrap().sack.as_slice(), blocks);
        assert_eq!(options.length(), 36);
        let options = TcpOptions { timestamps: Some(STAMPS), ..options };
        assert_eq!(TcpOptions::parse(&emitted(&options)).unwrap().sack.as_slice(), &blocks[..3]);
        assert_eq!(options.length(), 40);
    }

    #[test]
    fn cookies_are_padded_in_front() {
        let fast_open = FastOpenCookie::new(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let options = TcpOptions { fast_open, ..TcpOptions::default() };
        assert_eq!(emitted(&options), [1, 1, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        let options = TcpOptions { fast_open: Some(FastOpenCookie::REQUEST), ..TcpOptions::default() };
        assert_eq!(emitted(&options), [1, 1, 34, 2]);
        let options = TcpOptions { fast_open: FastOpenCookie::new(&[9; 6]), ..TcpOptions::default() };
        assert_eq!(emitted(&options), [34, 8, 9, 9, 9, 9, 9, 9]);
    }

    #[test]
    fn cookies_of_a_bad_length_are_ignored() {
        for bytes in [&[34, 3, 1][..], &[34, 4, 1, 1], &[34, 7, 1, 2, 3, 4, 5], &[34; 34]] {
            assert_eq!(TcpOptions::parse(bytes), Ok(TcpOptions::default()), "{bytes:?}");
        }
        assert!(TcpOptions::parse(&[34, 2]).unwrap().fast_open.unwrap().is_request());
    }

    #[test]
    fn unknown_options_are_skipped_and_the_end_is_the_end() {
        let options = TcpOptions::parse(&[1, 253, 4, 0, 0, 19, 2, 3, 3, 20, 0, 2, 0, 9]).unwrap();
        assert_eq!(options, TcpOptions { window_scale: Some(20), ..TcpOptions::default() });
    }

    #[test]
    fn illegal_lengths_are_refused_by_name() {
        assert_refused(&[2, 0, 5, 0xb4], "maximum segment size option", Reason::TooSmall);
        assert_refused(&[2, 1, 5, 0xb4], "maximum segment size option", Reason::TooSmall);
        assert_refused(&[2, 3, 5], "maximum segment size option", Reason::Truncated);
        assert_refused(&[2, 5, 5, 0xb4, 0], "maximum segment size option", Reason::TooLarge);
        assert_refused(&[3, 4, 1, 1], "window scale option", Reason::TooLarge);
        assert_refused(&[4, 3, 1], "SACK-permitted option", Reason::TooLarge);
        assert_refused(&[5, 2], "SACK option", Reason::Truncated);
        assert_refused(&[5, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0], "SACK option", Reason::Truncated);
        assert_refused(&[5, 42], "SACK option", Reason::Truncated);
        assert_refused(&[8, 9, 0, 0, 0, 0, 0, 0, 0], "timestamps option", Reason::Truncated);
        assert_refused(&[28, 3, 0], "user timeout option", Reason::Truncated);
        assert_refused(&[253, 0], "unknown option", Reason::TooSmall);
        assert_refused(&[1, 253], "unknown option", Reason::Truncated);
    }

    #[test]
    fn a_fifth_block_is_refused() {
        let mut bytes = [0; 42];
        bytes[..2].copy_from_slice(&[5, 42]);
        assert_refused(&bytes, "SACK option", Reason::TooLarge);
        assert!(!SackBlocks::from_iter([block(1, 2); 4]).push(block(3, 4)));
    }

    #[test]
    fn an_option_given_twice_counts_as_last_given() {
        let options = TcpOptions::parse(&[2, 4, 0, 1, 2, 4, 0, 2]).unwrap();
        assert_eq!(options.maximum_segment_size, Some(2));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(options in any_options()) {
            prop_assert_eq!(TcpOptions::parse(&emitted(&options)), Ok(options));
        }

        #[test]
        fn too_many_options_still_make_a_legal_header(options in unlimited_options()) {
            let bytes = emitted(&options);
            prop_assert!(bytes.len() <= 40 && bytes.len().is_multiple_of(4));
            let parsed = TcpOptions::parse(&bytes).unwrap();
            let TcpOptions { maximum_segment_size, window_scale, sack_permitted, timestamps, .. } = options;
            prop_assert_eq!(parsed.maximum_segment_size, maximum_segment_size);
            prop_assert_eq!(parsed.window_scale, window_scale);
            prop_assert_eq!(parsed.sack_permitted, sack_permitted);
            prop_assert_eq!(parsed.timestamps, timestamps);
            prop_assert!(options.sack.as_slice().starts_with(parsed.sack.as_slice()));
        }

        #[test]
        fn no_input_panics(data in bytes(60)) {
            if let Ok(options) = TcpOptions::parse(&data) {
                prop_assert!(emitted(&options).len() <= 40);
            }
        }
    }
}
