//! Compares a kernel's code in its file with memory.
//!
//! The code identifies the build of a kernel and its load address. A sample of pages is compared in
//! short pieces, because memory can differ from the file: a kernel linked with `-z ifunc-noplt`
//! (amd64 since 12.0) patches calls of functions that it selects at boot, such as `memcpy` and
//! `copyin`. This changes more than half of its pages, but few bytes in each. dtrace(1) and
//! debuggers set breakpoints.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use livecore_minidump::{KernelElf, PhysAddr, PhysMemory, VirtAddr};

/// The size and alignment of a sample.
const PAGE: u64 = 4096;
/// The number of bytes compared as a unit: about a dozen instructions.
const LINE: usize = 64;
/// The maximum number of samples.
const SAMPLES: u64 = 64;
/// The minimum number of compared pages for a decision.
const ENOUGH: u32 = 4;
/// The maximum number of possible load addresses counted in a search.
const PLACES: usize = 4096;

/// Pages from all parts of a kernel's code.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pages: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    va: VirtAddr,
    bytes: Vec<u8>,
}

/// The number of compared pages and of matching pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) same: u32,
    pub(super) compared: u32,
}

impl Agreement {
    /// Whether this is another build: most of the compared pages do not match.
    pub(super) fn is_other(self) -> bool {
        self.compared >= ENOUGH && self.same < self.compared.div_ceil(2)
    }
}

impl Samples {
    /// Selects samples. A file without code contents has none.
    pub(super) fn of(elf: &KernelElf) -> Self {
        // Runs of complete pages: first address and number of pages.
        let runs = elf.text().iter().filter_map(|range| {
            let start = range.start.0.checked_next_multiple_of(PAGE)?;
            let count = range.end.0.checked_sub(start)? / PAGE;
            (count > 0).then_some((start, count))
        });
        let runs = runs.collect::<Vec<_>>();
        let all = runs
            .iter()
            .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let wanted = all.min(SAMPLES);
        let pages = (0..wanted).filter_map(|i| {
            // The samples are evenly distributed: sample `i` of `wanted` is page `index` of `all`.
            let mut index = u64::try_from(u128::from(i) * u128::from(all) / u128::from(wanted));
            for (start, count) in &runs {
                let here = index.ok()?;
                if here < *count {
                    return Sample::at(elf, VirtAddr(start + here * PAGE));
                }
                index = Ok(here - count);
            }
            None
        });
        Self {
            pages: pages.collect(),
        }
    }

    /// Compares the samples with memory. `pa` converts virtual to physical addresses.
    pub(super) fn compare(
        &self,
        memory: &Arc<dyn PhysMemory>,
        pa: impl Fn(VirtAddr) -> Option<PhysAddr>,
    ) -> Agreement {
        let mut agreement = Agreement::default();
        let mut page = vec![0; PAGE as usize];
        for sample in &self.pages {
            let Some(at) = pa(sample.va) else {
                continue;
            };
            if memory.read(at, &mut page).is_ok() {
                agreement.compared += 1;
                agreement.same += u32::from(sample.is_like(&page));
            }
        }
        agreement
    }

    /// Starts a search for the load address of an image that is linked at `link`.
    pub(super) fn search(&self, link: VirtAddr) -> Search<'_> {
        let mut by_start = HashMap::<[u8; 8], Vec<&Sample>>::new();
        for sample in &self.pages {
            if let Some(start) = sample.bytes.first_chunk() {
                by_start.entry(*start).or_default().push(sample);
            }
        }
        Search {
            link,
            by_start,
            votes: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }
}

impl Sample {
    fn at(elf: &KernelElf, va: VirtAddr) -> Option<Self> {
        let contents = elf.bytes_at(va, PAGE as usize)?;
        let (first, rest) = contents.bytes.split_first()?;
        // Padding does not identify a page.
        let is_unique = rest.iter().any(|byte| byte != first);
        (contents.in_file && is_unique).then_some(Self {
            va,
            bytes: contents.bytes,
        })
    }

