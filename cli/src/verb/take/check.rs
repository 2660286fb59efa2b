//! Checks a dump of the running system after it was published.

use std::path::Path;

use livecore_livedump::take::Lacking;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;

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
