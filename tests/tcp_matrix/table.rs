//! The table of what is not asserted as a figure: kept beside the tests, so that a change for the worse is seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// A row may be worse by this factor than the one that was kept.
const TOLERANCE: f64 = 1.25;
/// And by this much more, whatever the unit.
const SLACK: f64 = 0.05;

static MEASURED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tcp_matrix/table.txt")
}

fn is_written() -> bool {
    std::env::var("HOPLINE_TABLE").is_ok_and(|value| value == "write")
}

/// Notes a row, and compares its figures (those in `value`; the smaller, the better) with those of the table that was kept.
pub(crate) fn check(key: &str, what: &str, value: &str) -> Result<(), String> {
    let line = format!("{key}: {what}: {value}");
    println!("{line}");
    MEASURED.lock().unwrap().insert(key.to_owned(), line.clone());
    if is_written() {
        return Ok(());
    }
    let kept = std::fs::read_to_string(file()).unwrap_or_default();
    let Some(old) = kept.lines().find(|old| old.starts_with(&format!("{key}: {what}: "))) else {
        return Err(format!("the table has no such row (HOPLINE_TABLE=write writes it anew):\n{line}"));
    };
    let old_figures = numbers(&old[format!("{key}: {what}: ").len()..]);
    let is_worse = numbers(value).iter().zip(&old_figures).any(|(new, old)| *new > old * TOLERANCE + SLACK);
    if is_worse { Err(format!("worse than it was:\n{line}\n{old}")) } else { Ok(()) }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|word| word.parse().ok()).collect()
}

/// Writes the table anew if the environment asks for it.
pub(crate) fn write_if_wanted() {
    let rows = MEASURED.lock().unwrap();
    if is_written() && !rows.is_empty() {
        let kept = std::fs::read_to_string(file()).unwrap_or_default();
        let key = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
        let mut all: BTreeMap<String, String> = kept.lines().map(|line| (key(line), line.to_owned())).collect();
        all.extend(rows.iter().map(|(key, line)| (key.clone(), line.clone())));
        let text: Vec<String> = all.into_values().map(|line| line + "\n").collect();
        std::fs::write(file(), text.concat()).expect("the table can be written");
    }
}
