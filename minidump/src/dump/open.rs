//! Opens a minidump: reads its sections and checks its lengths.

use std::sync::Arc;

use livecore_compress::{Codec, ReadAt};
use livecore_defs::foreign::{self, HEAD};
use livecore_defs::kerneldump::DUMPLENGTH;
use livecore_defs::minidump::DUMP_AVAIL_ENTRY;
use livecore_defs::seal::FLAG_SHORT;

use super::contradictions::of_minidump;
use super::envelope::Envelope;
use super::minidump::{Dump, reserve};
use super::options::OpenOptions;
use super::origin::HeaderOrigin;
use super::table_cache::TableCache;
use super::warning::{KERNELDUMPHEADER, Warning};
use crate::bitmap_section::{WordForm, bitmap_size};
use crate::container::Container;
use crate::header::HEADER_BYTES;
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};

/// The maximum size of the `dump_avail` section: 65,536 ranges. Kernels write one page.
const DUMP_AVAIL_LIMIT: u64 = 1 << 20;

impl Dump {
    /// Opens the minidump with header `mini` in the content of `envelope`.
    pub(crate) fn build(
        envelope: Envelope,
        mini: MinidumpHeader,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let content = Arc::clone(&envelope.content);
        let mut layout = Layout::new(&mini, 0);
        if let Some(len) = mini.unpadded_entries() {
            layout = layout.with_pmap_len(len);
        }
        require_sections(&*content, &layout)?;
        let (ranges, tail) = read_ranges(&*content, &mini, &layout)?;
        let (bitmap, stray) = read_bitmap(&*content, &mini, &layout, &ranges, options)?;
        layout = Layout::new(&mini, bitmap.count());
        if let Some(len) = mini.unpadded_entries() {
            // Kernels do not pad the section, but other writers can. The length of the payload
            // decides, even if a foreign stream must be decoded for it.
            if content.size().ok() != Some(layout.end()) {
                layout = layout.with_pmap_len(len);
            }
        }
        let mut contradictions = of_minidump(&mini, &ranges);
        contradictions.extend(tail);
        let mut dump = Self {
            envelope,
            mini,
            layout,
            ranges,
            bitmap,
            zero_tail: options.zero_tail,
            tables: TableCache::new(),
        };
        dump.envelope.warnings.extend(contradictions);
        if stray > 0 {
            let warning = Warning::StrayBits { count: stray };
            dump.envelope.warnings.push(warning);
        }
        dump.check_length()?;
        Ok(dump)
    }

    /// Compares the length required by the bitmap with the length of the payload and the lengths in
    /// the header, the seal and the info file.
    fn check_length(&mut self) -> Result<(), Error> {
        let expected = self.layout.end();
        let region = "page data";
        let stated = self.stated_len();
        if let Some((source, len)) = stated
            && len < expected
            && !self.zero_tail
            && !self.is_sealed_short()
        {
            return Err(Error::broken(
                region,
                len,
                format!("end at {len:#x} in {source}"),
                format!("end at {expected:#x} by the bitmap"),
            ));
        }
        if let Some(info) = self.envelope.info()
            && self.envelope.container() == Container::Saved
            && info.compression != Some(Codec::None)
            && self.envelope.file_len() < info.dump_length
        {
            return Err(Error::broken(
                "compressed data",
                self.envelope.file_len(),
                format!("end at {:#x}", self.envelope.file_len()),
                format!("end at {:#x} by the info file", info.dump_length),
            ));
        }
        let Some(actual) = self.envelope.known_len() else {
            return Ok(());
        };
        if let Some((source, len)) = stated
            && actual < len
            && !self.zero_tail
        {
            return Err(Error::broken(
                region,
                actual,
                format!("end at {actual:#x}"),
                format!("end at {len:#x} by {source}"),
            ));
        }
        if let Some(short) = self.short_by(actual) {
            let loss = self.loss_of(short);
            self.envelope.warnings.push(loss);
        }
        if let Some(warning) = self.excess_of(actual) {
            self.envelope.warnings.push(warning);
        }
        Ok(())
    }

    /// The warning about the bytes after the last page in a payload of `actual` bytes. They contradict
    /// a kerneldumpheader that counts them. The pages of stray bits are no warning of their own.
    pub(super) fn excess_of(&self, actual: u64) -> Option<Warning> {
        let end = self.layout.end();
        let tail = actual.saturating_sub(end);
        let stray = self
            .envelope
            .warnings
            .iter()
            .find_map(|warning| match warning {
                Warning::StrayBits { count } => Some(*count),
                _ => None,
            });
        let of_stray = stray.unwrap_or(0).saturating_mul(self.layout.page_size());
        if tail == 0 || tail <= of_stray {
            return None;
        }
        let header = self.envelope.kerneldumpheader();
        Some(match (header, self.envelope.header_origin()) {
            (Some(header), HeaderOrigin::File { offset })
                if header.codec() == Some(Codec::None) && header.dumplength > end =>
            {
                Warning::Field {
                    structure: KERNELDUMPHEADER,
                    name: "dumplength",
                    offset: offset + DUMPLENGTH.offset as u64,
                    found: format!("{:#x}", header.dumplength),
                    expected: format!("{end:#x}, the end of the last page"),
                }
            }
            _ => Warning::Trailing {
                offset: end,
                len: tail,
            },
        })
    }

