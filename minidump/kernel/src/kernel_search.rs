//! Searches for the kernel of a dump.
//!
//! The search begins with the pack of the dump, if it is in one. It covers the directories of kgdb(1)
//! and crashinfo(8): paths that the caller gives, the directory of the dump, `/boot/*/kernel` and the
//! debug files in `/usr/lib/debug`. A file is accepted only if its build-id or its `version` string
//! matches the dump's memory, or its
//! `version` string matches the dump's header or `info.N`. A file that cannot be compared is
//! rejected.

use std::fs;
use std::path::{Path, PathBuf};

use livecore_minidump::AnyDump;

use crate::agree::Agreement;
use crate::pair::{MEMORY, Pair, kernel_file};
use crate::pair_error::{PairError, Rejected};

/// The directory of kernels on FreeBSD.
const BOOT: &str = "/boot";
/// The directory of debug files on FreeBSD.
const DEBUG: &str = "/usr/lib/debug";
/// The maximum number of subdirectories searched in one directory.
const DIRECTORIES: usize = 256;

/// The result of a search.
#[derive(Default)]
pub struct SearchResult {
    /// The kernel, paired with the dump.
    pub pair: Option<Pair>,
    /// The files that were tried and rejected.
    pub rejected: Vec<Rejected>,
}

/// Returns an error if a path must not be used.
type Filter<'a> = dyn Fn(&Path) -> Result<(), String> + 'a;

/// A search for the kernel of a dump.
#[derive(Clone, Default)]
pub struct KernelSearch<'a> {
    dump: Option<PathBuf>,
    places: &'a [PathBuf],
    filter: Option<&'a Filter<'a>>,
    memory: Option<u64>,
}

impl<'a> KernelSearch<'a> {
    /// Creates a search in `/boot` and `/usr/lib/debug`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the directory of the dump's file. It is searched before `/boot`.
    #[must_use]
    pub fn next_to(self, dump: impl AsRef<Path>) -> Self {
        Self {
            dump: Some(dump.as_ref().to_owned()),
            ..self
        }
    }

    /// Adds files and directories that are searched first.
    #[must_use]
    pub fn places(self, places: &'a [PathBuf]) -> Self {
        Self { places, ..self }
    }

    /// Rejects files for which `filter` returns an error. It is called with the path that was found
    /// and with the path after resolving symbolic links.
    #[must_use]
    pub fn filter(self, filter: &'a Filter<'a>) -> Self {
        Self {
            filter: Some(filter),
            ..self
        }
    }

    /// Limits the memory for the tables of each file, in bytes [256 MiB].
    #[must_use]
    pub fn memory(self, memory: u64) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// Searches for the kernel of `dump`.
    pub fn find(&self, dump: &AnyDump) -> SearchResult {
        let mut found = SearchResult::default();
        let name = self.dump.as_deref().unwrap_or(Path::new("pack"));
        match Pair::of_pack(dump, name, self.memory.unwrap_or(MEMORY)) {
            Ok(pair) => found.pair = pair,
            Err(error) => found.rejected.push(Rejected {
                path: name.to_owned(),
                why: error.to_string(),
            }),
        }
        if found.pair.is_some() {
            return found;
        }
        for path in candidates(
            self.dump.as_deref(),
            self.places,
            Path::new(BOOT),
            Path::new(DEBUG),
        ) {
            match self.paired(dump, &path) {
                Ok(pair) => {
                    found.pair = Some(pair);
                    break;
                }
                Err(why) => found.rejected.push(Rejected { path, why }),
            }
        }
        found
    }

    /// Pairs the dump with the kernel `path`. Returns the reason if the file is rejected.
    fn paired(&self, dump: &AnyDump, path: &Path) -> Result<Pair, String> {
        if let Some(filter) = self.filter {
            filter(path)?;
            filter(&path.canonicalize().map_err(|e| e.to_string())?)?;
        }
        let elf =
            kernel_file(path, self.memory.unwrap_or(MEMORY)).map_err(|error| match error {
                PairError::Open { source, .. } => source.to_string(),
                other => other.to_string(),
            })?;
        let pair = Pair::new(dump, path, elf).map_err(|e| e.to_string())?;
        match pair.agreement() {
            Agreement::Same => Ok(pair),
            Agreement::Unknown { why } => Err(format!("cannot be compared: {why}")),
            Agreement::Contradicts { what, .. } => Err(format!("different {what}")),
        }
    }
}

/// Returns the existing files to try, in order, without duplicates.
fn candidates(dump: Option<&Path>, places: &[PathBuf], boot: &Path, debug: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            add_kernels_in(place, &mut found);
        } else {
            found.push(place.clone());
        }
    }
    if let Some(Ok(real)) = dump.map(Path::canonicalize)
        && let Some(directory) = real.parent()
    {
        if let Some(number) = number_of(&real) {
            found.push(directory.join(format!("kernel.{number}")));
        }
        add_kernels_in(directory, &mut found);
    }
    for name in ["kernel", "kernel.old"] {
        found.push(boot.join(name).join("kernel"));
    }
    add_kernels_in(boot, &mut found);
    for directory in directories(&debug.join("boot")) {
        found.push(directory.join("kernel.debug"));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| path.is_file() && seen.insert(path.clone()));
    found
}

/// Adds the usual names of kernels in a directory and its subdirectories.
fn add_kernels_in(directory: &Path, found: &mut Vec<PathBuf>) {
    for name in ["kernel", "kernel.full", "kernel.debug"] {
        found.push(directory.join(name));
    }
    for inner in directories(directory) {
        found.push(inner.join("kernel"));
    }
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(of) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .take(DIRECTORIES)
        .collect();
    found.sort();
    found
}

/// Returns the number of `vmcore.N` or `livecore.N`, with or without a codec's suffix.
fn number_of(dump: &Path) -> Option<String> {
    let info = livecore_minidump::info::path_of(dump)?;
    Some(info.extension()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn given_paths_are_tried_first_then_the_dumps_directory_then_boot() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let crash = root.join("crash");
        for file in [
            "crash/vmcore.3.zst",
            "crash/info.3",
            "crash/kernel.3",
            "crash/kernel",
            "mine/kernel.debug",
            "boot/GENERIC/kernel",
            "boot/kernel/kernel",
            "debug/boot/kernel/kernel.debug",
        ] {
            touch(&root.join(file));
        }
        let found = candidates(
            Some(&crash.join("vmcore.3.zst")),
            &[root.join("mine")],
            &root.join("boot"),
            &root.join("debug"),
        );
        let found: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(&root).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            found,
            [
                "mine/kernel.debug",
                "crash/kernel.3",
                "crash/kernel",
                "boot/kernel/kernel",
                "boot/GENERIC/kernel",
                "debug/boot/kernel/kernel.debug"
            ]
        );
    }
}
