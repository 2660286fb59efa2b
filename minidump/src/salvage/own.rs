//! The size of an uncompressed payload by its own headers and sections. A seal within a payload
//! belongs to another dump, which the memory contains.

use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_compress::salvage::Salvage as Stored;

use super::full::{self, is_core};
use super::left::Left;
use super::options::Options;
use super::survey;
use crate::Error;

/// The bytes of `source` without a seal, if [`Stored::recover`] found the seal of another dump: by
/// its own sections, the payload is longer than the content that this seal states.
///
/// # Errors
///
/// [`Error::Io`].
pub(super) fn without_seal(
    source: &Arc<dyn ReadAt>,
    found: &Stored,
    options: &Options,
) -> Result<Option<Stored>, Error> {
    let plain = || Stored::unproven(Arc::clone(source), &options.open.stream);
    let options = options.clone().proven(false);
    let left = Left::new(plain()?);
    let len = match is_core(&left)? {
        true => full::len(&left, &options),
        false => survey::len(&left, &options),
    };
    let is_longer = match len {
        Ok(Some(len)) => found.stated_len().is_none_or(|stated| len > stated),
        Err(error @ Error::Io { .. }) => return Err(error),
        Ok(None) | Err(_) => false,
    };
    Ok(is_longer.then(plain).transpose()?)
}