    fn is_sealed_short(&self) -> bool {
        self.envelope
            .seal()
            .is_some_and(|s| s.flags & FLAG_SHORT != 0)
    }

    /// Returns the length of the payload in the header, the seal or the info file, and its source.
    fn stated_len(&self) -> Option<(&'static str, u64)> {
        if self.envelope.is_embedded() {
            return None;
        }
        let header = self.envelope.kerneldumpheader();
        match self.envelope.container() {
            Container::Sealed => header.map(|h| ("the seal", h.dumpextent)),
            Container::Raw => header.map(|h| ("the kerneldumpheader", h.dumpextent)),
            // The extent of a compressed dump can be the size of the device.
            Container::Device => header
                .filter(|h| h.codec() == Some(Codec::None))
                .map(|h| ("the kerneldumpheader", h.dumplength)),
            Container::Saved => self
                .envelope()
                .info()
                .filter(|info| info.compression == Some(Codec::None))
                .map(|info| ("the info file", info.dump_length)),
        }
    }
}

/// Reads the header at the start of `content`.
pub(crate) fn read_header(content: &dyn ReadAt) -> Result<MinidumpHeader, Error> {
    let mut head = [0; HEAD];
    let got = content.read_full_at(&mut head, 0)?;
    parse_header(&head[..got])
}

/// Parses the first bytes of a payload. Names the format if it is a known one, as far as these bytes show
/// it.
pub(crate) fn parse_header(head: &[u8]) -> Result<MinidumpHeader, Error> {
    if head.is_empty() {
        return Err(Error::NotADump {
            found: "an empty file".into(),
        });
    }
    if let Some(found) = foreign::sentence(head) {
        return Err(Error::NotADump { found });
    }
    MinidumpHeader::parse(&head[..head.len().min(HEADER_BYTES)])
}

/// Checks that all sections before the pages are in the payload.
fn require_sections(content: &dyn ReadAt, layout: &Layout) -> Result<(), Error> {
    let sections = [
        ("minidump header", 0, layout.msgbuf_offset()),
        (
            "message buffer",
            layout.msgbuf_offset(),
            layout.msgbuf_len(),
        ),
        (
            "dump_avail",
            layout.dump_avail_offset(),
            layout.dump_avail_len(),
        ),
        ("page bitmap", layout.bitmap_offset(), layout.bitmap_len()),
        ("page tables", layout.pmap_offset(), layout.pmap_len()),
    ];
    for (region, start, len) in sections {
        let end = start + len;
        if len > 0 && content.read_full_at(&mut [0], end - 1)? == 0 {
            return Err(Error::broken(
                region,
                start,
                format!("end of the payload at {:#x}", content.size()?),
                format!("{len:#x} bytes, up to {end:#x}"),
            ));
        }
    }
    Ok(())
}

/// Reads `dump_avail`. Also returns a warning if there are bytes after its last entry.
fn read_ranges(
    content: &dyn ReadAt,
    mini: &MinidumpHeader,
    layout: &Layout,
) -> Result<(DumpAvail, Option<Warning>), Error> {
    if !mini.has_dump_avail() {
        let bits = u64::from(mini.bitmapsize) * 8;
        return Ok((DumpAvail::from_zero(bits, layout.page_size()), None));
    }
    let offset = layout.dump_avail_offset();
    let len = u64::from(mini.dumpavailsize);
    if len > DUMP_AVAIL_LIMIT {
        return Err(Error::broken(
            "minidump header, dumpavailsize",
            mini.arch.header.dumpavailsize.offset as u64,
            format!("{len:#x}"),
            format!("at most {DUMP_AVAIL_LIMIT:#x}"),
        ));
    }
    let mut bytes = vec![0; len as usize];
    content.read_exact_at(&mut bytes, offset)?;
    let ranges = DumpAvail::parse(&bytes, mini.order, layout.page_size(), offset)?;
    ranges.require_bits(mini.bitmapsize, layout.bitmap_offset())?;
    let end = ranges.ranges().len() * DUMP_AVAIL_ENTRY;
    let stray = bytes.iter().skip(end).position(|byte| *byte != 0);
    let warning = stray.map(|stray| Warning::Field {
        structure: "dump_avail",
        name: "after the last entry",
        offset: offset + (end + stray) as u64,
        found: format!("{:#04x}", bytes[end + stray]),
        expected: "zeros".to_owned(),
    });
    Ok((ranges, warning))
}

/// Reads the bitmap, and returns it with the number of set bits after its end in the last word.
fn read_bitmap(
    content: &dyn ReadAt,
    mini: &MinidumpHeader,
    layout: &Layout,
    ranges: &DumpAvail,
    options: &OpenOptions,
) -> Result<(Bitmap, u64), Error> {
    let bits = ranges.bits();
    let needed = bitmap_size(bits, options.bitmap_limit)?;
    let form = WordForm {
        order: mini.order,
        long_size: mini.long_size(),
    };
    let mut words = Vec::new();
    reserve(&mut words, (needed / 8) as usize, "page bitmap")?;
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    while done < needed {
        let n = (needed - done).min(piece.len() as u64) as usize;
        // The section has complete pages, so this does not read beyond it.
        content.read_exact_at(&mut piece[..n], layout.bitmap_offset() + done)?;
        form.decode(&piece[..n], &mut words);
        done += n as u64;
    }
    form.bitmap(words, bits, layout.bitmap_offset())
}
