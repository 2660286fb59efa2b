//! What is known of a file apart from its faults.

use livecore_compress::Codec;
use serde::Serialize;

/// How payload and header are laid in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// The payload alone: what savecore(8) leaves.
    Saved,
    /// Payload, padding, one header at the end: what `MEM_KERNELDUMP` leaves.
    Raw,
    /// Two headers around a payload at the end of a partition.
    DumpDevice,
    /// Payload, then a seal with header and frame index.
    Sealed,
}

impl Container {
    /// `saved`, `raw`, `dump-device` or `sealed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Raw => "raw",
            Self::DumpDevice => "dump-device",
            Self::Sealed => "sealed",
        }
    }
}

/// What is known of the file apart from its faults. What could not be told is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of the file.
    pub size: u64,
    /// How payload and header are laid in it.
    pub container: Option<Container>,
    /// How the payload is stored.
    pub codec: Option<Codec>,
    /// `amd64` and so on, from the minidump's magic.
    pub architecture: Option<&'static str>,
    /// The minidump's version.
    pub version: Option<u32>,
    /// Bytes of the payload as stored.
    pub stored_len: Option<u64>,
    /// Bytes of the payload, decompressed.
    pub content_len: Option<u64>,
    /// Data frames or members of a compressed payload.
    pub frames: Option<u64>,
    /// Set bits of the page bitmap.
    pub pages: Option<u64>,
    /// Valid page-table entries for pages of the dump, and for pages that are not in it.
    pub mapped: Option<(u64, u64)>,
    /// Pages that a producer watched while it read them, and how many of them are torn, if the seal
    /// says so.
    pub torn_pages: Option<(u64, u64)>,
}
