//! The layout of a raw file, found in what it holds.
//!
//! Files of up to 2 GiB have no hole: every PC has its RAM below there in one piece. In larger
//! ones the kernel's page tables tell. FreeBSD's root tables on amd64, those of the kernel and of
//! every process, have an entry (256) that is their own physical address. Such a page at an offset
//! that is another number gives the hole's size away; at the same number, there is no hole.

use minidump::Error;
use minidump::defs::amd64::{NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I};

use super::raw_layout::{FOUR_GIB, RawLayout};
use super::source::{Source, le64};

/// RAM of any PC below its hole, at least.
const LEAST: u64 = 2 << 30;
/// Bytes that are looked through at most.
const LIMIT: u64 = 16 << 30;
/// Tables that must agree before the search ends early.
const ENOUGH: u64 = 8;
/// Holes begin at multiples of this.
const STEP: u64 = 1 << 20;
/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// The layout, and how it was found out (nothing if there is nothing to be said).
pub(super) fn layout(source: &Source) -> Result<(RawLayout, Option<String>), Error> {
    if source.len() <= LEAST {
        return Ok((RawLayout::Flat, None));
    }
    // Votes by bytes below the hole, 4 GiB for none.
    let mut votes: Vec<(u64, u64)> = Vec::new();
    let mut chunk = vec![0; CHUNK as usize];
    let mut at = LEAST;
    let end = source.len().min(LEAST + LIMIT);
    'search: while at < end {
        let n = (end - at).min(CHUNK);
        if !source.known_zero(at, n) {
            let part = &mut chunk[..n as usize];
            source.bytes().read_exact_at(part, at)?;
            for (page, offset) in part
                .chunks_exact(PAGE_SIZE as usize)
                .zip((at..).step_by(4096))
            {
                let Some(below) = table(page, offset) else {
                    continue;
                };
                let count = match votes.iter_mut().find(|vote| vote.0 == below) {
                    Some(vote) => {
                        vote.1 += 1;
                        vote.1
                    }
                    None => {
                        votes.push((below, 1));
                        1
                    }
                };
                if count >= ENOUGH {
                    break 'search;
                }
            }
        }
        at += n;
    }
    let best = votes.iter().max_by_key(|vote| vote.1);
    Ok(match best {
        Some((below, count)) if *below < FOUR_GIB => (
            RawLayout::Hole { below: *below },
            Some(format!(
                "{count} page tables say that a hole begins at {below:#x}: --layout pc:{below:#x}"
            )),
        ),
        Some(_) => (RawLayout::Flat, None),
        None => (
            RawLayout::Flat,
            Some(
                "no page table tells whether there is a hole below 4 GiB; taken as flat, \
                 --layout says otherwise"
                    .into(),
            ),
        ),
    })
}

/// If this page, which is at `offset` of the file, is a root table: how many bytes are below the
/// hole that moves it to where it says it is.
fn table(page: &[u8], offset: u64) -> Option<u64> {
    let entry = |index: u64| le64(page, index as usize * 8);
    let (own, kernel) = (entry(PML4PML4I), entry(NPTEPG - 1));
    if own & PG_V == 0 || kernel & PG_V == 0 {
        return None;
    }
    let hole = (own & PG_FRAME).checked_sub(offset)?;
    let below = FOUR_GIB.checked_sub(hole)?;
    (below >= LEAST && (hole == 0 || offset >= below) && below.is_multiple_of(STEP))
        .then_some(below)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::super::Options;
    use super::*;

    fn file(len: u64, tables: &[(u64, u64)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        let mut file = std::fs::File::create(&path).unwrap();
        file.set_len(len).unwrap();
        for (offset, pa) in tables {
            for (index, entry) in [(256, pa | 0x63), (511, 0x20_3063)] {
                file.seek(SeekFrom::Start(offset + index * 8)).unwrap();
                file.write_all(&entry.to_le_bytes()).unwrap();
            }
        }
        (dir, path)
    }

    fn found(len: u64, tables: &[(u64, u64)]) -> RawLayout {
        let (_dir, path) = file(len, tables);
        let source = Source::open(&path, &Options::default()).unwrap();
        layout(&source).unwrap().0
    }

    #[test]
    fn root_tables_tell_where_the_hole_is() {
        const GIB: u64 = 1 << 30;
        let high = 3 * GIB + 0x5000;
        assert_eq!(
            found(
                5 * GIB,
                &[(high, high + GIB), (high + 4096, high + 4096 + GIB)]
            ),
            RawLayout::Hole { below: 3 * GIB }
        );
        assert_eq!(found(5 * GIB, &[(high, high)]), RawLayout::Flat);
        // One page that looks like a table does not outvote two.
        assert_eq!(
            found(
                5 * GIB,
                &[
                    (high, high + 2 * GIB),
                    (high + 4096, high + 4096 + 2 * GIB),
                    (high + 8192, high + 8192),
                ]
            ),
            RawLayout::Hole { below: 2 * GIB }
        );
        assert_eq!(found(5 * GIB, &[]), RawLayout::Flat);
        assert_eq!(found(2 * GIB, &[]), RawLayout::Flat);
    }
}
