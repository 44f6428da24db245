//! `hopline-perf` in the lab: the server and the client of one program, no privilege needed.
#![cfg(feature = "cli")]

#[path = "common/handoff.rs"]
mod handoff;

use assert_cmd::Command;

fn client(arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("hopline-perf").unwrap();
    let output = command
        .args(["client", "lab.test", "--lab", "--handoff", handoff::current().name(), "-t", "0.2"])
        .args(arguments)
        .timeout(std::time::Duration::from_secs(60));
    String::from_utf8(output.assert().success().get_output().stdout.clone()).unwrap()
}

fn both_directions_are_reported() {
    let text = client(&["--bidir", "-P", "2"]);
    let count = |word| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count("sent"), count("received"), count("[SUM]")), (3, 3, 2), "{text}");
}

fn json_has_flows_and_sums() {
    let text = client(&["-R", "-l", "4096", "-J"]);
    assert!(text.starts_with(r#"{"flows":[{"direction":"received","bytes":"#) && text.contains(r#""sums":[{"#), "{text}");
}

handoff::in_each_handoff! {
    both_directions_are_reported,
    json_has_flows_and_sums,
}
