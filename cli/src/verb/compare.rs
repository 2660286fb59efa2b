//! `livecore compare A B`: whether two dumps hold the same state of a machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use compress::ReadAt;
use verify::Options;
use verify::compare::{Answer, compare};
use verify::render::Style;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::progress::Bar;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore compare vmcore.3 vmcore.3.zst       has the conversion kept everything?
  livecore compare --kernel /boot/kernel/kernel livecore.0.zst livecore.1.zst

Compared are the pages and sections that the dumps hold; containers, codecs and versions of the \
format play no part. Both dumps are verified on the way: a broken one is not compared. Host name, \
time and other words of the kerneldumpheader are told where they differ, and count under --strict \
only.

Exits with 0 if the dumps are the same, 1 if they differ, 4 if they could not be compared, because \
one of them is broken, no dump or cannot be read.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The first dump; `-` for standard input
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The second dump
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// The kernel that was running: its ELF file, which names what differs
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Header fields have to be the same, too
    #[arg(long)]
    pub strict: bool,
    /// Show at most N differing pages, and as many ranges of pages
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub limit: usize,
    /// The answer as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
    /// Threads for each dump [default: one per processor]
    #[arg(short = 'j', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Compares.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let could_not = |failure: Failure| failure.with_exit(Exit::NOT_COMPARED);
    let kernel = match &args.kernel {
        Some(path) => Some(input::kernel(path).map_err(could_not)?),
        None => None,
    };
    let a = input::seekable(&args.a, session).map_err(could_not)?;
    let b = input::seekable(&args.b, session).map_err(could_not)?;
    let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(a), Arc::new(b)];
    let names = [&args.a, &args.b].map(|path| path.display().to_string());
    let options = Options {
        strict: args.strict,
        per_rule: args.limit,
        threads: crate::args::threads(args.threads),
        kernel: kernel.as_ref(),
        ..Options::default()
    };
    let bar = Bar::new(session, "compare", args.json, None);
    let found = compare(sources, [&names[0], &names[1]], &options, &bar);
    drop(bar);
    if session.env.interrupt.raised().is_some() {
        return Err(compress::Error::Cancelled.into());
    }
    if args.json {
        crate::json::print(&found.value(), &mut session.out)?;
    } else {
        let style = Style {
            color: session.env.color,
            verbose: false,
        };
        found.write_text(style, &mut session.out)?;
    }
    session.note(match found.answer {
        Answer::Same => Exit::DONE,
        Answer::Differ => Exit::DIFFERENT,
        Answer::CouldNot(_) => Exit::NOT_COMPARED,
    });
    Ok(())
}
