//! The inbox of a layer: one bounded channel, and who sees to it that somebody takes what is in it.
//!
//! Owns channels and the shares of their places. Refuses to wait: what finds no room comes back to whoever sent it. Read `handoff.rs` first: what a
//! [ring](Entry::ring) does is where the hand-offs differ.
//!
//! An inbox has places for what is lent (counted where it entered), for what the stack itself makes, and one for a kick, so that each of them
//! always finds its own. State is no message: it lies beside the channel, overwritten by what is newer, and a kick makes it seen.

use super::bell::Bell;
use super::handoff::{Attendant, BULK_BYTES};
use super::messages::{Message, Share};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use parking_lot::Mutex;
use std::mem::discriminant;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The sending side of an inbox, for any number of threads.
pub(crate) struct Entry<M> {
    sender: Sender<Envelope<M>>,
    shared: Arc<Shared<M>>,
}

/// The receiving side: the layer's own thread has it.
pub(crate) struct Inbox<M> {
    receiver: Receiver<Envelope<M>>,
    shared: Arc<Shared<M>>,
}

/// What is in a channel.
enum Envelope<M> {
    Lent(M),
    Own(M),
    Kick,
}

struct Shared<M> {
    lent: Places,
    own: Places,
    /// Whether a kick is in the channel.
    kicked: AtomicBool,
    state: Mutex<Vec<M>>,
    state_changed: AtomicBool,
    /// Wakes the layer's own thread.
    bell: Bell,
    /// Who serves the layer when there is something, if that is not its own thread alone.
    attendant: OnceLock<Arc<dyn Attendant>>,
}

/// Places of one kind.
struct Places {
    used: AtomicUsize,
    limit: usize,
}

/// A message that was not taken.
#[derive(Debug)]
pub(crate) struct Refused<M> {
    /// The message.
    pub(crate) message: M,
    /// Why.
    pub(crate) cause: Refusal,
}

/// Why an inbox takes no message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The share of the stack's own packets is used up.
    OwnShareFull,
    /// There was no room for something that had been counted: must not happen.
    Overflow,
    /// The layer's thread has ended.
    Closed,
}

/// What a look into an inbox brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<M> {
    /// A message.
    Message(M),
    /// A kick: there is something to see elsewhere.
    Kick,
    /// Nothing (yet).
    Nothing,
}

/// An inbox with places for `lent` counted packets and `own` of the stack's own.
pub(crate) fn inbox<M: Message>(lent: usize, own: usize) -> (Entry<M>, Inbox<M>) {
    let (sender, receiver) = crossbeam_channel::bounded(lent + own + 1);
    let shared = Arc::new(Shared {
        lent: Places::new(lent),
        own: Places::new(own),
        kicked: AtomicBool::new(false),
        state: Mutex::default(),
        state_changed: AtomicBool::new(false),
        bell: Bell::default(),
        attendant: OnceLock::new(),
    });
    (Entry { sender, shared: shared.clone() }, Inbox { receiver, shared })
}

impl<M: Message> Entry<M> {
    /// Puts a message in and sees to it that it is taken. Never waits.
    pub(crate) fn send(&self, message: M) -> Result<(), Refused<M>> {
        self.push(message)?;
        self.ring();
        Ok(())
    }

    /// Puts a message in; [`Entry::ring`] has to follow. Never waits.
    pub(crate) fn push(&self, message: M) -> Result<(), Refused<M>> {
        match message.share() {
            Share::Lent if self.shared.lent.take() => self.put(Envelope::Lent(message)),
            Share::Own if self.shared.own.take() => self.put(Envelope::Own(message)),
            Share::Lent => Err(Refused { message, cause: Refusal::Overflow }),
            Share::Own => Err(Refused { message, cause: Refusal::OwnShareFull }),
            Share::State => {
                self.post(message);
                Ok(())
            }
        }
    }

    /// Sees to it that what was pushed is taken, once for all of it: wakes the layer's thread, or has the layer served by the caller. Call it with no lock of
    /// a socket held.
    pub(crate) fn ring(&self) {
        match self.shared.attendant.get() {
            Some(attendant) => attendant.attend(),
            None => self.shared.bell.ring(),
        }
    }

