//! Rules of the repository that neither the compiler nor a lint checks.

use std::collections::BTreeMap;
use std::fs;

use crate::rust_source::{FOLDERS, code_only, crates, files, lines_with, read, root, sources};

/// Fails if `broken` lists any violation of `rule`.
fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// Lines with `word` in the code of every file that is not `exempt`.
fn occurrences(word: &str, exempt: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !exempt(&path) {
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
fn only_livedump_sys_depends_on_the_operating_system() {
    let mut broken = occurrences("target_os", is_sys);
    for folder in crates() {
        if folder != "livedump" && read(&format!("{folder}/Cargo.toml")).contains("target_os") {
            broken.push(format!("{folder}/Cargo.toml"));
        }
    }
    report("target_os outside livedump/src/sys", &broken);
}

#[test]
fn readme_lists_all_unsafe_code() {
    let mut ours = BTreeMap::new();
    for (path, text) in sources() {
        let code = code_only(&text);
        let blocks = code.match_indices("unsafe").filter(|(at, word)| {
            let after = code[at + word.len()..].trim_start();
            after.starts_with('{') || after.starts_with("fn ") || after.starts_with("impl")
        });
        let count = blocks.count();
        if count > 0 {
            ours.insert(path, count);
        }
    }
    let mut listed = BTreeMap::new();
    for line in read("README.md").lines() {
        let row = line
            .strip_prefix("| `")
            .and_then(|row| row.split_once(".rs` | "));
        if let Some((file, rest)) = row
            && file.contains("/src/")
        {
            let count = rest.split_once(' ').unwrap().0.parse::<usize>().unwrap();
            listed.insert(format!("{file}.rs"), count);
        }
    }
    assert_eq!(
        ours, listed,
        "unsafe code (left), README's table of unsafe code (right)"
    );
}

#[test]
fn files_have_at_most_700_lines() {
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
fn top_level_has_only_known_files() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "testdata",
        "docs",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
        "rustfmt.toml",
        // Not in the repository.
        "target",
    ];
    let mut broken = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = allowed.contains(&name.as_str()) || FOLDERS.contains(&name.as_str());
        if !known && !name.starts_with('.') {
            broken.push(name);
        }
    }
    report("unknown files at the top level", &broken);
}

#[test]
fn relative_links_in_pages_exist() {
    let mut pages = vec![
        "README.md".to_owned(),
        "ARCHITECTURE.md".to_owned(),
        "CHANGELOG.md".to_owned(),
        "CONTRIBUTING.md".to_owned(),
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
                // The book consists of docs/ only.
                let outside = page.starts_with("docs/") && target.starts_with("../");
                if !path.exists() || outside {
                    broken.push(format!("{page}: {target}"));
                }
            }
        }
    }
    report("broken links", &broken);
}

/// CONTRIBUTING.md lists the files to change for common tasks. Its placeholders are replaced by an
/// example of each.
#[test]
fn files_that_contributing_lists_exist() {
    let examples = [
        ("ARCH", "arm64"),
        ("-vN", "-v1"),
        ("FORMAT", "lime"),
        ("GROUP", "header"),
        ("MODULE", "kdh"),
        ("ID.dump", "BM-SIZE.dump"),
        ("NAME.dump", "empty.dump"),
        ("VERB", "compare"),
    ];
    let (mut paths, mut broken) = (0, Vec::new());
    for quoted in read("CONTRIBUTING.md").split('`').skip(1).step_by(2) {
        if quoted.contains('/') && !quoted.contains(' ') {
            let mut path = quoted.to_owned();
            for (placeholder, example) in examples {
                path = path.replace(placeholder, example);
            }
            paths += 1;
            if !root().join(&path).exists() {
                broken.push(path);
            }
        }
    }
    assert!(paths > 80, "only {paths} paths");
    report("CONTRIBUTING.md lists files that do not exist", &broken);
}

/// Every text file of the repository.
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
fn no_file_contains_paths_of_a_development_machine() {
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
    report("paths of a development machine", &broken);
}

#[test]
fn test_data_is_text() {
    let mut broken = Vec::new();
    let mut folders = vec!["testdata".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            // Released formats have no recipe: their bytes are what later versions must read.
            let is_released = path.starts_with("testdata/released/sealed-");
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if !is_released && fs::read_to_string(entry.path()).is_err() {
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
fn all_dependencies_are_explained_with_their_version() {
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
    let explained = page
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
        if explained.get(name) != locked.get(name) {
            broken.push(format!(
                "{name}: {:?} in Cargo.lock, {:?} in docs/dependencies.md",
                locked.get(name),
                explained.get(name),
            ));
        }
    }
    for name in explained.keys().filter(|name| !direct.contains(name)) {
        broken.push(format!("{name}: only in docs/dependencies.md"));
    }
    report("dependencies and docs/dependencies.md differ", &broken);
}

#[test]
fn crates_use_all_their_dependencies() {
    let mut broken = Vec::new();
    for folder in crates() {
        let mut own = sources();
        own.retain(|(path, _)| {
            ["src", "tests", "examples", "benches"]
                .iter()
                .any(|part| path.starts_with(&format!("{folder}/{part}/")))
        });
        // Include files of other crates that `#[path]` names.
        let mut code = String::new();
        for (path, text) in &own {
            code += &code_only(text);
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            for included in text.split("#[path = \"").skip(1) {
                let name = included.split('"').next().unwrap();
                let text = fs::read_to_string(root().join(folder).join(name));
                code += &code_only(&text.unwrap_or_default());
            }
        }
        let uses = |name: &str| {
            code.match_indices(name).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                let after = &code[at + name.len()..];
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                    && (after.starts_with("::") || after.starts_with([';', '!']))
            })
        };
        let mut in_dependencies = false;
        for line in read(&format!("{folder}/Cargo.toml")).lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.starts_with(char::is_alphabetic) {
                let name = line
                    .split(['.', ' ', '='])
                    .next()
                    .unwrap()
                    .replace('-', "_");
                if !uses(&name) {
                    broken.push(format!("{folder}: {name}"));
                }
            }
        }
    }
    report("unused dependencies", &broken);
}
