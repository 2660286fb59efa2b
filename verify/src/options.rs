//! What a caller may ask of a run.

use std::num::NonZeroUsize;

use crate::finding::Filter;
use crate::symbols::KernelFacts;

/// How much of a dump is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Headers, sizes, the sections up to the bitmap, and the seal. Frames behind those are stepped
    /// over by what they say of their length: of gzip that is one read for each, of zstd one for
    /// each of their blocks.
    Quick,
    /// Everything structural, and the checksum of every frame.
    #[default]
    Default,
    /// Every page-table entry, the order of the message buffer, and with a kernel the lists.
    Deep,
}

impl Depth {
    /// `quick`, `default` or `deep`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Default => "default",
            Self::Deep => "deep",
        }
    }
}

/// How a dump is verified.
#[derive(Clone)]
pub struct Options<'a> {
    /// The dump's name, for the report.
    pub name: String,
    /// How deep to look.
    pub depth: Depth,
    /// Whether warnings count as errors.
    pub strict: bool,
    /// Which rules to apply.
    pub filter: Filter,
    /// Findings kept of each rule; the rest is counted.
    pub per_rule: usize,
    /// Workers that decode frames.
    pub threads: NonZeroUsize,
    /// Bytes that the run may hold at a time: bitmap, page-table pages, frames in flight.
    pub memory: u64,
    /// The kernel that was running, whose symbols are looked up through the dump.
    pub kernel: Option<&'a dyn KernelFacts>,
    /// The text of the `info.N` beside the dump, if there is one.
    pub info: Option<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            name: String::new(),
            depth: Depth::Default,
            strict: false,
            filter: Filter::default(),
            per_rule: 16,
            threads: NonZeroUsize::MIN,
            memory: 256 << 20,
            kernel: None,
            info: None,
        }
    }
}
