//! Full dumps: all memory of a machine in an ELF core.
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
//! | `PT_DUMP_DELTA`   | arm, amd64 since 15.0: link address and physical address of the kernel     |
//!
//! A kernel writes disjoint, ascending ranges. Ranges of other writers may overlap; if their bytes
//! differ, the one that starts at the lower address is used, with a warning.
//!
//! A full dump converted from a minidump has a `PT_NOTE` before its ranges and contains that
//! minidump, as ELF cores for debuggers do ([`crate::elf::export`]). The ranges refer to the pages
//! of the minidump, so each page is stored once.
//!
//! A full dump written by a kernel has no header of its own, no bitmap and no page-table section.
//! Virtual addresses are translated by the page tables in memory, which are located by the kernel's
//! symbols, as in an image of a machine.

mod memory;
pub(crate) mod open;
mod overlap;
mod range;
pub(crate) mod write;

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::ReadAt;

use crate::dump::Envelope;
use crate::elf::headers::{Head, Segment};
use crate::mmu::{Mapping, WalkEnd};
pub use memory::FullMemory;
pub(crate) use open::arch_of;
pub use range::MemoryRange;

use crate::memory::{DirectMap, DumpMemory, PageRun};
use crate::{Architecture, ByteOrder, Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};

/// An open full dump.
///
/// Uses memory for a few words per range, for the stream, and for the minidump that it may contain.
/// The parts common to all kinds of dumps are in its [`Envelope`].
pub struct FullDump {
    envelope: Envelope,
    head: Head,
    arch: &'static Architecture,
    page_size: u64,
    delta: Option<Segment>,
    /// Ascending by address, disjoint.
    ranges: Vec<MemoryRange>,
    segments: u64,
    end: u64,
    /// Whether memory missing at the end of the file reads as zeros.
    zero_tail: bool,
    mini: Option<Arc<Dump>>,
}

impl FullDump {
    /// Container, stream, kerneldumpheader, info file, seal and warnings.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub(crate) fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// The payload: the ELF core.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.envelope.content)
    }

    /// The minidump in the dump, which shares its pages, if [`crate::convert::to_full`] wrote the
    /// dump.
    pub fn minidump(&self) -> Option<&Arc<Dump>> {
        self.mini.as_ref()
    }

    /// The ELF header.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The architecture.
    pub fn arch(&self) -> &'static Architecture {
        self.arch
    }

    /// The kernel's byte order.
    pub fn order(&self) -> ByteOrder {
        self.head.order
    }

    /// Number of program headers.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// The memory in the dump: ascending, disjoint.
    pub fn ranges(&self) -> &[MemoryRange] {
        &self.ranges
    }

    /// `PT_DUMP_DELTA` of arm and amd64: `vaddr` is the link address of the kernel, `paddr` its physical
    /// address.
    pub fn delta(&self) -> Option<&Segment> {
        self.delta.as_ref()
    }

    /// End of the payload according to the program headers.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns the payload offset of `at` and the number of contiguous bytes from there.
    pub fn extent_of(&self, at: PhysAddr) -> Option<(u64, u64)> {
        let after = self.ranges.partition_point(|range| range.end() <= at);
        let range = self.ranges.get(after).filter(|r| r.start <= at)?;
        let skip = at.offset_from(range.start)?;
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
                here.and_then(|here| Some((here, self.extent_of(here)?)))
            else {
                let at = PhysAddr(at.0.saturating_add(done as u64));
                return Err(ReadError::Hole { at });
            };
            let left = buf.len() - done;
            let n = usize::try_from(together).unwrap_or(usize::MAX).min(left);
            let got = self
                .envelope
                .content
                .read_full_at(&mut buf[done..done + n], offset)
                .map_err(|source| ReadError::Io { at: here, source })?;
            if got < n && self.zero_tail {
                buf[done + got..done + n].fill(0);
            } else if got < n {
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
        match &self.mini {
            Some(mini) => mini.translate(at),
            None => Err(ReadError::NotMapped {
                at,
                why: "translation in a full dump needs the kernel's symbols",
            }),
        }
    }
}

impl DumpMemory for FullDump {
    fn offset_of(&self, at: PhysAddr) -> Option<u64> {
        Some(self.extent_of(at)?.0)
    }

    fn run_at(&self, at: PhysAddr) -> PageRun {
        let after = self.ranges.partition_point(|range| range.end() <= at);
        let rest = &self.ranges[after..];
        let Some(first) = rest.first() else {
            return PageRun::hole(None);
        };
        if at < first.start {
            return PageRun::hole(Some(first.start));
        }
        let mut end = first.end();
        for range in &rest[1..] {
            if range.start != end {
                break;
            }
            end = range.end();
        }
        PageRun::present(Some(end))
    }

    fn memory_end(&self) -> PhysAddr {
        self.ranges.last().map_or(PhysAddr(0), MemoryRange::end)
    }

    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError> {
        match &self.mini {
            Some(mini) => mini.walk(sink),
            None => Ok(WalkEnd::default()),
        }
    }

    fn direct_map(&self) -> Option<DirectMap> {
        self.mini.as_ref()?.direct_map()
    }

    fn direct_map_of(&self, at: PhysAddr) -> Option<VirtAddr> {
        self.mini.as_ref()?.direct_map_of(at)
    }

    fn kernbase(&self) -> Option<VirtAddr> {
        self.mini.as_ref()?.kernbase()
    }
}

impl std::fmt::Debug for FullDump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FullDump")
            .field("container", &self.envelope.container())
            .field("head", &self.head)
            .field("ranges", &self.ranges.len())
            .finish_non_exhaustive()
    }
}
