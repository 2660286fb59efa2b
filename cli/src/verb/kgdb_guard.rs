//! The process that removes what `kgdb` has unpacked when that is killed. Standard input is a pipe
//! that ends then.

use std::path::PathBuf;

use livecore_livedump::publish::watch_over;

use crate::failure::Failure;

/// What is watched over.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory
    directory: PathBuf,
}

/// Watches.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    watch_over(&mut std::io::stdin().lock(), &args.directory)?;
    Ok(())
}
