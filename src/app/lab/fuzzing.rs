//! The lab's servers without a network, for the fuzz targets in `tests/fuzz`. Compiled under `cfg(fuzzing)` alone, which cargo-fuzz sets.
//!
//! Owns a client that sends bytes and throws away what comes back, up to a bound. Refuses to wait.

use super::dns::Zone;
use super::web;
use std::io::{self, Read, Write};

/// What a response may have: some pages are as long as the client says.
const LONGEST_RESPONSE: usize = 1 << 20;

struct Client<'a> {
    sends: &'a [u8],
    takes: usize,
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.sends.read(buffer)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.takes);
        self.takes -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that sends `bytes` to the web server, and then ends.
pub fn serve_http(bytes: &[u8]) {
    let site = web::Site::default();
    site.patience.call_off();
    // The server may refuse what it reads, in any way but a panic.
    let _ = web::serve(Client { sends: bytes, takes: LONGEST_RESPONSE }, &site);
}

/// A query to the name server.
pub fn answer_dns(bytes: &[u8]) {
    let _ = Zone::lab(super::SERVER, super::NOBODY).answer(bytes);
}
