//! The tasks, their peers, and the table of results.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::corpora::{self, Corpus};
use crate::pages::has_pages;
use crate::process::{Job, Measured, Output, is_installed};
use crate::{Failure, Options};

const FRAME: &str = "1048576";

/// A row of the table.
struct Task {
    name: String,
    ours: Job,
    /// The peer's name and its command.
    peer: (String, Job),
}

/// Runs all tasks on all corpora and writes the table.
pub(crate) fn run(
    options: &Options,
    corpora: &[Corpus],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    writeln!(
        out,
        "| corpus | task | peer | speed | CPU | size | private memory, MiB | seconds | CPU seconds |\n\
         |---|---|---|---|---|---|---|---|---|"
    )?;
    for corpus in corpora {
        for task in tasks(options, corpus)? {
            if !is_selected(options, &task.name) {
                continue;
            }
            if task
                .peer
                .1
                .program
                .to_str()
                .is_some_and(|p| !p.contains('/') && !is_installed(p))
            {
                writeln!(
                    out,
                    "| {} | {} | {}: not installed |",
                    corpus.name, task.name, task.peer.0
                )?;
                continue;
            }
            measure(options, corpus, &task, out)?;
        }
        limits(options, corpus, out)?;
        random(options, corpus, out)?;
        pages(options, corpus, out)?;
    }
    Ok(())
}

/// Whether `--only` selects the task `name`.
fn is_selected(options: &Options, name: &str) -> bool {
    options.only.as_ref().is_none_or(|o| name.contains(o))
}

fn measure(
    options: &Options,
    corpus: &Corpus,
    task: &Task,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        ours.push(task.ours.run()?);
        peers.push(task.peer.1.run()?);
    }
    let (memory, peer_memory) = (task.ours.memory()?, task.peer.1.memory()?);
    let (us, peer) = (median(&ours), median(&peers));
    let ratio = |a: f64, b: f64| {
        if b > 0.0 {
            format!("{:.2}", a / b)
        } else {
            "–".into()
        }
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {:.1} / {:.1} | {:.3} / {:.3} | {:.2} / {:.2} |",
        corpus.name,
        task.name,
        task.peer.0,
        ratio(peer.seconds, us.seconds),
        ratio(us.cpu, peer.cpu),
        ratio(us.size as f64, peer.size as f64),
        mib(memory),
        mib(peer_memory),
        us.seconds,
        peer.seconds,
        us.cpu,
        peer.cpu,
    )?;
    Ok(out.flush()?)
}

/// The median of each measurement.
fn median(runs: &[Measured]) -> Measured {
    let middle = |of: fn(&Measured) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Measured {
        seconds: middle(|r| r.seconds),
        cpu: middle(|r| r.cpu),
        size: runs.last().map_or(0, |r| r.size),
    }
}

fn job(program: &str, arguments: &[&str], output: Output, result: Option<&Path>) -> Job {
    Job {
        program: program.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        output,
        result: result.map(Path::to_path_buf),
    }
}

/// This program with `--work` and `arguments`.
fn us(arguments: &[&str], output: Output, result: Option<&Path>) -> Result<Job, Failure> {
    let mut job = job("", arguments, output, result);
    job.program = std::env::current_exe()?.into();
    job.arguments.insert(0, "--work".into());
    Ok(job)
}

fn text(path: &Path) -> Result<&str, Failure> {
    Ok(path.to_str().ok_or("path is not UTF-8")?)
}

