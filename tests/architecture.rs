//! The rules of the architecture that a program can check, read from the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of protocol code: pure, driven by others.
const PROTOCOL: [&str; 4] = ["src/wire", "src/link", "src/network", "src/transport"];

struct Source {
    path: String,
    /// What ships: everything before the unit tests, which stand last in a file, without comments.
    code: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    rust_files(&root().join(folder), &mut paths);
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).unwrap();
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || is_test_file(&path);
    let shipped = if is_test { "" } else { before_inline_tests(&text) };
    let code = shipped.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    Source { path: path.strip_prefix(root()).unwrap().display().to_string(), code, text }
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "testing.rs" || name.ends_with("tests.rs")
}

/// Cuts a file at its first test-only module with a body; a mere declaration (`mod testing;`) stays.
fn before_inline_tests(text: &str) -> &str {
    let is_inline = |&(at, attribute): &(usize, &str)| text[at + attribute.len()..].lines().next().is_some_and(|line| line.ends_with('{'));
    let cut = text.match_indices("#[cfg(test)]\n").find(is_inline).map_or(text.len(), |(at, _)| at);
    &text[..cut]
}

#[track_caller]
fn assert_absent(folders: &[&str], words: &[&str], why: &str) {
    let mut found = Vec::new();
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        for (number, line) in source.code.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn protocol_code_is_pure() {
    let impure = [
        "std::thread",
        "crossbeam",
        "libc::",
        "socket2",
        "Instant::now",
        "SystemTime",
        "std::time::Instant",
        "std::fs",
        "std::net::TcpStream",
        "std::net::UdpSocket",
    ];
    assert_absent(&PROTOCOL, &impure, "protocol code touches no thread, channel, clock or descriptor");
}

#[test]
fn protocol_code_holds_one_lock() {
    for source in PROTOCOL.iter().flat_map(|folder| sources(folder)).filter(|source| !source.path.starts_with("src/transport/shared")) {
        for word in ["Mutex::new", "Mutex::default", "RwLock", "RefCell<", "OnceLock<"] {
            assert!(!source.code.contains(word), "{} has a {word}: the sockets' shared state is the only lock", source.path);
        }
    }
}

#[test]
fn unsafe_lives_in_the_devices_alone() {
    for source in sources("src").into_iter().chain(sources("bin")).filter(|source| !source.path.starts_with("src/device/")) {
        for line in source.code.lines() {
            assert!(!["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| line.contains(word)), "{}: {line}", source.path);
        }
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for source in sources("src/device") {
        let blocks = source.text.matches("unsafe {").count() + source.text.matches("unsafe impl").count();
        let reasons = source.text.matches("SAFETY:").count();
        assert!(reasons >= blocks, "{}: {blocks} unsafe blocks, {reasons} SAFETY comments", source.path);
    }
}

#[test]
fn layers_do_not_know_who_drives_them() {
    assert_absent(
        &PROTOCOL,
        &["crate::pipeline", "crate::socket", "crate::simulation", "crate::app", "crate::resolver"],
        "handles import transport, never the other way round",
    );
    assert_absent(
        &["src/app", "src/resolver"],
        &["crate::pipeline", "crate::link::", "crate::network::icmp"],
        "applications stand on sockets",
    );
}

#[test]
fn threads_and_channels_live_in_the_pipeline() {
    let elsewhere = ["src/device", "src/simulation", "src/wire", "src/packet.rs"];
    let folders: Vec<&str> = elsewhere.into_iter().filter(|folder| root().join(folder).is_dir()).collect();
    assert_absent(&folders, &["thread::spawn", "thread::Builder", "crossbeam_channel"], "only the pipeline has threads and channels");
}

#[test]
fn network_bytes_are_not_trusted() {
    let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!(", "assert!("];
    let known = ["debug_assert!("];
    let mut found = Vec::new();
    for source in PROTOCOL.iter().flat_map(|folder| sources(folder)) {
        for (number, line) in source.code.lines().enumerate() {
            let suspicious = panics.iter().any(|word| line.contains(word)) && !known.iter().any(|word| line.contains(word));
            if suspicious {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "a peer's bytes must not be able to panic a layer:\n{}", found.join("\n"));
}

#[test]
fn every_module_says_what_it_owns() {
    for source in sources("src").into_iter().filter(|source| !source.code.is_empty()) {
        assert!(source.text.starts_with("//!"), "{} does not open with what it owns", source.path);
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for source in sources("src").into_iter().chain(sources("bin")).chain(sources("benches")) {
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            assert!(!source.text.contains(word), "{} has a {word}", source.path);
        }
    }
}

#[test]
fn the_top_level_holds_what_it_may() {
    let allowed = ["Cargo.toml", "Cargo.lock", "src", "bin", "tests", "benches", "README.md", "LICENSE", "target"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}
