//! LiME's format, and AVML's, which has another magic and compressed ranges.
//!
//! Each range of memory follows a header of 32 bytes, little-endian: magic (4 bytes), version (4),
//! first address (8), last address (8), reserved (8). In version 1 (LiME) the bytes are
//! uncompressed. In version 2 (AVML) they are a stream in snappy's framing format, followed by the
//! stream's length (8 bytes).
//!
//! Facts: LiME `doc/README.md`; AVML `src/image.rs`. AVML silently omits pieces of 16 MiB that are
//! all zeros; they are not memory here. Only its release 0.17.0 wrote the header of such a piece
//! without any bytes, in both versions: these pages are known zeros.

use std::io::Read;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::avml::{Blocks, Snapped};
use super::candidate::Row;
use super::format::Format;
use super::memory_image::Image;
use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::source::{Source, le32, le64};

/// `EMiL`.
const LIME: u32 = 0x4c69_4d45;
/// `AVML`.
const AVML: u32 = 0x4c4d_5641;
/// Bytes of a header.
const HEADER: u64 = 32;
/// The longest piece of zeros that AVML stores as a header only.
const ZEROS: u64 = 16 << 20;

/// Whether a file begins with LiME's header, and whether with AVML's.
pub(super) fn probe(head: &[u8]) -> (bool, bool) {
    let kind = (le32(head, 0), le32(head, 4));
    (kind == (LIME, 1), kind == (AVML, 2))
}

/// Whether a file begins like a zlib stream in LiME's format.
pub(super) fn is_deflated(head: &[u8]) -> bool {
    let mut start = [0; 8];
    let mut decoder = flate2::bufread::ZlibDecoder::new(head);
    decoder.read_exact(&mut start).is_ok() && probe(&start).0
}

/// The header of a range.
struct LimeHeader {
    version: u32,
    start: u64,
    len: u64,
}

impl LimeHeader {
    fn read(source: &Source, at: u64) -> Result<Self, Error> {
        let bytes: [u8; HEADER as usize] = source.array("LiME header", at)?;
        let version = match (le32(&bytes, 0), le32(&bytes, 4)) {
            (LIME, 1) => 1,
            (AVML, 2) => 2,
            (magic, version) => {
                return Err(Error::broken(
                    "LiME header",
                    at,
                    format!("magic {magic:#x}, version {version}"),
                    format!("{LIME:#x} and 1, or {AVML:#x} and 2"),
                ));
            }
        };
        let (start, last) = (le64(&bytes, 8), le64(&bytes, 16));
        let len = last.checked_sub(start).and_then(|len| len.checked_add(1));
        let Some(len) = len.filter(|_| last < u64::MAX) else {
            return Err(Error::broken(
                "LiME header",
                at,
                format!("addresses {start:#x} to {last:#x}"),
                "a last address at or after the first",
            ));
        };
        Ok(Self {
            version,
            start,
            len,
        })
    }

    /// Whether no data follows this header, which is at `at`: another header or the end of the file
    /// follows instead. In version 1 the data itself may look like a header; it is a header if a
    /// header or the end of the file follows it.
    fn is_bare(&self, source: &Source, at: u64) -> Result<bool, Error> {
        if self.len > ZEROS || !self.len.is_multiple_of(PAGE_SIZE) {
            return Ok(false);
        }
        let follows = |at: u64| -> Result<bool, Error> {
            if at == source.len() {
                return Ok(true);
            }
            let mut head = [0; 8];
            source.bytes().read_full_at(&mut head, at)?;
            let (lime, avml) = probe(&head);
            Ok(if self.version == 1 { lime } else { avml })
        };
        let data = at + HEADER;
        let is_stream = self.version == 1 && follows(data.saturating_add(self.len))?;
        Ok(!is_stream && follows(data)?)
    }
}

/// Opens a file with version 1 only.
fn open(source: &Source, options: &Options) -> Result<Linear, Error> {
    let mut pieces = Pieces::new("LiME range", source, options);
    let mut at = 0;
    while at < source.len() {
        if at > 0 && source.len() - at < HEADER {
            pieces.cut();
            break;
        }
        let header = LimeHeader::read(source, at)?;
        if header.version == 1 && header.is_bare(source, at)? {
            pieces.add_zeros(header.start, header.len, at)?;
            at += HEADER;
            continue;
        }
        if header.version != 1 {
            return Err(Error::Unsupported {
                what: format!("LiME file with a compressed range, at offset {at:#x}"),
            });
        }
        pieces.add(header.start, header.len, at + HEADER, at)?;
        // `add` has checked that the sum fits. The last range of a truncated file ends after the file.
        at += HEADER + header.len;
    }
    pieces.finish()
}

/// Opens a file with version 2.
fn open_avml(source: &Source, options: &Options) -> Result<Snapped, Error> {
    let mut blocks = Blocks::new(source, options);
    let mut at = 0;
    while at < source.len() {
        if at > 0 && source.len() - at < HEADER {
            blocks.cut();
            break;
        }
        let header = LimeHeader::read(source, at)?;
        if header.version != 2 {
            return Err(Error::Unsupported {
                what: format!("AVML file with an uncompressed range, at offset {at:#x}"),
            });
        }
        let start = at + HEADER;
        if header.is_bare(source, at)? {
            blocks.zeros(header.start, header.len, at)?;
            at = start;
            continue;
        }
        let end = blocks.stream(header.start, header.len, start)?;
        if source.len() - end < 8 {
            blocks.cut();
            break;
        }
        let stored = le64(&source.array::<8>("AVML range's length", end)?, 0);
        if stored != end - start {
            return Err(Error::broken(
                "AVML range's length",
                end,
                stored.to_string(),
                format!("{}, the length of the stream", end - start),
            ));
        }
        at = end + 8;
    }
    blocks.finish()
}

/// The table row of LiME's format.
pub(super) const PLAIN: Row = Row {
    probe: |candidate| Ok(probe(&candidate.head()?).0),
    open: |candidate| {
        let source = candidate.source()?;
        let memory = open(source, candidate.options)?;
        Ok(Image::new(Format::Lime, source, memory))
    },
};

/// The table row of AVML's format.
pub(super) const COMPRESSED: Row = Row {
    probe: |candidate| Ok(probe(&candidate.head()?).1),
    open: |candidate| {
        let source = candidate.source()?;
        let memory = open_avml(source, candidate.options)?;
        Ok(Image::new(Format::Avml, source, memory))
    },
};
