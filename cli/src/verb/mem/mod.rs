//! `livecore mem`: the operations of mem(4), on FreeBSD's devices or on an emulated machine.
//!
//! Each operation uses a `MemDevice`; [`source`] opens it.

pub(crate) mod kerneldump;
pub(crate) mod paddr;
pub(crate) mod ranges;
pub(crate) mod read;
pub(crate) mod source;
pub(crate) mod write;

#[cfg(test)]
mod recorded;

use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Without --machine or --image the verb accesses /dev/mem and /dev/kmem of this system, which must be \
FreeBSD. docs/mem4.md describes mem(4) and the differences of emulated machines.";

/// Arguments of `livecore mem`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The operation to run.
    #[command(subcommand)]
    pub operation: Operation,
}

/// The operations of mem(4).
#[derive(Debug, clap::Subcommand)]
#[command(
    subcommand_value_name = "OPERATION",
    subcommand_help_heading = "Operations"
)]
pub enum Operation {
    /// Print physical or kernel memory
    Read(read::Args),
    /// Change physical or kernel memory
    Write(write::Args),
    /// Write a live dump to an open descriptor
    Kerneldump(kerneldump::Args),
    /// Translate virtual addresses of a process
    Paddr(paddr::Args),
    /// List, set or clear memory ranges, like memcontrol(8)
    Ranges(ranges::Args),
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    match &args.operation {
        Operation::Read(args) => read::run(args, session),
        Operation::Write(args) => write::run(args, session),
        Operation::Kerneldump(args) => kerneldump::run(args, session),
        Operation::Paddr(args) => paddr::run(args, session),
        Operation::Ranges(args) => ranges::run(args, session),
    }
}
