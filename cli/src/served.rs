//! A dump as `serve` and `gdb` open it for debuggers.

use std::path::Path;

use livecore_compress::StreamKind;
use livecore_defs::text::printable;
use livecore_livedump::publish::free;
use livecore_minidump::AnyDump;

use crate::failure::Failure;
use crate::input::{self, KernelArgs, Opening};
use crate::serve::Served;
use crate::session::Session;
use crate::text::Short;

/// Opens what is served, and tells what could not be found of it.
pub fn open(
    dump: &Path,
    kernel: &KernelArgs,
    zero_tail: bool,
    session: &mut Session<'_>,
) -> Result<Served, Failure> {
    let opening = Opening {
        zero_tail,
        glance: true,
        ..Opening::default()
    };
    let opened = input::dump(dump, opening, session)?;
    input::tell_memory_warnings(&opened, dump, session);
    check_spool(&opened, dump, session)?;
    let pair = kernel.require(&opened, dump, session)?;
    check(&opened, dump, session)?;
    let served = Served::new(pair, dump, &kernel.kernel_path)?;
    for problem in served.problems() {
        session.voice.say(printable(problem));
    }
    Ok(served)
}

/// Decodes a stream that has its checksum at its end up to there, before anybody is served: what
/// is lost is told now, and what is there is checked.
fn check(opened: &AnyDump, dump: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let stream = opened.stream();
    if stream.frames().is_none()
        && let (_, Some(error)) = stream
            .readable()
            .map_err(|e| Failure::from(e).about(dump))?
    {
        let what = "what was before that is served, and has not been checked";
        session.warn(dump, format_args!("{error}; {what}"));
    }
    Ok(())
}

/// What is one stream without an index, as a kernel writes it, is decoded once and kept: there has to
/// be room for about as much as the dump takes.
fn check_spool(dump: &AnyDump, path: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    // Frames that say where they end are as good as an index.
    if dump.stream().kind() != StreamKind::Foreign || dump.stream().frames().is_some() {
        return Ok(());
    }
    let (place, needed) = (&session.env.spool_dir, dump.file_len());
    let free = free::available(place)?;
    session.voice.say(format_args!(
        "{}: one stream without an index is decoded once and kept in {}, up to about {}; \
         `livecore convert` makes a dump that needs none of it",
        path.display(),
        place.display(),
        Short(needed)
    ));
    if free < needed {
        let what = format_args!("{} has only {}", place.display(), Short(free));
        return Err(Failure::could_not(what)
            .about(path)
            .next("TMPDIR names a directory with room"));
    }
    Ok(())
}
