//! `livecore man [DIR]`: the manual pages, made from the command line's own description.

use std::io::Write;
use std::path::PathBuf;

use clap::Command;

use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Example:
  livecore man /usr/local/share/man/man1";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Write livecore.1 and a page per verb into this directory, which is created if
    /// needed [default: print livecore.1 to standard output]
    pub dir: Option<PathBuf>,
}

/// Prints or writes the pages of `command`.
pub fn run(args: &Args, command: Command, session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(dir) = &args.dir {
        return std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .map_err(|e| Failure::from(e).about(dir));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(session.out.write_all(&page)?)
}
