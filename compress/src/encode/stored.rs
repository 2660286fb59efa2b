//! What an encoder has written, and the seal that may follow it.

use std::io::Write;

use crate::seal::part::{self, Part};
use crate::seal::write::write_all;
use crate::table::FrameTable;
use crate::{Codec, Error};

/// What an encoder has written.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Bytes that went in.
    pub content_len: u64,
    /// Bytes that came out.
    pub stored_len: u64,
    pub(super) codec: Codec,
    /// Of [`Shape::Frames`](crate::encode::Shape::Frames).
    pub(super) table: Option<FrameTable>,
    /// What the seal keeps besides the frames: [`Encoding::copy`](super::Encoding::copy), lists.
    pub(super) parts: Vec<Part>,
}

impl Stored {
    /// Content that was written as it is, in one piece:
    /// [`Shape::Single`](crate::encode::Shape::Single) without a codec. For callers that have decoded
    /// content ([`crate::Stream::decode`]) and nothing to encode.
    pub fn plain(content_len: u64) -> Self {
        Self {
            content_len,
            stored_len: content_len,
            codec: Codec::None,
            table: None,
            parts: Vec::new(),
        }
    }

    /// Adds a list that the seal will keep, of a kind of
    /// [`seal::format`](crate::seal::format). Lists come in the order of their kinds.
    pub fn add_list(&mut self, kind: u32, bytes: &[u8]) {
        self.parts.extend(part::list(kind, bytes));
    }

    /// The codec it was stored with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its frames, if it has the shape of [`Shape::Frames`](crate::encode::Shape::Frames).
    pub fn frames(&self) -> Option<&FrameTable> {
        self.table.as_ref()
    }
}

/// Writes the seal after what [`encode_at`](crate::encode::encode_at) or
/// [`encode_read`](crate::encode::encode_read) wrote to `out` with
/// [`Shape::Frames`](crate::encode::Shape::Frames): its copy and lists, the opaque `attachment` and
/// the frame index, all of it covered by checks. Returns the bytes written. An attachment has
/// [`ATTACHMENT_MAX`](crate::seal::format::ATTACHMENT_MAX) bytes at most.
///
/// # Errors
///
/// [`Error::Options`] of a stream in one piece; [`Error::Limit`] of an attachment or an index that
/// is too long; [`Error::Write`].
pub fn write_seal(stored: &Stored, attachment: &[u8], out: &mut dyn Write) -> Result<u64, Error> {
    let Some(table) = &stored.table else {
        return Err(Error::Options(
            "a stream in one piece has no frames to be sealed".into(),
        ));
    };
    write_all(stored.codec, table, attachment, &stored.parts, out)
}
