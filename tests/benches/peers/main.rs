//! We and the peers, side by side: `cargo bench -p livecore-tests --bench peers`.
//!
//! Makes its corpora (payloads of emulated machines, noise, and `LIVECORE_REAL_DUMP` if that
//! names a file), then runs each task of ours and its peer in turn, each in a process of its own,
//! and prints the medians as a table in Markdown. A peer that is not installed is left out and
//! said. Options, behind `--`:
//!
//! * `--full`: also the dump of 2 GiB; without it 128 MiB alone.
//! * `--runs N`: runs of each side. Default 5.
//! * `--only TEXT`: tasks whose name has TEXT in it.
//! * `--dir DIR`: where corpora and outputs go (4 times the corpus). A tmpfs measures programs, a
//!   disk measures disks.
//!
//! Ratios of one run of the whole program can be compared, seconds cannot: the machine is not
//! known. Time is the wall clock's from start to end of the process; CPU is user and system time
//! of it; memory is the most private memory (`RssAnon`) seen in one more run, looked at every two
//! milliseconds. Nothing of this program runs while times are taken, but what empties a pipe.

mod corpora;
mod pages;
mod process;
mod tasks;
mod work;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

/// What the command line says.
struct Options {
    full: bool,
    runs: usize,
    only: Option<String>,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "--work" => work::work(rest),
        _ => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = parse(arguments)?;
    let mut out = std::io::stdout().lock();
    let corpora = corpora::make(&options)?;
    tasks::run(&options, &corpora, &mut out)
}

fn parse(arguments: &[String]) -> Result<Options, Failure> {
    let mut options = Options {
        full: false,
        runs: 5,
        only: None,
        dir: std::env::temp_dir().join("livecore-peers"),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--full" => options.full = true,
            "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
            "--only" => options.only = Some(value()?.clone()),
            "--dir" => options.dir = value()?.into(),
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}
