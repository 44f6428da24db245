//! The dirty list: which sockets have marks for the transport layer to look at.
//!
//! Bounded by the number of sockets, for each is on it at most once. Pushing never waits: it moves a pointer under a short lock and kicks the transport
//! layer. After the transport layer's end, whoever still sets a mark finds its socket failed.

use super::inbox::Entry;
use crate::layer::Notify;
use crate::transport::Message;
use crate::transport::shared::{Failure, MarkQueue, Phase, Readiness, Socket};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The list, as programs' threads and packets' guards see it.
pub(crate) struct DirtyList {
    transport: Entry<Message>,
    state: Mutex<State>,
    /// Whether there is something on the list: it changes under the lock, and says where there is nothing to lock for.
    is_marked: AtomicBool,
}

#[derive(Default)]
struct State {
    sockets: Vec<Socket>,
    closed: Option<Failure>,
}

/// The list, as the transport thread reads it.
pub(crate) struct DirtyReader {
    list: Arc<DirtyList>,
    taken: VecDeque<Socket>,
    spare: Vec<Socket>,
}

impl DirtyList {
    /// An empty list that kicks the transport layer through `transport`.
    pub(crate) fn new(transport: Entry<Message>) -> Arc<DirtyList> {
        Arc::new(DirtyList { transport, state: Mutex::default(), is_marked: AtomicBool::new(false) })
    }

    /// The transport layer is no more: whoever is on the list, or would come, fails.
    pub(crate) fn close(&self, failure: Failure) {
        let mut state = self.state.lock();
        state.closed = Some(failure);
        let left = std::mem::take(&mut state.sockets);
        drop(state);
        left.iter().for_each(|socket| fail(socket, failure));
    }
}

impl MarkQueue for DirtyList {
    fn push(&self, socket: Socket) {
        let mut state = self.state.lock();
        if let Some(failure) = state.closed {
            drop(state);
            return fail(&socket, failure);
        }
        state.sockets.push(socket);
        self.is_marked.store(true, Ordering::Release);
        let first = state.sockets.len() == 1;
        drop(state);
        if first {
            self.transport.kick();
        }
    }
}

impl DirtyReader {
    /// Reads `list`.
    pub(crate) fn new(list: Arc<DirtyList>) -> DirtyReader {
        DirtyReader { list, taken: VecDeque::new(), spare: Vec::new() }
    }

    /// The next socket of those taken over by [`DirtyReader::refill`].
    pub(crate) fn next(&mut self) -> Option<Socket> {
        self.taken.pop_front()
    }

    /// Takes over what is on the list, behind what was taken before and not read yet. Each time: the kick that told of it has been opened, and another one
    /// comes only for an empty list.
    pub(crate) fn refill(&mut self) {
        if !self.list.is_marked.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.list.state.lock();
        self.list.is_marked.store(false, Ordering::Relaxed);
        std::mem::swap(&mut self.spare, &mut state.sockets);
        drop(state);
        self.taken.extend(self.spare.drain(..));
    }

    /// Fails whoever was taken and not read.
    pub(crate) fn fail_rest(&mut self, failure: Failure) {
        self.taken.drain(..).for_each(|socket| fail(&socket, failure));
    }

    /// Whether sockets are left of those taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

/// Fails a socket for which there is no transport layer any more, and wakes whoever waits for it.
fn fail(socket: &Socket, failure: Failure) {
    match socket {
        Socket::Tcp(shared) => {
            let mut state = shared.state.lock();
            if state.phase != Phase::Closed {
                state.failure = Some(failure);
            }
            state.phase = Phase::Closed;
            state.to_send.clear();
            drop(state);
            tell(&**shared, shared.wakeup.raise(Readiness::STATE));
        }
        Socket::Listener(shared) => {
            shared.state.lock().failure = Some(failure);
            tell(&**shared, shared.wakeup.raise(Readiness::STATE));
        }
        Socket::Datagram(shared) => {
            let mut state = shared.state.lock();
            state.failure = Some(failure);
            state.to_send.clear();
            drop(state);
            tell(&**shared, shared.wakeup.raise(Readiness::STATE));
        }
        Socket::DeviceRoom => {}
    }
}

fn tell(socket: &dyn Notify, first: bool) {
    if first {
        socket.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::inbox::{Arrival, inbox};

    /// A batch may end before all sockets taken are read. What is marked meanwhile must not be left on the list, for its kick is gone.
    #[test]
    fn what_is_marked_while_some_are_unread_is_taken_over_or_kicks() {
        let (entry, inbox) = inbox::<Message>(1, 1);
        let list = DirtyList::new(entry);
        let mut reader = DirtyReader::new(list.clone());
        let push = |count| (0..count).for_each(|_| list.push(Socket::DeviceRoom));
        push(3);
        reader.refill();
        assert!(reader.next().is_some());
        push(2);
        while !matches!(inbox.look(), Arrival::Nothing) {}
        reader.refill();
        assert_eq!(std::iter::from_fn(|| reader.next()).count(), 4);
        assert!(reader.is_empty() && matches!(inbox.look(), Arrival::Nothing));
        push(1);
        assert!(matches!(inbox.look(), Arrival::Kick));
    }
}
