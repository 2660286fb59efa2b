//! `livecore completions SHELL`: the completion script of a shell, made from the command line's
//! own description.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::session::Session;

const MANUAL: &str = "\
Example:
  livecore completions zsh > ~/.zfunc/_livecore";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script for `command`.
pub fn run(args: &Args, mut command: Command, session: &mut Session<'_>) -> Result<(), Failure> {
    // The generator panics where its writer fails; a vector does not.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "livecore", &mut script);
    Ok(session.out.write_all(&script)?)
}
