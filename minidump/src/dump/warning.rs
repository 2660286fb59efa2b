//! Warnings about a dump that can be used.

use std::fmt;

use crate::{PhysAddr, Unproven};

/// The name of the kerneldumpheader in [`Warning::Field`].
pub(crate) const KERNELDUMPHEADER: &str = "kerneldumpheader";

/// Page data in the bitmap that is missing in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortness {
    /// The length of the payload by the bitmap.
    pub expected: u64,
    /// The actual length.
    pub actual: u64,
    /// The number of missing or incomplete pages.
    pub pages: u64,
}

/// A warning about a dump that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The payload ends in its page data. The missing pages were lost, or they were zeros that a copy
    /// omitted.
    Short(Shortness),
    /// The compressed stream ends early, because it is truncated or damaged.
    Interrupted {
        /// The reason.
        why: String,
    },
    /// Missing page data is read as zeros, as requested by the caller.
    ZeroTail(Shortness),
    /// The seal records that the dump was truncated before its conversion, and that the missing data
    /// was filled with zeros.
    FilledTail {
        /// The length of the original payload, if recorded.
        source_len: Option<u64>,
    },
    /// A full dump ends in its memory. The rest of it can be read.
    CutSegments {
        /// The end by the program headers.
        expected: u64,
        /// The actual end.
        actual: u64,
    },
    /// Memory ranges of a full dump overlap, and their bytes differ.
    Overlap {
        /// The first physical address with different bytes.
        at: PhysAddr,
        /// Its payload offset in the range that is used.
        used: u64,
        /// Its payload offset in the other range.
        other: u64,
    },
    /// There are bytes after the last page.
    Trailing {
        /// Their offset in the payload.
        offset: u64,
        /// Their number.
        len: u64,
    },
    /// Bits after the last page of `dump_avail` are set, as in live dumps of older kernels. They have
    /// no pages.
    StrayBits {
        /// The number of bits.
        count: u64,
    },
    /// The kerneldumpheader is marked: savecore(8) has already saved the dump.
    Cleared,
    /// The parity of the kerneldumpheader is wrong.
    Parity,
    /// The kerneldumpheader has another architecture than the payload.
    Architecture {
        /// The architecture in the header.
        header: String,
        /// The architecture of the payload.
        payload: &'static str,
    },
    /// A field of a header, or a section, has a value that no kernel writes.
    Field {
        /// The structure: `minidump header`, `kerneldumpheader`, `dump_avail`.
        structure: &'static str,
        /// The field or the part of the structure.
        name: &'static str,
        /// Its offset: in the payload if the structure is part of the payload, else in the file.
        offset: u64,
        /// The value.
        found: String,
        /// The expected value.
        expected: String,
    },
    /// The info file is invalid or describes another dump.
    Info {
        /// The reason.
        why: String,
        /// Whether it describes a dump of another architecture.
        contradicts: bool,
    },
    /// A full dump has a note about a minidump that cannot be used.
    Carried {
        /// The reason.
        why: String,
    },
    /// The seal records that a part of the dump was salvaged without a valid checksum.
    Unproven(Unproven),
    /// The seal is damaged. The data can be read without it.
    Seal {
        /// The reason.
        why: String,
    },
}

