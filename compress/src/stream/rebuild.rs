//! Opening of streams without a seal or with a damaged one, by the structure of their frames.
//!
//! A walk over the frames makes a table like that of a seal, without checks. It is used if frames are
//! small and state their content lengths; other streams are decoded from their beginning.

use std::sync::Arc;

use super::foreign::Foreign;
use super::indexed::Indexed;
use super::options::OpenOptions;
use super::{Content, Stream, StreamKind};
use crate::decode::frame::Kind;
use crate::decode::input::PADDING_MAX;
use crate::evenness::Evenness;
use crate::frames::{Found, FoundKind, Frames};
use crate::gzip_format::{EXTRA_HEADER, MemberHeader};
use crate::seal::format::{
    CIPHER_NONE, FRAME_MAX, GZIP_DATA, GZIP_FOOTER, GZIP_SEAL, SealHeader, ZSTD_SEAL_MAGIC,
};
use crate::seal::part::{self, PartAt};
use crate::seal::read::{self, Rest, longest_frame};
use crate::table::{Entry, FrameTable};
use crate::zero::is_zero;
use crate::{Codec, Error, ReadAt, Window, gzip_format, zstd_format};

/// Number of bytes before a seal in which to search for its parts.
const PARTS_REACH: u64 = 64 << 20;

/// The result of a walk over the data frames.
struct Walked {
    table: FrameTable,
    /// Content lengths of the data frames.
    evenness: Evenness,
    /// End of the last data frame.
    end: u64,
    /// Why the walk ended.
    stopped: Stopped,
}

enum Stopped {
    /// The end of the stream.
    End,
    /// A seal.
    Seal,
    /// A frame that does not state its content length, or is too large.
    Unknown,
    /// A damaged or truncated frame, or other bytes.
    Broken(Error),
}

/// A stream to open.
pub(super) struct Opening<'a> {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) options: &'a OpenOptions,
    pub(super) codec: Codec,
    pub(super) len: u64,
}

