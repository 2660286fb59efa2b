//! The command line, with one file for each verb: its arguments, its manual page and its code.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::dump_args::NumberArg;
use crate::env::Env;
use crate::exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::remote;
use crate::session::Session;
use crate::text::parse_size;
use crate::transport::Listener;

pub(crate) mod cache;
pub(crate) mod clear;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod decrypt;
pub(crate) mod dmesg;
pub(crate) mod drgn;
pub(crate) mod estimate;
pub(crate) mod export;
pub(crate) mod gdb;
pub(crate) mod group;
pub(crate) mod info;
pub(crate) mod isf;
pub(crate) mod kgdb;
mod kgdb_guard;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod mem;
pub(crate) mod mount;
mod mount_guard;
pub(crate) mod netdump;
pub(crate) mod pack;
pub(crate) mod ps;
mod qmp_guard;
pub(crate) mod read;
pub(crate) mod salvage;
pub(crate) mod save;
pub(crate) mod serve;
pub(crate) mod synth;
pub(crate) mod take;
pub(crate) mod threads;
pub(crate) mod triage;
pub(crate) mod verify;
mod watch;

const AFTER: &str = "\
Examples:
  livecore take -o /var/crash/           dump this FreeBSD system
  livecore save -m 10 /var/crash         save the dump of a crashed FreeBSD system
  livecore verify /var/crash             check all dumps in the directory
  livecore triage livecore.0.zst         summarize a crash
  livecore gdb livecore.0.zst            start a debugger on a dump

`-` is standard input or standard output, where a stream is possible. Data goes to standard output; \
messages go to standard error. SIGUSR1 (and Ctrl-T where the terminal supports it) prints progress.

livecore parses files in a sandbox if the system has one: it can then open only the named files, their \
directories and the output. With LIVECORE_SANDBOX=require, livecore fails without a sandbox; \
LIVECORE_SANDBOX=off disables it, as --no-sandbox does. `livecore --version -v` prints the \
restrictions that this system supports, and the debuggers that are installed.

The default of --memory is lower if a quarter of the available memory, or half of `ulimit -v`, is less than \
256M.

Exit codes, unless `livecore VERB --help` states others:
";

/// The text after the options.
fn after() -> String {
    let codes = exit::CODES.iter();
    let codes = codes.map(|(code, meaning)| format!("  {code:<8} {meaning}\n"));
    format!("{AFTER}{}{}", codes.collect::<String>(), exit::SEVERAL)
}

/// Take, convert, verify and read FreeBSD kernel dumps
#[derive(Debug, Parser)]
#[command(name = "livecore", version, after_help = after(), max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_value_name = "VERB")]
#[command(subcommand_help_heading = "Verbs", infer_subcommands = false)]
pub struct Cli {
    /// Suppress progress and informational messages
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Print details
    ///
    /// Adds properties of sound dumps, advice for findings, and the kernel files that were tried.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        conflicts_with = "quiet",
        overrides_with = "verbose"
    )]
    pub verbose: bool,
    /// When to color reports
    ///
    /// auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, help_heading = "Global options", value_name = "WHEN",
          default_value = "auto", value_parser = ["auto", "always", "never"])]
    pub color: String,
    /// Progress output on standard error
    ///
    /// auto: a bar on a terminal; json: lines of JSON (docs/json.md).
    #[arg(long, global = true, help_heading = "Global options", value_name = "FORM", default_value = "auto",
          value_parser = ["auto", "bar", "json", "none"])]
    pub progress: String,
    /// Form of messages on standard error
    ///
    /// json: lines of JSON with stable ids (docs/json.md).
    #[arg(long, global = true, help_heading = "Global options", value_name = "FORM", default_value = "text",
          value_parser = ["text", "json"])]
    pub messages: String,
    /// Memory for bitmaps, page tables and frames [default: 256M]
    #[arg(long, global = true, help_heading = "Global options", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Do not use the cache of restart points
    ///
    /// The cache makes later runs on a single compressed stream fast (`livecore cache --help`).
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_cache: bool,
    /// Private key for encrypted dumps (docs/encryption.md)
    ///
    /// For verbs that read dumps: an RSA key in PEM. Default: the file that LIVECORE_KEY names.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "PRIVATE.pem"
    )]
    pub key: Option<PathBuf>,
    /// Do not enter the sandbox (docs/sandbox.md)
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_sandbox: bool,
    /// The verb to run.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an emulated machine's memory and kernel
    Synth(synth::Args),
    /// Take a dump of a machine
    Take(take::Args),
    /// Save the dump of a crashed system from its device
    Save(save::Args),
    /// Clear the dump on a device
    Clear(clear::Args),
    /// List the dumps in a directory, or remove old ones
    List(list::Args),
    /// Describe a dump or a memory image
    Info(info::Args),
    /// Check headers, checksums and structure of dumps
    Verify(verify::Args),
    /// Compare two dumps
    Compare(compare::Args),
    /// Predict the size of a dump and the time to write it
    Estimate(estimate::Args),
    /// Convert a dump to another container, codec or kind
    Convert(convert::Args),
    /// Decrypt an encrypted dump
    Decrypt(decrypt::Args),
    /// Recover a sound dump from a damaged one
    Salvage(salvage::Args),
    /// Print memory of the dumped machine
    Read(read::Args),
    /// Print the kernel message buffer
    Dmesg(dmesg::Args),
    /// List processes and threads
    Ps(ps::Args),
    /// Print threads with registers and backtraces
    Threads(threads::Args),
    /// Summarize a crash: panic, CPUs, processes, messages
    Triage(triage::Args),
    /// Group crashes by signature
    Group(group::Args),
    /// Write a dump, its kernel and debug files to one file
    Pack(pack::Args),
    /// Unpack a dump for kgdb(1), crashinfo(8) and libkvm
    Export(export::Args),
    /// Run kgdb(1) or crashinfo(8) on any dump
    Kgdb(kgdb::Args),
    /// Serve a dump to gdb and lldb
    Serve(serve::Args),
    /// Start a debugger on a dump
    Gdb(gdb::Args),
    /// Start drgn on a dump
    Drgn(drgn::Args),
    /// Write the types of a kernel for Volatility 3
    Isf(isf::Args),
    /// Mount a dump as a file system
    Mount(mount::Args),
    /// Receive dumps of panicking kernels over the network
    Netdump(netdump::Args),
    /// Dump QEMU guests when they crash
    Watch(watch::Args),
    /// Access mem(4): memory, memory ranges, physical addresses
    Mem(mem::Args),
    /// Remove cached data
    Cache(cache::Args),
    /// Print a shell completion script
    Completions(completions::Args),
    /// Print or write the manual pages
    Man(man::Args),
    /// Resume a paused guest if `take --qmp --pause` is killed
    #[command(hide = true)]
    QmpGuard,
    /// Remove the directory of `kgdb` if it is killed
    #[command(hide = true)]
    KgdbGuard(kgdb_guard::Args),
    /// Unmount the directory of `mount`
    #[command(hide = true)]
    MountGuard(mount_guard::Args),
    /// Run the hooks of `netdump`
    #[command(hide = true)]
    NetdumpHook(netdump::HookArgs),
}

