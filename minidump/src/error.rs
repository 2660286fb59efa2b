//! Errors.

use std::io;

/// An error of opening, reading, writing or converting a dump.
///
/// [`Error::Io`] is an error of the system, [`Error::Broken`] an error in the input.
/// [`Error::NotADump`] and [`Error::Unsupported`] mean that the input needs another program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An I/O error.
    #[error("{what}: {source}")]
    Io {
        /// The operation (`read`, `write`) or a path.
        what: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The input contradicts its format or itself.
    #[error("{region} at offset {offset:#x}: found {found}, expected {expected}")]
    Broken {
        /// The part of the file: `minidump header, pmapsize`, `dump_avail entry 3`.
        region: String,
        /// Its offset: in the payload if the region is part of the payload, else in the file.
        offset: u64,
        /// The contents.
        found: String,
        /// The expected contents.
        expected: String,
    },
    /// The input is not a kernel dump.
    #[error("not a kernel dump: {found}")]
    NotADump {
        /// A description of the input.
        found: String,
    },
    /// The kind or version of the dump is not supported.
    #[error("not supported: {what}")]
    Unsupported {
        /// The kind or version.
        what: String,
    },
    /// The dump is encrypted, and no private key was given.
    #[error("encrypted with {cipher}")]
    Encrypted {
        /// The name of the cipher.
        cipher: &'static str,
    },
    /// The private key is not the one for the dump.
    #[error("wrong private key, or damaged key block: {why}")]
    WrongKey {
        /// What does not match.
        why: String,
    },
    /// A file is not a usable key.
    #[error("not a usable key: {what}")]
    KeyFile {
        /// The reason.
        what: String,
    },
    /// The kernel file does not have a required symbol.
    #[error("the kernel file has no symbol {0}")]
    NoSymbol(&'static str),
    /// The input exceeds a limit in the caller's options, or the options are invalid.
    #[error("{0}")]
    Options(String),
    /// [`livecore_compress::Progress::cancelled`] of the caller returned true.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Creates an [`Error::Broken`].
    pub fn broken(
        region: impl Into<String>,
        offset: u64,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Broken {
            region: region.into(),
            offset,
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// Converts an I/O error of the operation or path `what`. If it has an error of the `compress`
    /// crate, that error is converted instead.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.downcast::<livecore_compress::Error>() {
            Ok(error) => error.into(),
            Err(source) => Self::Io {
                what: what.into(),
                source,
            },
        }
    }
}

impl From<livecore_compress::Error> for Error {
    fn from(error: livecore_compress::Error) -> Self {
        match error {
            livecore_compress::Error::Read(source) => Self::io("read", source),
            livecore_compress::Error::Write(source) => Self::io("write", source),
            livecore_compress::Error::Broken {
                region,
                offset,
                found,
                expected,
            } => Self::Broken {
                region,
                offset,
                found,
                expected,
            },
            livecore_compress::Error::Cancelled => Self::Cancelled,
            other => Self::Options(other.to_string()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::io("read", source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compress_error_in_an_io_error_is_converted() {
        let inner = livecore_compress::Error::Broken {
            region: "zstd frame 1".into(),
            offset: 7,
            found: "a".into(),
            expected: "b".into(),
        };
        let error = Error::from(io::Error::from(inner));
        assert!(matches!(error, Error::Broken { offset: 7, .. }), "{error}");
        let plain = Error::from(io::Error::from(io::ErrorKind::NotFound));
        assert!(matches!(plain, Error::Io { .. }));
    }
}
