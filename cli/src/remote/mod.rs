//! Inputs and outputs on object stores (docs/stores.md).
//!
//! A path is a URL if it begins with `s3://`, `https://` or `http://`. Without the feature `store`, [`Stores`]
//! refuses all URLs.

#[cfg(not(feature = "store"))]
mod absent;
#[cfg(feature = "store")]
mod client;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(not(feature = "store"))]
pub(crate) use absent::{Stores, Upload};
#[cfg(feature = "store")]
pub(crate) use client::{Stores, Upload};

/// An object of a list.
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
}

/// Whether `path` is a URL.
pub(crate) fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(livecore_store::is_url)
}

/// Whether `path` is the URL of a bucket or of a prefix, whose objects can be listed.
pub(crate) fn is_prefix(path: &Path) -> bool {
    let parsed = path.to_str().filter(|text| livecore_store::is_url(text));
    let parsed = parsed.map(livecore_store::Location::parse);
    parsed.is_some_and(|location| location.is_ok_and(|location| location.is_prefix()))
}
