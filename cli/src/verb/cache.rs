//! `livecore cache clear`: removes the restart points of compressed streams.

use std::io::Write;

use crate::debuginfod;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::{Session, restart_cache};
use crate::text::Bytes;

const MANUAL: &str = "\
livecore decodes a single compressed stream, as FreeBSD writes vmcore.N.gz and vmcore.N.zst, once from its \
start. It records restart points, from which later reads and runs decode only the content that they need. \
For streams with at least 64 MiB of content, it keeps them in $XDG_CACHE_HOME/livecore, or else in \
$HOME/.cache/livecore. They take up to 3 % of the content, and at most 4 GiB in all; livecore removes the \
oldest. The files contain parts of the dump and have mode 0600. With --no-cache, livecore neither reads nor \
writes them.

The directory debuginfod in the cache contains kernels and debug files from the servers in DEBUGINFOD_URLS \
(docs/debuggers.md).

Example:
  livecore cache clear";

/// Arguments of `livecore cache`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, subcommand_value_name = "OPERATION", subcommand_help_heading = "Operations")]
pub struct Args {
    /// The operation.
    #[command(subcommand)]
    pub operation: Operation,
}

/// The operations.
#[derive(Debug, clap::Subcommand)]
pub enum Operation {
    /// Remove all restart points, and downloaded kernels and debug files
    Clear,
}

/// Clears the cache.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let Operation::Clear = args.operation;
    let Some(dir) = &session.env.cache_dir else {
        let what = "no cache directory: set HOME, and do not use --no-cache";
        return Err(Failure::could_not(what).id_is(Id::NotFound));
    };
    let (files, bytes) = restart_cache(dir)
        .clear()
        .map_err(|e| Failure::from(e).about(dir))?;
    let (downloads, size) = debuginfod::clear(dir).map_err(|e| Failure::from(e).about(dir))?;
    let (files, bytes) = (files + downloads, bytes + size);
    let noun = if files == 1 { "file" } else { "files" };
    let (dir, bytes) = (dir.display(), Bytes(bytes));
    writeln!(session.out, "{dir}: removed {files} {noun}, {bytes}")?;
    Ok(())
}
