//! What can go wrong with a dump.

use std::io;

/// Why a dump could not be opened, read, written or converted.
///
/// A caller treats the variants differently: [`Error::Io`] is about the world around us,
/// [`Error::Broken`] about the input, and [`Error::NotADump`] and [`Error::Unsupported`] say that
/// the input is for somebody else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done: `read`, `write`, or a path.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The input contradicts its format or itself.
    #[error("{region} at offset {offset:#x}: found {found}, expected {expected}")]
    Broken {
        /// The part of the file: `minidump header, pmapsize`, `dump_avail entry 3`.
        region: String,
        /// Where it lies: in the payload for what is inside of it, else in the file.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The input is no kernel dump at all.
    #[error("not a kernel dump: {found}")]
    NotADump {
        /// What it is, as far as one can tell.
        found: String,
    },
    /// A kernel dump of a kind or version that is not supported.
    #[error("not supported: {what}")]
    Unsupported {
        /// Which kind.
        what: String,
    },
    /// The kernel's file lacks a symbol that leads to what is asked for.
    #[error("the kernel file has no symbol {0}")]
    NoSymbol(&'static str),
    /// A limit of the caller's options would be exceeded, or the options make no sense.
    #[error("{0}")]
    Options(String),
    /// The caller's [`livecore_compress::Progress::cancelled`] said so.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The input contradicts its format.
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

    /// An I/O error at `what`; an error of the `compress` crate inside it comes out as what it is.
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
    fn an_error_of_the_codec_keeps_its_meaning_through_io() {
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
