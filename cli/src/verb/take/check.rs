//! Verifies a dump of the running system after it was published.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use livecore_livedump::take::Lacking;
use livecore_verify::render::{self, Format, Style};
use livecore_verify::{Depth, Filter, Options, Verdict, verify};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;

/// Verifies the file `path`, and prints findings. What was written is kept in any case. `decode`: with
/// all frames of its stream, which livecore did not write.
pub(super) fn published(
    path: &Path,
    decode: bool,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    // A pipe or a device cannot be read again.
    if !path.is_file() {
        return Ok(());
    }
    let file = File::open(path).map_err(|e| Failure::from(e).about(path))?;
    let options = Options::default()
        .name(path.display().to_string())
        .depth(if decode { Depth::Default } else { Depth::Quick })
        .threads(crate::args::threads(None))
        .memory(session.env.memory)
        // The machine that is dumped does not have the private key.
        .filter(Filter {
            skip: vec!["KEY-UNREAD".into()],
            ..Filter::default()
        });
    let bar = session.bar("verify", !decode, None);
    let report = verify(Arc::new(file), &options, &bar);
    drop(bar);
    session.note(Exit::from_code(report.verdict.exit_code()));
    if report.verdict == Verdict::Sound {
        let line = format_args!("{}: verified", path.display());
        session.voice.detail(Id::Verified, line);
        return Ok(());
    }
    let mut text = Vec::new();
    render::write(&[report], Format::Text, Style::default(), &mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        session.voice.say(Id::Report, line);
    }
    Ok(())
}

/// Reports pages that the running kernel has marked and that its dump lacks.
pub(super) fn lacking(path: &Path, lacking: Lacking, session: &mut Session<'_>) {
    if lacking.is_incomplete() {
        let what = format_args!(
            "the dump lacks {} of {} pages that the kernel has marked",
            lacking.pages, lacking.of
        );
        let failure = Failure::new(Exit::BROKEN, what).id_is(Id::PagesNotDumped);
        let failure = failure.about(path);
        session.fail(&failure.next("take it again with --walk"));
    } else {
        let line = format_args!(
            "{}: {} of {} pages that the kernel has marked are not in the dump",
            path.display(),
            lacking.pages,
            lacking.of
        );
        session.voice.detail(Id::PagesNotDumped, line);
    }
}