    /// Whether `page` is this page, possibly patched at boot: two thirds of its lines are equal.
    /// Other code, or this code at another offset, has almost no equal lines.
    fn is_like(&self, page: &[u8]) -> bool {
        let lines = self.bytes.chunks(LINE);
        let all = lines.len();
        let same = lines.zip(page.chunks(LINE)).filter(|(a, b)| a == b).count();
        page.len() == self.bytes.len() && same * 3 >= all * 2
    }
}

/// A search for code.
pub(super) struct Search<'a> {
    link: VirtAddr,
    by_start: HashMap<[u8; 8], Vec<&'a Sample>>,
    /// Possible load addresses and the number of pages that match each.
    votes: BTreeMap<PhysAddr, u32>,
}

impl Search<'_> {
    /// Compares the 4 KiB page at `pa` with the samples.
    pub(super) fn add_page(&mut self, pa: PhysAddr, page: &[u8]) {
        let Some(samples) = page
            .first_chunk()
            .and_then(|start| self.by_start.get(start))
        else {
            return;
        };
        for sample in samples.iter().filter(|sample| sample.is_like(page)) {
            let inside = sample.va.offset_from(self.link);
            let Some(start) = inside.and_then(|inside| pa.checked_sub(inside)) else {
                continue;
            };
            if self.votes.len() < PLACES || self.votes.contains_key(&start) {
                *self.votes.entry(start).or_default() += 1;
            }
        }
    }

    /// Returns possible load addresses and their number of pages, in descending order of the number.
    /// Addresses with one page are omitted: the guest may have a copy of the file in memory.
    pub(super) fn places(&self) -> Vec<(PhysAddr, u32)> {
        let mut places = self.votes.iter().map(|(at, votes)| (*at, *votes));
        let mut places = places
            .by_ref()
            .filter(|(_, votes)| *votes > 1)
            .collect::<Vec<_>>();
        places.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_pages_of_another_build_do_not_match() {
        let of = |same, compared| Agreement { same, compared }.is_other();
        assert!(!of(0, 0) && !of(0, 3), "too few pages");
        assert!(of(0, 4) && of(1, 4) && of(31, 64));
        assert!(!of(2, 4) && !of(32, 64) && !of(64, 64), "patched pages");
    }

    #[test]
    fn a_page_with_patched_calls_matches() {
        let bytes = (0..PAGE).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>();
        let sample = Sample {
            va: VirtAddr(0xffff_ffff_8020_0000),
            bytes: bytes.clone(),
        };
        // Patch the displacement of a call in every third line.
        let mut patched = bytes.clone();
        for at in (100..PAGE as usize).step_by(3 * LINE) {
            patched[at..at + 4].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        }
        assert!(sample.is_like(&patched));
        // The same code at another offset.
        let mut moved = bytes;
        moved.rotate_right(4);
        assert!(!sample.is_like(&moved));
        assert!(!sample.is_like(&[]));
    }

    #[test]
    fn code_pages_give_the_load_address() {
        let sample = |va: u64, byte: u8| {
            let mut bytes = vec![byte; PAGE as usize];
            bytes[9] = !byte;
            Sample {
                va: VirtAddr(va),
                bytes,
            }
        };
        let samples = Samples {
            pages: vec![sample(0x8010_0000, 1), sample(0x8010_2000, 2)],
        };
        let mut search = samples.search(VirtAddr(0x8000_0000));
        // Copies of single pages, with other distances than in the image.
        search.add_page(PhysAddr(0x7000), &samples.pages[0].bytes);
        search.add_page(PhysAddr(0xc000), &samples.pages[1].bytes);
        assert_eq!(search.places(), []);
        search.add_page(PhysAddr(0x50_3000), &samples.pages[0].bytes);
        search.add_page(PhysAddr(0x50_4000), &[1; PAGE as usize]);
        search.add_page(PhysAddr(0x50_5000), &samples.pages[1].bytes);
        assert_eq!(search.places(), [(PhysAddr(0x40_3000), 2)]);
    }
}
