//! `livecore serve DUMP`: serves a dump over the GDB remote protocol.

use std::path::PathBuf;

use serde::Serialize;

use crate::dump_args::DumpArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::KernelArgs;
use crate::served;
use crate::session::Session;
use crate::transport::{self, Listener};
use livecore_serve::Served;

const MANUAL: &str = "\
Examples:
  livecore serve livecore.0.zst
  livecore serve vmcore.3.zst --kernel /boot/kernel/kernel --listen 127.0.0.1:1234

When debuggers can connect, prints one line with the address on standard output:
  listening unix:/tmp/livecore.aB3dE6/gdb

In gdb:
  (gdb) target remote /tmp/livecore.aB3dE6/gdb
In lldb:
  (lldb) target create /boot/kernel/kernel
  (lldb) process connect unix-connect:///tmp/livecore.aB3dE6/gdb
Without a socket:
  (gdb) target remote | livecore serve -q --stdio livecore.0.zst

A gdb without FreeBSD support (`set osabi` does not list it; Debian's gdb is one) needs \
`set osabi none` before `file`. It is not needed with only `target remote`: gdb then reads the kernel from \
the server, which removes the ABI from the ELF header.

`monitor help` in gdb, or `process plugin packet monitor help` in lldb, lists more commands: backtraces \
through trap frames, ps, dmesg, modules.

Before it accepts connections, serve decodes a single compressed stream, as FreeBSD writes vmcore.N.gz \
and vmcore.N.zst, once. It records restart points, which make a second run fast \
(`livecore cache --help`). `livecore convert IN OUT` writes a dump with an index.

Up to eight debuggers can connect at a time. serve disconnects a debugger that sends nothing for an \
hour. Debuggers cannot run the kernel or write to it.

Every program that can connect can read the kernel's memory. By default the server listens on a socket \
in a new directory that only you can enter. With --listen, every user of this machine can connect; with \
a network address, every host on that network can. See docs/debuggers.md.";

/// Arguments of `livecore serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to read.
    #[command(flatten)]
    pub dump: DumpArg,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Listen on TCP [default: 127.0.0.1:0, any free port]
    #[arg(
        long,
        value_name = "HOST:PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:0",
        value_parser = address
    )]
    pub listen: Option<String>,
    /// Listen on a Unix socket that only its owner can use
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub unix: Option<PathBuf>,
    /// Serve one debugger on standard input and output
    #[arg(long, conflicts_with_all = ["listen", "unix", "json"])]
    pub stdio: bool,
    /// Exit when the first debugger disconnects
    #[arg(long)]
    pub once: bool,
    /// Read pages lost at the end of a short file as zeros
    #[arg(long)]
    pub zero_tail: bool,
    /// Print the address as a JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/serve.schema.json.
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

/// Opens the socket; `None` with `--stdio`.
pub(crate) fn listen(args: &Args) -> Result<Option<Listener>, Failure> {
    if args.stdio {
        return Ok(None);
    }
    Ok(Some(match (&args.unix, &args.listen) {
        (Some(path), _) => {
            Listener::unix(path).map_err(|e| Failure::cannot_listen(&e).about(path))?
        }
        (None, Some(address)) => Listener::tcp(address)
            .map_err(|e| Failure::cannot_listen(&e).about(address.as_ref()))?,
        (None, None) => Listener::private()?,
    }))
}

/// Serves until a signal arrives; with `--once` or `--stdio` until the debugger disconnects. A debugger
/// that connects before the dump is open waits.
pub(crate) fn run(
    args: &Args,
    listener: Option<Listener>,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let served = served::open(args.dump.path(), &args.kernel, args.zero_tail, session)?;
    let Some(listener) = listener else {
        let Some(stdin) = session.env.stdin.take() else {
            return Err(Failure::could_not("standard input is not open").id_is(Id::StreamClosed));
        };
        return Ok(transport::converse(&served, stdin, &mut session.out)?);
    };
    if listener.path().is_none() {
        let who = match listener.is_local() {
            true => "every user of this machine",
            false => "every host that can reach this address",
        };
        session.voice.say(Id::OpenServer, format_args!(
            "warning: {who} can read the dumped kernel's memory; omit --listen to restrict access to yourself"
        ));
    }
    for greeting in served.greeting() {
        session.voice.say(Id::of_greeting(&greeting), greeting);
    }
    announce(args, &served, &listener, session)?;
    listener
        .serve(&served, args.once)
        .map_err(|e| Failure::from(e).about(listener.address().as_ref()))
}

/// Accepts `HOST:PORT`. The error mentions the dump, which is easily taken for the value of
/// --listen.
fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT; put DUMP before --listen".into()),
    }
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
            dump: args.dump.path().display().to_string(),
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
            transport: if listener.path().is_some() {
                "unix"
            } else {
                "tcp"
            },
        };
        crate::json::print(&answer, &mut session.out)?;
    } else {
        let unix = if listener.path().is_some() {
            "unix:"
        } else {
            ""
        };
        writeln!(session.out, "listening {unix}{address}")?;
    }
    Ok(session.out.flush()?)
}
