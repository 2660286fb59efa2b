//! A recording kernel for tests: two files as devices, and a list of the requests.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use livecore_livedump::mem4::range::{MemRange, Owner};
use livecore_livedump::mem4::{Access, FreeBsd};
use livecore_livedump::sys::mem_ioctl::{MemIoctl, Request};
use livecore_livedump::sys::memrange::{MEMRANGE_SET_REMOVE, Mdf};
use livecore_minidump::PhysAddr;

/// A virtual address mapped to 0x5000 in domain 1.
pub(super) const MAPPED: u64 = 0x7000;
/// A virtual address that is valid but not mapped.
pub(super) const VALID: u64 = 0x8000;

/// Files in place of the devices.
pub(super) struct Files {
    _dir: tempfile::TempDir,
    mem: PathBuf,
    kmem: PathBuf,
}

pub(super) fn files(mem: &[u8], kmem: &[u8]) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    Files {
        mem: file("mem", mem),
        kmem: file("kmem", kmem),
        _dir: dir,
    }
}

impl Files {
    pub(super) fn device(&self, write: bool) -> FreeBsd<Record> {
        let access = if write {
            Access::READ_WRITE
        } else {
            Access::READ
        };
        FreeBsd::open_at(&self.mem, &self.kmem, access, Record::default()).unwrap()
    }

    pub(super) fn contents(&self) -> (Vec<u8>, Vec<u8>) {
        let read = |path| std::fs::read(path).unwrap();
        (read(&self.mem), read(&self.kmem))
    }
}

/// The requests to the kernel, one line each.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<String>>);

impl Record {
    pub(super) fn asked(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn ranges() -> Vec<MemRange> {
    let range = |base, flags, owner: &[u8]| MemRange {
        base: PhysAddr(base),
        len: 0x1000,
        flags: Mdf::WRITECOMBINE | flags,
        owner: Owner::new(owner),
    };
    let active = Mdf::ACTIVE;
    vec![
        range(0, active | Mdf::FIXACTIVE, b"video"),
        range(0x2_0000_0000, Mdf::default(), b"video"),
        range(0x3_0000_0000, active, b"BIOS"),
        range(0x4_0000_0000, active | Mdf::BUSY, b"video"),
        range(0x5_0000_0000, active, b"video"),
    ]
}

impl MemIoctl for Record {
    fn issue(&self, _mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
        let mut result = Ok(());
        let note = match request {
            Request::RangesGet { descs, count } => {
                let ranges = ranges();
                for (slot, range) in descs.iter_mut().zip(&ranges) {
                    *slot = range.to_desc();
                }
                *count = ranges.len() as i32;
                format!("get {}", descs.len())
            }
            Request::RangesSet { desc, operation } => {
                let range = MemRange::from_desc(desc);
                if operation == MEMRANGE_SET_REMOVE && range.flags.contains(Mdf::BUSY) {
                    // EBUSY
                    result = Err(io::Error::from_raw_os_error(16));
                }
                let (base, len, flags) = (range.base, range.len, range.flags.0);
                format!(
                    "set {operation} {base:#x}/{len:#x} flags {flags:#x} {}",
                    range.owner
                )
            }
            Request::ExtractPaddr(extract) => {
                let at = extract.me_vaddr;
                (extract.me_state, extract.me_paddr, extract.me_domain) = match at {
                    MAPPED => (2, 0x5000, 1),
                    VALID => (1, 0, 0),
                    _ => (0, 0, 0),
                };
                format!("paddr {at:#x}")
            }
            Request::KernelDump(_) => "dump".into(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(note);
        result
    }
}
