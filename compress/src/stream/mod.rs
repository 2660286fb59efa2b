//! Random access to the content of a stored stream, in any codec.
//!
//! Opening reads the beginning, the end and the seal. A sealed stream has an index, so that a read
//! decodes one frame (`indexed`). If frames state their lengths, a walk over their headers gives the
//! same (`rebuild`). Other streams are decoded once, from their beginning (`foreign`), and read from the
//! restart points that this pass finds (`restarts`).

mod cache;
mod foreign;
mod indexed;
mod options;
mod point;
pub(crate) mod reader;
mod rebuild;
mod restart_cache;
mod restarts;
mod unstored;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::seal::format::CIPHER_NONE;
use crate::seal::part::{self, PartAt};
use crate::seal::read::{self, Tail};
use crate::table::FrameTable;
use crate::{Codec, Error, Output, Progress, ReadAt, Window};

pub use options::{OpenOptions, Sink};
pub use restart_cache::RestartCache;

use foreign::Foreign;
use indexed::Indexed;
use rebuild::Opening;

/// The kind of a stored stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Uncompressed bytes without a seal.
    Plain,
    /// A sealed stream: frames, index, attachment.
    Sealed,
    /// A compressed stream without a seal.
    Foreign,
}

/// An open stored stream.
pub struct Stream {
    codec: Codec,
    cipher: u8,
    kind: StreamKind,
    stored_len: u64,
    data_len: Option<u64>,
    attachment: Option<Vec<u8>>,
    damage: Option<Error>,
    threads: NonZeroUsize,
    /// The parts between data and seal.
    parts: Vec<PartAt>,
    source: Arc<dyn ReadAt>,
    memory: u64,
    trailing: Option<Error>,
    /// Whether the known frames are those of a stream that was truncated after one of them.
    looks_cut: bool,
    content: Content,
}

enum Content {
    /// Uncompressed, without checks.
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

