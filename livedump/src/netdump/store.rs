//! The file of a dump while it arrives, and the names of its files.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::publish::{Destination, Directory, Notice, Options, Pending, PublishError, links};

/// Numbers of dumps of a host, as netdumpd has.
const NUMBERS: u32 = 1024;

/// Bytes that are written between two checks of the free space.
const EVERY: u64 = 16 << 20;

/// The kinds of files of a dump, before `.HOST.N`.
const STEMS: [&str; 5] = ["vmcore", "vmcore_encrypted", "info", "key", "core.txt"];

/// Suffixes of compressed dumps.
const SUFFIXES: [&str; 3] = ["", ".gz", ".zst"];

/// Names `DIRECTORY/HOST.N` of dumps that are being received or processed.
type Taken = Arc<Mutex<HashSet<PathBuf>>>;

/// The names in use by this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Taken);

impl Names {
    /// Takes the next free number of `host` in `directory`: that of `bounds.HOST`, or the next one
    /// that no file has.
    fn take(&self, directory: &Directory, host: &str) -> Option<Name> {
        let bounds = directory.head(&format!("bounds.{host}"), 5);
        let bounds = String::from_utf8(bounds.unwrap_or_default()).unwrap_or_default();
        let first = bounds.trim().parse().unwrap_or(0) % NUMBERS;
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |number: &u32| {
            let has = |stem: &&str| {
                let has = |suffix: &&str| directory.has(format!("{stem}.{host}.{number}{suffix}"));
                SUFFIXES.iter().any(has)
            };
            let key = directory.path.join(format!("{host}.{number}"));
            !STEMS.iter().any(has) && !taken.contains(&key)
        };
        let number = (first..NUMBERS).chain(0..first).find(is_free)?;
        let key = directory.path.join(format!("{host}.{number}"));
        taken.insert(key.clone());
        Some(Name {
            taken: Arc::clone(&self.0),
            key,
            number,
        })
    }
}

/// A number of a host, taken until it is dropped.
#[derive(Debug)]
struct Name {
    taken: Taken,
    key: PathBuf,
    number: u32,
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.key);
    }
}

/// The file of a dump that arrives. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) directory: PathBuf,
    pub(super) host: String,
    name: Name,
    file: Pending,
    unchecked: u64,
}

impl Incoming {
    /// Creates the file of a dump of `host` in `directory`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the directory or the file cannot be opened, or all numbers are in use.
    pub(super) fn create(
        directory: &Path,
        host: &str,
        names: &Names,
    ) -> Result<Self, PublishError> {
        let opened = Directory::open(directory)?;
        let Some(name) = names.take(&opened, host) else {
            return Err(PublishError::NumbersTaken {
                path: directory.into(),
                last: NUMBERS - 1,
            });
        };
        let target = directory.join(format!("vmcore.{host}.{}", name.number));
        let file = Destination::File(target).begin(&Options::default())?;
        Ok(Self {
            directory: directory.into(),
            host: host.into(),
            name,
            file,
            unchecked: 0,
        })
    }

    /// Writes a part.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or `minfree` would be violated.
    pub(super) fn write(&mut self, data: &[u8], offset: u64) -> Result<(), PublishError> {
        self.unchecked += data.len() as u64;
        if self.unchecked >= EVERY {
            self.file.reserve(EVERY)?;
            self.unchecked = 0;
        }
        let failed = |e: io::Error| PublishError::of_write(self.file.path(), e);
        match self.file.file() {
            Some(file) => file.write_all_at(data, offset).map_err(failed),
            None => Err(failed(io::ErrorKind::NotSeekable.into())),
        }
    }

    /// The number of the dump.
    pub(super) fn number(&self) -> u32 {
        self.name.number
    }

    /// The open file.
    pub(super) fn file(&self) -> Option<Arc<fs::File>> {
        self.file.shared()
    }

    /// The path of the file `STEM.HOST.N`.
    pub(super) fn path(&self, stem: &str, suffix: &str) -> PathBuf {
        let name = format!("{stem}.{}.{}{suffix}", self.host, self.name.number);
        self.directory.join(name)
    }

    /// Publishes the file as it is, with `len` bytes, as `STEM.HOST.N` with a suffix.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub(super) fn publish(
        mut self,
        stem: &str,
        suffix: &str,
        len: u64,
    ) -> Result<PathBuf, PublishError> {
        self.file.set_len(len)?;
        let path = self.path(stem, suffix);
        self.file
            .set_name(&path.file_name().unwrap_or_default().to_string_lossy());
        self.file.publish(&|_| Vec::new())?;
        Ok(path)
    }
}

