//! Ranges of memory as streams in snappy's framing format, as AVML stores them.
//!
//! A stream is an identifier and chunks of at most 64 KiB of content: type (one byte), length
//! (three bytes), and for data a checksum and the bytes (google/snappy `framing_format.txt`).
//! Opening a file reads all chunk headers and records the position of every sixteenth chunk.

use std::io::{self, Read};
use std::ops::Range;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::cache::BlockCache;
use super::options::Options;
use super::pieces::{pages_of, shortage};
use super::source::{Source, broken, le};
use livecore_minidump::check_ranges;
use livecore_minidump::{PhysAddr, PhysMemory};

/// The start of a stream, which may be repeated before any chunk.
const IDENTIFIER: [u8; 10] = *b"\xff\x06\x00\x00sNaPpY";
const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
/// Chunk types from here on may be skipped; those from 0x02 to here may not.
const SKIPPABLE: u8 = 0x80;
/// The most bytes of content in a chunk.
const CHUNK: u64 = 65536;
/// The most bytes of a chunk: type, length, checksum, and snappy's worst case.
const STORED: u64 = 4 + 4 + 32 + CHUNK + CHUNK / 6;
/// One of so many chunks is recorded.
const EVERY: u64 = 16;

/// The address and the position of a chunk.
#[derive(Clone, Copy)]
struct Mark {
    pa: u64,
    offset: u64,
}

/// A chunk, from its header.
struct Chunk {
    offset: u64,
    /// Bytes including the header.
    stored: u64,
    /// Bytes of content; 0 if it has none.
    len: u64,
}

impl Chunk {
    fn read(source: &Source, offset: u64) -> Result<Self, Error> {
        let mut head = [0; 16];
        let got = source.bytes().read_full_at(&mut head, offset)? as u64;
        let bad = |found: String, expected: &str| {
            Err(Error::broken("snappy chunk", offset, found, expected))
        };
        if got < 4 {
            return bad(format!("{got} bytes"), "a header of 4 bytes");
        }
        let (kind, body) = (head[0], le::<3>(&head, 1));
        source.require("snappy chunk", offset, 4 + body)?;
        let len = match kind {
            COMPRESSED | UNCOMPRESSED if !(5..=STORED - 4).contains(&body) => {
                return bad(format!("{body} bytes"), "5 bytes up to a chunk of 64 KiB");
            }
            UNCOMPRESSED => body - 4,
            COMPRESSED => match snap::raw::decompress_len(&head[8..got.max(8) as usize]) {
                Ok(len) => len as u64,
                Err(e) => return bad(e.to_string(), "a content length"),
            },
            0xff if head[..10] != IDENTIFIER => {
                return bad("another identifier".into(), "sNaPpY");
            }
            SKIPPABLE.. => 0,
            _ => return bad(format!("type {kind:#x}"), "a known chunk type"),
        };
        if len > CHUNK {
            return bad(format!("{len:#x} bytes of content"), "at most 64 KiB");
        }
        Ok(Self {
            offset,
            stored: 4 + body,
            len,
        })
    }

    /// Whether the file ends inside the chunk at `offset`.
    fn is_cut(source: &Source, offset: u64) -> Result<bool, Error> {
        let mut head = [0; 4];
        let got = source.bytes().read_full_at(&mut head, offset)?;
        let body = le::<3>(&head, 1);
        // The length of a damaged chunk.
        let is_too_long = head[0] <= UNCOMPRESSED && body > STORED - 4;
        let end = offset.saturating_add(4 + body);
        Ok(got < 4 || !is_too_long && end > source.len())
    }

    /// Decompresses the content and checks its checksum.
    fn decode(&self, source: &Source) -> io::Result<Vec<u8>> {
        // A chunk has at most STORED bytes.
        let mut stream = vec![0; IDENTIFIER.len() + self.stored as usize];
        let (head, chunk) = stream.split_at_mut(IDENTIFIER.len());
        head.copy_from_slice(&IDENTIFIER);
        source.bytes().read_exact_at(chunk, self.offset)?;
        let mut content = Vec::with_capacity(self.len as usize);
        let decoded = snap::read::FrameDecoder::new(&stream[..])
            .take(CHUNK + 1)
            .read_to_end(&mut content);
        let found = match decoded {
            Ok(len) if len as u64 == self.len => return Ok(content),
            Ok(len) => format!("{len:#x} decompressed bytes"),
            Err(e) => e.to_string(),
        };
        Err(broken(
            "snappy chunk",
            self.offset,
            found,
            format!("{:#x} bytes of content", self.len),
        ))
    }
}

