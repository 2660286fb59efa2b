//! What a rule is: the claim that every sound dump fulfils.
//!
//! A rule is data. The check that belongs to it is somewhere in the file that knows the region;
//! both meet in [`crate::Sink`]. The table of all rules is [`crate::rules::all`].

use serde::Serialize;

/// What a rule is about: one region of a dump, or one question asked of all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// How payload and header are laid in the file.
    Container,
    /// The 512-byte `kerneldumpheader`, and the `info.N` that savecore(8) makes of it.
    Header,
    /// zstd frames, gzip members, and the seal around them.
    Codec,
    /// The minidump's own header and the sections it announces.
    Sections,
    /// `dump_avail` and the page bitmap.
    Bitmap,
    /// The page-table section and the leaf tables.
    PageTables,
    /// Addresses of a kernel's symbols, looked up through the dump.
    Translation,
    /// What the sections hold: the message buffer.
    Content,
    /// What changed while a live dump was being written.
    Liveness,
}

impl Group {
    /// All groups, in the order of the table.
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

    /// The word that reports and `--only` use.
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

/// How much a broken rule matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; changes no verdict.
    Note,
    /// The dump can be used; something in it is lost, doubtful or unusual.
    Warning,
    /// The dump contradicts itself, or bytes of it are damaged.
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
    /// Short, stable, never used again for something else: `KDH-PARITY`.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// What breaking it means.
    pub severity: Severity,
    /// The law, in one line: what is true of every sound dump.
    pub claim: &'static str,
    /// What is compared with what.
    pub compares: &'static str,
    /// Where the fact comes from: file and release.
    pub source: &'static str,
    /// What a person whose dump breaks the rule can do.
    pub advice: &'static str,
}

impl Rule {
    /// Whether `pattern` names this rule: its id, a beginning of its id with `*` behind it
    /// (`ZSTD-*`), its group or its severity; letters of either case.
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.to_ascii_uppercase();
        if let Some(beginning) = pattern.strip_suffix('*') {
            return self.id.starts_with(beginning);
        }
        pattern == self.id
            || pattern == self.group.name().to_ascii_uppercase()
            || pattern == self.severity.name().to_ascii_uppercase()
    }
}