impl Warning {
    /// The stable id of the warning; docs/json.md has the meanings.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Short(_) => "pages-missing",
            Self::Interrupted { .. } => "stream-ends-early",
            Self::ZeroTail(_) => "zero-tail",
            Self::FilledTail { .. } => "filled-tail",
            Self::CutSegments { .. } => "memory-missing",
            Self::Overlap { .. } => "image-contradiction",
            Self::Trailing { .. } => Self::TRAILING,
            Self::StrayBits { .. } => "stray-bits",
            Self::Cleared => "already-saved",
            Self::Parity => "parity",
            Self::Architecture { .. } => "architecture-differs",
            Self::Field { .. } => "wrong-field",
            Self::Info { .. } => "info-file",
            Self::Carried { .. } => "embedded-minidump",
            Self::Unproven(_) => "unproven",
            Self::Seal { .. } => "seal-damaged",
        }
    }

    /// The id of bytes after the end of the data, in the payload or in the file.
    pub(crate) const TRAILING: &'static str = "trailing-bytes";

    /// Whether the dump contradicts its format or itself. Every verb reports this, since
    /// `verify` calls such a dump broken. Other warnings are about lost data or unusual properties.
    pub fn is_contradiction(&self) -> bool {
        match self {
            Self::Interrupted { .. }
            | Self::Parity
            | Self::Architecture { .. }
            | Self::Field { .. }
            | Self::Seal { .. } => true,
            Self::Info { contradicts, .. } => *contradicts,
            _ => false,
        }
    }

    /// Whether the warning is about the kerneldumpheader.
    pub(crate) fn is_of_header(&self) -> bool {
        match self {
            Self::Architecture { .. } | Self::Cleared | Self::Parity => true,
            Self::Field { structure, .. } => *structure == KERNELDUMPHEADER,
            _ => false,
        }
    }
}

/// Formats a number of pages.
fn count_pages(pages: u64) -> String {
    match pages {
        1 => "1 page".into(),
        pages => format!("{pages} pages"),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(s) => write!(
                f,
                "{} missing at the end (lost, or zero and not stored): the payload ends at \
                 {:#x} and should end at {:#x} by its bitmap",
                count_pages(s.pages),
                s.actual,
                s.expected
            ),
            Self::Interrupted { why } => write!(f, "the stream ends early: {why}"),
            Self::ZeroTail(s) => write!(
                f,
                "{} missing at the end, read as zeros: the payload ends at {:#x} and should \
                 end at {:#x} by its bitmap",
                count_pages(s.pages),
                s.actual,
                s.expected
            ),
            Self::FilledTail { source_len: None } => {
                f.write_str("pages at the end were missing when the dump was sealed and are zeros")
            }
            Self::FilledTail {
                source_len: Some(len),
            } => write!(
                f,
                "data from {len:#x} was missing when the dump was sealed and is zeros"
            ),
            Self::CutSegments { expected, actual } => write!(
                f,
                "memory missing at the end (lost, or zero and not stored): the payload ends at \
                 {actual:#x} and should end at {expected:#x} by its program headers"
            ),
            Self::Overlap { at, used, other } => write!(
                f,
                "memory ranges overlap and differ: address {at:#x} is at {used:#x} and {other:#x} of \
                 the payload; the first is used"
            ),
            Self::Trailing { offset, len } => {
                write!(f, "{len} bytes after the last page, at {offset:#x}")
            }
            Self::StrayBits { count } => write!(
                f,
                "{count} bits set after the last page of dump_avail, as in older live dumps"
            ),
            Self::Cleared => {
                f.write_str("the kerneldumpheader is cleared: savecore has saved the dump")
            }
            Self::Parity => f.write_str("the kerneldumpheader's parity is wrong"),
            Self::Architecture { header, payload } => {
                write!(
                    f,
                    "the kerneldumpheader is for {header}, the payload for {payload}"
                )
            }
            Self::Field {
                structure,
                name,
                offset,
                found,
                expected,
            } => write!(
                f,
                "{structure}, {name} at offset {offset:#x}: found {found}, expected {expected}"
            ),
            Self::Info { why, .. } => write!(f, "the info file is not used: {why}"),
            Self::Carried { why } => {
                write!(f, "the minidump in the full dump is not used: {why}")
            }
            Self::Unproven(unproven) => write!(
                f,
                "{} pages and {} bytes of sections are unproven: they were salvaged without a valid \
                 checksum",
                unproven.pages, unproven.section_bytes
            ),
            Self::Seal { why } => write!(f, "the seal is damaged: {why}"),
        }
    }
}
