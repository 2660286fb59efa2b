//! The kernel of a dump, when nobody names it.
//!
//! It is looked for where kgdb(1) and crashinfo(8) look: in places that the caller names, beside
//! the dump, and in `/boot/*/kernel` with the debug files of `/usr/lib/debug`. A file is taken
//! only if it says of itself that it is the one: by its build-id in the dump's memory, else by its
//! `version` string in the dump's memory, else by that string in the dump's header or `info.N`.
//! One that cannot be compared is not taken, however likely it looks; nor is one whose path would
//! mean something in a debugger's command: the dump's directory may be somebody else's.

use livecore_defs::text::hex;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_kernel::agree::Agreement;
use livecore_kernel::sections::Sections;
use livecore_minidump::{AnyDump, KernelElf};

use crate::input::{Kernel, hold};
use crate::serve::command;

/// Where a FreeBSD system has its kernels.
const BOOT: &str = "/boot";
/// Where it has their debug files.
const DEBUG: &str = "/usr/lib/debug";
/// The most directories of one place that are looked into.
const DIRECTORIES: usize = 256;

/// What a search came to.
#[derive(Default)]
pub struct Search {
    /// The kernel.
    pub found: Option<Kernel>,
    /// Files that were looked at and not taken, and why.
    pub rejected: Vec<(PathBuf, String)>,
}

/// Looks for the kernel of `dump`, whose file is `path`: first in `places`, files or directories.
pub fn find(dump: &AnyDump, path: &Path, places: &[PathBuf]) -> Search {
    find_in(
        dump,
        candidates(path, places, Path::new(BOOT), Path::new(DEBUG)),
    )
}

fn find_in(dump: &AnyDump, candidates: Vec<PathBuf>) -> Search {
    let mut search = Search::default();
    for path in candidates {
        let elf = harmless(&path)
            .and_then(|()| File::open(&path).map_err(|e| e.to_string()))
            .and_then(|f| KernelElf::parse(Arc::new(f)).map_err(|e| e.to_string()));
        let why = match elf {
            Err(why) => why,
            Ok(elf) => match hold(&elf, dump) {
                Ok((Agreement::Same, machine)) => {
                    search.found = Some(Kernel { path, elf, machine });
                    break;
                }
                Ok((Agreement::Unknown { why }, _)) => format!("cannot be compared: {why}"),
                Ok((Agreement::Contradicts { what, .. }, _)) => format!("another {what}"),
                Err(error) => error.to_string(),
            },
        };
        search.rejected.push((path, why));
    }
    search
}

/// Whether a debugger can be told of the file, under this path and the one that links lead to.
fn harmless(path: &Path) -> Result<(), String> {
    command::plain(path)?;
    match path.canonicalize() {
        Ok(real) => command::plain(&real).map(drop),
        Err(error) => Err(error.to_string()),
    }
}

/// Files that may be the kernel, the likeliest first, each once.
fn candidates(dump: &Path, places: &[PathBuf], boot: &Path, debug: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            of_directory(place, &mut found);
        } else {
            found.push(place.clone());
        }
    }
    if let Ok(real) = dump.canonicalize()
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

/// The file with the debug information of the ELF file `path`: by its build-id below
/// `/usr/lib/debug`, else by its `.gnu_debuglink` beside it, in `.debug`, or below
/// `/usr/lib/debug`. One of another build is none.
pub fn debug_file(path: &Path) -> Option<PathBuf> {
    debug_file_below(path, Path::new(DEBUG))
}

fn debug_file_below(path: &Path, debug: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let file = File::open(&real).ok()?;
    let sections = Sections::read(&file).ok()?;
    let id = sections.build_id(&file).map(|(id, _)| id);
    if let Some(id) = &id
        && let Some((first, rest)) = id.split_first()
    {
        let path = debug
            .join(".build-id")
            .join(hex(&[*first]))
            .join(hex(rest) + ".debug");
        if build_id(&path).as_ref() == Some(id) {
            return Some(path);
        }
    }
    let (name, crc) = sections.debug_link(&file)?;
    let directory = real.parent()?;
    let below = debug.join(directory.strip_prefix("/").unwrap_or(directory));
    [directory.to_owned(), directory.join(".debug"), below]
        .iter()
        .map(|place| place.join(&name))
        .filter(|candidate| candidate.is_file() && *candidate != real)
        .find(|candidate| match (&id, build_id(candidate)) {
            (Some(own), Some(other)) => *own == other,
            _ => crc_of(candidate) == Some(crc),
        })
}

fn build_id(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let sections = Sections::read(&file).ok()?;
    sections.build_id(&file).map(|(id, _)| id)
}

fn crc_of(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    let mut sum = crc32fast::Hasher::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(sum.finalize()),
            // A read never says more than the buffer holds.
            n => sum.update(&piece[..n]),
        }
    }
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
            &crash.join("vmcore.3.zst"),
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

    /// Made by GNU binutils, which every compiler here comes with.
    #[test]
    fn debug_file_is_taken_by_its_checksum_and_never_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        let run = |program: &str, args: &[&str]| {
            let status = std::process::Command::new(program)
                .args(args)
                .current_dir(dir.path())
                .status();
            status.is_ok_and(|s| s.success())
        };
        fs::write(at("a.c"), "int hz = 100;\n").unwrap();
        let made = run("cc", &["-g", "-c", "-o", "kernel", "a.c"])
            && run("objcopy", &["--only-keep-debug", "kernel", "kernel.debug"])
            && run(
                "objcopy",
                &[
                    "--strip-debug",
                    "--add-gnu-debuglink=kernel.debug",
                    "kernel",
                ],
            );
        assert!(made, "cc and objcopy");
        let nowhere = at("nowhere");
        let debug = debug_file_below(&at("kernel"), &nowhere);
        assert_eq!(debug, Some(at("kernel.debug")));
        let mut bytes = fs::read(at("kernel.debug")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(at("kernel.debug"), bytes).unwrap();
        assert_eq!(debug_file_below(&at("kernel"), &nowhere), None);
    }
}
