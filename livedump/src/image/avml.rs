//! Ranges of memory as streams in snappy's framing format, as AVML stores them.
//!
//! A stream is an identifier and chunks of at most 64 KiB of content: type (one byte), length
//! (three bytes), and for data a checksum and the bytes (google/snappy `framing_format.txt`).
//! Opening a file reads all chunk headers and records the position of every sixteenth chunk.

use std::io::{self, Read};
use std::ops::Range;

use livecore_minidump::Error;

use super::cache::BlockCache;
use super::options::Options;
use super::pieces::{missing_pages, pages_of, shortage};
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

/// A range of memory: a stream, or zeros that are not in the file.
struct Part {
    range: Range<u64>,
    /// The offset of the stream, or of the header of zeros.
    offset: u64,
    /// Sorted by address; empty for zeros.
    marks: Vec<Mark>,
}

impl Part {
    fn is_zeros(&self) -> bool {
        self.marks.is_empty()
    }

    /// The chunk with the byte at `pa`, and the address of its first byte.
    fn find(&self, source: &Source, pa: u64) -> io::Result<(Chunk, u64)> {
        let after = self.marks.partition_point(|mark| mark.pa <= pa);
        let Some(mark) = after.checked_sub(1).and_then(|i| self.marks.get(i)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (mut here, mut at) = (mark.pa, mark.offset);
        // Opening has read these headers, unless the file has changed.
        loop {
            let chunk = Chunk::read(source, at).map_err(into_io)?;
            if pa < here + chunk.len {
                return Ok((chunk, here));
            }
            here += chunk.len;
            at += chunk.stored;
        }
    }

    /// Reads the first bytes of `buf`, which are at `pa`. Returns their number.
    fn read(
        &self,
        source: &Source,
        cache: &BlockCache,
        pa: u64,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        let most = (self.range.end - pa).min(buf.len() as u64) as usize;
        let buf = &mut buf[..most];
        if self.is_zeros() {
            buf.fill(0);
            return Ok(most);
        }
        let (chunk, start) = self.find(source, pa)?;
        let content = cache.get(chunk.offset, || chunk.decode(source))?;
        let part = content.get((pa - start) as usize..).unwrap_or_default();
        let n = part.len().min(most);
        if n == 0 {
            return Err(broken(
                "snappy chunk",
                chunk.offset,
                format!("{:#x} bytes", content.len()),
                format!("{:#x}, as when the file was opened", chunk.len),
            ));
        }
        buf[..n].copy_from_slice(&part[..n]);
        Ok(n)
    }
}

/// Collects ranges and chunks.
pub(super) struct Blocks<'a> {
    source: &'a Source,
    options: &'a Options,
    parts: Vec<Part>,
    /// Bytes that the parts and their marks take.
    size: u64,
    /// Memory after the end of the file, if it ends inside a record.
    missing: Option<Range<u64>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(source: &'a Source, options: &'a Options) -> Self {
        Self {
            source,
            options,
            parts: Vec::new(),
            size: 0,
            missing: None,
        }
    }

    /// Records that the file ends inside a record.
    pub(super) fn cut(&mut self) {
        self.missing.get_or_insert(0..0);
    }

    /// Adds `len` zero bytes from `start` on; the file records them at `offset`.
    pub(super) fn zeros(&mut self, start: u64, len: u64, offset: u64) -> Result<(), Error> {
        // The reader of the header has checked that the sum fits.
        self.push(start..start + len, offset, Vec::new())
    }

    fn push(&mut self, range: Range<u64>, offset: u64, marks: Vec<Mark>) -> Result<(), Error> {
        self.size += (size_of::<Part>() + size_of_val(&marks[..])) as u64;
        self.options.allow("AVML ranges", self.size)?;
        self.parts.push(Part {
            range,
            offset,
            marks,
        });
        Ok(())
    }

