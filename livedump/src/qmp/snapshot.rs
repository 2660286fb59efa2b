//! A consistent copy of a guest's pages with a short pause.
//!
//! Comparing is faster than copying. The pages of a dump are copied to an unlinked file while the
//! guest runs, with a digest of each page. While the guest is paused, all threads compute the
//! digests again and recopy the pages that changed. The file then contains the guest's memory at
//! that moment.
//!
//! The file offset of a page is its physical address (the file is sparse); a second file has eight
//! bytes for each page with its digest. Memory use is one chunk of [`CHUNK`] bytes for each thread.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use livecore_compress::Progress;
use livecore_minidump::Plan;
use xxhash_rust::xxh64::xxh64;

use super::QmpError;
use livecore_minidump::{PhysAddr, PhysMemory};

/// Bytes that a thread processes at once.
const CHUNK: u64 = 1 << 20;
/// The size of a page with a digest. A larger page is several of these.
const PAGE: u64 = 4096;

/// A copy of a dump's pages.
pub struct Snapshot {
    ranges: Vec<Range<PhysAddr>>,
    copy: File,
    digests: File,
    threads: NonZeroUsize,
}

/// The result of the comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Pages that were compared.
    pub compared: u64,
    /// Pages that had changed since they were copied.
    pub changed: u64,
    /// Pages that only the second plan contains.
    pub new: u64,
}

impl Snapshot {
    /// An empty copy of `memory`. Its files are unlinked files in `dir`.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if the temporary files cannot be created.
    pub fn new(
        memory: &dyn PhysMemory,
        dir: impl AsRef<Path>,
        threads: NonZeroUsize,
    ) -> Result<Self, QmpError> {
        let dir = dir.as_ref();
        let file = || tempfile::tempfile_in(dir).map_err(QmpError::io("make a file for the copy"));
        Ok(Self {
            ranges: memory.ranges().to_vec(),
            copy: file()?,
            digests: file()?,
            threads,
        })
    }