/// Publishes a small file; an existing one is replaced if `force` is set.
pub(super) fn put(path: PathBuf, bytes: &[u8], force: bool) -> Result<(), PublishError> {
    let options = Options::default().force(force);
    let mut file = Destination::File(path.clone()).begin(&options)?;
    io::Write::write_all(&mut file, bytes).map_err(|e| PublishError::of_write(path, e))?;
    file.publish(&|_| Vec::new()).map(|_| ())
}

/// Sets `bounds.HOST` and the links to the newest dump. Returns notes about those that could not be set.
pub(super) fn point(
    directory: &Path,
    host: &str,
    number: u32,
    dump: &Path,
) -> Result<Vec<Notice>, PublishError> {
    let next = (number + 1) % NUMBERS;
    let bounds = directory.join(format!("bounds.{host}"));
    put(bounds, format!("{next}\n").as_bytes(), true)?;
    let opened = Directory::open(directory)?;
    let mut notes = Vec::new();
    let links = [
        (dump.to_owned(), format!("vmcore.{host}.last")),
        (
            directory.join(format!("info.{host}.{number}")),
            format!("info.{host}.last"),
        ),
    ];
    for (target, link) in links {
        let target = target.file_name().unwrap_or_default().to_string_lossy();
        links::set(&opened, &target, &link, &mut notes);
    }
    opened.sync()?;
    Ok(notes)
}

/// Bytes of the dumps of `host` in `directory`.
pub(super) fn used(directory: &Path, host: &str) -> io::Result<u64> {
    let mut used = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let bare = SUFFIXES[1..]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let of_host = STEMS.iter().any(|stem| {
            let number = bare.strip_prefix(stem).and_then(|rest| {
                rest.strip_prefix('.')?
                    .strip_prefix(host)?
                    .strip_prefix('.')
            });
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
        if of_host {
            used += entry.metadata()?.len();
        }
    }
    Ok(used)
}

/// The directory for a dump: the one in `base` that the client requests, if it exists; otherwise
/// `base`. Returns whether it is the requested one.
///
/// Only directories below `base` are used, without symbolic links, and none is created.
pub(super) fn directory(base: &Path, requested: &[u8]) -> (PathBuf, bool) {
    if requested.is_empty() {
        return (base.into(), true);
    }
    match below(base, requested) {
        Some(path) => (path, true),
        None => (base.into(), false),
    }
}

fn below(base: &Path, requested: &[u8]) -> Option<PathBuf> {
    let requested = std::str::from_utf8(requested).ok()?;
    let requested = Path::new(requested);
    // The path of the server itself, or relative to it.
    let rest = requested
        .strip_prefix(base)
        .or_else(|_| requested.strip_prefix("/"))
        .unwrap_or(requested);
    let mut path = base.to_owned();
    for component in rest.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            _ => return None,
        }
        if !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requested_paths_stay_below_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("crash");
        fs::create_dir_all(base.join("lab/rack")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        std::os::unix::fs::symlink("../outside", base.join("link")).unwrap();
        let whole = base.join("lab/rack");
        let whole = whole.to_str().unwrap();
        for (requested, inside) in [
            ("", Some("")),
            ("lab", Some("lab")),
            ("/lab/rack/", Some("lab/rack")),
            (whole, Some("lab/rack")),
            ("./lab", Some("lab")),
            ("/", Some("")),
            ("../outside", None),
            ("lab/../../outside", None),
            ("link", None),
            ("file", None),
            ("new", None),
            ("lab\0/rack", None),
        ] {
            let (path, granted) = directory(&base, requested.as_bytes());
            assert_eq!(granted, inside.is_some(), "{requested:?}");
            assert_eq!(path, base.join(inside.unwrap_or("")), "{requested:?}");
        }
        assert!(!directory(&base, b"\xff").1);
    }

    #[test]
    fn numbers_follow_bounds_and_skip_files_and_dumps_that_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::default();
        fs::write(dir.path().join("bounds.h"), "3\n").unwrap();
        fs::write(dir.path().join("vmcore.h.3.zst"), "12345").unwrap();
        fs::write(dir.path().join("key.h.4"), "12").unwrap();
        fs::write(dir.path().join("vmcore.h2.0"), "1").unwrap();
        let a = Incoming::create(dir.path(), "h", &names).unwrap();
        let b = Incoming::create(dir.path(), "h", &names).unwrap();
        assert_eq!((a.number(), b.number()), (5, 6));
        drop(a);
        assert_eq!(
            Incoming::create(dir.path(), "h", &names).unwrap().number(),
            5
        );
        assert_eq!(used(dir.path(), "h").unwrap(), 7);
    }
}
