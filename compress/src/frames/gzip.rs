//! A walk over gzip members by the lengths in their extra fields.

use super::cursor::Cursor;
use super::{Found, FoundKind};
use crate::Error;
use crate::gzip_format::{BGZIP, EMPTY_DEFLATE, MemberHeader, NoHeader, TRAILER_LEN};
use crate::seal::format::{GZIP_DATA, GZIP_DATA_LEN, GZIP_FOOTER, GZIP_SEAL};

/// Number of bytes to read first: headers of livecore and bgzip are shorter, except those of a seal.
const HEADER_USUAL: usize = 64;
/// The longest header with an extra field and without texts, and the rest of an empty member.
const HEADER_LONG: usize = 12 + 65535 + 64;

/// The member at the cursor; `None` at the end of the stream.
pub(super) fn step(cursor: &Cursor<'_>) -> Result<Option<Found>, Error> {
    let mut bytes = vec![0; HEADER_USUAL];
    loop {
        let got = cursor.read(&mut bytes, cursor.at)?;
        if got == 0 {
            return Ok(None);
        }
        match MemberHeader::parse(&bytes[..got]) {
            Ok(header) => return member(cursor, &header).map(Some),
            Err(NoHeader::Short) if got == bytes.len() && got < HEADER_LONG => {
                bytes.resize(HEADER_LONG, 0);
            }
            Err(NoHeader::Short) => {
                return Err(cursor.cut("the rest of the header"));
            }
            Err(NoHeader::Wrong) => {
                return Err(
                    cursor.broken(format!("{:02x?}", &bytes[..got.min(10)]), "a gzip header")
                );
            }
        }
    }
}

fn member(cursor: &Cursor<'_>, header: &MemberHeader<'_>) -> Result<Found, Error> {
    let (kind, stored_len, content_len) = if let Some(lens) = header
        .subfield(GZIP_DATA)
        .and_then(|f| <[u8; GZIP_DATA_LEN]>::try_from(f).ok())
    {
        let [a, b, c, d, e, f, g, h] = lens;
        let stored = u32::from_le_bytes([a, b, c, d]);
        let content = u32::from_le_bytes([e, f, g, h]);
        (FoundKind::Data, u64::from(stored), u64::from(content))
    } else if let Some(id) = [GZIP_SEAL, GZIP_FOOTER]
        .into_iter()
        .find(|id| header.subfield(*id).is_some())
    {
        let len = header.len + EMPTY_DEFLATE.len() + TRAILER_LEN;
        (FoundKind::Seal(id), len as u64, 0)
    } else if let Some(len) = header
        .subfield(BGZIP)
        .and_then(|f| <[u8; 2]>::try_from(f).ok())
    {
        let stored = u64::from(u16::from_le_bytes(len)) + 1;
        (FoundKind::Data, stored, u64::MAX)
    } else {
        return Err(cursor.broken(
            "no subfield with the member's length".into(),
            "a subfield of livecore or bgzip",
        ));
    };
    let least = (header.len + EMPTY_DEFLATE.len() + TRAILER_LEN) as u64;
    if stored_len < least {
        return Err(cursor.broken(
            format!("a stated length of {stored_len}"),
            format!("at least {least} bytes"),
        ));
    }
    let mut trailer = [0; TRAILER_LEN];
    let trailer_at = cursor.at + stored_len - TRAILER_LEN as u64;
    let got = cursor.read(&mut trailer, trailer_at)?;
    if got < TRAILER_LEN {
        return Err(cursor.cut("the rest of the member"));
    }
    let [a, b, c, d, e, f, g, h] = trailer;
    let isize = u32::from_le_bytes([e, f, g, h]);
    // bgzip states no content length, but its content has at most 64 KiB: the trailer states it.
    let content_len = if content_len == u64::MAX {
        u64::from(isize)
    } else {
        content_len
    };
    if content_len != u64::from(isize) {
        return Err(cursor.broken(
            format!("a content length of {isize} in the trailer"),
            format!("{content_len}, from the header"),
        ));
    }
    Ok(Found {
        kind,
        offset: cursor.at,
        stored_len,
        content_len: Some(content_len),
        content_check: Some(u32::from_le_bytes([a, b, c, d])),
    })
}
