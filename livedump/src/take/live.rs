//! A dump by the running kernel (MEM_KERNELDUMP), as a payload that can be stored like any other.
//!
//! The kernel writes to an unlinked file, so that no file remains, or to the file that will be
//! published. A child process issues the request, which cannot be interrupted. The file's vnode is
//! locked while the kernel writes, so the file is not accessed; its size is estimated from the free
//! space of the file system.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use livecore_compress::{Codec, ReadAt};
use livecore_defs::kerneldump::{KERNELDUMPVERSION, SIZE};
use livecore_minidump::Magic;
use livecore_minidump::{Bitmap, Container, Dump, Error, KernelDumpHeader, KernelElf, OpenOptions};

use super::error::TakeError;
use super::note::Note;
use super::plan::{PlanOptions, plan_machine};
use super::running::{marked_pages, running};
use crate::mem4::dump_error;
use crate::mem4::{DumpRequest, FreeBsd, MemDevice, MemError};
use crate::publish::temporary::Temporary;
use crate::publish::{Directory, Notice, Pending, free};
use crate::sys::child::{self, Child, RemoveIfOrphaned};
use crate::sys::mem_ioctl::MemIoctl;
use crate::sys::{hole, signals, sysctl};

/// The interval of progress reports.
const TICK: Duration = Duration::from_millis(500);

/// The message of a program that exits while the kernel writes.
const EXIT_NOTE: &str = "the kernel completes its dump in the background; nothing is published, and the space is freed then";

/// The running kernel, which writes its own dump.
pub struct LiveKernel {
    mem: File,
    kernel: Box<dyn MemIoctl>,
    /// `/dev/kmem` and the kernel file, to read `vm_page_dump`.
    running: Option<(Arc<dyn MemDevice>, Arc<KernelElf>)>,
}

/// Pages that the kernel has marked, before and after its dump, and that its dump lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lacking {
    /// The number of pages that the dump lacks.
    pub pages: u64,
    /// The number of pages that were marked both times.
    pub of: u64,
}

impl Lacking {
    /// Compares the bitmap of a dump with `vm_page_dump` before and after it. `None` if the bitmaps
    /// have different sizes.
    fn compare(dump: &Bitmap, before: &Bitmap, after: &Bitmap) -> Option<Self> {
        if dump.bits() != before.bits() || dump.bits() != after.bits() {
            return None;
        }
        let mut lacking = Self { pages: 0, of: 0 };
        let marked = before.words().iter().zip(after.words());
        for (dumped, (before, after)) in dump.words().iter().zip(marked) {
            let both = before & after;
            lacking.of += u64::from(both.count_ones());
            lacking.pages += u64::from((both & !dumped).count_ones());
        }
        Some(lacking)
    }

    /// Whether the dump lacks more pages than the kernel may have freed and marked again meanwhile:
    /// more than one in 16.
    pub fn is_incomplete(self) -> bool {
        self.pages > self.of / 16
    }
}

/// A dump by the kernel.
pub struct Live {
    payload: Arc<Spool>,
    header: KernelDumpHeader,
    /// The number of pages.
    pub pages: u64,
    /// The pages that the dump lacks, if they were counted.
    pub lacking: Option<Lacking>,
    bitmap: Bitmap,
    /// Messages for the user.
    pub notes: Vec<Note>,
}

impl Live {
    /// The uncompressed dump that the kernel wrote to `file`. If `kept` is given, space is freed as
    /// it is read, except for that many bytes before the furthest read.
    fn open(file: Arc<File>, kept: Option<u64>, notes: Vec<Notice>) -> Result<Self, TakeError> {
        let dump = Dump::from_source(file.clone(), &OpenOptions::default())?;
        let len = dump.layout().end();
        let header = header_at(&file, len, Codec::None)?;
        if header.dumplength != len {
            return Err(bad(
                len,
                format!("dumplength {:#x}", header.dumplength),
                format!("{len:#x}, the total size of the sections"),
            ));
        }
        Ok(Self {
            pages: dump.bitmap().count(),
            lacking: None,
            bitmap: dump.bitmap().clone(),
            payload: Arc::new(Spool {
                freeable: kept.is_some() && hole::is_real(&file),
                file,
                len,
                kept: kept.unwrap_or(0).max(1 << 20),
                freed: Mutex::new(Freed {
                    reached: 0,
                    up_to: HEAD,
                }),
            }),
            header,
            notes: notes.into_iter().map(Note::Directory).collect(),
        })
    }