/// Collects ranges and chunks.
pub(super) struct Blocks<'a> {
    source: &'a Source,
    options: &'a Options,
    marks: Vec<Mark>,
    ranges: Vec<(Range<u64>, u64)>,
    zeros: Vec<Range<u64>>,
    /// Bytes of memory after the end of the file, if it ends inside a record.
    missing: Option<u64>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(source: &'a Source, options: &'a Options) -> Self {
        Self {
            source,
            options,
            marks: Vec::new(),
            ranges: Vec::new(),
            zeros: Vec::new(),
            missing: None,
        }
    }

    /// Records that the file ends inside a record.
    pub(super) fn cut(&mut self) {
        self.missing.get_or_insert(0);
    }

    /// Adds `len` zero bytes from `start` on; the file records them at `offset`.
    pub(super) fn zeros(&mut self, start: u64, len: u64, offset: u64) -> Result<(), Error> {
        let needed = 2 * (self.ranges.len() as u64 + 1) * size_of::<(Range<u64>, u64)>() as u64;
        self.options.allow("AVML ranges", needed)?;
        // The reader of the header has checked that the sum fits.
        self.ranges.push((start..start + len, offset));
        self.zeros.push(start..start + len);
        Ok(())
    }

    /// Reads the stream at `offset`, with `len` bytes of memory from `start` on. Returns the end of
    /// the stream, or of the file if it ends before.
    pub(super) fn stream(&mut self, start: u64, len: u64, offset: u64) -> Result<u64, Error> {
        let needed = (self.ranges.len() as u64 + 1) * size_of::<(Range<u64>, u64)>() as u64;
        self.options.allow("AVML ranges", needed)?;
        // The reader of the header has checked that the sum fits.
        let end = start + len;
        let (mut pa, mut at, mut count) = (start, offset, 0);
        while pa < end {
            if Chunk::is_cut(self.source, at)? {
                self.missing = Some(end - pa);
                at = self.source.len();
                break;
            }
            let chunk = Chunk::read(self.source, at)?;
            if chunk.len > end - pa {
                return Err(Error::broken(
                    "snappy chunk",
                    at,
                    format!("{:#x} bytes for address {pa:#x}", chunk.len),
                    format!("an end at {end:#x}, the end of the range"),
                ));
            }
            if chunk.len > 0 {
                if count % EVERY == 0 {
                    let needed = (self.marks.len() as u64 + 1) * size_of::<Mark>() as u64;
                    self.options.allow("AVML chunks", needed)?;
                    self.marks.push(Mark { pa, offset: at });
                }
                count += 1;
            }
            pa += chunk.len;
            at += chunk.stored;
        }
        if start < pa {
            self.ranges.push((start..pa, offset));
        }
        Ok(at)
    }

    pub(super) fn finish(mut self) -> Result<Snapped, Error> {
        self.ranges.sort_by_key(|(range, _)| range.start);
        for two in self.ranges.windows(2) {
            let [(before, at), (range, offset)] = two else {
                continue;
            };
            if range.start < before.end {
                return Err(Error::broken(
                    "AVML range",
                    *offset,
                    format!("address {:#x}", range.start),
                    format!(
                        "an address of at least {:#x}, the end of the range at {at:#x}",
                        before.end
                    ),
                ));
            }
        }
        self.zeros.sort_by_key(|range| range.start);
        self.marks.sort_by_key(|mark| mark.pa);
        self.marks.shrink_to_fit();
        let ranges = pages_of(self.ranges.into_iter().map(|(range, _)| range));
        if ranges.is_empty() {
            return Err(Error::broken(
                "AVML range",
                0,
                "no complete page of memory",
                "at least one",
            ));
        }
        Ok(Snapped {
            source: self.source.clone(),
            marks: self.marks,
            ranges,
            zeros: self.zeros,
            shortage: self.missing.map(|len| shortage(len.div_ceil(PAGE_SIZE))),
            cache: BlockCache::new(self.options.cache(), CHUNK),
        })
    }
}

/// Memory in chunks.
pub(super) struct Snapped {
    source: Source,
    /// Sorted by address.
    marks: Vec<Mark>,
    ranges: Vec<Range<PhysAddr>>,
    /// Ranges of zeros that are not in the file, sorted by address.
    zeros: Vec<Range<u64>>,
    shortage: Option<String>,
    cache: BlockCache,
}

impl Snapped {
    /// The number of known zero bytes from `pa` on.
    fn zeros_at(&self, pa: u64) -> u64 {
        let after = self.zeros.partition_point(|range| range.end <= pa);
        let range = self.zeros.get(after).filter(|range| range.start <= pa);
        range.map_or(0, |range| range.end - pa)
    }

    /// The chunk with the byte at `pa`, and the address of its first byte.
    fn find(&self, pa: u64) -> io::Result<(Chunk, u64)> {
        let after = self.marks.partition_point(|mark| mark.pa <= pa);
        let Some(mark) = after.checked_sub(1).and_then(|i| self.marks.get(i)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (mut here, mut at) = (mark.pa, mark.offset);
        // Opening has read these headers, unless the file has changed.
        loop {
            let chunk = Chunk::read(&self.source, at).map_err(into_io)?;
            if pa < here + chunk.len {
                return Ok((chunk, here));
            }
            here += chunk.len;
            at += chunk.stored;
        }
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Broken {
            region,
            offset,
            found,
            expected,
        } => broken(region, offset, found, expected),
        Error::Io { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

impl PhysMemory for Snapped {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, PhysAddr(at), buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let pa = at + done as u64;
            let zeros = self.zeros_at(pa).min((buf.len() - done) as u64) as usize;
            if zeros > 0 {
                buf[done..done + zeros].fill(0);
                done += zeros;
                continue;
            }
            let (chunk, start) = self.find(pa)?;
            let content = self
                .cache
                .get(chunk.offset, || chunk.decode(&self.source))?;
            let inside = (pa - start) as usize;
            let part = content.get(inside..).unwrap_or_default();
            let n = part.len().min(buf.len() - done);
            if n == 0 {
                return Err(broken(
                    "snappy chunk",
                    chunk.offset,
                    format!("{:#x} bytes", content.len()),
                    format!("{:#x}, as when the file was opened", chunk.len),
                ));
            }
            buf[done..done + n].copy_from_slice(&part[..n]);
            done += n;
        }
        Ok(())
    }

    fn shortage(&self) -> Option<&str> {
        self.shortage.as_deref()
    }

    fn known_zero(&self, PhysAddr(at): PhysAddr, len: u64) -> bool {
        let mut done = 0;
        while done < len {
            match self.zeros_at(at.saturating_add(done)) {
                0 => return false,
                n => done += n.min(len - done),
            }
        }
        true
    }
}
