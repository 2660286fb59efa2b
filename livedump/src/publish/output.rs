//! A dump on its way to a destination, or to a stream that is open already.

use std::io::Write;
use std::path::PathBuf;

use livecore_minidump::Error;
use livecore_minidump::convert::Written;

use super::{Destination, Options, Pending, PublishError, Published, info};

/// Where a dump goes.
pub enum Output<'a> {
    /// To a destination; a file has its name when it is complete.
    Destination(&'a Destination),
    /// To a destination that was begun before.
    Begun(Pending),
    /// To a stream that is open already.
    Stream(&'a mut dyn Write),
}

impl<'a> Output<'a> {
    /// Prepares to write, as [`Destination::begin`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Destination::begin`].
    pub fn begin(self, options: &Options) -> Result<Sink<'a>, PublishError> {
        Ok(match self {
            Self::Destination(destination) => Sink::Pending(destination.begin(options)?),
            Self::Begun(pending) => Sink::Pending(pending),
            Self::Stream(stream) => Sink::Stream(stream),
        })
    }
}

/// What the bytes of a dump are written to.
pub enum Sink<'a> {
    /// A file without a name, or a special file.
    Pending(Pending),
    /// A stream that is open already.
    Stream(&'a mut dyn Write),
}

impl Sink<'_> {
    /// Where the bytes go now, for messages; `-` is a stream.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Pending(pending) => pending.path(),
            Self::Stream(_) => "-".into(),
        }
    }

    /// Checks that a dump of `len` bytes fits. A stream takes any length.
    ///
    /// # Errors
    ///
    /// [`PublishError::NotEnoughSpace`].
    pub fn reserve(&mut self, len: u64) -> Result<(), PublishError> {
        match self {
            Self::Pending(pending) => pending.reserve(len),
            Self::Stream(_) => Ok(()),
        }
    }

    /// Has `write` write the dump.
    ///
    /// # Errors
    ///
    /// [`WriteError::Publish`] if the bytes could not be written, [`WriteError::Minidump`] for any
    /// other error of `write`.
    pub fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<Written, Error>,
    ) -> Result<Written, WriteError> {
        let path = self.path();
        let sink: &mut dyn Write = match self {
            Self::Pending(pending) => pending,
            Self::Stream(stream) => *stream,
        };
        write(sink).map_err(|error| match error {
            Error::Io { what, source } if what == "write" => {
                WriteError::Publish(PublishError::of_write(path, source))
            }
            other => WriteError::Minidump(other),
        })
    }

    /// Gives the dump its name; `device` is the one that `info.N` names.
    ///
    /// # Errors
    ///
    /// Those of [`Pending::publish`].
    pub fn publish(self, written: &Written, device: &str) -> Result<Published, PublishError> {
        match self {
            Self::Pending(pending) => {
                pending.publish(&|n| info::of_written(written, device, n).into_bytes())
            }
            Self::Stream(_) => Ok(Published {
                path: "-".into(),
                number: None,
                len: written.file_len,
                notes: Vec::new(),
            }),
        }
    }
}

/// Why a dump could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Its bytes could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It could not be read or encoded.
    #[error(transparent)]
    Minidump(#[from] Error),
}
