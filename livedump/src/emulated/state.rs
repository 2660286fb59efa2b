//! The saved state of an emulated machine: its memory ranges, and whether it is being dumped.
//!
//! The ranges are a file in the directory that `synth --out` wrote. The lock is a file lock on the
//! memory's file, which the system releases when its owner exits. A machine given by its
//! description keeps no state.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use livecore_defs::PhysAddr;
use livecore_minidump::machine_dir::RANGES_FILE;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::mtrr::{FIXED, Mtrr};
use crate::mem4::MemError;
use crate::mem4::range::{MemRange, Owner};
use crate::publish::Directory;
use crate::publish::temporary::Temporary;
use crate::sys::memrange::Mdf;

/// The largest file of ranges that is read, in bytes.
const RANGES_LIMIT: u64 = 1 << 20;
/// Time limit for another process's lock on the directory.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// The most ranges that are accepted, more than any processor has.
const RANGES_MAX: usize = FIXED + 256;

/// The location of a machine's state.
#[derive(Debug, Clone, Default)]
pub struct State {
    directory: Option<PathBuf>,
    lock: Option<PathBuf>,
}

/// The lock during a dump.
#[derive(Debug)]
pub struct DumpLock(Option<File>);

impl Drop for DumpLock {
    fn drop(&mut self) {
        // Unlock explicitly: a child process that is being started has a copy of the descriptor
        // until it executes its program.
        if let Some(file) = &self.0 {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    fixed: bool,
    ranges: Vec<SavedRange>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRange {
    base: u64,
    len: u64,
    flags: u32,
    owner: String,
}

impl State {
    /// No state: firmware's ranges, and any number of concurrent dumps.
    pub fn none() -> Self {
        Self::default()
    }

    /// The state of a machine with the memory file `ram`, in the same directory.
    pub fn next_to(ram: impl AsRef<Path>) -> Self {
        let ram = ram.as_ref();
        let directory = match ram.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
            _ => PathBuf::from("."),
        };
        Self {
            directory: Some(directory),
            lock: Some(ram.into()),
        }
    }

    /// The state of a machine that is only the file `path`, a description or a bare image: a lock
    /// for dumps, but no ranges.
    pub fn lock_only(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self {
            directory: None,
            lock: Some(path.into()),
        }
    }

    /// Whether ranges can be saved.
    pub fn keeps_ranges(&self) -> bool {
        self.directory.is_some()
    }

    /// Locks the machine for a dump.
    ///
    /// # Errors
    ///
    /// [`MemError::AnotherDumpRunning`] if another process has the lock, [`MemError::Io`] if the file cannot
    /// be locked.
    pub fn lock_dump(&self) -> Result<DumpLock, MemError> {
        let Some(path) = &self.lock else {
            return Ok(DumpLock(None));
        };
        let io = |source| MemError::Io {
            doing: "lock the machine",
            source,
        };
        let file = File::open(path).map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DumpLock(Some(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(MemError::AnotherDumpRunning),
            Err(errno) => Err(io(errno.into())),
        }
    }

    /// The saved ranges, if there are any.
    ///
    /// # Errors
    ///
    /// [`MemError::Io`] if the file cannot be read, or is not a table of ranges.
    pub fn ranges(&self) -> Result<Option<Mtrr>, MemError> {
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        let io = |source| MemError::Io {
            doing: "read the memory ranges",
            source,
        };
        let file = match File::open(directory.join(RANGES_FILE)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let mut text = Vec::new();
        file.take(RANGES_LIMIT).read_to_end(&mut text).map_err(io)?;
        parse(&text).map(Some).map_err(|why| {
            io(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {why}", directory.join(RANGES_FILE).display()),
            ))
        })
    }

    /// Changes the ranges while other processes are locked out. `first` makes the ranges of a
    /// machine that has none saved.
    ///
    /// # Errors
    ///
    /// [`MemError::Unchangeable`] if the machine keeps no state, [`MemError::Io`] if its directory cannot be
    /// locked or written, and what `change` returns.
    pub fn change(
        &self,
        first: impl FnOnce() -> Mtrr,
        change: impl FnOnce(&mut Mtrr) -> Result<(), MemError>,
    ) -> Result<(), MemError> {
        let Some(directory) = &self.directory else {
            return Err(MemError::Unchangeable {
                why: "only a directory written by `synth --out` keeps memory ranges",
            });
        };
        let write_error = |e| MemError::Io {
            doing: "write the memory ranges",
            source: io::Error::other(e),
        };
        let directory = Directory::open(directory).map_err(write_error)?;
        if !directory.lock(LOCK_WAIT) {
            return Err(MemError::Io {
                doing: "lock the memory ranges",
                source: io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process kept the lock for 10 s",
                ),
            });
        }
        let mut table = self.ranges()?.unwrap_or_else(first);
        change(&mut table)?;
        let target = directory.path.join(RANGES_FILE);
        let file = Temporary::create(&directory, 0o600, target).map_err(write_error)?;
        file.file()
            .write_all_at(&serialize(&table), 0)
            .map_err(|source| MemError::Io {
                doing: "write the memory ranges",
                source,
            })?;
        file.rename(RANGES_FILE).map_err(write_error)
    }
}

fn parse(text: &[u8]) -> Result<Mtrr, String> {
    let saved: Saved = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if saved.ranges.len() > RANGES_MAX {
        return Err(format!("{} ranges", saved.ranges.len()));
    }
    let ranges = saved.ranges.iter().map(|range| MemRange {
        base: PhysAddr(range.base),
        len: range.len,
        flags: Mdf(range.flags),
        owner: Owner::new(range.owner.as_bytes()),
    });
    Mtrr::from_ranges(ranges.collect(), saved.fixed).ok_or_else(|| {
        format!(
            "found {} ranges, expected at least {FIXED} fixed ones",
            saved.ranges.len()
        )
    })
}

fn serialize(table: &Mtrr) -> Vec<u8> {
    let saved = Saved {
        fixed: table.has_fixed(),
        ranges: table
            .ranges()
            .iter()
            .map(|range| SavedRange {
                base: range.base.0,
                len: range.len,
                flags: range.flags.0,
                owner: String::from_utf8_lossy(range.owner.bytes()).into_owned(),
            })
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&saved).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firmware() -> Mtrr {
        Mtrr::firmware(PhysAddr(3 << 30), 8, 40)
    }

    #[test]
    fn changed_ranges_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::next_to(dir.path().join("ram"));
        assert!(state.ranges().unwrap().is_none());
        let range = MemRange {
            base: PhysAddr(8 << 30),
            len: 1 << 30,
            flags: Mdf::WRITECOMBINE,
            owner: Owner::new(b"me"),
        };
        state
            .change(firmware, |table| table.update(&range))
            .unwrap();
        let mut expected = firmware();
        expected.update(&range).unwrap();
        assert_eq!(state.ranges().unwrap(), Some(expected.clone()));
        let refused = state.change(firmware, |table| table.remove(PhysAddr(1), 1));
        assert_eq!(refused.unwrap_err().errno(), libc::ENOENT);
        assert_eq!(state.ranges().unwrap(), Some(expected));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::next_to(dir.path().join("ram"));
        for text in ["", "{}", r#"{"fixed":true,"ranges":[]}"#] {
            std::fs::write(dir.path().join(RANGES_FILE), text).unwrap();
            assert!(state.ranges().is_err(), "{text}");
        }
    }

    #[test]
    fn description_keeps_no_state() {
        let refused = State::none().change(firmware, |_| Ok(()));
        assert!(matches!(refused, Err(MemError::Unchangeable { .. })));
    }

    #[test]
    fn ebusy_while_another_dump_runs() {
        let dir = tempfile::tempdir().unwrap();
        let ram = dir.path().join("ram");
        std::fs::write(&ram, "").unwrap();
        let state = State::next_to(&ram);
        let first = state.lock_dump().unwrap();
        let error = state.lock_dump().unwrap_err();
        assert!(matches!(error, MemError::AnotherDumpRunning));
        assert_eq!(error.errno(), libc::EBUSY);
        drop(first);
        state.lock_dump().unwrap();
    }
}
