//! The commands of the documentation: those of `console` blocks run, and their output is compared; those of `sh`
//! blocks, which need more than a Unix system, have options that exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use livecore::Cli;
use livecore_tests::console;

use crate::harness::testdata;
use crate::real::say;

/// Programs that examples start, besides those of every Unix system.
const PROGRAMS: [&str; 5] = ["gdb", "qemu-system-x86_64", "python3", "zstd", "jq"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md and the pages of `docs`, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let mut paths: Vec<_> = docs
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    paths.push(root().join("README.md"));
    paths.sort();
    let with_text = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(with_text).collect()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A program that the page's examples start and that is not installed.
fn missing(page: &str) -> Option<&'static str> {
    let examples = console::examples(page).into_iter();
    let commands: Vec<_> = examples.map(|example| example.command).collect();
    let commands = commands.join("\n") + "\n" + &console::preparation(page);
    let starts = |program: &str| {
        let mut words = commands.split_whitespace();
        words.any(|word| word == program)
    };
    PROGRAMS
        .into_iter()
        .find(|program| starts(program) && !is_installed(program))
}

/// Runs the examples of a page in a directory with `small.toml` and `tiny.toml` of `testdata/machines`.
fn check(path: &Path, text: &str) -> Vec<String> {
    let examples = console::examples(text);
    if examples.is_empty() {
        return Vec::new();
    }
    let name = path.file_name().unwrap().display();
    if let Some(program) = missing(text) {
        say(&format!(
            "skipped: {program} is not installed, for the examples of {name}"
        ));
        return Vec::new();
    }
    let dir = tempfile::tempdir().unwrap();
    for machine in ["small.toml", "tiny.toml", "debug.toml", "deadlock.toml"] {
        let from = testdata().join("machines").join(machine);
        fs::copy(from, dir.path().join(machine)).unwrap();
    }
    let programs = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_livecore"));
    std::os::unix::fs::symlink(own, programs.path().join("livecore")).unwrap();
    let outputs = console::run(text, dir.path(), programs.path());
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let updated = console::with_outputs(text, &examples, &outputs);
        if updated != text {
            fs::write(path, updated).unwrap();
        }
        return Vec::new();
    }
    examples
        .iter()
        .zip(&outputs)
        .filter(|(example, output)| !console::same(&example.output, output))
        .map(|(example, output)| {
            format!(
                "{name}:{}: $ {}\nthe page has:\n{}now:\n{output}",
                example.line, example.command, example.output
            )
        })
        .collect()
}

#[test]
fn commands_of_console_blocks_print_what_the_pages_show() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        count += console::examples(&text).len();
        wrong.extend(check(&path, &text));
    }
    assert!(count >= 40, "{count} commands");
    assert!(
        wrong.is_empty(),
        "{}\nIf a change is intended: UPDATE_GOLDEN=1 cargo test -p livecore --test cli pages::",
        wrong.join("\n")
    );
}

/// The lines of text of an image of `docs/session`.
fn session_lines(svg: &str) -> String {
    svg.lines()
        .filter(|line| line.starts_with("<text "))
        .map(|line| line.split_once('>').unwrap().1.replace("</text>", "\n"))
        .collect()
}

#[test]
fn recorded_session_shows_what_the_program_prints() {
    if !is_installed("python3") {
        say("skipped: python3 is not installed, for docs/session");
        return;
    }
    let run = Command::new(root().join("docs/session"))
        .arg(env!("CARGO_BIN_EXE_livecore"))
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let recorded = fs::read_to_string(root().join("docs/session.svg")).unwrap();
    let recorded = session_lines(&recorded);
    let now = session_lines(&String::from_utf8(run.stdout).unwrap());
    assert!(recorded.lines().count() > 20, "{recorded}");
    assert!(
        console::same(&recorded, &now),
        "record the session again: docs/session > docs/session.svg\nrecorded:\n{recorded}now:\n{now}"
    );
}

/// The words of the calls of livecore in a line of a shell. Without quotes around them, `#`, `|`, `<`, `>`, `&`, `;`
/// and `)` end a call.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![vec![String::new()]];
    let mut quote = None;
    let mut is_comment = false;
    for c in line.chars() {
        let command = commands.last_mut().unwrap();
        let word = command.last_mut().unwrap();
        match c {
            _ if is_comment => {}
            _ if quote == Some(c) => quote = None,
            _ if quote.is_some() => word.push(c),
            '\'' | '"' => quote = Some(c),
            '#' if word.is_empty() => is_comment = true,
            // The number of a descriptor.
            '>' if word.bytes().all(|b| b.is_ascii_digit()) => {
                word.clear();
                commands.push(vec![String::new()]);
            }
            '|' | '<' | '>' | '&' | ';' | '(' | ')' => commands.push(vec![String::new()]),
            c if c.is_whitespace() => command.push(String::new()),
            c => word.push(c),
        }
    }
    let words = |command: Vec<String>| -> Vec<String> {
        let words = command.into_iter().filter(|word| !word.is_empty());
        words
            .skip_while(|w| w.contains('=') || w == "sudo" || w == "$")
            .collect()
    };
    let calls = commands.into_iter().map(words);
    calls
        .filter(|words| words.first().is_some_and(|word| word == "livecore"))
        .collect()
}

#[test]
fn calls_of_a_line_end_at_operators_and_comments() {
    let line = "A=1 livecore info 'a b' | grep x; livecore -v verify d 2>&1 > out # livecore no";
    let expected: [&[&str]; 2] = [
        &["livecore", "info", "a b"],
        &["livecore", "-v", "verify", "d"],
    ];
    assert_eq!(calls(line), expected);
}

#[test]
fn commands_of_sh_blocks_have_verbs_and_options_that_exist() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in pages() {
        let mut line = String::new();
        for (number, part) in console::blocks(&text, "sh") {
            line.push_str(part.trim_end_matches('\\'));
            if part.ends_with('\\') {
                continue;
            }
            for words in calls(&std::mem::take(&mut line)) {
                count += 1;
                let parsed = Cli::command().try_get_matches_from(&words);
                // Help and versions are errors for clap.
                if let Err(e) = parsed.map_err(|e| (e.exit_code() != 0).then(|| e.to_string()))
                    && let Some(e) = e
                {
                    let page = path.file_name().unwrap().display();
                    wrong.push(format!("{page}:{number}: {}: {e}", words.join(" ")));
                }
            }
        }
    }
    assert!(count >= 30, "{count} calls");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
