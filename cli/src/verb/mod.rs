//! The verbs, one file each: arguments, manual and work.

use clap::Subcommand;

use crate::failure::Failure;
use crate::session::Session;

pub mod completions;
pub mod man;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the completion script for a shell
    Completions(completions::Args),
    /// Print or write the manual pages
    Man(man::Args),
}

/// Does it.
pub fn run(verb: &Verb, session: &mut Session<'_>) -> Result<(), Failure> {
    match verb {
        Verb::Completions(args) => completions::run(args, session),
        Verb::Man(args) => man::run(args, session),
    }
}
