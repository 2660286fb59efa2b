//! Writing a seal.

use std::io::{self, BufWriter, Write};

use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::format::*;
use super::part::{self, Part};
use super::wrap::{Pieces, write_empty_member};
use crate::table::{Entry, FrameTable};
use crate::zstd_format::{
    SEEK_DESCRIPTOR, SEEK_ENTRY_LEN, SEEK_FOOTER_LEN, SEEK_MAX_FRAMES, SEEK_TABLE_MAGIC,
    SEEKABLE_MAGIC, SKIPPABLE_HEADER_LEN,
};
use crate::{Codec, Error};

/// A seal to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal<'a> {
    pub(crate) codec: Codec,
    /// [`CIPHER_NONE`] or the cipher of the data.
    pub(crate) cipher: u8,
    pub(crate) table: &'a FrameTable,
    pub(crate) attachment: &'a [u8],
    pub(crate) parts: Parts,
    /// [`VERSION`], or [`VERSION_1`] to compare with an older seal.
    pub(crate) version: u16,
}

/// The fields of a header about the parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) count: u32,
    pub(crate) len: u64,
    pub(crate) digest: u64,
}

impl Seal<'_> {
    /// Checks the limits and writes the seal, wrapped for its codec. Returns the number of bytes
    /// written.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<u64, Error> {
        if self.attachment.len() > ATTACHMENT_MAX {
            return Err(Error::Limit {
                what: "a seal's attachment".into(),
                needed: self.attachment.len() as u64,
                limit: ATTACHMENT_MAX as u64,
            });
        }
        let mut counted = Counted::new(out);
        let mut out = BufWriter::with_capacity(64 << 10, &mut counted);
        let done = match self.codec {
            Codec::None => self.write_bare(&mut out).map(Ok),
            Codec::Gzip => self.write_gzip(&mut out).map(Ok),
            Codec::Zstd => self.write_zstd(&mut out),
        };
        let flushed = out.flush();
        drop(out);
        done.and_then(|done| flushed.map(|()| done))
            .map_err(Error::Write)??;
        Ok(counted.written)
    }

    /// Size of the seal without wrapping.
    fn len(&self) -> u64 {
        let header = match self.version {
            VERSION_1 => HEADER_LEN_1,
            _ => HEADER_LEN,
        };
        (header + self.attachment.len() + FOOTER_LEN) as u64 + self.table.count() * ENTRY_LEN as u64
    }

    /// Writes the seal without wrapping.
    fn write_bare(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut digest = Xxh64::new(0);
        for entry in self.table.entries() {
            digest.update(&pack(entry));
        }
        let header = pack_header(&SealHeader {
            version: self.version,
            codec: match self.codec {
                Codec::None => CODEC_NONE,
                Codec::Gzip => CODEC_GZIP,
                Codec::Zstd => CODEC_ZSTD,
            },
            cipher: self.cipher,
            frame_size: self.table.frame_size(),
            content_len: self.table.content_len(),
            stored_len: self.table.stored_len(),
            frames: self.table.count(),
            attachment_len: self.attachment.len() as u32,
            parts: self.parts.count,
            attachment_digest: xxh64(self.attachment, 0),
            index_digest: digest.digest(),
            parts_len: self.parts.len,
            parts_digest: self.parts.digest,
        });
        out.write_all(match self.version {
            VERSION_1 => &header[..HEADER_LEN_1],
            _ => &header,
        })?;
        out.write_all(self.attachment)?;
        for entry in self.table.entries() {
            out.write_all(&pack(entry))?;
        }
        out.write_all(&pack_footer(self.len()))
    }

    /// Writes the seal as empty members with a piece each, and one with the footer.
    fn write_gzip(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut pieces = Pieces::new(out);
        self.write_bare(&mut pieces)?;
        pieces.finish()?;
        write_empty_member(out, GZIP_FOOTER, &pack_footer(self.len()))
    }

    /// Writes the seal as a skippable frame, and the seek table.
    fn write_zstd(&self, out: &mut dyn Write) -> io::Result<Result<(), Error>> {
        let frames = self.table.count() + 1 + u64::from(self.parts.count > 0);
        if frames > SEEK_MAX_FRAMES || u32::try_from(self.len()).is_err() {
            return Ok(Err(Error::Limit {
                what: "a zstd seek table's frames".into(),
                needed: frames,
                limit: SEEK_MAX_FRAMES,
            }));
        }
        // Both are about 2^27 * 12 bytes at most.
        let seal_len = self.len() as u32;
        let frames = frames as u32;
        out.write_all(&ZSTD_SEAL_MAGIC.to_le_bytes())?;
        out.write_all(&seal_len.to_le_bytes())?;
        self.write_bare(out)?;

        let table_len = frames * SEEK_ENTRY_LEN as u32 + SEEK_FOOTER_LEN as u32;
        out.write_all(&SEEK_TABLE_MAGIC.to_le_bytes())?;
        out.write_all(&table_len.to_le_bytes())?;
        let mut left = self.table.content_len();
        for entry in self.table.entries() {
            // A sealed table is uniform: all frames except the last are full.
            let len = left.min(self.table.frame_size().into());
            left -= len;
            write_seek_entry(out, entry.stored_len, len as u32, entry.content_check)?;
        }
        if self.parts.count > 0 {
            // The writer of the parts has checked that their length fits in 32 bits.
            write_seek_entry(out, self.parts.len as u32, 0, xxh64(&[], 0) as u32)?;
        }
        let frame_len = SKIPPABLE_HEADER_LEN as u32 + seal_len;
        write_seek_entry(out, frame_len, 0, xxh64(&[], 0) as u32)?;
        out.write_all(&frames.to_le_bytes())?;
        out.write_all(&[SEEK_DESCRIPTOR])?;
        out.write_all(&SEEKABLE_MAGIC.to_le_bytes())?;
        Ok(Ok(()))
    }
}

