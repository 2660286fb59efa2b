//! Starts the guard processes, which clean up after this one: this program with a hidden verb.

use std::process::Command;

use crate::failure::Failure;

/// The command that runs the hidden verb `verb`.
///
/// # Errors
///
/// The system does not provide the path of this program.
pub(crate) fn command(verb: &str) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(|e| {
        Failure::could_not(format_args!("cannot find the path of this program: {e}"))
    })?;
    let mut command = Command::new(program);
    command.arg(verb);
    Ok(command)
}
