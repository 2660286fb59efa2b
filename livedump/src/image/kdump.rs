//! kdump-compressed files: pages compressed one by one, with bitmaps of the pages.
//!
//! Written by makedumpfile and QEMU (then flattened), in blocks of `block_size`, which is a page:
//!
//! ```text
//!  block 0                struct disk_dump_header
//!  sub_hdr_size blocks    struct kdump_sub_header, notes
//!  bitmap_blocks blocks   first half: pages that exist; second half: pages in the file
//!  descriptors            struct page_desc, 24 bytes for each page in the file
//!  pages                  at the offsets in the descriptors
//! ```
//!
//! Facts: makedumpfile `diskdump_mod.h` and its IMPLEMENTATION file, QEMU `dump.h`. Numbers are in
//! the byte order of the dumped machine; only little-endian files are supported. A page that exists
//! but is not in the file was excluded by the writer, and is not part of the memory. A writer that
//! ran out of space records this in the header; the descriptors of missing pages are zeros.
//!
//! Memory contains the ranges of the second bitmap and one count for each 32768 of its pages;
//! bitmap and descriptors are read when needed.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use livecore_compress::is_zero;
use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::cache::BlockCache;
use super::candidate::Row;
use super::cpu::CpuState;
use super::elf;
use super::format::Format;
use super::memory_image::Image;
use super::options::Options;
use super::pieces::{pages_of, shortage};
use super::qemu;
use super::source::{Source, broken, le32, le64};
use livecore_minidump::check_ranges;
use livecore_minidump::{PhysAddr, PhysMemory};

/// `KDUMP_SIGNATURE`.
const SIGNATURE: &[u8; 8] = b"KDUMP   ";
/// The older signature, of files with the same shape.
const DISKDUMP: &[u8; 8] = b"DISKDUMP";

/// `DUMP_DH_COMPRESSED_INCOMPLETE`: the writer ran out of space.
const STATUS_INCOMPLETE: u32 = 0x8;
const PAGE_ZLIB: u32 = 0x1;
const PAGE_LZO: u32 = 0x2;
const PAGE_SNAPPY: u32 = 0x4;
const PAGE_ZSTD: u32 = 0x20;
const PAGE_CODECS: u32 = PAGE_ZLIB | PAGE_LZO | PAGE_SNAPPY | PAGE_ZSTD;

/// `struct page_desc`: offset (8 bytes), size (4), flags (4), page flags (8).
const DESC: u64 = 24;
/// Bytes of bitmap for each count.
const GROUP: u64 = 4096;
/// Descriptors for one read.
const BATCH: u64 = 256;

/// Whether a file begins like a kdump file.
pub(super) fn probe(head: &[u8]) -> bool {
    head.starts_with(SIGNATURE) || head.starts_with(DISKDUMP)
}

/// The numbers of `struct disk_dump_header`, whose offsets depend on the width of a `timeval`.
struct KdumpHeader {
    wide: bool,
    version: u32,
    status: u32,
    block_size: u64,
    sub_hdr_size: u64,
    bitmap_blocks: u64,
    max_mapnr: u64,
}

impl KdumpHeader {
    /// Parses the header of a 64-bit or 32-bit machine.
    fn read(head: &[u8; 512], wide: bool) -> Self {
        let at = if wide { 424 } else { 412 };
        let word = |index: usize| le32(head, at + 4 * index);
        Self {
            wide,
            version: le32(head, 8),
            status: word(0),
            block_size: u64::from(word(1)),
            sub_hdr_size: u64::from(word(2)),
            bitmap_blocks: u64::from(word(3)),
            max_mapnr: u64::from(word(4)),
        }
    }

    /// Whether it is plausible for a file of `len` bytes.
    fn is_plausible(&self, len: u64) -> bool {
        let size = self.block_size;
        // With the wrong width another number may look like a block size, but the following ones do
        // not fit.
        size.is_power_of_two()
            && (PAGE_SIZE..=1 << 16).contains(&size)
            && self.sub_hdr_size > 0
            && self.bitmap_blocks * size / 2 >= self.max_mapnr.div_ceil(8)
            && (1 + self.sub_hdr_size + self.bitmap_blocks) * size <= len
    }
}

