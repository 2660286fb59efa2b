//! A walk over zstd frames by their headers and block headers.

use super::cursor::Cursor;
use super::{Found, FoundKind};
use crate::Error;
use crate::zstd_format::*;

/// The header of the frame at the cursor, if it is a data frame with a complete header.
pub(super) fn peek(cursor: &Cursor<'_>) -> Result<Option<FrameHeader>, Error> {
    let mut head = [0; FRAME_HEADER_MAX];
    let got = cursor.read(&mut head, cursor.at)?;
    Ok(FrameHeader::parse(&head[..got]))
}

/// The frame at the cursor; `None` at the end of the stream.
pub(super) fn step(cursor: &Cursor<'_>) -> Result<Option<Found>, Error> {
    let mut head = [0; FRAME_HEADER_MAX];
    let got = cursor.read(&mut head, cursor.at)?;
    let head = &head[..got];
    if head.is_empty() {
        return Ok(None);
    }
    let Some(magic) = head.first_chunk().map(|m| u32::from_le_bytes(*m)) else {
        return Err(cursor.broken(format!("{head:02x?}"), "a frame"));
    };
    if is_skippable(magic) {
        let Some(len) = head
            .get(4..SKIPPABLE_HEADER_LEN)
            .and_then(|l| l.first_chunk())
        else {
            return Err(cursor.cut("a skippable frame's length"));
        };
        let stored_len = SKIPPABLE_HEADER_LEN as u64 + u64::from(u32::from_le_bytes(*len));
        // Read the last byte to check that the frame is complete.
        cursor.need(
            &mut [0],
            cursor.at + stored_len - 1,
            "the rest of a skippable frame",
        )?;
        return Ok(Some(Found {
            kind: FoundKind::Skippable(magic),
            offset: cursor.at,
            stored_len,
            content_len: Some(0),
            content_check: None,
        }));
    }
    let Some(header) = FrameHeader::parse(head) else {
        return Err(cursor.broken(format!("{head:02x?}"), "a frame header"));
    };
    let mut at = cursor.at + header.len as u64;
    loop {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        cursor.need(&mut bytes, at, "a block header")?;
        let Some(block) = BlockHeader::parse(bytes) else {
            let found = format!("block header {bytes:02x?} at {at:#x}");
            return Err(cursor.broken(found, "a block of a known type, up to 128 KiB"));
        };
        at += BLOCK_HEADER_LEN as u64 + u64::from(block.stored_len);
        if block.last {
            break;
        }
    }
    let mut content_check = None;
    if header.checksum {
        let mut bytes = [0; CHECKSUM_LEN];
        cursor.need(&mut bytes, at, "a checksum")?;
        content_check = Some(u32::from_le_bytes(bytes));
        at += CHECKSUM_LEN as u64;
    } else {
        cursor.need(&mut [0], at - 1, "the rest of a block")?;
    }
    Ok(Some(Found {
        kind: FoundKind::Data,
        offset: cursor.at,
        stored_len: at - cursor.at,
        content_len: header.content_len,
        content_check,
    }))
}
