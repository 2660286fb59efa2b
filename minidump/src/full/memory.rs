//! A full dump as an image of its machine: memory that the kernel's own tables lead through.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::FullDump;
use crate::phys::check;
use crate::{KernelMemory, PhysAddr, PhysMemory, ReadError};

/// The memory of a full dump, in whole pages.
pub struct FullMemory {
    dump: Arc<FullDump>,
    ranges: Vec<Range<u64>>,
}

impl FullMemory {
    /// The memory of `dump`. What of a range is no whole page is left out.
    pub fn new(dump: Arc<FullDump>) -> Self {
        let page = dump.page_size();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for range in dump.ranges() {
            let end = range.end() - range.end() % page;
            let Some(start) = range.start.checked_next_multiple_of(page) else {
                continue;
            };
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end.max(start),
                _ if start < end => ranges.push(start..end),
                _ => {}
            }
        }
        Self { dump, ranges }
    }
}

impl PhysMemory for FullMemory {
    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        check(&self.ranges, at, buf.len())?;
        self.dump
            .read_phys(PhysAddr(at), buf)
            .map_err(|error| match error {
                ReadError::Io { source, .. } | ReadError::Tables { source, .. } => source,
                ReadError::BeyondEnd { .. } => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string())
                }
                other => io::Error::new(io::ErrorKind::NotFound, other.to_string()),
            })
    }

    fn known_zero(&self, at: u64, len: u64) -> bool {
        match self.dump.offset_of(PhysAddr(at)) {
            Some((offset, together)) if together >= len => {
                self.dump.payload().known_zero(offset, len)
            }
            _ => false,
        }
    }
}
