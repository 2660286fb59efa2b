//! `livecore netdump`: receives the dumps of panicking kernels over the network.

mod hook;
mod outcome;
mod reports;

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use livecore_compress::{Codec, Progress, ReadAt};
use livecore_defs::netdump::PORT;
use livecore_livedump::netdump::{Check, Hosts, KeepOptions, Limits, Serving, Sockets, serve};
use livecore_verify::verify;

use crate::args::{CodecArgs, ContainerArg};
use crate::failure::Failure;
use crate::id::Id;
use crate::output;
use crate::session::Session;
use crate::text::{Bytes, parse_size};
use crate::verb::salvage::errors;

use hook::Hook;
use reports::Reports;

pub(crate) use hook::Args as HookArgs;
pub(crate) use hook::run as run_hooks;

const MANUAL: &str = "\
Examples:
  livecore netdump --listen 192.0.2.1 --out /var/crash
  livecore netdump --listen 127.0.0.1 --out dumps --once --json

A server of netdump(4), instead of netdumpd(8). When clients can send, prints one line for each address on \
standard output:
  listening 192.0.2.1:20023

On the client: `dumpon -c CLIENT -s SERVER IFACE`, or dumpdev in rc.conf(5). See docs/netdump.md.

livecore compresses, seals and verifies each dump, and publishes it as vmcore.HOST.N.zst with info.HOST.N, \
as netdumpd names them. The links vmcore.HOST.last and info.HOST.last point to the newest one. HOST is the \
name of the client in the file --hosts, up to its first dot, or else its address. livecore keeps an \
encrypted dump as vmcore_encrypted.HOST.N and key.HOST.N. Of an incomplete dump, it keeps the pages that \
arrived, as `salvage` does, or else the data as it arrived.

livecore uses the directory that a client requests (net.netdump.path) if it exists below --out.

netdump does not authenticate clients: every host that reaches the address can send a dump. --quota, \
--clients and the time limits restrict what they can use.

A signal stops the server: it keeps the data that has arrived and exits with 128+n. With --once, livecore \
exits with 0 if the dump is complete and sound, 3 if it salvaged a part of the dump or the verifier warns, 2 \
if it kept the data as it arrived, and 1 if it could not write the result.";

/// Arguments of `livecore netdump`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Address to listen on; may be repeated [default port: 20023]
    ///
    /// Clients accept only answers from the address that they send to. On a host with several addresses,
    /// name those that clients use instead of 0.0.0.0.
    #[arg(long, required = true, value_name = "ADDRESS[:PORT]", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Directory for dumps
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Maximum number of dumps at once; at most half from one host
    #[arg(long, value_name = "N", default_value = "16", value_parser = clients)]
    pub clients: NonZeroUsize,
    /// Maximum size of all dumps of a host, old ones included
    #[arg(long, value_name = "SIZE", default_value = "64G", value_parser = parse_size)]
    pub quota: u64,
    /// End a dump after this time without data, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "600",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// End a dump after this time in any case, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "86400",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub time_limit: u32,
    /// Run this command with sh(1) after each dump
    ///
    /// Its standard input is the outcome as JSON (docs/json.md). Commands run one after another.
    #[arg(long, value_name = "COMMAND")]
    pub hook: Option<OsString>,
    /// Write counters for Prometheus to this file (docs/netdump.md)
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Names of clients, in the format of hosts(5)
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts")]
    pub hosts: PathBuf,
    /// Exit after the first dump
    #[arg(long)]
    pub once: bool,
    /// The codec.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// Print JSON: one line for each event (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// What livecore opens before it enters the sandbox: sockets, and the process that runs hooks.
pub(crate) struct Opened {
    sockets: Sockets,
    hosts: Hosts,
    hook: Option<Hook>,
    /// A byte arrives here when the server has to stop.
    stop: UnixStream,
    /// The other end, for signals.
    pub(crate) wake: UnixStream,
}

