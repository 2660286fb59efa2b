//! Counts and rereads memory that changes while it is dumped.
//!
//! A dump of a running machine is read over seconds, each page at another time. [`Watch`] makes it
//! as close to a consistent snapshot as possible without stopping the machine, and reports how
//! close it is:
//! ```text
//!  start ── pass 0: a digest of every page
//!        ── round 1: reads every page again, and keeps a copy of those that changed
//!        ── …
//!        ── round N, or the first in which nothing changed      ◄── its start is the dump's time
//!        ── the dump is written: copies of kept pages, the others read once more
//!  end   ── the last page was read
//! ```
//!
//! A page that did not change in the last round had these bytes at the start of that round. It is
//! *torn* if it changed in the last round, or after it without a kept copy. Without torn pages the
//! dump is a consistent snapshot; a page that changed and changed back between two reads is not
//! detected.
//!
//! Several threads read. They take blocks of `BLOCK` pages of the dump, in order, from one counter,
//! and own the digests of their block. They share only a map of kept pages. The first error ends
//! the round for all.
//!
//! Memory: 8 bytes and 1 bit for each page of the dump, [`KEPT_LIMIT`] for kept pages, a block for
//! each thread.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use livecore_compress::Progress;
use livecore_minidump::provenance::Torn;
use livecore_minidump::{Bitmap, PhysAddr, PhysMemory, Plan};
use xxhash_rust::xxh64::xxh64;

/// Pages that a thread reads at once.
const BLOCK: u64 = 256;
/// Bytes of kept pages. Further pages are read when they are written, and counted as torn if they
/// changed again.
pub(crate) const KEPT_LIMIT: usize = 64 << 20;