    /// As [`Entry::ring`], for so many bytes: bulk is left to the layer's own thread.
    pub(crate) fn ring_for(&self, bytes: usize) {
        if bytes < BULK_BYTES { self.ring() } else { self.call() }
    }

    /// From now on, [`Entry::ring`] asks `attendant`. Once.
    pub(crate) fn set_attendant(&self, attendant: Arc<dyn Attendant>) {
        let first = self.shared.attendant.set(attendant).is_ok();
        debug_assert!(first, "a layer has one attendant");
    }

    /// Wakes the layer's own thread, whoever serves the layer otherwise.
    pub(crate) fn call(&self) {
        self.shared.bell.call();
    }

    /// Makes the layer's own thread look around.
    pub(crate) fn summon(&self) {
        self.put_kick();
        self.call();
    }

    /// The bell of the layer's own thread.
    pub(crate) fn bell(&self) -> &Bell {
        &self.shared.bell
    }

    /// Whether nothing is in the channel.
    pub(crate) fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }

    fn put(&self, envelope: Envelope<M>) -> Result<(), Refused<M>> {
        let (envelope, cause) = match self.sender.try_send(envelope) {
            Ok(()) => return Ok(()),
            Err(crossbeam_channel::TrySendError::Full(envelope)) => (envelope, Refusal::Overflow),
            Err(crossbeam_channel::TrySendError::Disconnected(envelope)) => (envelope, Refusal::Closed),
        };
        self.shared.free(&envelope);
        match envelope {
            Envelope::Lent(message) | Envelope::Own(message) => Err(Refused { message, cause }),
            Envelope::Kick => Ok(()),
        }
    }

    /// Leaves state to be seen: it replaces an older message of its kind that was not seen yet.
    pub(crate) fn post(&self, message: M) {
        let mut state = self.shared.state.lock();
        match state.iter_mut().find(|old| discriminant(*old) == discriminant(&message)) {
            Some(old) => *old = message,
            None => state.push(message),
        }
        self.shared.state_changed.store(true, Ordering::SeqCst);
        drop(state);
        self.kick();
    }

    /// Makes whoever serves the layer look around. At most one kick is in the channel, and it has a place of its own.
    pub(crate) fn kick(&self) {
        if self.put_kick() {
            self.ring();
        }
    }

    /// True if there was none in the channel.
    fn put_kick(&self) -> bool {
        let first = !self.shared.kicked.swap(true, Ordering::SeqCst);
        if first {
            let _ = self.put(Envelope::Kick);
        }
        first
    }
}

impl<M> Clone for Entry<M> {
    fn clone(&self) -> Entry<M> {
        Entry { sender: self.sender.clone(), shared: self.shared.clone() }
    }
}

impl<M: Message> Inbox<M> {
    /// What is there.
    pub(crate) fn look(&self) -> Arrival<M> {
        match self.receiver.try_recv() {
            Ok(envelope) => self.open(envelope),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Arrival::Nothing,
        }
    }

    /// Waits for something, or until `deadline`. Only ever called by one thread.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Arrival<M> {
        self.shared.bell.wait(deadline, || self.receiver.try_recv().ok()).map_or(Arrival::Nothing, |envelope| self.open(envelope))
    }

    fn open(&self, envelope: Envelope<M>) -> Arrival<M> {
        self.shared.free(&envelope);
        match envelope {
            Envelope::Lent(message) | Envelope::Own(message) => Arrival::Message(message),
            Envelope::Kick => Arrival::Kick,
        }
    }

    /// Whether state waits to be seen.
    pub(crate) fn has_state(&self) -> bool {
        self.shared.state_changed.load(Ordering::SeqCst)
    }

    /// The state that was left since the last call.
    pub(crate) fn take_state(&self) -> Vec<M> {
        if !self.shared.state_changed.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.shared.state.lock())
    }

    /// Whether nothing is in the channel.
    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Messages in the channel.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }
}

impl<M> Shared<M> {
    /// Gives the envelope's place back; for a kick: the next one may come. What the kick is about was written before it, and is read after this.
    fn free(&self, envelope: &Envelope<M>) {
        match envelope {
            Envelope::Lent(_) => self.lent.give_back(),
            Envelope::Own(_) => self.own.give_back(),
            Envelope::Kick => self.kicked.store(false, Ordering::SeqCst),
        }
    }
}

