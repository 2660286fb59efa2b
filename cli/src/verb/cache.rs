//! `livecore cache clear`: removes the restart points of compressed streams.

use std::io::Write;

use crate::failure::Failure;
use crate::session::{Session, restart_cache};
use crate::text::Bytes;

const MANUAL: &str = "\
A single compressed stream, as FreeBSD writes vmcore.N.gz and vmcore.N.zst, is decoded once from its start. \
This pass leaves restart points, from which later reads and runs decode only what they need. Those of \
streams with at least 64 MiB of content are kept in $XDG_CACHE_HOME/livecore, or else in \
$HOME/.cache/livecore. Their size is up to 3 % of the content, at most 4 GiB in all; the oldest are removed. \
They contain parts of the dump: the files have mode 0600. The global option --no-cache neither reads nor \
writes them.

Example:
  livecore cache clear";

/// Arguments of `livecore cache`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The operation.
    #[command(subcommand)]
    pub operation: Operation,
}

/// The operations.
#[derive(Debug, clap::Subcommand)]
pub enum Operation {
    /// Remove all restart points
    Clear,
}

/// Clears the cache.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let Operation::Clear = args.operation;
    let Some(dir) = &session.env.cache_dir else {
        return Err(Failure::could_not(
            "no cache directory: set HOME, and do not use --no-cache",
        ));
    };
    let (files, bytes) = restart_cache(dir)
        .clear()
        .map_err(|e| Failure::from(e).about(dir))?;
    let noun = if files == 1 { "file" } else { "files" };
    let (dir, bytes) = (dir.display(), Bytes(bytes));
    writeln!(session.out, "{dir}: removed {files} {noun}, {bytes}")?;
    Ok(())
}
