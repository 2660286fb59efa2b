//! The error of a verb: a message and an exit code.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use livecore_kernel::PairError;
use livecore_kernel::locate::LocateError;
use livecore_livedump::conversion::ConversionError;
use livecore_livedump::gdb::GdbError;
use livecore_livedump::mem4::MemError;
use livecore_livedump::publish::{PublishError, WriteError};
use livecore_livedump::qmp::QmpError;
use livecore_livedump::reduction::ReductionError;
use livecore_livedump::take::TakeError;

use crate::describe::{Describe, Description, ErrorLocation};
use crate::exit::Exit;
use crate::id::Id;
use crate::message::{Level, Message};

/// A message of one line, an exit code and an id.
///
/// The line is `SUBJECT: MESSAGE` or `SUBJECT: MESSAGE; ADVICE`.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    id: Id,
    place: Box<ErrorLocation>,
    subject: Subject,
    what: String,
    next: Option<String>,
}

/// The file, device or socket of a failure.
#[derive(Debug, Default)]
enum Subject {
    /// Not set yet.
    #[default]
    Unnamed,
    /// The message contains it.
    InText,
    /// A file, a device or a socket.
    Named(String),
}

impl Failure {
    /// A failure with an exit code, and with the id of that code.
    pub fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self {
            exit,
            id: match exit {
                Exit::USAGE => Id::Usage,
                Exit::BROKEN => Id::Broken,
                Exit::UNSUPPORTED => Id::Unsupported,
                _ => Id::Failed,
            },
            place: Box::default(),
            subject: Subject::Unnamed,
            what: without_errno(&what.to_string()),
            next: None,
        }
    }

    /// A failure with the message, the id and the place of `error`.
    pub fn of(exit: Exit, error: &(impl Describe + fmt::Display)) -> Self {
        let Description { id, place } = error.describe();
        Self {
            id,
            place: Box::new(place),
            ..Self::new(exit, error)
        }
    }

    /// A wrong command line that clap accepts.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::USAGE, what)
    }

    /// A failure of I/O, memory or permissions.
    pub fn could_not(what: impl fmt::Display) -> Self {
        Self::new(Exit::COULD_NOT, what)
    }

    /// A socket that does not listen on its address.
    pub fn cannot_listen(error: &io::Error) -> Self {
        Self::of(Exit::COULD_NOT, error).what_is(&format!("cannot listen on this address: {error}"))
    }

    /// The input is broken.
    pub fn broken(what: impl fmt::Display) -> Self {
        Self::new(Exit::BROKEN, what)
    }

    /// Sets the id.
    #[must_use]
    pub fn id_is(mut self, id: Id) -> Self {
        self.id = id;
        self
    }

    /// Sets the message.
    #[must_use]
    pub fn what_is(mut self, what: &str) -> Self {
        self.what = without_errno(what);
        self
    }

    /// Sets the subject, unless it is set.
    #[must_use]
    pub fn about(mut self, subject: &Path) -> Self {
        if let Subject::Unnamed = self.subject {
            self.subject = Subject::Named(subject.display().to_string());
        }
        self
    }

    /// Marks the message as containing its subject, unless that is set.
    #[must_use]
    fn names_itself(mut self) -> Self {
        if let Subject::Unnamed = self.subject {
            self.subject = Subject::InText;
        }
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn next(mut self, what: impl fmt::Display) -> Self {
        self.next = Some(what.to_string());
        self
    }

    /// The same failure with another code, for a verb with its own codes.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The message without subject and advice.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Where the error is.
    pub fn place(&self) -> &ErrorLocation {
        &self.place
    }

    /// The file, device or socket, unless the message contains it.
    pub fn subject(&self) -> Option<&str> {
        match &self.subject {
            Subject::Named(subject) => Some(subject),
            Subject::Unnamed | Subject::InText => None,
        }
    }

    /// The advice.
    pub fn advice(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// `text` without the error numbers that std appends: `(os error 2)`.
pub(crate) fn without_errno(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let mut clean = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match piece[digits..].strip_prefix(')') {
            Some(rest) if digits > 0 => clean.push_str(rest),
            _ => {
                clean.push_str(" (os error ");
                clean.push_str(piece);
            }
        }
    }
    clean
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Message::from(self).fmt(f)
    }
}

impl From<&Failure> for Message {
    fn from(failure: &Failure) -> Self {
        Self {
            subject: failure.subject().map(str::to_owned),
            advice: failure.advice().map(str::to_owned),
            place: failure.place().clone(),
            exit_code: Some(failure.exit().code()),
            ..Self::new(Level::Error, failure.id(), failure.what())
        }
    }
}

