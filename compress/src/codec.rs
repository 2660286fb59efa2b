//! The codecs of a payload.

use std::fmt;
use std::path::Path;

/// The codec of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Uncompressed.
    None,
    /// RFC 1952 members.
    Gzip,
    /// RFC 8878 frames.
    Zstd,
}

impl Codec {
    /// `none`, `gzip` or `zstd`, as in savecore(8)'s info file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The suffix that savecore(8) appends to a file name: none, `.gz` or `.zst`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// The codec for the suffix of the file `path`; [`Codec::None`] without one.
    pub fn of_path(path: impl AsRef<Path>) -> Self {
        let name = path.as_ref().as_os_str().as_encoded_bytes();
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|codec| name.ends_with(codec.suffix().as_bytes()))
            .unwrap_or(Self::None)
    }

    /// The codec's term for an independently decodable piece.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Gzip => "member",
            Self::None | Self::Zstd => "frame",
        }
    }

    /// The name of a frame in errors: `zstd frame 3`.
    pub(crate) fn region(self, number: u64) -> String {
        match self {
            Self::None => format!("frame {number}"),
            codec => format!("{codec} {} {number}", codec.unit()),
        }
    }

    /// The codec whose magic `head` begins with; [`Codec::None`] for anything else.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_is_deduced_from_the_suffix() {
        for (name, codec) in [
            ("livecore.0.zst", Codec::Zstd),
            ("a.gz", Codec::Gzip),
            ("vmcore.0", Codec::None),
            ("zst", Codec::None),
            ("-", Codec::None),
        ] {
            assert_eq!(Codec::of_path(name), codec, "{name}");
        }
    }
}
