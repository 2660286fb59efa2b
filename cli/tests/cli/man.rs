//! Tests of the manual pages.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{run, testdata};
use crate::usage::verbs;

fn pages() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run(["man".as_ref(), dir.path().as_os_str()]).expect(0);
    dir
}

fn page(dir: &Path, name: &str) -> String {
    let section = name.rsplit('.').next().unwrap();
    let path = dir.join(format!("man{section}")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn repository() -> PathBuf {
    testdata().join("..")
}

/// The text between two headings.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let body = page.split(&format!(".Sh {title}\n")).nth(1);
    body.unwrap_or_default().split(".Sh ").next().unwrap()
}

/// The terms of the lists in a part of a page.
fn terms<'a>(part: &'a str, name: &str) -> Vec<&'a str> {
    let items = part.lines().filter_map(|line| line.strip_prefix(".It "));
    let of_kind = items.filter_map(|item| item.strip_prefix(name));
    of_kind.flat_map(|item| item.split(" , ")).collect()
}

#[test]
fn manual_has_a_page_with_all_sections_for_each_verb() {
    let dir = pages();
    let help = run(["--help"]).expect(0);
    let first = page(dir.path(), "livecore.1");
    for verb in verbs(help.text()) {
        let text = page(dir.path(), &format!("livecore-{verb}.1"));
        let mut at = 0;
        for title in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "ENVIRONMENT",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
        ] {
            let found = text[at..].find(&format!("\n.Sh {title}\n"));
            at += found.unwrap_or_else(|| panic!("livecore-{verb}.1: no {title} in its place"));
        }
        assert!(
            first.contains(&format!(".It Xr livecore-{verb} 1\n")),
            "{verb}"
        );
    }
    for name in ["livecore-machine.5", "livecore-sealed.5"] {
        assert!(first.contains(&format!(".Xr {} 5", name.trim_end_matches(".5"))));
        assert!(!section(&page(dir.path(), name), "DESCRIPTION").is_empty());
    }
    assert_eq!(run(["man"]).expect(0).text(), first);
    run(["man", "/dev/null/directory"]).expect(1);
}

/// `--help` and the pages list the same options.
#[test]
fn pages_replace_links_and_do_not_follow_them() {
    let dir = pages();
    let (page, other) = (dir.path().join("man1/livecore.1"), dir.path().join("other"));
    let text = fs::read(&page).unwrap();
    fs::write(&other, "unchanged").unwrap();
    fs::remove_file(&page).unwrap();
    symlink(&other, &page).unwrap();
    run(["man".as_ref(), dir.path().as_os_str()]).expect(0);
    assert_eq!(fs::read(&other).unwrap(), b"unchanged");
    assert!(page.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(&page).unwrap(), text);
}

#[test]
fn pages_explain_every_option_of_the_help() {
    let dir = pages();
    let help = run(["--help"]).expect(0);
    let mut options = 0;
    for verb in verbs(help.text()) {
        let text = page(dir.path(), &format!("livecore-{verb}.1"));
        let own = run([verb, "--help"]).expect(0);
        let own = own.text().split("\nGlobal options:").next().unwrap();
        let listed = own
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'));
        for line in listed {
            let Some(long) = line
                .split([' ', '=', '[', ','])
                .find_map(|word| word.strip_prefix("--"))
            else {
                continue;
            };
            if long != "help" {
                let term = format!("Fl \\-{}", long.replace('-', "\\-"));
                let in_term = text
                    .lines()
                    .any(|line| line.starts_with(".It ") && line.contains(&term));
                assert!(in_term, "livecore-{verb}.1 lacks --{long}");
                options += 1;
            }
        }
    }
    assert!(options > 100, "{options}");
}

