//! Errors of the libraries as Python exceptions.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use livecore_compress::Error as CompressError;
use livecore_kernel::locate::LocateError;
use livecore_kernel::{KernelError, PairError};
use livecore_livedump::conversion::ConversionError;
use livecore_livedump::publish::{PublishError, WriteError};
use livecore_livedump::take::TakeError;
use livecore_minidump::{Error, ReadError};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A class of `livecore._errors`, or of the system's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Error,
    NotADump,
    Broken,
    Unsupported,
    Encrypted,
    NotMapped,
    NotInDump,
    Unreadable,
    Kernel,
    Closed,
    Panic,
    /// `OSError`, or its class for an errno.
    System(i32),
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Error | Self::System(_) => "Error",
            Self::NotADump => "NotADumpError",
            Self::Broken => "BrokenError",
            Self::Unsupported => "UnsupportedError",
            Self::Encrypted => "EncryptedError",
            Self::NotMapped => "NotMappedError",
            Self::NotInDump => "NotInDumpError",
            Self::Unreadable => "ReadError",
            Self::Kernel => "KernelError",
            Self::Closed => "ClosedError",
            Self::Panic => "PanicError",
        }
    }
}

/// An error, before it is an exception.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    text: Box<str>,
    region: Option<Box<str>>,
    offset: Option<u64>,
    address: Option<u64>,
    found: Option<Box<str>>,
    expected: Option<Box<str>>,
    /// The file of a system's error.
    path: Option<Box<str>>,
}

impl Failure {
    pub(crate) fn new(class: Class, text: impl ToString) -> Self {
        Self {
            class,
            text: text.to_string().into(),
            region: None,
            offset: None,
            address: None,
            found: None,
            expected: None,
            path: None,
        }
    }

    pub(crate) fn closed() -> Self {
        Self::new(Class::Closed, "the dump is closed")
    }

    pub(crate) fn panic(text: String) -> Self {
        Self::new(Class::Panic, format_args!("bug in livecore: {text}"))
    }

    /// The failure with the file that it is about.
    pub(crate) fn about(mut self, path: &Path) -> Self {
        let path = path.display().to_string();
        match self.class {
            Class::System(_) => {
                self.path.get_or_insert(path.into());
            }
            _ => self.text = format!("{path}: {}", self.text).into(),
        }
        self
    }

    fn of_contents(region: &str, found: impl ToString, expected: &str, text: String) -> Self {
        Self {
            region: Some(region.into()),
            found: Some(found.to_string().into()),
            expected: Some(expected.into()),
            ..Self::new(Class::Broken, text)
        }
    }

    fn at(class: Class, address: u64, text: String) -> Self {
        Self {
            address: Some(address),
            ..Self::new(class, text)
        }
    }

