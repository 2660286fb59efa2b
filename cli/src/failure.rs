//! Why a verb did not do what it was asked: one line for people, one code for scripts.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use livecore_kernel::locate::LocateError;
use livecore_livedump::mem4::MemError;
use livecore_livedump::publish::{PublishError, WriteError};
use livecore_livedump::qmp::QmpError;
use livecore_livedump::take::TakeError;

use crate::exit::Exit;

/// One clear line and its exit code.
///
/// The line is `SUBJECT: what happened`, then `; what to do next` where there is something.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    subject: Subject,
    what: String,
    next: Option<String>,
}

/// What a failure is about.
#[derive(Debug, Default)]
enum Subject {
    /// Not known yet.
    #[default]
    Unnamed,
    /// The failure's own text names it.
    InText,
    /// A file, a device, a socket.
    Named(String),
}

impl Failure {
    /// A failure with its code.
    pub fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self {
            exit,
            subject: Subject::Unnamed,
            what: without_errno(&what.to_string()),
            next: None,
        }
    }

    /// The command line makes no sense, in a way that the parser could not see.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::USAGE, what)
    }

    /// The world around us said no.
    pub fn could_not(what: impl fmt::Display) -> Self {
        Self::new(Exit::COULD_NOT, what)
    }

    /// The input is broken.
    pub fn broken(what: impl fmt::Display) -> Self {
        Self::new(Exit::BROKEN, what)
    }

    /// Names what the failure is about, unless that was named before.
    #[must_use]
    pub fn about(mut self, subject: &Path) -> Self {
        if let Subject::Unnamed = self.subject {
            self.subject = Subject::Named(subject.display().to_string());
        }
        self
    }

    /// Says that the text names what the failure is about.
    #[must_use]
    fn names_itself(mut self) -> Self {
        self.subject = Subject::InText;
        self
    }

    /// Says what can be done about it.
    #[must_use]
    pub fn next(mut self, what: impl fmt::Display) -> Self {
        self.next = Some(what.to_string());
        self
    }

    /// The same with another code, for a verb with codes of its own.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What happened, without the subject.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// `text` without the numbers that std puts behind a system's error: `(os error 2)`.
fn without_errno(text: &str) -> String {
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
        if let Subject::Named(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// An error of the stored bytes inside an I/O error keeps its meaning.
    fn from(error: io::Error) -> Self {
        match livecore_compress::Error::in_io(&error) {
            Some(inner) => Self::new(exit_of_stored(inner), inner),
            None => Self::could_not(error),
        }
    }
}

impl From<livecore_compress::Error> for Failure {
    fn from(error: livecore_compress::Error) -> Self {
        Self::new(exit_of_stored(&error), &error)
    }
}

impl From<livecore_minidump::Error> for Failure {
    fn from(error: livecore_minidump::Error) -> Self {
        use livecore_minidump::Error;
        match error {
            Error::Broken { .. } => Self::broken(error),
            Error::NotADump { .. } | Error::Unsupported { .. } => {
                Self::new(Exit::UNSUPPORTED, error)
            }
            // The path or the deed that the error names is told by the subject.
            Error::Io { source, .. } => Self::from(source),
            _ => Self::could_not(error),
        }
    }
}

impl From<livecore_minidump::ReadError> for Failure {
    fn from(error: livecore_minidump::ReadError) -> Self {
        let exit = exit_of_cause(&error).unwrap_or(Exit::COULD_NOT);
        Self::new(exit, &error)
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
        Self::new(exit, &error)
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::ReaderGone { path } if path == Path::new("-") => {
                Self::new(Exit::CLOSED_PIPE, &error)
            }
            PublishError::Exists { .. } => Self::could_not(&error).next("--force replaces it"),
            _ => Self::could_not(&error),
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

/// What to do if the kernel is there and its memory does not fit it.
pub(crate) const MISPLACED: &str = "if this is a raw image, say which addresses it holds, bank by bank: \
                                    --layout START-END@OFFSET,...";

impl From<LocateError> for Failure {
    fn from(error: LocateError) -> Self {
        let exit = match &error {
            LocateError::Unsupported { .. } => Exit::UNSUPPORTED,
            // A kernel that lacks something is not broken.
            LocateError::NoSymbol { .. } => Exit::COULD_NOT,
            _ => Exit::BROKEN,
        };
        let failure = Self::new(exit, &error);
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
            TakeError::Contradiction { .. }
            | TakeError::Memory { .. }
            | TakeError::Qmp(QmpError::Protocol { .. }) => Exit::BROKEN,
            TakeError::NoCpu { .. } | TakeError::RunningCpu => Exit::USAGE,
            _ => Exit::COULD_NOT,
        };
        let next = match &error {
            TakeError::RunningCpu => Some("say --pause"),
            TakeError::MustPause { .. } => {
                Some("--pause has QEMU write the memory, and stops the guest for as long")
            }
            TakeError::Qmp(QmpError::Connect { .. }) => {
                Some("QEMU listens there with -qmp unix:SOCKET,server=on,wait=off")
            }
            TakeError::Qmp(QmpError::Timeout { .. }) => {
                Some("QEMU serves one client at a time: is another one connected?")
            }
            _ => None,
        };
        let failure = match error {
            TakeError::Locate(error) => error.into(),
            TakeError::Minidump(error) => error.into(),
            TakeError::Publish(error) => Self::from(error).names_itself(),
            TakeError::Qmp(error @ QmpError::Connect { .. }) => {
                Self::new(exit, error).names_itself()
            }
            error => Self::new(exit, error),
        };
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

/// The code of an error about stored bytes. A cancelled run gets its signal's code elsewhere.
fn exit_of_stored(error: &livecore_compress::Error) -> Exit {
    match error {
        livecore_compress::Error::Broken { .. } => Exit::BROKEN,
        livecore_compress::Error::Options(_) => Exit::USAGE,
        // A read can fail because of bytes further down.
        livecore_compress::Error::Read(e) => {
            livecore_compress::Error::in_io(e).map_or(Exit::COULD_NOT, exit_of_stored)
        }
        _ => Exit::COULD_NOT,
    }
}

/// The code that the first error about stored bytes among an error's causes has.
pub(crate) fn exit_of_cause(error: &(dyn StdError + 'static)) -> Option<Exit> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(stored) = cause.downcast_ref::<livecore_compress::Error>() {
            return Some(exit_of_stored(stored));
        }
        if let Some(stored) = cause
            .downcast_ref::<io::Error>()
            .and_then(livecore_compress::Error::in_io)
        {
            return Some(exit_of_stored(stored));
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
    fn broken_bytes_are_broken_input_however_deep_they_lie() {
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