impl From<io::Error> for Failure {
    /// Keeps the meaning of a decoding error inside the I/O error.
    fn from(error: io::Error) -> Self {
        match livecore_compress::Error::in_io(&error) {
            Some(inner) => Self::of(exit_of_stored(inner), inner),
            None => Self::of(Exit::COULD_NOT, &error),
        }
    }
}

impl From<livecore_compress::Error> for Failure {
    fn from(error: livecore_compress::Error) -> Self {
        Self::of(exit_of_stored(&error), &error)
    }
}

impl From<livecore_minidump::Error> for Failure {
    fn from(error: livecore_minidump::Error) -> Self {
        use livecore_minidump::Error;
        match error {
            Error::Broken { .. } => Self::of(Exit::BROKEN, &error),
            Error::NotADump { .. } | Error::Unsupported { .. } => {
                Self::of(Exit::UNSUPPORTED, &error)
            }
            Error::Encrypted { .. } => {
                Self::of(Exit::COULD_NOT, &error).next("use --key PRIVATE.pem to decrypt it")
            }
            // The caller sets the subject, so the context of the error is not needed.
            Error::Io { source, .. } => Self::from(source),
            _ => Self::of(Exit::COULD_NOT, &error),
        }
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        match error {
            PairError::Format(error) => error.into(),
            PairError::Locate(error) => error.into(),
            PairError::Kernel(error) => error.into(),
            PairError::AnotherKernel { .. } => Self::of(Exit::BROKEN, &error),
            error => Self::of(Exit::COULD_NOT, &error),
        }
    }
}

impl From<livecore_minidump::ReadError> for Failure {
    fn from(error: livecore_minidump::ReadError) -> Self {
        let exit = exit_of_cause(&error).unwrap_or(Exit::COULD_NOT);
        Self::of(exit, &error)
    }
}

impl From<ConversionError> for Failure {
    fn from(error: ConversionError) -> Self {
        match error {
            ConversionError::Take(error) => error.into(),
            ConversionError::Minidump(error)
            | ConversionError::Reduction(ReductionError::Minidump(error)) => error.into(),
            ConversionError::Reduction(ReductionError::Kernel(error)) => error.into(),
            ConversionError::NotMinidump => {
                Self::new(Exit::UNSUPPORTED, &error).next("convert it with --to minidump first")
            }
            ConversionError::NoKernel => {
                Self::new(Exit::UNSUPPORTED, &error).next("use --kernel ELF")
            }
            error => Self::new(Exit::UNSUPPORTED, error),
        }
    }
}

impl From<livecore_kernel::KernelError> for Failure {
    fn from(error: livecore_kernel::KernelError) -> Self {
        use livecore_kernel::KernelError;
        let exit = match &error {
            KernelError::UnknownMachine(_) => Exit::UNSUPPORTED,
            KernelError::Implausible { .. } => Exit::BROKEN,
            KernelError::Unreadable { source, .. } => {
                exit_of_cause(source).unwrap_or(Exit::COULD_NOT)
            }
            _ => Exit::COULD_NOT,
        };
        Self::of(exit, &error)
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::ReaderGone { path } if path == Path::new("-") => {
                Self::of(Exit::CLOSED_PIPE, &error)
            }
            PublishError::Exists { path } => Self::of(Exit::COULD_NOT, &error)
                .what_is("already exists")
                .about(path)
                .next("use --force to replace it"),
            PublishError::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let failure = Self::of(Exit::COULD_NOT, &error).names_itself();
                failure.next("create the directory with mkdir(1)")
            }
            _ => Self::of(Exit::COULD_NOT, &error),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Publish(error) => Self::from(error).names_itself(),
            WriteError::Minidump(error) => error.into(),
        }
    }
}

/// The advice for a memory image whose layout does not fit the kernel.
pub(crate) const MISPLACED: &str =
    "for a raw image, give the address of each bank: --layout START-END@OFFSET,...";

impl From<LocateError> for Failure {
    fn from(error: LocateError) -> Self {
        let exit = match &error {
            LocateError::Unsupported { .. } => Exit::UNSUPPORTED,
            // A missing symbol does not make the kernel broken.
            LocateError::NoSymbol { .. } => Exit::COULD_NOT,
            error => exit_of_cause(error).unwrap_or(Exit::BROKEN),
        };
        let failure = Self::of(exit, &error);
        match error {
            LocateError::NoKernel {
                misplaced: true, ..
            } => failure.next(MISPLACED),
            _ => failure,
        }
    }
}

