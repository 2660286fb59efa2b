//! A rule: a claim that is true of every sound dump.
//!
//! A rule is data. The module that reads a region checks the region's rules and reports the results
//! to [`crate::Sink`]. [`crate::rules::all`] lists all rules.

use serde::Serialize;

/// The subject of a rule: a region of the dump, or a property of the whole dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The layout of payload and header in the file.
    Container,
    /// The 512-byte `kerneldumpheader`, and the `info.N` that savecore(8) writes from it.
    Header,
    /// zstd frames, gzip members, and the seal around them.
    Codec,
    /// The minidump header and the sections that it describes.
    Sections,
    /// `dump_avail` and the page bitmap.
    Bitmap,
    /// The page-table section and the leaf tables.
    PageTables,
    /// A kernel's variables, read from the dump by virtual address.
    Translation,
    /// The content of the message buffer.
    Content,
    /// What changed while the kernel wrote a live dump.
    Liveness,
}

impl Group {
    /// All groups, in the order of [`rules::all`](crate::rules::all).
    pub const ALL: [Self; 9] = [
        Self::Container,
        Self::Header,
        Self::Codec,
        Self::Sections,
        Self::Bitmap,
        Self::PageTables,
        Self::Translation,
        Self::Content,
        Self::Liveness,
    ];

    /// The name in reports and for `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Header => "header",
            Self::Codec => "codec",
            Self::Sections => "sections",
            Self::Bitmap => "bitmap",
            Self::PageTables => "page-tables",
            Self::Translation => "translation",
            Self::Content => "content",
            Self::Liveness => "liveness",
        }
    }
}

/// How serious a broken rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Information; does not change the verdict.
    Note,
    /// The dump is usable, but something in it is lost, doubtful or unusual.
    Warning,
    /// The dump contradicts itself or is damaged.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One claim about dumps.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Short and stable, never reused for another rule: `KDH-PARITY`.
    pub id: &'static str,
    /// The rule's subject.
    pub group: Group,
    /// How serious it is if a dump breaks the rule.
    pub severity: Severity,
    /// What is true of every sound dump, in one line.
    pub claim: &'static str,
    /// What the check compares.
    pub compares: &'static str,
    /// The source of the claim: file and release.
    pub source: &'static str,
    /// What a broken rule means, and what the user can do.
    pub advice: &'static str,
}

impl Rule {
    /// Whether `pattern` matches this rule: its id, a prefix of its id followed by `*` (`ZSTD-*`),
    /// its group or its severity. Upper and lower case are equal.
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.to_ascii_uppercase();
        if let Some(prefix) = pattern.strip_suffix('*') {
            return self.id.starts_with(prefix);
        }
        pattern == self.id
            || pattern == self.group.name().to_ascii_uppercase()
            || pattern == self.severity.name().to_ascii_uppercase()
    }
}
