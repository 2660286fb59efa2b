//! Facts about a file: container, codec, sizes.

use livecore_compress::Codec;
use serde::Serialize;

/// The layout of payload and header in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// The payload alone, as savecore(8) writes it.
    Saved,
    /// Payload, padding, one header at the end, as `MEM_KERNELDUMP` writes it.
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

/// Facts about a file. A fact that is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Size of the file.
    pub size: u64,
    /// The layout of payload and header.
    pub container: Option<Container>,
    /// The payload's compression.
    pub codec: Option<Codec>,
    /// `amd64` and so on, from the minidump's magic.
    pub architecture: Option<&'static str>,
    /// The minidump's version.
    pub version: Option<u32>,
    /// Size of the payload as stored.
    pub stored_len: Option<u64>,
    /// Size of the decompressed payload.
    pub content_len: Option<u64>,
    /// Number of data frames or members of a compressed payload.
    pub frames: Option<u64>,
    /// Number of set bits of the page bitmap.
    pub pages: Option<u64>,
    /// Number of valid page-table entries for pages in the dump, and for pages not in it.
    pub mapped: Option<(u64, u64)>,
    /// From the seal: pages that the producer watched for changes, and how many of them changed
    /// while it read them.
    pub torn_pages: Option<(u64, u64)>,
}
