//! A stream as the kernel's own compressors make it (FreeBSD `sys/kern/subr_compressor.c`).
//!
//! gzip: one member; a header of ten bytes without flags, time or extra flags, from "Unix"; raw
//! deflate at one level throughout, no flush points; CRC-32 and length modulo 2^32. zstd: one
//! frame, checksum on, no content size. The level of both is `kern.kerneldump_gzlevel`, 6.

use std::io::{self, Write};

use compress::{Codec, ReadAt};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// `kern.kerneldump_gzlevel`
const LEVEL: i32 = 6;
/// `maxiosize`: what the kernel's dumper takes at once, and so what a compressor is given.
const PIECE: usize = 64 << 10;
/// The member's header.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// Writes all of `content` as the kernel would, and says how many bytes that made.
pub(super) fn write(content: &dyn ReadAt, codec: Codec, out: &mut dyn Write) -> io::Result<u64> {
    let mut out = Counted { out, count: 0 };
    match codec {
        Codec::None => pieces(content, &mut |piece| out.write_all(piece))?,
        Codec::Gzip => gzip(content, &mut out)?,
        Codec::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut out, LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.include_contentsize(false)?;
            pieces(content, &mut |piece| encoder.write_all(piece))?;
            encoder.finish()?;
        }
    }
    Ok(out.count)
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pieces(content: &dyn ReadAt, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let size = content.size()?;
    let mut buf = vec![0; PIECE];
    let mut offset = 0;
    while offset < size {
        let n = (size - offset).min(PIECE as u64) as usize;
        content.read_exact_at(&mut buf[..n], offset)?;
        sink(&buf[..n])?;
        offset += n as u64;
    }
    Ok(())
}

fn gzip(content: &dyn ReadAt, out: &mut dyn Write) -> io::Result<()> {
    let mut deflate = Compress::new(Compression::new(LEVEL as u32), false);
    let mut crc = Crc::new();
    let mut stored = Vec::with_capacity(PIECE);
    let mut push = |piece: &[u8], flush: FlushCompress, out: &mut dyn Write| -> io::Result<()> {
        let start = deflate.total_in();
        loop {
            let done = (deflate.total_in() - start) as usize;
            stored.clear();
            let status = deflate
                .compress_vec(&piece[done..], &mut stored, flush)
                .map_err(io::Error::other)?;
            out.write_all(&stored)?;
            let taken = (deflate.total_in() - start) as usize == piece.len();
            let full = stored.len() == stored.capacity();
            match (flush, status) {
                (FlushCompress::Finish, Status::StreamEnd) => return Ok(()),
                (FlushCompress::Finish, _) => {}
                _ if taken && !full => return Ok(()),
                _ => {}
            }
        }
    };
    out.write_all(&GZIP_HEADER)?;
    pieces(content, &mut |piece| {
        crc.update(piece);
        push(piece, FlushCompress::None, out)
    })?;
    push(&[], FlushCompress::Finish, out)?;
    out.write_all(&crc.sum().to_le_bytes())?;
    // The length modulo 2^32.
    out.write_all(&crc.amount().to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn content() -> Vec<u8> {
        let mut bytes = vec![0_u8; 300_000];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = if i % 7 == 0 { (i / 129) as u8 } else { 0 };
        }
        bytes
    }

    #[test]
    fn gzip_is_one_member_with_the_kernels_header() {
        let mut stored = Vec::new();
        let n = write(&content(), Codec::Gzip, &mut stored).unwrap();
        assert_eq!(n, stored.len() as u64);
        assert_eq!(stored[..10], *b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
        let mut decoder = flate2::read::GzDecoder::new(stored.as_slice());
        let mut back = Vec::new();
        decoder.read_to_end(&mut back).unwrap();
        assert!(back == content());
        assert!(decoder.into_inner().is_empty(), "one member");
    }

    #[test]
    fn zstd_is_one_frame_with_checksum_and_without_content_size() {
        let mut stored = Vec::new();
        write(&content(), Codec::Zstd, &mut stored).unwrap();
        // What a 12.1 kernel's dump begins with: checksum flag only, window of 2 MiB.
        assert_eq!(stored[..6], *b"\x28\xb5\x2f\xfd\x04\x58");
        assert!(zstd::decode_all(stored.as_slice()).unwrap() == content());
    }

    #[test]
    fn uncompressed_is_the_content() {
        let mut stored = Vec::new();
        write(&content(), Codec::None, &mut stored).unwrap();
        assert!(stored == content());
    }
}
