//! docs/support.md and docs/mem4.md cite a test for every claim, and the tests exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::rust_source::{read, root};

/// The names of the tests in a file, or in the files of a folder.
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

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Splits `m::name`.
fn named(text: &str) -> Option<(&str, &str)> {
    let (file, name) = text.split_once("::")?;
    let one_letter = file.len() == 1 && file.chars().all(|c| c.is_ascii_lowercase());
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (one_letter && word).then_some((file, name))
}

#[test]
fn all_promises_of_mem4_cite_an_existing_test() {
    let page = fs::read_to_string(root().join("docs/mem4.md")).unwrap();
    let mut files = BTreeMap::new();
    let (mut promises, mut broken) = (0, Vec::new());
    let mut in_promises = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            in_promises = false;
        }
        let names = quoted(line).filter_map(named).collect::<Vec<_>>();
        if let [(file, "")] = names[..] {
            let path = quoted(line).nth(1).unwrap();
            files.insert(file.to_owned(), tests(&root().join(path)));
            continue;
        }
        for (file, name) in &names {
            let exists = files
                .get(*file)
                .is_some_and(|tests: &Vec<String>| tests.iter().any(|test| test == name));
            if !exists {
                broken.push(format!("no such test: {file}::{name}"));
            }
        }
        if in_promises && !line.starts_with("|---") {
            promises += 1;
            if names.is_empty() {
                broken.push(format!("no test cited: {line}"));
            }
        }
        in_promises |= line.starts_with("| promise |");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(files.len() > 8, "{:?}", files.keys());
    assert!(promises > 35, "{promises} promises");
}

#[test]
fn only_functions_with_the_test_attribute_are_tests() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.rs");
    fs::write(&path, "#[test]\nfn a_law() {}\n\nfn helper() {}\n").unwrap();
    assert_eq!(tests(dir.path()), ["a_law"]);
    assert_eq!(named("m::a_law"), Some(("m", "a_law")));
    assert_eq!(named("livecore_livedump::mem4"), None);
}

/// Whether the test that `file.rs::name` cites exists.
fn is_a_test(citation: &str) -> bool {
    citation.rsplit_once("::").is_some_and(|(file, name)| {
        let path = root().join(file);
        path.is_file() && tests(&path).iter().any(|test| test == name)
    })
}

/// Every cell of the table of supported dumps is `no` or the letters of tests.
#[test]
fn support_page_cites_existing_tests() {
    let page = read("docs/support.md");
    let mut broken = Vec::new();
    let citations = page
        .split('`')
        .filter(|quoted| quoted.contains(".rs::"))
        .collect::<Vec<_>>();
    assert!(citations.len() > 20, "only {citations:?}");
    for citation in citations {
        if !is_a_test(citation) {
            broken.push(format!("no such test: {citation}"));
        }
    }

    let rows = |head: &str| -> Vec<Vec<String>> {
        let table = page.split(head).nth(1).unwrap_or_default();
        table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                line.trim_matches('|')
                    .split('|')
                    .map(|c| c.trim().to_owned())
            })
            .map(Iterator::collect)
            .collect()
    };
    let named: BTreeMap<String, String> = rows("| letter | test |")
        .into_iter()
        .filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone())))
        .collect();
    let cells = rows("| minidumps of | version | read | translate | verify | take | threads |");
    assert!(cells.len() > 10, "{} rows", cells.len());
    let mut used = Vec::new();
    for row in &cells {
        if row.len() != 7 {
            broken.push(format!("{} columns: {row:?}", row.len()));
        }
        for cell in row.iter().skip(2).filter(|cell| *cell != "no") {
            let letters = cell.rsplit(':').next().unwrap_or_default();
            if letters.trim().is_empty() {
                broken.push(format!("no test cited in a cell of {row:?}"));
            }
            for letter in letters.split_whitespace() {
                used.push(letter.to_owned());
                if !named.contains_key(letter) {
                    broken.push(format!("{letter} of {row:?} is not in the table of tests"));
                }
            }
        }
    }
    for (letter, what) in &named {
        if !used.contains(letter) {
            broken.push(format!("{letter} ({what}) is not used in a cell"));
        }
    }
    assert!(
        broken.is_empty(),
        "support without a test:\n{}",
        broken.join("\n")
    );
}