/// Opens a kdump file.
fn open(source: &Source, options: &Options) -> Result<(Kdump, Vec<CpuState>), Error> {
    let head: [u8; 512] = source.array("kdump header", 0)?;
    let both = [
        KdumpHeader::read(&head, true),
        KdumpHeader::read(&head, false),
    ];
    let Some(header) = both.iter().find(|h| h.is_plausible(source.len())) else {
        let [wide, _] = both;
        return Err(Error::broken(
            "kdump header",
            0,
            format!(
                "blocks of {:#x} bytes, {:#x} for notes and {:#x} for bitmaps",
                wide.block_size, wide.sub_hdr_size, wide.bitmap_blocks
            ),
            format!(
                "little-endian numbers that fit the file size {:#x}",
                source.len()
            ),
        ));
    };
    let is_incomplete = header.status & STATUS_INCOMPLETE != 0;
    let size = header.block_size;
    let sub = SubHeader::read(source, header)?;
    if sub.split {
        return Err(Error::Unsupported {
            what: "one part of a split kdump; join the parts with `makedumpfile --reassemble`"
                .into(),
        });
    }
    let cpus = if sub.notes.is_empty() {
        Vec::new()
    } else {
        let len = sub.notes.end - sub.notes.start;
        let notes = elf::notes(source, "kdump notes", sub.notes.start, len, options)?;
        qemu::cpus(&notes)?
    };
    let max = sub.max_mapnr.unwrap_or(header.max_mapnr);
    let half = header.bitmap_blocks * size / 2;
    if max.div_ceil(8) > half {
        return Err(Error::broken(
            "kdump header, bitmap_blocks",
            0,
            format!("bitmaps of {half:#x} bytes"),
            format!("a bit for each of {max:#x} pages"),
        ));
    }
    let bitmap = (1 + header.sub_hdr_size) * size + half;
    let bitmap = bitmap..bitmap + max.div_ceil(8);
    let descriptors = (1 + header.sub_hdr_size + header.bitmap_blocks) * size;
    let scan = Scan::of(source, &bitmap, max, size, options)?;
    let count = scan.before.last().copied().unwrap_or(0);
    let ranges = pages_of(scan.ranges.into_iter());
    if ranges.is_empty() {
        return Err(Error::broken(
            "kdump bitmap",
            bitmap.start,
            "no page",
            "at least one",
        ));
    }
    let mut kdump = Kdump {
        source: source.clone(),
        size,
        bitmap,
        descriptors,
        before: scan.before,
        ranges,
        shortage: None,
        zero_at: AtomicU64::new(0),
        cache: BlockCache::new(options.cache(), size),
    };
    if is_incomplete || source.is_cut() || kdump.is_cut(count)? {
        let missing = kdump.remove_missing(options)?;
        let why = "the file is incomplete (its writer ran out of space)";
        kdump.shortage = Some(match missing {
            1 if is_incomplete => format!("{why}: 1 page is missing"),
            _ if is_incomplete => format!("{why}: {missing} pages are missing"),
            _ => shortage(missing),
        });
    }
    Ok((kdump, cpus))
}

/// `struct kdump_sub_header`, in block 1.
struct SubHeader {
    split: bool,
    notes: Range<u64>,
    max_mapnr: Option<u64>,
}

impl SubHeader {
    fn read(source: &Source, header: &KdumpHeader) -> Result<Self, Error> {
        let at = header.block_size;
        let bytes: [u8; 104] = source.array("kdump sub header", at)?;
        // The offsets of split, offset_note, size_note and max_mapnr_64.
        let (split, note, len, max) = if header.wide {
            (12, le64(&bytes, 48), le64(&bytes, 56), le64(&bytes, 96))
        } else {
            let len = u64::from(le32(&bytes, 40));
            (8, le64(&bytes, 32), len, le64(&bytes, 72))
        };
        let has_notes = header.version >= 4 && len > 0;
        let notes = if has_notes {
            source.require("kdump notes", note, len)?;
            note..note + len
        } else {
            0..0
        };
        Ok(Self {
            split: header.version >= 2 && le32(&bytes, split) != 0,
            notes,
            max_mapnr: (header.version >= 6 && max > 0).then_some(max),
        })
    }
}

