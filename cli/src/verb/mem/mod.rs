//! `livecore mem`: mem(4), operation by operation, on FreeBSD's devices or on an emulated machine.
//!
//! Each operation asks a `MemDevice` and does not know whose it is; [`source`] opens it.

pub mod paddr;
pub mod ranges;
pub mod read;
pub mod source;
pub mod write;

#[cfg(test)]
mod recorded;

use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Without --machine or --image it is about this system, which must be FreeBSD: /dev/mem and /dev/kmem. \
What mem(4) promises, and where an emulated machine differs, is in docs/mem4.md.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Which operation.
    #[command(subcommand)]
    pub operation: Operation,
}

/// An operation of mem(4).
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
    /// Say where addresses of a process are in physical memory
    Paddr(paddr::Args),
    /// List, set or clear memory ranges, as memcontrol(8) does
    Ranges(ranges::Args),
}

/// Does it.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    match &args.operation {
        Operation::Read(args) => read::run(args, session),
        Operation::Write(args) => write::run(args, session),
        Operation::Paddr(args) => paddr::run(args, session),
        Operation::Ranges(args) => ranges::run(args, session),
    }
}
