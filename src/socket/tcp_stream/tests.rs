use super::*;
use crate::config::Config;
use crate::pipeline::Status;
use crate::socket::backend::Waiting;
use crate::socket::testing::{Fake, arrive, change};
use io::ErrorKind;
use std::thread;

fn kind<T: fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn stream(fake: &Fake) -> (TcpStream, Arc<TcpShared>) {
    let shared = fake.connection();
    (TcpStream::adopt(&fake.backend, shared.clone()), shared)
}

/// Everything that waits to be sent.
fn to_send(shared: &TcpShared) -> Vec<u8> {
    shared.state.lock().to_send.iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn connecting_waits_for_the_handshake() {
    let fake = Fake::new(Waiting::Allowed);
    let backend = fake.backend.clone();
    let remote = "192.0.2.2:80".parse().unwrap();
    let program = thread::spawn(move || {
        let stream = TcpStream::open(&backend, remote, &ConnectOptions::default())?;
        stream.wait_connected(None)?;
        Ok::<_, io::Error>(stream)
    });
    let (shared, marks) = fake.next_tcp();
    assert!(marks.has(Mark::Open));
    change(&shared, |state| state.phase = Phase::Connecting);
    change(&shared, |state| state.phase = Phase::Connected);
    assert_eq!(program.join().unwrap().unwrap().peer_addr().unwrap(), remote);
}

#[test]
fn a_refused_connection_says_so() {
    let fake = Fake::new(Waiting::Allowed);
    let (stream, shared) = stream(&fake);
    change(&shared, |state| (state.phase, state.failure) = (Phase::Closed, Some(Failure::Refused)));
    assert_eq!(kind(stream.wait_connected(None)), ErrorKind::ConnectionRefused);
}

#[test]
fn connecting_in_time_or_not() {
    let fake = Fake::new(Waiting::Allowed);
    let (stream, shared) = stream(&fake);
    change(&shared, |state| state.phase = Phase::Connecting);
    assert_eq!(kind(stream.wait_connected(Some(Duration::from_millis(5)))), ErrorKind::TimedOut);
    assert!(stream.connected().is_none());
    assert_eq!(kind(stream.peer_addr()), ErrorKind::NotConnected);
}

#[test]
fn targets_that_cannot_be_are_refused_at_once() {
    let fake = Fake::new(Waiting::Allowed);
    let open = |remote: &str| kind(TcpStream::open(&fake.backend, remote.parse().unwrap(), &ConnectOptions::default()));
    assert_eq!(open("192.0.2.2:0"), ErrorKind::ConnectionRefused);
    assert_eq!(open("203.0.113.1:80"), ErrorKind::NetworkUnreachable);
    assert_eq!(open("[2001:db8::1]:80"), ErrorKind::Unsupported);
    let elsewhere = ConnectOptions { local: Some("192.0.2.9:0".parse().unwrap()), ..ConnectOptions::default() };
    assert_eq!(kind(TcpStream::open(&fake.backend, "192.0.2.2:80".parse().unwrap(), &elsewhere)), ErrorKind::AddrNotAvailable);
}

#[test]
fn reading_takes_slices_and_announces_a_window_worth_it() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    arrive(&shared, &fake.backend.pool, b"hello ");
    arrive(&shared, &fake.backend.pool, b"world");
    shared.state.lock().window_mark_at = 11;
    let mut buffer = [0; 8];
    assert_eq!((stream.peek(&mut buffer).unwrap(), &buffer), (8, b"hello wo"));
    assert_eq!((stream.read(&mut buffer).unwrap(), &buffer), (8, b"hello wo"));
    assert!(fake.is_idle(), "eight bytes are not worth an announcement");
    let (mut first, mut second) = ([0; 1], [0; 9]);
    let read = stream.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
    assert_eq!((read, &first, &second[..2]), (3, b"r", &b"ld"[..]));
    assert!(fake.next_tcp().1.has(Mark::Window));
    assert_eq!(shared.state.lock().unread, 0);
    assert_eq!(kind(stream.read(&mut buffer)), ErrorKind::WouldBlock);
}

#[test]
fn data_comes_before_the_end_and_the_end_for_ever() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    arrive(&shared, &fake.backend.pool, b"last");
    change(&shared, |state| state.receive_finished = true);
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!((all.as_str(), stream.read(&mut [0; 9]).unwrap()), ("last", 0));
}

