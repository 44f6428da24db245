//! Many reads or writes of one descriptor by one system call: io_uring(7). For TUN/TAP, where a plain call carries one frame.
//!
//! Owns what is under way, which is nothing between calls: none returns before the kernel is done with all that was submitted. Refuses to wait: a request that would have to
//! fails with `EAGAIN`, as a plain call does. With `sys` the only place of the Linux devices with `unsafe`.
//!
//! A ring is made at the first use. Where the kernel has none, or none that keep from waiting on such a descriptor (TUN/TAP before Linux 6.4), or
//! forbids them (containers, `kernel.io_uring_disabled`), the caller goes on with plain calls.

use super::receive_buffer::ReceiveBuffer;
use super::sys::{MESSAGES, OutgoingBatch, Results};
use io_uring::squeue::Entry;
use io_uring::{IoUring, Probe, opcode, types};
use smallvec::SmallVec;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

/// Four requests cost as much by a ring as by plain calls, 32 a quarter less (a TAP that drops what is written).
const WORTHWHILE: usize = 8;

/// The ring, once it is known whether there can be one.
#[derive(Default)]
pub(super) enum Ring {
    /// Not used so far.
    #[default]
    Untried,
    /// At work.
    Ready(Box<IoUring>),
    /// There is none.
    Without,
}

impl Ring {
    /// Whether so many requests cost less by a ring than by plain calls.
    pub(super) fn is_worthwhile(&self, count: usize) -> bool {
        count >= WORTHWHILE && !matches!(self, Ring::Without)
    }

    /// Writes each frame of `batch`.
    pub(super) fn write(&mut self, descriptor: &OwnedFd, batch: &OutgoingBatch<'_>) -> Option<Results> {
        let descriptor = types::Fd(descriptor.as_raw_fd());
        // `IoSlice` has the layout of `iovec`.
        let requests = batch
            .frames()
            .map(|pieces| opcode::Writev::new(descriptor, pieces.as_ptr().cast(), pieces.len() as u32).rw_flags(libc::RWF_NOWAIT).build());
        // SAFETY: the pieces and the list of them are borrowed by `batch`; the kernel reads them.
        unsafe { self.run(requests) }
    }

    /// Reads a frame into each of `buffers`.
    pub(super) fn read(&mut self, descriptor: &OwnedFd, buffers: &mut [ReceiveBuffer]) -> Option<Results> {
        let descriptor = types::Fd(descriptor.as_raw_fd());
        let mut lists: SmallVec<[[IoSliceMut<'_>; 2]; MESSAGES]> =
            buffers.iter_mut().map(|buffer| buffer.pieces_mut().map(IoSliceMut::new)).collect();
        let requests = lists.iter_mut().map(|list| match list {
            [start, rest] if rest.is_empty() => {
                opcode::Read::new(descriptor, start.as_mut_ptr(), start.len() as u32).rw_flags(libc::RWF_NOWAIT).build()
            }
            // `IoSliceMut` has the layout of `iovec`.
            list => opcode::Readv::new(descriptor, list.as_mut_ptr().cast(), 2).rw_flags(libc::RWF_NOWAIT).build(),
        });
        // SAFETY: `lists` borrows the buffers mutably, and neither it nor they move or end before the call returns.
        unsafe { self.run(requests) }
    }

    /// Has the kernel do what is requested, in order.
    ///
    /// # Safety
    /// What the requests point to must be theirs until this returns.
    unsafe fn run(&mut self, requests: impl Iterator<Item = Entry>) -> Option<Results> {
        let ring = self.ready()?;
        let mut results = Results::new();
        for request in requests.take(MESSAGES) {
            let request = request.user_data(results.len() as u64);
            // SAFETY: nothing of it is under way when we return (`complete`), and until then the caller keeps what it points to.
            if unsafe { ring.submission().push(&request) }.is_err() {
                break;
            }
            results.push(Err(not_tried()));
        }
        let is_whole = complete(ring, &mut results);
        let is_refused = |result: &io::Result<usize>| result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP));
        if !is_whole || results.iter().any(is_refused) {
            // What was not submitted goes with the ring.
            *self = Ring::Without;
            results.iter_mut().filter(|result| is_refused(result)).for_each(|result| *result = Err(not_tried()));
        }
        Some(results)
    }

    fn ready(&mut self) -> Option<&mut IoUring> {
        if matches!(self, Ring::Untried) {
            *self = make().map_or(Ring::Without, |ring| Ring::Ready(Box::new(ring)));
        }
        match self {
            Ring::Ready(ring) => Some(ring),
            _ => None,
        }
    }
}

fn not_tried() -> io::Error {
    io::Error::from_raw_os_error(libc::EINTR)
}

