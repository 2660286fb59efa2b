//! `livecore clear DEVICE...`: clears the dump on a device, as `savecore -c` does.

use std::path::PathBuf;

use super::save;
use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore clear /dev/ada0p2
  livecore clear disk.img

Replaces the magic in the last sector of the dump device by `Cleared Kernel Dump`, as savecore(8) does, so \
that savecore(8) and `livecore save` ignore the dump. The data remains, and `livecore save -f` saves it until \
the system overwrites it. In an image of a whole disk, livecore clears the dumps in all partitions.";

/// Arguments of `livecore clear`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dump device, or image of a dump device or a disk
    #[arg(value_name = "DEVICE", required = true)]
    pub devices: Vec<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    save::clear(&args.devices, session)
}
