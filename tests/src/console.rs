//! The examples of a Markdown page, run by a shell.
//!
//! A block of the language `console` contains commands, each after `$ ` (and `> ` for its further lines), and their
//! output: standard output and standard error, as on a terminal. [`run`] runs the commands of a page in one shell, so
//! that a command sees the files and the variables of the commands before it. A comment that begins with the line
//! `<!-- prepare` contains commands that run before them, and whose output is not compared. A line `...` of a page represents any
//! number of lines. Times and rates differ in each run: [`same`] does not compare them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command of a page, and its output there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The number of the command's line in the page, from 1.
    pub line: usize,
    /// The command, without the prompts.
    pub command: String,
    /// The output: complete lines.
    pub output: String,
}

/// The lines of the code blocks of `page` in `language`, with their numbers from 1.
pub fn blocks<'a>(
    page: &'a str,
    language: &'a str,
) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
    let mut current = None;
    page.lines()
        .enumerate()
        .filter_map(move |(index, line)| match line.strip_prefix("```") {
            Some(after) => {
                current = if current.is_none() { Some(after) } else { None };
                None
            }
            None => (current == Some(language)).then_some((index + 1, line)),
        })
}

/// The commands of the `console` blocks of `page`.
///
/// # Panics
///
/// A block begins with output.
#[must_use]
pub fn examples(page: &str) -> Vec<Example> {
    let mut all: Vec<Example> = Vec::new();
    let mut last = 0;
    for (line, text) in blocks(page, "console") {
        if let Some(command) = text.strip_prefix("$ ") {
            all.push(Example {
                line,
                command: command.to_owned(),
                output: String::new(),
            });
        } else {
            assert!(last + 1 == line, "line {line} is not a command: {text}");
            let example = all.last_mut().expect("a command before its output");
            match text.strip_prefix("> ") {
                Some(more) if example.output.is_empty() => {
                    let _ = write!(example.command, "\n{more}");
                }
                _ => {
                    let _ = writeln!(example.output, "{text}");
                }
            }
        }
        last = line;
    }
    all
}

/// The commands of the comments of `page` that begin with `<!-- prepare`, line by line.
#[must_use]
pub fn preparation(page: &str) -> String {
    let mut is_inside = false;
    let mut commands = String::new();
    for line in page.lines() {
        match line {
            "<!-- prepare" => is_inside = true,
            "-->" => is_inside = false,
            _ if is_inside => {
                let _ = writeln!(commands, "{line}");
            }
            _ => {}
        }
    }
    commands
}

/// Runs the commands of a page in `dir` with one shell, whose PATH begins with `programs`. Returns their output.
///
/// # Panics
///
/// The shell does not start, a command of the preparation fails, or a command ends the shell.
#[must_use]
pub fn run(page: &str, dir: &Path, programs: &Path) -> Vec<String> {
    // A character that no command prints.
    const END: char = '\u{1e}';
    let examples = examples(page);
    let mut script = format!(
        "exec 2>&1 </dev/null\nset -e\n{}set +e\nprintf '\\036'\n",
        preparation(page)
    );
    for example in &examples {
        // The next command finds the exit code in `$?`.
        let _ = writeln!(
            script,
            "{}\nstatus=$?; printf '\\036'; (exit $status)",
            example.command
        );
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path)),
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script])
        .current_dir(dir)
        .env("PATH", path.expect("paths without colons"))
        .env("XDG_CACHE_HOME", dir.join(".cache"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let text = String::from_utf8(output.stdout).expect("output is text");
    let mut outputs: Vec<_> = text.split(END).map(str::to_owned).collect();
    let rest = outputs.pop();
    assert!(
        rest.is_some_and(|rest| rest.is_empty()) && outputs.len() == examples.len() + 1,
        "the shell ended in command {} of {} (0: the preparation):\n{text}",
        outputs.len(),
        examples.len()
    );
    outputs.split_off(1)
}

/// Whether `output` is `expected`, except for times, rates and the lines that `...` represents.
#[must_use]
pub fn same(expected: &str, output: &str) -> bool {
    let expected: Vec<_> = expected.lines().map(without_times).collect();
    let output: Vec<_> = output.lines().map(without_times).collect();
    matches(&expected, &output)
}

fn matches(expected: &[String], output: &[String]) -> bool {
    match expected.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=output.len()).any(|skipped| matches(rest, &output[skipped..]))
        }
        Some((first, rest)) => output
            .split_first()
            .is_some_and(|(line, more)| line == first && matches(rest, more)),
    }
}

