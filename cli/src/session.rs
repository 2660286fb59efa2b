//! The session of a verb: its output, its messages and its exit code.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use livecore_compress::{OpenOptions, RestartCache, StreamKind};
use livecore_kernel::Missing;
use livecore_livedump::image;
use livecore_livedump::sys::sandbox::close_paths;
use livecore_minidump::{AnyDump, PhysMemory, Warning};

use crate::env::Env;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::message::{Form, Level, Message};
use crate::progress::{Bar, Show};
use crate::remote::Stores;
use crate::sandbox_mode::Mode;

/// Standard output, which records that its reader exited.
pub struct Out<'a> {
    inner: BufWriter<&'a mut (dyn Write + Send)>,
    closed: bool,
    /// Whether a write failed.
    failed: bool,
}

impl Write for Out<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(buf);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.note(result)
    }
}

impl Out<'_> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result {
            self.closed |= e.kind() == io::ErrorKind::BrokenPipe;
            self.failed = true;
        }
        result
    }
}

/// Messages on standard error. Write errors are ignored.
pub struct Voice<'a> {
    err: Mutex<&'a mut (dyn Write + Send)>,
    detail: Detail,
    form: Form,
}

/// Which messages are printed. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Errors and warnings (`--quiet`).
    Problems,
    /// What was done.
    Remarks,
    /// How it was done (`--verbose`).
    Everything,
}

impl Voice<'_> {
    /// Prints an informational message, unless `--quiet` is given.
    pub fn say(&self, id: Id, line: impl fmt::Display) {
        if self.detail >= Detail::Remarks {
            self.print(&Message::new(Level::Note, id, line));
        }
    }

    /// A line on how the work is done; only with `--verbose`.
    pub fn detail(&self, id: Id, line: impl fmt::Display) {
        if self.is_verbose() {
            self.print(&Message::new(Level::Detail, id, line));
        }
    }

    /// Prints a warning that has no effect on the exit code.
    pub fn warn(&self, subject: &Path, id: Id, what: impl fmt::Display) {
        self.print(&Message::warning(subject, id, what));
    }

    /// Whether `--verbose` was given.
    pub fn is_verbose(&self) -> bool {
        self.detail == Detail::Everything
    }

    fn print(&self, message: &Message) {
        let line = message.line(self.form);
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = err.write_all(line.as_bytes());
        let _ = err.flush();
    }
}

/// The result of [`Session::check`], which has already been printed.
#[derive(Debug, Default)]
pub struct Checked {
    /// The warnings.
    pub warnings: Vec<(Id, String)>,
    /// Whether a stream is damaged.
    pub failed: bool,
}

/// The session of a verb.
pub struct Session<'a> {
    /// Standard output.
    pub out: Out<'a>,
    /// Standard error.
    pub voice: Voice<'a>,
    /// The environment of the run.
    pub env: Env,
    /// The object stores of inputs and outputs.
    pub(crate) stores: Stores,
    show: Show,
    exit: Exit,
    /// Dumps whose streams have their checksum at the end, which the verb may not have read, and
    /// whether to warn of every loss that is known there.
    unchecked: Vec<(PathBuf, AnyDump, bool)>,
}

impl<'a> Session<'a> {
    /// A session that writes data to `out` and messages to `err`.
    pub fn new(
        out: &'a mut (dyn Write + Send),
        err: &'a mut (dyn Write + Send),
        env: Env,
        (detail, form): (Detail, Form),
        show: Show,
    ) -> Self {
        let stores = Stores::new(&env);
        Self {
            out: Out {
                inner: BufWriter::with_capacity(1 << 16, out),
                closed: false,
                failed: false,
            },
            voice: Voice {
                err: Mutex::new(err),
                detail,
                form,
            },
            env,
            stores,
            show,
            exit: Exit::DONE,
            unchecked: Vec::new(),
        }
    }

    /// How progress is shown.
    pub fn show(&self) -> Show {
        self.show
    }

    /// A progress bar for `total` bytes of content, if that is known, with the prefix `label`. Not
    /// drawn if `silent`, nor without a terminal.
    pub fn bar(&self, label: impl Into<String>, silent: bool, total: Option<u64>) -> Bar {
        Bar::new(&self.env.interrupt, label, self.show.unless(silent), total)
    }

