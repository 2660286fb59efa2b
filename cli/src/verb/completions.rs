//! `livecore completions SHELL`: the completion script of a shell, made from the command line's
//! own description.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
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

/// Prints the script.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    // The generator panics where its writer fails; a vector does not.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "livecore", &mut script);
    Ok(session.out.write_all(&script)?)
}
