//! The eleven states of a connection, and which may follow which.
//!
//! Owns the diagram. Refuses to change a state: [`Connection::enter`](super::Connection) does, in one place, and asks here.

/// The states of RFC 9293 §3.3.2.
///
/// ```text
///                              +---------+ ---------\      active OPEN
///                              |  CLOSED |            \    -----------
///                              +---------+<---------\   \   create TCB
///                                |     ^              \   \  snd SYN
///                   passive OPEN |     |   CLOSE        \   \
///                   ------------ |     | ----------       \   \
///                    create TCB  |     | delete TCB         \   \
///                                V     |                      \   \
///            rcv RST (note 1)  +---------+            CLOSE    |    \
///         -------------------->|  LISTEN |          ---------- |     |
///        /                     +---------+          delete TCB |     |
///       /           rcv SYN      |     |     SEND              |     |
///      /           -----------   |     |    -------            |     V
/// +--------+      snd SYN,ACK  /       \   snd SYN          +--------+
/// |        |<-----------------           ------------------>|        |
/// |  SYN   |                    rcv SYN                     |  SYN   |
/// |  RCVD  |<-----------------------------------------------|  SENT  |
/// |        |                  snd SYN,ACK                   |        |
/// |        |------------------           -------------------|        |
/// +--------+   rcv ACK of SYN  \       /  rcv SYN,ACK       +--------+
///    |         --------------   |     |   -----------
///    |                x         |     |     snd ACK
///    |                          V     V
///    |  CLOSE                 +---------+
///    | -------                |  ESTAB  |
///    | snd FIN                +---------+
///    |                 CLOSE    |     |    rcv FIN
///    V                -------   |     |    -------
/// +---------+         snd FIN  /       \   snd ACK         +---------+
/// |  FIN    |<----------------          ------------------>|  CLOSE  |
/// | WAIT-1  |------------------                            |   WAIT  |
/// +---------+          rcv FIN  \                          +---------+
///   | rcv ACK of FIN   -------   |                          CLOSE  |
///   | --------------   snd ACK   |                         ------- |
///   V        x                   V                         snd FIN V
/// +---------+               +---------+                    +---------+
/// |FINWAIT-2|               | CLOSING |                    | LAST-ACK|
/// +---------+               +---------+                    +---------+
///   |              rcv ACK of FIN |                 rcv ACK of FIN |
///   |  rcv FIN     -------------- |    Timeout=2MSL -------------- |
///   |  -------            x       V    ------------        x       V
///    \ snd ACK              +---------+delete TCB          +---------+
///      -------------------->|TIME-WAIT|------------------->| CLOSED  |
///                           +---------+                    +---------+
/// ```
///
/// LISTEN belongs to listeners, which are not connections here: a passive connection begins in SYN-RECEIVED. CLOSE leaves
/// the state when the FIN itself is sent, behind the last byte (RFC 9293 §3.10.4 says "in any case, enter FIN-WAIT-1"; on the wire it is the same).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No connection.
    Closed,
    /// Waiting for a SYN.
    Listen,
    /// SYN sent, none received.
    SynSent,
    /// SYN sent and received, ours not acknowledged.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// Our FIN is sent, not acknowledged; the peer may still send.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer's FIN is here; we may still send.
    CloseWait,
    /// Both FINs are sent, ours not acknowledged.
    Closing,
    /// The peer's FIN came first, ours is sent.
    LastAck,
    /// All is over; old segments die out.
    TimeWait,
}

impl State {
    /// Every state.
    pub const ALL: [State; 11] = [
        State::Closed,
        State::Listen,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ];

    /// The RFC's name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }

    /// Whether the diagram has an arrow from here to `next`. Every state may end in CLOSED: RST, abort and timeouts lead there.
    pub const fn may_become(self, next: State) -> bool {
        use State::*;
        match (self, next) {
            (Closed, Listen | SynSent | SynReceived) | (Listen, SynSent | SynReceived) => true,
            (SynSent, SynReceived | Established) => true,
            (SynReceived, Established | FinWait1 | CloseWait) => true,
            (Established, FinWait1 | CloseWait) => true,
            (FinWait1, FinWait2 | Closing | TimeWait) => true,
            (FinWait2 | Closing, TimeWait) => true,
            (CloseWait, LastAck) => true,
            (Closed, Closed) => false,
            (_, Closed) => true,
            _ => false,
        }
    }

    /// Whether both SYNs are acknowledged (RFC 9293 §3.4: "synchronized state").
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// Whether our SYN waits for its acknowledgement.
    pub const fn is_opening(self) -> bool {
        matches!(self, State::SynSent | State::SynReceived)
    }

    /// Whether new data, and the FIN behind it, may be sent.
    pub const fn may_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// Whether the peer may still send data.
    pub const fn may_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether, as far as a program can tell, it is over: both FINs have passed and ours is acknowledged.
    pub const fn is_over(self) -> bool {
        matches!(self, State::Closed | State::TimeWait)
    }
}
