//! That no number of Appendix B was forgotten, and no section of the other RFCs of TCP.

use std::path::Path;

/// Sections of other RFCs in which an endpoint finds something to do, and the file whose tests name them.
const SECTIONS: [(&str, &str, &[&str]); 10] = [
    ("RFC 7323", include_str!("timestamps.rs"), &["2.2", "2.3", "2.4", "3.2", "4.1", "4.3", "5.2", "5.3", "5.4"]),
    ("RFC 5961", include_str!("blind_attacks.rs"), &["3.2", "4.2", "5.2", "7"]),
    ("RFC 6298", include_str!("retransmission.rs"), &["2.1", "2.2", "2.3", "2.4", "2.5", "5", "5.1", "5.2", "5.3", "5.4", "5.5", "5.7"]),
    ("RFC 2018", include_str!("retransmission.rs"), &["2", "3", "4", "5", "8"]),
    ("RFC 8985", include_str!("rack_tlp.rs"), &["4", "6.1", "6.2", "6.3", "7.1", "7.2", "7.3", "7.4.1", "7.4.2", "8"]),
    ("RFC 6937", include_str!("rate_reduction.rs"), &["3", "3.1", "4"]),
    ("RFC 6675", include_str!("sack_recovery.rs"), &["4", "5", "5.1", "6"]),
    ("RFC 5682", include_str!("forward_rto.rs"), &["2.1", "3.1", "4"]),
    ("RFC 6582", include_str!("new_reno.rs"), &["3.2", "4.1", "4.2"]),
    ("RFC 4015", include_str!("new_reno.rs"), &["3.1", "3.4"]),
];
/// Steps within a section, each with a test of its own: the file, the section as it stands in a test's name, and the steps.
const STEPS: [(&str, &str, &[&str]); 6] = [
    (include_str!("rack_tlp.rs"), "section_6_2", &["1", "2", "3", "4", "5"]),
    (include_str!("forward_rto.rs"), "section_2_1", &["1", "2a", "2b", "3a", "3b"]),
    (include_str!("forward_rto.rs"), "section_3_1", &["1", "2", "2a", "3a", "3b"]),
    (include_str!("new_reno.rs"), "rfc6582_section_3_2", &["1", "2", "3", "4"]),
    (include_str!("sack_recovery.rs"), "section_4_next_seg", &["1", "2", "3", "4", "5"]),
    (include_str!("sack_recovery.rs"), "section_5", &["2", "3", "4_2", "4_3", "a", "b"]),
];
/// RFCs with traces beside the code as well, of what a peer cannot see: the file in `src/transport/tcp/tests/` whose head names them.
const BESIDE_THE_CODE: [(&str, &str); 9] = [
    ("8985", "rack.rs"),
    ("6937", "rack.rs"),
    ("5682", "spurious.rs"),
    ("2883", "selective.rs"),
    ("2018", "selective.rs"),
    ("5681", "loss.rs"),
    ("6582", "loss.rs"),
    ("5927", "limits.rs"),
    ("3168", "ecn.rs"),
];
/// What the head of this program gives a reason for.
const NOT_DONE: [u32; 3] = [51, 52, 53];
/// The rows of Appendix B that say MUST NOT. (MUST-46 and MUST-56 stand in both columns.)
const MUST_NOT: [u32; 6] = [9, 29, 41, 56, 60, 65];

/// The last SHOULD's number, those that say SHOULD NOT, and those that the head of this program gives a reason for.
const LAST_SHOULD: u32 = 31;
const SHOULD_NOT: [u32; 5] = [13, 14, 15, 17, 23];
const SHOULD_NOT_DONE: [u32; 6] = [9, 13, 20, 23, 24, 26];

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

#[test]
fn every_should_has_a_test_or_a_reason() {
    let sources = sources();
    let head = || include_str!("main.rs").lines().take_while(|line| line.starts_with("//!"));
    for number in 1..=LAST_SHOULD {
        let prefix = if SHOULD_NOT.contains(&number) { "shld_not" } else { "shld" };
        let has_test = sources.contains(&format!("\nfn {prefix}_{number}_"));
        let has_reason = head().any(|line| line.contains(&format!("SHLD-{number} ")));
        assert!(has_test != has_reason, "SHLD-{number}: a test, or a reason");
        assert_eq!(has_reason, SHOULD_NOT_DONE.contains(&number), "SHLD-{number}");
    }
}

#[test]
fn every_section_with_a_must_has_a_test() {
    for (rfc, text, sections) in SECTIONS {
        assert!(text.lines().next().is_some_and(|head| head.contains(rfc)), "{rfc}");
        for section in sections {
            let names = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != '§').map(|word| word.trim_end_matches('.'));
            assert!(names.into_iter().any(|word| word.strip_prefix('§') == Some(section)), "{rfc} §{section} has no test");
        }
    }
}

#[test]
fn every_step_has_a_test() {
    for (text, section, steps) in STEPS {
        for step in steps {
            let names = [format!("\nfn {section}_step_{step}_"), format!("\nfn {section}_{step}_")];
            assert!(names.iter().any(|name| text.contains(name)), "{section}, step {step}");
        }
    }
}

#[test]
fn every_rfc_of_loss_recovery_has_its_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transport/tcp/tests");
    for (rfc, file) in BESIDE_THE_CODE {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let head = text.lines().take_while(|line| line.starts_with("//!")).collect::<String>();
        assert!(head.contains(rfc) && text.matches("#[test]").count() >= 5, "RFC {rfc} in {file}");
    }
}
