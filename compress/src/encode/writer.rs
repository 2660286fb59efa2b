//! Uncompressed frames of content that the caller writes piece by piece.

use std::io::{self, Write};

use xxhash_rust::xxh64::Xxh64;

use super::stored::Stored;
use crate::seal::format::{CIPHER_NONE, FRAME_MAX, FRAME_UNIT};
use crate::table::{self, Entry, FrameTable};
use crate::{Codec, Error};

/// Writes content as it is and records uncompressed frames for a seal, like
/// [`encode_read`](crate::encode_read) with [`Codec::None`], for content that cannot be read: the
/// output of a cipher.
pub struct FrameWriter<'a> {
    out: &'a mut dyn Write,
    table: FrameTable,
    digest: Xxh64,
    /// Bytes of the frame that is not complete.
    open: u32,
}

impl<'a> FrameWriter<'a> {
    /// Frames of `frame_size` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the frame size is not a multiple of 4096 or is more than 64 MiB.
    pub fn new(out: &'a mut dyn Write, frame_size: u32) -> Result<Self, Error> {
        if frame_size == 0 || !frame_size.is_multiple_of(FRAME_UNIT) || frame_size > FRAME_MAX {
            return Err(Error::Options(format!(
                "frames of {frame_size} bytes: expected a multiple of {FRAME_UNIT} up to {FRAME_MAX}"
            )));
        }
        Ok(Self {
            out,
            table: FrameTable::new(frame_size),
            digest: Xxh64::new(0),
            open: 0,
        })
    }

    /// Ends the last frame.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] if there are too many frames.
    pub fn finish(mut self) -> Result<Stored, Error> {
        if self.open > 0 {
            self.end_frame()?;
        }
        Ok(Stored {
            content_len: self.table.content_len(),
            stored_len: self.table.stored_len(),
            codec: Codec::None,
            cipher: CIPHER_NONE,
            table: Some(self.table),
            parts: Vec::new(),
        })
    }

    fn end_frame(&mut self) -> Result<(), Error> {
        let digest = std::mem::replace(&mut self.digest, Xxh64::new(0)).digest();
        let entry = Entry {
            stored_len: self.open,
            content_check: digest as u32,
            stored_check: (digest >> 32) as u32,
        };
        let len = std::mem::take(&mut self.open);
        self.table.push(len, entry).ok_or_else(table::too_long)
    }
}

impl Write for FrameWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // At most FRAME_MAX.
        let left = (self.table.frame_size() - self.open) as usize;
        let n = self.out.write(&bytes[..bytes.len().min(left)])?;
        self.digest.update(&bytes[..n]);
        self.open += n as u32;
        if self.open == self.table.frame_size() {
            self.end_frame()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, NoProgress, Shape, encode_at, write_seal};

    #[test]
    fn frames_are_those_of_the_encoder() {
        for len in [0, 1, 4096, 4097, 3 * 8192, 50_000] {
            let content: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let mut encoding = Encoding::new(Codec::None);
            encoding.frame_size = 8192;
            let mut expected = Vec::new();
            let stored = encode_at(
                &content,
                &encoding,
                Shape::Frames,
                &mut expected,
                &NoProgress,
            )
            .unwrap();
            write_seal(&stored, b"a", &mut expected).unwrap();
            let mut found = Vec::new();
            let mut writer = FrameWriter::new(&mut found, 8192).unwrap();
            content
                .chunks(777)
                .for_each(|piece| writer.write_all(piece).unwrap());
            let stored = writer.finish().unwrap();
            write_seal(&stored, b"a", &mut found).unwrap();
            assert!(found == expected, "{len} bytes");
        }
    }

    #[test]
    fn frame_sizes_that_no_seal_can_state_are_refused() {
        for size in [0, 4095, FRAME_MAX + FRAME_UNIT] {
            assert!(FrameWriter::new(&mut io::sink(), size).is_err(), "{size}");
        }
    }
}
