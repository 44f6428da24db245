//! The secrets of TLS sessions in a file, as `SSLKEYLOGFILE` asks for, so that Wireshark can read a capture.
//!
//! Unlike the one that rustls brings, this file is made readable for its owner alone.

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[derive(Debug)]
pub(super) struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    /// Opens the file to append to, or makes it.
    pub(super) fn create(path: &Path) -> io::Result<KeyLogFile> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        make_private(&mut options);
        let file = options.open(path).map_err(|error| io::Error::new(error.kind(), format!("key log {}: {error}", path.display())))?;
        Ok(KeyLogFile(Mutex::new(file)))
    }
}

#[cfg(unix)]
fn make_private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

/// Elsewhere a file belongs to whom its folder belongs to.
#[cfg(not(unix))]
fn make_private(_options: &mut OpenOptions) {}

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hexadecimal(client_random), hexadecimal(secret));
        // A full disk must not end the connection.
        let _ = self.0.lock().write_all(line.as_bytes());
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::KeyLog;

    #[test]
    fn lines_are_as_wireshark_wants_them_and_the_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        KeyLogFile::create(&path).unwrap().log("CLIENT_RANDOM", &[1, 0xab], &[0xff]);
        KeyLogFile::create(&path).unwrap().log("X", &[2], &[3]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "CLIENT_RANDOM 01ab ff\nX 02 03\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
