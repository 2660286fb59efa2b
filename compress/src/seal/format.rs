//! What parts and a seal look like, as definitions: no reading, no writing.
//!
//! All numbers are little-endian; digests are XXH64 with seed 0. Behind the data frames lie, without
//! gaps, **parts** and the **seal**:
//!
//! | part of the seal | bytes                                    |
//! |------------------|------------------------------------------|
//! | header           | [`HEADER_LEN`]; of version 1 [`HEADER_LEN_1`] |
//! | attachment       | `attachment_len`                         |
//! | index            | [`ENTRY_LEN`] per frame                  |
//! | footer           | [`FOOTER_LEN`]                           |
//!
//! They are wrapped so that readers of the codec step over them:
//!
//! * **zstd**: one skippable frame ([`ZSTD_SEAL_MAGIC`]) holds all parts, if there are some, another
//!   one the seal; the seek table of the public seekable format is the last frame. Its entries are
//!   the data frames and these two frames, which have no content.
//! * **gzip**: empty members hold a part each in their extra fields, under [`GZIP_SEAL`]; likewise
//!   the seal, in pieces of [`GZIP_PIECE`] bytes, the last piece shorter. The last member has the
//!   footer alone, under [`GZIP_FOOTER`]: it has always [`GZIP_LAST_LEN`] bytes.
//! * **uncompressed**: as they are. If there are parts, zeros follow them up to a multiple of
//!   [`PLAIN_UNIT`]. The seal's footer ends the stream.
//!
//! The footer tells a reader at the end where the seal begins; the header, which has a digest of
//! itself and of everything around it, tells everything else. There is one right way to wrap a
//! seal, so a reader that has parsed one compares every byte with what a writer would have
//! written.

use crate::gzip_format::{EMPTY_DEFLATE, HEADER_LEN as GZIP_HEADER_LEN, TRAILER_LEN};
use crate::zstd_format::SKIPPABLE_MAGIC;

/// Header, bytes 0..8.
pub const MAGIC: [u8; 8] = *b"LVCRSEAL";
/// Header, bytes 8..10: the version of a seal with parts.
pub const VERSION: u16 = 2;
/// The version without parts: what is written if there are none, and what older writers wrote.
/// Another version is another format.
pub const VERSION_1: u16 = 1;
/// Bytes of a header.
///
/// | bytes   | field                                                               |
/// |---------|---------------------------------------------------------------------|
/// | 0..8    | [`MAGIC`]                                                           |
/// | 8..10   | [`VERSION`]                                                         |
/// | 10      | codec: [`CODEC_NONE`], [`CODEC_GZIP`] or [`CODEC_ZSTD`]             |
/// | 11      | cipher: 0, not encrypted; all others are reserved                   |
/// | 12..16  | content bytes of each frame but the last, which has 1 to as many    |
/// | 16..24  | content bytes in all                                                |
/// | 24..32  | bytes of the data frames as they are stored: where the parts begin  |
/// | 32..40  | number of data frames                                               |
/// | 40..44  | bytes of the attachment                                             |
/// | 44..48  | number of parts                                                     |
/// | 48..56  | digest of the attachment                                            |
/// | 56..64  | digest of the index                                                 |
/// | 64..72  | digest of bytes 0..64                                               |
/// | 72..80  | bytes of the parts as they are stored, with what wraps them         |
/// | 80..88  | digest of those bytes                                               |
/// | 88..96  | 0                                                                   |
/// | 96..104 | digest of bytes 0..96                                               |
pub const HEADER_LEN: usize = 104;
/// Bytes of a header of version 1: the first ones of the above, with 0 parts. The seal begins where
/// the data ends.
pub const HEADER_LEN_1: usize = 72;
/// Bytes of a header that the digest behind them is of, in both versions.
pub const HEADER_DIGESTED: usize = 64;
/// Bytes of a header of version 2 that its last field is the digest of.
pub const HEADER_DIGESTED_2: usize = 96;

/// Part, bytes 0..8.
pub const PART_MAGIC: [u8; 8] = *b"LVCRPART";
/// Bytes of a part before its content.
///
/// | bytes  | field                                                                       |
/// |--------|-----------------------------------------------------------------------------|
/// | 0..8   | [`PART_MAGIC`]                                                              |
/// | 8..12  | kind: [`PART_COPY`] and what follows it                                     |
/// | 12..16 | bytes behind this header                                                    |
/// | 16..24 | where the part's content belongs: in the stream's content or in a list      |
/// | 24..28 | bytes of the part's content                                                 |
/// | 28     | how it is stored: [`CODEC_NONE`] or [`CODEC_ZSTD`]                          |
/// | 29..32 | 0                                                                           |
/// | 32..40 | offset of this header in the stream                                         |
/// | 40..48 | digest of the bytes behind this header                                      |
/// | 48..56 | digest of bytes 0..48                                                       |
pub const PART_HEADER_LEN: usize = 56;
/// Bytes of a part's header that its last field is the digest of.
pub const PART_DIGESTED: usize = 48;
/// Bytes of a part at most, header included: an extra field has 65,535 bytes at most.
pub const PART_MAX: usize = 65_000;
/// Content of a part of the copy; the last one may have less.
pub const PART_COPY_LEN: usize = 32 << 10;
/// Part: a second copy of the content from its beginning on, a zstd frame.
pub const PART_COPY: u32 = 1;
/// Part: a piece of the list of ranges of the content that no checksum proves. Each range is its
/// offset and its length, 8 bytes each; they ascend and do not touch.
pub const PART_UNPROVEN: u32 = 2;
/// Part: reserved for the list of pages that were left out on purpose.
pub const PART_EXCLUDED: u32 = 3;
/// Part: reserved for the keys of an encrypted file.
pub const PART_KEYS: u32 = 4;
/// The parts of an uncompressed stream end at a multiple of this.
pub const PLAIN_UNIT: u64 = 4096;

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
/// Where the subfield's content begins in an empty member.
pub const GZIP_SUBFIELD_AT: u64 = (GZIP_HEADER_LEN + 2 + 4) as u64;
/// Bytes of the last member.
pub const GZIP_LAST_LEN: usize = GZIP_EMPTY_LEN + FOOTER_LEN;

const _: () = assert!(GZIP_DATA_HEADER_LEN == 24);
const _: () = assert!(GZIP_EMPTY_LEN == 26 && GZIP_LAST_LEN == 58);
const _: () = assert!(GZIP_PIECE + 4 <= u16::MAX as usize);

const _: () = assert!(PART_MAX <= GZIP_PIECE);

/// The fields of a header that say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealHeader {
    /// Bytes 8..10: [`VERSION`] or [`VERSION_1`].
    pub version: u16,
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
    /// Bytes 44..48.
    pub parts: u32,
    /// Bytes 48..56.
    pub attachment_digest: u64,
    /// Bytes 56..64.
    pub index_digest: u64,
    /// Bytes 72..80; 0 in version 1.
    pub parts_len: u64,
    /// Bytes 80..88; 0 in version 1.
    pub parts_digest: u64,
}

impl SealHeader {
    /// Bytes of the header itself.
    pub fn header_len(&self) -> usize {
        match self.version {
            VERSION_1 => HEADER_LEN_1,
            _ => HEADER_LEN,
        }
    }

    /// Where the seal begins: behind data and parts. `None` if that is beyond 64 bits.
    pub fn seal_start(&self) -> Option<u64> {
        self.stored_len.checked_add(self.parts_len)
    }
}
