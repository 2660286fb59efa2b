//! Finds and reads the info file of a dump.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Info, MAX_LEN};

/// The info file of a dump.
pub(crate) struct InfoFile {
    pub(crate) path: PathBuf,
    /// The parsed file, or the reason why it cannot be used.
    pub(crate) info: Result<Info, String>,
}

/// The part of a dump's file name after `vmcore.`, `livecore.`, `vmcore_encrypted.` or
/// `textdump.tar.`, without a codec's suffix: `N`, or
/// `HOST.N` of netdumpd(8). `None` if the name has another prefix.
pub fn name_after_prefix(name: &str) -> Option<&str> {
    let rest = ["vmcore.", "livecore.", "vmcore_encrypted.", "textdump.tar."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let bare = [".gz", ".zst"]
        .iter()
        .find_map(|suffix| rest.strip_suffix(suffix));
    Some(bare.unwrap_or(rest))
}

/// Returns the path of the info file of a dump, if it exists: `info.N` or `info.HOST.N` in the same
/// directory. The dump is `vmcore.N`, `livecore.N` or netdumpd's `vmcore.HOST.N`, with or without a
/// codec's suffix, or a link such as `vmcore.last`.
pub fn path_of(dump: impl AsRef<Path>) -> Option<PathBuf> {
    let dump = dump.as_ref();
    let real = dump.canonicalize().ok()?;
    let rest = number(real.file_name()?.to_str()?)?;
    let path = real.with_file_name(format!("info.{rest}"));
    path.symlink_metadata().is_ok().then_some(path)
}

/// The part of a dump's file name that it shares with its info file and its key file: `N`, or `HOST.N`
/// of netdumpd(8). `None` for other names.
pub fn number(name: &str) -> Option<&str> {
    let rest = name_after_prefix(name)?;
    // A host name can have dots.
    let number = rest.rsplit('.').next().unwrap_or(rest);
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(rest)
}

/// Reads an info file, up to the maximum length.
///
/// A file that is not regular is not opened, because opening a named pipe would block.
///
/// # Errors
///
/// Returns the error of the system, or an error if the file is not a regular file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let regular = |is_file: bool| match is_file {
        true => Ok(()),
        false => Err(io::Error::other("not a regular file")),
    };
    regular(path.metadata()?.is_file())?;
    let file = File::open(path)?;
    regular(file.metadata()?.is_file())?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl InfoFile {
    /// The info file `path` with the content `bytes`.
    pub(crate) fn of(path: PathBuf, bytes: &[u8]) -> Self {
        let info = Info::parse(&String::from_utf8_lossy(bytes));
        let info = info.ok_or_else(|| "not in the format of savecore".to_string());
        Self { path, info }
    }
}

/// Finds and reads the info file of a dump.
pub(crate) fn find(dump: &Path) -> Option<InfoFile> {
    let path = path_of(dump)?;
    match read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(InfoFile {
            path,
            info: Err(e.to_string()),
        }),
        Ok(bytes) => Some(InfoFile::of(path, &bytes)),
    }
}
