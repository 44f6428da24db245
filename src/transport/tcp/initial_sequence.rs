//! Initial sequence numbers (RFC 6528) that nobody off the path can guess, and that grow with time for one pair of ends.

use crate::random::SecretRandom;
use crate::time::Instant;
use crate::wire::SequenceNumber;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

/// The generator; a stack has one.
pub struct InitialSequence {
    secret: SecretRandom,
}

impl InitialSequence {
    /// A generator with a secret of its own.
    pub fn new(random: &mut SecretRandom) -> InitialSequence {
        InitialSequence { secret: random.split() }
    }

    /// `ISN = M + F(localip, localport, remoteip, remoteport, secretkey)`, where M counts 4 µs (RFC 6528 §3, RFC 9293 §3.4.1).
    pub fn next(&self, now: Instant, local: SocketAddr, remote: SocketAddr) -> SequenceNumber {
        let hash = self.secret.keyed_hash(|hasher| {
            feed(hasher, local.ip());
            hasher.write_u16(local.port());
            feed(hasher, remote.ip());
            hasher.write_u16(remote.port());
        });
        let ticks = now.as_micros() / 4;
        SequenceNumber((hash as u32).wrapping_add(ticks as u32))
    }
}

/// Where the timestamp clock of connections between two hosts starts (RFC 7323 §5.4: per-connection offsets). It depends on the addresses alone, so
/// that a later connection on the same ports still has later timestamps, which RFC 6191 needs.
pub(super) fn timestamp_offset(random: &SecretRandom, local: IpAddr, remote: IpAddr) -> u32 {
    random.keyed_hash(|hasher| {
        hasher.write(b"timestamps");
        feed(hasher, local);
        feed(hasher, remote);
    }) as u32
}

fn feed(hasher: &mut dyn Hasher, address: IpAddr) {
    match address {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_every_4_microseconds_and_differ_between_ends() {
        let isn = InitialSequence::new(&mut SecretRandom::from_seed(1));
        let (local, remote) = ("192.0.2.1:80".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
        let first = isn.next(Instant::from_micros(0), local, remote);
        assert_eq!(isn.next(Instant::from_micros(4), local, remote), first + 1);
        assert_ne!(isn.next(Instant::from_micros(0), remote, local), first);
        let other = InitialSequence::new(&mut SecretRandom::from_seed(2));
        assert_ne!(other.next(Instant::from_micros(0), local, remote), first);
    }
}
