//! `livecore info DUMP`: what `qemu-img info` is to disks.
//!
//! An image of memory is told, too: its format, its ranges, its processors.
//!
//! Everything comes from the head and the tail of the file, so that the answer for a sealed dump
//! of any size is instant. A foreign compressed stream does not say how long its payload is; then
//! neither does the answer.

mod facts;
mod full;
mod image;
mod text;

use std::path::PathBuf;

use livecore_minidump::AnyDump;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, Opening};
use crate::session::Session;

pub use facts::Facts;

const MANUAL: &str = "\
Examples:
  livecore info livecore.0.zst
  livecore info --json vmcore.3 | jq .pages
  livecore info guest.elf                               an image of memory, for take --image

Only the head and the tail are looked at. A stream of one gzip member or one zstd frame has its \
checksum behind everything: `livecore verify` checks it.

Exits with 3 if there is something to warn of: a short file, a parity that is wrong, a seal that is \
damaged.";

/// The head and the tail, of which a foreign stream's checksum says nothing.
const GLANCE: Opening = Opening {
    threads: None,
    zero_tail: false,
    glance: true,
};

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump, or an image of memory that is not raw; `-` for standard input
    pub dump: PathBuf,
    /// One JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Prints what the dump is.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let dump = match input::dump(&args.dump, GLANCE, session) {
        Ok(dump) => dump,
        Err(no_dump) => return image(args, no_dump, session),
    };
    match &dump {
        AnyDump::Mini(dump) => {
            let facts = Facts::of(dump, &args.dump);
            if args.json {
                crate::json::print(&facts, &mut session.out)?;
            } else {
                text::print(&facts, &mut session.out)?;
            }
        }
        AnyDump::Full(dump) => {
            let facts = full::FullFacts::of(dump, &args.dump);
            if args.json {
                crate::json::print(&facts, &mut session.out)?;
            } else {
                full::print(&facts, &mut session.out)?;
            }
        }
    }
    for warning in dump.warnings() {
        session.warn(&args.dump, warning);
    }
    Ok(())
}

/// Prints what the image is, if what is no dump is one.
fn image(args: &Args, no_dump: Failure, session: &mut Session<'_>) -> Result<(), Failure> {
    let may_be = args.dump.is_dir() || no_dump.exit() == Exit::UNSUPPORTED;
    let Some(facts) = may_be.then(|| image::of(&args.dump, session)).flatten() else {
        return Err(no_dump);
    };
    let facts = facts?;
    if args.json {
        crate::json::print(&facts, &mut session.out)?;
    } else {
        facts.print(&mut session.out)?;
    }
    Ok(())
}
