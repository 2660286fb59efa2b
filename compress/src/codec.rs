//! The three ways in which a payload may be stored.

use std::fmt;

/// How bytes are stored: as they are, as gzip members, or as zstd frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// As they are.
    None,
    /// RFC 1952 members.
    Gzip,
    /// RFC 8878 frames.
    Zstd,
}

impl Codec {
    /// `none`, `gzip` or `zstd`: the words of savecore(8)'s info file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What savecore(8) appends to a file's name: nothing, `.gz` or `.zst`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// What the codec calls a piece that decodes by itself.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Gzip => "member",
            Self::None | Self::Zstd => "frame",
        }
    }

    /// `zstd frame 3`, as errors name a part of a stream.
    pub(crate) fn region(self, number: u64) -> String {
        match self {
            Self::None => format!("frame {number}"),
            codec => format!("{codec} {} {number}", codec.unit()),
        }
    }

    /// The codec whose magic number `head` begins with; anything else is [`Codec::None`].
    ///
    /// A zstd file may begin with a skippable frame (`0x184D2A50` to `0x184D2A5F`).
    pub fn sniff(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
