//! Finds dumps in a directory such as /var/crash.

mod one;
mod prefix;

pub(crate) use one::{DEFAULT, one};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::id::Id;
use crate::remote::is_prefix;
use crate::session::Session;

/// A file that is named like a dump.
pub(crate) enum Entry {
    /// A dump.
    Dump(PathBuf),
    /// A file that cannot be read.
    Unreadable(PathBuf, io::Error),
}

impl Entry {
    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Dump(path) | Self::Unreadable(path, _) => path,
        }
    }
}

/// Which files to find.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Search {
    /// Descend into subdirectories.
    pub recursive: bool,
    /// Include files with any name.
    pub all: bool,
    /// Include only files that were modified at this time or later.
    pub since: Option<SystemTime>,
}

/// Replaces each directory, and each prefix of an object store, with the dumps in it. An empty directory
/// is not a failure: the machine may never have crashed.
pub(crate) fn expand(paths: &[PathBuf], search: Search, session: &Session<'_>) -> Vec<Entry> {
    let mut all = Vec::new();
    for path in paths {
        let found = match path {
            path if is_prefix(path) => match prefix::dumps(path, search, session) {
                // Opening it fails with the reason.
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    all.push(Entry::Dump(path.clone()));
                    continue;
                }
                found => found,
            },
            path if path.is_dir() => dumps(path, search, session),
            path => {
                all.push(Entry::Dump(path.clone()));
                continue;
            }
        };
        match found {
            Ok(dumps) if dumps.is_empty() => session.voice.say(
                Id::NoDumps,
                match search.all {
                    true => format!("{}: no dumps found", path.display()),
                    false => format!(
                        "{}: no dumps found (files named vmcore.N or livecore.N)",
                        path.display()
                    ),
                },
            ),
            Ok(dumps) => all.extend(dumps),
            Err(e) => all.push(Entry::Unreadable(path.clone(), e)),
        }
    }
    all
}

/// Finds the dumps in a directory, sorted by name and number: `livecore.N`, `vmcore.N` and
/// netdumpd's `vmcore.HOST.N`, with or without a codec's suffix. Links such as `livecore.last` are
/// ignored. Prints which other files were skipped.
///
/// Files that are named like dumps and cannot be read are in the result too, so that the caller
/// reports them.
///
/// # Errors
///
/// The directory cannot be read.
pub(crate) fn dumps(
    directory: &Path,
    search: Search,
    session: &Session<'_>,
) -> io::Result<Vec<Entry>> {
    let (mut names, mut others, mut below) = (Vec::new(), Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        let path = directory.join(name);
        // Do not follow links to directories: they may form a circle.
        if entry.file_type()?.is_dir() {
            below.push(path);
        } else if let Some(key) = dump_name(&text) {
            names.push((Some(key), path));
        } else if search.all && !is_companion(&text) && path.is_file() {
            names.push((None, path));
        } else if !is_companion(&text) && path.is_file() {
            others.push(text);
        }
    }
    if let Some(first) = others.iter().min() {
        let files = match others.len() {
            1 => "1 file".into(),
            n => format!("{n} files"),
        };
        let more = if others.len() > 1 { ", …" } else { "" };
        session.voice.say(
            Id::FilesSkipped,
            format_args!(
                "{}: skipped {files} not named vmcore.N or livecore.N: {first}{more}",
                directory.display()
            ),
        );
    }
    // Files with other names sort last.
    names.sort_by(|a, b| (a.0.is_none(), a).cmp(&(b.0.is_none(), b)));
    let named = names
        .into_iter()
        .filter_map(|(_, path)| match path.metadata() {
            Ok(found) if found.is_file() => {
                let modified = found.modified();
                let is_older = |since| modified.is_ok_and(|time| time < since);
                (!search.since.is_some_and(is_older)).then_some(Entry::Dump(path))
            }
            Ok(found) if found.is_dir() => None,
            // Reading a pipe without a writer would block.
            Ok(_) => {
                let error = io::Error::other("not a regular file");
                Some(Entry::Unreadable(path, error))
            }
            Err(e) => Some(Entry::Unreadable(path, e)),
        });
    let mut all: Vec<_> = named.collect();
    below.sort();
    for path in below.into_iter().filter(|_| search.recursive) {
        match dumps(&path, search, session) {
            Ok(found) => all.extend(found),
            Err(e) => all.push(Entry::Unreadable(path, e)),
        }
    }
    Ok(all)
}

