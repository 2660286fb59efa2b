//! The result of an encoder, and writing the seal after it.

use std::io::Write;

use crate::seal::format::{CIPHER_NONE, PART_KEYS};
use crate::seal::part::{self, Part};
use crate::seal::write::write_all;
use crate::table::FrameTable;
use crate::{Codec, Error};

/// The result of an encoder.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Content length.
    pub content_len: u64,
    /// Number of bytes written.
    pub stored_len: u64,
    pub(super) codec: Codec,
    /// The cipher in the seal.
    pub(super) cipher: u8,
    /// The frames of [`Shape::Frames`](crate::encode::Shape::Frames).
    pub(super) table: Option<FrameTable>,
    /// Parts for the seal: [`Encoding::copy`](super::Encoding::copy), lists.
    pub(super) parts: Vec<Part>,
}

impl Stored {
    /// The result for uncompressed content that the caller wrote:
    /// [`Shape::Single`](crate::encode::Shape::Single) without compression. For callers that write
    /// decoded content ([`crate::Stream::decode`]).
    pub fn plain(content_len: u64) -> Self {
        Self {
            content_len,
            stored_len: content_len,
            codec: Codec::None,
            cipher: CIPHER_NONE,
            table: None,
            parts: Vec::new(),
        }
    }

    /// States in the seal that the content is encrypted with `cipher`
    /// ([`CIPHER_AES_256_CBC`](crate::seal::format::CIPHER_AES_256_CBC) or
    /// [`CIPHER_CHACHA20`](crate::seal::format::CIPHER_CHACHA20)), with `key_block` as its key.
    pub fn encrypted(&mut self, cipher: u8, key_block: &[u8]) {
        self.cipher = cipher;
        self.add_list(PART_KEYS, key_block);
    }

    /// Adds a list to the seal; [`seal::format`](crate::seal::format) has the kinds. Add lists in the
    /// order of their kinds.
    pub fn add_list(&mut self, kind: u32, bytes: &[u8]) {
        self.parts.extend(part::list(kind, bytes));
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The frames of [`Shape::Frames`](crate::encode::Shape::Frames).
    pub fn frames(&self) -> Option<&FrameTable> {
        self.table.as_ref()
    }
}

/// Writes the seal after the output of [`encode_at`](crate::encode::encode_at) or
/// [`encode_read`](crate::encode::encode_read) with
/// [`Shape::Frames`](crate::encode::Shape::Frames): copy and lists, the opaque `attachment` and the
/// frame index, all covered by digests. Returns the number of bytes written.
///
/// # Errors
///
/// [`Error::Options`] for [`Shape::Single`](crate::encode::Shape::Single); [`Error::Limit`] if the
/// attachment is longer than [`ATTACHMENT_MAX`](crate::seal::format::ATTACHMENT_MAX), or the index is
/// too long; [`Error::Write`].
pub fn write_seal(stored: &Stored, attachment: &[u8], out: &mut dyn Write) -> Result<u64, Error> {
    let Some(table) = &stored.table else {
        return Err(Error::Options(
            "a single stream cannot be sealed: it has no independent frames".into(),
        ));
    };
    write_all(
        (stored.codec, stored.cipher),
        table,
        attachment,
        &stored.parts,
        out,
    )
}
