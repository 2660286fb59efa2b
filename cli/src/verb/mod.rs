//! The command line, and the verbs, one file each: arguments, manual and work.

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::session::Session;
use crate::text::parse_size;

pub mod compare;
pub mod completions;
pub mod convert;
pub mod dmesg;
pub mod export;
pub mod gdb;
pub mod info;
pub mod kgdb;
mod kgdb_guard;
pub mod man;
pub mod mem;
pub mod ps;
mod qmp_guard;
pub mod read;
pub mod salvage;
pub mod serve;
pub mod synth;
pub mod take;
pub mod threads;
pub mod triage;
pub mod verify;

const AFTER: &str = "\
Exit codes: 0 done; 1 could not (I/O, memory, permission, no such address); 2 the input is broken; \
3 sound or done, with warnings; 63 not supported, or not a dump; 64 usage; 128+n ended by signal n, \
the temporary file removed; 141 the reader of standard output went away. Of several inputs the \
worst counts, in the order 1, 2, 63, 3, 0. `compare` has codes of its own.

`-` is standard input or standard output where a stream will do. Data goes to standard output, \
people are spoken to on standard error. SIGUSR1 (and Ctrl-T where the terminal has it) prints how \
far the work is.";

/// Takes, converts, checks and serves FreeBSD kernel dumps
#[derive(Debug, Parser)]
#[command(name = "livecore", version, after_help = AFTER, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_value_name = "VERB")]
#[command(subcommand_help_heading = "Verbs", infer_subcommands = false)]
pub struct Cli {
    /// No progress and no remarks on standard error; errors and warnings are still told
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Print details: what sound dumps contain, remedies for findings, kernels tried
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        conflicts_with = "quiet"
    )]
    pub verbose: bool,
    /// When to color reports; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, help_heading = "Global options", value_name = "WHEN",
          default_value = "auto", value_parser = ["auto", "always", "never"])]
    pub color: String,
    /// How to show progress on standard error; auto: a bar on a terminal; json: lines of JSON
    /// (docs/json.md)
    #[arg(long, global = true, help_heading = "Global options", value_name = "FORM", default_value = "auto",
          value_parser = ["auto", "bar", "json", "none"])]
    pub progress: String,
    /// Memory for bitmaps, page tables and decoded frames [default: 256M; less where a quarter of the
    /// available memory or half of `ulimit -v` is less]
    #[arg(long, global = true, help_heading = "Global options", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write an emulated machine's memory and kernel
    Synth(synth::Args),
    /// Take a dump of a machine
    Take(take::Args),
    /// Say what a dump is
    Info(info::Args),
    /// Check everything that dumps claim of themselves
    Verify(verify::Args),
    /// Say whether two dumps hold the same
    Compare(compare::Args),
    /// Write a dump in another container or codec, or as another kind
    Convert(convert::Args),
    /// Make the best sound dump of a damaged one
    Salvage(salvage::Args),
    /// Print the dumped machine's memory
    Read(read::Args),
    /// Print the kernel's message buffer
    Dmesg(dmesg::Args),
    /// List the dumped machine's processes and threads
    Ps(ps::Args),
    /// Print threads with their registers and call chains
    Threads(threads::Args),
    /// Report what a crash left: panic, CPUs, processes, messages
    Triage(triage::Args),
    /// Unpack a dump for kgdb(1), crashinfo(8) and libkvm
    Export(export::Args),
    /// Run kgdb(1) or crashinfo(8) on a dump of any codec
    Kgdb(kgdb::Args),
    /// Serve a dump to gdb and lldb
    Serve(serve::Args),
    /// Start a debugger on a dump
    Gdb(gdb::Args),
    /// Operate mem(4): memory, memory ranges, physical addresses
    Mem(mem::Args),
    /// Print the completion script for a shell
    Completions(completions::Args),
    /// Print or write the manual pages
    Man(man::Args),
    /// Watches over a paused guest, for `take --qmp --pause`
    #[command(hide = true)]
    QmpGuard,
    /// Watches over the directory that `kgdb` has unpacked into
    #[command(hide = true)]
    KgdbGuard(kgdb_guard::Args),
}

/// Does it.
pub fn run(verb: &Verb, session: &mut Session<'_>) -> Result<(), Failure> {
    match verb {
        Verb::Verify(args) => verify::run(args, session),
        Verb::Compare(args) => compare::run(args, session),
        Verb::Dmesg(args) => dmesg::run(args, session),
        Verb::Synth(args) => synth::run(args, session),
        Verb::Take(args) => take::run(args, session),
        Verb::Convert(args) => convert::run(args, session),
        Verb::Salvage(args) => salvage::run(args, session),
        Verb::Info(args) => info::run(args, session),
        Verb::Read(args) => read::run(args, session),
        Verb::Triage(args) => triage::run(args, session),
        Verb::Export(args) => export::run(args, session),
        Verb::Kgdb(args) => kgdb::run(args, session),
        Verb::Mem(args) => mem::run(args, session),
        Verb::Serve(args) => serve::run(args, session),
        Verb::Gdb(args) => gdb::run(args, session),
        Verb::Ps(args) => ps::run(args, session),
        Verb::Threads(args) => threads::run(args, session),
        Verb::Completions(args) => completions::run(args, Cli::command(), session),
        Verb::Man(args) => man::run(args, Cli::command(), session),
        Verb::QmpGuard => qmp_guard::run(),
        Verb::KgdbGuard(args) => kgdb_guard::run(args),
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
