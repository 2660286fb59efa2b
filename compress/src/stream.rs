//! A stored stream, opened: whatever the codec, its content at an offset. (Interface.)

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Codec, Error, Progress, ReadAt};

/// How a stream is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Workers for decoding ahead and for [`Stream::decode`].
    pub threads: NonZeroUsize,
    /// Decoded bytes that may be kept in memory.
    pub cache: u64,
    /// Where a foreign stream's spool goes (an unlinked file); the system's folder if `None`.
    pub spool_dir: Option<PathBuf>,
}

/// What a stored stream turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Uncompressed bytes without a seal.
    Plain,
    /// Ours: frames, index, attachment.
    Sealed,
    /// A compressed stream that somebody else wrote (or ours without its seal).
    Foreign,
}

/// A stored stream, opened.
pub struct Stream {
    _private: (),
}

impl Stream {
    /// Opens all of `source`. Reads the head, the tail and (of a seal) the index; decodes nothing
    /// yet. "Not a compressed stream" is not an error: that is [`StreamKind::Plain`].
    pub fn open(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let _ = (source, options);
        unreachable!("not written yet")
    }

    /// The codec of the data frames.
    pub fn codec(&self) -> Codec {
        unreachable!("not written yet")
    }

    /// What kind of stream it is.
    pub fn kind(&self) -> StreamKind {
        unreachable!("not written yet")
    }

    /// The attachment of a seal, already checked.
    pub fn attachment(&self) -> Option<&[u8]> {
        unreachable!("not written yet")
    }

    /// A problem with the seal that did not stop the stream from being opened (the index was
    /// rebuilt, the attachment is lost), in words.
    pub fn seal_damage(&self) -> Option<&Error> {
        unreachable!("not written yet")
    }

    /// The content, at any offset, from any number of threads. Everything it returns has been
    /// checked against the frame's own checksum. Of a foreign stream, the first read beyond what
    /// has been decoded so far goes on with its one decoding pass.
    pub fn content(&self) -> Arc<dyn ReadAt> {
        unreachable!("not written yet")
    }

    /// Content length if it is known without decoding (a seal, an uncompressed stream).
    pub fn known_len(&self) -> Option<u64> {
        unreachable!("not written yet")
    }

    #[expect(
        clippy::type_complexity,
        reason = "a sink of pieces reads better in place"
    )]
    /// Decodes everything in order, in parallel where the stream allows it, and gives it to
    /// `sink` piece by piece with the piece's offset. Every checksum is verified.
    /// Returns the length of the content.
    pub fn decode(
        &self,
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<(), Error>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let _ = (sink, progress);
        unreachable!("not written yet")
    }
}
