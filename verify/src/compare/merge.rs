//! Two streams of sections and pages, merged.
//!
//! A batch is [`BATCH`] pages in one piece of memory. The side that fills it gives it away, so
//! nothing is shared; the side that takes it lets it go.

use std::cmp::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use super::{PageDifference, Pages, SectionDifference};
use crate::intake::{Seen, Tap};

/// Pages handed over at a time.
const BATCH: usize = 64;
/// Batches that wait for the other side.
pub(super) const WAITING: usize = 4;
/// Bytes that are shown where two pages begin to differ.
const SHOWN: usize = 16;
/// The sections that are compared, with their numbers. The header is compared field by field, and
/// the bitmap by the pages that are there.
const SECTIONS: [(usize, &str); 3] = [(1, "message buffer"), (2, "dump_avail"), (4, "page tables")];

/// Some pages: where each begins and ends in the bytes.
#[derive(Default)]
pub(super) struct Batch {
    pages: Vec<(Seen, usize)>,
    bytes: Vec<u8>,
}

/// A tap that gives batches.
pub(super) fn tap(give: SyncSender<Batch>) -> Tap {
    struct Giver {
        batch: Batch,
        give: SyncSender<Batch>,
    }
    impl Drop for Giver {
        fn drop(&mut self) {
            // Nobody listens any more if the other side has failed.
            let _ = self.give.send(std::mem::take(&mut self.batch));
        }
    }
    let mut giver = Giver {
        batch: Batch::default(),
        give,
    };
    Box::new(move |seen, bytes| {
        if let Seen::Section(number, _) = seen
            && SECTIONS.iter().all(|(n, _)| *n != number)
        {
            return true;
        }
        let batch = &mut giver.batch;
        if batch.bytes.capacity() == 0 {
            batch.bytes.reserve_exact(BATCH * bytes.len());
            batch.pages.reserve_exact(BATCH);
        }
        batch.bytes.extend_from_slice(bytes);
        batch.pages.push((seen, batch.bytes.len()));
        batch.pages.len() < BATCH || giver.give.send(std::mem::take(batch)).is_ok()
    })
}

/// One side, a page at a time.
pub(super) struct Pulled {
    take: Receiver<Batch>,
    batch: Batch,
    next: usize,
}

impl Pulled {
    pub(super) fn new(take: Receiver<Batch>) -> Self {
        Self {
            take,
            batch: Batch::default(),
            next: 0,
        }
    }

    /// The page that is next, if there is one.
    fn peek(&mut self) -> Option<(Seen, &[u8])> {
        while self.next >= self.batch.pages.len() {
            self.batch = self.take.recv().ok()?;
            self.next = 0;
        }
        let (seen, end) = self.batch.pages[self.next];
        let start = match self.next.checked_sub(1) {
            Some(before) => self.batch.pages[before].1,
            None => 0,
        };
        Some((seen, &self.batch.bytes[start..end]))
    }

    fn step(&mut self) {
        self.next += 1;
    }
}

/// What the merge finds.
pub(super) struct Merged {
    keep: usize,
    pub(super) same: u64,
    pub(super) differ: Pages,
    pub(super) pages: Vec<PageDifference>,
    pub(super) only_a: Pages,
    pub(super) only_b: Pages,
    pub(super) sections: Vec<SectionDifference>,
}

impl Merged {
    /// Keeps at most `keep` of each kind of difference.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            same: 0,
            differ: Pages::default(),
            pages: Vec::new(),
            only_a: Pages::default(),
            only_b: Pages::default(),
            sections: Vec::new(),
        }
    }

    /// Goes through both sides, which ascend.
    pub(super) fn merge(&mut self, mut a: Pulled, mut b: Pulled) {
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((x, _)), Some((y, _))) => x.cmp(&y),
            };
            let one = a.peek().filter(|_| order.is_le());
            let two = b.peek().filter(|_| order.is_ge());
            self.pair(one, two);
            if order.is_le() {
                a.step();
            }
            if order.is_ge() {
                b.step();
            }
        }
    }

    /// Takes what both sides have at one place, or what one of them has.
    fn pair(&mut self, a: Option<(Seen, &[u8])>, b: Option<(Seen, &[u8])>) {
        let Some((seen, _)) = a.or(b) else { return };
        let (one, two) = (a.map(|a| a.1), b.map(|b| b.1));
        if let Seen::Section(number, at) = seen {
            if one != two {
                self.section(number, at, one.unwrap_or_default(), two.unwrap_or_default());
            }
            return;
        }
        let Seen::Page(pa) = seen else { return };
        match (one, two) {
            (Some(a), None) => self.only_a.add(pa, a.len() as u64, self.keep),
            (None, Some(b)) => self.only_b.add(pa, b.len() as u64, self.keep),
            (Some(a), Some(b)) if a == b => self.same += 1,
            (Some(a), Some(b)) => self.page(pa, a, b),
            (None, None) => {}
        }
    }

    fn section(&mut self, number: usize, at: u64, a: &[u8], b: &[u8]) {
        let Some((_, what)) = SECTIONS.iter().find(|(n, _)| *n == number) else {
            return;
        };
        if let Some(known) = self.sections.iter_mut().find(|s| s.what == *what) {
            known.pages += 1;
            return;
        }
        let (offset, a, b) = shown(a, b);
        self.sections.push(SectionDifference {
            what,
            offset: at + offset as u64,
            a,
            b,
            pages: 1,
            meaning: None,
        });
    }

    fn page(&mut self, pa: u64, a: &[u8], b: &[u8]) {
        self.differ.add(pa, a.len() as u64, self.keep);
        if self.pages.len() < self.keep {
            let (offset, a, b) = shown(a, b);
            self.pages.push(PageDifference {
                pa,
                offset,
                a,
                b,
                direct: None,
                symbol: None,
            });
        }
    }
}

/// Where two pieces begin to differ, and some bytes of both from there on.
fn shown(a: &[u8], b: &[u8]) -> (usize, Vec<u8>, Vec<u8>) {
    let first = a.iter().zip(b).position(|(a, b)| a != b);
    let offset = first.unwrap_or(a.len().min(b.len()));
    let some = |bytes: &[u8]| bytes[offset..bytes.len().min(offset + SHOWN)].to_vec();
    (offset, some(a), some(b))
}
