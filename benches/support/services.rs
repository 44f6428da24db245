//! The services that `against_peers` measures, on Hopline's handles.

use hopline::socket::{Stack, TcpStream};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};

/// Sends back what comes.
pub(crate) const ECHO: u16 = 7;
/// Reads one transfer after the other, and answers each with one byte.
pub(crate) const DISCARD: u16 = 9;
/// Sends one transfer for each byte that comes.
pub(crate) const GENERATE: u16 = 19;
/// Bytes of a transfer.
pub(crate) const TRANSFER: usize = 16 << 20;
/// Bytes of one read or write.
pub(crate) const BLOCK: usize = 128 << 10;

/// Offers all three until the stack ends.
pub(crate) fn serve(stack: &Stack, address: Ipv4Addr) {
    for (port, service) in [(ECHO, echo as fn(TcpStream)), (DISCARD, discard), (GENERATE, generate)] {
        let listener = stack.listen((address, port)).expect("the port is free");
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nodelay(true);
                std::thread::spawn(move || service(stream));
            }
        });
    }
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 2_048];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn discard(mut stream: TcpStream) {
    let (mut block, mut left) = (vec![0; BLOCK], TRANSFER);
    while let Ok(count @ 1..) = stream.read(&mut block) {
        left -= count;
        if left == 0 {
            left = TRANSFER;
            let _ = stream.write_all(&[1]);
        }
    }
}

fn generate(mut stream: TcpStream) {
    let block = vec![0x5a; BLOCK];
    while stream.read_exact(&mut [0]).is_ok() {
        for _ in 0..TRANSFER / BLOCK {
            if stream.write_all(&block).is_err() {
                return;
            }
        }
    }
}

/// The client's side of a transfer to the server.
pub(crate) fn send(stream: &mut TcpStream, block: &[u8]) {
    for _ in 0..TRANSFER / block.len() {
        stream.write_all(block).expect("the server reads");
    }
    stream.read_exact(&mut [0]).expect("the server answers");
}

/// The client's side of a transfer from the server.
pub(crate) fn receive(stream: &mut TcpStream, block: &mut [u8]) {
    stream.write_all(&[1]).expect("the server reads");
    for _ in 0..TRANSFER / block.len() {
        stream.read_exact(block).expect("the server sends");
    }
}

/// One byte there and back.
pub(crate) fn round_trip(stream: &mut TcpStream) {
    stream.write_all(&[1]).expect("the server reads");
    stream.read_exact(&mut [0]).expect("the server answers");
}

/// Opens a connection and sees it through to both ends' close.
pub(crate) fn connect(stack: &Stack, server: Ipv4Addr) {
    let mut stream = open(stack, server, ECHO);
    stream.shutdown(Shutdown::Write).expect("an open stream can be closed");
    assert_eq!(stream.read(&mut [0]).expect("the server closes"), 0);
}

/// A stack without listeners refuses while all its sockets are closing, or its thread has not begun: then it is asked again, which costs it time.
pub(crate) fn open(stack: &Stack, server: Ipv4Addr, port: u16) -> TcpStream {
    loop {
        match stack.connect((server, port)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            result => return result.expect("the server listens"),
        }
    }
}
