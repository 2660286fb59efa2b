//! Key blocks in files: `key.N` in the directory of a dump. Keys in PEM files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Maximum size of a key file: a key block, padded to the largest sector.
const MAX_LEN: u64 = 64 << 10;

/// Maximum size of a PEM file. A key of 8192 bits needs 7 KiB.
const PEM_MAX: u64 = 64 << 10;

/// A key block that savecore(8) or netdumpd saved in the directory of a dump.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The content, which is not checked.
    pub bytes: Vec<u8>,
    /// Whether the dump has the name of an encrypted dump. Otherwise the key file can be that of
    /// another dump, which had the same number before. Data that begins like a dump is not encrypted
    /// under either name.
    pub certain: bool,
    /// Whether the name of the dump has the suffix `.gz`: `savecore -z` compressed it after the
    /// kernel encrypted it.
    pub gzip: bool,
}

impl KeyFile {
    /// The key file with the content `bytes` of a dump with the file name `name`.
    pub fn of(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            certain: name.starts_with("vmcore_encrypted."),
            gzip: name.ends_with(".gz"),
        }
    }
}

/// Finds and reads the key file of a dump: `key.N` for `vmcore_encrypted.N`, `vmcore.N` or `livecore.N`,
/// and `key.HOST.N` for netdumpd's `vmcore.HOST.N` and livecore's `vmcore_encrypted.HOST.N`, with or
/// without a codec's suffix.
///
/// # Errors
///
/// The key file exists and cannot be read, or is not a regular file.
pub fn key_file(dump: impl AsRef<Path>) -> io::Result<Option<KeyFile>> {
    let Ok(real) = dump.as_ref().canonicalize() else {
        return Ok(None);
    };
    let Some(name) = real.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let Some(number) = crate::info::name_after_prefix(name) else {
        return Ok(None);
    };
    let path = real.with_file_name(format!("key.{number}"));
    let found = match path.metadata() {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(named(&path, &e)),
    };
    // Opening a named pipe would block.
    if !found.is_file() {
        return Err(named(&path, &io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_LEN).read_to_end(&mut bytes))
        .map_err(|e| named(&path, &e))?;
    Ok(Some(KeyFile::of(name, bytes)))
}

/// Reads the PEM file `path`. The result is wiped when it is dropped.
///
/// # Errors
///
/// The file cannot be read.
pub fn read_pem(path: impl AsRef<Path>) -> io::Result<Zeroizing<String>> {
    // The size is fixed, because growing would leave copies that are not wiped.
    let mut pem = Zeroizing::new(String::with_capacity(PEM_MAX as usize + 1));
    File::open(path)?.take(PEM_MAX).read_to_string(&mut pem)?;
    Ok(pem)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
