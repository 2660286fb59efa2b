//! Arguments that several verbs share.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use livecore_compress::Codec;

use crate::text::parse_size;

/// The codec and its level.
#[derive(Debug, Clone, Args)]
pub struct CodecArgs {
    /// Compress with gzip
    #[arg(help_heading = "Compression", short = 'z', long, group = "codec")]
    pub gzip: bool,
    /// Compress with zstd
    #[arg(help_heading = "Compression", short = 'Z', long, group = "codec")]
    pub zstd: bool,
    /// Do not compress
    #[arg(help_heading = "Compression", long, group = "codec")]
    pub none: bool,
    /// Compression level; -1 to -22 select levels 1 to 22
    ///
    /// zstd: -7 to 22 [default: 3], gzip: 1 to 12 [default: 6].
    #[arg(
        help_heading = "Compression",
        long,
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub level: Option<i32>,
    /// Uncompressed bytes per frame [default: 1M]
    ///
    /// A multiple of 4K, at most 64M.
    #[arg(help_heading = "Compression", long, value_name = "SIZE", value_parser = parse_frame_size)]
    pub frame_size: Option<u32>,
    /// Number of threads [default: one per processor]
    #[arg(
        help_heading = "Compression",
        short = 'j',
        visible_short_alias = 'T',
        long,
        value_name = "N"
    )]
    pub threads: Option<NonZeroUsize>,
}

/// Command lines of the verbs that compress, with `-1` to `-22` spelled as `--level=N`, as zstd(1)
/// and gzip(1) have it.
pub(crate) fn with_level_digits(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut verb = false;
    let mut rest = false;
    let mut value = false;
    let mut rewritten = Vec::new();
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        verb |= matches!(text, "take" | "convert" | "save");
        rest |= text == "--";
        let level = text
            .strip_prefix('-')
            .filter(|digits| (1..=2).contains(&digits.len()))
            .and_then(|digits| digits.parse::<u8>().ok())
            .filter(|level| (1..=22).contains(level) && verb && !rest && !value);
        value = text == "--level";
        rewritten.push(match level {
            Some(level) => format!("--level={level}").into(),
            None => arg,
        });
    }
    rewritten
}

impl CodecArgs {
    /// The codec that an option selects.
    pub fn named(&self) -> Option<Codec> {
        match (self.gzip, self.zstd, self.none) {
            (true, ..) => Some(Codec::Gzip),
            (_, true, _) => Some(Codec::Zstd),
            (.., true) => Some(Codec::None),
            _ => None,
        }
    }
}

/// The number of threads: `asked`, or else one for each processor.
pub(crate) fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// Encryption of the output.
#[derive(Debug, Clone, Args)]
pub struct EncryptArgs {
    /// Encrypt the dump with this RSA public key
    ///
    /// Writes a sealed file that only the private key opens (docs/encryption.md).
    #[arg(help_heading = "Encryption", long, value_name = "PUBLIC.pem")]
    pub encrypt: Option<PathBuf>,
    /// Cipher of --encrypt [default: chacha20]
    #[arg(
        help_heading = "Encryption",
        long,
        value_enum,
        value_name = "CIPHER",
        requires = "encrypt"
    )]
    pub cipher: Option<CipherArg>,
}

/// A cipher of encrypted dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CipherArg {
    /// ChaCha20, for all dumps
    Chacha20,
    /// AES-256 in CBC mode, for uncompressed dumps
    Aes256Cbc,
}

/// How a file stores the payload and the kerneldumpheader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContainerArg {
    /// Payload for ordinary tools, then header and index
    Sealed,
    /// Payload alone, as savecore(8) writes it
    Saved,
    /// Format of MEM_KERNELDUMP: payload, padding, header
    Raw,
}

fn parse_frame_size(text: &str) -> Result<u32, String> {
    let size = parse_size(text)?;
    if size == 0 || size % 4096 != 0 || size > 64 << 20 {
        return Err("the frame size must be a multiple of 4096, at most 64M".into());
    }
    // At most 64 MiB, checked above.
    u32::try_from(size).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from);
        let words = with_level_digits(args);
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join(" ")
    }

    #[test]
    fn digits_are_a_level_for_verbs_that_compress_only() {
        for (line, expected) in [
            (
                "livecore take -Z -19 -o x",
                "livecore take -Z --level=19 -o x",
            ),
            ("livecore convert -1 a b", "livecore convert --level=1 a b"),
            (
                "livecore convert --level -5 a b",
                "livecore convert --level -5 a b",
            ),
            ("livecore convert a -- -1", "livecore convert a -- -1"),
            ("livecore convert -23 a b", "livecore convert -23 a b"),
            ("livecore convert -0 a b", "livecore convert -0 a b"),
            ("livecore read d -8 4", "livecore read d -8 4"),
        ] {
            assert_eq!(rewritten(line), expected);
        }
    }

    #[test]
    fn frame_sizes_are_whole_pages_up_to_64_mib() {
        assert_eq!(parse_frame_size("2M"), Ok(2 << 20));
        assert_eq!(parse_frame_size("64M"), Ok(64 << 20));
        for bad in ["0", "1000", "65M", "4097", "x"] {
            assert!(parse_frame_size(bad).is_err(), "{bad}");
        }
    }
}
