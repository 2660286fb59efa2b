//! The rules of the house, as far as a program can see them.
//!
//! Each test names its rule; a failure lists where it is broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every package of the workspace.
const CRATES: [&str; 9] = [
    "compress",
    "minidump/defs",
    "minidump",
    "minidump/kernel",
    "livedump/synth",
    "livedump",
    "verify",
    "cli",
    "tests",
];

const ROOMS: [&str; 6] = ["compress", "minidump", "livedump", "verify", "cli", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every file below `folder` with that extension, its name relative to the top, sorted.
fn files(folder: &str, extension: &str) -> Vec<String> {
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
fn sources() -> Vec<(String, String)> {
    let sources = ROOMS
        .iter()
        .flat_map(|room| files(room, "rs"))
        .map(|path| (path.clone(), read(&path)))
        .collect::<Vec<_>>();
    assert!(sources.len() > 30, "only {} files found", sources.len());
    sources
}

/// `text` with spaces in place of comments and of what stands in quotes. Line ends stay.
fn code_only(text: &str) -> String {
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
                // A character; anything else behind a quote is a lifetime or a label.
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
    // `br"..."` is a raw string too.
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

/// The lines of `code` in which `word` stands as a word of its own, counted from 1.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part)
        })
    };
    let lines = code.lines().enumerate();
    lines.filter(|(_, l)| has(l)).map(|(n, _)| n + 1).collect()
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// Lines with `word` in the code of every file that `excused` does not excuse.
fn occurrences(word: &str, excused: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !excused(&path) {
            let lines = lines_with(&code_only(&text), word);
            found.extend(lines.iter().map(|line| format!("{path}:{line}: {word}")));
        }
    }
    found
}

fn is_sys(path: &str) -> bool {
    path.starts_with("livedump/src/sys/")
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

#[test]
fn unsafe_code_lives_in_livedump_sys_alone() {
    report(
        "unsafe outside livedump/src/sys",
        &occurrences("unsafe", is_sys),
    );
}

#[test]
fn the_operating_system_is_asked_for_in_livedump_sys_alone() {
    let mut broken = occurrences("target_os", is_sys);
    for room in ROOMS {
        if room != "livedump" && read(&format!("{room}/Cargo.toml")).contains("target_os") {
            broken.push(format!("{room}/Cargo.toml"));
        }
    }
    report("target_os outside livedump/src/sys", &broken);
}

#[test]
fn the_readme_lists_every_unsafe_site() {
    let mut ours = BTreeMap::new();
    for (path, text) in sources() {
        let code = code_only(&text);
        let blocks = code.match_indices("unsafe").filter(|(at, word)| {
            let behind = code[at + word.len()..].trim_start();
            behind.starts_with('{') || behind.starts_with("fn ") || behind.starts_with("impl")
        });
        let count = blocks.count();
        if count > 0 {
            ours.insert(path, count);
        }
    }
    let mut listed = BTreeMap::new();
    for line in read("README.md").lines() {
        if let Some(row) = line.strip_prefix("| `livedump/src/sys/") {
            let (file, rest) = row.split_once("` | ").unwrap();
            let count = rest.split_once(' ').unwrap().0.parse::<usize>().unwrap();
            listed.insert(format!("livedump/src/sys/{file}"), count);
        }
    }
    assert_eq!(
        ours, listed,
        "the code (left) and README's table of unsafe code (right)"
    );
}

#[test]
fn nothing_is_left_unwritten() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let code = code_only(&text);
        for (number, (code, line)) in code.lines().zip(text.lines()).enumerate() {
            let left = ["todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .any(|m| code.contains(m))
                || code.contains("unreachable!(") && line.contains("written")
                || code.contains("#[ignore]");
            if left {
                broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("left unwritten, or ignored without a reason", &broken);
}

#[test]
fn a_file_holds_one_noun() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > 700 {
            broken.push(format!("{path}: {lines} lines"));
        }
    }
    report("files of more than 700 lines", &broken);
}

#[test]
fn the_top_level_is_fixed() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "testdata",
        "docs",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE",
        "rustfmt.toml",
        // Not of the repository.
        "target",
    ];
    let mut broken = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = allowed.contains(&name.as_str()) || ROOMS.contains(&name.as_str());
        if !known && !name.starts_with('.') {
            broken.push(name);
        }
    }
    report("new at the top", &broken);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![
        "README.md".to_owned(),
        "ARCHITECTURE.md".to_owned(),
        "CHANGELOG.md".to_owned(),
    ];
    pages.extend(files("docs", "md"));
    pages.extend(files("testdata", "md"));
    let mut broken = Vec::new();
    for page in pages {
        let text = read(&page);
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                let path = root().join(folder).join(target);
                if !path.exists() {
                    broken.push(format!("{page}: {target}"));
                }
            }
        }
    }
    report("links to nothing", &broken);
}

