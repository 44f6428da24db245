//! A connection's place in the table: awake, or at rest.
//!
//! Owns the way between the two. Refuses to know when: [`rest`](super::rest) does.

use crate::config::TcpConfig;
use crate::time::Instant;
use crate::transport::demux::Ends;
use crate::transport::shared::TcpShared;
use crate::transport::tcp::{Connection, Deadlines, Resting, State};
use crate::transport::timers::Armed;
use std::sync::Arc;

/// What is known of one connection.
pub(super) struct Entry {
    body: Body,
    pub(super) armed: Armed,
    pub(super) relaxed_armed: Armed,
    /// When it was put on the list of those that may come to rest; `None` if it is not on it.
    pub(super) listed_at: Option<Instant>,
    pub(super) origin: Origin,
    /// Visited since it was put on that list.
    pub(super) is_lively: bool,
    pub(super) is_touched: bool,
    pub(super) is_waiting: bool,
    pub(super) is_orphan: bool,
}

enum Body {
    Awake(Box<Connection>),
    Resting(Box<Resting>),
    /// Only while it changes from one to the other.
    Changing,
}

/// Whose a connection is until its handshake is complete.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its own, or the program's.
    Settled,
    /// The listener's at this place, which it is for.
    For(u32),
    /// The listener's at this place, which handed it over early.
    EarlyFor(u32),
}

impl Origin {
    /// The listener that the connection is for.
    pub(super) fn listener(self) -> Option<usize> {
        if let Origin::For(listener) = self { Some(listener as usize) } else { None }
    }
}

impl Entry {
    pub(super) fn new(connection: Connection, listener: Option<usize>) -> Entry {
        let listener = listener.and_then(|listener| u32::try_from(listener).ok());
        Entry {
            body: Body::Awake(Box::new(connection)),
            armed: Armed::default(),
            relaxed_armed: Armed::default(),
            listed_at: None,
            origin: listener.map_or(Origin::Settled, Origin::For),
            is_lively: true,
            is_touched: false,
            is_waiting: false,
            is_orphan: false,
        }
    }

    /// The connection, if it is awake.
    pub(super) fn connection(&self) -> Option<&Connection> {
        if let Body::Awake(connection) = &self.body { Some(connection) } else { None }
    }

    /// The connection, awake from now on.
    pub(super) fn wake(&mut self, config: &TcpConfig) -> Option<&mut Connection> {
        if matches!(self.body, Body::Resting(_))
            && let Body::Resting(resting) = std::mem::replace(&mut self.body, Body::Changing)
        {
            self.body = Body::Awake(Box::new(resting.wake(config)));
        }
        if let Body::Awake(connection) = &mut self.body { Some(connection) } else { None }
    }

    /// Lays the connection to rest, if nothing keeps it awake.
    pub(super) fn rest(&mut self) {
        let body = std::mem::replace(&mut self.body, Body::Changing);
        self.body = match body {
            Body::Awake(connection) => connection.rest().map_or_else(Body::Awake, |resting| Body::Resting(Box::new(resting))),
            other => other,
        };
    }

    pub(super) fn ends(&self) -> Option<Ends> {
        match &self.body {
            Body::Awake(connection) => Some(Ends { local: connection.local(), remote: connection.remote() }),
            Body::Resting(resting) => Some(Ends { local: resting.local(), remote: resting.remote() }),
            Body::Changing => None,
        }
    }

    pub(super) fn shared(&self) -> Option<&Arc<TcpShared>> {
        match &self.body {
            Body::Awake(connection) => Some(connection.shared()),
            Body::Resting(resting) => Some(resting.shared()),
            Body::Changing => None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.connection().map_or(State::Established, Connection::state)
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        match &self.body {
            Body::Awake(connection) => connection.deadlines(),
            Body::Resting(resting) => Deadlines { exact: resting.deadline(), relaxed: None },
            Body::Changing => Deadlines::default(),
        }
    }
}
