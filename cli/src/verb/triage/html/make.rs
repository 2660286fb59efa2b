//! Collects the contents of the page and publishes it.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_kernel::Pair;
use livecore_kernel::verifier::{ElfFacts, Keys};
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::AnyDump;
use livecore_verify::compare::{Comparison, compare};
use livecore_verify::{Depth, KernelFacts, OneTimeKeys, Options};

use super::super::facts::{Asked, Triage};
use super::Page;
use super::memory::Memory;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;
use crate::verifier::Subject;

/// What to report.
pub(in super::super) struct Request<'a> {
    pub(in super::super) dump: &'a Path,
    /// Another dump to compare it with.
    pub(in super::super) other: Option<&'a Path>,
    pub(in super::super) kernel: &'a KernelArgs,
    /// The file to write.
    pub(in super::super) path: &'a Path,
}

/// Writes the report.
///
/// # Errors
///
/// The dump cannot be read, or the file cannot be written.
pub(in super::super) fn write(
    request: &Request<'_>,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let path = request.path;
    let destination = Destination::parse(path);
    if let Destination::Directory(_) = destination {
        let failure = Failure::usage("is a directory, expected a file");
        return Err(failure.id_is(Id::OutputIsDirectory).about(path));
    }
    require_other_file(request, session)?;
    // In this form, --force is about the output.
    let options = publish::Options::default().force(request.kernel.force);
    let kernel_args = KernelArgs {
        force: false,
        ..request.kernel.clone()
    };
    // Before the work: the file may exist.
    let pending = match destination.is_stdout() {
        true => None,
        false => Some(destination.begin(&options)?),
    };
    let (name, threads) = (request.dump, crate::args::threads(None));
    let (dump, pair) = open(name, &kernel_args, session)?;
    let memory_section = ["memory".to_string()];
    let asked = |name, all| Asked {
        name,
        lines: usize::MAX,
        all,
        ci: false,
        sections: &memory_section,
    };
    let triage = Triage::of(&asked(name, true), &dump, pair.as_ref());
    let memory = Memory::of(&dump, session.env.memory);
    let facts = pair.as_ref().map(|pair| ElfFacts(pair.elf()));
    let facts = facts.as_ref().map(|facts| facts as &dyn KernelFacts);
    let verifying = Options::default()
        .depth(Depth::Default)
        .threads(threads)
        .memory(session.env.memory)
        .kernel(facts);
    let bar = session
        .bar("verify", false, Some(triage.file_size))
        .of_stored();
    let subject = Subject::open(name, session)?;
    subject.check_pack(Depth::Default, &bar)?;
    let report = subject.verify(verifying, &bar);
    drop(bar);
    let other = match request.other {
        Some(other) => {
            // The named kernel may be that of the first dump only.
            let places = request
                .kernel
                .kernel
                .iter()
                .chain(&request.kernel.kernel_path);
            let search = KernelArgs {
                kernel_path: places.cloned().collect(),
                ..KernelArgs::default()
            };
            let (dump, pair) = open(other, &search, session)?;
            let triage = Triage::of(&asked(other, false), &dump, pair.as_ref());
            Some((triage, compared([name, other], session)?))
        }
        None => None,
    };
    if session.env.interrupt.raised().is_some() {
        return Err(livecore_compress::Error::Cancelled.into());
    }
    let page = Page {
        triage: &triage,
        report: &report,
        memory,
        other: other.as_ref().map(|(triage, found)| (triage, found)),
    };
    let text = page.html().map_err(Failure::could_not)?;
    match pending {
        None => session.out.write_all(text.as_bytes())?,
        Some(mut pending) => {
            let written = pending.write_all(text.as_bytes());
            written.map_err(|e| Failure::from(e).about(path))?;
            // Only a dump in a directory has an info file.
            pending.publish(&|_| Vec::new())?;
        }
    }
    Ok(())
}

/// Refuses an output that is one of the inputs, and standard input, which would be read twice.
fn require_other_file(request: &Request<'_>, session: &Session<'_>) -> Result<(), Failure> {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let output = identity(request.path);
    let dumps = [Some(request.dump), request.other];
    for dump in dumps.into_iter().flatten() {
        if dump == Path::new("-") {
            return Err(
                Failure::usage("--html needs a file, not standard input").id_is(Id::InvalidValue)
            );
        }
    }
    let kernel = request.kernel.named(&session.env);
    let inputs = dumps.into_iter().chain([kernel]).flatten();
    for input in inputs.chain(request.kernel.kernel_path.iter().map(PathBuf::as_path)) {
        if output.is_some() && output == identity(input) {
            let failure = Failure::usage("the report would replace an input");
            return Err(failure.id_is(Id::InvalidValue).about(request.path));
        }
    }
    Ok(())
}

/// Opens a dump and its kernel.
fn open(
    path: &Path,
    kernel: &KernelArgs,
    session: &mut Session<'_>,
) -> Result<(AnyDump, Option<Pair>), Failure> {
    if input::text_dump(path, session)?.is_some() {
        let what = "a text dump has no HTML report; use `livecore triage` without --html";
        return Err(Failure::new(crate::exit::Exit::UNSUPPORTED, what).about(path));
    }
    let dump = input::dump(path, Opening::default(), session)?;
    for warning in dump.envelope().warnings() {
        session.warn_of(path, warning);
    }
    let pair = kernel.open(&dump, path, session)?;
    Ok((dump, pair))
}

/// Compares the pages of two dumps.
fn compared(paths: [&Path; 2], session: &mut Session<'_>) -> Result<Comparison, Failure> {
    let mut open = |path: &Path| -> Result<Arc<dyn ReadAt>, Failure> {
        let source = input::source(path, session)?;
        input::decrypted(path, source.into(), session)
    };
    let sources = [open(paths[0])?, open(paths[1])?];
    let names = paths.map(|path| path.display().to_string());
    let keys = session.env.key.clone().map(Keys);
    let options = Options::default()
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .threads(crate::args::threads(None))
        .memory(session.env.memory);
    let bar = session.bar("compare", false, None).of_stored();
    Ok(compare(sources, [&names[0], &names[1]], &options, &bar))
}
