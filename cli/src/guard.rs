//! Starts the guard processes, which clean up after this one: this program with a hidden verb.

use std::path::PathBuf;
use std::process::Command;

use crate::exit::Exit;
use crate::failure::Failure;

/// The path of this program.
///
/// # Errors
///
/// The system does not provide it.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| {
        let what = format_args!("cannot find the path of this program: {e}");
        Failure::of(Exit::COULD_NOT, &e).what_is(&what.to_string())
    })
}

/// The command that runs the hidden verb `verb`.
///
/// # Errors
///
/// As for [`program`].
pub(crate) fn command(verb: &str) -> Result<Command, Failure> {
    let mut command = Command::new(program()?);
    command.arg(verb);
    Ok(command)
}
