//! The merge of two streams of sections and pages.
//!
//! A batch is [`BATCH`] pages in one allocation. The sender fills it and gives up its ownership; the
//! receiver drops it.

use std::cmp::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use livecore_defs::PhysAddr;

use super::{PageDifference, Pages, SectionDifference};
use crate::intake::{Seen, Tap};

/// Number of pages in a batch.
const BATCH: usize = 64;
/// Maximum number of batches in a channel.
pub(super) const QUEUE_LEN: usize = 4;
/// Number of bytes to report where two pages differ.
const SHOWN: usize = 16;
/// The sections to compare, with their indices. The header is compared by field, and the bitmap by
/// the pages in each dump.
const SECTIONS: [(usize, &str); 3] = [(1, "message buffer"), (2, "dump_avail"), (4, "page tables")];

/// A batch of pages.
#[derive(Default)]
pub(super) struct Batch {
    /// Each page and its end in `bytes`.
    pages: Vec<(Seen, usize)>,
    bytes: Vec<u8>,
}

/// A tap that sends batches.
pub(super) fn tap(channel: SyncSender<Batch>) -> Tap {
    struct BatchSender {
        batch: Batch,
        channel: SyncSender<Batch>,
    }
    impl Drop for BatchSender {
        fn drop(&mut self) {
            // Sending fails if the receiver has stopped.
            let _ = self.channel.send(std::mem::take(&mut self.batch));
        }
    }
    let mut sender = BatchSender {
        batch: Batch::default(),
        channel,
    };
    Box::new(move |seen, bytes| {
        if let Seen::Section(number, _) = seen
            && SECTIONS.iter().all(|(n, _)| *n != number)
        {
            return true;
        }
        let batch = &mut sender.batch;
        if batch.bytes.capacity() == 0 {
            batch.bytes.reserve_exact(BATCH * bytes.len());
            batch.pages.reserve_exact(BATCH);
        }
        batch.bytes.extend_from_slice(bytes);
        batch.pages.push((seen, batch.bytes.len()));
        batch.pages.len() < BATCH || sender.channel.send(std::mem::take(batch)).is_ok()
    })
}

/// The pages of one dump, one at a time.
pub(super) struct PageStream {
    channel: Receiver<Batch>,
    batch: Batch,
    next: usize,
}

impl PageStream {
    pub(super) fn new(channel: Receiver<Batch>) -> Self {
        Self {
            channel,
            batch: Batch::default(),
            next: 0,
        }
    }

    /// The next page; `None` at the end.
    fn peek(&mut self) -> Option<(Seen, &[u8])> {
        while self.next >= self.batch.pages.len() {
            self.batch = self.channel.recv().ok()?;
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

/// The result of the merge.
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
    /// Stores at most `keep` differences of each kind.
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

    /// Compares two streams, both in ascending order.
    pub(super) fn merge(&mut self, mut a: PageStream, mut b: PageStream) {
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

    /// Compares a page of both dumps, or counts a page of one.
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
                pa: PhysAddr(pa),
                offset,
                a,
                b,
                direct: None,
                symbol: None,
            });
        }
    }
}

/// Offset of the first difference, and some bytes of both at it.
fn shown(a: &[u8], b: &[u8]) -> (usize, Vec<u8>, Vec<u8>) {
    let first = a.iter().zip(b).position(|(a, b)| a != b);
    let offset = first.unwrap_or(a.len().min(b.len()));
    let some = |bytes: &[u8]| bytes[offset..bytes.len().min(offset + SHOWN)].to_vec();
    (offset, some(a), some(b))
}
