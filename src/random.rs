//! Injected randomness, of two kinds that must not be confused.
//!
//! [`SecretRandom`] is for what an attacker must not guess: initial sequence numbers, ports, DNS identifiers, hash keys.
//! [`PublicRandom`] is for what may be guessed: jitter, impairments of a simulated link. Both are seeded by tests, so that every run can
//! be repeated; only [`SecretRandom::from_os`] asks the operating system, and it is called where a stack is started, never by a layer.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::io;

/// A keyed pseudo-random function (SipHash-2-4): a generator in counter mode, and a keyed hash.
#[derive(Clone)]
pub struct SecretRandom {
    hasher: SipHasher24,
    counter: u64,
}

impl SecretRandom {
    /// A generator keyed by the operating system's randomness.
    pub fn from_os() -> io::Result<SecretRandom> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(SecretRandom::from_key(&key))
    }

    /// A repeatable generator, for tests and simulations.
    pub fn from_seed(seed: u64) -> SecretRandom {
        let mut key = [0; 16];
        let (low, high) = key.split_at_mut(8);
        low.copy_from_slice(&seed.to_le_bytes());
        high.copy_from_slice(&(!seed).to_le_bytes());
        SecretRandom::from_key(&key)
    }

    fn from_key(key: &[u8; 16]) -> SecretRandom {
        SecretRandom { hasher: SipHasher24::new_with_key(key), counter: 0 }
    }

    /// An independent generator for another owner.
    pub fn split(&mut self) -> SecretRandom {
        let mut key = [0; 16];
        let (low, high) = key.split_at_mut(8);
        low.copy_from_slice(&self.next_u64().to_le_bytes());
        high.copy_from_slice(&self.next_u64().to_le_bytes());
        SecretRandom::from_key(&key)
    }

    /// 64 unpredictable bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = self.hasher;
        hasher.write_u8(b'c');
        hasher.write_u64(self.counter);
        hasher.finish()
    }

    /// 32 unpredictable bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// 16 unpredictable bits.
    pub fn next_u16(&mut self) -> u16 {
        (self.next_u64() >> 48) as u16
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        scale(self.next_u32(), bound)
    }

    /// The keyed hash of `feed`'s input: the same input gives the same 64 bits, which nobody without the key can tell.
    pub fn keyed_hash(&self, feed: impl FnOnce(&mut dyn Hasher)) -> u64 {
        let mut hasher = self.hasher;
        hasher.write_u8(b'h');
        feed(&mut hasher);
        hasher.finish()
    }
}

/// A small fast generator (SplitMix64) whose output may be guessed.
#[derive(Clone, Debug)]
pub struct PublicRandom(u64);

impl PublicRandom {
    /// A repeatable generator.
    pub fn from_seed(seed: u64) -> PublicRandom {
        PublicRandom(seed)
    }

    /// 64 well-mixed bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        scale((self.next_u64() >> 32) as u32, bound)
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with the given probability (0.0 never, 1.0 always).
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

fn scale(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_repeat_and_differ() {
        let draw = |seed| (0..4).map(|_| SecretRandom::from_seed(seed).next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(PublicRandom::from_seed(1).next_u64(), PublicRandom::from_seed(2).next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = PublicRandom::from_seed(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn split_generators_do_not_repeat_their_parent() {
        let mut parent = SecretRandom::from_seed(3);
        let mut child = parent.split();
        assert_ne!(parent.next_u64(), child.next_u64());
    }

    #[test]
    fn keyed_hash_depends_on_key_and_input() {
        let hash = |seed, input: &[u8]| SecretRandom::from_seed(seed).keyed_hash(|h| h.write(input));
        assert_eq!(hash(1, b"a"), hash(1, b"a"));
        assert_ne!(hash(1, b"a"), hash(2, b"a"));
        assert_ne!(hash(1, b"a"), hash(1, b"b"));
    }
}