/// The name of the missing key file, if `path` has the name of an encrypted dump without one.
pub(crate) fn lacks_key_file(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_prefix("vmcore_encrypted.")?;
    let number = number.strip_suffix(".gz").unwrap_or(number);
    let key = format!("key.{number}");
    (!path.with_file_name(&key).exists()).then_some(key)
}

/// What a file that belongs to a dump has in its name: `N`, or `HOST.N` of netdumpd(8). `None` for
/// other files, and for the dumps.
pub(crate) fn companion_of(name: &str) -> Option<&str> {
    let companions = ["info.", "key.", "core.txt."];
    let rest = companions.iter().find_map(|c| name.strip_prefix(c))?;
    let number = rest.rsplit('.').next().unwrap_or(rest);
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

/// Whether savecore(8), netdumpd(8), crashinfo(8) or livecore writes a file of this name next to dumps.
fn is_companion(name: &str) -> bool {
    let beginnings = ["bounds.", "info.", "key.", "core.txt."];
    matches!(name, "bounds" | "minfree")
        || beginnings.iter().any(|b| name.starts_with(b))
        || stem_of(name).is_some() && split_suffix(name).0.ends_with(".last")
}

/// The beginning of a dump's name.
fn stem_of(name: &str) -> Option<&'static str> {
    let stems = ["livecore.", "vmcore.", "vmcore_encrypted.", "textdump.tar."];
    stems.into_iter().find(|stem| name.starts_with(stem))
}

/// A name and the suffix of its codec.
fn split_suffix(name: &str) -> (&str, &'static str) {
    let suffixes = [".gz", ".zst"].into_iter();
    let mut split = suffixes.filter_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)));
    split.next().unwrap_or((name, ""))
}

/// The stem, the number and the suffix of a dump's name.
pub(crate) fn dump_name(name: &str) -> Option<(String, u64, String)> {
    let stem = stem_of(name)?;
    let (plain, suffix) = split_suffix(name);
    let (host, number) = plain.rsplit_once('.')?;
    // Only netdumpd adds a host name.
    if host.len() + 1 > stem.len() && matches!(stem, "livecore." | "textdump.tar.") {
        return None;
    }
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host.into(), number.parse().ok()?, suffix.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_netdumpd_are_known() {
        for name in [
            "bounds.web",
            "info.web.last",
            "vmcore.web.last",
            "livecore.last.zst",
        ] {
            assert!(is_companion(name), "{name}");
        }
        for name in ["vmcore.web", "last", "elast", "vmcore.last.bz2"] {
            assert!(!is_companion(name), "{name}");
        }
    }

    #[test]
    fn only_numbered_files_are_dumps() {
        for name in [
            "livecore.0",
            "livecore.12.zst",
            "vmcore.3.gz",
            "vmcore.host.example.org.3.zst",
            "vmcore_encrypted.0",
        ] {
            assert!(dump_name(name).is_some(), "{name}");
        }
        for name in [
            "livecore.last",
            "livecore.last.zst",
            "livecore.tmp.abcdef",
            "livecore.tmp.0",
            "info.0",
            "bounds",
            "vmcore.",
            "livecore.0.bz2",
        ] {
            assert!(dump_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn dumps_come_in_the_order_of_their_numbers() {
        let mut names = ["vmcore.10", "vmcore.2", "vmcore.0", "livecore.11"].map(dump_name);
        names.sort();
        let numbers = names.map(|name| name.map(|(_, number, _)| number));
        assert_eq!(numbers, [Some(11), Some(0), Some(2), Some(10)]);
    }
}