    /// The location in the cause of a read error, and the address at which it occurred.
    fn unreadable(address: u64, source: io::Error, text: String) -> Self {
        let cause = Self::from(source);
        let class = match cause.class {
            Class::Broken => Class::Broken,
            _ => Class::Unreadable,
        };
        Self {
            class,
            text: text.into(),
            address: Some(address),
            path: None,
            ..cause
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<CompressError>() {
            Ok(inner) => return Error::from(inner).into(),
            Err(error) => error,
        };
        let text = error.to_string();
        match error.raw_os_error() {
            Some(number) => {
                // Python prints the number.
                let number_of_rust = format!(" (os error {number})");
                let text = text.strip_suffix(&number_of_rust).unwrap_or(&text);
                Self::new(Class::System(number), text)
            }
            None => Self::new(Class::Error, text),
        }
    }
}

impl From<CompressError> for Failure {
    fn from(error: CompressError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Io { what, source } => {
                let cause = Self::from(source);
                match cause.class {
                    // The operation is not a file.
                    Class::System(_) if what == "read" || what == "write" => cause,
                    Class::System(_) => cause.about(what.as_ref()),
                    _ => Self {
                        text: text.into(),
                        ..cause
                    },
                }
            }
            Error::Broken {
                region,
                offset,
                found,
                expected,
            } => Self {
                offset: Some(offset),
                ..Self::of_contents(&region, found, &expected, text)
            },
            Error::NotADump { .. } => Self::new(Class::NotADump, text),
            Error::Unsupported { .. } => Self::new(Class::Unsupported, text),
            Error::Encrypted { .. } | Error::WrongKey { .. } | Error::KeyFile { .. } => {
                Self::new(Class::Encrypted, text)
            }
            Error::NoSymbol(_) => Self::new(Class::Kernel, text),
            _ => Self::new(Class::Error, text),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::NotMapped { at, .. } => Self::at(Class::NotMapped, at.0, text),
            ReadError::Hole { at } | ReadError::Excluded { at, .. } => {
                Self::at(Class::NotInDump, at.0, text)
            }
            ReadError::BeyondEnd { at, offset, .. } => Self {
                offset: Some(offset),
                ..Self::at(Class::NotInDump, at.0, text)
            },
            ReadError::Tables { at, source } => Self::unreadable(at.0, source, text),
            ReadError::Io { at, source } => Self::unreadable(at.0, source, text),
            _ => Self::new(Class::Unreadable, text),
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let text = error.to_string();
        match error {
            KernelError::Unreadable { what, at, source } => {
                let cause = Self::from(source);
                Self {
                    text: text.into(),
                    address: cause.address.or(Some(at.0)),
                    region: cause.region.or(Some(what.into())),
                    ..cause
                }
            }
            KernelError::Implausible {
                what,
                found,
                expected,
            } => Self::of_contents(&what, format_args!("{found:#x}"), expected, text),
            KernelError::UnknownMachine(_) => Self::new(Class::Unsupported, text),
            _ => Self::new(Class::Kernel, text),
        }
    }
}

impl From<LocateError> for Failure {
    fn from(error: LocateError) -> Self {
        let text = error.to_string();
        match error {
            LocateError::Unsupported { .. } => Self::new(Class::Unsupported, text),
            LocateError::Contradiction {
                what,
                found,
                expected,
            } => Self::of_contents(what, found, &expected, text),
            LocateError::Memory { what, source } => Self {
                text: text.into(),
                region: Some(what.into()),
                ..source.into()
            },
            _ => Self::new(Class::Kernel, text),
        }
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        let text = error.to_string();
        match error {
            PairError::Open { path, source } => Self::from(source).about(&path),
            PairError::Format(error) => error.into(),
            PairError::Locate(error) => error.into(),
            PairError::Kernel(error) => error.into(),
            PairError::AnotherKernel { what, kernel, dump } => Self {
                class: Class::Kernel,
                ..Self::of_contents(what, kernel, &dump, text)
            },
            _ => Self::new(Class::Kernel, text),
        }
    }
}

impl From<TakeError> for Failure {
    fn from(error: TakeError) -> Self {
        let text = error.to_string();
        match error {
            TakeError::Locate(error) => error.into(),
            TakeError::Contradiction {
                what,
                found,
                expected,
            } => Self::of_contents(what, found, &expected, text),
            TakeError::Memory { source, .. } => Self {
                text: text.into(),
                ..source.into()
            },
            TakeError::Minidump(error) => error.into(),
            TakeError::Publish(error) => error.into(),
            TakeError::Unsupported { .. } => Self::new(Class::Unsupported, text),
            _ => Self::new(Class::Error, text),
        }
    }
}

impl From<ConversionError> for Failure {
    fn from(error: ConversionError) -> Self {
        match error {
            ConversionError::Take(error) => error.into(),
            ConversionError::Minidump(error) => error.into(),
            error => Self::new(Class::Kernel, error),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        // EEXIST of Linux and FreeBSD; Python derives FileExistsError from it.
        const EEXIST: i32 = 17;
        let cause = StdError::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let number = cause.and_then(io::Error::raw_os_error);
        let number = match &error {
            PublishError::Exists { .. } => Some(EEXIST),
            _ => number,
        };
        Self::new(number.map_or(Class::Error, Class::System), error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Publish(error) => error.into(),
            WriteError::Minidump(error) => error.into(),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| exception(py, failure).unwrap_or_else(|error| error))
    }
}

fn exception(py: Python<'_>, failure: Failure) -> PyResult<PyErr> {
    if let Class::System(number) = failure.class {
        return Ok(PyOSError::new_err(match failure.path {
            Some(path) => (number, String::from(failure.text), Some(String::from(path))),
            None => (number, String::from(failure.text), None),
        }));
    }
    let class = py
        .import("livecore._errors")?
        .getattr(failure.class.name())?;
    let details = PyDict::new(py);
    details.set_item("region", failure.region.as_deref())?;
    details.set_item("offset", failure.offset)?;
    details.set_item("address", failure.address)?;
    details.set_item("found", failure.found.as_deref())?;
    details.set_item("expected", failure.expected.as_deref())?;
    Ok(PyErr::from_value(
        class.call((&*failure.text,), Some(&details))?,
    ))
}
