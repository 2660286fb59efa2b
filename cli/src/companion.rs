//! The files of savecore(8) that belong to a dump: `info.N` and `key.N` in its directory, or objects with its prefix.

use std::path::Path;

use livecore_minidump::encryption::{self, KeyFile};
use livecore_minidump::{OpenOptions, info};

use crate::failure::Failure;
use crate::id::Id;
use crate::remote::{Stores, is_remote};

/// Reads the key file of the dump `path`, if it has one.
pub(crate) fn key_file(path: &Path, stores: &Stores) -> Result<Option<KeyFile>, Failure> {
    if is_remote(path) {
        let found = stores.companion(path, "key")?;
        let name = path.file_name().and_then(|name| name.to_str());
        return Ok(found
            .zip(name)
            .map(|((_, bytes), name)| KeyFile::of(name, bytes)));
    }
    // The error names the key file.
    encryption::key_file(path).map_err(|e| Failure::could_not(e).id_is(Id::KeyFile).about(path))
}

/// The text of the info file of the dump `path`. `None` if it cannot be read: the dump is read without it.
pub(crate) fn info(path: &Path, stores: &Stores) -> Option<String> {
    let bytes = match is_remote(path) {
        true => stores.companion(path, "info").ok()??.1,
        false => info::read(info::path_of(path)?).ok()?,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Adds the key file and the info file of an object to the options of opening it. Of a file,
/// [`AnyDump::open`](livecore_minidump::AnyDump::open) finds them.
pub(crate) fn of_object(
    path: &Path,
    options: OpenOptions,
    stores: &Stores,
) -> Result<OpenOptions, Failure> {
    let info = stores.companion(path, "info")?;
    Ok(options.key_file(key_file(path, stores)?).info_file(info))
}
