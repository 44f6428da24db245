//! Where one frame is received.
//!
//! Owns two slots: a small one for the beginning of the frame, which is all of most frames, and a large one for the rest of a super-frame. So nothing
//! is copied, and a frame of the usual size pins no large slot. Refuses to know where the bytes come from.

use crate::packet::{Buffer, LARGE_SLOT, Packet, Pool, SMALL_SLOT};

/// The two slots.
pub(super) struct ReceiveBuffer {
    headroom: usize,
    start: Buffer,
    /// Where there can be more.
    rest: Option<Buffer>,
}

impl ReceiveBuffer {
    /// Room for the longest frame, with `headroom` free bytes in front of it.
    pub(super) fn new(headroom: usize, pool: &Pool) -> ReceiveBuffer {
        ReceiveBuffer { headroom, start: start(headroom, pool), rest: Some(rest(pool)) }
    }

    /// Room for a frame that a small slot holds.
    pub(super) fn short(pool: &Pool) -> ReceiveBuffer {
        ReceiveBuffer { headroom: 0, start: start(0, pool), rest: None }
    }

    /// Bytes that it has room for.
    pub(super) fn room(&self) -> usize {
        self.start.len() + self.rest.as_ref().map_or(0, Buffer::len)
    }

    /// The bytes to receive into, in order. The second piece may be empty.
    pub(super) fn pieces_mut(&mut self) -> [&mut [u8]; 2] {
        [self.start.bytes_mut(), self.rest.as_mut().map(Buffer::bytes_mut).unwrap_or_default()]
    }

    /// The first `length` bytes as a packet; other slots take the places of those that it has.
    pub(super) fn take(&mut self, length: usize, pool: &Pool) -> Packet {
        let in_rest = length.saturating_sub(self.start.len());
        let mut first = std::mem::replace(&mut self.start, start(self.headroom, pool));
        first.truncate(length);
        let mut packet = Packet::new(first.freeze());
        if let Some(own) = self.rest.as_mut().filter(|_| in_rest > 0) {
            let mut second = std::mem::replace(own, rest(pool));
            second.truncate(in_rest);
            packet.push(second.freeze());
        }
        packet
    }
}

fn start(headroom: usize, pool: &Pool) -> Buffer {
    pool.buffer(headroom, SMALL_SLOT - headroom)
}

fn rest(pool: &Pool) -> Buffer {
    pool.buffer(0, LARGE_SLOT - SMALL_SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_frame_takes_a_small_slot_and_a_super_frame_both() {
        let pool = Pool::default();
        let mut buffer = ReceiveBuffer::new(4, &pool);
        assert_eq!(buffer.pieces_mut().map(|piece| piece.len()), [SMALL_SLOT - 4, LARGE_SLOT - SMALL_SLOT]);
        for length in [60, SMALL_SLOT - 4, SMALL_SLOT - 3, LARGE_SLOT - 4] {
            let [start, rest] = buffer.pieces_mut();
            start.fill(1);
            rest.fill(2);
            let packet = buffer.take(length, &pool);
            let slots: Vec<_> = packet.slices().iter().map(crate::packet::Slice::slot_bytes).collect();
            let expected = if length <= SMALL_SLOT - 4 { vec![SMALL_SLOT] } else { vec![SMALL_SLOT, LARGE_SLOT] };
            assert_eq!((packet.len(), slots), (length, expected));
            assert_eq!(packet.to_vec().iter().filter(|&&byte| byte == 2).count(), length.saturating_sub(SMALL_SLOT - 4));
        }
    }
}
