//! `livecore group DIR|DUMP...`: groups crashes by signature (docs/signatures.md).

mod groups;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use livecore_defs::text::printable;
use livecore_minidump::info::utc;
use serde::Serialize;

use crate::crash::{Crash, Reader};
use crate::crash_directory::{self, Entry, Search};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::parallel;
use crate::session::Session;

use groups::{Group, Groups};

const MANUAL: &str = "\
Examples:
  livecore group /var/crash
  livecore group -r --kernel-path /kernels --json archive | jq '.groups[0]'
  find / -name 'vmcore.*' | livecore group --files-from -

Groups crashes by their signatures: the panic message without numbers, and the functions at the top of the \
backtrace of the thread that crashed (docs/signatures.md). Prints the number of crashes, the first and the \
last, and the newest dump of each group, the largest group first. Times are those of `livecore list`: from \
the header, or from the info file, or else the modification time of the file.

A kernel is used only if it matches the dump. Without one, the signature has the panic message only, and \
the crash is not in the group of those with a backtrace. Dumps with neither a panic message nor a \
backtrace, such as live dumps, are in a group without a signature.

group reads the pages that a backtrace needs, and does not verify the dumps. Messages on standard error name \
the files that cannot be read; the exit code is then the worst of theirs.";

/// The longest list of files, in bytes.
const LIST: u64 = 64 << 20;

/// The least memory for one dump, by default.
const SHARE: u64 = 64 << 20;

/// Arguments of `livecore group`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dumps, or directories of dumps
    ///
    /// In a directory, reads the files that have names of dumps: vmcore.N, livecore.N.
    #[arg(value_name = "DUMP", required_unless_present = "files_from")]
    pub dumps: Vec<PathBuf>,
    /// File with one path per line; `-` for standard input
    #[arg(long, value_name = "LIST")]
    pub files_from: Option<PathBuf>,
    /// Descend into subdirectories
    #[arg(short, long)]
    pub recursive: bool,
    /// Read all files of a directory, whatever their names
    #[arg(long)]
    pub all: bool,
    /// Kernel file, or directory to search; may be repeated
    ///
    /// Searched before the directory of each dump, /boot and /usr/lib/debug.
    #[arg(long, value_name = "PATH")]
    pub kernel_path: Vec<PathBuf>,
    /// Number of dumps to read at a time
    ///
    /// They share --memory. Default: one per processor, and at most one per 64 MiB of --memory.
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Adds the paths of `--files-from`. Call it before the sandbox permits them.
    ///
    /// # Errors
    ///
    /// The list cannot be read or is too long.
    pub(crate) fn read_list(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Some(list) = &self.files_from else {
            return Ok(());
        };
        let about = |e: std::io::Error| Failure::from(e).about(list);
        let file: Box<dyn Read> = match list == Path::new("-") {
            true => Box::new(session.env.stdin.take().ok_or_else(|| {
                let failure = Failure::could_not("closed").id_is(Id::StreamClosed);
                failure.about("standard input".as_ref())
            })?),
            false => Box::new(File::open(list).map_err(about)?),
        };
        let mut left = LIST;
        // A list without line breaks must not be read into memory whole.
        for line in BufReader::new(file.take(LIST + 1)).split(b'\n') {
            let mut line = line.map_err(about)?;
            left = left.checked_sub(line.len() as u64 + 1).ok_or_else(|| {
                let what = format!("the list is longer than {LIST} bytes");
                Failure::could_not(what).id_is(Id::Limit).about(list)
            })?;
            if line.ends_with(b"\r") {
                line.pop();
            }
            if !line.is_empty() {
                use std::os::unix::ffi::OsStringExt;
                self.dumps.push(std::ffi::OsString::from_vec(line).into());
            }
        }
        Ok(())
    }
}

/// A file that was not read; docs/schemas/group.schema.json.
#[derive(Debug, Serialize)]
struct NotRead {
    dump: String,
    exit_code: u8,
    id: Id,
    message: String,
}

/// JSON output; docs/schemas/group.schema.json.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    dumps: usize,
    groups: &'a [Group],
    failed: &'a [NotRead],
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let memory = session.env.memory;
    let jobs = args.threads.unwrap_or_else(|| {
        let shares = usize::try_from(memory / SHARE).unwrap_or(usize::MAX);
        let processors = crate::args::threads(None);
        NonZeroUsize::new(shares).map_or(NonZeroUsize::MIN, |shares| shares.min(processors))
    });
    let search = Search {
        recursive: args.recursive,
        all: args.all,
        since: None,
    };
    let dumps = crash_directory::expand(&args.dumps, search, session);
    let reader = Reader::new(session, memory / jobs.get() as u64, &args.kernel_path);
    let interrupt = session.env.interrupt.clone();
    let read = |entry: &Entry| -> Result<Crash, Failure> {
        if interrupt.raised().is_some() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        match entry {
            Entry::Dump(path) => reader.read(path),
            Entry::Unreadable(path, e) => Err(Failure::of(Exit::COULD_NOT, e).about(path)),
        }
    };
    let mut groups = Groups::default();
    let mut failed = Vec::new();
    parallel::in_order_on(jobs, &dumps, read, |entry, crash| {
        if session.env.interrupt.raised().is_some() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        match crash {
            Ok(crash) => groups.add(entry.path(), crash),
            Err(failure) => {
                session.fail(&failure);
                failed.push(NotRead {
                    dump: entry.path().display().to_string(),
                    exit_code: failure.exit().code(),
                    id: failure.id(),
                    message: failure.what().to_owned(),
                });
            }
        }
        Ok(())
    })?;
    let groups = groups.sorted();
    if args.json {
        let answer = Answer {
            dumps: dumps.len(),
            groups: &groups,
            failed: &failed,
        };
        return Ok(crate::json::print(&answer, &mut session.out)?);
    }
    print(&groups, session)
}

/// Prints a table, with the panic message and the frames below each line.
fn print(groups: &[Group], session: &mut Session<'_>) -> Result<(), Failure> {
    let out = &mut session.out;
    if !groups.is_empty() {
        writeln!(
            out,
            "{:>6}  {:23}  {:23}  {:34}  EXAMPLE",
            "COUNT", "FIRST", "LAST", "SIGNATURE"
        )?;
    }
    for group in groups {
        let signature = group.signature.as_ref();
        writeln!(
            out,
            "{:>6}  {:23}  {:23}  {:34}  {}",
            group.count,
            utc(group.first_seen),
            utc(group.last_seen),
            signature.map_or("-", |signature| &signature.id),
            printable(&group.example)
        )?;
        if let Some(panic) = group.panic.as_deref().filter(|panic| !panic.is_empty()) {
            writeln!(out, "{:6}  panic: {}", "", printable(panic))?;
        }
        if !group.frames.is_empty() {
            writeln!(out, "{:6}  at: {}", "", group.frames.join(" < "))?;
        }
    }
    Ok(())
}
