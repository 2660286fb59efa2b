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
#[non_exhaustive]
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

impl<'a> Options<'a> {
    /// Sets [`Self::name`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets [`Self::depth`].
    #[must_use]
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// Sets [`Self::strict`].
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets [`Self::filter`].
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets [`Self::per_rule`].
    #[must_use]
    pub fn per_rule(mut self, count: usize) -> Self {
        self.per_rule = count;
        self
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::memory`], in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets [`Self::kernel`].
    #[must_use]
    pub fn kernel(mut self, kernel: Option<&'a dyn KernelFacts>) -> Self {
        self.kernel = kernel;
        self
    }

    /// Sets [`Self::info`].
    #[must_use]
    pub fn info(mut self, text: impl Into<Option<&'a str>>) -> Self {
        self.info = text.into();
        self
    }

    /// Sets [`Self::keys`].
    #[must_use]
    pub fn keys(mut self, keys: Option<&'a dyn OneTimeKeys>) -> Self {
        self.keys = keys;
        self
    }

    /// Sets [`Self::key_file`].
    #[must_use]
    pub fn key_file(mut self, key_file: impl Into<Option<&'a [u8]>>) -> Self {
        self.key_file = key_file.into();
        self
    }
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
