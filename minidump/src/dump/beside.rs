//! The info file beside a dump.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::info::{self, Info};

/// An info file that stands beside a dump.
pub(crate) struct Beside {
    pub(crate) path: PathBuf,
    /// Its text, parsed, or why that did not go.
    pub(crate) info: Result<Info, String>,
}

/// The info file of `vmcore.N`, `livecore.N` and netdumpd's `vmcore.HOST.N`, each with or without a
/// codec's suffix: `info.N` or `info.HOST.N` in the same directory, if it is there. A `.last` link is
/// followed first.
pub fn info_file(dump: impl AsRef<Path>) -> Option<PathBuf> {
    let dump = dump.as_ref();
    let real = dump.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?;
    let rest = ["vmcore.", "livecore."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let rest = [".gz", ".zst"]
        .iter()
        .find_map(|suffix| rest.strip_suffix(suffix))
        .unwrap_or(rest);
    // A host's name may have dots.
    let number = rest.rsplit('.').next().unwrap_or(rest);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let path = real.with_file_name(format!("info.{rest}"));
    path.symlink_metadata().is_ok().then_some(path)
}

/// The bytes of an info file, as far as one may be long. What is no regular file is not opened: a
/// pipe of that name would be waited for.
///
/// # Errors
///
/// The system's error, or an error that it is not a regular file.
pub fn read_info(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let regular = |is_file: bool| match is_file {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    };
    regular(path.metadata()?.is_file())?;
    let file = File::open(path)?;
    regular(file.metadata()?.is_file())?;
    let mut bytes = Vec::new();
    file.take(info::MAX_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The info file of a dump, read.
pub(super) fn find(dump: &Path) -> Option<Beside> {
    let path = info_file(dump)?;
    let info = match read_info(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => Err(e.to_string()),
        Ok(bytes) => Info::parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| "it is not the text that savecore writes".to_string()),
    };
    Some(Beside { path, info })
}
