//! The process that removes what `kgdb` unpacked if `kgdb` is killed. Its standard input is a pipe
//! that ends then.

use std::path::PathBuf;

use livecore_livedump::publish::watch_over;

use crate::failure::Failure;

/// Arguments of the hidden verb `kgdb-guard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory to remove
    directory: PathBuf,
}

/// Waits for the pipe to end, then removes the directory.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    watch_over(&mut std::io::stdin().lock(), &args.directory)?;
    Ok(())
}