fn make() -> io::Result<IoUring> {
    // A child that is forked must not find the queues, in which addresses of ours lie.
    let ring = IoUring::builder().dontfork().build(MESSAGES as u32)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if [opcode::Read::CODE, opcode::Readv::CODE, opcode::Writev::CODE].into_iter().all(|code| probe.is_supported(code)) {
        Ok(ring)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Submits what was pushed and takes the results down, until nothing is under way. False if the kernel did not take all of it.
fn complete(ring: &mut IoUring, results: &mut Results) -> bool {
    let mut open = results.len();
    while open > 0 {
        let submitted = ring.submit_and_wait(open);
        for done in ring.completion() {
            open -= 1;
            if let Some(result) = results.get_mut(done.user_data() as usize) {
                *result = usize::try_from(done.result()).map_err(|_| io::Error::from_raw_os_error(-done.result()));
            }
        }
        let has_failed = submitted.is_err_and(|error| error.raw_os_error() != Some(libc::EINTR));
        if has_failed && ring.submission().len() == open {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Pool;
    use std::fs::OpenOptions;
    use std::os::unix::net::UnixDatagram;

    fn pair() -> (OwnedFd, UnixDatagram) {
        let (one, other) = UnixDatagram::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        (one.into(), other)
    }

    fn write(ring: &mut Ring, descriptor: &OwnedFd, frames: &[[&str; 2]]) -> Option<Results> {
        let mut batch = OutgoingBatch::default();
        for frame in frames {
            frame.iter().for_each(|piece| batch.push(piece.as_bytes()));
            batch.end_frame(None);
        }
        ring.write(descriptor, &batch)
    }

    fn codes(results: Results) -> Vec<Result<usize, i32>> {
        results.into_iter().map(|result| result.map_err(|error| error.raw_os_error().unwrap())).collect()
    }

    /// Whether there are rings here that sockets go with. Containers forbid them, old kernels have none.
    fn has_rings() -> bool {
        let mut ring = Ring::default();
        let has_rings = write(&mut ring, &pair().0, &[["", "x"]]).is_some() && matches!(ring, Ring::Ready(_));
        if !has_rings {
            eprintln!("skipped: no io_uring here");
        }
        has_rings
    }

    #[test]
    fn frames_are_written_and_read_in_order_and_what_would_wait_fails() {
        if !has_rings() {
            return;
        }
        let (ours, theirs) = pair();
        let mut ring = Ring::default();
        assert_eq!(codes(write(&mut ring, &ours, &[["a", "bc"], ["", "d"]]).unwrap()), [Ok(3), Ok(1)]);
        let mut bytes = [0; 9];
        assert_eq!((theirs.recv(&mut bytes).unwrap(), &bytes[..3]), (3, &b"abc"[..]));
        assert_eq!((theirs.recv(&mut bytes).unwrap(), &bytes[..1]), (1, &b"d"[..]));

        theirs.send(b"efgh").unwrap();
        theirs.send(b"i").unwrap();
        let pool = Pool::default();
        let mut buffers = [ReceiveBuffer::short(&pool), ReceiveBuffer::new(0, &pool), ReceiveBuffer::short(&pool)];
        assert_eq!(codes(ring.read(&ours, &mut buffers).unwrap()), [Ok(4), Ok(1), Err(libc::EAGAIN)]);
        assert_eq!(buffers[0].take(4, &pool).to_vec(), b"efgh");
        assert_eq!(buffers[1].take(1, &pool).to_vec(), b"i");
    }

    #[test]
    fn a_full_descriptor_takes_what_it_has_room_for() {
        if !has_rings() {
            return;
        }
        let (ours, theirs) = pair();
        let mut ring = Ring::default();
        let mut results = Vec::new();
        while results.last().is_none_or(Result::is_ok) {
            results.extend(codes(write(&mut ring, &ours, &[["x", "y"]; MESSAGES]).unwrap()));
        }
        let taken = results.iter().filter(|result| **result == Ok(2)).count();
        assert!(results[taken..].iter().all(|result| *result == Err(libc::EAGAIN)), "{results:?}");
        theirs.set_nonblocking(true).unwrap();
        assert_eq!(std::iter::from_fn(|| theirs.recv(&mut [0; 9]).ok()).count(), taken);
    }

    #[test]
    fn a_descriptor_that_rings_cannot_keep_from_waiting_is_left_to_plain_calls() {
        if !has_rings() {
            return;
        }
        let file: OwnedFd = OpenOptions::new().read(true).write(true).open("/proc/self/comm").unwrap().into();
        let mut ring = Ring::default();
        assert_eq!(codes(write(&mut ring, &file, &[["a", "b"]; 3]).unwrap()), [Err(libc::EINTR); 3]);
        assert!(matches!(ring, Ring::Without) && write(&mut ring, &file, &[["a", "b"]]).is_none());
    }
}