impl Opening<'_> {
    /// Opens a stream without a seal at its end.
    pub(super) fn bare(self) -> Result<Stream, Error> {
        if self.codec == Codec::None {
            return self.bare_plain();
        }
        // Only sealed streams have such gzip members, so the seal is missing.
        let ours = self.codec == Codec::Gzip && is_our_member(&self.source)?;
        if ours {
            let damage = Error::Broken {
                region: "seal".into(),
                offset: self.len,
                found: "the end of the stream".into(),
                expected: "a seal after members with stated lengths".into(),
            };
            return self.damaged(damage);
        }
        let walked = self.walk(self.len)?;
        self.walked(walked, None)
    }

    /// Opens a stream whose seal is missing or damaged.
    pub(super) fn damaged(self, damage: Error) -> Result<Stream, Error> {
        if self.codec == Codec::None {
            // The header may still state the end of the content.
            let Some(Rest::Header(start)) = read::search(&self.source, self.len)? else {
                return Err(damage);
            };
            let mut parsed = read::parse(&self.source, self.codec, start, self.len)?;
            parsed.damage.get_or_insert(damage);
            return Ok(self.sealed(parsed));
        }
        let walked = self.walk(self.len)?;
        self.walked(walked, Some(damage))
    }

    /// Opens a stream with a seek table, which may be that of a sealed stream.
    pub(super) fn damaged_or_foreign(self, damage: Error) -> Result<Stream, Error> {
        let walked = self.walk(self.len)?;
        let ours = matches!(walked.stopped, Stopped::Seal);
        self.walked(walked, ours.then_some(damage))
    }

    /// Opens a stream with a seal whose header is valid.
    pub(super) fn sealed(self, parsed: read::Parsed) -> Stream {
        let header = parsed.header;
        let (content, damage) = match parsed.table {
            Some(table) => (self.indexed(true, table, None), parsed.damage),
            None => {
                let (content, error) = self.without_index(&header);
                (content, parsed.damage.or(error))
            }
        };
        Stream {
            cipher: header.cipher,
            data_len: Some(header.stored_len),
            attachment: parsed.attachment,
            parts: parsed.parts,
            ..self.stream(StreamKind::Sealed, content, damage)
        }
    }

    /// Opens an uncompressed stream without a seal, or with a truncated one.
    fn bare_plain(self) -> Result<Stream, Error> {
        let cut = |start| Error::Broken {
            region: "seal".into(),
            offset: start,
            found: format!("the end of the stream at {:#x}", self.len),
            expected: "the rest of the seal".into(),
        };
        let (len, damage) = match read::search(&self.source, self.len)? {
            Some(Rest::Header(start)) => {
                let mut parsed = read::parse(&self.source, self.codec, start, self.len)?;
                parsed.damage.get_or_insert_with(|| cut(start));
                return Ok(self.sealed(parsed));
            }
            Some(Rest::Cut(start)) => {
                let content_end = self.content_before(start)?;
                (content_end, Some(cut(start)))
            }
            None => (self.len, None),
        };
        Ok(self.plain(len, damage))
    }

    /// Opens the first `len` bytes as uncompressed content.
    pub(super) fn plain(self, len: u64, damage: Option<Error>) -> Stream {
        let window = Window::new(Arc::clone(&self.source), 0, len);
        self.stream(StreamKind::Plain, Content::Plain(Arc::new(window)), damage)
    }

    /// End of the content before the parts and a truncated seal at `start`.
    fn content_before(&self, start: u64) -> Result<u64, Error> {
        let parts = part::search(&self.source, start.saturating_sub(PARTS_REACH), start, 0)?;
        let first = parts.iter().find(|part| part.offset == 0);
        Ok(first.map_or(start, PartAt::start))
    }

    /// Opens a stream by the result of a walk. `damage` is that of its seal, if it should have one.
    fn walked(self, walked: Walked, damage: Option<Error>) -> Result<Stream, Error> {
        let kind = StreamKind::Foreign;
        match walked.stopped {
            Stopped::Seal => {
                let cut = || Error::Broken {
                    region: "seal".into(),
                    offset: walked.end,
                    found: "other bytes at the end of the stream".into(),
                    expected: "the end of this seal".into(),
                };
                // The walk has found the seal even if its footer is damaged.
                let start = read::seal_after(&self.source, self.codec, walked.end, self.len)?;
                match read::parse(&self.source, self.codec, start, self.len) {
                    Ok(mut parsed) => {
                        parsed.damage.get_or_insert(damage.unwrap_or_else(cut));
                        Ok(self.sealed(parsed))
                    }
                    Err(Error::Read(error)) => Err(Error::Read(error)),
                    Err(error) => {
                        let content = self.indexed(false, walked.table, None);
                        Ok(self.stream(kind, content, Some(damage.unwrap_or(error))))
                    }
                }
            }
            Stopped::End if walked.table.count() > 0 => {
                let content = self.indexed(false, walked.table, None);
                Ok(Stream {
                    looks_cut: walked.evenness.looks_cut(),
                    ..self.stream(kind, content, damage)
                })
            }
            Stopped::Broken(error)
                if damage.is_none()
                    && walked.table.count() > 0
                    && !self.begins_frame(walked.end)? =>
            {
                let content = self.indexed(false, walked.table, None);
                Ok(Stream {
                    trailing: Some(self.trailing(walked.end, &error)?),
                    ..self.stream(kind, content, None)
                })
            }
            // A gzip member need not say how long it is.
            Stopped::Broken(error)
                if walked.table.count() > 0 && (self.codec != Codec::Gzip || damage.is_some()) =>
            {
                let content = self.indexed(false, walked.table, Some(error));
                Ok(self.stream(kind, content, damage))
            }
            _ => {
                let source = Arc::clone(&self.source);
                let foreign = Foreign::new(source, self.codec, self.options);
                Ok(self.stream(kind, Content::Foreign(Arc::new(foreign)), damage))
            }
        }
    }

    /// Whether the bytes at `at` begin with the magic of a frame, or are a prefix of it.
    fn begins_frame(&self, at: u64) -> Result<bool, Error> {
        let mut head = [0; 4];
        let got = self
            .source
            .read_full_at(&mut head, at)
            .map_err(Error::Read)?;
        Ok(match self.codec {
            Codec::Zstd if got == head.len() => {
                let magic = u32::from_le_bytes(head);
                magic == zstd_format::MAGIC || zstd_format::is_skippable(magic)
            }
            Codec::Zstd => zstd_format::MAGIC.to_le_bytes().starts_with(&head[..got]),
            _ => {
                let known = got.min(gzip_format::MAGIC.len());
                head[..known] == gzip_format::MAGIC[..known]
            }
        })
    }

    /// The error about the bytes at `at`, after the last frame.
    fn trailing(&self, at: u64, error: &Error) -> Result<Error, Error> {
        let mut head = [0; 8];
        let got = self
            .source
            .read_full_at(&mut head, at)
            .map_err(Error::Read)?;
        Ok(match error {
            Error::Broken { .. } => Error::Broken {
                region: "trailing bytes".into(),
                offset: at,
                found: format!("{:02x?}", &head[..got]),
                expected: "the end of the stream, or zeros up to a block boundary".into(),
            },
            other => other.again(),
        })
    }

    /// The content of a stream whose seal has a valid header and a damaged index, by a walk over its
    /// frames, and the damage of the frames.
    fn without_index(&self, header: &SealHeader) -> (Content, Option<Error>) {
        if self.codec == Codec::None {
            let window = Window::new(Arc::clone(&self.source), 0, header.stored_len);
            return (Content::Plain(Arc::new(window)), None);
        }
        let (table, error) = match self.walk(header.stored_len) {
            Ok(walked) => match walked.stopped {
                Stopped::Broken(error) => (walked.table, Some(error)),
                _ => (walked.table, None),
            },
            Err(error) => (FrameTable::new(header.frame_size), Some(error)),
        };
        let short = table.content_len() != header.content_len;
        let error = error.or_else(|| {
            short.then(|| Error::Broken {
                region: "data frames".into(),
                offset: table.stored_len(),
                found: format!("{:#x} bytes of content before it", table.content_len()),
                expected: format!("{:#x}, from the seal", header.content_len),
            })
        });
        let tail = error.as_ref().map(Error::again);
        (self.indexed(false, table, tail), error)
    }

    fn indexed(&self, checked: bool, table: FrameTable, tail: Option<Error>) -> Content {
        let kind = Kind {
            codec: self.codec,
            checked,
        };
        let source = Arc::clone(&self.source);
        let indexed = Indexed::new(source, table, kind, tail, self.options);
        Content::Indexed(Arc::new(indexed))
    }

    fn stream(&self, kind: StreamKind, content: Content, damage: Option<Error>) -> Stream {
        Stream {
            codec: self.codec,
            cipher: CIPHER_NONE,
            kind,
            stored_len: self.len,
            data_len: None,
            attachment: None,
            damage,
            threads: self.options.threads,
            parts: Vec::new(),
            source: Arc::clone(&self.source),
            memory: self.options.memory,
            trailing: None,
            looks_cut: false,
            content,
        }
    }

    /// Walks over the data frames of the first `end` bytes.
    fn walk(&self, end: u64) -> Result<Walked, Error> {
        let frames = Frames::new(&self.source, self.codec, end);
        let mut walked = match self.codec {
            Codec::Zstd => self.collect(small_frames(frames, self.largest())),
            _ => self.collect(frames),
        }?;
        if let Stopped::Broken(_) = walked.stopped
            && self.is_padding(walked.end, end)?
        {
            walked.stopped = Stopped::End;
        }
        Ok(walked)
    }

    fn collect(&self, frames: impl Iterator<Item = Result<Found, Error>>) -> Result<Walked, Error> {
        let most = self.largest();
        let mut walked = Walked {
            table: FrameTable::new(0),
            evenness: Evenness::default(),
            end: 0,
            stopped: Stopped::End,
        };
        for found in frames {
            let found = match found {
                Ok(found) => found,
                Err(Error::Read(error)) => return Err(Error::Read(error)),
                Err(error) => {
                    walked.stopped = match self.is_cut_seal(walked.end)? {
                        true => Stopped::Seal,
                        false => Stopped::Broken(error),
                    };
                    break;
                }
            };
            if let FoundKind::Seal(_) | FoundKind::Skippable(ZSTD_SEAL_MAGIC) = found.kind {
                walked.stopped = Stopped::Seal;
                break;
            }
            let lens = found
                .content_len
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n <= most)
                .zip(u32::try_from(found.stored_len).ok())
                .filter(|(content, stored)| *stored <= longest_frame(self.codec, *content));
            let Some((content_len, stored_len)) = lens else {
                walked.stopped = Stopped::Unknown;
                break;
            };
            if walked.table.count() == 0 {
                walked.table = FrameTable::new(content_len);
            }
            let entry = Entry {
                stored_len,
                ..Entry::default()
            };
            let pushed = walked.table.push(content_len, entry);
            if pushed.is_none() || walked.table.count() > self.options.walked() {
                walked.stopped = Stopped::Unknown;
                break;
            }
            if found.kind == FoundKind::Data {
                walked.evenness.add(content_len.into());
            }
            walked.end = found.offset + found.stored_len;
        }
        Ok(walked)
    }

    /// Whether a truncated seal begins at `at`.
    fn is_cut_seal(&self, at: u64) -> Result<bool, Error> {
        let mut head = [0; 14];
        let got = self
            .source
            .read_full_at(&mut head, at)
            .map_err(Error::Read)?;
        let head = &head[..got];
        Ok(match self.codec {
            Codec::Gzip => {
                head.starts_with(&EXTRA_HEADER)
                    && [GZIP_SEAL, GZIP_FOOTER]
                        .iter()
                        .any(|id| head.get(12..14) == Some(id))
            }
            _ => head.starts_with(&ZSTD_SEAL_MAGIC.to_le_bytes()),
        })
    }

    /// Maximum content size of a frame for which a table is useful. Restart points divide a larger
    /// frame, and it can be read before its end is checked.
    fn largest(&self) -> u32 {
        u32::try_from(self.options.memory / 32)
            .unwrap_or(FRAME_MAX)
            .clamp(1 << 20, FRAME_MAX)
    }

    /// Whether the bytes between `from` and `end` are padding.
    fn is_padding(&self, from: u64, end: u64) -> Result<bool, Error> {
        let left = end.saturating_sub(from);
        if left > PADDING_MAX {
            return Ok(false);
        }
        let mut bytes = vec![0; left as usize];
        let n = self
            .source
            .read_full_at(&mut bytes, from)
            .map_err(Error::Read)?;
        Ok(is_zero(&bytes[..n]))
    }
}

/// The frames up to the first that does not state its content length, or has more than `most`. The
/// walk ends before it, since it may be as long as the stream.
fn small_frames<'a>(
    mut frames: Frames<'a>,
    most: u32,
) -> impl Iterator<Item = Result<Found, Error>> + 'a {
    std::iter::from_fn(move || {
        let header = match frames.peek_zstd() {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        match header {
            Some(h) if h.content_len.is_none_or(|n| n > most.into()) => Some(Ok(Found {
                kind: FoundKind::Data,
                offset: frames.position(),
                stored_len: 0,
                content_len: None,
                content_check: None,
            })),
            _ => frames.next(),
        }
    })
}

fn is_our_member(source: &dyn ReadAt) -> Result<bool, Error> {
    let mut head = [0; 64];
    let n = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
    Ok(MemberHeader::parse(&head[..n]).is_ok_and(|h| h.subfield(GZIP_DATA).is_some()))
}
