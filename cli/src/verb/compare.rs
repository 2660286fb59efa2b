//! `livecore compare A B`: compares the contents of two dumps.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{ReadAt, StreamKind};
use livecore_kernel::Pair;
use livecore_kernel::verifier::{ElfFacts, Keys, explain};
use livecore_minidump::{DumpMemory, KernelElf};
use livecore_verify::compare::{Answer, compare};
use livecore_verify::render::Style;
use livecore_verify::{KernelFacts, OneTimeKeys, Options};

use crate::crash_directory;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore compare vmcore.3 vmcore.3.zst       check that a conversion lost nothing
  livecore compare --kernel /boot/kernel/kernel livecore.0.zst livecore.1.zst

Verifies both dumps and, unless one is broken, compares their pages and sections. Container, \
codec, format version and kind (minidump, full dump, ELF core) do not matter. A full dump written by a \
kernel has pages but no sections. Differences of the host name, the time and other fields of the \
kerneldumpheader are listed, but count only with --strict.

Exits with 0 if the dumps are the same, 1 if they differ, and 4 if they could not be compared: one of \
them is broken, is not a dump or cannot be read. A warning about a dump does not change the exit code.";

/// Arguments of `livecore compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// First dump; `-` for standard input
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Second dump
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Kernel ELF file, to name the variables that differ
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Count different header fields as a difference
    #[arg(long)]
    pub strict: bool,
    /// List at most N pages and N ranges of pages
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub limit: usize,
    /// Print the result as a JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
    /// Threads for each dump [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let could_not = |failure: Failure| failure.with_exit(Exit::NOT_COMPARED);
    let kernel = match &args.kernel {
        Some(path) => Some(Arc::new(
            input::kernel(path, session.env.memory).map_err(could_not)?,
        )),
        None => nearby_kernel(args, session),
    };
    let a = input::source(&args.a, session).map_err(could_not)?;
    let b = input::source(&args.b, session).map_err(could_not)?;
    if kernel.is_none() {
        session.close_paths(&[a.fd(), b.fd()])?;
    }
    let sources: [Arc<dyn ReadAt>; 2] = [a.into(), b.into()];
    let sizes = sources.each_ref().map(|source| source.size().ok());
    let [a, b] = sources;
    let decrypted = |path, file| input::decrypted(path, file, session);
    let a = decrypted(&args.a, a).map_err(could_not)?;
    let b = decrypted(&args.b, b).map_err(could_not)?;
    let sources: [Arc<dyn ReadAt>; 2] = [a, b];
    let names = [&args.a, &args.b].map(|path| path.display().to_string());
    let facts = kernel.as_deref().map(ElfFacts);
    let keys = session.env.key.clone().map(Keys);
    let options = Options::default()
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .strict(args.strict)
        .per_rule(args.limit)
        .threads(crate::args::threads(args.threads))
        .kernel(facts.as_ref().map(|facts| facts as &dyn KernelFacts))
        .memory(session.env.memory);
    let total = sizes[0].zip(sizes[1]).map(|(a, b)| a.saturating_add(b));
    let bar = session.bar("compare", args.json, total).of_stored();
    let mut found = compare(sources, [&names[0], &names[1]], &options, &bar);
    drop(bar);
    let unexplained = found.pages.iter().any(|page| page.direct.is_none());
    if let Some(elf) = kernel.as_ref().filter(|_| unexplained)
        && let Some(memory) = memory_of(args, elf, session)
    {
        explain(&mut found.pages, &*memory, elf);
    }
    if session.env.interrupt.raised().is_some() {
        return Err(livecore_compress::Error::Cancelled.into());
    }
    if args.json {
        crate::json::print_numbered(&found.value(), &mut session.out)?;
    } else {
        let style = Style {
            color: session.env.color,
            verbose: false,
        };
        found.write_text(style, &mut session.out)?;
    }
    if let Answer::CouldNot(_) = found.answer {
        for path in [&args.a, &args.b] {
            if let Some(key) = crash_directory::lacks_key_file(path) {
                let what = format_args!("encrypted dump without its key file {key}");
                let failure = Failure::could_not(what).id_is(Id::Encrypted);
                session.fail(&could_not(failure.about(path)));
            }
        }
    }
    for (name, what) in found.warnings() {
        session.voice.warn(name.as_ref(), Id::Finding, what);
    }
    session.note(match found.answer {
        Answer::Same => Exit::DONE,
        Answer::Differ => Exit::DIFFERENT,
        Answer::CouldNot(_) => Exit::NOT_COMPARED,
    });
    Ok(())
}

/// The kernel of one of the dumps, if it is near it. A stream that has to be decoded first is not worth
/// the names.
fn nearby_kernel(args: &Args, session: &mut Session<'_>) -> Option<Arc<KernelElf>> {
    let opening = Opening {
        unchecked: true,
        ..Opening::default()
    };
    [&args.a, &args.b]
        .into_iter()
        .filter(|path| path.is_file())
        .find_map(|path| {
            let dump = input::dump(path, opening, session).ok()?;
            let stream = dump.envelope().stream();
            if stream.kind() == StreamKind::Foreign && stream.frames().is_none() {
                return None;
            }
            let pair = KernelArgs::default().open(&dump, path, session).ok()??;
            Some(Arc::clone(pair.elf()))
        })
}

/// The kernel memory of one of the dumps, if that is a full dump without a minidump.
fn memory_of(
    args: &Args,
    elf: &Arc<KernelElf>,
    session: &mut Session<'_>,
) -> Option<Arc<dyn DumpMemory>> {
    let paths = [&args.a, &args.b];
    let files = paths.into_iter().filter(|path| path.is_file());
    // The comparison has already read the streams to their ends.
    let opening = Opening {
        unchecked: true,
        ..Opening::default()
    };
    files
        .filter_map(|path| input::dump(path, opening, session).ok())
        .find_map(|dump| {
            let pair = Pair::new(&dump, "kernel", Arc::clone(elf)).ok()?;
            pair.machine().map(|_| pair.memory())
        })
}
