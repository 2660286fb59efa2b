//! Streams without a seal, or with what is left of one: what their own structure says.

use std::sync::Arc;

use super::{Content, Foreign, OpenOptions, Stream, StreamKind, indexed};
use crate::decode::frame::Kind;
use crate::frames::{Found, FoundKind, GzipMembers, ZstdFrames};
use crate::gzip_format::Header as GzipHeader;
use crate::seal::format::{FRAME_MAX, GZIP_DATA, Header, ZSTD_SEAL_MAGIC};
use crate::seal::read::{self, longest_frame};
use crate::table::{Entry, FrameTable};
use crate::{Codec, Error, ReadAt, Window};

/// What a walk over the data frames has found.
struct Walked {
    table: FrameTable,
    /// Where the walk has ended: behind the last data frame.
    end: u64,
    /// What it ended at, if that was not the end of the stream.
    stopped: Stopped,
}

enum Stopped {
    /// At the end of the stream.
    End,
    /// At something that is a part of a seal.
    Seal,
    /// At a frame that does not say how much it holds, or holds too much.
    Unknown,
    /// At something broken, or cut.
    Broken(Error),
}

/// Opens a stream whose end does not look like a seal.
pub(super) fn open_bare(
    source: Arc<dyn ReadAt>,
    options: &OpenOptions,
    codec: Codec,
    len: u64,
) -> Result<Stream, Error> {
    if codec == Codec::None {
        let content = Content::Plain(Arc::new(Window::new(source, 0, len)));
        return Ok(stream(
            StreamKind::Plain,
            codec,
            len,
            options,
            content,
            None,
        ));
    }
    // Our gzip members say whose they are; a stream of them has lost its seal.
    let ours = codec == Codec::Gzip && is_our_member(&source)?;
    if !ours {
        let content = Content::Foreign(Arc::new(Foreign::new(source, codec, options)));
        return Ok(stream(
            StreamKind::Foreign,
            codec,
            len,
            options,
            content,
            None,
        ));
    }
    let damage = Error::Broken {
        region: "seal".into(),
        offset: len,
        found: "the end of the stream".into(),
        expected: "a seal behind our members".into(),
    };
    open_damaged(source, options, codec, len, damage)
}

/// Opens a stream that has, or should have, a seal which cannot be found or believed.
pub(super) fn open_damaged(
    source: Arc<dyn ReadAt>,
    options: &OpenOptions,
    codec: Codec,
    len: u64,
    damage: Error,
) -> Result<Stream, Error> {
    if codec == Codec::None {
        // Where the content ends nobody knows.
        return Err(damage);
    }
    let walked = walk(&source, codec, len)?;
    if let Stopped::Seal = walked.stopped {
        // The walk knows where the seal begins even if its footer does not.
        match read::parse(&source, codec, walked.end, len) {
            Ok(mut parsed) => {
                parsed.damage.get_or_insert(damage);
                return Ok(Stream::sealed(source, options, codec, len, parsed));
            }
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(_) => {}
        }
    }
    let whole = !matches!(walked.stopped, Stopped::Unknown) && walked.table.count() > 0;
    let content = if whole {
        let kind = Kind {
            codec,
            checked: false,
        };
        indexed(source, options, kind, walked.table)
    } else {
        Content::Foreign(Arc::new(Foreign::new(source, codec, options)))
    };
    let damage = match walked.stopped {
        Stopped::Broken(error) => error,
        _ => damage,
    };
    Ok(stream(
        StreamKind::Foreign,
        codec,
        len,
        options,
        content,
        Some(damage),
    ))
}

/// The content of a stream whose seal has a header but no index: its frames, as they say
/// themselves. Also what is wrong with that.
pub(super) fn without_index(
    source: Arc<dyn ReadAt>,
    options: &OpenOptions,
    codec: Codec,
    header: &Header,
) -> (Content, Option<Error>) {
    if codec == Codec::None {
        let window = Window::new(source, 0, header.stored_len);
        return (Content::Plain(Arc::new(window)), None);
    }
    let (table, error) = match walk(&source, codec, header.stored_len) {
        Ok(walked) => match walked.stopped {
            Stopped::Broken(error) => (walked.table, Some(error)),
            _ => (walked.table, None),
        },
        Err(error) => (FrameTable::new(header.frame_size), Some(error)),
    };
    let kind = Kind {
        codec,
        checked: false,
    };
    (indexed(source, options, kind, table), error)
}

fn stream(
    kind: StreamKind,
    codec: Codec,
    len: u64,
    options: &OpenOptions,
    content: Content,
    damage: Option<Error>,
) -> Stream {
    Stream {
        codec,
        kind,
        stored_len: len,
        data_len: None,
        attachment: None,
        damage,
        threads: options.threads,
        content,
    }
}

fn is_our_member(source: &dyn ReadAt) -> Result<bool, Error> {
    let mut head = [0; 64];
    let n = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
    Ok(GzipHeader::parse(&head[..n]).is_ok_and(|h| h.subfield(GZIP_DATA).is_some()))
}

/// Walks over the data frames of the first `end` bytes.
fn walk(source: &dyn ReadAt, codec: Codec, end: u64) -> Result<Walked, Error> {
    match codec {
        Codec::Gzip => collect(GzipMembers::new(source, end), codec),
        _ => collect(ZstdFrames::new(source, end), codec),
    }
}

fn collect(
    frames: impl Iterator<Item = Result<Found, Error>>,
    codec: Codec,
) -> Result<Walked, Error> {
    let mut walked = Walked {
        table: FrameTable::new(0),
        end: 0,
        stopped: Stopped::End,
    };
    for found in frames {
        let found = match found {
            Ok(found) => found,
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(error) => {
                walked.stopped = Stopped::Broken(error);
                break;
            }
        };
        match found.kind {
            FoundKind::Seal(_) | FoundKind::Skippable(ZSTD_SEAL_MAGIC) => {
                walked.stopped = Stopped::Seal;
                break;
            }
            FoundKind::Data | FoundKind::Skippable(_) => {}
        }
        let lens = found
            .content_len
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n <= FRAME_MAX)
            .zip(u32::try_from(found.stored_len).ok())
            .filter(|(content, stored)| *stored <= longest_frame(codec, *content));
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
        if walked.table.push(content_len, entry).is_none() {
            walked.stopped = Stopped::Unknown;
            break;
        }
        walked.end = found.offset + found.stored_len;
    }
    Ok(walked)
}
