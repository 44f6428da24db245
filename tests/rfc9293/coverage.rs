//! That nothing of Appendix B was forgotten, and nothing of the other RFCs of TCP.

use std::path::Path;

/// What the head of this program gives a reason for.
const NOT_DONE: [u32; 3] = [51, 52, 53];
/// The rows of Appendix B that say MUST NOT. (MUST-46 and MUST-56 stand in both columns.)
const MUST_NOT: [u32; 6] = [9, 29, 41, 56, 60, 65];

fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfc9293");
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        text += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    text
}

#[test]
fn every_must_has_a_test_or_a_reason() {
    let sources = sources();
    let head: String = include_str!("main.rs").lines().filter(|line| line.starts_with("//!")).collect();
    for number in 1..=69 {
        let prefix = if MUST_NOT.contains(&number) { "must_not" } else { "must" };
        let has_test = sources.contains(&format!("\nfn {prefix}_{number}_"));
        if NOT_DONE.contains(&number) {
            assert!(!has_test && head.contains(&number.to_string()), "MUST-{number}: a reason, or a test");
        } else {
            assert!(has_test, "MUST-{number} has no test {prefix}_{number}_…");
        }
    }
}