/// The result of reading the second bitmap.
struct Scan {
    /// Ranges of pages, as addresses.
    ranges: Vec<Range<u64>>,
    /// The number of pages before each [`GROUP`] of the bitmap, and in all of it.
    before: Vec<u64>,
}

impl Scan {
    fn of(
        source: &Source,
        bitmap: &Range<u64>,
        max: u64,
        size: u64,
        options: &Options,
    ) -> Result<Self, Error> {
        let len = bitmap.end - bitmap.start;
        // The pieces of a truncated flattened file are used without the others.
        if !source.is_cut() {
            source.require("kdump bitmap", bitmap.start, len)?;
        }
        if max.checked_mul(size).is_none() {
            return Err(Error::broken(
                "kdump header, max_mapnr",
                0,
                format!("{max:#x} pages"),
                "addresses below 2^64",
            ));
        }
        options.allow("kdump page counts", (len / GROUP + 2) * 8)?;
        let mut scan = Self {
            ranges: Vec::new(),
            before: vec![0],
        };
        let mut group = vec![0; GROUP as usize];
        let mut count = 0;
        let mut at = 0;
        while at < len {
            let n = (len - at).min(GROUP) as usize;
            let bytes = &mut group[..n];
            let stored = source.bytes().read_full_at(bytes, bitmap.start + at)?;
            bytes[stored..].fill(0);
            // Ignore bits after the last page.
            let pages = (max - at * 8).min(n as u64 * 8);
            if pages < n as u64 * 8 {
                bytes[n - 1] &= (1_u16 << (8 - (n as u64 * 8 - pages))).wrapping_sub(1) as u8;
            }
            if !is_zero(bytes) {
                scan.add(bytes, at * 8, size, options)?;
            }
            count += bytes.iter().map(|b| u64::from(b.count_ones())).sum::<u64>();
            scan.before.push(count);
            at += n as u64;
        }
        Ok(scan)
    }

    /// Adds the ranges in these bits, the first of which is page `first`.
    fn add(&mut self, bytes: &[u8], first: u64, size: u64, options: &Options) -> Result<(), Error> {
        for (index, byte) in (0..).zip(bytes) {
            let mut bits = *byte;
            while bits != 0 {
                let from = bits.trailing_zeros();
                let run = (bits >> from).trailing_ones();
                let start = (first + index * 8 + u64::from(from)) * size;
                let end = start + u64::from(run) * size;
                match self.ranges.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => {
                        let needed = (self.ranges.len() as u64 + 1) * 16;
                        options.allow("kdump ranges", needed)?;
                        self.ranges.push(start..end);
                    }
                }
                bits &= !(((1_u16 << run) - 1) << from) as u8;
            }
        }
        Ok(())
    }
}

/// The memory of a kdump-compressed file.
pub(super) struct Kdump {
    source: Source,
    /// Bytes of a page.
    size: u64,
    /// The position of the second bitmap.
    bitmap: Range<u64>,
    /// The position of the first descriptor.
    descriptors: u64,
    before: Vec<u64>,
    ranges: Vec<Range<PhysAddr>>,
    /// Whether pages in the bitmap are missing in the file.
    shortage: Option<String>,
    /// The offset of a known page of zeros; 0 if there is none, since the header is there.
    zero_at: AtomicU64,
    cache: BlockCache,
}

/// `struct page_desc`.
struct Descriptor {
    at: u64,
    offset: u64,
    size: u64,
    flags: u32,
}

impl Kdump {
    /// The number of pages in the file before page `number`.
    fn rank(&self, number: u64) -> io::Result<u64> {
        let group = number / 8 / GROUP;
        let from = self.bitmap.start + group * GROUP;
        let mut bits = [0; GROUP as usize];
        // Less than a group, plus the bits before the page in its byte.
        let len = (number / 8 - group * GROUP) as usize;
        let part = &mut bits[..=len];
        self.source.bytes().read_exact_at(part, from)?;
        part[len] &= ((1_u16 << (number % 8)) - 1) as u8;
        let here = part.iter().map(|b| u64::from(b.count_ones())).sum::<u64>();
        let before = self.before.get(group as usize).copied();
        Ok(before.unwrap_or(0) + here)
    }