#[test]
fn mandoc_finds_no_fault_in_the_pages() {
    let dir = pages();
    let files = ["man1", "man5"].map(|section| fs::read_dir(dir.path().join(section)).unwrap());
    let files = files
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let output = Command::new("mandoc")
        .args(["-T", "lint"])
        .args(files)
        .output();
    let Ok(output) = output else {
        let why = "skipped: mandoc is not installed\n";
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    };
    // The pages refer to each other and to FreeBSD's pages, which are not installed here.
    let text = String::from_utf8(output.stdout).unwrap();
    let faults = text
        .lines()
        .filter(|line| !line.contains("referenced manual not found"));
    assert_eq!(faults.collect::<Vec<_>>().join("\n"), "");
    assert!(output.status.code().is_some_and(|code| code <= 2), "{text}");
}

/// References between our own pages lead to pages that exist.
#[test]
fn pages_refer_to_pages_that_exist() {
    let dir = pages();
    let names: BTreeSet<String> = ["man1", "man5"]
        .into_iter()
        .flat_map(|section| fs::read_dir(dir.path().join(section)).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in &names {
        for line in page(dir.path(), name).lines() {
            let words: Vec<_> = line.split(' ').collect();
            for reference in words.windows(3) {
                if reference[0].ends_with("Xr") && reference[1].starts_with("livecore") {
                    let target = format!("{}.{}", reference[1], reference[2]);
                    assert!(names.contains(&target), "{name}: {line}");
                }
            }
        }
    }
}

#[test]
fn reference_and_manual_have_the_same_exit_codes() {
    let dir = pages();
    let text = page(dir.path(), "livecore.1");
    let part = section(&text, "EXIT STATUS");
    let codes = terms(part, "");
    let reference = fs::read_to_string(repository().join("docs/reference.md")).unwrap();
    let table = reference.split("| code | meaning |\n").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), codes);
    let help = run(["--help"]).expect(0);
    for row in &rows {
        let line = format!("  {:<8} {}", row[1], row[2]);
        assert!(help.text().contains(&line), "{line:?} is not in the help");
    }
    assert!(codes.len() > 6);
}

/// The environment variables that the program reads, by its code, are those of the page.
#[test]
fn page_lists_the_environment_variables_that_the_code_reads() {
    let dir = pages();
    let text = page(dir.path(), "livecore.1");
    let listed: BTreeSet<&str> = terms(section(&text, "ENVIRONMENT"), "Ev ")
        .into_iter()
        .collect();
    let mut read = BTreeSet::new();
    let mut folders = vec![repository().join("cli/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_probe = path.ends_with("probe.rs") || path.ends_with("man");
            if path.is_dir() && !is_probe {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") && !is_probe {
                let text = fs::read_to_string(&path).unwrap();
                let reads = ["std::env::var", "crate::variable::number"];
                if reads.iter().any(|reads| text.contains(reads)) {
                    let parts: Vec<&str> = text.split('"').collect();
                    for pair in parts.chunks(2) {
                        let [before, word] = pair else { continue };
                        let is_name = |b| matches!(b, b'A'..=b'Z' | b'_');
                        // The names of values in the help are written like variables.
                        let is_value = before.ends_with("value_name = ");
                        // Cargo sets it for the compiler.
                        let is_value = is_value || before.ends_with("env!(");
                        if word.len() > 1 && word.bytes().all(is_name) && !is_value {
                            read.insert((*word).to_owned());
                        }
                    }
                }
            }
        }
    }
    // std::env::temp_dir() reads it.
    read.insert("TMPDIR".to_owned());
    // livecore_livedump::qmp::Address reads it.
    read.insert("XDG_CONFIG_HOME".to_owned());
    let read: BTreeSet<&str> = read.iter().map(String::as_str).collect();
    assert_eq!(read, listed, "the code (left), livecore.1 (right)");
}

/// The example of the page is a machine that can be dumped, and lists a process that it describes.
#[test]
fn example_of_a_machine_can_be_dumped() {
    let dir = tempfile::tempdir().unwrap();
    let docs = fs::read_to_string(repository().join("docs/machines.md")).unwrap();
    let example = docs
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("machine.toml"), example).unwrap();
    run([
        "take",
        "--machine",
        &path("machine.toml"),
        "-o",
        &path("vmcore.0.zst"),
    ])
    .expect(0);
    run(["verify", "--strict", &path("vmcore.0.zst")]).expect(0);
}
