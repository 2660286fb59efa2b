//! Pages other than the kernel's own structures: heaps, caches, devices, user memory.

use std::ops::Range;

use super::architecture::Architecture;
use super::builder::Builder;
use super::content::{Kind, PAGE};
use super::description::{Giant, Mix};
use super::error::Error;
use super::rng::Rng;
use super::store::Source;
use super::truth::Prot;

/// Longest run of pages of one kind.
const RUN: u64 = 32;
fn kind(mix: &Mix, rng: &mut Rng) -> Kind {
    let shares = [
        (mix.zero, Kind::Zero),
        (mix.code, Kind::Code),
        (mix.heap, Kind::Heap),
        (mix.text, Kind::Text),
        (mix.noise, Kind::Noise),
    ];
    let sum = shares.iter().map(|(share, _)| u64::from(*share)).sum();
    let mut at = rng.below(sum);
    for (share, kind) in shares {
        match at.checked_sub(u64::from(share)) {
            None => return kind,
            Some(rest) => at = rest,
        }
    }
    Kind::Zero
}

impl Builder<'_> {
    /// Fills physical pages with one kind.
    fn fill(&mut self, range: &Range<u64>, kind: Kind) {
        let page = PAGE as u64;
        self.store
            .add_run(range.start / page..range.end / page, Source::Kind(kind));
    }

    /// Fills a contiguous range with runs of all kinds.
    fn fill_mixed(&mut self, range: &Range<u64>, rng: &mut Rng) {
        let page = self.space.page_size;
        let mut at = range.start;
        while at < range.end {
            let end = (at + (1 + rng.below(RUN)) * page).min(range.end);
            let kind = kind(&self.description.content.mix, rng);
            self.fill(&(at..end), kind);
            at = end;
        }
    }

    /// Allocates runs of pages up to `len` bytes and calls `each` for each run.
    fn runs(
        &mut self,
        what: &'static str,
        len: u64,
        rng: &mut Rng,
        mut each: impl FnMut(&mut Self, Range<u64>, &mut Rng) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let page = self.space.page_size;
        let mut left = len / page;
        while left > 0 {
            let want = (1 + rng.below(RUN)).min(left);
            let run = self.frames.run(what, want, page)?;
            left -= (run.end - run.start) / page;
            let kind = kind(&self.description.content.mix, rng);
            self.fill(&run, kind);
            each(self, run, rng)?;
        }
        Ok(())
    }

    /// Maps a run at the next kernel addresses.
    fn map_run(&mut self, run: &Range<u64>) -> Result<(), Error> {
        let len = run.end - run.start;
        let (bottom, va) = (self.bottom(), self.kva);
        self.map(bottom, va, run.start, len, Prot::RW)?;
        self.kva = va + len;
        Ok(())
    }
}

/// Bytes of frames that [`build`] takes in runs.
pub(crate) fn demand(b: &Builder<'_>) -> u64 {
    let content = &b.description.content;
    let data =
        content.kernel.0 + content.direct.0 + content.nodump.0 + content.free.0 + content.user.0;
    let threads: u64 = b
        .description
        .process
        .iter()
        .map(|p| p.thread.len().max(1) as u64)
        .sum();
    let users = b.description.process.iter().filter(|p| p.user).count() as u64;
    // Tables, and a stack and a structure for each thread.
    users * super::users::DEMAND * b.space.page_size
        + data
        + data / 256
        + threads * 8 * b.space.page_size
        + (1 << 20)
}

/// Fills a PC's low memory as the boot leaves it.
pub(crate) fn low_memory(b: &mut Builder<'_>) {
    if !matches!(
        b.description.architecture,
        Architecture::Amd64 | Architecture::I386
    ) {
        return;
    }
    let mut rng = Rng::new(b.description.seed, "low memory");
    b.fill(&(0x1000..0x8000), Kind::Heap);
    b.fill(&(0x8000..0x9000), Kind::Code);
    b.fill(&(0x90000..0x9c000), Kind::Text);
    let load = b.description.load().0;
    let end = load.min(2 << 20);
    b.fill_mixed(&(0x103000..end), &mut rng);
}

/// Makes large leaves. They need aligned blocks, so this runs before the memory is scattered.
pub(crate) fn large(b: &mut Builder<'_>) -> Result<(), Error> {
    let len = b.description.content.large.0;
    // Descriptions that ask for an unsupported leaf are rejected earlier.
    let Some(level) = b.processor.large() else {
        return Ok(());
    };
    let leaf = 1u64 << b.processor.format().shifts()[level];
    let mut rng = Rng::new(b.description.seed, "large");
    for _ in 0..len / leaf {
        let pa = b.frames.block("content.large", leaf, leaf)?;
        let va = b.kva.next_multiple_of(leaf);
        b.map(level, va, pa, leaf, Prot::RW)?;
        b.kva = va + leaf;
        b.fill_mixed(&(pa..pa + leaf), &mut rng);
    }
    Ok(())
}

/// Makes all other pages.
pub(crate) fn build(b: &mut Builder<'_>) -> Result<(), Error> {
    let content = b.description.content.clone();
    let page = b.space.page_size;
    let mut rng = Rng::new(b.description.seed, "regions");

    b.runs(
        "content.kernel",
        content.kernel.0,
        &mut rng,
        |b, run, rng| {
            b.map_run(&run)?;
            // Kernel allocations are separated by guard pages and holes.
            if rng.below(12) == 0 {
                b.kva += (1 + rng.below(4)) * page;
            }
            Ok(())
        },
    )?;
    b.kva += page;
    b.runs("content.direct", content.direct.0, &mut rng, |b, run, _| {
        b.bits.push(run);
        Ok(())
    })?;
    let mut mapped = true;
    b.runs("content.nodump", content.nodump.0, &mut rng, |b, run, _| {
        b.nodump.push(run.clone());
        if mapped {
            b.map_run(&run)?;
        } else {
            b.bits.push(run);
        }
        mapped = !mapped;
        Ok(())
    })?;
    b.runs("content.free", content.free.0, &mut rng, |b, run, _| {
        b.free.push(run.clone());
        b.bits.push(run);
        Ok(())
    })?;
    b.runs("content.user", content.user.0, &mut rng, |_, _, _| Ok(()))?;

    b.kva += page;
    for (pa, pages) in b.processor.devices(&b.space) {
        let (bottom, va) = (b.bottom(), b.kva);
        b.map(bottom, va, pa, pages * page, Prot::RW)?;
        b.kva = va + (pages + 1) * page;
    }
    if let Some(giant) = content.giant {
        let level = b.bottom() - 2;
        let leaf = 1u64 << b.processor.format().shifts()[level];
        let va = b.kva.next_multiple_of(leaf);
        let pa = match giant {
            Giant::Ram => 0,
            Giant::Device => 3 << 30,
        };
        b.map(level, va, pa, leaf, Prot::RW)?;
        b.kva = va + leaf;
    }
    Ok(())
}