    /// Reads `count` consecutive descriptors, the first of which is number `rank`.
    fn descriptors(&self, rank: u64, count: u64) -> io::Result<Vec<Descriptor>> {
        let at = self.descriptors + rank * DESC;
        // At most BATCH of them.
        let mut bytes = vec![0; (count * DESC) as usize];
        self.source.bytes().read_exact_at(&mut bytes, at)?;
        Ok((0..)
            .zip(bytes.chunks_exact(DESC as usize))
            .map(|(index, d)| Descriptor {
                at: at + index * DESC,
                offset: le64(d, 0),
                size: u64::from(le32(d, 8)),
                flags: le32(d, 12),
            })
            .collect())
    }

    /// Whether the file ends before the last of its `count` pages. Pages have ascending offsets, but
    /// those of zeros share one: the last page with another offset decides.
    fn is_cut(&self, count: u64) -> io::Result<bool> {
        if self.stored() < count {
            return Ok(true);
        }
        let (mut end, mut shared) = (count, None);
        while end > 0 {
            let batch = end.min(BATCH);
            for desc in self.descriptors(end - batch, batch)?.iter().rev() {
                if !self.has(desc) {
                    return Ok(true);
                }
                if *shared.get_or_insert(desc.offset) != desc.offset {
                    return Ok(false);
                }
            }
            end -= batch;
        }
        Ok(false)
    }

    /// The number of descriptors in the file.
    fn stored(&self) -> u64 {
        self.source.len().saturating_sub(self.descriptors) / DESC
    }

    /// Whether the page's bytes are in the file.
    fn has(&self, desc: &Descriptor) -> bool {
        self.source.has(desc.at, DESC) && desc.offset > 0 && self.source.has(desc.offset, desc.size)
    }

    /// Removes pages from the ranges that are not in the file, since the writer of an incomplete
    /// file did not reach them (their descriptors are zeros) or the file was truncated. Returns
    /// their number.
    fn remove_missing(&mut self, options: &Options) -> Result<u64, Error> {
        let mut written: Vec<Range<PhysAddr>> = Vec::new();
        let mut missing = 0;
        let mut rank = 0;
        for range in std::mem::take(&mut self.ranges) {
            let mut at = range.start;
            while at < range.end {
                let left = (range.end.0 - at.0) / self.size;
                let count = left.min(BATCH);
                let stored = self.stored().saturating_sub(rank).min(count);
                if stored == 0 {
                    // The following pages are missing too.
                    missing += left;
                    break;
                }
                for desc in self.descriptors(rank, stored)? {
                    if !self.has(&desc) {
                        missing += 1;
                    } else if let Some(last) = written.last_mut().filter(|last| last.end == at) {
                        last.end = last.end.wrapping_add(self.size);
                    } else {
                        options.allow("kdump ranges", (written.len() as u64 + 1) * 16)?;
                        written.push(at..at.wrapping_add(self.size));
                    }
                    at = at.wrapping_add(self.size);
                }
                rank += stored;
            }
        }
        if written.is_empty() {
            return Err(Error::broken(
                "kdump page descriptors",
                self.descriptors,
                "no page in the file",
                "at least one",
            ));
        }
        self.ranges = written;
        Ok(missing)
    }

