//! `livecore kgdb DUMP`: runs kgdb(1) or crashinfo(8) on a temporary uncompressed copy of a dump.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use livecore_livedump::publish::{self, Destination, PrivateDirectory};

use crate::dump_args::KernelAndDump;
use crate::failure::Failure;
use crate::guard;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::packed;
use crate::session::Session;
use crate::unpack;

const MANUAL: &str = "\
Examples:
  livecore kgdb livecore.0.zst --kernel /boot/kernel/kernel
  livecore kgdb vmcore.3.zst --kernel /boot/kernel/kernel -- -q
  livecore kgdb /boot/kernel/kernel vmcore.3.zst
  livecore kgdb --crashinfo vmcore.3.zst -o core.txt.3

kgdb(1) and crashinfo(8) need an uncompressed dump. livecore unpacks it into a private directory \
(mode 0700) on the first file system with enough space: --dir, or else the directory for temporary \
files, /var/crash, /var/tmp and the directory of the dump. livecore removes the directory \
(livecore.tmp.*) when the program exits, and when a signal, even SIGKILL, ends livecore. It remains only \
after a crash of the machine. A full dump stays a full dump.

kgdb gets ARGS, the kernel and the dump; it handles Ctrl-C itself. crashinfo gets the directory (-d), \
the dump's number (-n), the kernel (-k) and ARGS, and reads vmcore.N and info.N. Its report goes to \
standard output or to -o.

crashinfo(8) is part of FreeBSD; kgdb(1) is in the package gdb. `livecore triage` needs neither of them. \
`livecore convert --to elf` writes a core for lldb and gdb.";

/// Arguments of `livecore kgdb`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to unpack.
    #[command(flatten)]
    pub dump: KernelAndDump,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Run crashinfo(8) instead of kgdb(1)
    #[arg(long)]
    pub crashinfo: bool,
    /// Write crashinfo's report to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", requires = "crashinfo")]
    pub output: Option<PathBuf>,
    /// Program to run [default: kgdb, or crashinfo]
    #[arg(long, value_name = "PROGRAM")]
    pub program: Option<PathBuf>,
    /// Unpack into a new directory below DIR
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Threads for unpacking [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// More arguments for the program
    #[arg(last = true)]
    pub args: Vec<OsString>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let opening = Opening {
        threads: args.threads,
        ..Opening::default()
    };
    let (name, kernel) = args.dump.paths();
    let mut kernel_args = args.kernel.with(kernel)?;
    let unpacked = packed::kernel_files(name, &kernel_args, session)?;
    let _files = unpacked.map(|(directory, files)| {
        kernel_args = files;
        directory
    });
    let dump = input::dump(name, opening, session)?;
    for warning in dump.envelope().warnings() {
        session.warn_of(name, warning);
    }
    // Find the kernel and compare it with the dump before unpacking.
    let kernel = match kernel_args.open(&dump, name, session)? {
        Some(pair) => Some(absolute(pair.path())?),
        None => None,
    };
    if let Some(output) = &args.output
        && matches!(Destination::parse(output), Destination::Directory(_))
    {
        return Err(Failure::usage("output must be a file, not a directory")
            .id_is(Id::OutputIsDirectory)
            .about(output));
    }
    let parent = unpack::with_space(&places(args, session), unpack::len(&dump))
        .map_err(|failure| failure.about(name))?;
    let mut directory = PrivateDirectory::create(&parent)?;
    directory.guard(&mut guard::command("kgdb-guard")?)?;
    let number = unpack::number_of(name);
    let vmcore = directory.path().join(format!("vmcore.{number}"));
    unpack::write(&dump, name, &vmcore, (args.threads, false), session)?;
    input::warn_of_loss(&dump, name, session)?;
    let info = directory.path().join(format!("info.{number}"));
    unpack::write_info(&dump, name, &info, number)?;
    drop(dump);

    let (program, usual) = program(args);
    let mut command = Command::new(&program);
    if args.crashinfo {
        command.arg("-d").arg(directory.path());
        command.arg("-n").arg(number.to_string());
        if let Some(kernel) = &kernel {
            command.arg("-k").arg(kernel);
        }
        command.args(&args.args);
        // crashinfo's own messages are not part of the report; they explain why a report is
        // missing.
        command.stdin(Stdio::null()).stdout(std::io::stderr());
    } else {
        command.args(&args.args);
        match &kernel {
            Some(kernel) => command.arg(kernel).arg(&vmcore),
            None => command.arg("-c").arg(&vmcore),
        };
    }
    session.out.flush()?;
    let status = directory.run(&mut command).map_err(|e| {
        if args.program.is_some() || e.kind() != ErrorKind::NotFound {
            return Failure::from(e).about(&program);
        }
        let what = format_args!("{usual} is not installed (FreeBSD: {})", package(args));
        Failure::could_not(what)
            .id_is(Id::ProgramMissing)
            .next("try `livecore gdb` or `livecore triage`")
    })?;
    if args.crashinfo {
        report(args, &directory, number, session)?;
    }
    judge(&program, status)
}

/// Copies crashinfo's report out of the directory.
fn report(
    args: &Args,
    directory: &PrivateDirectory,
    number: u32,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let from = directory.path().join(format!("core.txt.{number}"));
    let text = match fs::read(&from) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let what = format!("wrote no core.txt.{number}");
            return Err(Failure::could_not(what)
                .id_is(Id::ProgramFailed)
                .about(&program(args).0));
        }
        Err(e) => return Err(Failure::from(e).about(&from)),
    };
    match args
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    {
        Some(path) => {
            let options = publish::Options::default().force(true);
            let mut pending = Destination::parse(path).begin(&options)?;
            let written = pending.write_all(&text);
            written.map_err(|e| Failure::from(e).about(path))?;
            // Only a dump in a directory has an info file.
            pending.publish(&|_| Vec::new())?;
            Ok(())
        }
        None => Ok(session.out.write_all(&text)?),
    }
}

fn program(args: &Args) -> (PathBuf, &'static str) {
    let usual = if args.crashinfo { "crashinfo" } else { "kgdb" };
    let program = args.program.clone().unwrap_or_else(|| usual.into());
    (program, usual)
}

/// How FreeBSD provides the program.
fn package(args: &Args) -> &'static str {
    match args.crashinfo {
        true => "it is in the base system",
        false => "pkg install gdb",
    }
}

/// The directories to unpack into, in order of preference.
fn places(args: &Args, session: &Session<'_>) -> Vec<PathBuf> {
    if let Some(dir) = &args.dir {
        return vec![dir.clone()];
    }
    let mut places = vec![session.env.spool_dir.clone()];
    let others = ["/var/crash", "/var/tmp"].map(PathBuf::from);
    let own = args
        .dump
        .paths()
        .0
        .parent()
        .filter(|p| !p.as_os_str().is_empty());
    for place in others.into_iter().chain(own.map(Into::into)) {
        if place.is_dir() && !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The path from the root; the program may run in another directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::from(e).about(path))
}

fn judge(program: &Path, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::could_not(status)
        .id_is(Id::ProgramFailed)
        .about(program))
}
