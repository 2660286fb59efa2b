//! Builds emulated machines from their descriptions.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use livecore_synth::KernelKind;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;

/// The largest description that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// Whether building the machine that the file `path` describes may run a compiler. True for a file that
/// can be read only once.
pub(crate) fn runs_compiler(path: &Path) -> bool {
    if !path.is_file() {
        return true;
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_LIMIT).read_to_string(&mut text));
    // An invalid description is refused before the compiler runs.
    read.is_ok()
        && livecore_synth::Description::parse(&text)
            .is_ok_and(|description| description.kernel.kind != KernelKind::Symbols)
}

/// Builds the machine that the file `path` describes.
pub(crate) fn machine(
    path: &Path,
    session: &mut Session<'_>,
) -> Result<livecore_synth::Machine, Failure> {
    let about = |f: Failure| f.about(path);
    let file = if path == Path::new("-") {
        session.env.seekable_stdin()
    } else {
        File::open(path)
    };
    let file = file.map_err(|e| about(e.into()))?;
    let mut text = String::new();
    file.take(TEXT_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => {
                about(Failure::broken("not UTF-8 text").id_is(Id::DescriptionSyntax))
            }
            _ => about(e.into()),
        })?;
    if text.len() as u64 > TEXT_LIMIT {
        return Err(about(
            Failure::broken(format_args!(
                "machine description is longer than {TEXT_LIMIT} bytes"
            ))
            .id_is(Id::DescriptionTooLarge),
        ));
    }
    let description = livecore_synth::Description::parse(&text).map_err(|e| about(e.into()))?;
    livecore_synth::build(&description).map_err(|e| about(e.into()))
}

impl From<livecore_synth::Error> for Failure {
    fn from(error: livecore_synth::Error) -> Self {
        let exit = match &error {
            livecore_synth::Error::Syntax(_)
            | livecore_synth::Error::Value { .. }
            | livecore_synth::Error::NoSpace { .. } => Exit::BROKEN,
            _ => Exit::COULD_NOT,
        };
        // A syntax error has several lines: the first has the position, the last the reason.
        let text = error.to_string();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let (first, last) = (lines.next(), lines.next_back());
        let text = match (first, last) {
            (Some(first), Some(last)) => format!("{first}: {last}"),
            _ => text,
        };
        Failure::of(exit, &error).what_is(&text)
    }
}
