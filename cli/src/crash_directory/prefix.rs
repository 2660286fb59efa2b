//! Finds dumps below a prefix of an object store.

use std::io;
use std::path::Path;

use super::{Entry, Search, dump_name, is_companion};
use crate::session::Session;

/// Finds the dumps below the prefix `path`, as [`super::dumps`] does in a directory.
///
/// # Errors
///
/// The objects cannot be listed. [`io::ErrorKind::Unsupported`]: the program has no object stores.
pub(super) fn dumps(path: &Path, search: Search, session: &Session<'_>) -> io::Result<Vec<Entry>> {
    let listed = session.stores.list(path)?;
    let prefix = path.to_string_lossy();
    let prefix = prefix.trim_end_matches('/');
    let mut found = Vec::new();
    for object in listed {
        let url = object.path.to_string_lossy().into_owned();
        let below = url.strip_prefix(prefix).unwrap_or(&url);
        let (parent, name) = url.rsplit_once('/').unwrap_or(("", &url));
        let is_below = below.trim_start_matches('/').contains('/');
        let is_older = search.since.is_some_and(|since| object.modified < since);
        let key = dump_name(name);
        let is_dump = key.is_some() || search.all && !name.is_empty() && !is_companion(name);
        if is_dump && !is_older && (search.recursive || !is_below) {
            // Objects with other names sort last in their prefix.
            let parent = parent.to_owned();
            found.push(((is_below, parent, key.is_none(), key), object.path));
        }
    }
    found.sort();
    Ok(found
        .into_iter()
        .map(|(_, path)| Entry::Dump(path))
        .collect())
}