/// Binds the sockets, reads the names and starts the process that runs hooks.
pub(crate) fn open(args: &Args) -> Result<Opened, Failure> {
    match std::fs::metadata(&args.out) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Failure::could_not("not a directory").about(&args.out)),
        Err(_) => {
            let failure = Failure::could_not("no such directory")
                .id_is(Id::NotFound)
                .about(&args.out);
            return Err(failure.next("create it with mkdir(1)"));
        }
    }
    use rustix::fs::Access;
    if rustix::fs::access(&args.out, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let failure = Failure::could_not("cannot write to this directory").about(&args.out);
        return Err(
            failure.next("the server writes dumps there: choose another one, or change its mode")
        );
    }
    // The default file may be missing.
    let hosts = match std::fs::read_to_string(&args.hosts) {
        Ok(text) => Hosts::parse(&text),
        Err(_) if args.hosts == std::path::Path::new("/etc/hosts") => Hosts::default(),
        Err(error) => return Err(Failure::from(error).about(&args.hosts)),
    };
    let sockets = Sockets::bind(&args.listen, args.clients.get())
        .map_err(|(address, e)| Failure::cannot_listen(&e).about(address.to_string().as_ref()))?;
    let (stop, wake) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    Ok(Opened {
        sockets,
        hosts,
        hook: args.hook.as_deref().map(Hook::start).transpose()?,
        stop,
        wake,
    })
}

/// Serves until a signal arrives; with `--once` until the first dump has ended.
pub(crate) fn run(args: &Args, opened: Opened, session: &mut Session<'_>) -> Result<(), Failure> {
    let target = output::target(&args.codec, ContainerArg::Sealed, Codec::Zstd, session)?;
    let threads = crate::args::threads(args.codec.threads);
    let memory = session.env.memory;
    let serving = Serving {
        limits: Limits {
            clients: args.clients,
            silence: Duration::from_secs(args.timeout.into()),
            total: Duration::from_secs(args.time_limit.into()),
        },
        // The path in a client's request can begin with it.
        directory: args.out.clone(),
        quota: args.quota,
        hosts: opened.hosts,
        keep: KeepOptions {
            target,
            stream: session
                .stream_options(args.codec.threads)
                .restart_cache(None),
            bitmap_limit: memory,
        },
        once: args.once,
    };
    if let Some((size, wanted)) = opened.sockets.small_buffer() {
        let line = format_args!(
            "warning: the receive buffer is {}, and {} clients need {}; packets may be lost (raise \
             net.core.rmem_max on Linux, kern.ipc.maxsockbuf on FreeBSD)",
            Bytes(size as u64),
            args.clients,
            Bytes(wanted as u64)
        );
        session.voice.say(Id::SmallBuffer, line);
    }
    announce(args, &opened.sockets, session)?;
    let check = |dump: Arc<dyn ReadAt>, progress: &dyn Progress| {
        let options = livecore_verify::Options::default()
            .threads(threads)
            .memory(memory)
            .per_rule(1);
        let report = verify(dump, &options, progress);
        let first = |worst: &str| match errors(&report).first() {
            Some(what) => what.clone(),
            None => worst.into(),
        };
        match report.verdict.exit_code() {
            0 => Check::Sound,
            3 => Check::Warnings(outcome::warnings(&report)),
            _ => Check::Unsound(first("the verifier refuses it")),
        }
    };
    let interrupt = session.env.interrupt.clone();
    let mut reports = Reports::new(args, opened.hook, session);
    let stop = opened.stop.as_fd();
    serve(&opened.sockets, &serving, &check, stop, &mut reports)?;
    reports.finish();
    match interrupt.raised() {
        Some(_) => Err(livecore_compress::Error::Cancelled.into()),
        None => Ok(()),
    }
}

fn announce(args: &Args, sockets: &Sockets, session: &mut Session<'_>) -> Result<(), Failure> {
    for address in sockets.addresses() {
        if args.json {
            let event = outcome::Listening {
                event: "listening",
                address: address.to_string(),
            };
            crate::json::print_line(&event, &mut session.out)?;
        } else {
            writeln!(session.out, "listening {address}")?;
        }
    }
    Ok(session.out.flush()?)
}

/// Parses an address with an optional port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    text.parse()
        .ok()
        .or_else(bare)
        .ok_or_else(|| "expected an IP address, or ADDRESS:PORT".to_owned())
}

/// Parses the number of clients.
fn clients(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    match text.parse::<NonZeroUsize>() {
        Ok(clients) if clients.get() <= MOST => Ok(clients),
        _ => Err(format!("expected a number from 1 to {MOST}")),
    }
}
