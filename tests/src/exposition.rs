//! A strict parser of the text format of Prometheus, and promtool if it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// The samples of `text`: name, labels in order of the names, and value.
///
/// # Panics
///
/// The text violates the format, or the conventions for names and units.
pub fn parse(text: &str) -> BTreeMap<(String, Vec<(String, String)>), f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut current: Option<(String, bool)> = None;
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "no newline at the end"
    );
    for line in text.lines() {
        assert!(!line.contains('\r'), "{line:?}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !help.contains('\\'), "{line:?}");
            assert!(families.insert(name.to_owned()), "{name}: two groups");
            current = Some((name.into(), false));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(["counter", "gauge"].contains(&kind), "{line:?}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line:?}");
            assert_eq!(current, Some((name.into(), false)), "{line:?}");
            current = Some((name.into(), true));
        } else {
            let (name, labels, value) = sample(line);
            assert_eq!(current, Some((name.clone(), true)), "{line:?}");
            let before = samples.insert((name, labels), value);
            assert!(before.is_none(), "{line:?} is repeated");
        }
    }
    samples
}

fn is_name(text: &str, colon: bool) -> bool {
    let is = |c: char| c.is_ascii_alphabetic() || c == '_' || colon && c == ':';
    text.starts_with(is) && text.chars().all(|c| is(c) || c.is_ascii_digit())
}

/// Parses `name{label="value",...} number`.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line:?}");
    let mut labels = Vec::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, value) = inner.split_once("=\"").expect("a label");
            assert!(is_name(label, false), "{line:?}");
            let mut text = String::new();
            let mut chars = value.char_indices();
            let end = loop {
                match chars.next().expect("a quote") {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match chars.next() {
                        Some((_, '\\')) => '\\',
                        Some((_, '"')) => '"',
                        Some((_, 'n')) => '\n',
                        other => panic!("{line:?}: escape {other:?}"),
                    }),
                    (_, c) => text.push(c),
                }
            };
            labels.push((label.to_owned(), text));
            inner = &value[end + 1..];
            match inner.split_at(1) {
                (",", next) => inner = next,
                ("}", next) => {
                    rest = next;
                    break;
                }
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a space");
    assert!(!value.contains(' '), "{line:?}");
    let names: Vec<_> = labels.iter().map(|(name, _)| name.clone()).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{line:?}");
    labels.sort();
    (name.into(), labels, value.parse().expect("a number"))
}

/// Passes `text` to `promtool check metrics`. Returns `false` if promtool is not installed.
///
/// # Panics
///
/// promtool rejects the text.
pub fn promtool(text: &str) -> bool {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return false };
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(text.as_bytes()).expect("promtool reads");
    drop(pipe);
    assert!(child.wait().expect("promtool").success(), "{text}");
    true
}
