//! The `livecore` program as a library: [`run`] is everything but the process around it.
//!
//! A verb is a file in `verb/`: its arguments, its manual page and its work. Verbs know no format;
//! they ask `minidump`, `livedump` and `verify`, and put the answer into words or JSON.
//!
//! What every verb shares is here, one file each: the [`args`] of the command line, the [`exit`]
//! codes, how a failure is told ([`failure`]), where output goes and what a closed pipe means
//! ([`session`]), progress and signals ([`progress`], [`signals`]), and how numbers and bytes look
//! to people ([`text`], [`hexdump`]) and programs ([`json`]).

pub mod args;
pub mod env;
pub mod exit;
pub mod failure;
pub mod hexdump;
pub mod input;
pub mod json;
pub mod output;
pub mod progress;
pub mod session;
pub mod signals;
pub mod text;
pub mod verb;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

pub use env::Env;
pub use exit::Exit;

use session::Session;

/// Runs one command line: data goes to `out`, people are spoken to on `err`.
///
/// `args` begins with the program's name. Neither a closed `out` nor a closed `err` is a panic:
/// the first ends the work with [`Exit::CLOSED_PIPE`], the second is ignored.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
    env: Env,
) -> Exit {
    let cli = match args::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return session::usage(&error, out, err),
    };
    let mut session = Session::new(out, err, env, cli.quiet);
    let result = verb::run(&cli.verb, &mut session);
    session.finish(result)
}