    /// Opens all of `source`. Reads the beginning, the end and the index of a seal, and does not
    /// decode. An uncompressed source is [`StreamKind::Plain`].
    ///
    /// The beginning determines the codec ([`OpenOptions::codec`]). A seal of another codec at the end
    /// is not a seal of this stream. If the beginning has no magic, the end determines the codec.
    ///
    /// A damaged seal is not an error: a walk over the stream finds the frames, and
    /// [`Self::seal_damage`] returns the damage.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; [`Error::Broken`] if the damage of an uncompressed stream's seal hides the end
    /// of the content.
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let len = source.size().map_err(Error::Read)?;
        let begins = options.codec_of(&source)?;
        let codec = begins.unwrap_or(Codec::None);
        let tail = read::tail(&source, len)?;
        let opening = |codec| Opening {
            source: Arc::clone(&source),
            options,
            codec,
            len,
        };
        match tail {
            Tail::Bare => opening(codec).bare(),
            // Encrypted content can begin with any bytes.
            Tail::Seal {
                codec: Codec::None,
                start: Ok(start),
            } if begins.is_some_and(|codec| codec != Codec::None) => {
                match read::parse(&source, Codec::None, start, len) {
                    Ok(parsed) if parsed.header.cipher != CIPHER_NONE => {
                        Ok(opening(Codec::None).sealed(parsed))
                    }
                    Err(Error::Read(error)) => Err(Error::Read(error)),
                    _ => opening(codec).bare(),
                }
            }
            // The end of another stream: bytes after this one, or part of an uncompressed content.
            tail if begins.is_some() && tail.codec() != begins => opening(codec).bare(),
            Tail::Seal { codec, start } => {
                match start.and_then(|start| read::parse(&source, codec, start, len)) {
                    Ok(parsed) => Ok(opening(codec).sealed(parsed)),
                    Err(Error::Read(error)) => Err(Error::Read(error)),
                    Err(damage) => opening(codec).damaged(damage),
                }
            }
            Tail::SeekTable(damage) => opening(Codec::Zstd).damaged_or_foreign(damage),
        }
    }

    /// An uncompressed stream without a seal: all of `source` is content, even if it ends like a seal.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn plain(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let len = source.size().map_err(Error::Read)?;
        let opening = Opening {
            source,
            options,
            codec: Codec::None,
            len,
        };
        Ok(opening.plain(len, None))
    }

    /// The cipher of the content, from the seal: [`format::CIPHER_NONE`](crate::seal::format::CIPHER_NONE)
    /// or another constant of that module. [`Self::list`] has the key block, and [`Self::content`] the
    /// content as it is stored.
    pub fn cipher(&self) -> u8 {
        self.cipher
    }

    /// The codec of the data frames.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The kind of stream.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The seal's attachment, after checking its digest.
    pub fn attachment(&self) -> Option<&[u8]> {
        self.attachment.as_deref()
    }

    /// The seal's list of this kind, if there is one; [`seal::format`](crate::seal::format) has the
    /// kinds.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if it exceeds a quarter of the memory limit, [`Error::Read`], and
    /// [`Error::Broken`] if the file has changed since it was opened.
    pub fn list(&self, kind: u32) -> Result<Option<Vec<u8>>, Error> {
        part::read_list(&*self.source, &self.parts, kind, self.memory / 4)
    }

    /// Damage of the seal that did not prevent opening the stream: for example a rebuilt index or a
    /// lost attachment.
    pub fn seal_damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Size of the whole stored stream, including the seal.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Stored size of the data frames, if there is a seal.
    pub fn data_len(&self) -> Option<u64> {
        self.data_len
    }

    /// The frames, if known: from a seal, or if frames state their lengths.
    pub fn frames(&self) -> Option<&FrameTable> {
        match &self.content {
            Content::Indexed(indexed) => Some(indexed.table()),
            Content::Plain(_) | Content::Foreign(_) => None,
        }
    }

    /// The content, at any offset, from several threads at once.
    ///
    /// If the frames are known, all content returned matches its frame's checksum. A read of a foreign
    /// stream beyond what has been decoded continues its one decoding pass. Its checksum is at its
    /// end, so [`Self::finish`] checks what has been read.
    ///
    /// A read in a damaged frame, or after the end of a truncated foreign stream, fails with an
    /// [`Error::Broken`]. Once the pass has found damage, any read in the damaged frame fails, even of
    /// bytes that could be read before.
    pub fn content(&self) -> Arc<dyn ReadAt> {
        match &self.content {
            Content::Plain(window) => Arc::clone(window) as Arc<dyn ReadAt>,
            Content::Indexed(indexed) => Arc::clone(indexed) as Arc<dyn ReadAt>,
            Content::Foreign(foreign) => Arc::clone(foreign) as Arc<dyn ReadAt>,
        }
    }

    /// Bytes after a complete foreign stream that are not part of it; gzip(1) and zstd(1) warn about
    /// them. For a stream decoded from its beginning, known after decoding to its end. Not an error of
    /// the content, unless the content is too short: then these bytes may be its damaged rest.
    pub fn trailing(&self) -> Option<&Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.trailing(),
            Content::Indexed(_) | Content::Plain(_) => self.trailing.as_ref(),
        }
    }

    /// The error after the last known frame, if the stream does not end there: the stream was
    /// truncated within a frame, or the frame is damaged. Does not decode.
    pub fn cut(&self) -> Option<&Error> {
        match &self.content {
            Content::Indexed(indexed) => indexed.tail(),
            Content::Foreign(_) | Content::Plain(_) => None,
        }
    }

    /// Why the stream may end before its content does, as far as it is known. Call it if the content is
    /// not complete: bytes after the last frame may be the damaged rest of it, and a stream whose last
    /// frame has as much content as each of the others may have been truncated there.
    pub fn interruption(&self) -> Option<Error> {
        if self.kind != StreamKind::Foreign {
            return self.cut().map(Error::again);
        }
        let early = self.cut().or(self.known_damage()).or(self.trailing());
        let early = early.or(self.damage.as_ref()).map(Error::again);
        let looks_cut = match &self.content {
            Content::Foreign(foreign) => foreign.looks_cut(),
            Content::Indexed(_) | Content::Plain(_) => self.looks_cut,
        };
        early.or_else(|| {
            looks_cut.then(|| Error::Broken {
                region: "end of the stream".into(),
                offset: self.stored_len,
                found: format!("a last {} of full size, and no seal", self.codec.unit()),
                expected: "a shorter last one".into(),
            })
        })
    }

    /// The damage found by decoding a foreign stream so far. Does not decode.
    pub fn known_damage(&self) -> Option<&Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.failed(),
            Content::Indexed(_) | Content::Plain(_) => None,
        }
    }

    /// The content length, if it is known without decoding.
    pub fn known_len(&self) -> Option<u64> {
        match &self.content {
            Content::Plain(window) => window.size().ok(),
            Content::Indexed(indexed) => indexed.known_len(),
            Content::Foreign(foreign) => foreign.known_len(),
        }
    }

    /// Length of the content that can be read from the beginning, and the error after it. Decodes a
    /// foreign stream to its end. Does not decode other streams: only a truncated end is known.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], and [`Error::Write`] of the temporary file. Damage of the stream is part of
    /// the result.
    pub fn readable(&self) -> Result<(u64, Option<Error>), Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.readable(),
            Content::Plain(window) => Ok((window.size().map_err(Error::Read)?, None)),
            Content::Indexed(indexed) => Ok(indexed.readable()),
        }
    }

    /// Checks the content returned so far. If a foreign stream was read, decodes it to its end. The
    /// rest can be read later, except content that would need the temporary file
    /// ([`OpenOptions::spool_dir`]). Other content was checked when it was read.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the stream is damaged, [`Error::Read`], [`Error::Cancelled`].
    pub fn finish(&self, progress: &dyn Progress) -> Result<(), Error> {
        match &self.content {
            Content::Foreign(foreign) => foreign.finish(progress),
            Content::Plain(_) | Content::Indexed(_) => Ok(()),
        }
    }

    /// Decodes all content in order, in parallel if the frames are known, verifies all checksums, and
    /// passes pieces with their offsets to `sink`. A sink can find zeros with [`crate::is_zero`].
    /// Returns the length of the content.
    ///
    /// `sink` gets all pieces before a damaged one.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] for the first damaged piece, [`Error::Read`], the sink's error,
    /// [`Error::Cancelled`].
    pub fn decode(&self, sink: &mut Sink<'_>, progress: &dyn Progress) -> Result<u64, Error> {
        match &self.content {
            Content::Plain(window) => plain(&**window, sink, progress),
            Content::Indexed(indexed) => indexed.decode(self.threads, sink, progress),
            Content::Foreign(foreign) => foreign.decode(sink, progress),
        }
    }

    /// Decodes all content, like [`Self::decode`], and writes it to `out`. If the frames are known and
    /// `out` has [`Output::at`], each worker writes the frames that it decoded. Returns the length of
    /// the content.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`]; [`Error::Write`]. After an error, the output may also contain frames after
    /// the damaged one.
    pub fn decode_to(&self, out: &mut dyn Output, progress: &dyn Progress) -> Result<u64, Error> {
        if let (Content::Indexed(indexed), Some(at)) = (&self.content, out.at()) {
            let len = indexed.decode_at(self.threads, at, progress)?;
            out.skip(len);
            return Ok(len);
        }
        let mut sink = |_: u64, piece: &[u8]| out.write_all(piece).map_err(Error::Write);
        self.decode(&mut sink, progress)
    }

    /// Checks every byte: the seal if there is one, all frames and checksums, and that there are no
    /// other bytes. Returns the length of the content.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`]; also [`Error::Broken`] if the seal is damaged.
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

/// Passes an uncompressed stream to a sink.
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
