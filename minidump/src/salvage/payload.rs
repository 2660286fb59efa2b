//! The new payload: the sections of the old one, a bitmap without the lost pages, and the pages that
//! are left.

use std::io;
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::found::Found;
use super::left::Left;
use super::options::{Known, Options};
use super::survey::Survey;
use crate::{Error, KernelDumpHeader};

/// Salvages a minidump.
pub(super) fn mini(left: &mut Left, options: &Options, known: Known) -> Result<Found, Error> {
    let survey = Survey::new(left, options, known)?;
    Ok(Found {
        kind: "minidump",
        page_size: survey.header().page_size(),
        pages: survey.pages().clone(),
        sections: survey.losses().to_vec(),
        unproven_sections: survey.unproven_sections(),
        unproven: survey.unproven().to_vec(),
        corrections: survey.corrections().to_vec(),
        header: KernelDumpHeader::from_payload(survey.header()),
        payload: Arc::new(Patched::new(survey, left.content())),
    })
}

/// The new payload, readable at any offset.
pub(super) struct Patched {
    survey: Survey,
    content: Arc<dyn ReadAt>,
}

impl Patched {
    pub(super) fn new(survey: Survey, content: Arc<dyn ReadAt>) -> Self {
        Self { survey, content }
    }

    /// Reads bytes of the sections at `offset` of the old payload. Lost bytes are zeros.
    fn section(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let left = buf.len() - done;
            // Both are at most `left`.
            let there = self.survey.there(at, left as u64).0 as usize;
            let n = match there {
                0 => self.survey.gone(at, left as u64).max(1) as usize,
                n => n,
            };
            let out = &mut buf[done..done + n];
            match there {
                0 => out.fill(0),
                _ => self.content.read_exact_at(out, at)?,
            }
            done += n;
        }
        Ok(())
    }

    /// Reads bytes at `at` of the page section, up to the end of a run of pages. Returns their
    /// number.
    fn pages(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let layout = self.survey.layout();
        let page = layout.page_size();
        let bitmap = self.survey.bitmap();
        let (rank, skip) = (at / page, at % page);
        let found = bitmap.select(rank).and_then(|bit| {
            let wanted = (skip + buf.len() as u64).div_ceil(page);
            let run = bitmap.run_at(bit, wanted);
            Some((self.survey.old_offset(bit)?, run.end - run.start))
        });
        // Every bit of the new bitmap is also set in the old one, which gives its offset.
        let (offset, pages) = found.ok_or_else(|| io::Error::other("page has no offset"))?;
        let n = buf.len().min((pages * page - skip) as usize);
        self.content.read_exact_at(&mut buf[..n], offset + skip)?;
        Ok(n)
    }
}

impl ReadAt for Patched {
    fn size(&self) -> io::Result<u64> {
        let layout = self.survey.new_layout();
        // A bitmap has at most 2^32 - 1 set bits.
        Ok(layout.data_offset() + self.survey.bitmap().count() * layout.page_size())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (old, new) = (self.survey.layout(), self.survey.new_layout());
        let corrected = self.survey.corrected();
        let end = self.size()?;
        let left = end.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..left];
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let stop = [
                new.msgbuf_offset(),
                new.dump_avail_offset(),
                new.bitmap_offset(),
                new.pmap_offset(),
                new.data_offset(),
                end,
            ]
            .into_iter()
            .find(|stop| at < *stop)
            .unwrap_or(end);
            let n = (buf.len() - done).min(usize::try_from(stop - at).unwrap_or(usize::MAX));
            let out = &mut buf[done..done + n];
            if at >= new.data_offset() {
                done += self.pages(out, at - new.data_offset())?;
                continue;
            }
            if at >= new.pmap_offset() {
                self.section(out, old.pmap_offset() + (at - new.pmap_offset()))?;
            } else if at >= new.bitmap_offset() {
                let within = at - new.bitmap_offset();
                self.survey.form().encode(self.survey.bitmap(), within, out);
            } else if at >= new.dump_avail_offset() {
                corrected
                    .dump_avail
                    .read_exact_at(out, at - new.dump_avail_offset())?;
            } else if at >= new.msgbuf_offset() {
                self.section(out, at)?;
            } else {
                corrected.page.read_exact_at(out, at)?;
            }
            done += n;
        }
        Ok(done)
    }
}
