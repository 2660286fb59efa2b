//! The outer structure of gzip streams: RFC 1952 members, and the extra fields of livecore and bgzip.
//!
//! All numbers are little-endian. This module does not inflate.

/// ID1, ID2 and CM (deflate).
pub(crate) const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Size of a header without optional fields.
pub(crate) const HEADER_LEN: usize = 10;
/// Size of a trailer: CRC-32 and content length modulo 2^32.
pub(crate) const TRAILER_LEN: usize = 8;
/// FLG: a CRC of the header follows it.
pub(crate) const FHCRC: u8 = 1 << 1;
/// FLG: an extra field follows.
pub(crate) const FEXTRA: u8 = 1 << 2;
/// FLG: a zero-terminated file name follows.
pub(crate) const FNAME: u8 = 1 << 3;
/// FLG: a zero-terminated comment follows.
pub(crate) const FCOMMENT: u8 = 1 << 4;
/// FLG: bits that must be 0.
pub(crate) const RESERVED: u8 = 0b1110_0000;
/// Maximum size of a header to read. Only the extra field can be long in practice.
pub(crate) const HEADER_MAX: usize = 3 * 65536;

/// The header that FreeBSD's kernel writes: no flags, no time, no hints, OS 3 (Unix).
pub(crate) const PLAIN_HEADER: [u8; HEADER_LEN] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// [`PLAIN_HEADER`] with an extra field.
pub(crate) const EXTRA_HEADER: [u8; HEADER_LEN] = [0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 3];

/// An empty deflate stream: one last block with fixed codes.
pub(crate) const EMPTY_DEFLATE: [u8; 2] = [3, 0];

/// Subfield of bgzip: the member's stored length minus one (`u16`).
pub(crate) const BGZIP: [u8; 2] = *b"BC";

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberHeader<'a> {
    /// Size of the header.
    pub len: usize,
    /// The extra field; empty if there is none.
    pub extra: &'a [u8],
}

/// Why bytes could not be parsed as a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// There are too few bytes.
    Short,
    /// The bytes are not a valid header.
    Wrong,
}

impl<'a> MemberHeader<'a> {
    /// Parses the header at the beginning of `bytes`, and checks its CRC if it has one.
    ///
    /// # Errors
    ///
    /// [`NoHeader`] if the bytes are not a whole gzip header.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NoHeader> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(NoHeader::Wrong);
        }
        let Some(fixed) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(NoHeader::Short);
        };
        let flags = fixed[3];
        if flags & RESERVED != 0 {
            return Err(NoHeader::Wrong);
        }
        let mut at = HEADER_LEN;
        let mut extra: &[u8] = &[];
        if flags & FEXTRA != 0 {
            let rest = bytes.get(at..).ok_or(NoHeader::Short)?;
            let (len, rest) = rest.split_first_chunk::<2>().ok_or(NoHeader::Short)?;
            let len = usize::from(u16::from_le_bytes(*len));
            extra = rest.get(..len).ok_or(NoHeader::Short)?;
            at += 2 + len;
        }
        for text in [FNAME, FCOMMENT] {
            if flags & text != 0 {
                let rest = bytes.get(at..).ok_or(NoHeader::Short)?;
                at += rest.iter().position(|b| *b == 0).ok_or(NoHeader::Short)? + 1;
            }
        }
        if flags & FHCRC != 0 {
            let found = bytes.get(at..at + 2).ok_or(NoHeader::Short)?;
            let expected = crc32fast::hash(&bytes[..at]) as u16;
            if *found != expected.to_le_bytes() {
                return Err(NoHeader::Wrong);
            }
            at += 2;
        }
        Ok(Self { len: at, extra })
    }

    /// The content of the extra field's first subfield `id`, if there is one.
    pub(crate) fn subfield(&self, id: [u8; 2]) -> Option<&'a [u8]> {
        let mut rest = self.extra;
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let (content, next) = after.split_at_checked(len)?;
            if head[..2] == id {
                return Some(content);
            }
            rest = next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_all_optional_fields_are_parsed() {
        let mut bytes = vec![
            0x1f,
            0x8b,
            8,
            FEXTRA | FNAME | FCOMMENT | FHCRC,
            0,
            0,
            0,
            0,
            2,
            3,
        ];
        bytes.extend([10, 0]);
        bytes.extend(*b"XX\x00\x00BC\x02\x00\x1b\x00");
        bytes.extend(*b"name\0comment\0");
        let crc = crc32fast::hash(&bytes) as u16;
        bytes.extend(crc.to_le_bytes());
        let header = MemberHeader::parse(&bytes).unwrap();
        assert_eq!(header.len, bytes.len());
        assert_eq!(header.subfield(BGZIP), Some(&[0x1b, 0][..]));
        assert_eq!(header.subfield(*b"LC"), None);
        for cut in 0..bytes.len() {
            assert_eq!(MemberHeader::parse(&bytes[..cut]), Err(NoHeader::Short));
        }
        bytes[30] ^= 1;
        assert_eq!(MemberHeader::parse(&bytes), Err(NoHeader::Wrong));
    }
}
