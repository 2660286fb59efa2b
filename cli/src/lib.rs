//! The `livecore` program as a library: [`run`] runs one command line.
//!
//! Each verb is a file in `verb/` with its arguments, its manual page and its code. Verbs contain
//! no format knowledge: they call the libraries and print the results as text or JSON. A verb does
//! not use another verb.
//!
//! Code that several verbs share is in this directory, one file each: the command line (`args`, `dump_args`),
//! exit codes and messages (`exit`, `failure`, `message`, `describe`, `id`), inputs (`input`,
//! `emulated`, `served`, `crash_directory`, `verifier`), the memory limit (`memory`), debugger connections
//! (`transport`), the files of a mounted dump (`mounted`), outputs (`session`, `output`, `unpack`),
//! progress and signals (`progress`, `work`, `interrupt`, `signals`), formatting for people (`text`,
//! `stack_text`, `memory_format`, `hexdump`, `words`) and for programs (`json`), manual pages (`man`).

mod about;
mod args;
mod companion;
mod crash;
mod crash_directory;
mod debuginfod;
mod describe;
mod downloaded;
mod dump_args;
mod emulated;
mod ends;
mod env;
mod exit;
mod failure;
mod guard;
mod hexdump;
mod id;
mod input;
mod interrupt;
mod json;
mod keys;
mod man;
mod memory;
mod memory_format;
mod message;
#[cfg(feature = "mount")]
mod mounted;
mod output;
mod packed;
mod parallel;
#[cfg(feature = "sandbox-probe")]
mod probe;
mod progress;
mod published;
mod remote;
mod sandbox;
mod sandbox_mode;
mod served;
mod session;
mod signals;
mod since;
mod stack_text;
mod text;
mod text_dump;
mod transport;
mod unpack;
mod variable;
mod verb;
mod verifier;
mod words;
mod work;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

pub use env::{Env, standard_output};
pub use exit::Exit;
pub use id::Id;
pub use verb::Cli;

use failure::Failure;
use livecore_livedump::sys::syslog;
use message::Form;
use progress::Show;
use sandbox_mode::Mode;
use session::{Detail, Session};
use verb::Opened;

/// Runs one command line. Data goes to `out`, messages go to `err`.
///
/// `args` begins with the program's name. A closed `out` ends the run with [`Exit::CLOSED_PIPE`]; a
/// closed `err` is ignored.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
    env: Env,
) -> Exit {
    let args = args::with_level_digits(args);
    let mut cli = match verb::Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = session::usage(&error, Form::of_args(&args), out, err);
            let is_version = error.kind() == clap::error::ErrorKind::DisplayVersion;
            let is_verbose = args.iter().any(|arg| arg == "-v" || arg == "--verbose");
            if is_version && is_verbose && exit == Exit::DONE {
                return session::print(&about::report(&args, &env), out);
            }
            return exit;
        }
    };
    let env = Env {
        memory: cli.memory.unwrap_or(env.memory),
        cache_dir: env.cache_dir.filter(|_| !cli.no_cache),
        debuginfod: match cli.verb.searches_kernel() {
            true => env.debuginfod,
            false => Vec::new(),
        },
        color: match cli.color.as_str() {
            "always" => true,
            "never" => false,
            _ => env.color,
        },
        ..env
    };
    let show = match cli.progress.as_str() {
        "bar" => Show::Bar,
        "json" => Show::JsonLines,
        "auto" if env.stderr_is_terminal && !cli.quiet => Show::DelayedBar,
        _ => Show::Nothing,
    };
    let detail = match (cli.quiet, cli.verbose) {
        (true, _) => Detail::Problems,
        (_, true) => Detail::Everything,
        _ => Detail::Remarks,
    };
    let form = match cli.messages.as_str() {
        "json" => Form::Json,
        _ => Form::Text,
    };
    let mut session = Session::new(out, err, env, (detail, form), show);
    let result = cli.verb.select_dump(&mut session).and_then(|()| {
        let opened = begin(&cli, &mut session.env, form)?;
        verb::run(&cli.verb, opened, &mut session)
    });
    session.finish(result)
}

/// Opens the sockets that a verb listens on or mounts its file system, reads the private key, enters
/// the sandbox and starts the signal thread, in this order: the sandbox denies new sockets, mounts and
/// other files, and applies to threads that are started later.
fn begin(cli: &verb::Cli, env: &mut Env, form: Form) -> Result<Opened, Failure> {
    let opened = verb::listen(&cli.verb, env)?;
    keys::load(cli.key.as_deref(), cli.verb.reads_dumps(), env)?;
    if env.is_process {
        if cli.verb.logs() {
            syslog::open();
        }
        env.sandbox = Mode::asked(cli.no_sandbox)?;
        sandbox::enter(&cli.verb, env)?;
        // Without the watcher a signal ends the process as it always did.
        let _ = match &opened {
            Opened::Dumps(opened) => signals::raise(&env.interrupt, form, &opened.wake),
            #[cfg(feature = "mount")]
            Opened::Mounted(mounted) => signals::raise(&env.interrupt, form, &mounted.wake),
            // An interrupted upload removes its parts.
            _ if cli.verb.undoes_work() => signals::raise_only(&env.interrupt, form),
            _ => signals::watch(&env.interrupt, form),
        };
        #[cfg(feature = "sandbox-probe")]
        probe::run();
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;

    /// The description of a small machine.
    const MACHINE: &str = "seed = 1\n[memory]\nsize = \"16 MiB\"\n";

    fn in_process(args: &[&str], interrupt: &Interrupt) -> (Exit, Vec<u8>, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let env = Env {
            interrupt: interrupt.clone(),
            ..Env::detached()
        };
        let args = ["livecore"].iter().chain(args).map(OsString::from);
        let exit = run(args.collect::<Vec<_>>(), &mut out, &mut err, env);
        (exit, out, String::from_utf8(err).unwrap())
    }

    /// Another program requests the stop, without a signal.
    #[test]
    fn request_to_stop_leaves_no_files_and_exits_like_the_signal() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path().join("m.toml");
        std::fs::write(&machine, MACHINE).unwrap();
        let out = dir.path().join("out.zst");
        let [machine, out] = [&machine, &out].map(|p| p.to_str().unwrap());
        let args = ["take", "--machine", machine, "-o", out];
        let interrupt = Interrupt::default();
        interrupt.raise(15);
        let (exit, _, err) = in_process(&args, &interrupt);
        assert_eq!(exit.code(), 143, "{err}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let (exit, _, err) = in_process(&args, &Interrupt::default());
        assert_eq!(exit.code(), 0, "{err}");
    }

    /// Dumps too go to the caller's writer.
    #[test]
    fn dump_to_standard_output_uses_the_callers_writer() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path().join("m.toml");
        std::fs::write(&machine, MACHINE).unwrap();
        let args = ["take", "--machine", machine.to_str().unwrap(), "-o", "-"];
        let (exit, out, err) = in_process(&args, &Interrupt::default());
        assert_eq!(exit.code(), 0, "{err}");
        assert!(out.starts_with(b"minidump FreeBSD/amd64\0"));
    }
}
