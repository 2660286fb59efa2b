//! `livecore triage DUMP`: what crashinfo(8) reports, without kgdb and without FreeBSD.

mod facts;
mod text;

use std::path::PathBuf;

use crate::failure::Failure;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;

use facts::{Asked, Triage};

const MANUAL: &str = "\
Examples:
  livecore triage livecore.0.zst --kernel /boot/kernel/kernel
  livecore triage vmcore.3 --kernel kernel --json | jq .panic

The panic message, the version, how long the machine was up, the dump, the end of the message \
buffer, what every CPU did with its call chain, and all processes. Read from the dump as it is, \
compressed or not.

Without a kernel it tells what the dump alone knows: its header and its message buffer. What could \
not be found is listed at the end. A chain follows frame pointers and passes traps as ddb(4) does.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump; `-` for standard input
    pub dump: PathBuf,
    /// The kernel that was running
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Lines of the message buffer's end
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub lines: usize,
    /// Call chains of all threads, not only of those on a CPU
    #[arg(long)]
    pub all: bool,
    /// One JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Reports.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let dump = input::dump(&args.dump, Opening::default(), session)?;
    for warning in dump.envelope().warnings() {
        session.warn(&args.dump, warning);
    }
    let pair = args.kernel.open(&dump, &args.dump, session)?;
    let asked = Asked {
        name: &args.dump,
        lines: args.lines,
        all: args.all,
        ci: session.env.ci,
    };
    let triage = Triage::of(&asked, &dump, pair.as_ref());
    if args.json {
        Ok(crate::json::print(&triage, &mut session.out)?)
    } else {
        Ok(text::print(&triage, &mut session.out)?)
    }
}
