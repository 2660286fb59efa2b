//! The report of salvage: kept and lost data.

use std::ops::Range;

use livecore_compress::Codec;
use livecore_compress::salvage::Damage;

use crate::PhysAddr;

/// Maximum number of ranges of lost pages in a report.
const RANGES: usize = 1024;

/// Origin of the kerneldumpheader of a salvaged dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFrom {
    /// The last header of the file.
    Trailing,
    /// The first header of a dump device whose last header is lost or broken.
    Leading,
    /// The seal.
    Seal,
    /// The info file of the dump.
    Info,
    /// Created from the payload, without host name, strings and time.
    Payload,
}

impl HeaderFrom {
    /// `trailing`, `leading`, `seal`, `info` or `payload`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trailing => "trailing",
            Self::Leading => "leading",
            Self::Seal => "seal",
            Self::Info => "info",
            Self::Payload => "payload",
        }
    }
}

/// Bytes of a section that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionLoss {
    /// Name of the section.
    pub section: &'static str,
    /// Size of the section in bytes.
    pub len: u64,
    /// Number of lost bytes.
    pub lost: u64,
}

/// Counts of kept and lost pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageCount {
    /// Pages in the readable part of the bitmap.
    pub promised: u64,
    /// Pages in the salvaged dump.
    pub kept: u64,
    /// Kept pages that no checksum proves.
    pub unproven: u64,
    /// Lost pages, which are holes in the salvaged dump.
    pub lost: u64,
    /// The first lost pages.
    pub ranges: Vec<Range<PhysAddr>>,
    /// Pages of `dump_avail` whose bits in the bitmap are lost.
    pub unknown: u64,
}

impl PageCount {
    /// Adds the lost `pages` to the ranges, unless these are [`RANGES`] already.
    pub(super) fn add_lost_range(&mut self, pages: Range<PhysAddr>) {
        let has_space = self.ranges.len() < RANGES;
        match self.ranges.last_mut() {
            Some(last) if last.end == pages.start => last.end = pages.end,
            _ if has_space => self.ranges.push(pages),
            _ => {}
        }
    }
}

/// The report of a salvaged dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Kind of the salvaged dump: `minidump` or `full`.
    pub kind: &'static str,
    /// Probable container of the source: `saved`, `raw`, `sealed` or `device`.
    pub container: &'static str,
    /// The codec.
    pub codec: Codec,
    /// Origin of the header.
    pub header: HeaderFrom,
    /// The payload's pages.
    pub pages: PageCount,
    /// Sections with lost bytes.
    pub sections: Vec<SectionLoss>,
    /// Damage to the stored bytes, with offsets in the stored payload.
    pub damage: Vec<Damage>,
    /// Offset of the stored payload in the file.
    pub start: u64,
    /// Corrections, as text.
    pub corrections: Vec<String>,
    /// Size of undamaged content whose offset is not known, in bytes.
    pub unplaced: u64,
}

impl Report {
    /// Whether nothing is lost, damaged or corrected.
    pub fn is_whole(&self) -> bool {
        self.pages.lost == 0
            && self.pages.unknown == 0
            && self.sections.is_empty()
            && self.unplaced == 0
            && self.damage.is_empty()
            && self.corrections.is_empty()
    }

    /// Whether content of the dump is lost.
    pub fn has_losses(&self) -> bool {
        self.pages.lost > 0 || self.pages.unknown > 0 || !self.sections.is_empty()
    }
}
