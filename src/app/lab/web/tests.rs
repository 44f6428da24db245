use super::*;
use std::io::Cursor;

/// What a client says at once, and what it is told.
struct Client {
    says: Cursor<Vec<u8>>,
    hears: Vec<u8>,
}

impl Read for &mut Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A few bytes at a time, so that every boundary is met.
        let count = buffer.len().min(7);
        self.says.read(&mut buffer[..count])
    }
}

impl Write for &mut Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hears.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn exchange(says: &str) -> String {
    let mut client = Client { says: Cursor::new(says.as_bytes().to_vec()), hears: vec![] };
    let _ = serve(&mut client, &Site::default());
    String::from_utf8_lossy(&client.hears).into_owned()
}

fn get(path: &str, more: &str) -> String {
    exchange(&format!("GET {path} HTTP/1.1\r\nHost: lab.test\r\n{more}\r\n"))
}

#[test]
fn the_page_is_friendly_and_connections_live_on() {
    let heard = exchange("GET / HTTP/1.1\r\n\r\nGET /status/404 HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && heard.contains("<h1>It works.</h1>"));
    assert!(heard.contains("HTTP/1.1 404 Not Found\r\n") && heard.ends_with("status 404\n"));
    assert_eq!(heard.matches("HTTP/1.1").count(), 2);
}

#[test]
fn ranges_are_parts_of_the_same_bytes() {
    let mut whole = [0; 100];
    deterministic_bytes(0, &mut whole);
    let mut part = [0; 30];
    deterministic_bytes(41, &mut part);
    assert_eq!(whole[41..71], part);
    let heard = get("/bytes/100", "Range: bytes=41-\r\n");
    assert!(
        heard.starts_with("HTTP/1.1 206")
            && heard.contains("Content-Range: bytes 41-99/100\r\n")
            && heard.contains("Content-Length: 59\r\n")
    );
    assert!(get("/bytes/100", "Range: bytes=-10\r\n").contains("bytes 90-99/100"));
    assert!(get("/bytes/100", "Range: bytes=5-9\r\n").contains("Content-Length: 5\r\n"));
    assert!(get("/bytes/100", "Range: bytes=100-\r\n").contains("HTTP/1.1 416"));
    assert!(get("/bytes/100", "Range: bytes=9-5\r\n").starts_with("HTTP/1.1 200"));
}

#[test]
fn uploads_are_counted_with_a_length_and_in_chunks() {
    let expected = format!("received 11 bytes, hash {:016x}\n", body_hash(b"hello world"));
    let plain = exchange("PUT /upload HTTP/1.1\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world");
    assert!(plain.starts_with("HTTP/1.1 100 Continue\r\n\r\n") && plain.ends_with(&expected), "{plain}");
    let chunked = exchange(
        "POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\nT: t\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    assert!(chunked.contains(&expected) && chunked.contains("It works"), "{chunked}");
    assert!(get("/upload", "").starts_with("HTTP/1.1 405"));
}

#[test]
fn nonsense_is_answered_or_ended_but_never_a_panic() {
    assert!(exchange("\x16\x03\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(exchange(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(LONGEST_HEADER))).starts_with("HTTP/1.1 400"));
    for text in
        ["", "GET / HT", "PUT /upload HTTP/1.1\r\nContent-Length: x\r\n\r\n", "PUT /upload HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"]
    {
        assert_eq!(exchange(text), "", "{text:?}");
    }
    assert_eq!(exchange("PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "");
}

#[test]
fn odd_pages_do_what_they_are_for() {
    assert!(get("/redirect/3", "").contains("Location: /redirect/2\r\n") && get("/redirect/1", "").contains("Location: /\r\n"));
    assert_eq!(get("/nothing", ""), "");
    assert!(get("/cut", "").contains("Content-Length: 1000\r\n"));
    assert!(get("/chunked/2", "").ends_with("8\r\nchunk 0\n\r\n8\r\nchunk 1\n\r\n0\r\n\r\n"));
    assert!(get("/private", "").starts_with("HTTP/1.1 401"));
    assert!(get("/private", "Authorization: Basic bGFiOnRlc3Q=\r\n").starts_with("HTTP/1.1 200"));
    let head = exchange("HEAD /bytes/100 HTTP/1.1\r\n\r\n");
    assert!(head.contains("Content-Length: 100\r\n") && head.ends_with("\r\n\r\n"));
}
