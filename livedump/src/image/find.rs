//! The layout of a raw file, found in what it holds.
//!
//! Files of up to 2 GiB have no hole: every PC has its RAM below there in one piece. In larger
//! ones the kernel's page tables tell. FreeBSD's root tables on amd64, those of the kernel and of
//! every process, have an entry (256) that is their own physical address. Such a page at an offset
//! that is another number gives the hole's size away. One at the same number says that no hole begins
//! below it, no more: where the file is longer than 4 GiB, tables below the hole are like that too. i386
//! with PAE has four page directories that one of them points at, itself included (its entry 510); that
//! is less of a mark, so several have to agree.
//!
//! It is a guess: a kernel that has never needed memory above 2 GiB has no table there. Who has the
//! kernel's file asks the kernel itself (`take::settle`).

use livecore_defs::amd64::{NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I};
use livecore_minidump::Error;

use super::raw_layout::{FOUR_GIB, RawLayout};
use super::source::{Source, le64};

/// RAM of any PC below its hole, at least.
pub(super) const LEAST: u64 = 2 << 30;
/// Bytes that are looked through at most.
const LIMIT: u64 = 16 << 30;
/// Tables that must agree before the search ends early.
const ENOUGH: u64 = 4;
/// Page directories of i386 that must agree to be believed.
const ENOUGH_PAE: u64 = 3;
/// How many that know of no hole are remembered.
const KEPT: usize = 1024;
/// A page directory's entry that is its own address: the third of `PTDPTDI`'s four in 10.4, the last in
/// 12.1.
const PTDPTDI: u64 = 510;
/// Holes begin at multiples of this.
const STEP: u64 = 1 << 20;
/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// What was found.
pub(super) struct Found {
    pub(super) layout: RawLayout,
    /// How many tables tell of the layout's hole; 0 if it has none.
    pub(super) votes: u64,
    /// How it was found out; nothing if there is nothing to be said.
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

/// The layout.
pub(super) fn layout(source: &Source) -> Result<Found, Error> {
    if source.len() <= LEAST {
        return Ok(Found::flat(None));
    }
    // Votes by bytes below the hole, 4 GiB for none.
    let mut votes = Votes::default();
    let mut votes_pae = Votes::default();
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
                "{count} page tables say that a hole begins at {below:#x}: --layout pc:{below:#x}"
            )),
        },
        Some(_) => Found::flat(None),
        None => Found::flat(Some(
            "no page table tells whether there is a hole below 4 GiB; taken as flat, --layout says \
             otherwise"
                .into(),
        )),
    })
}

/// What tables say, and how many say it.
#[derive(Default)]
struct Votes {
    /// Bytes below the hole, and how many say so.
    holes: Vec<(u64, u64)>,
    /// Offsets of those that know of no hole.
    flat: Vec<u64>,
}

impl Votes {
    /// Adds what the table at `offset` says, and says how many do now: none if it says nothing yet.
    fn add(&mut self, below: u64, offset: u64) -> u64 {
        if below == FOUR_GIB {
            if self.flat.len() < KEPT {
                self.flat.push(offset);
            }
            // No hole begins above 4 GiB.
            return self.flat.iter().filter(|at| **at >= FOUR_GIB).count() as u64;
        }
        match self.holes.iter_mut().find(|vote| vote.0 == below) {
            Some(vote) => {
                vote.1 += 1;
                vote.1
            }
            None => {
                // Multiples of `STEP` between `LEAST` and 4 GiB: there are 2,048 of them.
                self.holes.push((below, 1));
                1
            }
        }
    }

    /// The hole that most tell of, if fewer deny it; 4 GiB if there is none.
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

/// If this page, which is at `offset` of the file, is a root table: how many bytes are below the
/// hole that moves it to where it says it is.
fn table(page: &[u8], offset: u64) -> Option<u64> {
    let entry = |index: u64| le64(page, index as usize * 8);
    let (own, kernel) = (entry(PML4PML4I), entry(NPTEPG - 1));
    if own & PG_V == 0 || kernel & PG_V == 0 {
        return None;
    }
    below(own, offset)
}

/// The same of the page directory of i386 with PAE that has all four.
fn directory(page: &[u8], offset: u64) -> Option<u64> {
    let entry = |index: u64| le64(page, index as usize * 8);
    let others = [PTDPTDI - 2, PTDPTDI - 1, PTDPTDI + 1];
    let all = others.iter().all(|index| entry(*index) & PG_V != 0);
    // Physical addresses have 36 bits.
    let own = entry(PTDPTDI);
    (all && own & PG_V != 0 && own >> 36 == 0).then(|| below(own, offset))?
}

/// How many bytes are below the hole that moves the page at `offset` to where its own entry says.
fn below(own: u64, offset: u64) -> Option<u64> {
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
        layout(&source).unwrap().layout
    }

    #[test]
    fn page_directories_of_i386_tell_it_when_several_agree() {
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
        // Tables below the hole know nothing of it, however many they are.
        let mut many = (0..20)
            .map(|i| (2 * GIB + 0x3000 * i, 2 * GIB + 0x3000 * i))
            .collect::<Vec<_>>();
        assert_eq!(found(5 * GIB, &many), RawLayout::Flat);
        many.push((high, high + GIB));
        assert_eq!(found(5 * GIB, &many), RawLayout::Hole { below: 3 * GIB });
        // One above 4 GiB knows.
        let top = 4 * GIB + 0x6000;
        many.push((top, top));
        assert_eq!(found(5 * GIB, &many), RawLayout::Flat);
        assert_eq!(found(5 * GIB, &[]), RawLayout::Flat);
        assert_eq!(found(2 * GIB, &[]), RawLayout::Flat);
    }
}
