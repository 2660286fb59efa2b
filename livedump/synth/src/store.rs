//! Physical memory that is made on demand: pages that the builder wrote, runs of pages that are
//! a function of their frame number, and zeros.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::content::{self, Kind, PAGE, Page};
use super::vm_page::VmPages;
use livecore_minidump::{PhysAddr, PhysMemory};
use livecore_minidump::{check_ranges, first_outside};

/// The origin of the pages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Generated from kind and seed.
    Kind(Kind),
    /// The machine's `vm_page_array`. The run starts at its first byte.
    VmPages,
}

/// A range of frames with the same source.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Frame numbers, in units of 4 KiB.
    pub(crate) frames: Range<u64>,
    /// Their contents.
    pub(crate) source: Source,
}

/// Memory under construction.
#[derive(Default)]
pub(crate) struct Store {
    pages: BTreeMap<u64, Box<Page>>,
    runs: Vec<Run>,
}

impl Store {
    /// Writes bytes at a physical address. Pages not written yet are zero.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = (at % PAGE as u64) as usize;
            let n = rest.len().min(PAGE - offset);
            let (now, later) = rest.split_at(n);
            let page = self
                .pages
                .entry(at / PAGE as u64)
                .or_insert_with(|| Box::new([0; PAGE]));
            page[offset..offset + n].copy_from_slice(now);
            rest = later;
            at += n as u64;
        }
    }

    /// Reads back `buf.len()` bytes within one page.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) {
        let offset = (at % PAGE as u64) as usize;
        match self.pages.get(&(at / PAGE as u64)) {
            Some(page) => buf.copy_from_slice(&page[offset..offset + buf.len()]),
            None => buf.fill(0),
        }
    }

    /// Returns the page of a frame, and creates it if it has not been written.
    pub(crate) fn page(&mut self, frame: u64) -> &mut Page {
        self.pages
            .entry(frame)
            .or_insert_with(|| Box::new([0; PAGE]))
    }

    /// Sets the source of a run of frames. Runs do not overlap. Written pages take precedence.
    pub(crate) fn add_run(&mut self, frames: Range<u64>, source: Source) {
        if !frames.is_empty() && source != Source::Kind(Kind::Zero) {
            self.runs.push(Run { frames, source });
        }
    }

    /// Completes the memory.
    pub(crate) fn freeze(
        mut self,
        seed: u64,
        ranges: Vec<Range<u64>>,
        vm_pages: Option<VmPages>,
    ) -> Memory {
        self.runs.sort_by_key(|run| run.frames.start);
        Memory {
            pages: self.pages.into_iter().collect(),
            runs: self.runs,
            ranges: (ranges.into_iter())
                .map(|range| PhysAddr(range.start)..PhysAddr(range.end))
                .collect(),
            seed,
            vm_pages,
        }
    }
}

/// The physical memory of an emulated machine.
pub(crate) struct Memory {
    /// By frame number, ascending.
    pages: Vec<(u64, Box<Page>)>,
    /// Ascending, disjoint.
    runs: Vec<Run>,
    ranges: Vec<Range<PhysAddr>>,
    seed: u64,
    vm_pages: Option<VmPages>,
}

impl Memory {
    /// Returns the ranges of frames that may contain nonzero bytes, ascending. They may be
    /// adjacent.
    pub(crate) fn populated(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = self.runs.iter().map(|run| run.frames.clone()).collect();
        for (frame, _) in &self.pages {
            match all.last_mut() {
                Some(last) if last.end == *frame => last.end += 1,
                _ => all.push(*frame..*frame + 1),
            }
        }
        all.sort_by_key(|frames| frames.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for frames in all {
            match merged.last_mut() {
                Some(last) if frames.start <= last.end => last.end = last.end.max(frames.end),
                _ => merged.push(frames),
            }
        }
        merged
    }

    /// Makes page `frame`. `page` and `run` are the first entries not below it.
    fn make(&self, frame: u64, page: usize, run: usize, out: &mut Page) {
        if let Some((at, bytes)) = self.pages.get(page)
            && *at == frame
        {
            out.copy_from_slice(&bytes[..]);
            return;
        }
        match self.runs.get(run) {
            Some(found) if found.frames.contains(&frame) => match found.source {
                Source::Kind(kind) => content::fill(kind, self.seed, frame, out),
                Source::VmPages => match &self.vm_pages {
                    Some(array) => array.fill(frame - found.frames.start, self.seed, out),
                    None => out.fill(0),
                },
            },
            _ => out.fill(0),
        }
    }

    /// Returns the first written page and the first run not below `frame`.
    fn seek(&self, frame: u64) -> (usize, usize) {
        (
            self.pages.partition_point(|(at, _)| *at < frame),
            self.runs.partition_point(|run| run.frames.end <= frame),
        )
    }

    /// Returns the first frame at or above `frame` that may contain nonzero bytes.
    fn next_populated(&self, frame: u64, page: usize, run: usize) -> u64 {
        let by_page = self.pages.get(page).map_or(u64::MAX, |(at, _)| *at);
        let by_run = self
            .runs
            .get(run)
            .map_or(u64::MAX, |run| run.frames.start.max(frame));
        by_page.min(by_run)
    }
}

impl PhysMemory for Memory {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, PhysAddr(at), buf.len())?;
        let mut frame = at / PAGE as u64;
        let mut offset = (at % PAGE as u64) as usize;
        let (mut page, mut run) = self.seek(frame);
        let mut rest = buf;
        let mut scratch: Page = [0; PAGE];
        while !rest.is_empty() {
            // Zeros up to the next page with contents.
            let next = self.next_populated(frame, page, run);
            if next > frame {
                let pages = usize::try_from(next - frame).unwrap_or(usize::MAX);
                let n = pages
                    .saturating_mul(PAGE)
                    .saturating_sub(offset)
                    .min(rest.len());
                let (now, later) = std::mem::take(&mut rest).split_at_mut(n);
                now.fill(0);
                rest = later;
                frame += ((offset + n) / PAGE) as u64;
                offset = (offset + n) % PAGE;
                continue;
            }
            let n = rest.len().min(PAGE - offset);
            let (now, later) = std::mem::take(&mut rest).split_at_mut(n);
            match <&mut Page>::try_from(&mut *now) {
                Ok(whole) => self.make(frame, page, run, whole),
                Err(_) => {
                    self.make(frame, page, run, &mut scratch);
                    now.copy_from_slice(&scratch[offset..offset + n]);
                }
            }
            rest = later;
            offset = 0;
            frame += 1;
            if self.pages.get(page).is_some_and(|(at, _)| *at < frame) {
                page += 1;
            }
            if self
                .runs
                .get(run)
                .is_some_and(|run| run.frames.end <= frame)
            {
                run += 1;
            }
        }
        Ok(())
    }

    fn known_zero(&self, PhysAddr(at): PhysAddr, len: u64) -> bool {
        if first_outside(&self.ranges, PhysAddr(at), len).is_some() {
            return false;
        }
        let frame = at / PAGE as u64;
        let (page, run) = self.seek(frame);
        let next = self.next_populated(frame, page, run);
        next.checked_mul(PAGE as u64)
            .is_none_or(|next| next >= at.saturating_add(len))
    }
}
