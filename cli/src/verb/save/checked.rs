//! Checks a saved file before its dump is cleared.

use std::path::Path;

use livecore_compress::{Codec, Progress as _, ReadAt, Stream};
use serde::Serialize;

use super::plan::stream_options;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::published;
use crate::session::Session;

/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;

/// The result of the check of a saved file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    /// The verifier found nothing.
    Sound,
    /// The verifier found warnings only.
    Warnings,
    /// The file has every byte of the dump on the device.
    Identical,
    /// The verifier found errors, or the file differs from the device.
    Broken,
    /// Parts of the dump could not be read or decoded, and are not in the file.
    Salvaged,
}

impl Check {
    /// Whether the device can be cleared.
    pub(super) fn is_safe(self) -> bool {
        matches!(self, Self::Sound | Self::Warnings | Self::Identical)
    }

    /// For the report.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Sound => "verified: sound",
            Self::Warnings => "verified: warnings",
            Self::Identical => "compared with the device: identical",
            Self::Broken => "verified: broken",
            Self::Salvaged => "salvaged",
        }
    }
}

/// Verifies the saved file `path`, with all its frames.
pub(super) fn verified(path: &Path, session: &mut Session<'_>) -> Result<Check, Failure> {
    Ok(match published::check(path, true, session)? {
        Exit::DONE => Check::Sound,
        Exit::WARNINGS => Check::Warnings,
        Exit::COULD_NOT => return Err(Failure::could_not("cannot verify").about(path)),
        _ => Check::Broken,
    })
}

/// Compares the content of the saved file `path`, decompressed unless `codec` is [`Codec::None`], with
/// `data`.
pub(super) fn same(
    path: &Path,
    codec: Codec,
    data: &dyn ReadAt,
    session: &Session<'_>,
) -> Result<Check, Failure> {
    let about = |e: std::io::Error| Failure::from(e).about(path);
    let file = published::open(path, session)?;
    let content = match codec {
        Codec::None => file,
        _ => {
            let options = stream_options(session);
            let stream = Stream::from_source(file, &options);
            stream.map_err(|e| Failure::from(e).about(path))?.content()
        }
    };
    let len = data.size()?;
    let bar = session.bar("save: compare", false, Some(len));
    let (mut found, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < len {
        if bar.cancelled() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        let n = data.read_full_at(&mut expected, at)?;
        let got = content.read_full_at(&mut found[..n], at).map_err(about)?;
        if n == 0 || found[..got] != expected[..n] {
            return Ok(Check::Broken);
        }
        at += n as u64;
        bar.advance(n as u64, n as u64);
    }
    // A sealed file without compression continues with its seal.
    let end = content.read_full_at(&mut [0], len).map_err(about)?;
    Ok(match end == 0 || codec == Codec::None {
        true => Check::Identical,
        false => Check::Broken,
    })
}