impl From<TakeError> for Failure {
    fn from(error: TakeError) -> Self {
        let exit = match &error {
            TakeError::Unsupported { .. }
            | TakeError::MustPause { .. }
            | TakeError::Mem(MemError::KernelCannotLiveDump) => Exit::UNSUPPORTED,
            TakeError::Contradiction { .. } | TakeError::Qmp(QmpError::Protocol { .. }) => {
                Exit::BROKEN
            }
            TakeError::Memory { .. } => exit_of_cause(&error).unwrap_or(Exit::BROKEN),
            TakeError::Gdb(error) => exit_of_stub(error),
            TakeError::NoCpu { .. } | TakeError::RunningCpu => Exit::USAGE,
            _ => Exit::COULD_NOT,
        };
        let next = match &error {
            TakeError::RunningCpu => Some("use --pause"),
            TakeError::NotStarted => Some("start it with the QMP command cont"),
            TakeError::MustPause { .. } => {
                Some("use --pause: QEMU writes the memory while the guest is paused")
            }
            TakeError::Qmp(QmpError::Connect { .. }) => {
                Some("start QEMU with -qmp unix:SOCKET,server=on,wait=off")
            }
            TakeError::Gdb(GdbError::Connect { .. }) => {
                Some("start bhyve with -G PORT, or QEMU with -gdb tcp::PORT")
            }
            TakeError::Gdb(GdbError::Timeout { .. }) => {
                Some("check whether another client is connected; a gdb stub serves only one")
            }
            TakeError::Qmp(QmpError::Timeout { .. }) => {
                Some("check whether another client is connected; QEMU serves only one")
            }
            _ => None,
        };
        let failure = match error {
            TakeError::Locate(error) => error.into(),
            TakeError::Minidump(error) => error.into(),
            TakeError::Publish(error) => Self::from(error).names_itself(),
            TakeError::Qmp(error @ QmpError::Connect { .. }) => {
                Self::of(exit, &error).names_itself()
            }
            TakeError::Gdb(error @ GdbError::Connect { .. }) => {
                Self::of(exit, &error).names_itself()
            }
            error => Self::of(exit, &error),
        };
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

/// The exit code for a decoding error. The session replaces it if a signal has cancelled the run.
fn exit_of_stored(error: &livecore_compress::Error) -> Exit {
    match error {
        livecore_compress::Error::Broken { .. } => Exit::BROKEN,
        livecore_compress::Error::Options(_) => Exit::USAGE,
        // A read can fail because of corrupt data below it.
        livecore_compress::Error::Read(e) => {
            livecore_compress::Error::in_io(e).map_or(Exit::COULD_NOT, exit_of_stored)
        }
        _ => Exit::COULD_NOT,
    }
}

fn exit_of_stub(error: &GdbError) -> Exit {
    match error {
        GdbError::Protocol { .. } => Exit::BROKEN,
        _ => Exit::COULD_NOT,
    }
}

/// The exit code of the first decoding error, or error of a gdb stub, among the causes of `error`.
pub(crate) fn exit_of_cause(error: &(dyn StdError + 'static)) -> Option<Exit> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(stored) = cause.downcast_ref::<livecore_compress::Error>() {
            return Some(exit_of_stored(stored));
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            if let Some(stored) = livecore_compress::Error::in_io(error) {
                return Some(exit_of_stored(stored));
            }
            if let Some(stub) = error.get_ref().and_then(|e| e.downcast_ref::<GdbError>()) {
                return Some(exit_of_stub(stub));
            }
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_minidump::{PhysAddr, ReadError};

    fn broken() -> livecore_compress::Error {
        livecore_compress::Error::Broken {
            region: "zstd frame 3".into(),
            offset: 0x2000,
            found: "checksum 1".into(),
            expected: "2".into(),
        }
    }

    #[test]
    fn line_names_subject_region_offset_found_expected_and_what_to_do() {
        let line = Failure::from(broken())
            .about(Path::new("a.zst"))
            .next("try another")
            .to_string();
        assert_eq!(
            line,
            "a.zst: zstd frame 3 at offset 0x2000: found checksum 1, expected 2; try another"
        );
    }

    #[test]
    fn numbers_of_system_errors_are_not_shown() {
        for (text, shown) in [
            (
                "No such file or directory (os error 2)",
                "No such file or directory",
            ),
            ("a: x (os error 13): y (os error 2)", "a: x: y"),
            ("(os error x) (os error 2", "(os error x) (os error 2"),
        ] {
            assert_eq!(without_errno(text), shown);
        }
    }

    #[test]
    fn decoding_errors_at_any_depth_are_broken_input() {
        assert_eq!(Failure::from(broken()).exit(), Exit::BROKEN);
        let io = io::Error::from(broken());
        assert_eq!(Failure::from(io).exit(), Exit::BROKEN);
        let read = ReadError::Io {
            at: PhysAddr(0),
            source: broken().into(),
        };
        assert_eq!(Failure::from(read).exit(), Exit::BROKEN);
        let hole = ReadError::Hole { at: PhysAddr(0) };
        assert_eq!(Failure::from(hole).exit(), Exit::COULD_NOT);
    }
}
