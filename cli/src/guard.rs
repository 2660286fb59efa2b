//! The processes that clean up after this one: the program once more, under a hidden verb.

use std::process::Command;

use crate::failure::Failure;

/// How the process `verb` is started.
///
/// # Errors
///
/// The system does not tell the path of this program.
pub fn command(verb: &str) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::could_not(format_args!("the path of this program: {e}")))?;
    let mut command = Command::new(program);
    command.arg(verb);
    Ok(command)
}
