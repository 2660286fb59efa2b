//! What salvage found and what was lost.

use livecore_compress::Codec;
use livecore_compress::salvage::Damage;

use crate::PhysAddr;

/// Ranges of lost pages that are kept for the report.
pub(super) const RANGES: usize = 1024;

/// Where the kerneldumpheader of a salvaged dump is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFrom {
    /// The last header of the file.
    Trailing,
    /// The first header of a dump device, whose last one is lost or broken.
    Leading,
    /// The seal.
    Seal,
    /// The info file beside the dump.
    Info,
    /// Made from the payload: without names and time.
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
    /// The section.
    pub section: &'static str,
    /// Its length.
    pub len: u64,
    /// How many bytes of it are lost.
    pub lost: u64,
}

/// What became of a dump's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageCount {
    /// Pages that the bitmap promised, as far as it could be read.
    pub promised: u64,
    /// Pages that are in the salvaged dump.
    pub kept: u64,
    /// Of those, pages that no checksum proves.
    pub unproven: u64,
    /// Pages that are lost: holes now.
    pub lost: u64,
    /// The first lost pages, as ranges of physical addresses.
    pub ranges: Vec<(PhysAddr, PhysAddr)>,
    /// Pages of `dump_avail` of which the bitmap no longer says whether they were in the dump.
    pub unknown: u64,
}

/// What was found and what was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is made of it: `minidump` or `full`.
    pub kind: &'static str,
    /// What the container seems to have been: `saved`, `raw`, `sealed` or `device`.
    pub container: &'static str,
    /// The codec.
    pub codec: Codec,
    /// Where the header is from.
    pub header: HeaderFrom,
    /// The payload's pages.
    pub pages: PageCount,
    /// Sections of which something is lost.
    pub sections: Vec<SectionLoss>,
    /// What is wrong with the stored bytes; offsets are in the payload as stored.
    pub damage: Vec<Damage>,
    /// Where the payload as stored begins in the file.
    pub start: u64,
    /// Fields that were wrong and are right now, in words.
    pub mended: Vec<String>,
    /// Content bytes that are good but whose place is not known.
    pub unplaced: u64,
}

impl Report {
    /// Whether nothing was lost and nothing is in doubt.
    pub fn is_whole(&self) -> bool {
        self.pages.lost == 0
            && self.pages.unknown == 0
            && self.sections.is_empty()
            && self.unplaced == 0
            && self.damage.is_empty()
            && self.mended.is_empty()
    }

    /// Whether something of the dump's content is lost.
    pub fn has_losses(&self) -> bool {
        self.pages.lost > 0 || self.pages.unknown > 0 || !self.sections.is_empty()
    }
}