impl Verb {
    /// Whether the verb writes to the system's log.
    pub(crate) fn logs(&self) -> bool {
        matches!(self, Self::Take(_) | Self::Save(_))
    }

    /// Whether the verb opens a dump, so that `LIVECORE_KEY` applies to it.
    pub(crate) fn reads_dumps(&self) -> bool {
        !matches!(
            self,
            Self::Synth(_)
                | Self::Take(_)
                | Self::Save(_)
                | Self::Clear(_)
                | Self::Mem(_)
                | Self::Isf(_)
                | Self::Cache(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::QmpGuard
                | Self::KgdbGuard(_)
                | Self::MountGuard(_)
                | Self::Netdump(_)
                | Self::NetdumpHook(_)
                | Self::Watch(_)
        )
    }

    /// Whether the verb searches for a kernel, and so can download it.
    pub(crate) fn searches_kernel(&self) -> bool {
        matches!(
            self,
            Self::Convert(_)
                | Self::Dmesg(_)
                | Self::Drgn(_)
                | Self::Gdb(_)
                | Self::Kgdb(_)
                | Self::Mount(_)
                | Self::Pack(_)
                | Self::Ps(_)
                | Self::Read(_)
                | Self::Serve(_)
                | Self::Threads(_)
                | Self::Triage(_)
        )
    }

    /// Whether the verb cleans up after a signal: it removes an upload from a store, or resumes a guest.
    pub(crate) fn undoes_work(&self) -> bool {
        match self {
            Self::Take(args) => remote::is_remote(&args.out) || args.gdb.is_some(),
            Self::Convert(args) => remote::is_remote(&args.output),
            Self::Decrypt(args) => remote::is_remote(&args.output),
            Self::Salvage(args) => remote::is_remote(&args.output),
            Self::Pack(args) => remote::is_remote(&args.output()),
            Self::Save(args) => remote::is_remote(args.split().0),
            _ => false,
        }
    }

    /// The dump of a verb that reads one, and its number. `None` for other verbs.
    fn dump_mut(&mut self) -> Option<(&mut PathBuf, NumberArg)> {
        Some(match self {
            Self::Dmesg(dmesg::Args { dump, .. })
            | Self::Ps(ps::Args { dump, .. })
            | Self::Threads(threads::Args { dump, .. })
            | Self::Triage(triage::Args { dump, .. })
            | Self::Serve(serve::Args { dump, .. }) => {
                let number = dump.number;
                (dump.path_mut(), number)
            }
            Self::Estimate(estimate::Args {
                dump: Some(dump),
                number,
                ..
            }) => (dump, *number),
            Self::Pack(pack::Args {
                dump: path, number, ..
            }) => (path, *number),
            Self::Gdb(gdb::Args { dump, .. })
            | Self::Drgn(drgn::Args { dump, .. })
            | Self::Kgdb(kgdb::Args { dump, .. }) => {
                let number = dump.number;
                (dump.path_mut(), number)
            }
            Self::Read(read::Args { dump, number, .. })
            | Self::Export(export::Args { dump, number, .. })
            | Self::Mount(mount::Args { dump, number, .. })
            | Self::Convert(convert::Args {
                input: dump,
                number,
                ..
            })
            | Self::Decrypt(decrypt::Args {
                input: dump,
                number,
                ..
            })
            | Self::Salvage(salvage::Args {
                input: dump,
                number,
                ..
            }) => (dump, *number),
            _ => return None,
        })
    }

    /// Replaces a directory in place of a dump with one of its dumps, and prints its name. Reads the
    /// list of dumps of `group`.
    ///
    /// # Errors
    ///
    /// See [`NumberArg::select`] and [`group::Args::read_list`].
    pub(crate) fn select_dump(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if let Self::Group(args) = self {
            return args.read_list(session);
        }
        if let Some((path, number)) = self.dump_mut()
            && number.select(path)?
        {
            let line = format_args!("dump: {}", path.display());
            session.voice.say(Id::DumpSelected, line);
        }
        Ok(())
    }
}

/// What a verb opens before it enters the sandbox.
pub(crate) enum Opened {
    /// Nothing.
    Nothing,
    /// The socket for debuggers.
    Debuggers(Listener),
    /// The sockets for dumps.
    Dumps(Box<netdump::Opened>),
    /// The file system.
    #[cfg(feature = "mount")]
    Mounted(Box<mount::Mounted>),
}

/// Opens the sockets of a verb that accepts connections, or mounts.
pub(crate) fn listen(verb: &Verb, env: &Env) -> Result<Opened, Failure> {
    Ok(match verb {
        Verb::Serve(args) => serve::listen(args)?.map_or(Opened::Nothing, Opened::Debuggers),
        Verb::Netdump(args) => Opened::Dumps(Box::new(netdump::open(args)?)),
        Verb::Mount(args) => mount::open(args, env)?,
        _ => Opened::Nothing,
    })
}

/// Runs `verb` with the sockets from [`listen`].
pub(crate) fn run(verb: &Verb, opened: Opened, session: &mut Session<'_>) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(args, session),
        Verb::Verify(args) => verify::run(args, session),
        Verb::Compare(args) => compare::run(args, session),
        Verb::Dmesg(args) => dmesg::run(args, session),
        Verb::Synth(args) => synth::run(args, session),
        Verb::Take(args) => take::run(args, session),
        Verb::Save(args) => save::run(args, session),
        Verb::Clear(args) => clear::run(args, session),
        Verb::Convert(args) => convert::run(args, session),
        Verb::Decrypt(args) => decrypt::run(args, session),
        Verb::Salvage(args) => salvage::run(args, session),
        Verb::Info(args) => info::run(args, session),
        Verb::Read(args) => read::run(args, session),
        Verb::Triage(args) => triage::run(args, session),
        Verb::Group(args) => group::run(args, session),
        Verb::Estimate(args) => estimate::run(args, session),
        Verb::Pack(args) => pack::run(args, session),
        Verb::Export(args) => export::run(args, session),
        Verb::Kgdb(args) => kgdb::run(args, session),
        Verb::Mem(args) => mem::run(args, session),
        Verb::Serve(args) => match opened {
            Opened::Debuggers(listener) => serve::run(args, Some(listener), session),
            _ => serve::run(args, None, session),
        },
        Verb::Netdump(args) => match opened {
            Opened::Dumps(opened) => netdump::run(args, *opened, session),
            _ => netdump::run(args, netdump::open(args)?, session),
        },
        Verb::Mount(_args) => match opened {
            #[cfg(feature = "mount")]
            Opened::Mounted(mounted) => mount::run(_args, *mounted, session),
            // `listen` has mounted it, or failed.
            _ => Ok(()),
        },
        Verb::Watch(args) => watch::run(args, session),
        Verb::Gdb(args) => gdb::run(args, session),
        Verb::Drgn(args) => drgn::run(args, session),
        Verb::Isf(args) => isf::run(args, session),
        Verb::Ps(args) => ps::run(args, session),
        Verb::Threads(args) => threads::run(args, session),
        Verb::Cache(args) => cache::run(args, session),
        Verb::Completions(args) => completions::run(args, Cli::command(), session),
        Verb::Man(args) => man::run(args, Cli::command(), session),
        Verb::QmpGuard => qmp_guard::run(),
        Verb::KgdbGuard(args) => kgdb_guard::run(args),
        Verb::MountGuard(args) => mount_guard::run(args),
        Verb::NetdumpHook(args) => netdump::run_hooks(args, session),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
