//! What a seal looks like, as definitions: no reading, no writing.
//!
//! All numbers are little-endian; digests are XXH64 with seed 0. A **seal** is, without gaps,
//!
//! | part       | bytes                     |
//! |------------|---------------------------|
//! | header     | [`HEADER_LEN`]            |
//! | attachment | `attachment_len`          |
//! | index      | [`ENTRY_LEN`] per frame   |
//! | footer     | [`FOOTER_LEN`]            |
//!
//! and lies behind the data frames, wrapped so that readers of the codec step over it:
//!
//! * **zstd**: one skippable frame ([`ZSTD_SEAL_MAGIC`]) holds the seal; the seek table of the
//!   public seekable format is the last frame. Its entries are the data frames and the seal's
//!   frame, which has no content.
//! * **gzip**: empty members hold the seal in their extra fields, in pieces of
//!   [`GZIP_PIECE`] bytes under [`GZIP_SEAL`], the last piece shorter. The last member has the
//!   footer alone, under [`GZIP_FOOTER`]: it has always [`GZIP_LAST_LEN`] bytes.
//! * **uncompressed**: the seal as it is. Its footer ends the stream.
//!
//! The footer tells a reader at the end where the seal begins; the header, which has a digest of
//! itself and of the parts behind it, tells everything else. There is one right way to wrap a
//! seal, so a reader that has parsed one compares every byte with what a writer would have
//! written.

use crate::gzip_format::{EMPTY_DEFLATE, HEADER_LEN as GZIP_HEADER_LEN, TRAILER_LEN};
use crate::zstd_format::SKIPPABLE_MAGIC;

/// Header, bytes 0..8.
pub const MAGIC: [u8; 8] = *b"LVCRSEAL";
/// Header, bytes 8..10. Another version is another format.
pub const VERSION: u16 = 1;
/// Bytes of a header.
///
/// | bytes  | field                                                              |
/// |--------|--------------------------------------------------------------------|
/// | 0..8   | [`MAGIC`]                                                          |
/// | 8..10  | [`VERSION`]                                                        |
/// | 10     | codec: [`CODEC_NONE`], [`CODEC_GZIP`] or [`CODEC_ZSTD`]            |
/// | 11     | 0                                                                  |
/// | 12..16 | content bytes of each frame but the last, which has 1 to as many   |
/// | 16..24 | content bytes in all                                               |
/// | 24..32 | bytes of the data frames as they are stored: where the seal begins |
/// | 32..40 | number of data frames                                              |
/// | 40..44 | bytes of the attachment                                            |
/// | 44..48 | 0                                                                  |
/// | 48..56 | digest of the attachment                                           |
/// | 56..64 | digest of the index                                                |
/// | 64..72 | digest of bytes 0..64                                              |
pub const HEADER_LEN: usize = 72;
/// Bytes of a header that its last field is the digest of.
pub const HEADER_DIGESTED: usize = 64;
/// Bytes of an index entry; see [`crate::table::Entry`].
pub const ENTRY_LEN: usize = 12;
/// Bytes of a footer.
///
/// | bytes  | field                                                             |
/// |--------|-------------------------------------------------------------------|
/// | 0..8   | [`FOOTER_MAGIC`]                                                  |
/// | 8..16  | bytes of the seal, footer included, wrapping not                  |
/// | 16..24 | digest of bytes 0..16                                             |
/// | 24..32 | [`END_MAGIC`]                                                     |
pub const FOOTER_LEN: usize = 32;
/// Footer, bytes 0..8.
pub const FOOTER_MAGIC: [u8; 8] = *b"LVCRFOOT";
/// Footer, bytes 24..32. One of the two magics survives whatever single blow.
pub const END_MAGIC: [u8; 8] = *b"LVCR.END";
/// Bytes of a footer that its digest is of.
pub const FOOTER_DIGESTED: usize = 16;

/// Header, byte 10: uncompressed.
pub const CODEC_NONE: u8 = 0;
/// Header, byte 10: gzip members.
pub const CODEC_GZIP: u8 = 1;
/// Header, byte 10: zstd frames.
pub const CODEC_ZSTD: u8 = 2;

/// Bytes of an attachment at most.
pub const ATTACHMENT_MAX: usize = 1 << 20;
/// Content bytes of a frame are a multiple of this.
pub const FRAME_UNIT: u32 = 4096;
/// Content bytes of a frame at most.
pub const FRAME_MAX: u32 = 64 << 20;

/// Magic of the skippable frame that holds a seal.
pub const ZSTD_SEAL_MAGIC: u32 = SKIPPABLE_MAGIC + 0xC;

/// Subfield of a data member: its stored length (`u32`), its content length (`u32`).
pub const GZIP_DATA: [u8; 2] = *b"LC";
/// Bytes of that subfield's content.
pub const GZIP_DATA_LEN: usize = 8;
/// Bytes of a data member's header: fixed part, XLEN, subfield head, subfield.
pub const GZIP_DATA_HEADER_LEN: usize = GZIP_HEADER_LEN + 2 + 4 + GZIP_DATA_LEN;
/// Subfield of an empty member: a piece of the seal.
pub const GZIP_SEAL: [u8; 2] = *b"LS";
/// Bytes of such a piece, the last aside. An extra field has 65,535 bytes at most.
pub const GZIP_PIECE: usize = 65_000;
/// Subfield of the last member: the footer.
pub const GZIP_FOOTER: [u8; 2] = *b"LE";
/// Bytes of an empty member, besides the subfield's content.
pub const GZIP_EMPTY_LEN: usize = GZIP_HEADER_LEN + 2 + 4 + EMPTY_DEFLATE.len() + TRAILER_LEN;
/// Bytes of the last member.
pub const GZIP_LAST_LEN: usize = GZIP_EMPTY_LEN + FOOTER_LEN;

const _: () = assert!(GZIP_DATA_HEADER_LEN == 24);
const _: () = assert!(GZIP_EMPTY_LEN == 26 && GZIP_LAST_LEN == 58);
const _: () = assert!(GZIP_PIECE + 4 <= u16::MAX as usize);

/// The fields of a header that say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Byte 10.
    pub codec: u8,
    /// Bytes 12..16.
    pub frame_size: u32,
    /// Bytes 16..24.
    pub content_len: u64,
    /// Bytes 24..32.
    pub stored_len: u64,
    /// Bytes 32..40.
    pub frames: u64,
    /// Bytes 40..44.
    pub attachment_len: u32,
    /// Bytes 48..56.
    pub attachment_digest: u64,
    /// Bytes 56..64.
    pub index_digest: u64,
}
