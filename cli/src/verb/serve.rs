//! `livecore serve DUMP`: a GDB remote server over a dump.

use std::path::PathBuf;

use livecore_compress::StreamKind;
use livecore_livedump::publish::free;
use livecore_minidump::AnyDump;
use serde::Serialize;

use crate::failure::Failure;
use crate::input::{self, KernelArgs, Opening};
use crate::serve::Served;
use crate::serve::transport::{self, Listener};
use crate::session::Session;
use crate::space::Space;
use crate::text::{Short, printable};

const MANUAL: &str = "\
The address is printed on standard output as soon as debuggers can connect, in one line:
  listening 127.0.0.1:40123

In gdb:
  (gdb) target remote 127.0.0.1:40123
In lldb:
  (lldb) target create /boot/kernel/kernel
  (lldb) gdb-remote 127.0.0.1:40123
Without a socket:
  (gdb) target remote | livecore serve -q --stdio livecore.0.zst

A gdb that does not know FreeBSD (`set osabi` does not list it; Debian's does not) needs
`set osabi none` before `file`, if `file` is used at all: with `target remote` alone it reads the \
kernel from here, with its ABI taken out.

`monitor help` in gdb, `process plugin packet monitor help` in lldb, tells what else there is: call \
chains through trap frames, ps, dmesg, modules.

A dump is served as it lies there. One that is a single compressed stream, as FreeBSD writes \
vmcore.N.gz and vmcore.N.zst, is decoded once before anybody is served, and kept in a file without a \
name in TMPDIR, compressed; `livecore convert` makes one of it that can be read anywhere.

Up to eight debuggers are served at once. Nothing can be run or written. Whoever can connect can \
read the kernel's memory: by default only programs of this machine can. docs/debuggers.md tells \
more.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump
    pub dump: PathBuf,
    /// The kernel that was running
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Address to wait on; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Wait on a Unix socket instead, for its owner alone
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub unix: Option<PathBuf>,
    /// Serve one debugger on standard input and output
    #[arg(long, conflicts_with_all = ["listen", "unix", "json"])]
    pub stdio: bool,
    /// End when the first debugger has gone
    #[arg(long)]
    pub once: bool,
    /// Zeros for pages that a short file has lost; said on standard error
    #[arg(long)]
    pub zero_tail: bool,
    /// The line on standard output is one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// One JSON answer; docs/schemas/serve.schema.json.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    dump: String,
    kernel: String,
    architecture: &'a str,
    threads: usize,
    modules: usize,
    listening: String,
    transport: &'a str,
}

/// Serves until a signal comes, or with `--once` or `--stdio` until the debugger has gone.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let served = open(&args.dump, &args.kernel, args.zero_tail, session)?;
    if args.stdio {
        let Some(stdin) = session.env.stdin.take() else {
            return Err(Failure::could_not("standard input is not open"));
        };
        return Ok(transport::converse(&served, stdin, &mut session.out)?);
    }
    let listener = match &args.unix {
        Some(path) => Listener::unix(path).map_err(|e| Failure::from(e).about(path))?,
        None => {
            Listener::tcp(&args.listen).map_err(|e| Failure::from(e).about(args.listen.as_ref()))?
        }
    };
    if !listener.is_local() {
        session
            .voice
            .say("whoever can reach this address can read the dumped kernel's memory");
    }
    announce(args, &served, &listener, session)?;
    listener
        .serve(&served, args.once)
        .map_err(|e| Failure::from(e).about(listener.address().as_ref()))
}

/// Opens what is served, and tells what could not be found of it.
pub fn open(
    dump: &std::path::Path,
    kernel: &KernelArgs,
    zero_tail: bool,
    session: &mut Session<'_>,
) -> Result<Served, Failure> {
    let opening = Opening {
        zero_tail,
        glance: true,
        ..Opening::default()
    };
    let opened = input::dump(dump, opening, session)?;
    input::tell_memory_warnings(&opened, dump, session);
    check_spool(&opened, dump, session)?;
    let found = kernel.require(&opened, dump, session)?;
    let space = Space::new(opened, found);
    check(&space, dump, session)?;
    let served = Served::new(space, dump, &kernel.kernel_path)?;
    for problem in served.problems() {
        session.voice.say(printable(problem));
    }
    Ok(served)
}

/// Decodes a stream that has its checksum at its end up to there, before anybody is served: what
/// is lost is told now, and what is there is checked.
fn check(space: &Space, dump: &std::path::Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let stream = space.dump.stream();
    if stream.frames().is_none()
        && let (_, Some(error)) = stream
            .readable()
            .map_err(|e| Failure::from(e).about(dump))?
    {
        let what = "what was before that is served, and has not been checked";
        session.warn(dump, format_args!("{error}; {what}"));
    }
    Ok(())
}

/// What is one stream without an index, as a kernel writes it, is decoded once and kept: there has to
/// be room for about as much as the dump takes.
fn check_spool(
    dump: &AnyDump,
    path: &std::path::Path,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    // Frames that say where they end are as good as an index.
    if dump.stream().kind() != StreamKind::Foreign || dump.stream().frames().is_some() {
        return Ok(());
    }
    let (place, needed) = (&session.env.spool_dir, dump.file_len());
    let free = free::available(place)?;
    session.voice.say(format_args!(
        "{}: one stream without an index is decoded once and kept in {}, up to about {}; \
         `livecore convert` makes a dump that needs none of it",
        path.display(),
        place.display(),
        Short(needed)
    ));
    if free < needed {
        let what = format_args!("{} has only {}", place.display(), Short(free));
        return Err(Failure::could_not(what)
            .about(path)
            .next("TMPDIR names a directory with room"));
    }
    Ok(())
}

fn announce(
    args: &Args,
    served: &Served,
    listener: &Listener,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    use std::io::Write as _;
    let address = listener.address();
    if args.json {
        let answer = Answer {
            dump: args.dump.display().to_string(),
            kernel: served.kernel_path().display().to_string(),
            architecture: served.architecture(),
            threads: served.thread_count(),
            modules: served
                .modules()
                .list
                .iter()
                .filter(|m| !m.is_kernel)
                .count(),
            listening: address,
            transport: if args.unix.is_some() { "unix" } else { "tcp" },
        };
        crate::json::print(&answer, &mut session.out)?;
    } else {
        writeln!(session.out, "listening {address}")?;
    }
    Ok(session.out.flush()?)
}