fn tasks(options: &Options, corpus: &Corpus) -> Result<Vec<Task>, Failure> {
    let payload = text(&corpus.payload)?;
    let path = |name: &str| options.dir.join(name);
    let (ours, theirs) = (path("ours"), path("theirs"));
    let (to, to_theirs) = (text(&ours)?, text(&theirs)?);
    let mut tasks = Vec::new();
    let mut encode = |name: &str, codec, level, threads, peer: (&str, &str, &[&str])| {
        let arguments = [
            "encode", codec, level, threads, FRAME, "sealed", payload, to,
        ];
        let output = Output::File(theirs.clone());
        tasks.push(Task {
            name: name.into(),
            ours: us(&arguments, Output::None, Some(&ours))?,
            peer: (peer.0.into(), job(peer.1, peer.2, output, Some(&theirs))),
        });
        Ok::<(), Failure>(())
    };
    // zstd writes its output file itself, as ours does.
    let into = |level: &'static str, threads: &'static str| {
        ["-qf", level, threads, payload, "-o", to_theirs]
    };
    encode(
        "encode zstd 3",
        "zstd",
        "3",
        "2",
        ("zstd -3 -T2", "zstd", &into("-3", "-T2")),
    )?;
    encode(
        "encode zstd 6",
        "zstd",
        "6",
        "2",
        ("zstd -6 -T1", "zstd", &into("-6", "-T1")),
    )?;
    encode(
        "encode zstd 3, others",
        "zstd",
        "3",
        "2",
        (
            "pzstd -3 -p2",
            "pzstd",
            &["-3", "-p", "2", "-qf", payload, "-o", to_theirs],
        ),
    )?;
    encode(
        "encode gzip 6",
        "gzip",
        "6",
        "2",
        ("pigz -6 -p2", "pigz", &["-6", "-p2", "-c", payload]),
    )?;
    encode(
        "encode gzip 6, others",
        "gzip",
        "6",
        "2",
        ("gzip -6", "gzip", &["-6", "-c", payload]),
    )?;
    encode(
        "encode gzip 6, others",
        "gzip",
        "6",
        "2",
        ("bgzip -@2", "bgzip", &["-@2", "-c", payload]),
    )?;

    // 1 worker against 2.
    for (codec, level) in [("zstd", "3"), ("gzip", "6")] {
        let arguments = |threads| {
            [
                "encode", codec, level, threads, FRAME, "sealed", payload, to,
            ]
        };
        tasks.push(Task {
            name: format!("scaling, {codec} {level}: 2 threads"),
            ours: us(&arguments("2"), Output::None, Some(&ours))?,
            peer: (
                "ours, 1 thread".into(),
                us(&arguments("1"), Output::None, Some(&ours))?,
            ),
        });
    }
    if let Some(machine) = &corpus.machine {
        let arguments = ["take", "zstd", "3", "2", FRAME, text(machine)?, to];
        let ready = ["encode", "zstd", "3", "2", FRAME, "sealed", payload, to];
        tasks.push(Task {
            name: "take from an image, zstd 3".into(),
            ours: us(&arguments, Output::None, Some(&ours))?,
            peer: (
                "our encode of the payload".into(),
                us(&ready, Output::None, Some(&ours))?,
            ),
        });
        // An image without a layout: the kernel and its page tables must be located.
        let guest = corpora::guest_image(machine)?;
        let kernel = machine.join("kernel");
        let arguments = [
            "guest",
            "zstd",
            "3",
            "2",
            FRAME,
            text(&guest)?,
            text(&kernel)?,
            to,
        ];
        tasks.push(Task {
            name: "take from a guest's image (LiME), zstd 3".into(),
            ours: us(&arguments, Output::None, Some(&ours))?,
            peer: (
                "our encode of the payload".into(),
                us(&ready, Output::None, Some(&ours))?,
            ),
        });
    }
    decode_tasks(options, corpus, &mut tasks)?;
    Ok(tasks)
}

