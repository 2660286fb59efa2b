//! The definitions of parts and seal.
//!
//! All numbers are little-endian; digests are XXH64 with seed 0. The data frames are followed,
//! without gaps, by **parts** and the **seal**:
//!
//! | part of the seal | bytes                                    |
//! |------------------|------------------------------------------|
//! | header           | [`HEADER_LEN`]; of version 1 [`HEADER_LEN_1`] |
//! | attachment       | `attachment_len`                         |
//! | index            | [`ENTRY_LEN`] per frame                  |
//! | footer           | [`FOOTER_LEN`]                           |
//!
//! They are wrapped so that other readers of the codec skip them:
//!
//! * **zstd**: one skippable frame ([`ZSTD_SEAL_MAGIC`]) contains all parts, if there are any, and
//!   another one the seal. The last frame is the seek table of the public seekable format. It lists
//!   the data frames and these two frames, which have no content.
//! * **gzip**: each part is in the extra field of an empty member, under [`GZIP_SEAL`]. The seal is in
//!   further empty members, in pieces of [`GZIP_PIECE`] bytes; the last piece may be shorter. The last
//!   member has only the footer, under [`GZIP_FOOTER`], and always [`GZIP_LAST_LEN`] bytes.
//! * **uncompressed**: without wrapping. Parts are padded with zeros to a multiple of
//!   [`PLAIN_UNIT`]. The seal's footer ends the stream.
//!
//! From the footer at the end of the stream a reader gets the start of the seal. The header has all
//! other lengths, and digests of itself and of the other parts of the seal. The wrapping is
//! deterministic: a reader compares every byte with what a writer would have written.

use crate::gzip_format::{EMPTY_DEFLATE, HEADER_LEN as GZIP_HEADER_LEN, TRAILER_LEN};
use crate::zstd_format::SKIPPABLE_MAGIC;

/// Header, bytes 0..8.
pub const MAGIC: [u8; 8] = *b"LVCRSEAL";
/// Header, bytes 8..10: the version of a seal with parts.
pub const VERSION: u16 = 2;
/// The version without parts. Current writers use it if there are no parts; older writers always
/// did. Other versions are unsupported.
pub const VERSION_1: u16 = 1;
/// Size of a header.
///
/// | bytes   | field                                                               |
/// |---------|---------------------------------------------------------------------|
/// | 0..8    | [`MAGIC`]                                                           |
/// | 8..10   | [`VERSION`]                                                         |
/// | 10      | codec: [`CODEC_NONE`], [`CODEC_GZIP`] or [`CODEC_ZSTD`]             |
/// | 11      | cipher of the data: 0, not encrypted, or [`CIPHER_AES_256_CBC`] or [`CIPHER_CHACHA20`] |
/// | 12..16  | content size of each frame except the last, which may have less     |
/// | 16..24  | total content size                                                  |
/// | 24..32  | stored size of the data frames: start of the parts                  |
/// | 32..40  | number of data frames                                               |
/// | 40..44  | size of the attachment                                              |
/// | 44..48  | number of parts                                                     |
/// | 48..56  | digest of the attachment                                            |
/// | 56..64  | digest of the index                                                 |
/// | 64..72  | digest of bytes 0..64                                               |
/// | 72..80  | stored size of the parts, including their wrapping                  |
/// | 80..88  | digest of those bytes                                               |
/// | 88..96  | 0                                                                   |
/// | 96..104 | digest of bytes 0..96                                               |
pub const HEADER_LEN: usize = 104;
/// Size of a header of version 1: the first fields of the above, with 0 parts. The seal begins at the
/// end of the data.
pub const HEADER_LEN_1: usize = 72;
/// Number of header bytes covered by the digest after them, in both versions.
pub const HEADER_DIGESTED: usize = 64;
/// Number of header bytes covered by the last digest of version 2.
pub const HEADER_DIGESTED_2: usize = 96;

/// Part, bytes 0..8.
pub const PART_MAGIC: [u8; 8] = *b"LVCRPART";
/// Size of a part's header.
///
/// | bytes  | field                                                                       |
/// |--------|-----------------------------------------------------------------------------|
/// | 0..8   | [`PART_MAGIC`]                                                              |
/// | 8..12  | kind: [`PART_COPY`] or one of the next constants                            |
/// | 12..16 | size after this header                                                      |
/// | 16..24 | offset of the part's content in the stream's content or in a list           |
/// | 24..28 | size of the part's content                                                  |
/// | 28     | codec: [`CODEC_NONE`] or [`CODEC_ZSTD`]                                     |
/// | 29..32 | 0                                                                           |
/// | 32..40 | offset of this header in the stream                                         |
/// | 40..48 | digest of the bytes after this header                                       |
/// | 48..56 | digest of bytes 0..48                                                       |
pub const PART_HEADER_LEN: usize = 56;
/// Number of bytes of a part's header covered by its last field.
pub const PART_DIGESTED: usize = 48;
/// Maximum size of a part, including its header: an extra field has at most 65,535 bytes.
pub const PART_MAX: usize = 65_000;
/// Content size of a part of the copy; the last one may have less.
pub const PART_COPY_LEN: usize = 32 << 10;
/// Part: a piece of the copy of the content's beginning, a zstd frame.
pub const PART_COPY: u32 = 1;
/// Part: a piece of the list of content ranges that no checksum proves. A range is its offset and
/// length, 8 bytes each; ranges ascend and are not adjacent.
pub const PART_UNPROVEN: u32 = 2;
/// Part: a piece of the list of pages that were excluded on request. The attachment describes it.
pub const PART_EXCLUDED: u32 = 3;
/// Part: the key block of an encrypted stream, `struct kerneldumpkey`, padded with zeros to
/// `dumpkeysize`.
pub const PART_KEYS: u32 = 4;
/// The parts of an uncompressed stream end at a multiple of this.
pub const PLAIN_UNIT: u64 = 4096;

