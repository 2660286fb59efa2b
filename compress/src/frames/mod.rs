//! A walk over a compressed stream by the codec's structure, without decoding and without an index.
//!
//! The block headers of a zstd frame give its end. A gzip member has its length only in an extra
//! field, if its writer is livecore or bgzip.

mod cursor;
mod gzip;
mod zstd;

use crate::zstd_format::FrameHeader;
use crate::{Codec, Error, ReadAt};

use cursor::Cursor;

/// The kind of a frame or member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A data frame or member, which may be empty.
    Data,
    /// A zstd skippable frame with this magic.
    Skippable(u32),
    /// An empty gzip member with a piece of a seal, or its footer, in this subfield.
    Seal([u8; 2]),
}

/// One frame or member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The kind.
    pub kind: FoundKind,
    /// Offset in the stream.
    pub offset: u64,
    /// Size, including header and checksum.
    pub stored_len: u64,
    /// Content length, if the header states it.
    pub content_len: Option<u64>,
    /// Check of the content: a zstd frame's checksum, a gzip member's CRC-32.
    pub content_check: Option<u32>,
}

/// The frames or members of a stream in order, including zstd's skippable frames. Ends after the
/// first error. A gzip member without a stated length is an error.
pub struct Frames<'a> {
    codec: Codec,
    cursor: Cursor<'a>,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// Walks `source` up to `end` or its end. Uncompressed streams have no frames.
    pub fn new(source: &'a dyn ReadAt, codec: Codec, end: u64) -> Self {
        Self::starting(source, codec, 0, end)
    }

    /// Walks from the frame at `at` up to `end`.
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

    /// Offset of the next frame.
    pub fn position(&self) -> u64 {
        self.cursor.at
    }

    /// The header of the next zstd frame, if it is a data frame with a complete header. Needs one
    /// read; [`next`](Self::next) needs one for each block.
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