#[test]
fn a_reset_is_told_once() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    arrive(&shared, &fake.backend.pool, b"last");
    change(&shared, |state| (state.phase, state.failure) = (Phase::Closed, Some(Failure::Reset)));
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 4);
    assert_eq!(kind(stream.read(&mut [0; 9])), ErrorKind::ConnectionReset);
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(kind(stream.write(b"x")), ErrorKind::BrokenPipe);
    assert!(stream.take_error().unwrap().is_none());
}

#[test]
fn writing_after_a_reset_tells_the_reset_first() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    change(&shared, |state| (state.phase, state.failure) = (Phase::Closed, Some(Failure::Reset)));
    assert_eq!(kind(stream.write(b"x")), ErrorKind::ConnectionReset);
    assert_eq!(kind(stream.write(b"x")), ErrorKind::BrokenPipe);
}

#[test]
fn a_write_takes_the_room_there_is_and_small_writes_share_a_slot() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    Arc::make_mut(&mut shared.state.lock().options).send_buffer = 10;
    assert_eq!(stream.write(b"0123").unwrap(), 4);
    assert_eq!(stream.write_vectored(&[IoSlice::new(b""), IoSlice::new(b"45"), IoSlice::new(b"6789abcdef")]).unwrap(), 6);
    assert_eq!(kind(stream.write(b"x")), ErrorKind::WouldBlock);
    assert_eq!((to_send(&shared), shared.state.lock().to_send.len()), (b"0123456789".to_vec(), 1));
    assert!(fake.next_tcp().1.has(Mark::Send) && fake.is_idle());
}

/// The connection may end, and take what there is, between the two steps of a write.
#[test]
fn what_a_short_write_joins_is_written_whatever_becomes_of_its_rest() {
    let fake = Fake::new(Waiting::Never);
    let (stream, shared) = stream(&fake);
    (&stream).write_all(&[1; 2_000]).unwrap();
    let write = |end: fn(&mut TcpSharedState)| {
        let buffers = [IoSlice::new(&[2; 100])];
        let mut source = Source::new(&buffers, 100);
        let reserved = reserve(&mut shared.state.lock(), &mut source).unwrap();
        let chunks = source.into_chunks(&fake.backend.pool);
        let mut state = shared.state.lock();
        end(&mut state);
        (hand_over(&mut state, chunks, &reserved), state.unacknowledged)
    };
    let (written, unacknowledged) = write(|state| state.write_closed = true);
    assert_eq!((written.unwrap(), unacknowledged), (48, 2_048));
    assert_eq!(to_send(&shared), [vec![1; 2_000], vec![2; 48]].concat());
    change(&shared, |state| state.write_closed = false);
    let (written, unacknowledged) = write(|state| state.failure = Some(Failure::Reset));
    assert_eq!((kind(written), unacknowledged), (ErrorKind::ConnectionReset, 2_048), "there was no room behind the last chunk");
    let (written, unacknowledged) = write(|_| ());
    assert_eq!((written.unwrap(), unacknowledged, to_send(&shared).len()), (100, 2_148, 2_148));
}

#[test]
fn long_writes_go_to_large_slots_and_stay_in_order() {
    let fake = Fake::new(Waiting::Never);
    let (mut stream, shared) = stream(&fake);
    let bytes: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    assert_eq!(stream.write(&bytes).unwrap(), bytes.len());
    assert_eq!(stream.write(&bytes[..5_000]).unwrap(), 5_000);
    assert_eq!(to_send(&shared), [&bytes[..], &bytes[..5_000]].concat());
    assert_eq!(shared.state.lock().to_send.len(), 5 + 3);
    assert_eq!(shared.state.lock().unacknowledged, 305_000);
}

