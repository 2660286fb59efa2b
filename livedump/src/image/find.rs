//! Finds the layout of a raw image from its contents.
//!
//! A file of up to 2 GiB has no hole, since every PC has contiguous RAM below 2 GiB. In a
//! larger file the kernel's page tables show the layout. On amd64, entry 256 of the root tables of
//! FreeBSD's kernel and processes is the table's own physical address. If such a table is at a
//! different file offset, the difference gives the size of the hole. If it is at an equal file
//! offset, the hole does not begin below it; this proves nothing in a file longer than 4 GiB, where
//! tables below the hole are also at equal offsets. i386 with PAE has four page directories, one of
//! which contains the addresses of all four (itself in entry 510). This is a weaker pattern, so
//! several directories must agree.
//!
//! The result is a guess: a kernel that has never used memory above 2 GiB has no table there. With
//! the kernel file, `take::settle` finds the layout from the kernel itself.

use livecore_defs::amd64::{NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I};
use livecore_minidump::Error;

use super::raw_layout::{FOUR_GIB, RawLayout};
use super::source::{Source, le64};

/// The least RAM below the hole of any PC.
pub(super) const MIN_BELOW: u64 = 2 << 30;
/// The most bytes that are searched.
const LIMIT: u64 = 16 << 30;
/// The search ends early when so many tables agree.
const ENOUGH: u64 = 4;
/// The result for i386 needs so many page directories that agree.
const ENOUGH_PAE: u64 = 3;
/// The most offsets without a hole that are recorded.
const KEPT: usize = 1024;
/// The entry of a page directory that is its own address: the third of `PTDPTDI`'s four in 10.4,
/// the last in 12.1.
const PTDPTDI: u64 = 510;
/// Holes begin at multiples of this.
const STEP: u64 = 1 << 20;
/// Bytes for one read.
const CHUNK: u64 = 1 << 20;

/// The result of the search.
pub(super) struct Found {
    pub(super) layout: RawLayout,
    /// The number of tables that show the layout's hole; 0 if it has none.
    pub(super) votes: u64,
    /// A message about how the layout was found, if there is one.
    pub(super) note: Option<String>,
}

impl Found {
    fn flat(note: Option<String>) -> Self {
        Self {
            layout: RawLayout::Flat,
            votes: 0,
            note,
        }
    }
}

/// Finds the layout.
pub(super) fn layout(source: &Source) -> Result<Found, Error> {
    if source.len() <= MIN_BELOW {
        return Ok(Found::flat(None));
    }
    // Votes by bytes below the hole; 4 GiB means no hole.
    let mut votes = Votes::default();
    let mut votes_pae = Votes::default();
    let mut chunk = vec![0; CHUNK as usize];
    let mut at = MIN_BELOW;
    let end = source.len().min(MIN_BELOW + LIMIT);
    'search: while at < end {
        let n = (end - at).min(CHUNK);
        if !source.known_zero(at, n) {
            let part = &mut chunk[..n as usize];
            source.bytes().read_exact_at(part, at)?;
            for (page, offset) in part
                .chunks_exact(PAGE_SIZE as usize)
                .zip((at..).step_by(4096))
            {
                if let Some(below) = directory(page, offset) {
                    votes_pae.add(below, offset);
                }
                if let Some(below) = table(page, offset)
                    && votes.add(below, offset) >= ENOUGH
                {
                    break 'search;
                }
            }
        }
        at += n;
    }
    let pae = || votes_pae.best().filter(|(_, count)| *count >= ENOUGH_PAE);
    Ok(match votes.best().or_else(pae) {
        Some((below, count)) if below < FOUR_GIB => Found {
            layout: RawLayout::Hole { below },
            votes: count,
            note: Some(format!(
                "{count} page tables show that a hole begins at {below:#x}; using --layout pc:{below:#x}"
            )),
        },
        Some(_) => Found::flat(None),
        None => Found::flat(Some(
            "no page table shows whether there is a hole below 4 GiB: assuming a flat layout; use --layout \
             to change it"
                .into(),
        )),
    })
}

/// The layouts that tables show, with the number of tables.
#[derive(Default)]
struct Votes {
    /// Bytes below the hole, and the number of tables.
    holes: Vec<(u64, u64)>,
    /// Offsets of tables that show no hole.
    flat: Vec<u64>,
}

