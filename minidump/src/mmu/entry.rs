//! Decodes page-table entries.

use livecore_defs::paging::{Bits, Geometry, Level, Means};

use super::mapping::Protection;
use crate::{PhysAddr, VirtAddr};

/// A decoded page-table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    Invalid,
    /// The table of the next level is at this physical address.
    Table(PhysAddr),
    /// A page or a block at this physical address. Bits below the size of the block are undefined.
    Leaf(PhysAddr),
}

/// A page that an entry maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    frame: PhysAddr,
    span: u64,
    pub(super) protection: Protection,
}

impl Leaf {
    /// The physical address that the page maps `at` to.
    pub(super) fn address(&self, at: VirtAddr) -> PhysAddr {
        PhysAddr(self.frame.align_down(self.span).0 | at.offset_in(self.span))
    }
}

/// Decodes `raw`, an entry of the level at `depth` below the root.
pub fn decode(geometry: &Geometry, depth: usize, raw: u64) -> Entry {
    match geometry
        .levels
        .get(depth)
        .and_then(|level| means(level, raw))
    {
        Some(Means::Table) => Entry::Table(geometry.frame.address(raw)),
        Some(Means::Leaf | Means::Large(_)) => Entry::Leaf(geometry.frame.address(raw)),
        Some(Means::LeafAt(frame)) => Entry::Leaf(frame.address(raw)),
        Some(Means::Refused(_)) | None => Entry::Invalid,
    }
}

/// Decodes the page that `raw`, an entry of `level`, maps. Returns the reason if it maps none.
pub(super) fn leaf(geometry: &Geometry, level: &Level, raw: u64) -> Result<Leaf, &'static str> {
    let (span, execute, frame) = match means(level, raw) {
        Some(Means::Leaf) => (level.span(), geometry.execute, geometry.frame),
        Some(Means::LeafAt(frame)) => (level.span(), geometry.execute, *frame),
        Some(Means::Large(large)) => (large.span, large.execute, geometry.frame),
        Some(Means::Refused(why)) => return Err(why),
        Some(Means::Table) | None => return Err(level.missing),
    };
    Ok(Leaf {
        frame: frame.address(raw),
        span,
        protection: Protection {
            write: allows(geometry.write, raw),
            execute: allows(execute, raw),
        },
    })
}

/// Decodes the protection bits of an entry of any level.
pub(super) fn protection(geometry: &Geometry, raw: u64) -> Protection {
    Protection {
        write: allows(geometry.write, raw),
        execute: allows(geometry.execute, raw),
    }
}

/// The entries of a table.
pub fn entries(page: &[u8], size: usize) -> impl Iterator<Item = u64> + '_ {
    page.chunks_exact(size).map(move |chunk| {
        let mut bytes = [0; 8];
        // Entries have 4 or 8 bytes.
        bytes[..size].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    })
}

fn means(level: &Level, raw: u64) -> Option<&'static Means> {
    let mut rules = level.rules.iter();
    let rule = rules.find(|rule| raw & rule.mask == rule.value)?;
    Some(&rule.means)
}

fn allows(bits: Bits, raw: u64) -> bool {
    (raw & bits.mask != 0) == bits.set
}