/// Replaces the numbers of times (`0.1 s`) and rates (`294 MiB/s`).
fn without_times(line: &str) -> String {
    let mut words: Vec<_> = line.trim_end().split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        let unit = words[at].trim_end_matches([',', ';', '.', ')']);
        let is_number = words[at - 1].starts_with(|c: char| c.is_ascii_digit());
        let time = ["s", "ms", "us"].contains(&unit);
        if is_number && (time || unit.ends_with("iB/s")) {
            // A faster machine may need another unit.
            words[at] = words[at].replace(unit, if time { "time" } else { "rate" });
            words[at - 1] = "N".to_owned();
        }
    }
    words.join(" ")
}

/// `page` with `outputs` in place of the recorded ones that differ. A recorded output with `...` stays.
#[must_use]
pub fn with_outputs(page: &str, examples: &[Example], outputs: &[String]) -> String {
    let mut lines: Vec<_> = page.lines().map(str::to_owned).collect();
    for (example, output) in examples.iter().zip(outputs).rev() {
        if same(&example.output, output) {
            continue;
        }
        let begin = example.line - 1 + example.command.lines().count();
        let end = begin + example.output.lines().count();
        lines.splice(begin..end, output.lines().map(|l| l.trim_end().to_owned()));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n\n```console\n$ echo one; (exit 3)\none\n$ echo $?\n3\n$ printf 'a\\nb\\nc\\n' |\n>   cat\na\n...\n```\n\n```sh\nnot run\n```\n";

    #[test]
    fn examples_have_their_line_command_and_output() {
        let found = examples(PAGE);
        let last = Example {
            line: 8,
            command: "printf 'a\\nb\\nc\\n' |\n  cat".into(),
            output: "a\n...\n".into(),
        };
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], last);
        assert_eq!(blocks(PAGE, "sh").collect::<Vec<_>>(), [(15, "not run")]);
    }

    #[test]
    fn commands_run_in_one_shell_and_only_what_differs_is_replaced() {
        let dir = std::env::temp_dir();
        let examples = examples(PAGE);
        let page = format!("<!-- prepare\nword=prepared\n-->\n{PAGE}");
        let page = page.replace("echo one", "echo $word");
        let outputs = run(&page, &dir, &dir);
        assert_eq!(outputs, ["prepared\n", "3\n", "a\nb\nc\n"]);
        let outputs = run(PAGE, &dir, &dir);
        assert_eq!(outputs, ["one\n", "3\n", "a\nb\nc\n"]);
        assert_eq!(with_outputs(PAGE, &examples, &outputs), PAGE);
        let wrong = PAGE.replace("\none\n", "\ntwo\nthree\n");
        let examples = self::examples(&wrong);
        assert!(!same(&examples[0].output, &outputs[0]));
        assert_eq!(with_outputs(&wrong, &examples, &outputs), PAGE);
    }

    #[test]
    fn times_and_rates_are_not_compared_but_sizes_are() {
        assert!(same(
            "9 pages, 0.1 s, 294 MiB/s\n",
            "9 pages, 12.5 s, 3 MiB/s\n"
        ));
        assert!(!same("9 pages, 0.1 s\n", "8 pages, 0.1 s\n"));
        assert!(!same("a\n...\nc\n", "a\nb\n"));
        assert!(same("a\n...\nc\n", "a\nc\n"));
    }
}
