//! File names and strings of dumps in every output: they cannot control a terminal, end a line or
//! form a command of a CI job's runner.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use livecore_defs::text::is_terminal_control;

use crate::harness::{Run, livecore, machine, run};

/// A file name with terminal control sequences.
const NAME: &str = "a\u{1b}[2Jb\nZZ\u{9b}d\u{202e}e";

struct Made {
    dir: tempfile::TempDir,
    dump: PathBuf,
}

fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join(format!("{NAME}.zst"));
    let tiny = machine("tiny");
    let args = ["take", "-q", "--machine"].map(AsRef::as_ref);
    run(args
        .into_iter()
        .chain([tiny.as_os_str(), "-o".as_ref(), dump.as_os_str()]))
    .expect(0);
    Made { dir, dump }
}

#[track_caller]
fn check(what: &str, run: &Run) {
    let text = String::from_utf8_lossy(&run.out).into_owned() + &run.err;
    for line in text.lines() {
        let line = line.replace('\t', " ");
        assert!(!line.contains(is_terminal_control), "{what}: {line:?}");
    }
    assert!(
        !text.lines().any(|line| line.starts_with("ZZ")),
        "{what}: {text}"
    );
}

#[test]
fn file_names_are_escaped_in_all_outputs() {
    let made = made();
    let dump = made.dump.to_str().unwrap();
    let bad = made.dir.path().join(format!("{NAME}.bad"));
    fs::write(&bad, &fs::read(&made.dump).unwrap()[..3000]).unwrap();
    let bad = bad.to_str().unwrap();
    let damaged = made.dir.path().join(format!("{NAME}.damaged"));
    let mut bytes = fs::read(&made.dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let damaged = damaged.to_str().unwrap();
    let out = made.dir.path().join(format!("{NAME}.out"));
    let out = out.to_str().unwrap();
    let mut runs = vec![
        vec!["info", dump],
        vec!["info", "--json", dump],
        vec!["dmesg", "--json", dump],
        vec!["triage", dump],
        vec!["triage", "--json", dump],
        vec!["compare", dump, bad],
        vec!["compare", "--json", dump, bad],
        vec!["salvage", bad, out],
        vec!["salvage", "--json", "--force", bad, out],
        vec!["salvage", "--force", damaged, out],
        vec!["salvage", "--json", "--force", damaged, out],
        vec!["verify", damaged],
        vec!["mem", "ranges", "--image", dump],
        vec!["convert", "--force", dump, out],
        vec!["convert", "--json", "--force", dump, out],
        vec!["read", dump, "hz", "4"],
        vec!["ps", bad],
        vec!["export", "--force", dump, out],
    ];
    for format in [
        "text",
        "json",
        "json-lines",
        "junit",
        "sarif",
        "tap",
        "github",
    ] {
        runs.push(vec!["verify", "--format", format, dump, bad]);
    }
    for args in runs {
        check(&format!("{args:?}"), &run(&args));
    }
}

#[test]
fn message_buffer_lines_are_not_ci_commands() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("vmcore.0");
    let tiny = machine("tiny");
    let args = ["take", "-q", "--none", "--container", "saved", "--machine"].map(AsRef::as_ref);
    run(args
        .into_iter()
        .chain([tiny.as_os_str(), "-o".as_ref(), dump.as_os_str()]))
    .expect(0);
    let mut bytes = fs::read(&dump).unwrap();
    for command in [
        &b"\n::error::owned"[..],
        b"\n  ::warning::owned",
        b"\n##[error]owned",
    ] {
        let at = line_of(&bytes, command.len());
        bytes[at..][..command.len()].copy_from_slice(command);
    }
    fs::write(&dump, bytes).unwrap();
    let dump = dump.to_str().unwrap();
    for verb in [&["dmesg"][..], &["triage", "--lines", "10000"]] {
        let command = |ci: &str| {
            let mut command = livecore();
            command.args(verb).arg(dump).stdin(Stdio::null());
            for name in ["CI", "GITLAB_CI", "TF_BUILD"] {
                command.env_remove(name);
            }
            command.env("GITHUB_ACTIONS", ci);
            Run::of(command.output().unwrap())
        };
        let shown = command("true");
        let is_command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
        assert!(
            shown.text().contains("\\072:error::owned"),
            "{}",
            shown.text()
        );
        assert!(!shown.text().lines().any(is_command), "{}", shown.text());
        assert!(command("").text().contains("\n::error::owned"));
    }
}

/// The offset of a line of the message buffer that is not ours and has at least `len` bytes.
fn line_of(bytes: &[u8], len: usize) -> usize {
    let ring = 4096..4096 + (96 << 10);
    ring.into_iter()
        .find(|at| {
            let line = &bytes[*at..][..len + 1];
            let is_text = |b: &u8| b.is_ascii_graphic() || *b == b' ';
            line[0] == b'\n'
                && line[1] == b'<'
                && line[1..].iter().all(is_text)
                && !line.windows(5).any(|word| word == b"owned")
        })
        .expect("a message buffer has lines")
}

/// A name is bytes; 0xff is in no UTF-8.
#[test]
fn names_that_are_not_utf_8_are_read_and_written_by_every_verb() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| dir.path().join(OsStr::from_bytes(name)).into_os_string();
    let machine = machine("tiny").into_os_string();
    let (image, dump) = (at(b"m\xffachine"), at(b"vm\xffcore.zst"));
    let kernel = PathBuf::from(&image).join("kernel").into_os_string();
    let verb = |words: &str, paths: &[&std::ffi::OsString]| {
        let words: Vec<_> = words.split_whitespace().collect();
        let (verb, options) = words.split_first().unwrap();
        let mut args: Vec<std::ffi::OsString> = vec![verb.into()];
        args.extend(paths.iter().map(|path| (*path).clone()));
        args.extend(options.iter().map(std::ffi::OsString::from));
        run(args).expect(0)
    };
    let flag = |text: &str| std::ffi::OsString::from(text);
    verb("synth", &[&machine, &flag("--out"), &image]);
    verb("take -Z", &[&flag("--image"), &image, &flag("-o"), &dump]);
    for words in [
        "info",
        "info --json",
        "verify",
        "verify --json",
        "dmesg",
        "triage --json",
    ] {
        verb(words, &[&dump]);
    }
    for words in ["ps", "threads --crashed", "read hz 4"] {
        let (verb_name, options) = words.split_once(' ').unwrap_or((words, ""));
        let kernel_option = [&dump, &flag("--kernel"), &kernel];
        // `read` has its place after the dump.
        match verb_name {
            "read" => run([
                &flag("read"),
                &dump,
                &flag("hz"),
                &flag("4"),
                &flag("-k"),
                &kernel,
            ])
            .expect(0),
            name => verb(&format!("{name} {options}"), &kernel_option),
        };
    }
    verb("convert", &[&dump, &at(b"c\xff.gz")]);
    verb("salvage", &[&dump, &at(b"s\xff.zst")]);
    verb("export", &[&dump, &at(b"e\xff")]);
    verb("compare", &[&dump, &at(b"c\xff.gz")]);
}
