//! Finding pages in a dump: enumeration, rank and select, and the memory of the index.
//!
//! There is no peer: libkvm runs only on FreeBSD.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_minidump::{Dump, MinidumpHeader, OpenOptions};
use livecore_tests::random::Random;

use crate::Failure;
use crate::corpora::Corpus;

/// Lookups of each kind.
const LOOKUPS: u64 = 10_000_000;

/// Whether the corpus is a minidump.
pub(crate) fn has_pages(corpus: &Corpus) -> Result<bool, Failure> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 8];
    let got = File::open(&corpus.payload)?.read_at(&mut head, 0)?;
    Ok(MinidumpHeader::probe(&head[..got]))
}

fn each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e9 / count.max(1) as f64
}

/// Enumerates the pages of the dump `from`, looks up random pages, and prints the times.
pub(crate) fn pages(from: &str) -> Result<(), Failure> {
    let file = File::open(from)?;
    let len = file.metadata()?.len();
    let start = Instant::now();
    let dump = Dump::from_source(Arc::new(file), &OpenOptions::default())?;
    let opened = start.elapsed();

    let start = Instant::now();
    let pages = dump.pages(16)?;
    let inverted = start.elapsed();
    let start = Instant::now();
    let (mut count, mut addresses) = (0_u64, 0_u64);
    for page in pages.iter() {
        count += 1;
        addresses += page.kernel.len() as u64 + u64::from(page.direct.is_some());
    }
    let enumerated = start.elapsed();
    if count != dump.bitmap().count() {
        return Err(format!("{count} pages of {}", dump.bitmap().count()).into());
    }

    let bitmap = dump.bitmap();
    let mut random = Random::new(1);
    let start = Instant::now();
    let mut sum = 0_u64;
    for _ in 0..LOOKUPS {
        let rank = random.below(bitmap.count());
        sum = sum.wrapping_add(bitmap.select(rank).ok_or("a page without a bit")?);
    }
    let select = start.elapsed();
    let start = Instant::now();
    for _ in 0..LOOKUPS {
        sum = sum.wrapping_add(bitmap.rank_below(random.below(bitmap.bits())));
    }
    let rank = start.elapsed();
    let index = bitmap.heap_bytes();
    writeln!(
        std::io::stdout(),
        "open {opened:?}; {count} pages with {addresses} addresses: {inverted:?} to invert the kernel \
         map, {enumerated:?} to enumerate, {:.0} ns per page; rank {:.1} ns, select {:.1} ns; index \
         {index} bytes, {:.4} % of the dump (sum {})",
        each(inverted + enumerated, count),
        each(rank, LOOKUPS),
        each(select, LOOKUPS),
        index as f64 * 100.0 / len as f64,
        sum % 10,
    )?;
    Ok(())
}
