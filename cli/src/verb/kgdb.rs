//! `livecore kgdb DUMP`: kgdb(1) or crashinfo(8) on a dump of any codec and container, which is
//! unpacked for them and gone afterwards.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use livecore_livedump::publish::{self, Destination, PrivateDirectory};

use crate::args::KernelAndDump;
use crate::failure::Failure;
use crate::guard;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;
use crate::unpack;

const MANUAL: &str = "\
Examples:
  livecore kgdb livecore.0.zst --kernel /boot/kernel/kernel
  livecore kgdb vmcore.3.zst --kernel /boot/kernel/kernel -- -q
  livecore kgdb /boot/kernel/kernel vmcore.3.zst
  livecore kgdb --crashinfo vmcore.3.zst -o core.txt.3

kgdb(1) and crashinfo(8) want an uncompressed dump. It is unpacked into a directory of its own, mode \
0700, on the first file system with room: --dir, else the one for temporary files, /var/crash, \
/var/tmp, the dump's. When the program has ended, or a signal has ended it or livecore, SIGKILL \
included, the directory is removed; a crash of the machine leaves it behind (livecore.tmp.*). A full \
dump is handed over as it is.

kgdb is given ARGS, the kernel and the dump; interrupts are its own meanwhile. crashinfo is given \
the directory (-d), the dump's number (-n), the kernel (-k) and ARGS, and finds vmcore.N and info.N \
there; its report goes to standard output or to -o.

Both are FreeBSD's. `livecore triage` needs neither, nor FreeBSD; `livecore convert --to elf` writes \
a core for lldb and gdb.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Which dump.
    #[command(flatten)]
    pub dump: KernelAndDump,
    /// The kernel that was running
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Run crashinfo(8) instead of kgdb(1)
    #[arg(long)]
    pub crashinfo: bool,
    /// Where crashinfo's report goes [default: standard output]
    #[arg(short, long, value_name = "FILE", requires = "crashinfo")]
    pub output: Option<PathBuf>,
    /// The program to run [default: kgdb, or crashinfo]
    #[arg(long, value_name = "PROGRAM")]
    pub program: Option<PathBuf>,
    /// Where to unpack
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Threads that unpack [default: one per processor]
    #[arg(short = 'j', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// More arguments for the program
    #[arg(last = true)]
    pub args: Vec<OsString>,
}

/// Unpacks, runs, removes.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let opening = Opening {
        threads: args.threads,
        ..Opening::default()
    };
    let (name, kernel) = args.dump.paths();
    let kernel_args = args.kernel.with(kernel)?;
    let dump = input::dump(name, opening, session)?;
    for warning in dump.envelope().warnings() {
        session.warn(name, warning);
    }
    // Compared with the dump, or looked for, before anything is unpacked.
    let kernel = match kernel_args.open(&dump, name, session)? {
        Some(pair) => Some(absolute(pair.path())?),
        None => None,
    };
    if let Some(output) = &args.output
        && matches!(Destination::parse(output), Destination::Directory(_))
    {
        return Err(Failure::usage("a directory; the report is a file").about(output));
    }
    let parent = unpack::with_room(&places(args, session), unpack::len(&dump))
        .map_err(|failure| failure.about(name))?;
    let mut directory = PrivateDirectory::create(&parent)?;
    directory.guard(&mut guard::command("kgdb-guard")?)?;
    let number = unpack::number_of(name);
    let vmcore = directory.path().join(format!("vmcore.{number}"));
    unpack::write(&dump, name, &vmcore, (args.threads, false), session)?;
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
        // Its own words are no part of the report, and tell why there is none.
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
        Failure::could_not(what).next("try `livecore gdb` or `livecore triage`")
    })?;
    if args.crashinfo {
        report(args, &directory, number, session)?;
    }
    judge(&program, status)
}

/// The report that crashinfo has left in the directory.
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
            let what = format!("it has left no core.txt.{number}");
            return Err(Failure::could_not(what).about(&program(args).0));
        }
        Err(e) => return Err(Failure::from(e).about(&from)),
    };
    match args
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    {
        Some(path) => {
            let options = publish::Options {
                force: true,
                ..publish::Options::default()
            };
            let mut pending = Destination::parse(path).begin(&options)?;
            let written = pending.write_all(&text);
            written.map_err(|e| Failure::from(e).about(path))?;
            // Only a directory has an info file.
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

/// How FreeBSD comes by the program.
fn package(args: &Args) -> &'static str {
    match args.crashinfo {
        true => "it is in the base system",
        false => "pkg install gdb",
    }
}

/// Where there may be room, best first.
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

/// Programs are run elsewhere than paths were said.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::from(e).about(path))
}

fn judge(program: &Path, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::could_not(status).about(program))
}