    /// The dump's bytes, to be read once and nearly in order. If the file system supports it, space
    /// that was read is freed.
    pub fn payload(&self) -> &dyn ReadAt {
        &*self.payload
    }

    /// Counts the pages that the dump lacks, with `vm_page_dump` before and after the dump.
    fn compare(&mut self, before: Result<Bitmap, TakeError>, after: Result<Bitmap, TakeError>) {
        match before.and_then(|before| Ok((before, after?))) {
            Ok((before, after)) => {
                self.lacking = Lacking::compare(&self.bitmap, &before, &after);
            }
            Err(error) => self.notes.push(Note::NotCompared {
                why: error.to_string(),
            }),
        }
    }

    /// The header by the kernel.
    pub fn header(&self) -> &KernelDumpHeader {
        &self.header
    }
}

impl LiveKernel {
    /// The kernel of these devices.
    pub fn new<K: MemIoctl + 'static>(device: FreeBsd<K>) -> Self {
        let (mem, kernel) = device.into_parts();
        Self {
            mem,
            kernel: Box::new(kernel),
            running: None,
        }
    }

    /// Compares the bitmap of each uncompressed dump with the pages that the kernel has marked, which
    /// `device` reads. `elf` is the file of the running kernel ([`super::running::check_kernel`]).
    #[must_use]
    pub fn comparing(self, device: Arc<dyn MemDevice>, elf: Arc<KernelElf>) -> Self {
        Self {
            running: Some((device, elf)),
            ..self
        }
    }

    /// The pages that the kernel has marked; `None` without the kernel file.
    fn marked(&self) -> Option<Result<Bitmap, TakeError>> {
        let (device, elf) = self.running.as_ref()?;
        Some(marked_pages(&**device, elf))
    }

    /// Estimates the size of an uncompressed dump: walks the kernel map if the kernel file and
    /// `/dev/kmem` can be read ([`LiveKernel::comparing`]).
    pub fn estimate(&self) -> Estimate {
        let walked = self.running.as_ref().and_then(|(device, elf)| {
            let machine = running(Arc::clone(device), elf).ok()?;
            let taken = plan_machine(machine, elf, &PlanOptions::default()).ok()?;
            Some(Estimate {
                bytes: taken.header().dumplength,
                walked: true,
            })
        });
        walked.unwrap_or_else(Estimate::wired)
    }

    /// Makes the kernel write an uncompressed dump to the directory `spool`. The `kept` bytes
    /// before the furthest read are not freed, since the encoder's workers may still read them.
    /// `waiting` gets the bytes by which the file system's free space has shrunk. If the file system
    /// has less space than `estimate`, that is a note.
    ///
    /// # Errors
    ///
    /// [`TakeError::Mem`] for the kernel's errors, [`TakeError::Minidump`] if its output is not a
    /// dump, [`TakeError::Publish`] if `spool` cannot be used or has less space than its `minfree`.
    pub fn dump(
        &self,
        spool: impl AsRef<Path>,
        kept: u64,
        estimate: Estimate,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<Live, TakeError> {
        let mut notes = Vec::new();
        let directory = Directory::open(spool)?;
        estimate.check(&directory, &mut notes)?;
        let mut temporary = Temporary::create(&directory, 0o600, &directory.path)?;
        temporary.remove();
        let request = DumpRequest {
            fd: temporary.file().as_raw_fd(),
            flags: 0,
            compression: 0,
        };
        let before = self.marked();
        let child = self.start(temporary.file(), &request, None)?;
        signals::note_on_exit(Some(EXIT_NOTE));
        let result = wait(child, &directory, &request, waiting);
        signals::note_on_exit(None);
        result?;
        let mut live = Live::open(temporary.into_file(), Some(kept), notes)?;
        if let Some((before, after)) = before.zip(self.marked()) {
            live.compare(before, after);
        }
        Ok(live)
    }

    /// Makes the kernel write an uncompressed dump to `pending`, which keeps it: writing the
    /// payload of the result to `pending` copies nothing.
    ///
    /// # Errors
    ///
    /// See [`LiveKernel::dump`] and [`LiveKernel::dump_compressed`].
    pub fn dump_in_place(
        &self,
        pending: &mut Pending,
        estimate: Estimate,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<Live, TakeError> {
        let mut notes = Vec::new();
        let temporary = temporary_of(pending)?;
        estimate.check(temporary.directory(), &mut notes)?;
        let before = self.marked();
        self.write_to(temporary, Codec::None, waiting)?;
        let mut live = Live::open(temporary.shared(), None, notes)?;
        if let Some((before, after)) = before.zip(self.marked()) {
            live.compare(before, after);
        }
        pending.keep(live.header.dumplength);
        Ok(live)
    }

    /// Makes the kernel compress and write to `pending`, a saved or raw file. Returns the header by
    /// the kernel.
    ///
    /// If this process exits meanwhile, the child removes the file when the kernel is done.
    ///
    /// # Errors
    ///
    /// See [`LiveKernel::dump`]; [`Error::Options`] for a sealed dump and for a stream.
    pub fn dump_compressed(
        &self,
        pending: &mut Pending,
        codec: Codec,
        container: Container,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<KernelDumpHeader, TakeError> {
        if container == Container::Sealed {
            return Err(Error::Options(
                "a kernel writes one stream without frames; use --container saved or raw".into(),
            )
            .into());
        }
        let temporary = temporary_of(pending)?;
        self.write_to(temporary, codec, waiting)?;
        let size = ReadAt::size(temporary.file()).map_err(|e| Error::io("read", e))?;
        let at = size.saturating_sub(SIZE as u64);
        let header = header_at(temporary.file(), at, codec)?;
        let page = u64::from(header.blocksize).max(1);
        if header.dumplength.checked_next_multiple_of(page) != Some(at) {
            return Err(bad(
                at,
                format!("dumplength {:#x}", header.dumplength),
                format!("a length that ends in the last block before {at:#x}"),
            ));
        }
        pending.set_len(match container {
            Container::Raw => size,
            _ => header.dumplength,
        })?;
        Ok(header)
    }

    /// Makes the kernel write to `temporary`, which keeps its name.
    fn write_to(
        &self,
        temporary: &Temporary,
        codec: Codec,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<(), TakeError> {
        let request = DumpRequest {
            fd: temporary.file().as_raw_fd(),
            flags: 0,
            compression: KernelDumpHeader::compression_of(codec),
        };
        // The child owns the name until the kernel is done, since removing it would block.
        let lent = temporary.lend();
        let name = lent.as_ref().map(|lent| CString::new(lent.name));
        let name = name
            .transpose()
            .map_err(|e| Error::Options(e.to_string()))?;
        let orphan = lent.as_ref().zip(name.as_deref());
        let orphan = orphan.map(|(lent, name)| RemoveIfOrphaned {
            directory: lent.directory.fd.as_fd(),
            name,
        });
        let child = self.start(temporary.file(), &request, orphan)?;
        signals::note_on_exit(Some(EXIT_NOTE));
        let result = wait(child, temporary.directory(), &request, waiting);
        signals::note_on_exit(None);
        result
    }

    fn start(
        &self,
        file: &File,
        request: &DumpRequest,
        orphan: Option<RemoveIfOrphaned<'_>>,
    ) -> Result<Child, TakeError> {
        child::kernel_dump(
            &*self.kernel,
            self.mem.as_fd(),
            file.as_fd(),
            &request.to_arg(),
            orphan,
        )
        .map_err(|source| {
            MemError::Io {
                doing: "start the dumping process",
                source,
            }
            .into()
        })
    }
}

/// An estimate of the size of an uncompressed dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// In bytes; 0 if unknown.
    pub bytes: u64,
    /// Whether it is the size of a dump of the pages that the kernel maps now. Otherwise it is the
    /// memory that the kernel has wired. A dump can be several times as large, since free pages that
    /// the kernel maps are dumped, or smaller, since ZFS's ARC is wired and not dumped.
    pub walked: bool,
}

impl Estimate {
    fn wired() -> Self {
        let wired = || -> io::Result<u64> {
            let pages = sysctl::number("vm.stats.vm.v_wire_count")?;
            Ok(pages.saturating_mul(sysctl::number("hw.pagesize")?))
        };
        Self {
            bytes: wired().unwrap_or(0),
            walked: false,
        }
    }

    /// A note if the dump may not fit into `directory`.
    fn check(self, directory: &Directory, notes: &mut Vec<Notice>) -> Result<(), TakeError> {
        Ok(free::check_estimate(
            directory,
            self.bytes,
            self.walked,
            notes,
        )?)
    }
}

fn temporary_of(pending: &Pending) -> Result<&Temporary, TakeError> {
    pending.temporary().ok_or_else(|| {
        Error::Options("a kernel can only dump to a file; use -o FILE".into()).into()
    })
}

fn wait(
    child: Child,
    directory: &Directory,
    request: &DumpRequest,
    waiting: &mut dyn FnMut(u64),
) -> Result<(), TakeError> {
    let before = free::bytes(directory).unwrap_or(0);
    let io = |source| MemError::Io {
        doing: "wait for the kernel's dump",
        source,
    };
    while !child.is_done(TICK).map_err(io)? {
        let now = free::bytes(directory).unwrap_or(before);
        waiting(before.saturating_sub(now));
    }
    child
        .wait()
        .map_err(io)?
        .map_err(|error| dump_error(error, request).into())
}

/// Reads the header at `at` and checks it: magic, version, parity, no key, compression.
fn header_at(file: &File, at: u64, codec: Codec) -> Result<KernelDumpHeader, TakeError> {
    let mut block = [0; SIZE];
    file.read_exact_at(&mut block, at)
        .map_err(|e| Error::io("read the live dump's header", e))?;
    let header = KernelDumpHeader::parse(&block, at)?;
    let Some(header) = header.filter(|header| header.magic == Magic::Kernel) else {
        return Err(bad(
            at,
            "another magic".into(),
            "FreeBSD Kernel Dump".into(),
        ));
    };
    if header.version != KERNELDUMPVERSION || !header.parity_ok || header.dumpkeysize != 0 {
        return Err(bad(
            at,
            format!(
                "version {}, parity {}, key of {} bytes",
                header.version,
                if header.parity_ok { "good" } else { "bad" },
                header.dumpkeysize
            ),
            format!("version {KERNELDUMPVERSION}, correct parity, no key"),
        ));
    }
    if header.codec() != Some(codec) {
        return Err(bad(
            at,
            format!("compression {}", header.compression),
            codec.to_string(),
        ));
    }
    Ok(header)
}

fn bad(at: u64, found: String, expected: String) -> TakeError {
    Error::broken("kernel's live dump, header", at, found, expected).into()
}

/// Bytes at the start that are never freed, since storing a payload reads its header again.
const HEAD: u64 = 1 << 20;
/// The space that is freed at once.
const PIECE: u64 = 16 << 20;

/// The file that the kernel writes. Unless it is published, it is freed as it is read.
struct Spool {
    file: Arc<File>,
    len: u64,
    freeable: bool,
    kept: u64,
    freed: Mutex<Freed>,
}

struct Freed {
    /// The furthest read position.
    reached: u64,
    /// The end of the freed space.
    up_to: u64,
}

impl ReadAt for Spool {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = ReadAt::read_at(&*self.file, &mut buf[..n], offset)?;
        if self.freeable {
            let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
            freed.reached = freed.reached.max(offset + got as u64);
            let up_to = freed.reached.saturating_sub(self.kept) / PIECE * PIECE;
            if up_to > freed.up_to {
                // A failure to free space is not an error.
                let _ = hole::punch(&self.file, freed.up_to, up_to - freed.up_to);
                freed.up_to = up_to;
            }
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_marked_before_and_after_the_dump_can_lack() {
        let bits = |words: [u64; 2]| Bitmap::from_words(words.to_vec(), 128).unwrap();
        let (before, after) = (bits([0xff, u64::MAX]), bits([0xf0, u64::MAX]));
        let compare = |words| Lacking::compare(&bits(words), &before, &after).unwrap();
        let lacking = compare([0xf0, u64::MAX]);
        assert_eq!(lacking, Lacking { pages: 0, of: 68 });
        assert!(!lacking.is_incomplete());
        assert!(!compare([0, u64::MAX]).is_incomplete());
        // A kernel that copies an eighth of its bitmap.
        let lacking = compare([0xffff, 0]);
        assert_eq!(lacking, Lacking { pages: 64, of: 68 });
        assert!(lacking.is_incomplete());
        let other = Bitmap::from_words(vec![0; 3], 192).unwrap();
        assert_eq!(Lacking::compare(&other, &before, &after), None);
    }
}
