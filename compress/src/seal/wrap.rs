//! Empty gzip members with bytes in their extra fields, which gzip readers skip.

use std::io::{self, Write};

use super::format::*;
use crate::gzip_format::{EMPTY_DEFLATE, EXTRA_HEADER, TRAILER_LEN};

/// Size of an empty member with `len` bytes in its subfield.
pub(super) fn empty_member_len(len: usize) -> u64 {
    (GZIP_EMPTY_LEN + len) as u64
}

/// Writes an empty member with `content` in the subfield `id`.
pub(super) fn write_empty_member(
    out: &mut dyn Write,
    id: [u8; 2],
    content: &[u8],
) -> io::Result<()> {
    // At most GZIP_PIECE bytes: with the subfield's header they fit in XLEN.
    let len = content.len() as u16;
    out.write_all(&EXTRA_HEADER)?;
    out.write_all(&(len + 4).to_le_bytes())?;
    out.write_all(&id)?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(content)?;
    out.write_all(&EMPTY_DEFLATE)?;
    // CRC-32 and length of empty content.
    out.write_all(&[0; TRAILER_LEN])
}

/// A writer that divides its input into empty gzip members.
pub(super) struct Pieces<'a> {
    out: &'a mut dyn Write,
    piece: Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            piece: Vec::with_capacity(GZIP_PIECE),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        write_empty_member(self.out, GZIP_SEAL, &std::mem::take(&mut self.piece))
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(GZIP_PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == GZIP_PIECE {
            write_empty_member(self.out, GZIP_SEAL, &self.piece)?;
            self.piece.clear();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