    /// Decompresses a page into `page`.
    fn decode(&self, desc: &Descriptor, page: &mut [u8]) -> io::Result<()> {
        let codec = desc.flags & PAGE_CODECS;
        let bad = |found: String, expected: String| {
            Err(broken("kdump page descriptor", desc.at, found, expected))
        };
        let fits = desc.offset.checked_add(desc.size);
        if fits.is_none_or(|end| end > self.source.len()) {
            return bad(
                format!("{:#x} bytes at offset {:#x}", desc.size, desc.offset),
                format!("an end of at most {:#x}, the file size", self.source.len()),
            );
        }
        // No codec expands a page to more than twice its size.
        if desc.size == 0 || desc.size > 2 * self.size || (codec == 0 && desc.size != self.size) {
            return bad(
                format!("{:#x} bytes, flags {:#x}", desc.size, desc.flags),
                format!("the stored size of a page of {:#x} bytes", self.size),
            );
        }
        if self.zero_at.load(Ordering::Relaxed) == desc.offset {
            page.fill(0);
            return Ok(());
        }
        if codec == 0 {
            self.source.bytes().read_exact_at(page, desc.offset)?;
        } else {
            let mut stored = vec![0; desc.size as usize];
            self.source
                .bytes()
                .read_exact_at(&mut stored, desc.offset)?;
            let len = match codec {
                PAGE_ZLIB => inflate(&stored, page),
                PAGE_LZO => lzokay::decompress::decompress(&stored, page).ok(),
                PAGE_SNAPPY => unsnap(&stored, page),
                PAGE_ZSTD => zstd::bulk::decompress_to_buffer(&stored, page).ok(),
                _ => return bad(format!("flags {:#x}", desc.flags), "one codec".into()),
            };
            if len != Some(page.len()) {
                return Err(broken(
                    "kdump page",
                    desc.offset,
                    match len {
                        Some(len) => format!("{len:#x} decompressed bytes"),
                        None => format!("invalid compressed data (flags {:#x})", desc.flags),
                    },
                    format!("a page of {:#x} bytes", self.size),
                ));
            }
        }
        if is_zero(page) {
            self.zero_at.store(desc.offset, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The length of the inflated page; `None` if `stored` is invalid or the page is too long.
fn inflate(stored: &[u8], page: &mut [u8]) -> Option<usize> {
    let mut decoder = flate2::bufread::ZlibDecoder::new(stored);
    let mut len = 0;
    while len < page.len() {
        match decoder.read(&mut page[len..]).ok()? {
            0 => return Some(len),
            n => len += n,
        }
    }
    // The checksum follows the last byte.
    matches!(decoder.read(&mut [0]), Ok(0)).then_some(len)
}

fn unsnap(stored: &[u8], page: &mut [u8]) -> Option<usize> {
    let len = snap::raw::decompress_len(stored).ok()?;
    let out = page.get_mut(..len)?;
    snap::raw::Decoder::new().decompress(stored, out).ok()
}

impl PhysMemory for Kdump {
    fn shortage(&self) -> Option<&str> {
        self.shortage.as_deref()
    }

    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, PhysAddr(at), buf.len())?;
        let size = self.size;
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            let (number, inside) = (here / size, (here % size) as usize);
            let left = buf.len() - done;
            let whole = left as u64 / size;
            if inside != 0 || whole == 0 {
                let n = (size as usize - inside).min(left);
                let page = self.cache.get(number, || {
                    let mut page = vec![0; size as usize];
                    let rank = self.rank(number)?;
                    for desc in self.descriptors(rank, 1)? {
                        self.decode(&desc, &mut page)?;
                    }
                    Ok(page)
                })?;
                buf[done..done + n].copy_from_slice(&page[inside..inside + n]);
                done += n;
                continue;
            }
            // These pages are in one range, so all are in the file, consecutively.
            let rank = self.rank(number)?;
            for desc in self.descriptors(rank, whole.min(BATCH))? {
                self.decode(&desc, &mut buf[done..done + size as usize])?;
                done += size as usize;
            }
        }
        Ok(())
    }
}

/// The table row of the format.
pub(super) const KDUMP: Row = Row {
    probe: |candidate| Ok(probe(&candidate.head()?)),
    open: |candidate| image(Format::Kdump, candidate.source()?, candidate.options),
};

/// Opens the image in a file that is not flattened.
pub(super) fn image(format: Format, source: &Source, options: &Options) -> Result<Image, Error> {
    let (memory, cpus) = open(source, options)?;
    Ok(Image {
        cpus,
        ..Image::new(format, source, memory)
    })
}
