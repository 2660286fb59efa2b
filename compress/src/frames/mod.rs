//! Walking a compressed stream by the codec's own structure, without decoding and without index.
//!
//! zstd frames say where they end, block by block. gzip members do not, unless their writer says
//! it in an extra field: ours do, and bgzip's.

mod cursor;
mod gzip;
mod zstd;

use crate::zstd_format::FrameHeader;
use crate::{Codec, Error, ReadAt};

use cursor::Cursor;

/// What the walk has come upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A frame or member with content, or an empty one that says nothing of itself.
    Data,
    /// A zstd skippable frame with this magic.
    Skippable(u32),
    /// An empty gzip member that carries a piece of a seal, or its footer, in this subfield.
    Seal([u8; 2]),
}

/// One frame or member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, from the first of its header to the last of its checks.
    pub stored_len: u64,
    /// Bytes of content, if the frame's header says it.
    pub content_len: Option<u64>,
    /// The check of its content: a zstd frame's checksum, a gzip member's CRC-32.
    pub content_check: Option<u32>,
}

/// The frames or members of a stream in order, zstd's skippable frames included, as long as they
/// say where they end. Ends after the first error, of which a gzip member that does not say where
/// it ends is one.
pub struct Frames<'a> {
    codec: Codec,
    cursor: Cursor<'a>,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// Walks `source` up to `end`, or its own end. Uncompressed bytes have no frames.
    pub fn new(source: &'a dyn ReadAt, codec: Codec, end: u64) -> Self {
        Self::starting(source, codec, 0, end)
    }

    /// Walks from `at`, where one begins, up to `end`.
    pub fn starting(source: &'a dyn ReadAt, codec: Codec, at: u64, end: u64) -> Self {
        Self {
            codec,
            cursor: Cursor {
                source,
                codec,
                at,
                end,
                number: 0,
            },
            failed: false,
        }
    }

    /// Where the next frame would begin.
    pub fn position(&self) -> u64 {
        self.cursor.at
    }

    /// The header of the next zstd frame, if that is one with content and its header is whole.
    /// Costs one read; to step over the frame costs one for each of its blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn peek_zstd(&self) -> Result<Option<FrameHeader>, Error> {
        zstd::peek(&self.cursor)
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let found = match self.codec {
            Codec::None => Ok(None),
            Codec::Gzip => gzip::step(&self.cursor),
            Codec::Zstd => zstd::step(&self.cursor),
        };
        let found = found.transpose()?;
        match &found {
            Ok(found) => {
                self.cursor.at += found.stored_len;
                self.cursor.number += 1;
            }
            Err(_) => self.failed = true,
        }
        Some(found)
    }
}
