//! A minidump without some of its pages, and with memory that is overwritten.
//!
//! The bits of excluded pages are cleared in the bitmap and the pages after them move up. The other
//! sections stay as they are. The seal has the receipt: what is missing, and why.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use livecore_compress::{Output, Progress, ReadAt};
use livecore_defs::seal::REDACTED;
use sha2::{Digest, Sha256};

use crate::bitmap_section::WordForm;
use crate::convert::{self, Target, Written};
use crate::receipt::{Excluded, Redacted};
use crate::{
    Bitmap, Container, Dump, Error, KernelMemory, Layout, OpenOptions, PhysAddr, SealRecord,
};

/// A minidump to write without some of its pages.
#[derive(Clone)]
pub struct Reduced(Arc<Inner>);

struct Inner {
    dump: Arc<Dump>,
    content: Arc<dyn ReadAt>,
    bitmap: Bitmap,
    layout: Layout,
    record: SealRecord,
    /// Ascending.
    redacted: Vec<Redacted>,
}

impl Reduced {
    /// Excludes pages and redacts memory of `dump`. `exclude` has the names of classes and the frame numbers
    /// of their pages, ascending; pages that are not in the dump are ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the dump is truncated, if page tables would change, or if the receipt would be
    /// too large, and the errors of reading the dump.
    pub fn new(
        dump: &Arc<Dump>,
        exclude: &[(String, Vec<Range<u64>>)],
        redact: &[Redacted],
    ) -> Result<Self, Error> {
        if !dump.zero_tail() && dump.shortness()?.is_some() {
            let what = "dump is truncated: salvage it, or fill the missing tail with zeros";
            return Err(Error::Options(what.into()));
        }
        let page = dump.layout().page_size();
        let mut record = convert::record_of(dump, dump.layout().end())?;
        // The pages move.
        record.move_ranges(None);
        let mut words = dump.bitmap().words().to_vec();
        let mut excluded = record.excluded.take().unwrap_or_else(|| Excluded {
            page_size: page as u32, // a page is smaller than 4 GiB
            ..Excluded::default()
        });
        for (name, frames) in exclude {
            let mut runs: Vec<Range<u64>> = Vec::new();
            for frame in frames.iter().cloned().flatten() {
                let at = frame.checked_mul(page).map(PhysAddr);
                let Some(bit) = at.and_then(|at| dump.dump_avail().bit_of(at)) else {
                    continue;
                };
                let mask = 1 << (bit % 64);
                let word = usize::try_from(bit / 64)
                    .ok()
                    .and_then(|i| words.get_mut(i));
                let Some(word) = word.filter(|word| **word & mask != 0) else {
                    continue;
                };
                *word &= !mask;
                match runs.last_mut() {
                    Some(last) if last.end == frame => last.end += 1,
                    _ => runs.push(frame..frame + 1),
                }
            }
            excluded.add(name, &runs)?;
        }
        if !exclude.is_empty() || !excluded.classes.is_empty() {
            record.set_excluded(excluded);
        }
        let redacted = united(record.redacted()?, redact);
        if !redacted.is_empty() {
            record.set_redacted(&redacted)?;
        }
        let bitmap = Bitmap::from_words(words, dump.bitmap().bits())
            .map_err(|e| Error::Options(e.to_string()))?;
        let layout = Layout::new(dump.header(), bitmap.count());
        let reduced = Self(Arc::new(Inner {
            content: dump.payload(),
            dump: Arc::clone(dump),
            bitmap,
            layout,
            record,
            redacted,
        }));
        let new = Dump::from_source(reduced.payload(), &OpenOptions::default())?;
        if mappings(dump)? != mappings(&new)? {
            let what = "the page tables of the kernel are in this memory";
            return Err(Error::Options(what.into()));
        }
        Ok(reduced)
    }

    /// The seal, with the receipt.
    pub fn record(&self) -> &SealRecord {
        &self.0.record
    }

