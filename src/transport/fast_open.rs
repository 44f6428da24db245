//! Fast Open (RFC 7413): what a stack knows of cookies, as a server and as a client.
//!
//! Owns the server's secret and its rotation, and the client's bounded cache of cookies and of servers that want none. Refuses to know connections:
//! what a SYN carries, and what becomes of it, is [`super::tcp`]'s.

use super::demux::{KeyedHash, KeyedMap};
use crate::config::TcpConfig;
use crate::random::SecretRandom;
use crate::time::{Duration, Instant};
use crate::wire::FastOpenCookie;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

/// Makes and checks the cookies that our listeners hand out. Nothing is remembered of a client: a cookie is a keyed hash of both addresses and of the
/// period in which it was made, so that the key changes with the period (RFC 7413 §4.1.2).
pub(super) struct ServerCookies {
    secret: SecretRandom,
    lifetime: Duration,
}

/// What a client's Fast Open option is worth.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The cookie is ours: its client may send data with its SYN.
    pub(super) is_valid: bool,
    /// The cookie that the client should have: it had none, or one of the period before.
    pub(super) renewed: Option<FastOpenCookie>,
}

impl ServerCookies {
    pub(super) fn new(random: &mut SecretRandom, config: &TcpConfig) -> ServerCookies {
        ServerCookies { secret: random.split(), lifetime: config.fast_open_key_lifetime.max(Duration::from_secs(1)) }
    }

    pub(super) fn judge(&self, now: Instant, local: IpAddr, client: IpAddr, cookie: FastOpenCookie) -> Judgement {
        let period = now.as_nanos() / u64::try_from(self.lifetime.as_nanos()).unwrap_or(u64::MAX);
        let fresh = self.make(period, local, client);
        let is_fresh = fresh == Some(cookie);
        let is_old = period.checked_sub(1).is_some_and(|period| self.make(period, local, client) == Some(cookie));
        Judgement { is_valid: is_fresh || is_old, renewed: fresh.filter(|_| !is_fresh) }
    }

    fn make(&self, period: u64, local: IpAddr, client: IpAddr) -> Option<FastOpenCookie> {
        let hash = self.secret.keyed_hash(|mut hasher| (b"fast open", period, local, client).hash(&mut hasher));
        FastOpenCookie::new(&hash.to_be_bytes())
    }
}

/// What a client knows of servers (RFC 7413 §4.1.3): by our address and theirs, port included, because a server that wants none is one service.
#[derive(Debug)]
pub struct CookieCache {
    known: KeyedMap<(IpAddr, SocketAddr), Known>,
    order: VecDeque<(IpAddr, SocketAddr)>,
    limit: usize,
}

/// What is known of one server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its cookie, and the segment size that it announced.
    Cookie(FastOpenCookie, u16),
    /// It is left alone until then (RFC 7413 §4.1.3.1).
    Refused(Instant),
}

impl CookieCache {
    /// At most `limit` servers; beyond it, the one learned first goes.
    pub(super) fn new(limit: usize, hash: KeyedHash) -> CookieCache {
        CookieCache { known: HashMap::with_hasher(hash), order: VecDeque::new(), limit }
    }

    /// What is known of `remote`; a refusal that is over is not.
    pub fn get(&self, now: Instant, local: IpAddr, remote: SocketAddr) -> Option<Known> {
        self.known.get(&(local, remote)).copied().filter(|known| !matches!(known, Known::Refused(until) if *until <= now))
    }

    /// Remembers `known`; the answer says whether another server was forgotten for it.
    pub fn set(&mut self, local: IpAddr, remote: SocketAddr, known: Known) -> bool {
        if self.known.insert((local, remote), known).is_none() {
            self.order.push_back((local, remote));
        }
        let is_full = self.known.len() > self.limit;
        if is_full && let Some(oldest) = self.order.pop_front() {
            self.known.remove(&oldest);
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_cookie_is_good_for_its_client_and_two_periods() {
        let config = TcpConfig { fast_open_key_lifetime: Duration::from_secs(100), ..TcpConfig::default() };
        let server = ServerCookies::new(&mut SecretRandom::from_seed(1), &config);
        let judge = |secs, client, cookie| server.judge(Instant::from_secs(secs), ip(1), ip(client), cookie);
        let first = judge(0, 9, FastOpenCookie::REQUEST);
        let cookie = first.renewed.unwrap();
        assert!(!first.is_valid && !cookie.is_request());
        assert_eq!(judge(99, 9, cookie), Judgement { is_valid: true, renewed: None });
        let old = judge(100, 9, cookie);
        assert!(old.is_valid && old.renewed.is_some_and(|renewed| renewed != cookie), "the key has changed");
        assert!(!judge(200, 9, cookie).is_valid && !judge(99, 8, cookie).is_valid);
    }

    #[test]
    fn the_cache_is_bounded_and_refusals_end() {
        let mut cache = CookieCache::new(2, KeyedHash::new(&mut SecretRandom::from_seed(1)));
        let remote = |port| SocketAddr::new(ip(2), port);
        let cookie = Known::Cookie(FastOpenCookie::new(&[1; 8]).unwrap(), 1_460);
        let refused = Known::Refused(Instant::from_secs(10));
        assert!(!cache.set(ip(1), remote(1), cookie) && !cache.set(ip(1), remote(2), refused) && !cache.set(ip(1), remote(2), refused));
        assert_eq!(cache.get(Instant::from_secs(9), ip(1), remote(2)), Some(refused));
        assert_eq!(cache.get(Instant::from_secs(10), ip(1), remote(2)), None);
        assert_eq!(cache.get(Instant::ZERO, ip(7), remote(1)), None, "cookies are for both addresses");
        assert!(cache.set(ip(1), remote(3), cookie));
        assert_eq!((cache.get(Instant::ZERO, ip(1), remote(1)), cache.known.len(), cache.order.len()), (None, 2, 2));
    }
}