impl Places {
    fn new(limit: usize) -> Places {
        Places { used: AtomicUsize::new(0), limit }
    }

    fn take(&self) -> bool {
        let fits = self.used.fetch_add(1, Ordering::AcqRel) < self.limit;
        if !fits {
            self.give_back();
        }
        fits
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    #[derive(Debug, PartialEq, Eq)]
    enum Test {
        Lent(u32),
        Own(u32),
        Link(bool),
        Other(u32),
    }

    impl Message for Test {
        fn share(&self) -> Share {
            match self {
                Test::Lent(_) => Share::Lent,
                Test::Own(_) => Share::Own,
                Test::Link(_) | Test::Other(_) => Share::State,
            }
        }

        fn into_packet(self) -> Option<Packet> {
            None
        }
    }

    #[test]
    fn each_share_has_its_own_places_and_the_kick_too() {
        let (entry, inbox) = inbox(2, 1);
        assert!(entry.send(Test::Own(1)).is_ok());
        assert_eq!(entry.send(Test::Own(2)).unwrap_err().cause, Refusal::OwnShareFull);
        assert!(entry.send(Test::Lent(3)).is_ok() && entry.send(Test::Lent(4)).is_ok());
        assert_eq!(entry.send(Test::Lent(5)).unwrap_err().cause, Refusal::Overflow);
        entry.kick();
        entry.kick();
        assert_eq!(inbox.len(), 4);
        assert_eq!(inbox.look(), Arrival::Message(Test::Own(1)));
        assert!(entry.send(Test::Own(6)).is_ok());
        assert_eq!(inbox.look(), Arrival::Message(Test::Lent(3)));
        assert_eq!(inbox.look(), Arrival::Message(Test::Lent(4)));
        assert_eq!(inbox.look(), Arrival::Kick);
        assert_eq!(inbox.look(), Arrival::Message(Test::Own(6)));
        assert_eq!(inbox.look(), Arrival::Nothing);
    }

    #[test]
    fn state_is_overwritten_by_kind_and_never_refused() {
        let (entry, inbox) = inbox(0, 0);
        for message in [Test::Link(true), Test::Other(7), Test::Link(false)] {
            assert!(entry.send(message).is_ok());
        }
        assert_eq!(inbox.look(), Arrival::Kick);
        assert_eq!(inbox.take_state(), [Test::Link(false), Test::Other(7)]);
        assert!(inbox.take_state().is_empty() && !inbox.has_state());
    }

    #[test]
    fn a_closed_inbox_gives_messages_back() {
        let (entry, inbox) = inbox(1, 1);
        drop(inbox);
        let refused = entry.send(Test::Lent(1)).unwrap_err();
        assert_eq!((refused.message, refused.cause), (Test::Lent(1), Refusal::Closed));
        entry.kick();
    }

    /// Nobody sends again before everything has arrived: a wake-up that is lost is not made good by the next one.
    #[test]
    fn no_wake_up_is_lost_in_lockstep() {
        const ROUNDS: u32 = 20_000;
        let (to_other, others) = inbox(0, 4);
        let (to_us, ours) = inbox(0, 4);
        let patience = || Some(Instant::now() + std::time::Duration::from_secs(20));
        let other = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                match others.wait(patience()) {
                    Arrival::Message(message) => to_us.send(message).unwrap(),
                    nothing => panic!("{nothing:?} instead of a message"),
                }
            }
        });
        for round in 0..ROUNDS {
            to_other.push(Test::Own(round)).unwrap();
            to_other.ring();
            assert_eq!(ours.wait(patience()), Arrival::Message(Test::Own(round)));
        }
        other.join().unwrap();
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_with_a_kick() {
        let (entry, inbox) = inbox::<Test>(1, 1);
        assert_eq!(inbox.wait(Some(Instant::now() + std::time::Duration::from_millis(1))), Arrival::Nothing);
        let kicker = std::thread::spawn(move || entry.kick());
        assert_eq!(inbox.wait(None), Arrival::Kick);
        kicker.join().unwrap();
    }
}
