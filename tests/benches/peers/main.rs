//! Benchmarks against other programs: `cargo bench -p livecore-tests --bench peers`.
//!
//! Creates its corpora (payloads of emulated machines, noise, and `LIVECORE_REAL_DUMP` if set), runs
//! each task and its peer alternately, each in a new process, and prints the medians as a Markdown
//! table. A peer that is not installed is listed as such. Options, after `--`:
//!
//! * `--full`: also measure a dump of 2 GiB, not only 128 MiB.
//! * `--runs N`: runs of each side [5].
//! * `--only TEXT`: only tasks whose name contains TEXT.
//! * `--dir DIR`: directory of corpora and outputs (4 times the corpus); use a tmpfs to measure
//!   programs rather than disks.
//!
//! Compare ratios within one run; seconds depend on the machine. Time is the elapsed time of the
//! process, CPU its user and system time. Memory is the largest private memory (`RssAnon`) in a
//! separate run, sampled every two milliseconds. While a process is timed, only a thread that reads
//! its pipe runs in this program.

mod corpora;
mod limit;
mod pages;
mod process;
mod tasks;
mod work;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

/// Arguments of the program.
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
            // Added by `cargo bench`.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}
