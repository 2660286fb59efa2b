//! A full dump, opened: all of a machine's memory, as an ELF core.
//!
//! FreeBSD `sys/kern/kern_dump.c`, `dumpsys_generic`, for `debug.minidump=0`:
//!
//! ```text
//!  ELF header · program headers · zeros up to a page · range · range · …
//! ```
//!
//! | field             | a FreeBSD kernel writes                                                    |
//! |-------------------|----------------------------------------------------------------------------|
//! | `EI_OSABI`        | 255, standalone                                                            |
//! | `e_type`          | 4, core                                                                    |
//! | `e_version`       | 0                                                                          |
//! | `PT_LOAD`         | one per range of `dump_avail`, `p_paddr` its address, `p_filesz` = `p_memsz`|
//! | `p_vaddr`         | `p_paddr`; all ones on powerpc                                             |
//! | `PT_DUMP_DELTA`   | arm: where the kernel is linked and where it lies                          |
//!
//! There is no header of the kernel's own, no bitmap and no page tables but those in memory: which
//! virtual address is where is found by the kernel's symbols, as in an image of a machine.

mod open;
pub(crate) mod write;

use std::sync::Arc;

use compress::{Codec, ReadAt, Stream};

use crate::container::Container;
use crate::dump::{HeaderOrigin, Warning};
use crate::elf::core::{Head, Segment};
use crate::info::Info;
use crate::{
    Arch, ByteOrder, KernelDumpHeader, KernelMemory, PhysAddr, ReadError, SealRecord, VirtAddr,
};

/// A range of physical memory and where it lies in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First physical address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Offset in the payload.
    pub offset: u64,
}

impl Range {
    /// The first address behind it.
    pub fn end(&self) -> u64 {
        // Opening has refused ranges that run over the end of the address space.
        self.start + self.len
    }
}

/// A full dump, opened.
///
/// Kept in memory: a few words per range, and what the stream keeps.
pub struct FullDump {
    container: Container,
    stream: Stream,
    file_len: u64,
    header: Option<KernelDumpHeader>,
    origin: HeaderOrigin,
    info: Option<Info>,
    seal: Option<SealRecord>,
    content: Arc<dyn ReadAt>,
    head: Head,
    arch: Arch,
    page_size: u64,
    delta: Option<Segment>,
    /// Ascending by address, disjoint.
    ranges: Vec<Range>,
    segments: u64,
    end: u64,
    warnings: Vec<Warning>,
}

impl FullDump {
    /// The container.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The codec of the payload in the container.
    pub fn codec(&self) -> Codec {
        self.stream.codec()
    }

    /// The payload's stream, for decoding it whole.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The kerneldumpheader, as far as there is one ([`FullDump::header_origin`]).
    pub fn header(&self) -> Option<&KernelDumpHeader> {
        self.header.as_ref()
    }

    /// Where the kerneldumpheader is from.
    pub fn header_origin(&self) -> &HeaderOrigin {
        &self.origin
    }

    /// The info file beside the dump, if it is about this dump.
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// The attachment of the seal.
    pub fn seal(&self) -> Option<&SealRecord> {
        self.seal.as_ref()
    }

    /// The payload: the ELF core.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.content)
    }

    /// The payload's length if it is known without decoding the dump.
    pub fn known_len(&self) -> Option<u64> {
        self.stream.known_len()
    }

    /// The ELF header.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The kernel's byte order.
    pub fn order(&self) -> ByteOrder {
        self.head.order
    }

    /// How many program headers there are.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// The memory in the dump: ascending, disjoint.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// arm's `PT_DUMP_DELTA`: `vaddr` is the address that the kernel is linked at, `paddr` where
    /// it lies.
    pub fn delta(&self) -> Option<&Segment> {
        self.delta.as_ref()
    }

    /// Where the program headers say that the payload ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What is wrong with the dump, as far as opening it has told.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Where the byte at `at` lies in the payload, and how many behind it lie together.
    pub fn offset_of(&self, at: PhysAddr) -> Option<(u64, u64)> {
        let after = self.ranges.partition_point(|range| range.end() <= at.0);
        let range = self.ranges.get(after).filter(|r| r.start <= at.0)?;
        let skip = at.0 - range.start;
        Some((range.offset + skip, range.len - skip))
    }
}

impl KernelMemory for FullDump {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buf.len() {
            let here = at.checked_add(done as u64);
            let Some((here, (offset, together))) =
                here.and_then(|here| Some((here, self.offset_of(here)?)))
            else {
                let at = PhysAddr(at.0.saturating_add(done as u64));
                return Err(ReadError::Hole { at });
            };
            let left = buf.len() - done;
            let n = usize::try_from(together).unwrap_or(usize::MAX).min(left);
            let got = self
                .content
                .read_full_at(&mut buf[done..done + n], offset)
                .map_err(|source| ReadError::Io { at: here, source })?;
            if got < n {
                let (at, end) = (PhysAddr(here.0 + got as u64), offset + got as u64);
                return Err(ReadError::BeyondEnd {
                    at,
                    offset: end,
                    end,
                });
            }
            done += n;
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        Err(ReadError::NotMapped {
            at,
            why: "a full dump's page tables are found by its kernel's symbols",
        })
    }
}

impl std::fmt::Debug for FullDump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FullDump")
            .field("container", &self.container)
            .field("head", &self.head)
            .field("ranges", &self.ranges.len())
            .finish_non_exhaustive()
    }
}
