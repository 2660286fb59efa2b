//! The Rust files of the workspace, as text and as code without comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// The top-level folders that contain crates.
pub(crate) const FOLDERS: [&str; 6] =
    ["compress", "minidump", "livedump", "verify", "cli", "tests"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Sorted paths, relative to the top level, of the files below `folder` with that extension.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{folder}/{name}");
            if entry.file_type().unwrap().is_dir() {
                if name != "target" {
                    folders.push(path);
                }
            } else if Path::new(&name).extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of the workspace with its text.
pub(crate) fn sources() -> Vec<(String, String)> {
    let sources = FOLDERS
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| (path.clone(), read(&path)))
        .collect::<Vec<_>>();
    assert!(sources.len() > 30, "only {} files found", sources.len());
    sources
}

/// The folder of every crate, from the workspace's manifest.
pub(crate) fn crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).unwrap();
    let members = members.split(']').next().unwrap().lines();
    let folders =
        members.filter_map(|line| Some(line.trim().strip_prefix('"')?.split_once('"')?.0));
    let folders = folders.map(ToOwned::to_owned).collect::<Vec<_>>();
    assert!(folders.len() > FOLDERS.len(), "only {folders:?}");
    folders
}

/// `text` with comments and strings replaced by spaces. Line breaks remain.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at
            + match rest {
                [b'/', b'/', ..] => find(rest, b"\n").unwrap_or(rest.len()),
                [b'/', b'*', ..] => block_comment(rest),
                [b'"', ..] => quoted(rest),
                [b'r', b'"' | b'#', ..] if !follows_a_word(bytes, at) => raw_string(rest),
                // A character literal; otherwise a lifetime or a label.
                [b'\'', b'\\', ..] => 2 + find(&rest[2..], b"'").map_or(rest.len() - 2, |n| n + 1),
                [b'\'', first, ..] => {
                    let len = char_len(*first);
                    if rest.get(1 + len) == Some(&b'\'') {
                        2 + len
                    } else {
                        1
                    }
                }
                _ => 0,
            };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    String::from_utf8(out).unwrap()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn follows_a_word(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    // `br"..."` and `cr"..."` are raw strings too.
    match before(1) {
        Some(b'b' | b'c') => before(2).is_some_and(word),
        Some(b) => word(b),
        None => false,
    }
}

fn char_len(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string; 0 if it is a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = 2 + hashes;
    find(&rest[body..], &close).map_or(rest.len(), |n| body + n + close.len())
}

/// The lines of `code` that contain `word` as a whole word, counted from 1.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part)
        })
    };
    let lines = code.lines().enumerate();
    lines.filter(|(_, l)| has(l)).map(|(n, _)| n + 1).collect()
}

#[test]
fn comments_and_quotes_are_not_code() {
    let text = r##"let a = 'x'; // unsafe
/* unsafe /* unsafe */ unsafe */ let b: &'static str = "unsafe \" unsafe";
let c = r#"unsafe " unsafe"#; let d = '\''; let r#unsafe = br"unsafe"; let e = 'é'; unsafe {}"##;
    let code = code_only(text);
    assert_eq!(lines_with(&code, "unsafe"), [3]);
    assert_eq!(code.matches("unsafe").count(), 2, "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
}