/// Streams to decode: ours, and those of other programs.
fn streams(
    options: &Options,
    corpus: &Corpus,
) -> Result<[(PathBuf, bool, &'static str); 4], Failure> {
    let path = |suffix: &str| options.dir.join(format!("{}.{suffix}", corpus.name));
    let all = [
        (path("ours.zst"), true, "zstd"),
        (path("ours.gz"), true, "gzip"),
        (path("theirs.zst"), false, "zstd"),
        (path("theirs.gz"), false, "gzip"),
    ];
    let payload = text(&corpus.payload)?;
    for (stream, own, codec) in &all {
        if stream.exists() {
            continue;
        }
        let level = if *codec == "zstd" { "3" } else { "6" };
        let shape = if *own { "sealed" } else { "single" };
        let to = text(stream)?;
        us(
            &["encode", codec, level, "2", FRAME, shape, payload, to],
            Output::None,
            None,
        )?
        .run()?;
        if !*own {
            // One zstd frame or one gzip member.
            let program = if *codec == "zstd" { "zstd" } else { "gzip" };
            let arguments: &[&str] = if *codec == "zstd" {
                &["-3", "-qc", payload]
            } else {
                &["-6", "-c", payload]
            };
            job(program, arguments, Output::File(stream.clone()), None).run()?;
        }
    }
    Ok(all)
}

fn decode_tasks(options: &Options, corpus: &Corpus, tasks: &mut Vec<Task>) -> Result<(), Failure> {
    let (ours, theirs) = (options.dir.join("ours"), options.dir.join("theirs"));
    for (stream, own, codec) in streams(options, corpus)? {
        let from = text(&stream)?;
        let whose = if own { "own" } else { "foreign" };
        let tool = if codec == "zstd" { "zstd" } else { "pigz" };
        tasks.push(Task {
            name: format!("decode {whose} {codec}, checked and dropped"),
            ours: us(&["check", "2", from], Output::None, None)?,
            peer: (
                format!("{tool} -t"),
                job(tool, &["-tq", from], Output::None, None),
            ),
        });
        if corpus.machine.is_some() {
            verify_tasks(from, whose, codec, tasks)?;
        }
        let to = text(&theirs)?;
        let into = match codec {
            "zstd" => job(
                "zstd",
                &["-dqf", from, "-o", to],
                Output::None,
                Some(&theirs),
            ),
            _ => job(
                "pigz",
                &["-dc", from],
                Output::File(theirs.clone()),
                Some(&theirs),
            ),
        };
        tasks.push(Task {
            name: format!("decode {whose} {codec}, to a file"),
            ours: us(
                &["decode", "2", from, text(&ours)?],
                Output::None,
                Some(&ours),
            )?,
            peer: (format!("{tool} -d"), into),
        });
        tasks.push(Task {
            name: format!("decode {whose} {codec}, to a pipe"),
            ours: us(&["decode", "2", from, "-"], Output::Pipe, None)?,
            peer: (
                format!("{tool} -dc"),
                job(tool, &["-dcq", from], Output::Pipe, None),
            ),
        });
    }
    Ok(())
}

/// Verifying compared with only decoding.
fn verify_tasks(
    from: &str,
    whose: &str,
    codec: &str,
    tasks: &mut Vec<Task>,
) -> Result<(), Failure> {
    let tool = if codec == "zstd" { "zstd" } else { "pigz" };
    for (depth, name) in [("default", "verify"), ("deep", "verify --deep")] {
        let verify = || us(&["verify", depth, "2", from], Output::None, None);
        tasks.push(Task {
            name: format!("{name} {whose} {codec}"),
            ours: verify()?,
            peer: (
                "our decode, checked and dropped".into(),
                us(&["check", "2", from], Output::None, None)?,
            ),
        });
        tasks.push(Task {
            name: format!("{name} {whose} {codec}"),
            ours: verify()?,
            peer: (
                format!("{tool} -t"),
                job(tool, &["-tq", from], Output::None, None),
            ),
        });
    }
    Ok(())
}

/// Runs `--work` with `arguments` and returns its output.
fn output_of(arguments: &[&str]) -> Result<String, Failure> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .arg("--work")
        .args(arguments)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Measures the libraries alone. The rows have columns of their own: throughput of `compress` divided
/// by that of the library, the same for CPU time, seconds and CPU seconds of both.
fn limits(options: &Options, corpus: &Corpus, out: &mut dyn Write) -> Result<(), Failure> {
    let (payload, runs) = (text(&corpus.payload)?, options.runs.to_string());
    for (library, codec, level) in [("libzstd", "zstd", "3"), ("libdeflate", "gzip", "6")] {
        let name = format!("{library} alone");
        if !is_selected(options, &name) {
            continue;
        }
        let rows = output_of(&["limit", codec, level, "2", FRAME, &runs, payload])?;
        for row in rows.lines() {
            writeln!(out, "| {} | {name} {row}", corpus.name)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Measures random reads.
fn random(options: &Options, corpus: &Corpus, out: &mut dyn Write) -> Result<(), Failure> {
    if !is_selected(options, "random") || corpus.len < 4 << 20 {
        return Ok(());
    }
    for (stream, own, codec) in streams(options, corpus)? {
        if !own {
            continue;
        }
        let times = output_of(&["random", text(&stream)?])?;
        let name = &corpus.name;
        writeln!(out, "| {name} | random reads, {codec} | | {times} |")?;
    }
    Ok(out.flush()?)
}

/// Measures enumeration and lookup of the pages of a dump.
fn pages(options: &Options, corpus: &Corpus, out: &mut dyn Write) -> Result<(), Failure> {
    if !is_selected(options, "pages") || !has_pages(corpus)? {
        return Ok(());
    }
    let times = output_of(&["pages", text(&corpus.payload)?])?;
    writeln!(out, "| {} | pages | | {times} |", corpus.name)?;
    Ok(out.flush()?)
}