/// Every file that a clone has, as far as it is text.
fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["target", ".git", "corpus", "artifacts"].contains(&name) {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let relative = path.strip_prefix(root()).unwrap();
                texts.push((relative.to_str().unwrap().to_owned(), text));
            }
        }
    }
    texts
}

#[test]
fn no_file_names_somebodys_machine() {
    let mut broken = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for folder in ["root", "home", "work"] {
                if path != ".git" && line.contains(&format!("/{folder}/")) {
                    broken.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    report("paths of a machine", &broken);
}

#[test]
fn test_data_is_text() {
    let mut broken = Vec::new();
    let mut folders = vec!["testdata".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if fs::read_to_string(entry.path()).is_err() {
                broken.push(path);
            }
        }
    }
    report(
        "binary test data: commit its recipe, not the bytes",
        &broken,
    );
}

#[test]
fn every_dependency_is_accounted_for() {
    let lock = read("Cargo.lock");
    let mut locked = BTreeMap::new();
    let mut broken = Vec::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key| {
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')
        };
        if let Some(crate_name) = value("name") {
            name = crate_name;
        } else if let Some(version) = value("version") {
            locked.insert(name, version.split('+').next().unwrap());
        } else if let Some(source) = value("source")
            && source != "registry+https://github.com/rust-lang/crates.io-index"
        {
            broken.push(format!("{name} comes from {source}"));
        }
    }
    let page = read("docs/dependencies.md");
    let told = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(", ")?.0)))
        .collect::<BTreeMap<_, _>>();
    let manifest = read("Cargo.toml");
    let direct = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with("livecore"))
        .collect::<Vec<_>>();
    assert!(direct.len() > 10, "only {direct:?}");
    for name in &direct {
        if told.get(name) != locked.get(name) {
            broken.push(format!(
                "{name}: {:?} in Cargo.lock, {:?} in docs/dependencies.md",
                locked.get(name),
                told.get(name),
            ));
        }
    }
    for name in told.keys().filter(|name| !direct.contains(name)) {
        broken.push(format!("{name} is in docs/dependencies.md alone"));
    }
    report("dependencies that nobody accounts for", &broken);
}

#[test]
fn a_crate_uses_what_it_depends_on() {
    let mut broken = Vec::new();
    for room in CRATES {
        let mut of_room = sources();
        of_room.retain(|(path, _)| {
            ["src", "tests", "examples", "benches"]
                .iter()
                .any(|part| path.starts_with(&format!("{room}/{part}/")))
        });
        let code = of_room
            .iter()
            .map(|(_, text)| code_only(text))
            .collect::<String>();
        let uses = |name: &str| {
            code.match_indices(name).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                let behind = &code[at + name.len()..];
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                    && (behind.starts_with("::") || behind.starts_with([';', '!']))
            })
        };
        let mut in_dependencies = false;
        for line in read(&format!("{room}/Cargo.toml")).lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.starts_with(char::is_alphabetic) {
                let name = line
                    .split(['.', ' ', '='])
                    .next()
                    .unwrap()
                    .replace('-', "_");
                if !uses(&name) {
                    broken.push(format!("{room}: {name}"));
                }
            }
        }
    }
    report("dependencies without a use", &broken);
}

/// A test that a text cites as `file.rs::name`, and whether there is one.
fn is_a_test(citation: &str) -> bool {
    let Some((file, name)) = citation.rsplit_once("::") else {
        return false;
    };
    let Ok(text) = fs::read_to_string(root().join(file)) else {
        return false;
    };
    let mut attribute = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            attribute = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if attribute && rest.strip_prefix(name).is_some_and(|r| r.starts_with('(')) {
                return true;
            }
            attribute = false;
        }
    }
    false
}

/// The README's table of what is supported: every cell is `no` or the letters of tests, and every
/// test that is named exists.
#[test]
fn what_is_supported_is_shown_by_a_test_that_exists() {
    let readme = read("README.md");
    let mut broken = Vec::new();
    let citations = readme
        .split('`')
        .filter(|quoted| quoted.contains(".rs::"))
        .collect::<Vec<_>>();
    assert!(citations.len() > 20, "only {citations:?}");
    for citation in citations {
        if !is_a_test(citation) {
            broken.push(format!("no test {citation}"));
        }
    }

    let rows = |head: &str| -> Vec<Vec<String>> {
        let table = readme.split(head).nth(1).unwrap_or_default();
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
    let named: BTreeMap<String, String> = rows("| test | |")
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
                broken.push(format!("nothing shows a cell of {row:?}"));
            }
            for letter in letters.split_whitespace() {
                used.push(letter.to_owned());
                if !named.contains_key(letter) {
                    broken.push(format!("{letter} of {row:?} is not named"));
                }
            }
        }
    }
    for (letter, what) in &named {
        if !used.contains(letter) {
            broken.push(format!("{letter} ({what}) is in no cell"));
        }
    }
    report("support that nothing shows", &broken);
}
