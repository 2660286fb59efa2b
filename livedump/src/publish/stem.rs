//! The name of a dump in a crash directory, before its number.

/// The kind of a numbered dump, which determines its name and what it may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stem {
    /// `livecore.N`: a dump of a running system. It replaces other `livecore.N` only.
    #[default]
    Livecore,
    /// `vmcore.N`: a dump of a crashed system. This kind and the following ones replace all files of a
    /// number.
    Vmcore,
    /// `vmcore_encrypted.N`
    Encrypted,
    /// `textdump.tar.N`
    Text,
}

impl Stem {
    /// All stems.
    pub const ALL: [Self; 4] = [Self::Livecore, Self::Vmcore, Self::Encrypted, Self::Text];

    /// The name without the number.
    pub fn name(self) -> &'static str {
        match self {
            Self::Livecore => "livecore",
            Self::Vmcore => "vmcore",
            Self::Encrypted => "vmcore_encrypted",
            Self::Text => "textdump.tar",
        }
    }

    /// Whether it is the dump of a crashed system, which takes all files of its number.
    pub fn is_of_crash(self) -> bool {
        self != Self::Livecore
    }
}
