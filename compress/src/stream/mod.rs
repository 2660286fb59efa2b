//! A stored stream, opened: whatever the codec, its content at an offset.
//!
//! Opening reads the head, the end and the seal. A stream with a seal has an index, so any part
//! of its content costs one frame (`indexed`). So has one whose frames say where they end, after
//! a walk over their headers (`rebuild`). Anything else is decoded from its front, once
//! (`foreign`).

mod cache;
mod foreign;
mod indexed;
mod options;
pub(crate) mod reader;
mod rebuild;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::seal::part::{self, PartAt};
use crate::seal::read::{self, Tail};
use crate::table::FrameTable;
use crate::{Codec, Error, Progress, ReadAt, Window};

pub use options::{OpenOptions, Sink};

use foreign::Foreign;
use indexed::Indexed;
use rebuild::Opening;

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
    codec: Codec,
    kind: StreamKind,
    stored_len: u64,
    data_len: Option<u64>,
    attachment: Option<Vec<u8>>,
    damage: Option<Error>,
    threads: NonZeroUsize,
    /// Of a seal: what lies between data and seal.
    parts: Vec<PartAt>,
    source: Arc<dyn ReadAt>,
    memory: u64,
    trailing: Option<Error>,
    content: Content,
}

enum Content {
    /// Nothing to decode and nothing to check.
    Plain(Arc<Window<Arc<dyn ReadAt>>>),
    Indexed(Arc<Indexed>),
    Foreign(Arc<Foreign>),
}

impl Stream {
    /// Opens the file at `path`: [`Self::from_source`].
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if it cannot be opened; otherwise as [`Self::from_source`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        Self::from_source(options::file(path.as_ref())?, options)
    }

