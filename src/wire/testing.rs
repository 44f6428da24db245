//! What the property tests of this folder share.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed};

use crate::wire::Malformed;

/// Few enough cases that the folder's tests take seconds in a debug build; a fixed seed, so that a run repeats.
pub(crate) fn config() -> Config {
    Config { cases: 1000, failure_persistence: None, rng_seed: RngSeed::Fixed(0x0048_6f70_6c69_6e65), ..Config::default() }
}

/// Any bytes at all, up to `longest`.
pub(crate) fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=longest)
}

/// One thing to do to a valid packet before it is parsed again.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Truncate(Index),
    Replace(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
}

/// A handful of mutations.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        any::<Index>().prop_map(Mutation::Truncate),
        (any::<Index>(), prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()]).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
    ];
    vec(one, 1..6)
}

/// `bytes` after all of `mutations`.
pub(crate) fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        match mutation {
            Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
    }
    bytes
}

/// Asserts that a packet cut anywhere, by however little, does not parse.
#[track_caller]
pub(crate) fn assert_cuts_refused<T>(packet: &[u8], parse: impl Fn(&[u8]) -> Result<T, Malformed>) {
    for length in 0..packet.len() {
        assert!(parse(&packet[..length]).is_err(), "the first {length} of {packet:02x?} parse");
    }
}
