//! The kernel of a dump, when the caller does not name it.
//!
//! It is looked for where kgdb(1) and crashinfo(8) look: in places that the caller names, next to
//! the dump, and in `/boot/*/kernel` with the debug files of `/usr/lib/debug`. A file is taken
//! only if it says of itself that it is the one: by its build-id in the dump's memory, else by its
//! `version` string in the dump's memory, else by that string in the dump's header or `info.N`.
//! One that cannot be compared is not taken, however likely it looks.

use std::fs;
use std::path::{Path, PathBuf};

use livecore_minidump::AnyDump;

use crate::agree::Agreement;
use crate::pair::{Pair, kernel_file};
use crate::pair_error::{PairError, Rejected};

/// Where a FreeBSD system has its kernels.
const BOOT: &str = "/boot";
/// Where it has their debug files.
const DEBUG: &str = "/usr/lib/debug";
/// The most directories of one place that are looked into.
const DIRECTORIES: usize = 256;

/// What a search came to.
#[derive(Default)]
pub struct Found {
    /// The kernel, paired with the dump.
    pub pair: Option<Pair>,
    /// Files that were tried and are not it.
    pub rejected: Vec<Rejected>,
}

/// Whether a path may be taken; why not.
type Filter<'a> = dyn Fn(&Path) -> Result<(), String> + 'a;

/// Where the kernel of a dump is looked for.
#[derive(Clone, Copy, Default)]
pub struct KernelSearch<'a> {
    dump: Option<&'a Path>,
    places: &'a [PathBuf],
    filter: Option<&'a Filter<'a>>,
}

impl<'a> KernelSearch<'a> {
    /// In `/boot` and `/usr/lib/debug`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before that in the directory of the dump's file.
    #[must_use]
    pub fn next_to(self, dump: &'a Path) -> Self {
        Self {
            dump: Some(dump),
            ..self
        }
    }

    /// Before all that in these files and directories.
    #[must_use]
    pub fn places(self, places: &'a [PathBuf]) -> Self {
        Self { places, ..self }
    }

    /// Without the files that `filter` refuses. It is asked about the path that is found, and about
    /// the one that links lead to.
    #[must_use]
    pub fn filter(self, filter: &'a Filter<'a>) -> Self {
        Self {
            filter: Some(filter),
            ..self
        }
    }

    /// Looks for the kernel of `dump`.
    pub fn find(&self, dump: &AnyDump) -> Found {
        let mut found = Found::default();
        for path in candidates(self.dump, self.places, Path::new(BOOT), Path::new(DEBUG)) {
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

    /// The dump with the kernel `path`, if that is the dump's; else why it is not taken.
    fn paired(&self, dump: &AnyDump, path: &Path) -> Result<Pair, String> {
        if let Some(filter) = self.filter {
            filter(path)?;
            filter(&path.canonicalize().map_err(|e| e.to_string())?)?;
        }
        let elf = kernel_file(path).map_err(|error| match error {
            PairError::Open { source, .. } => source.to_string(),
            other => other.to_string(),
        })?;
        let pair = Pair::new(dump, path, elf).map_err(|e| e.to_string())?;
        match pair.agreement() {
            Agreement::Same => Ok(pair),
            Agreement::Unknown { why } => Err(format!("cannot be compared: {why}")),
            Agreement::Contradicts { what, .. } => Err(format!("another {what}")),
        }
    }
}

/// Files that may be the kernel, the likeliest first, each once.
fn candidates(dump: Option<&Path>, places: &[PathBuf], boot: &Path, debug: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            of_directory(place, &mut found);
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
        of_directory(directory, &mut found);
    }
    for name in ["kernel", "kernel.old"] {
        found.push(boot.join(name).join("kernel"));
    }
    of_directory(boot, &mut found);
    for directory in directories(&debug.join("boot")) {
        found.push(directory.join("kernel.debug"));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| path.is_file() && seen.insert(path.clone()));
    found
}

/// Kernels by their usual names in a directory, and one directory deeper.
fn of_directory(directory: &Path, found: &mut Vec<PathBuf>) {
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

/// The number of `vmcore.N` or `livecore.N`, with or without a codec's suffix.
fn number_of(dump: &Path) -> Option<String> {
    let info = livecore_minidump::dump::info_file(dump)?;
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
    fn places_of_the_caller_come_before_the_dumps_directory_and_that_before_boot() {
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
