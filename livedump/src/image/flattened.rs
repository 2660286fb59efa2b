//! Flattened files, which makedumpfile and QEMU write to a pipe.
//!
//! A header of 4096 bytes (`makedumpfile` in 16 bytes, type 1, version 1) is followed by pieces:
//! offset, length and bytes, up to the pair -1, -1. All numbers are big-endian and signed. The
//! pieces, written in this order at their offsets, are the file.
//!
//! An index of the pieces is in memory. If it would be too large, or if pieces overlap (the later
//! one takes precedence), the file is reassembled in a temporary file.
//!
//! Parts of the file without a piece are zeros, as in any sparse file. In a truncated file, such a
//! part can belong to a missing piece, so its bytes are unknown: [`Source::has`] returns false.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::Error;

use super::candidate::Row;
use super::extents::Extents;
use super::format::Format;
use super::kdump;
use super::options::Options;
use super::source::Source;

/// `MAX_SIZE_MDF_HEADER`.
const HEADER: u64 = 4096;
/// Bytes before each piece: its offset and length.
const PIECE: u64 = 16;
/// Bytes of memory for a part that was written.
const EXTENT: u64 = 64;
const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";

/// A piece.
#[derive(Clone, Copy)]
struct Chunk {
    /// Its offset in the reassembled file.
    at: u64,
    len: u64,
    /// The offset of its bytes.
    from: u64,
}

/// Whether a file begins like a flattened one.
pub(super) fn probe(head: &[u8]) -> bool {
    head.starts_with(SIGNATURE)
}

/// Opens the file that a flattened one contains.
pub(super) fn open(source: &Source, options: &Options) -> Result<Source, Error> {
    let head: [u8; 32] = source.array("flattened header", 0)?;
    let number = |at: usize| i64::from_be_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let (kind, version) = (number(16), number(24));
    if (kind, version) != (1, 1) {
        return Err(Error::Unsupported {
            what: format!("flattened file of type {kind}, version {version} (expected 1, 1)"),
        });
    }
    let mut index = Vec::new();
    let limit = options.tables / size_of::<Chunk>() as u64;
    let mut fits = true;
    let mut written = Extents::default();
    let most = options.tables / EXTENT;
    let is_complete = each(source, &mut |chunk| {
        if written.len() <= most {
            written.add(chunk.at..chunk.at + chunk.len);
        }
        if index.len() as u64 >= limit {
            fits = false;
        } else if fits {
            index.push(chunk);
        }
        Ok(())
    })?;
    index.sort_by_key(|chunk| chunk.at);
    // `each` has checked that no sum overflows.
    let disjoint = index
        .windows(2)
        .all(|two| two[0].at + two[0].len <= two[1].at);
    if !is_complete {
        options.allow(
            "parts of a truncated flattened file",
            written.len() * EXTENT,
        )?;
    }
    let written = (!is_complete).then_some(written);
    if fits && disjoint {
        index.shrink_to_fit();
        let flattened = Flattened {
            source: source.clone(),
            chunks: index,
        };
        return source.rearranged(Arc::new(flattened), written);
    }
    drop(index);
    source.rearranged(Arc::new(spool(source, options)?), written)
}

/// Calls `work` for all pieces in the order of the file. Returns whether the file is complete; the last
/// piece of a truncated one may be shorter than stated.
fn each(source: &Source, work: &mut dyn FnMut(Chunk) -> Result<(), Error>) -> Result<bool, Error> {
    let mut at = HEADER;
    loop {
        if source.len().saturating_sub(at) < PIECE {
            return Ok(false);
        }
        let head: [u8; 16] = source.array("flattened piece", at)?;
        let number = |i: usize| i64::from_be_bytes(head[i..i + 8].try_into().unwrap_or_default());
        let (offset, len) = (number(0), number(8));
        if offset == -1 && len == -1 {
            return Ok(true);
        }
        let (Ok(start), Ok(bytes)) = (u64::try_from(offset), u64::try_from(len)) else {
            return Err(Error::broken(
                "flattened piece",
                at,
                format!("offset {offset}, length {len}"),
                "numbers of at least 0, or -1 and -1 at the end",
            ));
        };
        let from = at + PIECE;
        if start
            .checked_add(bytes)
            .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Error::broken(
                "flattened piece",
                at,
                format!("{bytes:#x} bytes for offset {start:#x}"),
                "an end below 2^63",
            ));
        }
        let stored = bytes.min(source.len() - from);
        if stored > 0 {
            work(Chunk {
                at: start,
                len: stored,
                from,
            })?;
        }
        if stored < bytes {
            return Ok(false);
        }
        at = from + bytes;
    }
}

/// Reassembles the file in an unlinked file.
fn spool(source: &Source, options: &Options) -> Result<File, Error> {
    let file = livecore_compress::spool(options.spool_dir.as_deref())
        .map_err(|e| Error::io("spool", e))?;
    let mut buf = vec![0; 1 << 20];
    each(source, &mut |chunk| {
        let mut done = 0;
        while done < chunk.len {
            let n = (chunk.len - done).min(buf.len() as u64) as usize;
            source
                .bytes()
                .read_exact_at(&mut buf[..n], chunk.from + done)?;
            file.write_all_at(&buf[..n], chunk.at + done)
                .map_err(|e| Error::io("spool", e))?;
            done += n as u64;
        }
        Ok(())
    })?;
    Ok(file)
}

/// A file in pieces.
struct Flattened {
    source: Source,
    /// Sorted and disjoint.
    chunks: Vec<Chunk>,
}

impl ReadAt for Flattened {
    fn size(&self) -> io::Result<u64> {
        Ok(self.chunks.last().map_or(0, |chunk| chunk.at + chunk.len))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let after = self.chunks.partition_point(|c| c.at + c.len <= offset);
        let Some(chunk) = self.chunks.get(after) else {
            return Ok(0);
        };
        if offset < chunk.at {
            // No piece covers this part: zeros, as in any sparse file.
            let n = (chunk.at - offset).min(buf.len() as u64) as usize;
            buf[..n].fill(0);
            return Ok(n);
        }
        let inside = offset - chunk.at;
        let n = (chunk.len - inside).min(buf.len() as u64) as usize;
        self.source
            .bytes()
            .read_at(&mut buf[..n], chunk.from + inside)
    }
}

/// The table row of the format.
pub(super) const KDUMP_FLATTENED: Row = Row {
    probe: |candidate| Ok(probe(&candidate.head()?)),
    open: |candidate| {
        let rearranged = open(candidate.source()?, candidate.options)?;
        if !kdump::probe(&rearranged.head::<64>()?) {
            return Err(Error::Unsupported {
                what: "flattened file whose contents are not kdump".into(),
            });
        }
        kdump::image(Format::KdumpFlattened, &rearranged, candidate.options)
    },
};
