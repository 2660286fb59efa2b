//! Finds the debug file of an ELF file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use livecore_defs::text::hex;

use livecore_minidump::elf::sections::Sections;

/// The directory of debug files on FreeBSD.
const DEBUG: &str = "/usr/lib/debug";

/// Returns the file that has the debug information of the ELF file `path`.
///
/// It is searched by build-id in `/usr/lib/debug/.build-id`, then by `.gnu_debuglink` in the file's
/// directory, its `.debug` subdirectory and `/usr/lib/debug`. A file from another build is not
/// returned.
pub fn debug_file(path: impl AsRef<Path>) -> Option<PathBuf> {
    let path = path.as_ref();
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
            n => sum.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses cc and objcopy.
    #[test]
    fn debug_file_with_another_checksum_is_not_returned() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        let run = |program: &str, args: &[&str]| {
            let status = std::process::Command::new(program)
                .args(args)
                .current_dir(dir.path())
                .status();
            status.is_ok_and(|s| s.success())
        };
        std::fs::write(at("a.c"), "int hz = 100;\n").unwrap();
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
        let mut bytes = std::fs::read(at("kernel.debug")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(at("kernel.debug"), bytes).unwrap();
        assert_eq!(debug_file_below(&at("kernel"), &nowhere), None);
    }
}
