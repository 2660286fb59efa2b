//! The manifest of a pack.

use serde::{Deserialize, Serialize};

/// The version of the format of packs.
pub const VERSION: u32 = 1;

/// The manifest: the first member of a pack, as JSON (`docs/schemas/pack.schema.json`).
///
/// Readers ignore names that they do not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the JSON output of the program that wrote it.
    pub schema: u32,
    /// [`VERSION`].
    pub pack: u32,
    /// The version of the program that wrote it.
    pub livecore: String,
    /// FreeBSD's name of the processor of the dump.
    pub architecture: String,
    /// The kernel's `version` string, if the dump has a header.
    pub kernel_version: Option<String>,
    /// SHA-256 of the attachment of the dump's seal, in hexadecimal. `None`: the dump is not sealed.
    pub seal: Option<String>,
    /// The other members, in file order.
    pub members: Vec<Member>,
    /// What was left out to keep the size below a limit.
    #[serde(default)]
    pub dropped: Vec<Member>,
    /// What was not found.
    #[serde(default)]
    pub missing: Vec<Missing>,
}

/// A member of a pack, or a file that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its contents, in hexadecimal.
    pub sha256: String,
    /// The GNU build-id of an ELF file, in hexadecimal, if it has one.
    #[serde(default)]
    pub build_id: Option<String>,
}

/// A file that was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The name that it has in a complete pack.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Why it is missing.
    pub why: String,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The info file of the dump.
    Info,
    /// The kernel file.
    Kernel,
    /// The file of a loaded module.
    Module,
    /// The debug file of the member whose name it has before `.debug`.
    Debug,
    /// The dump.
    Dump,
}

impl Kind {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Kernel => "kernel",
            Self::Module => "module",
            Self::Debug => "debug",
            Self::Dump => "dump",
        }
    }
}
