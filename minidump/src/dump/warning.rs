//! Warnings about a dump that can be used.

use std::fmt;

use crate::Unproven;

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
    /// The info file is invalid or describes another dump.
    Info {
        /// The reason.
        why: String,
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
            Self::Info { why } => write!(f, "the info file is not used: {why}"),
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
