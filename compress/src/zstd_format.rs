//! The outer structure of zstd streams, without the content of blocks.
//!
//! RFC 8878, "Zstandard Compression and the 'application/zstd' Media Type", and version 0.1.0 of the
//! seekable format in the zstd library's `contrib`. All numbers are little-endian. This module does
//! not decode blocks.

/// RFC 8878 3.1.1: the first four bytes of a frame.
pub(crate) const MAGIC: u32 = 0xFD2F_B528;
/// RFC 8878 3.1.2: skippable frames begin with this number or one of the fifteen after it.
pub(crate) const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
/// Size of a skippable frame's header: magic and content length (`u32`).
pub(crate) const SKIPPABLE_HEADER_LEN: usize = 8;
/// The skippable magic of a seek table.
pub(crate) const SEEK_TABLE_MAGIC: u32 = 0x184D_2A5E;
/// The last four bytes of a seek table.
pub(crate) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Size of a seek table's footer: number of frames (`u32`), descriptor, [`SEEKABLE_MAGIC`].
pub(crate) const SEEK_FOOTER_LEN: usize = 9;
/// Size of a seek table entry with a checksum: compressed length, content length, low half of the
/// content's XXH64.
pub(crate) const SEEK_ENTRY_LEN: usize = 12;
/// The footer's descriptor for entries with checksums; all other bits are 0.
pub(crate) const SEEK_DESCRIPTOR: u8 = 0x80;
/// Maximum number of frames in a seek table.
pub(crate) const SEEK_MAX_FRAMES: u64 = 0x0800_0000;
/// Maximum size of a frame header: magic, descriptor, window, dictionary 4, content size 8.
pub(crate) const FRAME_HEADER_MAX: usize = 18;
/// Size of a block header.
pub(crate) const BLOCK_HEADER_LEN: usize = 3;
/// Size of a frame's checksum, at its end.
pub(crate) const CHECKSUM_LEN: usize = 4;
/// RFC 8878 3.1.1.2.4: maximum content size of a block.
pub(crate) const BLOCK_MAX: u32 = 128 << 10;

/// Whether `magic` is that of a skippable frame.
pub(crate) fn is_skippable(magic: u32) -> bool {
    magic & 0xFFFF_FFF0 == SKIPPABLE_MAGIC
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Size of the header, including its magic.
    pub len: usize,
    /// Window size: content that the decoder must keep.
    pub window: u64,
    /// Content length, if the header states it.
    pub content_len: Option<u64>,
    /// Whether a checksum follows the last block.
    pub checksum: bool,
    /// Dictionary id; 0 if there is none.
    pub dictionary: u32,
}

impl FrameHeader {
    /// Parses the header at the beginning of `bytes`, which should have [`FRAME_HEADER_MAX`] bytes if
    /// the stream has. `None` if `bytes` is too short, has another magic, or sets a reserved bit.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*magic) != MAGIC {
            return None;
        }
        let (&descriptor, mut rest) = rest.split_first()?;
        // Bit 3 is reserved, bit 4 unused.
        if descriptor & 0b0000_1000 != 0 {
            return None;
        }
        let single = descriptor & 0b0010_0000 != 0;
        let mut window = None;
        if !single {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            let base = 1_u64 << (10 + (byte >> 3));
            window = Some(base + (base >> 3) * u64::from(byte & 7));
        }
        let mut take = |n: usize| {
            let (field, after) = rest.split_at_checked(n)?;
            rest = after;
            let mut wide = [0; 8];
            wide[..n].copy_from_slice(field);
            Some(u64::from_le_bytes(wide))
        };
        let dictionary = take([0, 1, 2, 4][usize::from(descriptor & 3)])? as u32;
        let content_len = match descriptor >> 6 {
            0 if single => Some(take(1)?),
            0 => None,
            1 => Some(take(2)? + 256),
            2 => Some(take(4)?),
            _ => Some(take(8)?),
        };
        Some(Self {
            len: bytes.len() - rest.len(),
            // A single segment's window is its content.
            window: window.or(content_len)?,
            content_len,
            checksum: descriptor & 0b0000_0100 != 0,
            dictionary,
        })
    }
}

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// Whether the block is the frame's last.
    pub last: bool,
    /// Size of the block without its header.
    pub stored_len: u32,
}

impl BlockHeader {
    /// Parses a block header. `None` if its type is reserved or its size exceeds [`BLOCK_MAX`].
    pub(crate) fn parse(bytes: [u8; BLOCK_HEADER_LEN]) -> Option<Self> {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        let size = word >> 3;
        if size > BLOCK_MAX {
            return None;
        }
        let stored_len = match word >> 1 & 3 {
            0 | 2 => size,
            1 => 1,
            _ => return None,
        };
        Some(Self {
            last: word & 1 != 0,
            stored_len,
        })
    }
}

/// What is wrong with compressed data, from the code of the library.
pub(crate) fn invalid_zstd(code: usize) -> String {
    let why = zstd::zstd_safe::get_error_name(code).to_lowercase();
    format!("invalid data ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_frame_header_has_a_window_and_no_size() {
        // The first bytes that a FreeBSD 15 kernel writes at level 6.
        let header = FrameHeader::parse(&[0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0xaa]).unwrap();
        assert_eq!(header.len, 6);
        assert_eq!(header.window, 2 << 20);
        assert_eq!(header.content_len, None);
        assert!(header.checksum);
    }

    #[test]
    fn headers_of_the_zstd_library_are_parsed() {
        for len in [0, 1, 255, 256, 300, 65791, 65792, 1 << 20] {
            let frame = zstd::bulk::compress(&vec![7; len], 3).unwrap();
            let header = FrameHeader::parse(&frame).unwrap();
            assert_eq!(header.content_len, Some(len as u64));
            for cut in 0..header.len {
                assert_eq!(FrameHeader::parse(&frame[..cut]), None);
            }
        }
    }
}