/// Size of an index entry; see [`crate::table::Entry`].
pub const ENTRY_LEN: usize = 12;
/// Size of a footer.
///
/// | bytes  | field                                                             |
/// |--------|-------------------------------------------------------------------|
/// | 0..8   | [`FOOTER_MAGIC`]                                                  |
/// | 8..16  | size of the seal, including the footer, without wrapping          |
/// | 16..24 | digest of bytes 0..16                                             |
/// | 24..32 | [`END_MAGIC`]                                                     |
pub const FOOTER_LEN: usize = 32;
/// Footer, bytes 0..8.
pub const FOOTER_MAGIC: [u8; 8] = *b"LVCRFOOT";
/// Footer, bytes 24..32. A single damaged range leaves one of the two magics intact.
pub const END_MAGIC: [u8; 8] = *b"LVCR.END";
/// Number of footer bytes covered by its digest.
pub const FOOTER_DIGESTED: usize = 16;

/// Header, byte 10: uncompressed.
pub const CODEC_NONE: u8 = 0;
/// Header, byte 10: gzip members.
pub const CODEC_GZIP: u8 = 1;
/// Header, byte 10: zstd frames.
pub const CODEC_ZSTD: u8 = 2;

/// Header, byte 11: the data is not encrypted. Version 1 has only this.
pub const CIPHER_NONE: u8 = 0;
/// Header, byte 11: the data is encrypted with AES-256-CBC.
pub const CIPHER_AES_256_CBC: u8 = 1;
/// Header, byte 11: the data is encrypted with ChaCha20 with a 64-bit nonce.
pub const CIPHER_CHACHA20: u8 = 2;

/// Maximum size of an attachment.
pub const ATTACHMENT_MAX: usize = 1 << 20;
/// The frame size is a multiple of this.
pub const FRAME_UNIT: u32 = 4096;
/// Maximum content size of a frame.
pub const FRAME_MAX: u32 = 64 << 20;

/// Magic of the skippable frame around a seal.
pub const ZSTD_SEAL_MAGIC: u32 = SKIPPABLE_MAGIC + 0xC;

/// Subfield of a data member: its stored length (`u32`) and content length (`u32`).
pub const GZIP_DATA: [u8; 2] = *b"LC";
/// Size of that subfield's content.
pub const GZIP_DATA_LEN: usize = 8;
/// Size of a data member's header: fixed part, XLEN, subfield header, subfield.
pub const GZIP_DATA_HEADER_LEN: usize = GZIP_HEADER_LEN + 2 + 4 + GZIP_DATA_LEN;
/// Subfield of an empty member: a piece of the seal.
pub const GZIP_SEAL: [u8; 2] = *b"LS";
/// Size of such a piece, except the last. An extra field has at most 65,535 bytes.
pub const GZIP_PIECE: usize = 65_000;
/// Subfield of the last member: the footer.
pub const GZIP_FOOTER: [u8; 2] = *b"LE";
/// Size of an empty member without the subfield's content.
pub const GZIP_EMPTY_LEN: usize = GZIP_HEADER_LEN + 2 + 4 + EMPTY_DEFLATE.len() + TRAILER_LEN;
/// Offset of the subfield's content in an empty member.
pub const GZIP_SUBFIELD_AT: u64 = (GZIP_HEADER_LEN + 2 + 4) as u64;
/// Size of the last member.
pub const GZIP_LAST_LEN: usize = GZIP_EMPTY_LEN + FOOTER_LEN;

const _: () = assert!(GZIP_DATA_HEADER_LEN == 24);
const _: () = assert!(GZIP_EMPTY_LEN == 26 && GZIP_LAST_LEN == 58);
const _: () = assert!(GZIP_PIECE + 4 <= u16::MAX as usize);

const _: () = assert!(PART_MAX <= GZIP_PIECE);

/// The fields of a header, without magic, digests and reserved bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealHeader {
    /// Bytes 8..10: [`VERSION`] or [`VERSION_1`].
    pub version: u16,
    /// Byte 10.
    pub codec: u8,
    /// Byte 11.
    pub cipher: u8,
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
    /// Size of the header.
    pub fn header_len(&self) -> usize {
        match self.version {
            VERSION_1 => HEADER_LEN_1,
            _ => HEADER_LEN,
        }
    }

    /// Start of the seal: the end of data and parts. `None` if it exceeds 64 bits.
    pub fn seal_start(&self) -> Option<u64> {
        self.stored_len.checked_add(self.parts_len)
    }
}
