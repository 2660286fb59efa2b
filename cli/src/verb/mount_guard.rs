//! The process that unmounts the directory of `mount`, even if `mount` is killed. Its standard input is a
//! pipe that ends when `mount` exits.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use livecore_livedump::sys::fuse::unmount;

use crate::failure::Failure;

/// Arguments of the hidden verb `mount-guard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory to unmount
    directory: PathBuf,
    /// Device of the directory below the mounted file system
    device: u64,
}

/// Waits for the pipe to end, then unmounts, unless another program has unmounted.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    // If no process serves the directory, this fails.
    let found = fs::metadata(&args.directory).map(|found| found.dev());
    if found.is_ok_and(|device| device == args.device) {
        return Ok(());
    }
    Ok(unmount(&args.directory)?)
}
