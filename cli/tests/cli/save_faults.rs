//! `save` under faults: an error at the Nth read, write, sync or rename, SIGKILL at the same calls, and
//! sectors that cannot be read. The dump is whole in the directory, or still on the device.
//!
//! `tests/inject` tries every call; without it every 20th is tried.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{MESSAGES, Run, livecore, names, run};
use crate::injected::{calls, every, injected};
use crate::save::{MINIDUMP, Place, TEXT, content};

/// System calls, and the error that each fails with.
const CALLS: &[(&str, &str)] = &[
    ("pread64", "EIO"),
    ("read", "EIO"),
    ("write", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("renameat", "EIO"),
    ("rename", "EIO"),
    ("linkat", "EIO"),
    ("linkat", "EPERM"),
    ("symlinkat", "EIO"),
    ("unlinkat", "EIO"),
    ("unlink", "EIO"),
    ("ftruncate", "EIO"),
    ("fchmod", "EIO"),
    ("flock", "ENOLCK"),
    ("openat", "EMFILE"),
];

/// The kinds of dumps, and the name of the saved file. The extent of the kernel's compressed dump is
/// larger than its data.
const KINDS: [(&str, &str, &str); 3] = [
    (MINIDUMP, "compress zstd\n", "vmcore.0.zst"),
    (MINIDUMP, "key chacha20 256\n", "vmcore_encrypted.0"),
    (TEXT, "", "textdump.tar.0"),
];

/// A place with the current directory of `save crash device`.
fn place(kind: &str, more: &str) -> Place {
    let place = Place::new(&format!("{kind}{more}"));
    fs::create_dir(place.dir.path().join("tmp")).unwrap();
    place
}

fn restore(place: &Place) {
    fs::write(place.image(), &place.built.bytes).unwrap();
    fs::remove_dir_all(place.crash()).unwrap();
    fs::create_dir(place.crash()).unwrap();
}

/// The bytes that the saved file of a sound dump decompresses to.
fn expected(place: &Place, name: &str) -> Vec<u8> {
    match name {
        "vmcore_encrypted.0" => {
            let len = place.built.payload.len();
            let end = place.built.bytes.len() - 512;
            place.built.bytes[end - len..end].to_vec()
        }
        _ => place.built.payload.clone(),
    }
}

/// Whether the dump is whole in the directory.
fn is_saved(place: &Place, name: &str) -> bool {
    let path = place.saved(name);
    if !path.exists() {
        return false;
    }
    let key = place.built.key.as_ref();
    let has_key = key.is_none_or(|key| fs::read(place.saved("key.0")).ok().as_ref() == Some(key));
    has_key && content(&path) == expected(place, name)
}

/// Whether the device still has the dump.
fn is_kept(place: &Place) -> bool {
    fs::read(place.image()).unwrap() == place.built.bytes
}

fn is_cleared(place: &Place) -> bool {
    let bytes = fs::read(place.image()).unwrap();
    bytes[bytes.len() - 512..].starts_with(b"Cleared Kernel Dump\0")
}

/// Tries `fault` at every `every`th call of each kind, and checks each run.
fn try_all(faults: &[(&str, String)], check: &dyn Fn(&Place, &str, &Run) -> Result<(), String>) {
    let Some(every) = every() else {
        return;
    };
    let args = ["save", "crash", "device"].map(str::to_owned);
    let mut broken = Vec::new();
    let mut total = 0;
    for (kind, more, name) in KINDS {
        let place = place(kind, more);
        let dir = place.dir.path();
        // What the loader and the C library do first is not this program's.
        let first = calls(dir, &["--version".to_owned()], CALLS);
        let made = calls(dir, &args, CALLS);
        let mut runs = 0;
        for (call, fault) in faults {
            let begin = first.get(*call).copied().unwrap_or(0) + 1;
            let last = made.get(*call).copied().unwrap_or(0);
            for nth in (begin..=last).step_by(every) {
                restore(&place);
                let Some(run) = injected(dir, &args, call, fault, nth) else {
                    break;
                };
                runs += 1;
                if let Err(why) = check(&place, name, &run) {
                    broken.push(format!(
                        "{name}: {call} {nth} {fault}: {why}; exit {}, stderr:\n{}",
                        run.code, run.err
                    ));
                }
            }
        }
        let line = format!("save: {name}: {runs} faults\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        total += runs;
    }
    assert!(total > 10, "{total} faults");
    let count = broken.len();
    assert!(count == 0, "{count} of {total}:\n{}", broken.join("\n"));
}

#[test]
fn error_of_any_system_call_loses_no_dump_of_a_device() {
    let faults: Vec<_> = CALLS
        .iter()
        .map(|(call, error)| (*call, format!("error={error}")))
        .collect();
    try_all(&faults, &|place, name, run| {
        let wrong = |what: &str| Err(what.to_owned());
        let (saved, kept, cleared) = (is_saved(place, name), is_kept(place), is_cleared(place));
        match (run.code, saved, kept, cleared) {
            _ if run.err.contains("panicked") => wrong("a panic"),
            (0 | 3, true, _, true) | (1 | 2, _, true, _) | (1, true, _, true) => Ok(()),
            (0 | 3, ..) => wrong("success without a dump or with one on the device"),
            (1 | 2, ..) => wrong("lost"),
            _ => wrong("exit code"),
        }?;
        let left = fs::read_dir(place.crash()).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in names.filter(|name| name.starts_with("livecore.tmp.")) {
            if !run.err.contains(&name) {
                return Err(format!("{name} is left"));
            }
        }
        Ok(())
    });
}

#[test]
fn sigkill_at_any_system_call_loses_no_dump_and_the_next_run_saves_it() {
    let faults: Vec<_> = CALLS
        .iter()
        .filter(|(_, error)| *error != "EPERM")
        .map(|(call, _)| (*call, "signal=KILL".to_owned()))
        .collect();
    try_all(&faults, &|place, name, _| {
        let whole = is_saved(place, name);
        if !(is_kept(place) || is_cleared(place) && whole) {
            return Err("lost".into());
        }
        if is_cleared(place) {
            return Ok(());
        }
        let again = place.save(&[]);
        let number = if place.saved(name).exists() && whole {
            1
        } else {
            0
        };
        let next = name.replace(".0", &format!(".{number}"));
        match again.code {
            0 if content(&place.saved(&next)) == expected(place, name) => Ok(()),
            code => Err(format!("the next run exits with {code}: {}", again.err)),
        }
    });
}

/// Makes reads of bytes `BAD_START..BAD_END` of the file with inode `BAD_INODE` fail with EIO.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
	static ssize_t (*next)(int, void *, size_t, off64_t);
	struct stat found;
	const char *inode = getenv("BAD_INODE");
	if (next == NULL)
		next = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
	if (inode != NULL && fstat(fd, &found) == 0 && found.st_ino == strtoull(inode, NULL, 10) &&
	    at < strtoll(getenv("BAD_END"), NULL, 10) &&
	    at + (off64_t)n > strtoll(getenv("BAD_START"), NULL, 10)) {
		errno = EIO;
		return (-1);
	}
	return (next(fd, buf, n, at));
}
"#;

/// Runs `save` on a device whose bytes `bad` cannot be read.
fn save_with_bad_sectors(place: &Place, bad: std::ops::Range<u64>) -> Option<Run> {
    use std::os::unix::fs::MetadataExt;

    let (source, library) = (
        place.dir.path().join("shim.c"),
        place.dir.path().join("shim.so"),
    );
    fs::write(&source, SHIM).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .stdout(Stdio::null())
        .status();
    if std::env::consts::OS != "linux" || !compiled.is_ok_and(|status| status.success()) {
        let _ = std::io::stderr().write_all(b"skipped: no C compiler\n");
        return None;
    }
    let inode = fs::metadata(place.image()).unwrap().ino();
    let output = livecore()
        .args(MESSAGES)
        .args([Path::new("save"), &place.crash(), &place.image()])
        .env("LD_PRELOAD", library)
        .env("BAD_INODE", inode.to_string())
        .env("BAD_START", bad.start.to_string())
        .env("BAD_END", bad.end.to_string())
        .output();
    Some(Run::of(output.unwrap()))
}

#[test]
fn pages_in_unreadable_sectors_are_holes_and_the_dump_stays_on_the_device() {
    let place = Place::new(MINIDUMP);
    let device = &place.built.bytes;
    let start = (device.len() - 512 - place.built.payload.len()) as u64;
    // The last page but one.
    let len = place.built.payload.len() as u64;
    let bad = start + len - 2 * 4096 + 512;
    let Some(saved) = save_with_bad_sectors(&place, bad..bad + 512) else {
        return;
    };
    assert_eq!(saved.code, 2, "{}", saved.err);
    assert_eq!(saved.count("device-kept"), 1, "{}", saved.err);
    place.is_untouched();
    let path = place.saved("vmcore.0.zst");
    let saved = content(&path);
    // One page is missing, and the others are those of the device.
    assert_eq!(saved.len(), place.built.payload.len() - 4096);
    let pages = |bytes: &[u8]| bytes[bytes.len() - 4096..].to_vec();
    assert_eq!(pages(&saved), pages(&place.built.payload));
    let verified = run([Path::new("verify"), &path]).expect(3);
    assert!(
        verified.text().contains("SEAL-SALVAGED"),
        "{}",
        verified.text()
    );
}

#[test]
fn compressed_dump_ends_at_an_unreadable_sector() {
    for codec in ["gzip", "zstd"] {
        let place = Place::new(&format!("{MINIDUMP}compress {codec}\n"));
        let len = place.built.bytes.len() as u64;
        // The extent is the uncompressed size.
        let start = len - 512 - place.built.payload.len() as u64;
        let bad = (start + 12 * 1024) / 512 * 512;
        let Some(saved) = save_with_bad_sectors(&place, bad..bad + 512) else {
            return;
        };
        place.is_untouched();
        assert_eq!(saved.code, 2, "{}", saved.err);
        let path = place.saved("vmcore.0.zst");
        // zstd stores this dump as one block, of which nothing is left.
        assert_eq!(path.exists(), codec == "gzip", "{}", saved.err);
        if path.exists() {
            run([Path::new("verify"), &path]).expect(3);
        } else {
            assert_eq!(names(&place.crash()), [""; 0]);
        }
    }
}

#[test]
fn unreadable_sectors_after_the_dump_do_not_matter_and_headers_do() {
    let place = Place::new(&format!("{MINIDUMP}device_size 0x200000\n"));
    let Some(saved) = save_with_bad_sectors(&place, 4096..8192) else {
        return;
    };
    assert_eq!(saved.code, 0, "{}", saved.err);
    place.is_cleared(512);
    let place = Place::new(MINIDUMP);
    let last = place.built.bytes.len() as u64 - 512;
    let saved = save_with_bad_sectors(&place, last..last + 512).unwrap();
    assert_eq!(saved.code, 1, "{}", saved.err);
    place.is_untouched();
}
