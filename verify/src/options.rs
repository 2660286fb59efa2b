//! Options of a verification.

use std::num::NonZeroUsize;

use crate::finding::Filter;
use crate::keys::OneTimeKeys;
use crate::symbols::KernelFacts;

/// How much of a dump to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Headers, sizes, the sections up to the bitmap, and the seal. Later frames are skipped by the
    /// lengths that they state: one read for each gzip member, one for each block of a zstd frame.
    Quick,
    /// The whole structure, and the checksum of every frame.
    #[default]
    Default,
    /// All of that, and with a kernel its lists of processes and threads.
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

/// How to verify a dump.
#[derive(Clone)]
pub struct Options<'a> {
    /// The dump's name, for the report.
    pub name: String,
    /// How much to verify.
    pub depth: Depth,
    /// Whether warnings count as errors.
    pub strict: bool,
    /// Which rules to apply.
    pub filter: Filter,
    /// Maximum number of findings to store for each rule; the others are counted.
    pub per_rule: usize,
    /// Number of threads that decode frames.
    pub threads: NonZeroUsize,
    /// Memory limit in bytes, for bitmap, page-table pages and frames being decoded.
    pub memory: u64,
    /// The kernel that was running, to compare its variables with the dump.
    pub kernel: Option<&'a dyn KernelFacts>,
    /// The private key for encrypted dumps.
    pub keys: Option<&'a dyn OneTimeKeys>,
    /// The content of the dump's key file (`key.N`), if there is one.
    pub key_file: Option<&'a [u8]>,
    /// The text of the dump's `info.N`, if there is one.
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
            keys: None,
            key_file: None,
            info: None,
        }
    }
}
