//! The memory of a full dump as physical memory of a machine, to translate by the kernel's own page
//! tables.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::FullDump;
use crate::phys::check_ranges;
use crate::{KernelMemory, PhysAddr, PhysMemory, ReadError};

/// The memory of a full dump, in whole pages.
pub struct FullMemory {
    dump: Arc<FullDump>,
    ranges: Vec<Range<PhysAddr>>,
    is_partial: bool,
}

impl FullMemory {
    /// Creates the memory of `dump`. Ranges end where the file ends, so that a search does not
    /// follow sizes that the file only states. Partial pages are left out.
    pub fn new(dump: Arc<FullDump>) -> Self {
        let page = dump.page_size();
        let there = readable(&*dump.payload(), dump.end());
        let is_partial = there < dump.end();
        let mut ranges: Vec<Range<PhysAddr>> = Vec::new();
        for range in dump.ranges() {
            let len = range.len.min(there.saturating_sub(range.offset));
            let end = range.start.wrapping_add(len).align_down(page);
            let Some(start) = range.start.0.checked_next_multiple_of(page) else {
                continue;
            };
            let start = PhysAddr(start);
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end.max(start),
                _ if start < end => ranges.push(start..end),
                _ => {}
            }
        }
        Self {
            dump,
            ranges,
            is_partial,
        }
    }
}

/// Returns how many of the first `end` bytes of `content` can be read. If the size of a damaged
/// stream is not known, searches for the offset of the damage.
fn readable(content: &dyn ReadAt, end: u64) -> u64 {
    if let Ok(size) = content.size() {
        return size.min(end);
    }
    let (mut good, mut bad) = (0, end);
    while good < bad {
        let middle = good + (bad - good) / 2;
        match content.read_at(&mut [0], middle) {
            Ok(1) => good = middle + 1,
            _ => bad = middle,
        }
    }
    good
}

impl PhysMemory for FullMemory {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, at, buf.len())?;
        self.dump.read_phys(at, buf).map_err(|error| match error {
            ReadError::Io { source, .. } | ReadError::Tables { source, .. } => source,
            ReadError::BeyondEnd { .. } => {
                io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string())
            }
            other => io::Error::new(io::ErrorKind::NotFound, other.to_string()),
        })
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        match self.dump.extent_of(at) {
            Some((offset, together)) if together >= len => {
                self.dump.payload().known_zero(offset, len)
            }
            _ => false,
        }
    }

    fn is_partial(&self) -> bool {
        self.is_partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::headers::Segment;
    use crate::elf::write::CoreHead;
    use crate::{AnyDump, ByteOrder, ElfMachine, OpenOptions};
    use livecore_defs::elf::{CLASS64, ELFOSABI_STANDALONE, PF_R, PT_LOAD};

    #[test]
    fn memory_is_as_long_as_the_file_not_as_its_program_headers() {
        let head = CoreHead {
            class: &CLASS64,
            order: ByteOrder::Little,
            osabi: ELFOSABI_STANDALONE,
            machine: ElfMachine::EM_AARCH64,
            flags: 0,
            version: 0,
        };
        let load = |paddr: u64, offset: u64, len: u64| Segment {
            kind: PT_LOAD,
            flags: PF_R,
            offset,
            vaddr: paddr,
            paddr,
            filesz: len,
            memsz: len,
            align: 4096,
        };
        let segments = [
            load(0, 4096, 8192),
            load(0x10_0000, 3 * 4096, 1 << 62),
            load(1 << 63, 1 << 62, 1 << 62),
        ];
        let mut bytes = head.encode(segments.into_iter());
        bytes.resize(5 * 4096 + 100, 0);
        let dump = AnyDump::from_source(Arc::new(bytes), &OpenOptions::default()).unwrap();
        let AnyDump::Full(dump) = dump else {
            panic!("it is a full dump")
        };
        let memory = FullMemory::new(dump);
        assert_eq!(
            memory.ranges(),
            [
                PhysAddr(0)..PhysAddr(8192),
                PhysAddr(0x10_0000)..PhysAddr(0x10_2000)
            ]
        );
    }
}