    /// Options for streams, with `threads` or one thread for each processor.
    pub fn stream_options(&self, threads: Option<NonZeroUsize>) -> OpenOptions {
        OpenOptions::new()
            .threads(crate::args::threads(threads))
            .memory(self.env.memory)
            .spool_dir(&self.env.spool_dir)
            .restart_cache(self.env.cache_dir.as_deref().map(restart_cache))
    }

    /// Options for memory images.
    pub fn image_options(&self) -> image::Options {
        image::Options::default()
            .memory(self.env.memory)
            .tables(self.env.memory / 4)
            .spool_dir(&self.env.spool_dir)
    }

    /// Gives up opening files by name, in a sandbox and on a system that can do that. `inputs` stay
    /// readable. Has no effect if one of them has no descriptor, but opens connections.
    ///
    /// # Errors
    ///
    /// The system refuses, and the sandbox is required.
    pub fn close_paths(&self, inputs: &[Option<BorrowedFd<'_>>]) -> Result<(), Failure> {
        if self.env.sandbox == Mode::Off {
            return Ok(());
        }
        let inputs: Option<Vec<_>> = inputs.iter().copied().collect();
        let Some(inputs) = inputs else {
            return Ok(());
        };
        match close_paths(&inputs) {
            Err(error) if self.env.sandbox == Mode::Require => Err(Failure::from(error)
                .id_is(Id::NoSandbox)
                .about("sandbox".as_ref())),
            _ => Ok(()),
        }
    }

    /// Whether the reader of standard output exited.
    pub fn out_is_closed(&self) -> bool {
        self.out.closed
    }

    /// Prints a warning. The run continues and exits with [`Exit::WARNINGS`] or worse.
    pub fn warn(&mut self, subject: &Path, id: Id, what: impl fmt::Display) {
        self.voice.warn(subject, id, what);
        self.note(Exit::WARNINGS);
    }

    /// Prints a warning of a dump, as [`Session::warn`] does.
    pub fn warn_of(&mut self, subject: &Path, warning: &Warning) {
        self.warn(subject, Id::of_warning(warning), warning);
    }

    /// Warns of what a memory image lacks, and of pieces of it that contradict each other.
    pub fn warn_of_memory(&mut self, subject: &Path, memory: &dyn PhysMemory) {
        let found = [
            (Id::ImageContradiction, memory.contradiction()),
            (Id::MemoryMissing, memory.shortage()),
        ];
        for (id, what) in found {
            if let Some(what) = what {
                self.warn(subject, id, what);
            }
        }
    }

    /// Prints the failure of one input. The run continues with the next.
    pub fn fail(&mut self, failure: &Failure) {
        self.voice.print(&failure.into());
        self.note(failure.exit());
    }

    /// Prints what a list of kernel objects lacks: missing symbols as messages, problems as
    /// warnings.
    pub fn print_missing(&mut self, dump: &Path, missing: &[Missing], problems: &[String]) {
        for missing in missing {
            self.voice.say(Id::NoSymbol, missing);
        }
        for problem in problems {
            self.warn(dump, Id::KernelData, problem);
        }
    }

    /// Whether `failure` ends the run, not only the work on one input: a signal was received, or
    /// the reader of standard output exited.
    pub fn ends_with(&self, failure: &Failure) -> bool {
        self.env.interrupt.raised().is_some()
            || self.out.closed
            || failure.exit() == Exit::CLOSED_PIPE
    }

    /// Adds the outcome of one input.
    pub fn note(&mut self, exit: Exit) {
        self.exit = self.exit.worst(exit);
    }

    /// Checks the stream of `dump`, the file `path`, when the run ends. `loss`: whether to warn of every
    /// loss that is known then, or of an early end of the stream alone.
    pub fn check_at_end(&mut self, path: &Path, dump: AnyDump, loss: bool) {
        // All other streams are checked as they are read.
        if dump.envelope().stream().kind() == StreamKind::Foreign {
            self.unchecked.push((path.to_owned(), dump, loss));
        }
    }

    /// Prints what has been written so far, then decodes the streams to their ends, to check what was
    /// read.
    ///
    /// # Errors
    ///
    /// If the work is to stop, or standard output fails. Damage of a stream is printed.
    pub fn check(&mut self) -> Result<Checked, Failure> {
        let mut found = Checked::default();
        if !self.unchecked.is_empty() {
            self.out.flush()?;
        }
        for (path, dump, all) in std::mem::take(&mut self.unchecked) {
            let stream = dump.envelope().stream();
            let bar = self.bar("check", false, None);
            let checked = stream.finish(&bar);
            drop(bar);
            match checked {
                Ok(()) => {
                    for (id, warning) in dump.warnings_at_end(all)? {
                        let id = Id::named(id).unwrap_or(Id::Warning);
                        self.warn(&path, id, &warning);
                        found.warnings.push((id, warning));
                    }
                }
                Err(error @ livecore_compress::Error::Cancelled) => return Err(error.into()),
                Err(error) => {
                    let failure = Failure::from(error).about(&path);
                    self.fail(&failure.next("part of the data was not checked"));
                    found.failed = true;
                }
            }
        }
        Ok(found)
    }

    /// Ends the run: flushes the output, prints a failure and returns the exit code.
    pub fn finish(mut self, result: Result<(), Failure>) -> Exit {
        // Then a failure without a subject is that of the write.
        let result = match self.out.failed {
            true => result.map_err(|failure| failure.about(Path::new("standard output"))),
            false => result,
        };
        let flushed = self.out.flush();
        let result = match (result, &flushed) {
            (Ok(()), Ok(())) => self.check().map(drop),
            (result, _) => result,
        };
        if let Some(signal) = self.env.interrupt.raised()
            && result.is_err()
        {
            self.voice.say(
                Id::Stopped,
                format_args!("stopped by {}", crate::signals::name(signal)),
            );
            return Exit::signal(signal);
        }
        if self.out.closed {
            return Exit::CLOSED_PIPE;
        }
        if let Some(line) = self.stores.summary() {
            self.voice.detail(Id::StoreTraffic, line);
        }
        match result.and_then(|()| flushed.map_err(output_failed)) {
            Ok(()) => self.exit,
            // The reader of standard output exited; there is no one to print the failure for.
            Err(failure) if failure.exit() == Exit::CLOSED_PIPE => Exit::CLOSED_PIPE,
            Err(failure) => {
                self.voice.print(&(&failure).into());
                failure.exit()
            }
        }
    }
}

fn output_failed(error: io::Error) -> Failure {
    Failure::of(Exit::COULD_NOT, &error).about(Path::new("standard output"))
}

/// Prints `--help` and `--version` to `out`, and a usage error to `err`.
pub(crate) fn usage(
    error: &clap::Error,
    form: Form,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Exit {
    use clap::error::ErrorKind;
    let text = plain(error);
    let id = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return print(&text, out),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => Id::UnknownArgument,
        ErrorKind::InvalidValue
        | ErrorKind::ValueValidation
        | ErrorKind::NoEquals
        | ErrorKind::InvalidUtf8 => Id::InvalidValue,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::TooFewValues => Id::MissingArgument,
        ErrorKind::ArgumentConflict => Id::ConflictingArguments,
        _ => Id::Usage,
    };
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let line = match form {
        // The usage follows the error on lines of its own.
        Form::Text => format!("livecore: {text}"),
        Form::Json => Message::usage(id, text).line(form),
    };
    let _ = err.write_all(line.as_bytes());
    let _ = err.flush();
    Exit::USAGE
}

/// The text of a usage error. Says what a number must be, and names verbs as the help does.
fn plain(error: &clap::Error) -> String {
    use std::num::{IntErrorKind, ParseIntError};
    let text = error.render().to_string();
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<ParseIntError>());
    let Some(cause) = cause else {
        return text
            .replacen("unrecognized subcommand", "unknown verb", 1)
            .replacen("similar subcommand", "similar verb", 1);
    };
    let expected = match cause.kind() {
        IntErrorKind::Zero => "expected at least 1",
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "the number is out of range",
        _ => "expected a number",
    };
    text.replacen(&cause.to_string(), expected, 1)
}

/// Prints what is not of a verb.
pub(crate) fn print(text: &str, out: &mut (dyn Write + Send)) -> Exit {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::DONE,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Exit::CLOSED_PIPE,
        Err(_) => Exit::COULD_NOT,
    }
}

/// The cache of restart points in `dir`.
pub(crate) fn restart_cache(dir: &Path) -> RestartCache {
    RestartCache {
        dir: dir.to_owned(),
        max_bytes: 4 << 30,
        min_content: 64 << 20,
    }
}
