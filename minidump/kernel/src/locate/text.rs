//! A kernel's code in its file, held against memory.
//!
//! What tells one build of a kernel from another, and where it lies, is its code. Pages of it are
//! compared in many places, and in short pieces, because memory need not have all of them as the
//! file has them. A kernel linked with `-z ifunc-noplt` (amd64 since 12.0) writes the target
//! into each call of a function that it chooses when it starts, `memcpy` and `copyin` among them, and
//! so changes more than half of its pages, but few bytes of each; dtrace(1) and debuggers put
//! breakpoints in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use livecore_minidump::{KernelElf, PhysAddr, PhysMemory};

/// Bytes that are compared together; where they begin, in the file's addresses and in memory.
const PAGE: u64 = 4096;
/// Bytes of a page that are compared together: about a dozen instructions.
const LINE: usize = 64;
/// How many pages are compared.
const SAMPLES: u64 = 64;
/// Fewer say nothing.
const ENOUGH: u32 = 4;
/// How many places are remembered that pages of code were seen for.
const PLACES: usize = 4096;

/// Pages of a kernel's code, from all parts of it.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pages: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    va: u64,
    bytes: Vec<u8>,
}

/// How many pages were compared, and how many of them are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) same: u32,
    pub(super) compared: u32,
}

impl Agreement {
    /// Whether this is another build: most of its code is not the file's.
    pub(super) fn is_other(self) -> bool {
        self.compared >= ENOUGH && self.same < self.compared.div_ceil(2)
    }
}

impl Samples {
    /// Of a file with contents; none of a file without.
    pub(super) fn of(elf: &KernelElf) -> Self {
        // Whole pages: first address and how many.
        let runs = elf.text().iter().filter_map(|range| {
            let start = range.start.checked_next_multiple_of(PAGE)?;
            let count = range.end.checked_sub(start)? / PAGE;
            (count > 0).then_some((start, count))
        });
        let runs = runs.collect::<Vec<_>>();
        let all = runs
            .iter()
            .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let wanted = all.min(SAMPLES);
        let pages = (0..wanted).filter_map(|i| {
            // Evenly spread: `i` of `wanted` is page `index` of all.
            let mut index = u64::try_from(u128::from(i) * u128::from(all) / u128::from(wanted));
            for (start, count) in &runs {
                let here = index.ok()?;
                if here < *count {
                    return Sample::at(elf, start + here * PAGE);
                }
                index = Ok(here - count);
            }
            None
        });
        Self {
            pages: pages.collect(),
        }
    }

    /// Compares them with memory; `pa` says where an address of the file is.
    pub(super) fn compare(
        &self,
        memory: &Arc<dyn PhysMemory>,
        pa: impl Fn(u64) -> Option<u64>,
    ) -> Agreement {
        let mut agreement = Agreement::default();
        let mut page = vec![0; PAGE as usize];
        for sample in &self.pages {
            let Some(at) = pa(sample.va) else {
                continue;
            };
            if memory.read(PhysAddr(at), &mut page).is_ok() {
                agreement.compared += 1;
                agreement.same += u32::from(sample.is_like(&page));
            }
        }
        agreement
    }

    /// Where an image that is linked to `link` begins, as pages of memory say that are shown one by
    /// one.
    pub(super) fn search(&self, link: u64) -> Search<'_> {
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
    fn at(elf: &KernelElf, va: u64) -> Option<Self> {
        let contents = elf.bytes_at(va, PAGE as usize)?;
        let (first, rest) = contents.bytes.split_first()?;
        // Padding is the same everywhere.
        let says = rest.iter().any(|byte| byte != first);
        (contents.in_file && says).then_some(Self {
            va,
            bytes: contents.bytes,
        })
    }

    /// Whether `page` is this page, but for what is written into code when a kernel starts: two
    /// thirds of its lines are the same. Other code, or this code a few bytes on, has next to none.
    fn is_like(&self, page: &[u8]) -> bool {
        let lines = self.bytes.chunks(LINE);
        let all = lines.len();
        let same = lines.zip(page.chunks(LINE)).filter(|(a, b)| a == b).count();
        page.len() == self.bytes.len() && same * 3 >= all * 2
    }
}

/// A search for code.
pub(super) struct Search<'a> {
    link: u64,
    by_start: HashMap<[u8; 8], Vec<&'a Sample>>,
    /// Physical addresses that the image may begin at, and how many pages say so.
    votes: BTreeMap<u64, u32>,
}

impl Search<'_> {
    /// Looks at the page of 4 KiB at physical address `pa`.
    pub(super) fn look(&mut self, pa: u64, page: &[u8]) {
        let Some(samples) = page
            .first_chunk()
            .and_then(|start| self.by_start.get(start))
        else {
            return;
        };
        for sample in samples.iter().filter(|sample| sample.is_like(page)) {
            let inside = sample.va.checked_sub(self.link);
            let Some(start) = inside.and_then(|inside| pa.checked_sub(inside)) else {
                continue;
            };
            if self.votes.len() < PLACES || self.votes.contains_key(&start) {
                *self.votes.entry(start).or_default() += 1;
            }
        }
    }

    /// Places and their votes, the most first. One page alone may be a copy of the file that the
    /// guest has in memory.
    pub(super) fn places(&self) -> Vec<(u64, u32)> {
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
    fn another_build_is_one_that_most_pages_contradict() {
        let of = |same, compared| Agreement { same, compared }.is_other();
        assert!(!of(0, 0) && !of(0, 3), "too few to tell");
        assert!(of(0, 4) && of(1, 4) && of(31, 64));
        assert!(
            !of(2, 4) && !of(32, 64) && !of(64, 64),
            "patched here and there"
        );
    }

    #[test]
    fn calls_that_a_kernel_mends_when_it_starts_are_no_other_build() {
        let bytes = (0..PAGE).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>();
        let sample = Sample {
            va: 0xffff_ffff_8020_0000,
            bytes: bytes.clone(),
        };
        // A call's displacement in every third line.
        let mut mended = bytes.clone();
        for at in (100..PAGE as usize).step_by(3 * LINE) {
            mended[at..at + 4].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        }
        assert!(sample.is_like(&mended));
        // The same code four bytes on.
        let mut moved = bytes;
        moved.rotate_right(4);
        assert!(!sample.is_like(&moved));
        assert!(!sample.is_like(&[]));
    }

    #[test]
    fn pages_of_code_say_where_the_image_begins() {
        let sample = |va: u64, byte: u8| {
            let mut bytes = vec![byte; PAGE as usize];
            bytes[9] = !byte;
            Sample { va, bytes }
        };
        let samples = Samples {
            pages: vec![sample(0x8010_0000, 1), sample(0x8010_2000, 2)],
        };
        let mut search = samples.search(0x8000_0000);
        // Copies that the guest has of the file, apart from each other.
        search.look(0x7000, &samples.pages[0].bytes);
        search.look(0xc000, &samples.pages[1].bytes);
        assert_eq!(search.places(), []);
        search.look(0x50_3000, &samples.pages[0].bytes);
        search.look(0x50_4000, &[1; PAGE as usize]);
        search.look(0x50_5000, &samples.pages[1].bytes);
        assert_eq!(search.places(), [(0x40_3000, 2)]);
    }
}