    /// Reads the stream at `offset`, with `len` bytes of memory from `start` on. Returns the end of
    /// the stream, or of the file if it ends before.
    pub(super) fn stream(&mut self, start: u64, len: u64, offset: u64) -> Result<u64, Error> {
        // The reader of the header has checked that the sum fits.
        let end = start + len;
        let (mut pa, mut at, mut count) = (start, offset, 0);
        let mut marks = Vec::new();
        while pa < end {
            if Chunk::is_cut(self.source, at)? {
                self.missing = Some(pa..end);
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
                    let needed = (marks.len() as u64 + 1) * size_of::<Mark>() as u64;
                    self.options.allow("AVML chunks", self.size + needed)?;
                    marks.push(Mark { pa, offset: at });
                }
                count += 1;
            }
            pa += chunk.len;
            at += chunk.stored;
        }
        if start < pa {
            marks.shrink_to_fit();
            self.push(start..pa, offset, marks)?;
        }
        Ok(at)
    }

    /// Builds the memory. Of two ranges with the same addresses, the one with the lower start, or else
    /// the first in the file, is used.
    pub(super) fn finish(mut self) -> Result<Snapped, Error> {
        self.parts
            .sort_by_key(|part| (part.range.start, part.offset));
        let content = self.parts.iter().filter(|part| !part.is_zeros());
        let content = content.map(|part| part.range.end - part.range.start);
        // Each range is in the file, but with zeros their sum may be larger than any number.
        let most = content.fold(0, u64::saturating_add);
        let mut memory = Snapped {
            source: self.source.clone(),
            parts: Vec::new(),
            ranges: Vec::new(),
            shortage: None,
            contradiction: None,
            cache: BlockCache::new(self.options.cache(), CHUNK),
        };
        let mut compared = 0;
        for mut part in self.parts {
            let last = memory.parts.last();
            let end = last.map_or(0, |last| last.range.end);
            let both = part.range.start..end.min(part.range.end);
            if !both.is_empty() {
                let before = last.map_or(0, |last| last.offset);
                let differs = memory.differs(&part, both, &mut compared);
                // Limit the comparisons, so that a file with many overlaps does not take forever.
                if compared > most {
                    return Err(Error::broken(
                        "AVML range",
                        part.offset,
                        format!("overlaps of {compared:#x} bytes"),
                        format!("at most {most:#x} bytes"),
                    ));
                }
                if differs && memory.contradiction.is_none() {
                    memory.contradiction = Some(format!(
                        "AVML ranges at offsets {before:#x} and {here:#x} differ from address \
                         {pa:#x} on; using the one at {before:#x}",
                        here = part.offset,
                        pa = part.range.start,
                    ));
                }
                part.range.start = end;
            }
            if !part.range.is_empty() {
                memory.parts.push(part);
            }
        }
        memory.ranges = pages_of(memory.parts.iter().map(|part| part.range.clone()));
        if memory.ranges.is_empty() {
            return Err(Error::broken(
                "AVML range",
                0,
                "no complete page of memory",
                "at least one",
            ));
        }
        memory.shortage = self
            .missing
            .map(|range| shortage(missing_pages(vec![range], &memory.ranges)));
        Ok(memory)
    }
}

/// Memory in chunks.
pub(super) struct Snapped {
    source: Source,
    /// Sorted and disjoint.
    parts: Vec<Part>,
    ranges: Vec<Range<PhysAddr>>,
    shortage: Option<String>,
    contradiction: Option<String>,
    cache: BlockCache,
}

impl Snapped {
    /// The part with the byte at `pa`.
    fn part(&self, pa: u64) -> Option<&Part> {
        let after = self.parts.partition_point(|part| part.range.end <= pa);
        self.parts.get(after).filter(|part| part.range.start <= pa)
    }

    /// Whether `new` has other bytes at `addresses` than the memory. Adds the number of bytes that were
    /// read for it to `compared`.
    fn differs(&self, new: &Part, addresses: Range<u64>, compared: &mut u64) -> bool {
        let (mut ours, mut theirs) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let mut pa = addresses.start;
        while pa < addresses.end {
            let Some(old) = self.part(pa) else {
                return true;
            };
            let end = old.range.end.min(addresses.end);
            if old.is_zeros() && new.is_zeros() {
                pa = end;
                continue;
            }
            let most = (end - pa).min(CHUNK) as usize;
            // A damaged chunk is an error only if the memory in it is read.
            let read = |part: &Part, buf| part.read(&self.source, &self.cache, pa, buf).ok();
            let n = read(old, &mut ours[..most]).unwrap_or(0);
            let n = read(new, &mut theirs[..n]).unwrap_or(0);
            *compared += n as u64;
            if n == 0 || ours[..n] != theirs[..n] {
                return true;
            }
            pa += n as u64;
        }
        false
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
            // The ranges consist of parts.
            let part = self.part(pa).ok_or(io::ErrorKind::NotFound)?;
            done += part.read(&self.source, &self.cache, pa, &mut buf[done..])?;
        }
        Ok(())
    }

    fn contradiction(&self) -> Option<&str> {
        self.contradiction.as_deref()
    }

    fn shortage(&self) -> Option<&str> {
        self.shortage.as_deref()
    }

    fn known_zero(&self, PhysAddr(at): PhysAddr, len: u64) -> bool {
        let mut done = 0;
        while done < len {
            let pa = at.saturating_add(done);
            match self.part(pa).filter(|part| part.is_zeros()) {
                Some(part) => done += (part.range.end - pa).min(len - done),
                None => return false,
            }
        }
        true
    }
}