/// Watched memory of a dump.
pub(crate) struct Watch {
    memory: Arc<dyn PhysMemory>,
    plan: Plan,
    page: u64,
    /// The digest of each page of the dump, by rank.
    digests: Vec<AtomicU64>,
    /// One bit for each page of the dump, by rank: torn.
    torn: Vec<AtomicU64>,
    kept: BTreeMap<u64, Box<[u8]>>,
    again: u64,
    rounds: u32,
    start: u64,
    /// The time of the last read.
    end: AtomicU64,
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// The words of a bit set for `count` pages.
fn bit_set(count: u64) -> Vec<AtomicU64> {
    (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()
}

impl Watch {
    /// Reads every page of `plan`, then again up to `rounds` times until none changes.
    ///
    /// `progress` gets the bytes read and may cancel, which is an [`io::ErrorKind::Interrupted`]
    /// error.
    ///
    /// # Errors
    ///
    /// The error of the memory, or [`io::ErrorKind::Interrupted`] if `progress` ends it.
    pub(crate) fn new(
        memory: Arc<dyn PhysMemory>,
        plan: &Plan,
        rounds: u32,
        progress: &dyn Progress,
    ) -> io::Result<Self> {
        let count = plan.bitmap().count();
        let mut watch = Self {
            memory,
            page: plan.layout().page_size(),
            plan: plan.clone(),
            digests: (0..count).map(|_| AtomicU64::new(0)).collect(),
            torn: bit_set(count),
            kept: BTreeMap::new(),
            again: 0,
            rounds: 0,
            start: now(),
            end: AtomicU64::new(0),
        };
        watch.pass(None, progress)?;
        let mut again = bit_set(count);
        for round in 1..=rounds {
            let changed = Changed {
                bits: bit_set(count),
                kept: Mutex::new(std::mem::take(&mut watch.kept)),
            };
            watch.pass(Some(&changed), progress)?;
            watch.rounds = round;
            // A panic of a thread would have ended the round.
            watch.kept = changed
                .kept
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            for (all, here) in again.iter_mut().zip(&changed.bits) {
                *all.get_mut() |= here.load(Ordering::Relaxed);
            }
            watch.torn = changed.bits;
            if watch.torn_now() == 0 {
                break;
            }
        }
        watch.again = ones(&again);
        watch.end.store(now(), Ordering::Relaxed);
        Ok(watch)
    }

    fn bitmap(&self) -> &Bitmap {
        self.plan.bitmap()
    }

    /// Reads every page. The first time it stores the digests; later it records pages whose digest
    /// has changed.
    fn pass(&self, changed: Option<&Changed>, progress: &dyn Progress) -> io::Result<()> {
        let blocks = self.bitmap().count().div_ceil(BLOCK);
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = (threads as u64).min(blocks).max(1);
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let work = || -> io::Result<()> {
            let mut buf = vec![0; (BLOCK * self.page) as usize];
            while !stop.load(Ordering::Relaxed) {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= blocks {
                    break;
                }
                let done = if progress.cancelled() {
                    Err(io::ErrorKind::Interrupted.into())
                } else {
                    self.block(block * BLOCK, changed, &mut buf)
                };
                match done {
                    Ok(bytes) => progress.advance(bytes, 0),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers = (1..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
            let mut result = work();
            for worker in workers {
                let joined = worker.join();
                let joined =
                    joined.unwrap_or_else(|_| Err(io::Error::other("a reading thread panicked")));
                if result.is_ok() {
                    result = joined;
                }
            }
            result
        })
    }

    /// Reads a block of pages from rank `first` on, and returns the number of bytes.
    fn block(&self, first: u64, changed: Option<&Changed>, buf: &mut [u8]) -> io::Result<u64> {
        let (bitmap, ranges) = (self.bitmap(), self.plan.dump_avail());
        let mut rank = first;
        let end = (first + BLOCK).min(bitmap.count());
        while rank < end {
            // Every rank below the count has a bit, and every bit an address.
            let location = bitmap.select(rank).and_then(|bit| {
                let (at, run) = ranges.run_of(bit)?;
                let bits = bitmap.run_at(bit, run.min(end - rank));
                Some((at, bits.end - bits.start))
            });
            let Some((at, pages)) = location.filter(|(_, pages)| *pages > 0) else {
                return Err(io::Error::other("a page of the plan has no address"));
            };
            let bytes = &mut buf[..(pages * self.page) as usize];
            self.memory.read(at, bytes)?;
            for (page, i) in bytes.chunks_exact(self.page as usize).zip(0..) {
                let digest = xxh64(page, 0);
                let slot = &self.digests[(rank + i) as usize];
                let before = slot.swap(digest, Ordering::Relaxed);
                if let Some(changed) = changed
                    && before != digest
                {
                    changed.add(rank + i, at.0 + i * self.page, page);
                }
            }
            rank += pages;
        }
        Ok((end - first) * self.page)
    }

    fn torn_now(&self) -> u64 {
        ones(&self.torn)
    }

    /// The result, which is complete when the dump has been written.
    pub(crate) fn report(&self) -> Torn {
        Torn {
            pages: self.bitmap().count(),
            torn: self.torn_now(),
            again: self.again,
            rounds: self.rounds,
            start: self.start,
            end: self.end.load(Ordering::Relaxed),
        }
    }
}

fn ones(bits: &[AtomicU64]) -> u64 {
    let count = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
    bits.iter().map(count).sum()
}

fn set(bits: &[AtomicU64], rank: u64) {
    bits[(rank / 64) as usize].fetch_or(1 << (rank % 64), Ordering::Relaxed);
}

/// The changed pages of a round.
struct Changed {
    bits: Vec<AtomicU64>,
    kept: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Changed {
    fn add(&self, rank: u64, at: u64, page: &[u8]) {
        set(&self.bits, rank);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.contains_key(&at) || kept.len() * page.len() < KEPT_LIMIT {
            kept.insert(at, page.into());
        }
    }
}

impl PhysMemory for Watch {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.memory.ranges()
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.memory.read(at, buf)?;
        for (page, i) in buf.chunks_exact_mut(self.page as usize).zip(0..) {
            let here = at.0 + i * self.page;
            if let Some(kept) = self.kept.get(&here) {
                page.copy_from_slice(kept);
                continue;
            }
            let bit = self.plan.dump_avail().bit_of(PhysAddr(here));
            if let Some(rank) = bit.and_then(|bit| self.bitmap().rank(bit))
                && self.digests[rank as usize].load(Ordering::Relaxed) != xxh64(page, 0)
            {
                set(&self.torn, rank);
            }
        }
        self.end.fetch_max(now(), Ordering::Relaxed);
        Ok(())
    }
    // Do not report known zeros: only a read detects a change.
}
