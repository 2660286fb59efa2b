//! docs/mem4.md keeps its word: each promise names a test, and each test that it names exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of the functions in a file, or in the files of a folder, that are tests.
fn tests(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| tests(&entry.unwrap().path()))
            .collect();
    }
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                names.extend(rest.split('(').next().map(ToOwned::to_owned));
            }
            is_test = false;
        } else {
            is_test |= line == "#[test]";
        }
    }
    names
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `m::name` as its parts.
fn named(text: &str) -> Option<(&str, &str)> {
    let (room, name) = text.split_once("::")?;
    let one_letter = room.len() == 1 && room.chars().all(|c| c.is_ascii_lowercase());
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (one_letter && word).then_some((room, name))
}

#[test]
fn every_promise_of_mem4_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join("docs/mem4.md")).unwrap();
    let mut rooms = BTreeMap::new();
    let (mut promises, mut broken) = (0, Vec::new());
    let mut in_promises = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            in_promises = false;
        }
        let names = quoted(line).filter_map(named).collect::<Vec<_>>();
        if let [(room, "")] = names[..] {
            let path = quoted(line).nth(1).unwrap();
            rooms.insert(room.to_owned(), tests(&root().join(path)));
            continue;
        }
        for (room, name) in &names {
            let exists = rooms
                .get(*room)
                .is_some_and(|tests: &Vec<String>| tests.iter().any(|test| test == name));
            if !exists {
                broken.push(format!("no test {room}::{name}"));
            }
        }
        if in_promises && !line.starts_with("|---") {
            promises += 1;
            if names.is_empty() {
                broken.push(format!("nothing shows: {line}"));
            }
        }
        in_promises |= line.starts_with("| promise |");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(rooms.len() > 8, "{:?}", rooms.keys());
    assert!(promises > 35, "{promises} promises");
}

#[test]
fn tests_are_told_from_other_functions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.rs");
    fs::write(&path, "#[test]\nfn a_law() {}\n\nfn helper() {}\n").unwrap();
    assert_eq!(tests(dir.path()), ["a_law"]);
    assert_eq!(named("m::a_law"), Some(("m", "a_law")));
    assert_eq!(named("livecore_livedump::mem4"), None);
}
