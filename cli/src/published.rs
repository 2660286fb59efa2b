//! Verifies a dump after it was published.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt};
use livecore_verify::render::{self, Format, Style};
use livecore_verify::{Depth, Filter, Options, Verdict, verify};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::remote::is_remote;
use crate::session::Session;

/// The line for the system's log about the file `path`, as savecore(8) has it.
pub(crate) fn log_line(path: &Path, is_encrypted: bool, codec: Codec) -> String {
    let encrypted = if is_encrypted { "encrypted " } else { "" };
    let compressed = match codec {
        Codec::None => "",
        _ => "compressed ",
    };
    format!("writing {encrypted}{compressed}core to {}", path.display())
}

/// Opens the file or the object `path`.
pub(crate) fn open(path: &Path, session: &Session<'_>) -> Result<Arc<dyn ReadAt>, Failure> {
    match is_remote(path) {
        true => session.stores.open(path),
        false => match File::open(path) {
            Ok(file) => Ok(Arc::new(file)),
            Err(e) => Err(Failure::from(e).about(path)),
        },
    }
}

/// Verifies the file `path`, prints findings, and returns the exit code of the verdict, which is that of
/// the run or better. What was written is kept in any case. `decode`: with all frames of its stream.
pub(crate) fn check(path: &Path, decode: bool, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let file = open(path, session)?;
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
    let report = verify(file, &options, &bar);
    drop(bar);
    let exit = match report.verdict {
        // The data of an encrypted dump is not checked without the private key.
        Verdict::Warnings if report.findings.is_empty() => Exit::DONE,
        ref verdict => Exit::from_code(verdict.exit_code()),
    };
    session.note(exit);
    if exit == Exit::DONE {
        let line = format_args!("{}: verified", path.display());
        session.voice.detail(Id::Verified, line);
        return Ok(exit);
    }
    let mut text = Vec::new();
    render::write(&[report], Format::Text, Style::default(), &mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        session.voice.say(Id::Report, line);
    }
    Ok(exit)
}
