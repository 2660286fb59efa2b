//! From a compressed dump to the first backtrace: `cargo bench -p livecore --bench backtrace`.
//!
//! Takes a dump of an emulated machine, then has gdb print one backtrace and leave: through
//! `livecore serve` on the compressed dump; and after `zstd -d` has written it out, through
//! `livecore serve` on that. Each is run several times in turn. Prints a table in Markdown.
//! Options, behind `--`:
//!
//! * `--machine FILE`: the machine. Default `testdata/machines/bench-2g.toml`.
//! * `--runs N`: runs of each side. Default 5.
//! * `--dir DIR`: where the dump and what is made of it go.
//!
//! Times are wall-clock time and include the start of gdb, which is also printed separately. CPU
//! time and memory (`RssAnon`, sampled every two milliseconds) are those of the server only.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use livecore_synth::{Description, build};

type Failure = Box<dyn std::error::Error>;

const LIVECORE: &str = env!("CARGO_BIN_EXE_livecore");

/// Ticks of `/proc/PID/stat` in a second: `USER_HZ`, 100 on every Linux.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, Default)]
struct Taken {
    seconds: f64,
    /// Until the server listened.
    listening: f64,
    cpu: f64,
    memory: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "backtrace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut machine = root.join("testdata/machines/bench-2g.toml");
    let mut dir = std::env::temp_dir().join("livecore-backtrace");
    let mut runs = 5;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--machine" => machine = value()?.into(),
            "--dir" => dir = value()?.into(),
            "--runs" => runs = value()?.parse::<usize>()?.max(1),
            // `cargo bench` adds this option.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    fs::create_dir_all(&dir)?;
    let (kernel, dump, plain) = (dir.join("kernel"), dir.join("dump.zst"), dir.join("dump"));
    let description = Description::parse(&fs::read_to_string(&machine)?)?;
    fs::write(&kernel, build(&description)?.kernel())?;
    livecore([
        "take".as_ref(),
        "-q".as_ref(),
        "--force".as_ref(),
        "--machine".as_ref(),
        machine.as_os_str(),
        "-o".as_ref(),
        dump.as_os_str(),
    ])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(backtrace(&dump, &kernel)?);
        let start = Instant::now();
        let status = Command::new("zstd")
            .args(["-dqf", "-o"])
            .args([&plain, &dump])
            .status()?;
        if !status.success() {
            return Err(format!("zstd: {status}").into());
        }
        let unpacked = start.elapsed().as_secs_f64();
        let mut taken = backtrace(&plain, &kernel)?;
        taken.seconds += unpacked;
        theirs.push(taken);
        fs::remove_file(&plain)?;
    }
    let mut out = std::io::stdout().lock();
    let name = machine.file_stem().and_then(OsStr::to_str).unwrap_or("?");
    writeln!(
        out,
        "| machine | dump, MiB | way | seconds to the first backtrace | until it listens | CPU of the server, s | private memory, MiB |\n|---|---|---|---|---|---|---|"
    )?;
    let size = fs::metadata(&dump)?.len() as f64 / f64::from(1 << 20);
    for (way, runs) in [
        ("serve, compressed", ours),
        ("`zstd -d`, then serve", theirs),
    ] {
        let middle = |of: fn(&Taken) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let memory = runs.iter().map(|r| r.memory).max().unwrap_or(0);
        writeln!(
            out,
            "| {name} | {size:.0} | {way} | {:.2} | {:.2} | {:.2} | {:.1} |",
            middle(|r| r.seconds),
            middle(|r| r.listening),
            middle(|r| r.cpu),
            memory as f64 / f64::from(1 << 20),
        )?;
    }
    let start = Instant::now();
    Command::new("gdb")
        .args(["-nx", "-batch"])
        .stdin(Stdio::null())
        .status()?;
    writeln!(
        out,
        "\ngdb alone, from start to end: {:.2} s",
        start.elapsed().as_secs_f64()
    )?;
    Ok(())
}

fn livecore<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<(), Failure> {
    let status = Command::new(LIVECORE).args(arguments).status()?;
    if !status.success() {
        return Err(format!("livecore: {status}").into());
    }
    Ok(())
}

/// Serves `dump` and has gdb print one backtrace of it.
fn backtrace(dump: &Path, kernel: &Path) -> Result<Taken, Failure> {
    let start = Instant::now();
    let mut server = Command::new(LIVECORE)
        .args(["serve", "-q", "--once", "--kernel"])
        .args([kernel, dump])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut taken = Taken::default();
    let pid = server.id();
    let mut line = String::new();
    let stdout = server.stdout.take().ok_or("no standard output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    taken.listening = start.elapsed().as_secs_f64();
    let address = line
        .split_whitespace()
        .nth(1)
        .ok_or("the server did not listen")?;
    let address = address.strip_prefix("unix:").unwrap_or(address);
    let connect = format!("target remote {address}");
    let mut gdb = Command::new("gdb")
        .args([
            "-nx", "-batch", "-ex", &connect, "-ex", "bt", "-ex", "detach",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = gdb.stdout.take().ok_or("no standard output")?;
    let mut frames = 0;
    for line in BufReader::new(output).lines() {
        if line?.starts_with('#') {
            frames += 1;
            taken.seconds = start.elapsed().as_secs_f64();
            look(pid, &mut taken);
        }
    }
    gdb.wait()?;
    loop {
        look(pid, &mut taken);
        if server.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    if frames < 3 {
        return Err(format!("{frames} frames in the backtrace of {}", dump.display()).into());
    }
    Ok(taken)
}

/// What the server has taken so far.
fn look(pid: u32, taken: &mut Taken) {
    let read = |name: &str| fs::read_to_string(PathBuf::from(format!("/proc/{pid}/{name}")));
    if let Ok(text) = read("status") {
        let private = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.parse::<u64>().ok());
        taken.memory = taken.memory.max(private.unwrap_or(0) * 1024);
    }
    if let Ok(text) = read("stat")
        && let Some((_, rest)) = text.rsplit_once(") ")
    {
        let ticks = |at: usize| rest.split(' ').nth(at)?.parse::<f64>().ok();
        let cpu = (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS;
        taken.cpu = taken.cpu.max(cpu);
    }
}