    /// The payload.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        Arc::new(self.clone())
    }

    /// Writes the dump to `out` as `target` specifies.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if `target` has no seal, and those of [`convert::convert`].
    pub fn write(
        &self,
        target: &Target,
        out: &mut dyn Output,
        progress: &dyn Progress,
    ) -> Result<Written, Error> {
        if target.container != Container::Sealed {
            let what = "only a sealed file can state what is missing; use --container sealed";
            return Err(Error::Options(what.into()));
        }
        let page = self.0.layout.page_size();
        let record = || self.0.record.clone();
        convert::finish_record(self, record, page, target, out, progress)
    }

    /// Reads bytes at `at` of the page section, up to the end of a run of pages. Returns their number.
    fn pages(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let (new, old) = (&self.0, &self.0.dump);
        let page = new.layout.page_size();
        let (rank, skip) = (at / page, at % page);
        let found = new.bitmap.select(rank).and_then(|bit| {
            let wanted = (skip + buf.len() as u64).div_ceil(page);
            let (pa, together) = old.dump_avail().run_of(bit)?;
            let run = new.bitmap.run_at(bit, wanted.min(together));
            let offset = old.layout().page_offset(old.bitmap().rank(bit)?)?;
            Some((pa, offset, run.end - run.start))
        });
        // Every bit of the new bitmap is also set in the old one, which gives its offset.
        let (pa, offset, pages) = found.ok_or_else(|| io::Error::other("page has no offset"))?;
        let n = buf.len().min((pages * page - skip) as usize);
        new.content.read_exact_at(&mut buf[..n], offset + skip)?;
        redact(&new.redacted, pa.0 + skip, &mut buf[..n]);
        Ok(n)
    }
}

impl ReadAt for Reduced {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.layout.end())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (layout, header) = (self.0.layout, self.0.dump.header());
        let left = layout.end().saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..n];
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let stops = [
                layout.bitmap_offset(),
                layout.pmap_offset(),
                layout.data_offset(),
            ];
            let stop = stops.into_iter().find(|stop| at < *stop);
            let until = stop.unwrap_or(layout.end()) - at;
            let n = usize::try_from(until).unwrap_or(usize::MAX);
            let n = n.min(buf.len() - done);
            let out = &mut buf[done..done + n];
            if at >= layout.data_offset() {
                done += self.pages(out, at - layout.data_offset())?;
                continue;
            }
            if (layout.bitmap_offset()..layout.pmap_offset()).contains(&at) {
                let form = WordForm {
                    order: header.order,
                    long_size: header.long_size(),
                };
                form.encode(&self.0.bitmap, at - layout.bitmap_offset(), out);
            } else {
                self.0.content.read_exact_at(out, at)?;
            }
            done += n;
        }
        Ok(done)
    }
}

/// Overwrites the bytes of `buf`, memory from `at` on, that are in `ranges`.
fn redact(ranges: &[Redacted], at: u64, buf: &mut [u8]) {
    let end = at + buf.len() as u64;
    let first = ranges.partition_point(|redacted| redacted.range.end <= at);
    for Redacted { range, .. } in ranges[first..].iter().take_while(|r| r.range.start < end) {
        for address in range.start.max(at)..range.end.min(end) {
            buf[(address - at) as usize] = REDACTED[(address % 8) as usize];
        }
    }
}

/// The ranges of both, ascending, without overlaps.
fn united(mut ranges: Vec<Redacted>, more: &[Redacted]) -> Vec<Redacted> {
    ranges.extend(more.iter().cloned());
    ranges.sort_by_key(|redacted| redacted.range.start);
    let mut all: Vec<Redacted> = Vec::new();
    for mut next in ranges {
        let end = all.last().map_or(0, |last| last.range.end);
        next.range.start = next.range.start.max(end);
        match all.last_mut() {
            Some(last) if last.name == next.name && last.range.end == next.range.start => {
                last.range.end = last.range.end.max(next.range.end);
            }
            _ if next.range.is_empty() => {}
            _ => all.push(next),
        }
    }
    all
}

/// The number of page tables that are missing, and a digest of the kernel map.
fn mappings(dump: &Dump) -> Result<(u64, [u8; 32]), Error> {
    let mut digest = Sha256::new();
    let end = dump.walk(&mut |mapping| {
        for value in [mapping.va.0, mapping.pa.0, mapping.len] {
            digest.update(value.to_le_bytes());
        }
        ControlFlow::Continue(())
    });
    let end = end.map_err(|e| Error::Options(format!("cannot read the page tables: {e}")))?;
    Ok((end.tables_missing, digest.finalize().into()))
}

/// Finds the physical addresses of kernel memory that is in `dump`, for [`Reduced::new`].
///
/// # Errors
///
/// [`Error::Options`] if the kernel does not map all of it.
pub fn physical(dump: &Dump, at: Range<u64>, name: &str) -> Result<Vec<Redacted>, Error> {
    let page = dump.layout().page_size();
    let mut found = Vec::new();
    let mut start = at.start;
    while start < at.end {
        let n = (page - start % page).min(at.end - start);
        let pa = dump
            .translate(crate::VirtAddr(start))
            .map_err(|e| Error::Options(format!("cannot redact {name}: {e}")))?;
        if dump.offset_of(pa).is_some() {
            found.push(Redacted {
                range: pa.0..pa.0 + n,
                name: name.into(),
            });
        }
        start += n;
    }
    if found.is_empty() {
        let what = format!("cannot redact {name}: none of this memory is in the dump");
        return Err(Error::Options(what));
    }
    Ok(united(found, &[]))
}
