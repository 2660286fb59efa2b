//! What is wrong with a dump that could be opened all the same.

use std::fmt;

use crate::Unproven;

/// Page data that a dump's bitmap promises and its file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortness {
    /// Bytes that the payload should have.
    pub expected: u64,
    /// Bytes that it has.
    pub actual: u64,
    /// Pages that are not wholly there.
    pub pages: u64,
}

/// What is wrong with a dump that could be opened all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The payload ends inside its page data. Whether the pages were lost or were zeros that a
    /// sparse copy dropped cannot be told.
    Short(Shortness),
    /// The compressed stream ends early: it was cut, or is damaged.
    Interrupted {
        /// What it ends at.
        why: String,
    },
    /// Missing page data is served as zeros, because the caller asked for it.
    ZeroTail(Shortness),
    /// The seal says that the dump was cut short before it was converted, and that zeros stand for
    /// what was missing.
    FilledTail {
        /// Payload bytes that were there, if the seal says how many.
        source_len: Option<u64>,
    },
    /// A full dump ends inside its memory: as far as its file goes, it is served.
    CutSegments {
        /// Where the program headers say that it ends.
        expected: u64,
        /// Where it ends.
        actual: u64,
    },
    /// Bytes behind the last page.
    Trailing {
        /// Where they begin in the payload.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Bits set behind the last page of `dump_avail`: a live dump of an older kernel. They stand
    /// for no page.
    StrayBits {
        /// How many.
        count: u64,
    },
    /// The kerneldumpheader says that savecore(8) has saved the dump already.
    Cleared,
    /// The kerneldumpheader's parity is wrong.
    Parity,
    /// The kerneldumpheader names another architecture than the payload.
    Architecture {
        /// What the header says.
        header: String,
        /// What the payload is.
        payload: &'static str,
    },
    /// The info file beside the dump is none, or is about another dump.
    Info {
        /// Why it is not used.
        why: String,
    },
    /// A full dump says that it carries a minidump, which cannot be used: what that alone tells is
    /// not known.
    Carried {
        /// What is wrong.
        why: String,
    },
    /// The seal says that a part of the dump was salvaged without a checksum that proves it.
    Unproven(Unproven),
    /// The seal is damaged; the data can be had without it.
    Seal {
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(s) => write!(
                f,
                "{} pages missing at the end, lost or zero cannot be told: the payload ends at \
                 {:#x}, its bitmap promises {:#x}",
                s.pages, s.actual, s.expected
            ),
            Self::Interrupted { why } => write!(f, "the stream ends early: {why}"),
            Self::ZeroTail(s) => write!(
                f,
                "{} missing pages at the end are served as zeros: the payload ends at {:#x}, its \
                 bitmap promises {:#x}",
                s.pages, s.actual, s.expected
            ),
            Self::FilledTail { source_len: None } => {
                f.write_str("zeros stand for pages at the end that were missing when it was sealed")
            }
            Self::FilledTail {
                source_len: Some(len),
            } => write!(
                f,
                "zeros stand for everything from {len:#x} on, which was missing when it was sealed"
            ),
            Self::CutSegments { expected, actual } => write!(
                f,
                "memory is missing at the end, lost or zero cannot be told: the payload ends at \
                 {actual:#x}, its program headers promise {expected:#x}"
            ),
            Self::Trailing { offset, len } => {
                write!(f, "{len} bytes behind the last page, at {offset:#x}")
            }
            Self::StrayBits { count } => write!(
                f,
                "{count} bits set behind the last page of dump_avail, as older live dumps have them"
            ),
            Self::Cleared => f.write_str("the kerneldumpheader is cleared: savecore has been here"),
            Self::Parity => f.write_str("the kerneldumpheader's parity is wrong"),
            Self::Architecture { header, payload } => {
                write!(
                    f,
                    "the kerneldumpheader says {header}, the payload is {payload}"
                )
            }
            Self::Info { why } => write!(f, "the info file is not used: {why}"),
            Self::Carried { why } => {
                write!(f, "the minidump that it carries is not used: {why}")
            }
            Self::Unproven(unproven) => write!(
                f,
                "no checksum proves {} pages and {} bytes of sections: they were salvaged from \
                 damaged data, or from data without checksums",
                unproven.pages, unproven.section_bytes
            ),
            Self::Seal { why } => write!(f, "the seal is damaged: {why}"),
        }
    }
}