#[test]
fn a_writer_waits_for_room_and_a_reader_for_data() {
    let fake = Fake::new(Waiting::Allowed);
    let (stream, shared) = stream(&fake);
    Arc::make_mut(&mut shared.state.lock().options).send_buffer = 4;
    let writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || (&writer).write_all(b"0123456789"));
    let reader = stream.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut buffer = [0; 4];
        (&reader).read_exact(&mut buffer).map(|()| buffer)
    });
    let mut sent = Vec::new();
    while sent.len() < 10 {
        let _ = fake.next_tcp();
        change(&shared, |state| {
            sent.extend(state.to_send.drain(..).flat_map(|slice| slice.to_vec()));
            state.unacknowledged = 0;
        });
    }
    arrive(&shared, &fake.backend.pool, b"ab");
    arrive(&shared, &fake.backend.pool, b"cd");
    writing.join().unwrap().unwrap();
    assert_eq!((sent.as_slice(), &reading.join().unwrap().unwrap()), (&b"0123456789"[..], b"abcd"));
}

#[test]
fn timeouts_are_would_block_and_zero_is_no_timeout() {
    let fake = Fake::new(Waiting::Allowed);
    let (mut stream, shared) = stream(&fake);
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
    Arc::make_mut(&mut shared.state.lock().options).send_buffer = 0;
    assert_eq!(kind(stream.read(&mut [0; 1])), ErrorKind::WouldBlock);
    assert_eq!(kind(stream.write(b"x")), ErrorKind::WouldBlock);
    assert_eq!(kind(stream.set_read_timeout(Some(Duration::ZERO))), ErrorKind::InvalidInput);
    assert_eq!(stream.read_timeout().unwrap(), Some(Duration::from_millis(5)));
    stream.set_read_timeout(None).unwrap();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(kind(stream.read(&mut [0; 1])), ErrorKind::WouldBlock);
}

#[test]
fn shutting_one_side_down_ends_its_calls() {
    let fake = Fake::new(Waiting::Allowed);
    let (mut stream, shared) = stream(&fake);
    let reader = stream.try_clone().unwrap();
    let reading = thread::spawn(move || (&reader).read(&mut [0; 1]));
    stream.shutdown(Shutdown::Both).unwrap();
    let (_, marks) = fake.next_tcp();
    assert!(marks.has(Mark::CloseRead) || marks.has(Mark::CloseWrite));
    assert_eq!(reading.join().unwrap().unwrap(), 0);
    assert_eq!(kind(stream.write(b"x")), ErrorKind::BrokenPipe);
    change(&shared, |state| state.phase = Phase::Closed);
    assert_eq!(kind(stream.shutdown(Shutdown::Read)), ErrorKind::NotConnected);
}

#[test]
fn the_last_clone_releases_the_connection() {
    let fake = Fake::new(Waiting::Allowed);
    let (stream, _shared) = stream(&fake);
    let clone = stream.try_clone().unwrap();
    drop(stream);
    assert!(fake.is_idle());
    drop(clone);
    assert!(fake.next_tcp().1.has(Mark::Released));
}

#[test]
fn after_the_stacks_end_nothing_is_connected() {
    let fake = Fake::new(Waiting::Allowed);
    let (mut stream, shared) = stream(&fake);
    fake.backend.health().worsen(Status::Closing);
    change(&shared, |state| (state.phase, state.failure) = (Phase::Closed, Some(Failure::Aborted)));
    for _ in 0..2 {
        assert_eq!(kind(stream.read(&mut [0; 1])), ErrorKind::NotConnected);
        assert_eq!(kind(stream.write(b"x")), ErrorKind::NotConnected);
    }
    assert_eq!(kind(TcpStream::open(&fake.backend, "192.0.2.2:80".parse().unwrap(), &ConnectOptions::default())), ErrorKind::NotConnected);
}

#[test]
fn options_are_kept_and_marked() {
    let fake = Fake::with_config(Waiting::Never, Config::default());
    let (stream, _shared) = stream(&fake);
    stream.set_nodelay(true).unwrap();
    stream.set_ttl(7).unwrap();
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    stream.set_congestion_control("newreno").unwrap();
    assert!(stream.nodelay().unwrap() && fake.next_tcp().1.has(Mark::Options));
    assert_eq!((stream.ttl().unwrap(), stream.linger().unwrap()), (7, Some(Duration::ZERO)));
    assert_eq!(stream.congestion_control().unwrap(), "newreno");
    assert_eq!(kind(stream.set_ttl(0)), ErrorKind::InvalidInput);
    assert_eq!(kind(stream.set_ttl(256)), ErrorKind::InvalidInput);
    assert_eq!(kind(stream.set_congestion_control("vegas")), ErrorKind::NotFound);
}
