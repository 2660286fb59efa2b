//! `livecore mem kerneldump`: MEM_KERNELDUMP.

use std::os::fd::AsFd;

use livecore_livedump::mem4::{DumpRequest, MemError};
use livecore_livedump::sys::descriptor;
use rustix::fs::FileType;

use super::source::{Needs, Source};
use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore mem kerneldump --machine tiny.toml > live
  livecore mem kerneldump --compression zstd --fd 3 --image machine 3> live.zst

Issues the request with these arguments and reports the answer. The kernel writes the dump to the descriptor, which the shell \
opens: the data from the start of the file, then the header. On FreeBSD, the kernel writes its own dump. `livecore take` \
checks space and names first, and writes a sealed file.

livecore refuses a FIFO: the kernel of FreeBSD 15.0 panics when it writes a dump to one.";

/// Arguments of `livecore mem kerneldump`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The machine whose memory is dumped.
    #[command(flatten)]
    pub source: Source,
    /// Descriptor of the dump's file [default: 1]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub fd: i32,
    /// Flags; the kernel accepts only 0 [default: 0]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub flags: i32,
    /// none, gzip, zstd or a number [default: none]
    #[arg(long, value_name = "METHOD", value_parser = parse_compression, default_value = "none",
          hide_default_value = true)]
    pub compression: u8,
    /// Emulate a caller without PRIV_KMEM_READ
    #[arg(long)]
    pub unprivileged: bool,
}

/// Parses a compression method: a name, or a number that the kernel may refuse.
fn parse_compression(text: &str) -> Result<u8, String> {
    match text {
        "none" => Ok(0),
        "gzip" => Ok(1),
        "zstd" => Ok(2),
        _ => text
            .parse()
            .map_err(|_| "expected none, gzip, zstd, or a number up to 255".into()),
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.unprivileged && !args.source.is_emulated() {
        let failure = Failure::usage("--unprivileged needs --machine or --image");
        return Err(failure.id_is(crate::id::Id::ConflictingArguments));
    }
    let needs = Needs {
        kernel: args.source.is_emulated(),
        unprivileged: args.unprivileged,
        ..Needs::default()
    };
    // Before livecore opens files: their descriptors are not those of the caller.
    let inherited = descriptor::is_inherited(args.fd);
    let target = args.source.open(needs, session)?;
    let is_fifo = || {
        let file = descriptor::duplicate(args.fd).ok()?;
        let found = rustix::fs::fstat(file.as_fd()).ok()?;
        Some(FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
    };
    if inherited && !args.source.is_emulated() && is_fifo() == Some(true) {
        return Err(target.failure(MemError::NotAFile { fd: args.fd }));
    }
    let request = DumpRequest {
        // No process has this descriptor.
        fd: if inherited { args.fd } else { i32::MAX },
        flags: args.flags,
        compression: args.compression,
    };
    target.device.kernel_dump(&request).map_err(|error| {
        target.failure(match error {
            MemError::BadDescriptor { .. } => MemError::BadDescriptor { fd: args.fd },
            other => other,
        })
    })
}
