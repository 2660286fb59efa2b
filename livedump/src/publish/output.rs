//! Writes a dump to a destination or to an open stream.

use std::io::Write;
use std::path::PathBuf;

use livecore_compress::InOrder;
use livecore_minidump::Error;
use livecore_minidump::convert::Written;

use super::{Destination, Options, Pending, PublishError, Published, info};

/// The output of a dump.
pub enum Output<'a> {
    /// A destination; the file gets its name when it is complete.
    Destination(&'a Destination),
    /// A destination that was opened before.
    Begun(Pending),
    /// An open stream.
    Stream(&'a mut dyn Write),
}

impl<'a> Output<'a> {
    /// Opens the output, like [`Destination::begin`].
    ///
    /// # Errors
    ///
    /// See [`Destination::begin`].
    pub fn begin(self, options: &Options) -> Result<Sink<'a>, PublishError> {
        Ok(match self {
            Self::Destination(destination) => Sink::Pending(destination.begin(options)?),
            Self::Begun(pending) => Sink::Pending(pending),
            Self::Stream(stream) => Sink::Stream(stream),
        })
    }
}

/// The open output of a dump.
pub enum Sink<'a> {
    /// A temporary file, or a special file.
    Pending(Pending),
    /// An open stream.
    Stream(&'a mut dyn Write),
}

impl Sink<'_> {
    /// The path for messages; `-` for a stream.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Pending(pending) => pending.path(),
            Self::Stream(_) => "-".into(),
        }
    }

    /// Checks that a dump of `len` bytes fits. A stream has no limit.
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

    /// Writes the dump with `write`.
    ///
    /// # Errors
    ///
    /// [`WriteError::Publish`] if the bytes could not be written, [`WriteError::Minidump`] for any
    /// other error of `write`.
    pub fn write(
        &mut self,
        write: impl FnOnce(&mut dyn livecore_compress::Output) -> Result<Written, Error>,
    ) -> Result<Written, WriteError> {
        let path = self.path();
        let written = match self {
            Self::Pending(pending) => write(pending),
            Self::Stream(stream) => write(&mut InOrder(stream)),
        };
        written.map_err(|error| match error {
            Error::Io { what, source } if what == "write" => {
                WriteError::Publish(PublishError::of_write(path, source))
            }
            other => WriteError::Minidump(other),
        })
    }

    /// Publishes the dump; `device` is the device in `info.N`.
    ///
    /// # Errors
    ///
    /// See [`Pending::publish`].
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

/// Why a dump was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It could not be read or encoded.
    #[error(transparent)]
    Minidump(#[from] Error),
}
