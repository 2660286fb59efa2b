//! Compares policies of the frame cache: `cargo bench -p livecore --bench cache`.
//!
//! Takes an uncompressed dump of a machine with many threads, and records with strace(1) where
//! `ps`, `threads`, `triage`, `verify --deep` and gdb's `info threads` and `thread apply all bt`
//! read it. Then replays each trace with caches of several sizes and policies, and prints how many
//! frames of 1 MiB each decodes. `least` is the minimum of any policy, computed with knowledge
//! of all later reads. Options, after `--`:
//!
//! * `--processes N`: processes of four threads each. Default 5000.
//! * `--dir DIR`: the directory of the dump and the traces; existing files are reused.
//!
//! The benchmark measures no times, so its result does not depend on the machine.

mod policies;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use policies::{POLICIES, least_misses, misses, touched};

type Failure = Box<dyn std::error::Error>;

const LIVECORE: &str = env!("CARGO_BIN_EXE_livecore");

/// Size of a frame.
const FRAME: u64 = 1 << 20;

/// Sizes of the cache, in frames. The default is 128.
const CAPACITIES: [usize; 4] = [16, 32, 64, 128];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cache: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut dir = std::env::temp_dir().join("livecore-cache");
    let mut processes = 5000;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--dir" => dir = value()?.into(),
            "--processes" => processes = value()?.parse::<u32>()?,
            // `cargo bench` adds this option.
            "--bench" => {}
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    fs::create_dir_all(&dir)?;
    let (dump, kernel) = machine(&dir, processes)?;
    let mut out = std::io::stdout().lock();
    let sizes = CAPACITIES.map(|size| size.to_string()).join(" | ");
    writeln!(out, "| trace | reads | frames touched | policy | {sizes} |")?;
    writeln!(out, "|---|---|---|---|{}", "---|".repeat(CAPACITIES.len()))?;
    for (name, command) in commands(&dump, &kernel) {
        let path = dir.join(format!("{}.trace", name.replace(' ', "-")));
        if !path.exists() {
            record(&command, &dump, &path)?;
        }
        let trace = frames(&path)?;
        let mut row = |policy: &str, decoded: &dyn Fn(usize) -> usize| {
            let decoded = CAPACITIES.map(|size| decoded(size).to_string()).join(" | ");
            let (reads, touched) = (trace.len(), touched(&trace));
            writeln!(
                out,
                "| {name} | {reads} | {touched} | {policy} | {decoded} |"
            )
        };
        for (policy, make) in POLICIES {
            row(policy, &|size| misses(&mut *make(size), &trace))?;
        }
        row("least", &|size| least_misses(size, &trace))?;
        out.flush()?;
    }
    Ok(())
}

/// The dump and the kernel of a machine with this number of processes.
fn machine(dir: &Path, processes: u32) -> Result<(PathBuf, PathBuf), Failure> {
    let (text, dump) = (dir.join("machine.toml"), dir.join("dump"));
    let kernel = dir.join("machine/kernel");
    if dump.exists() {
        return Ok((dump, kernel));
    }
    let threads = "[[process.thread]]\n".repeat(4);
    let machine = format!(
        "seed = 20\n[memory]\nsize = \"8 GiB\"\n[content]\nkernel = \"1 GiB\"\n\
         [state]\ncpus = 4\n\
         [[process]]\nname = \"fleet\"\npid = 100\ncount = {processes}\n{threads}"
    );
    fs::write(&text, machine)?;
    let mut synth = Command::new(LIVECORE);
    synth
        .arg("synth")
        .arg(&text)
        .arg("--out")
        .arg(dir.join("machine"));
    succeed(synth.arg("-q"))?;
    let mut take = Command::new(LIVECORE);
    take.args(["take", "-q", "--none", "--container", "saved", "--machine"]);
    succeed(take.arg(&text).arg("-o").arg(&dump))?;
    Ok((dump, kernel))
}

fn succeed(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{errors}", output.status).into())
}

/// The commands to record.
fn commands(dump: &Path, kernel: &Path) -> Vec<(&'static str, Vec<PathBuf>)> {
    let livecore = |arguments: &[&str]| {
        let mut all: Vec<PathBuf> = vec![LIVECORE.into()];
        all.extend(arguments.iter().map(PathBuf::from));
        all.extend([dump.into(), "--kernel".into(), kernel.into()]);
        all
    };
    let gdb = |text: &str| {
        let mut all = livecore(&["gdb"]);
        all.extend(["--", "-batch", "-ex", text].map(PathBuf::from));
        all
    };
    vec![
        ("ps", livecore(&["ps"])),
        ("threads", livecore(&["threads"])),
        ("triage", livecore(&["triage"])),
        ("verify --deep", livecore(&["verify", "--deep"])),
        ("info threads", gdb("info threads")),
        ("thread apply all bt", gdb("thread apply all bt")),
    ]
}

/// Runs a command and records the offsets and lengths of its reads of `dump` in the file `to`.
fn record(command: &[PathBuf], dump: &Path, to: &Path) -> Result<(), Failure> {
    let calls = to.with_extension("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "0", "-e", "trace=pread64", "-o"]);
    // One thread, so that the order of the reads is that of the walk.
    strace
        .arg(&calls)
        .args(command)
        .env("RAYON_NUM_THREADS", "1");
    // A warning is not a failure here.
    let status = strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !matches!(status.code(), Some(0 | 3)) {
        return Err(format!("{strace:?}: {status}").into());
    }
    let name = format!("<{}>", dump.canonicalize()?.display());
    let unfinished = to.with_extension("part");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    // Threads whose call on the dump is not complete.
    let mut waiting = HashSet::new();
    for line in BufReader::new(File::open(&calls)?).lines() {
        let line = line?;
        let thread = line.split(' ').next().unwrap_or_default().to_owned();
        let resumed = line.contains("pread64 resumed>");
        if line.contains("<unfinished") {
            if line.contains(&name) {
                waiting.insert(thread);
            }
        } else if line.contains(&name) || resumed && waiting.remove(&thread) {
            let call = line.rsplit_once(") = ").ok_or("the output of strace")?;
            let mut numbers = call.0.rsplit(", ");
            let (offset, len) = (numbers.next(), numbers.next());
            writeln!(out, "{} {}", offset.unwrap_or(""), len.unwrap_or(""))?;
        }
    }
    out.flush()?;
    fs::remove_file(&calls)?;
    Ok(fs::rename(unfinished, to)?)
}

/// The frames of the reads of a trace.
fn frames(path: &Path) -> Result<Vec<u64>, Failure> {
    let mut frames = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let (Some(Ok(at)), Some(Ok(len))) = (numbers.next(), numbers.next()) else {
            return Err(format!("{}: {line}", path.display()).into());
        };
        frames.extend(at / FRAME..=(at + len.max(1) - 1) / FRAME);
    }
    Ok(frames)
}
