//! Builds a dump or a kernel file from a recipe.
//!
//! `mkdump FILE.dump -o OUT [--info FILE]`. A recipe that starts with `elf` builds a kernel file.

use std::io::Write as _;
use std::process::ExitCode;

use livecore_tests::{mkdump, mkelf};

const USAGE: &str = "usage: mkdump FILE -o OUT [--info FILE]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // An error of standard error cannot be reported.
            let _ = writeln!(std::io::stderr(), "mkdump: {message}");
            ExitCode::from(code)
        }
    }
}

fn run() -> Result<(), (u8, String)> {
    let mut args = std::env::args().skip(1);
    let usage = || (64, USAGE.to_owned());
    let (mut input, mut output, mut info) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-o" => output = Some(args.next().ok_or_else(usage)?),
            "--info" => info = Some(args.next().ok_or_else(usage)?),
            _ if input.is_none() && !arg.starts_with('-') => input = Some(arg),
            _ => return Err(usage()),
        }
    }
    let (input, output) = input.zip(output).ok_or_else(usage)?;
    let failed = |name: &str, error: &dyn std::fmt::Display| (1, format!("{name}: {error}"));
    let text = std::fs::read_to_string(&input).map_err(|e| failed(&input, &e))?;
    let bad = |e| (2, format!("{input}: {e}"));
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    if first.is_some_and(|line| line.starts_with("elf ")) {
        let bytes = mkelf::build(&text).map_err(bad)?;
        return std::fs::write(&output, bytes).map_err(|e| failed(&output, &e));
    }
    let built = mkdump::build_all(&text).map_err(bad)?;
    std::fs::write(&output, &built.bytes).map_err(|e| failed(&output, &e))?;
    match (info, built.info) {
        (Some(path), Some(text)) => std::fs::write(&path, text).map_err(|e| failed(&path, &e)),
        (Some(_), None) => Err((2, format!("{input}: the recipe has no info statement"))),
        (None, _) => Ok(()),
    }
}