impl Votes {
    /// Adds the layout that the table at `offset` shows. Returns the number of tables that now
    /// agree, 0 if none counts yet.
    fn add(&mut self, below: u64, offset: u64) -> u64 {
        if below == FOUR_GIB {
            if self.flat.len() < KEPT {
                self.flat.push(offset);
            }
            // A hole begins below 4 GiB.
            return self.flat.iter().filter(|at| **at >= FOUR_GIB).count() as u64;
        }
        match self.holes.iter_mut().find(|vote| vote.0 == below) {
            Some(vote) => {
                vote.1 += 1;
                vote.1
            }
            None => {
                // Multiples of `STEP` between `MIN_BELOW` and 4 GiB: there are 2,048 of them.
                self.holes.push((below, 1));
                1
            }
        }
    }

    /// The hole that most tables show, if fewer contradict it; 4 GiB for no hole.
    fn best(&self) -> Option<(u64, u64)> {
        let hole = self.holes.iter().copied().max_by_key(|vote| vote.1);
        let hole = hole.filter(|(below, count)| {
            let deny = self.flat.iter().filter(|at| *at >= below).count();
            *count > deny as u64
        });
        let flat = (FOUR_GIB, self.flat.len() as u64);
        hole.or_else(|| (flat.1 > 0).then_some(flat))
    }
}

/// If this page, at `offset` of the file, is a root table: the bytes below the hole that moves it
/// to the address in its entry.
fn table(page: &[u8], offset: u64) -> Option<u64> {
    let entry = |index: u64| le64(page, index as usize * 8);
    let (own, kernel) = (entry(PML4PML4I), entry(NPTEPG - 1));
    if own & PG_V == 0 || kernel & PG_V == 0 {
        return None;
    }
    below(own, offset)
}

/// The same for the page directory of i386 with PAE that contains all four addresses.
fn directory(page: &[u8], offset: u64) -> Option<u64> {
    let entry = |index: u64| le64(page, index as usize * 8);
    let others = [PTDPTDI - 2, PTDPTDI - 1, PTDPTDI + 1];
    let all = others.iter().all(|index| entry(*index) & PG_V != 0);
    // Physical addresses have 36 bits.
    let own = entry(PTDPTDI);
    (all && own & PG_V != 0 && own >> 36 == 0).then(|| below(own, offset))?
}

/// The bytes below the hole that moves the page at `offset` to the address `own`.
fn below(own: u64, offset: u64) -> Option<u64> {
    let hole = (own & PG_FRAME).checked_sub(offset)?;
    let below = FOUR_GIB.checked_sub(hole)?;
    (below >= MIN_BELOW && (hole == 0 || offset >= below) && below.is_multiple_of(STEP))
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
        layout(&source).unwrap().layout
    }

    #[test]
    fn several_i386_page_directories_show_the_hole() {
        const GIB: u64 = 1 << 30;
        let found = |count: u64| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ram");
            let mut file = std::fs::File::create(&path).unwrap();
            file.set_len(5 * GIB).unwrap();
            for at in (0..count).map(|i| 3 * GIB + 0x7000 * (i + 1)) {
                let pa = at + GIB;
                file.seek(SeekFrom::Start(at + 508 * 8)).unwrap();
                for entry in [0x1063, 0x2063, pa | 0x63, 0x4063] {
                    file.write_all(&u64::to_le_bytes(entry)).unwrap();
                }
            }
            let source = Source::open(&path, &Options::default()).unwrap();
            layout(&source).unwrap().layout
        };
        assert_eq!(found(2), RawLayout::Flat);
        assert_eq!(found(3), RawLayout::Hole { below: 3 * GIB });
    }

    #[test]
    fn root_tables_show_the_hole() {
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
        // Tables below the hole do not show it, however many they are.
        let mut many = (0..20)
            .map(|i| (2 * GIB + 0x3000 * i, 2 * GIB + 0x3000 * i))
            .collect::<Vec<_>>();
        assert_eq!(found(5 * GIB, &many), RawLayout::Flat);
        many.push((high, high + GIB));
        assert_eq!(found(5 * GIB, &many), RawLayout::Hole { below: 3 * GIB });
        // A table above 4 GiB does.
        let top = 4 * GIB + 0x6000;
        many.push((top, top));
        assert_eq!(found(5 * GIB, &many), RawLayout::Flat);
        assert_eq!(found(5 * GIB, &[]), RawLayout::Flat);
        assert_eq!(found(2 * GIB, &[]), RawLayout::Flat);
    }
}
