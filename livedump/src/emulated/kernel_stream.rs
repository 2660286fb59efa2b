//! Compressed streams in the format of the kernel's compressors (FreeBSD
//! `sys/kern/subr_compressor.c`).
//!
//! gzip: one member, with a header of ten bytes without flags, time or extra flags, and the system
//! "Unix"; raw deflate at one level without flush points; CRC-32 and length modulo 2^32. zstd: one
//! frame with a checksum and without a content size. The level of both is
//! `kern.kerneldump_gzlevel`, 6.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use livecore_compress::{Codec, ReadAt};

/// `kern.kerneldump_gzlevel`
const LEVEL: i32 = 6;
/// `maxiosize`: the bytes that the kernel's dumper passes to a compressor at once.
const PIECE: usize = 64 << 10;
/// The header of a gzip member.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// A kernel compressor. It is created once for a dump and not reset between attempts (see
/// [`Stream::write`]).
pub(super) enum Stream {
    None,
    Gzip(Box<Gzip>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

/// The kernel's gzip compressor.
pub(super) struct Gzip {
    deflate: Compress,
    crc: Crc,
    begun: bool,
    stored: Vec<u8>,
    /// Whether a write of its output has failed. Its buffer is full then and stays full, so that
    /// deflate(3) makes no progress and the kernel returns EIO.
    stuck: bool,
}

impl Stream {
    /// A new compressor.
    pub(super) fn new(codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip(Box::new(Gzip {
                deflate: Compress::new(Compression::new(LEVEL as u32), false),
                crc: Crc::new(),
                begun: false,
                stored: Vec::with_capacity(PIECE),
                stuck: false,
            })),
            Codec::Zstd => Self::Zstd(frame()?),
        })
    }

    /// Compresses `content` to `out`, and returns the number of bytes written.
    ///
    /// After an error this may be called again with the same content. The kernel does not reset the
    /// compressor: zstd continues where it was, and its second output cannot be decompressed. gzip
    /// fails with EIO.
    pub(super) fn write(&mut self, content: &dyn ReadAt, out: &mut dyn Write) -> io::Result<u64> {
        let out = &mut Counted { out, count: 0 };
        match self {
            Self::None => pieces(content, &mut |piece| out.write_all(piece))?,
            Self::Gzip(gzip) => {
                pieces(content, &mut |piece| gzip.piece(piece, out))?;
                gzip.finish(out)?;
            }
            Self::Zstd(encoder) => {
                pieces(content, &mut |piece| {
                    encoder.write_all(piece)?;
                    drain(encoder.get_mut(), out)
                })?;
                encoder.do_finish()?;
                // The end of a frame starts the next one.
                let mut rest = std::mem::replace(encoder, frame()?);
                drain(rest.get_mut(), out)?;
            }
        }
        Ok(out.count)
    }
}

fn frame() -> io::Result<zstd::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(false)?;
    Ok(encoder)
}

/// Writes the collected output and clears it, even if writing fails.
fn drain(gathered: &mut Vec<u8>, out: &mut dyn Write) -> io::Result<()> {
    let result = out.write_all(gathered);
    gathered.clear();
    result
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

impl Gzip {
    fn piece(&mut self, piece: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if self.stuck {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let result = self.piece_of(piece, out);
        self.stuck = result.is_err();
        result
    }

    fn piece_of(&mut self, piece: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            out.write_all(&GZIP_HEADER)?;
        }
        self.crc.update(piece);
        self.push(piece, FlushCompress::None, out)
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let result = self.trailer(out);
        self.stuck = result.is_err();
        result
    }

    fn trailer(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.push(&[], FlushCompress::Finish, out)?;
        out.write_all(&self.crc.sum().to_le_bytes())?;
        // The length modulo 2^32.
        out.write_all(&self.crc.amount().to_le_bytes())
    }

    fn push(&mut self, piece: &[u8], flush: FlushCompress, out: &mut dyn Write) -> io::Result<()> {
        let start = self.deflate.total_in();
        loop {
            let done = (self.deflate.total_in() - start) as usize;
            self.stored.clear();
            let status = self
                .deflate
                .compress_vec(&piece[done..], &mut self.stored, flush)
                .map_err(io::Error::other)?;
            out.write_all(&self.stored)?;
            let taken = (self.deflate.total_in() - start) as usize == piece.len();
            let full = self.stored.len() == self.stored.capacity();
            match (flush, status) {
                (FlushCompress::Finish, Status::StreamEnd) => return Ok(()),
                (FlushCompress::Finish, _) => {}
                _ if taken && !full => return Ok(()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn write(content: &dyn ReadAt, codec: Codec, out: &mut dyn Write) -> io::Result<u64> {
        Stream::new(codec)?.write(content, out)
    }

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
        assert!(decoder.into_inner().is_empty(), "more than one member");
    }

    #[test]
    fn zstd_is_one_frame_with_checksum_and_without_content_size() {
        let mut stored = Vec::new();
        write(&content(), Codec::Zstd, &mut stored).unwrap();
        // The start of a dump by a 12.1 kernel: the checksum flag only, window of 2 MiB.
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