    /// Copies the pages of `plan`.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if memory cannot be read or the copy not be written, or if `progress` ends it.
    pub fn copy(
        &self,
        memory: &dyn PhysMemory,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<(), QmpError> {
        self.each(plan, progress, &|at, page_bytes, digests| {
            memory.read(PhysAddr(at), page_bytes)?;
            for (page, digest) in page_bytes.chunks(PAGE as usize).zip(digests.iter_mut()) {
                *digest = xxh64(page, 0);
            }
            self.copy.write_all_at(page_bytes, at)?;
            self.write_digests(at, digests)
        })
    }

    /// Compares the pages of `plan` with the copy, and copies those that changed or that `before`
    /// does not contain. The memory must not change meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshot::copy`].
    pub fn settle(
        &self,
        memory: &dyn PhysMemory,
        before: &Plan,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Changed, QmpError> {
        let (compared, changed, new) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        self.each(plan, progress, &|at, page_bytes, digests| {
            memory.read(PhysAddr(at), page_bytes)?;
            self.read_digests(at, digests)?;
            for (index, page) in page_bytes.chunks(PAGE as usize).enumerate() {
                let at = at + index as u64 * PAGE;
                let known = before
                    .dump_avail()
                    .bit_of(livecore_minidump::PhysAddr(at))
                    .is_some_and(|bit| before.bitmap().contains(bit));
                compared.fetch_add(u64::from(known), Ordering::Relaxed);
                if known && xxh64(page, 0) == digests[index] {
                    continue;
                }
                let count = if known { &changed } else { &new };
                count.fetch_add(1, Ordering::Relaxed);
                self.copy.write_all_at(page, at)?;
            }
            Ok(())
        })?;
        Ok(Changed {
            compared: compared.into_inner(),
            changed: changed.into_inner(),
            new: new.into_inner(),
        })
    }

    /// The copy as memory. Pages that were never copied are zeros.
    pub fn into_memory(self) -> Arc<dyn PhysMemory> {
        Arc::new(Copied {
            file: self.copy,
            ranges: self.ranges,
        })
    }

    /// Writes digests, eight bytes for each page. The file is sparse; a digest that was not written
    /// is not used.
    fn write_digests(&self, at: u64, digests: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = digests.iter().flat_map(|d| d.to_le_bytes()).collect();
        self.digests.write_all_at(&bytes, at / PAGE * 8)
    }

    fn read_digests(&self, at: u64, digests: &mut [u64]) -> io::Result<()> {
        let mut bytes = vec![0; digests.len() * 8];
        let mut done = 0;
        while done < bytes.len() {
            match self
                .digests
                .read_at(&mut bytes[done..], at / PAGE * 8 + done as u64)
            {
                // After the last digest.
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (words, _) = bytes.as_chunks::<8>();
        for (digest, word) in digests.iter_mut().zip(words) {
            *digest = u64::from_le_bytes(*word);
        }
        Ok(())
    }

    /// Runs `work` on all ranges of pages of `plan`, on all threads.
    fn each(&self, plan: &Plan, progress: &dyn Progress, work: &Work<'_>) -> Result<(), QmpError> {
        let runs = Mutex::new(Runs { plan, bit: 0 });
        let failed: Mutex<Option<QmpError>> = Mutex::new(None);
        let lock = |error| *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        let worker = || {
            let mut bytes = vec![0; CHUNK as usize];
            let mut digests = vec![0; (CHUNK / PAGE) as usize];
            loop {
                if progress.cancelled() {
                    return lock(QmpError::Cancelled);
                }
                let next = runs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((at, len)) = next else { return };
                // At most a chunk.
                let (bytes, digests) = (
                    &mut bytes[..len as usize],
                    &mut digests[..(len / PAGE) as usize],
                );
                if let Err(error) = work(at, bytes, digests) {
                    // Make the other threads stop.
                    runs.lock().unwrap_or_else(PoisonError::into_inner).bit = u64::MAX;
                    return lock(QmpError::io("copy the guest's memory")(error));
                }
                progress.advance(len, len);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.get() {
                scope.spawn(worker);
            }
            worker();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Processes the pages at an address, with buffers for their bytes and digests.
type Work<'a> = dyn Fn(u64, &mut [u8], &mut [u64]) -> io::Result<()> + Sync + 'a;

/// Ranges of pages of a plan, at most a chunk each.
struct Runs<'a> {
    plan: &'a Plan,
    bit: u64,
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let bit = self.plan.bitmap().iter_from(self.bit).next()?;
        let page_size = self.plan.header().page_size();
        let (at, left) = self.plan.dump_avail().run_of(bit)?;
        let limit = left.min(CHUNK / page_size);
        let run = self.plan.bitmap().run_at(bit, limit);
        self.bit = run.end;
        Some((at.0, (run.end - bit) * page_size))
    }
}

/// The copy as memory.
struct Copied {
    file: File,
    ranges: Vec<Range<PhysAddr>>,
}

impl PhysMemory for Copied {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        livecore_minidump::check_ranges(&self.ranges, PhysAddr(at), buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => {
                    buf[done..].fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::take::{PlanOptions, plan};
    use livecore_compress::NoProgress;
    use livecore_minidump::KernelElf;
    use livecore_synth::Machine;
    use std::collections::BTreeSet;

    /// Memory with some changed pages.
    struct ChangingMemory {
        memory: Arc<dyn PhysMemory>,
        changed: Mutex<BTreeSet<u64>>,
    }

    impl PhysMemory for ChangingMemory {
        fn ranges(&self) -> &[Range<PhysAddr>] {
            self.memory.ranges()
        }

        fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
            self.memory.read(PhysAddr(at), buf)?;
            let changed = self.changed.lock().unwrap();
            for page in changed.range(at / PAGE * PAGE..at + buf.len() as u64) {
                // The last byte of the page.
                if let Some(byte) = buf.get_mut((page + PAGE - 1).wrapping_sub(at) as usize) {
                    *byte ^= 0x55;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn changed_pages_are_recopied() {
        let machine = "../testdata/machines/tiny.toml";
        let machine = std::fs::read_to_string(machine).unwrap();
        let machine = Machine::parse(&machine).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let restless = Arc::new(ChangingMemory {
            memory: machine.memory(),
            changed: Mutex::default(),
        });
        let before = plan(restless.clone(), &elf, &PlanOptions::default())
            .unwrap()
            .plan;
        let pages: Vec<u64> = Runs {
            plan: &before,
            bit: 0,
        }
        .flat_map(|(at, len)| (at..at + len).step_by(PAGE as usize))
        .collect();
        // The last pages are not page tables.
        let (known, new) = (&pages[..pages.len() - 2], &pages[pages.len() - 2..]);
        let chosen = [
            known[known.len() - 1],
            known[known.len() - 7],
            known[known.len() - 300],
        ];
        let dir = tempfile::tempdir().unwrap();
        for threads in [1, 3] {
            restless.changed.lock().unwrap().clear();
            let threads = NonZeroUsize::new(threads).unwrap();
            let snapshot = Snapshot::new(&*restless, dir.path(), threads).unwrap();
            let mut first = before.bitmap().words().to_vec();
            for page in new {
                let bit = before
                    .dump_avail()
                    .bit_of(livecore_minidump::PhysAddr(*page))
                    .unwrap();
                first[(bit / 64) as usize] &= !(1 << (bit % 64));
            }
            let first =
                livecore_minidump::Bitmap::from_words(first, before.bitmap().bits()).unwrap();
            let first = Plan::new(
                before.header().clone(),
                vec![0; before.header().msgbufsize as usize],
                before.dump_avail().clone(),
                first,
                before.pmap().clone(),
            )
            .unwrap();
            snapshot.copy(&*restless, &first, &NoProgress).unwrap();
            restless.changed.lock().unwrap().extend(chosen);
            let changed = snapshot
                .settle(&*restless, &first, &before, &NoProgress)
                .unwrap();
            let expected = Changed {
                compared: known.len() as u64,
                changed: 3,
                new: 2,
            };
            assert_eq!(changed, expected);
            let copy = snapshot.into_memory();
            let (mut ours, mut theirs) = ([0; PAGE as usize], [0; PAGE as usize]);
            for page in &pages {
                copy.read(PhysAddr(*page), &mut ours).unwrap();
                restless.read(PhysAddr(*page), &mut theirs).unwrap();
                assert!(ours == theirs, "page {page:#x}");
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
