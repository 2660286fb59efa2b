//! Arguments that several verbs share. A verb's own arguments are in its file.

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
    /// The codec's level: zstd -7 to 22 (3), gzip 1 to 12 (6)
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
    /// Threads [default: one per processor]
    #[arg(help_heading = "Compression", short = 'j', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
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

    #[test]
    fn frame_sizes_are_whole_pages_up_to_64_mib() {
        assert_eq!(parse_frame_size("2M"), Ok(2 << 20));
        assert_eq!(parse_frame_size("64M"), Ok(64 << 20));
        for bad in ["0", "1000", "65M", "4097", "x"] {
            assert!(parse_frame_size(bad).is_err(), "{bad}");
        }
    }
}
