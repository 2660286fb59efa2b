//! Arguments that several verbs share. A verb's own arguments are in its file.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use livecore_compress::Codec;

use crate::text::parse_size;

/// Which codec, and how hard it tries.
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
    /// Compression level: zstd -7 to 22 [default: 3], gzip 1 to 12 [default: 6]; also -1 to -22
    #[arg(
        help_heading = "Compression",
        long,
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub level: Option<i32>,
    /// Content bytes per frame of a seal: a multiple of 4K up to 64M [default: 1M]
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
pub fn with_level_digits(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut verb = false;
    let mut rest = false;
    let mut value = false;
    let mut rewritten = Vec::new();
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        verb |= matches!(text, "take" | "convert");
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
    /// The codec that was named.
    pub fn named(&self) -> Option<Codec> {
        match (self.gzip, self.zstd, self.none) {
            (true, ..) => Some(Codec::Gzip),
            (_, true, _) => Some(Codec::Zstd),
            (.., true) => Some(Codec::None),
            _ => None,
        }
    }
}

/// As many threads as were asked for, else one per processor.
pub fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// A dump, named as a program of FreeBSD's that reads dumps has it, too: `-M CORE`.
#[derive(Debug, Clone, Args)]
pub struct DumpArg {
    /// The dump; `-` for standard input
    #[arg(required_unless_present = "core")]
    dump: Option<PathBuf>,
    /// The same, as FreeBSD's dmesg(8) and ps(1) name it
    #[arg(short = 'M', value_name = "DUMP", conflicts_with = "dump")]
    core: Option<PathBuf>,
}

impl DumpArg {
    /// The dump's path.
    pub fn path(&self) -> &Path {
        // The parser wants one of the two.
        self.dump
            .as_deref()
            .or(self.core.as_deref())
            .unwrap_or(Path::new("-"))
    }
}

/// A dump, and before it its kernel, as kgdb(1) and gdb(1) take them: `KERNEL DUMP`.
#[derive(Debug, Clone, Args)]
pub struct KernelAndDump {
    /// The dump, or its kernel and the dump
    #[arg(value_name = "[KERNEL] DUMP", num_args = 1..=2, required = true)]
    named: Vec<PathBuf>,
}

impl KernelAndDump {
    /// The dump's path, and the kernel's if it was named before it.
    pub fn paths(&self) -> (&Path, Option<&Path>) {
        match &self.named[..] {
            [kernel, dump] => (dump, Some(kernel)),
            [dump, ..] => (dump, None),
            // The parser wants one.
            [] => (Path::new("-"), None),
        }
    }
}

/// How payload and kerneldumpheader are laid in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ContainerArg {
    /// A payload that ordinary tools decompress, with its header and index behind it
    Sealed,
    /// The payload alone, as savecore(8) leaves it
    Saved,
    /// What MEM_KERNELDUMP writes: the payload, padding, the header at the end
    Raw,
}

fn parse_frame_size(text: &str) -> Result<u32, String> {
    let size = parse_size(text)?;
    if size == 0 || size % 4096 != 0 || size > 64 << 20 {
        return Err("a frame is a multiple of 4096 bytes, up to 64M".into());
    }
    // At most 64 MiB, by the check above.
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