fn write_seek_entry(out: &mut dyn Write, stored: u32, content: u32, check: u32) -> io::Result<()> {
    let mut bytes = [0; SEEK_ENTRY_LEN];
    bytes[..4].copy_from_slice(&stored.to_le_bytes());
    bytes[4..8].copy_from_slice(&content.to_le_bytes());
    bytes[8..].copy_from_slice(&check.to_le_bytes());
    out.write_all(&bytes)
}

/// The bytes of an index entry.
fn pack(entry: &Entry) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    bytes[..4].copy_from_slice(&entry.stored_len.to_le_bytes());
    bytes[4..8].copy_from_slice(&entry.content_check.to_le_bytes());
    bytes[8..].copy_from_slice(&entry.stored_check.to_le_bytes());
    bytes
}

fn pack_header(header: &SealHeader) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&header.version.to_le_bytes());
    bytes[10] = header.codec;
    bytes[11] = header.cipher;
    bytes[12..16].copy_from_slice(&header.frame_size.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.content_len.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.stored_len.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.frames.to_le_bytes());
    bytes[40..44].copy_from_slice(&header.attachment_len.to_le_bytes());
    bytes[44..48].copy_from_slice(&header.parts.to_le_bytes());
    bytes[48..56].copy_from_slice(&header.attachment_digest.to_le_bytes());
    bytes[56..64].copy_from_slice(&header.index_digest.to_le_bytes());
    let digest = xxh64(&bytes[..HEADER_DIGESTED], 0);
    bytes[HEADER_DIGESTED..HEADER_LEN_1].copy_from_slice(&digest.to_le_bytes());
    bytes[72..80].copy_from_slice(&header.parts_len.to_le_bytes());
    bytes[80..88].copy_from_slice(&header.parts_digest.to_le_bytes());
    let digest = xxh64(&bytes[..HEADER_DIGESTED_2], 0);
    bytes[HEADER_DIGESTED_2..].copy_from_slice(&digest.to_le_bytes());
    bytes
}

fn pack_footer(seal_len: u64) -> [u8; FOOTER_LEN] {
    let mut bytes = [0; FOOTER_LEN];
    bytes[..8].copy_from_slice(&FOOTER_MAGIC);
    bytes[8..16].copy_from_slice(&seal_len.to_le_bytes());
    let digest = xxh64(&bytes[..FOOTER_DIGESTED], 0);
    bytes[16..24].copy_from_slice(&digest.to_le_bytes());
    bytes[24..].copy_from_slice(&END_MAGIC);
    bytes
}

/// Writes parts and seal after the data of a stream. Returns the number of bytes written.
pub(crate) fn write_all(
    (codec, cipher): (Codec, u8),
    table: &FrameTable,
    attachment: &[u8],
    parts: &[Part],
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let mut counted = Counted::new(out);
    part::write(codec, table.stored_len(), parts, &mut counted)?;
    let about = match parts.is_empty() {
        true => Parts::default(),
        false => Parts {
            count: u32::try_from(parts.len()).unwrap_or(u32::MAX), // far more than 4 GiB
            len: counted.written,
            digest: counted.digest.digest(),
        },
    };
    let seal = Seal {
        codec,
        cipher,
        table,
        attachment,
        parts: about,
        // Without parts, older readers can read the seal too.
        version: match parts.is_empty() {
            true => VERSION_1,
            false => VERSION,
        },
    };
    Ok(counted.written + seal.write(counted.out)?)
}

/// A writer that counts and digests its output.
struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
    digest: Xxh64,
}

impl<'a> Counted<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            written: 0,
            digest: Xxh64::new(0),
        }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
