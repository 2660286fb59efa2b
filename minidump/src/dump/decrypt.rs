//! Opens the parts of a dump, decrypting its data if it is encrypted.

use std::sync::Arc;

use livecore_compress::ReadAt;

use super::options::OpenOptions;
use crate::Error;
use crate::container::{self, Opened};
use crate::encryption::locate;

/// Identifies the container of `source` and opens its parts.
///
/// # Errors
///
/// Those of [`locate`], [`Encrypted::decrypt`](crate::encryption::Encrypted::decrypt) and
/// [`container::open`].
pub(super) fn open(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Opened, Error> {
    let file_len = source.size()?;
    let found = locate(&source, options.key_file.as_ref(), &options.stream)?;
    let Some(encrypted) = found else {
        return container::open(source, &options.stream);
    };
    let mut stream = options.stream.clone();
    // Restart points contain plain data.
    stream.restart_cache = None;
    let plain = encrypted.decrypt(options.key.as_deref())?;
    let stored = (encrypted.container, file_len);
    let mut opened = container::open_decrypted(plain, stored, encrypted.header.clone(), &stream)?;
    opened.encryption = Some(encrypted.cipher());
    // The header and the records of a sealed file whose data is not a sealed file.
    opened.header = opened.header.or(encrypted.header);
    opened.seal = opened.seal.or(encrypted.record);
    Ok(opened)
}