    /// Opens all of `source`. Reads the head, the tail and (of a seal) the index; decodes nothing
    /// yet. "Not a compressed stream" is not an error: that is [`StreamKind::Plain`].
    ///
    /// A damaged seal is no error either: its frames are found by walking over the stream, and
    /// [`Self::seal_damage`] says what is wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; [`Error::Broken`] of an uncompressed stream whose seal does not tell where
    /// its content ends.
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let len = source.size().map_err(Error::Read)?;
        let mut head = [0; 64];
        let n = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
        let sniffed = Codec::sniff(&head[..n]);
        let tail = read::tail(&source, len)?;
        let opening = |codec| Opening {
            source: Arc::clone(&source),
            options,
            codec,
            len,
        };
        match tail {
            Tail::Bare => opening(sniffed).bare(),
            Tail::Seal { codec, start } => {
                match start.and_then(|start| read::parse(&source, codec, start, len)) {
                    Ok(parsed) => Ok(opening(codec).sealed(parsed)),
                    Err(Error::Read(error)) => Err(Error::Read(error)),
                    // A stream cut behind its seal's footer may end as one of another codec does.
                    Err(_) if sniffed != Codec::None && codec != sniffed => opening(sniffed).bare(),
                    Err(damage) => opening(codec).damaged(damage),
                }
            }
            Tail::SeekTable(damage) => opening(Codec::Zstd).damaged_or_foreign(damage),
        }
    }

    /// The codec of the data frames.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What kind of stream it is.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The attachment of a seal, already checked.
    pub fn attachment(&self) -> Option<&[u8]> {
        self.attachment.as_deref()
    }

    /// The list of this kind that the seal keeps, if there is one; the kinds are in
    /// [`seal::format`](crate::seal::format).
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if it is longer than the options allow, [`Error::Read`], and
    /// [`Error::Broken`] if the file has been changed since it was opened.
    pub fn list(&self, kind: u32) -> Result<Option<Vec<u8>>, Error> {
        part::read_list(&*self.source, &self.parts, kind, self.memory / 4)
    }

    /// A problem with the seal that did not stop the stream from being opened (the index was
    /// rebuilt, the attachment is lost), in words.
    pub fn seal_damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Bytes of the whole stream as it is stored, seal and all.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Bytes of the data frames alone, if there is a seal: what lies before it.
    pub fn data_len(&self) -> Option<u64> {
        self.data_len
    }

    /// The frames, if they are known: of a seal, or of a stream whose frames say where they end.
    pub fn frames(&self) -> Option<&FrameTable> {
        match &self.content {
            Content::Indexed(indexed) => Some(indexed.table()),
            Content::Plain(_) | Content::Foreign(_) => None,
        }
    }

    /// The content, at any offset, from any number of threads. Of a stream whose frames are known
    /// everything it returns has been checked against the frame's own checksum. Of a foreign
    /// stream, the first read beyond what has been decoded so far goes on with its one decoding
    /// pass; its checksum is at its end, so what has been read is checked when
    /// [`Self::finish`] says so.
    ///
    /// A read in a damaged frame, and beyond the place where a foreign stream breaks off, is an
    /// error that carries an [`Error::Broken`]. Once the pass has come upon damage, so is any read in
    /// the foreign frame that is damaged, also of bytes that have been read before.
    pub fn content(&self) -> Arc<dyn ReadAt> {
        match &self.content {
            Content::Plain(window) => Arc::clone(window) as Arc<dyn ReadAt>,
            Content::Indexed(indexed) => Arc::clone(indexed) as Arc<dyn ReadAt>,
            Content::Foreign(foreign) => Arc::clone(foreign) as Arc<dyn ReadAt>,
        }
    }

    /// What follows a complete foreign stream and is no part of it: gzip(1) and zstd(1) warn of such
    /// bytes. Of a stream that is decoded from its front it is known when that has been done to its
    /// end. It is no error of the content, unless that ends before it should: then what follows may
    /// be the rest, damaged.
    pub fn trailing(&self) -> Option<&Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.trailing(),
            Content::Indexed(_) | Content::Plain(_) => self.trailing.as_ref(),
        }
    }

    /// The damage that decoding a foreign stream has come upon so far. Decodes nothing.
    pub fn known_damage(&self) -> Option<&Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.failed(),
            Content::Indexed(_) | Content::Plain(_) => None,
        }
    }

    /// Content length if it is known without decoding (a seal, an uncompressed stream).
    pub fn known_len(&self) -> Option<u64> {
        match &self.content {
            Content::Plain(window) => window.size().ok(),
            Content::Indexed(indexed) => indexed.known_len(),
            Content::Foreign(foreign) => foreign.known_len(),
        }
    }

    /// How much content can be read from the front, and what stops it there. Decodes a foreign
    /// stream to its end; of any other, nothing is decoded, and frames that are cut off at the
    /// end of the stream are known already.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] and [`Error::Write`], which is the spool's. What is wrong with the stream is
    /// part of the answer.
    pub fn readable(&self) -> Result<(u64, Option<Error>), Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.readable(),
            Content::Plain(window) => Ok((window.size().map_err(Error::Read)?, None)),
            Content::Indexed(indexed) => Ok(indexed.readable()),
        }
    }

    /// Checks what [`Self::content`] has returned so far: of a foreign stream, by decoding it to its
    /// end; what had not been reached is lost then, and an error to read. Anything else has been
    /// checked already, and nothing needs to be if nothing was read.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the stream does not end as it should, [`Error::Read`],
    /// [`Error::Cancelled`].
    pub fn finish(&self, progress: &dyn Progress) -> Result<(), Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.finish(progress),
            Content::Plain(_) | Content::Indexed(_) => Ok(()),
        }
    }

    /// Decodes everything in order, in parallel where the stream allows it, and gives it to
    /// `sink` piece by piece with the piece's offset. Every checksum is verified. Pieces that a
    /// sink would rather skip can be told with [`crate::is_zero`].
    /// Returns the length of the content.
    ///
    /// All pieces before a damaged one have been given to `sink` when its error comes.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] of the first piece that is damaged, [`Error::Read`], the sink's own error,
    /// [`Error::Cancelled`].
    pub fn decode(&self, sink: &mut Sink<'_>, progress: &dyn Progress) -> Result<u64, Error> {
        match &self.content {
            Content::Plain(window) => plain(&**window, sink, progress),
            Content::Indexed(indexed) => indexed.decode(self.threads, sink, progress),
            Content::Foreign(foreign) => foreign.decode(sink, progress),
        }
    }

    /// Checks every byte: the seal if there is one, every frame, every checksum, and that nothing
    /// lies between or behind. Returns the length of the content.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`], and [`Error::Broken`] if the seal is damaged.
    pub fn check(&self, progress: &dyn Progress) -> Result<u64, Error> {
        if let Some(damage) = &self.damage {
            return Err(damage.again());
        }
        let len = self.decode(&mut |_, _| Ok(()), progress)?;
        match self.trailing() {
            Some(trailing) => Err(trailing.again()),
            None => Ok(len),
        }
    }
}

/// Gives an uncompressed stream to a sink.
fn plain(source: &dyn ReadAt, sink: &mut Sink<'_>, progress: &dyn Progress) -> Result<u64, Error> {
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let n = source.read_full_at(&mut piece, at).map_err(Error::Read)?;
        if n == 0 {
            return Ok(at);
        }
        sink(at, &piece[..n])?;
        progress.advance(n as u64, n as u64);
        at += n as u64;
    }
}
