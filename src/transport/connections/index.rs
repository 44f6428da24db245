//! Which connection is between two ends, and which ones lead to one far address.
//!
//! Owns keys alone: a few bytes for each connection, since most connections are idle and there may be a hundred thousand of them. The ends
//! themselves are the connections', so whoever asks says how to look them up. Every question and every change costs the same however many
//! connections there are.

use crate::transport::demux::{Ends, KeyedHash, KeyedMap};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// No connection.
const NONE: u32 = u32::MAX;

/// The index. Keys are those of the table of connections, far below 2³².
pub(super) struct Index {
    hash: KeyedHash,
    by_ends: HashTable<u32>,
    /// The first one of each far address; the others follow by their links.
    first: KeyedMap<IpAddr, u32>,
    /// By key.
    links: Vec<Link>,
}

/// Neighbours among the connections to one far address.
#[derive(Copy, Clone)]
struct Link {
    previous: u32,
    next: u32,
}

impl Index {
    pub(super) fn new(hash: KeyedHash) -> Index {
        Index { first: HashMap::with_hasher(hash.clone()), hash, by_ends: HashTable::new(), links: Vec::new() }
    }

    /// The connection between `ends`; `ends_of` says between which ends a key's connection is.
    pub(super) fn find(&self, ends: &Ends, ends_of: impl Fn(usize) -> Option<Ends>) -> Option<usize> {
        let found = self.by_ends.find(self.hash.hash_one(ends), |&key| ends_of(key as usize).as_ref() == Some(ends));
        found.map(|&key| key as usize)
    }

    /// Enters a connection whose ends no other has.
    pub(super) fn insert(&mut self, ends: &Ends, key: usize, ends_of: impl Fn(usize) -> Option<Ends>) {
        let Ok(short) = u32::try_from(key) else { return };
        let hash = &self.hash;
        self.by_ends.insert_unique(hash.hash_one(ends), short, |&key| ends_of(key as usize).map_or(0, |ends| hash.hash_one(ends)));
        let next = self.first.insert(ends.remote.ip(), short).unwrap_or(NONE);
        if self.links.len() <= key {
            self.links.resize(key + 1, Link { previous: NONE, next: NONE });
        }
        self.put(short, Link { previous: NONE, next });
        self.change(next, |link| link.previous = short);
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, ends: &Ends, key: usize) {
        let Ok(entry) = self.by_ends.find_entry(self.hash.hash_one(ends), |&other| other as usize == key) else { return };
        entry.remove();
        let Some(&Link { previous, next }) = self.links.get(key) else { return };
        self.change(next, |link| link.previous = previous);
        match (previous, next) {
            (NONE, NONE) => drop(self.first.remove(&ends.remote.ip())),
            (NONE, _) => drop(self.first.insert(ends.remote.ip(), next)),
            _ => self.change(previous, |link| link.next = next),
        }
    }

    /// The connections to `remote`.
    pub(super) fn to(&self, remote: IpAddr) -> impl Iterator<Item = usize> + '_ {
        let first = self.first.get(&remote).map(|&key| key as usize);
        std::iter::successors(first, |&key| {
            self.links.get(key).map(|link| link.next).filter(|&next| next != NONE).map(|next| next as usize)
        })
    }

    fn put(&mut self, key: u32, link: Link) {
        self.change(key, |place| *place = link);
    }

    fn change(&mut self, key: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(key as usize) {
            change(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecretRandom;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ends(number: u16) -> Ends {
        let remote = [192, 0, 2, (number % 3) as u8];
        Ends { local: ([192, 0, 2, 9], 80).into(), remote: (remote, number).into() }
    }

    proptest! {
        #[test]
        fn it_says_what_a_plain_map_says(steps in proptest::collection::vec((0_u16..40, any::<bool>()), 1..200)) {
            let mut index = Index::new(KeyedHash::new(&mut SecretRandom::from_seed(1)));
            let mut model: BTreeMap<u16, usize> = BTreeMap::new();
            for (number, adds) in steps {
                let key = usize::from(number) * 7 % 41;
                let is_there = model.contains_key(&number);
                let ends_of = |key: usize| (0..40).find(|&number| usize::from(number) * 7 % 41 == key).map(ends);
                if adds && !is_there {
                    index.insert(&ends(number), key, ends_of);
                    model.insert(number, key);
                } else if !adds {
                    index.remove(&ends(number), key);
                    model.remove(&number);
                }
                for number in 0..40 {
                    prop_assert_eq!(index.find(&ends(number), ends_of), model.get(&number).copied());
                }
                for last in 0..3 {
                    let mut found: Vec<_> = index.to([192, 0, 2, last].into()).collect();
                    found.sort_unstable();
                    let mut expected: Vec<_> =
                        model.iter().filter(|(number, _)| *number % 3 == u16::from(last)).map(|(_, &key)| key).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
