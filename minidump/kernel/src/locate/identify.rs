//! What memory says of itself when nobody has the kernel's file: which release runs, and where its
//! page tables begin.
//!
//! A kernel's `version` is in its data, and once more wherever it was printed: `FreeBSD `, a number,
//! and a line's end. An amd64 kernel's PML4s point at themselves from entry 256 (FreeBSD
//! `sys/amd64/include/pmap.h`, `PML4PML4I`), and no other page does; of them `kernel_pmap`'s is the
//! one that has no user's half. It maps the kernel's image, so it also tells where that lies. An i386
//! kernel's page directories point at themselves too (`PTDPTDI`), in 10.4 and 12.1 from other
//! entries.

use std::sync::Arc;

use livecore_defs::amd64::{KERNSTART, NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I, PTE_SIZE};
use livecore_defs::i386;
use livecore_minidump::mmu::{MachineView, Paging, Root};
use livecore_minidump::{KernelMemory, PhysAddr, PhysMemory, VirtAddr};

/// Bytes that are looked at together.
const PIECE: usize = 1 << 20;
/// What every version string begins with.
const START: &[u8; 8] = b"FreeBSD ";
/// A version string is shorter.
const LONGEST: usize = 256;
/// How many different strings are told.
const STRINGS: usize = 8;

/// A version string in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionString {
    /// Its first line.
    pub text: String,
    /// Physical address of its first occurrence.
    pub at: u64,
    /// How often it is there.
    pub count: u32,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Version strings, the most frequent first.
    pub versions: Vec<VersionString>,
    /// Physical addresses of amd64's root tables without a user's half: `KPML4phys` is one.
    pub kernel_roots: Vec<u64>,
    /// How many root tables of amd64 there are in all: one for each process.
    pub roots: u64,
    /// Physical address of the kernel's image, by the first of `kernel_roots`.
    pub kernphys: Option<u64>,
    /// Page directories of i386 without PAE: of the kernel and of each process.
    pub directories: Directories,
    /// The last ones of four page directories of i386 with PAE.
    pub directories_pae: Directories,
}

/// Page directories that point at themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directories {
    /// How many.
    pub count: u64,
    /// Physical address of the first, 0 if there is none.
    pub first: u64,
}

impl Directories {
    fn add(&mut self, pa: u64) {
        if self.count == 0 {
            self.first = pa;
        }
        self.count += 1;
    }
}

impl Findings {
    /// In sentences, for people.
    pub fn sentences(&self) -> Vec<String> {
        let mut text = Vec::new();
        match self.versions.as_slice() {
            [] => text.push("no version string of FreeBSD is in the memory".into()),
            all => text.extend(all.iter().take(3).map(|version| {
                let VersionString { text, at, count } = version;
                format!("the memory has {text:?} {count} times, first at {at:#x}")
            })),
        }
        if let Some(root) = self.kernel_roots.first() {
            text.push(format!(
                "an amd64 kernel's page tables begin at {root:#x} ({} root tables in all)",
                self.roots
            ));
        }
        if let Some(at) = self.kernphys {
            text.push(format!("its image is at {at:#x}"));
        }
        if self.roots == 0 {
            for (found, with) in [(self.directories, ""), (self.directories_pae, " with PAE")] {
                let Directories { count, first } = found;
                if count > 0 {
                    text.push(format!(
                        "{count} page directories of an i386 kernel{with} are there, the first at \
                         {first:#x}"
                    ));
                }
            }
        }
        text
    }
}

/// Reads all of memory once. Ranges that are known to be zero, and pages that cannot be read, are
/// left out.
pub fn identify(memory: &Arc<dyn PhysMemory>) -> Findings {
    survey(memory, &mut |_, _| {})
}

/// The same, and shows every page of 4 KiB with its physical address to `look`.
pub(super) fn survey(memory: &Arc<dyn PhysMemory>, look: &mut dyn FnMut(u64, &[u8])) -> Findings {
    let mut findings = Findings::default();
    let mut buf = vec![0; PIECE + LONGEST];
    for range in memory.ranges() {
        for start in (range.start..range.end).step_by(PIECE) {
            let end = range.end.min(start.saturating_add(PIECE as u64));
            if memory.known_zero(PhysAddr(start), end - start) {
                continue;
            }
            // A string may go on in the next piece.
            let more = range.end.min(end.saturating_add(LONGEST as u64));
            let bytes = &mut buf[..(more - start) as usize];
            if memory.read(PhysAddr(start), bytes).is_err() {
                // Not all of it is there: the pages that are.
                for (page, pa) in bytes
                    .chunks_mut(PAGE_SIZE as usize)
                    .zip((start..).step_by(4096))
                {
                    if memory.read(PhysAddr(pa), page).is_err() {
                        page.fill(0);
                    }
                }
            }
            let here = (end - start) as usize;
            strings(bytes, start, here, &mut findings.versions);
            let pages = bytes[..here].chunks_exact(PAGE_SIZE as usize);
            for (page, pa) in pages.zip((start..end).step_by(PAGE_SIZE as usize)) {
                roots(page, pa, &mut findings);
                look(pa, page);
            }
        }
    }
    findings
        .versions
        .sort_by_key(|v| (std::cmp::Reverse(v.count), v.at));
    findings.kernphys = findings.kernel_roots.first().and_then(|table| {
        let root = Root {
            covers: 0..=u64::MAX,
            table: *table,
            paging: Paging::Amd64,
        };
        let view = MachineView::new(memory.clone(), vec![root], PAGE_SIZE);
        Some(view.translate(VirtAddr(KERNSTART)).ok()?.0)
    });
    findings
}

/// The first line of the version string that `bytes` begin with.
pub(super) fn first_line(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let len = bytes.iter().position(|b| !(b' '..=b'~').contains(b))?;
    let line = std::str::from_utf8(&bytes[..len]).ok()?;
    let digit = line.as_bytes().get(START.len())?.is_ascii_digit();
    // `12.1-RELEASE`: a release has a branch.
    let release = line.split(' ').nth(1)?;
    let right = digit && release.contains('.') && release.contains('-');
    (right && matches!(bytes[len], 0 | b'\n')).then_some(line)
}

/// The strings that begin in the first `here` bytes.
fn strings(bytes: &[u8], at: u64, here: usize, versions: &mut Vec<VersionString>) {
    let mut from = 0;
    while let Some(skip) = next_start(&bytes[from..]) {
        let start = from + skip;
        if start >= here {
            break;
        }
        from = start + START.len();
        let Some(line) = first_line(&bytes[start..]) else {
            continue;
        };
        if let Some(known) = versions.iter_mut().find(|v| v.text == line) {
            known.count = known.count.saturating_add(1);
        } else if versions.len() < STRINGS {
            versions.push(VersionString {
                text: line.into(),
                at: at + start as u64,
                count: 1,
            });
        }
    }
}

/// Where [`START`] is next. All of memory is looked through, so blocks without a hint of it are
/// passed in a form that processors do many bytes at a time.
fn next_start(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 256;
    let (first, other) = (START[0], START[4]);
    let mut at = 0;
    while at + START.len() <= bytes.len() {
        let end = bytes.len().min(at + BLOCK + START.len() - 1);
        let block = &bytes[at..end];
        // As many places as the other byte has.
        let hints = block.iter().zip(&block[4..]);
        let hint = hints.fold(false, |any, (a, b)| any | ((*a == first) & (*b == other)));
        if hint && let Some(found) = block.windows(START.len()).position(|w| w == START) {
            return Some(at + found);
        }
        at += BLOCK;
    }
    None
}

/// Whether the page at `pa` is a root table of amd64, or a page directory of i386.
fn roots(page: &[u8], pa: u64, findings: &mut Findings) {
    let (entries, _) = page.as_chunks::<PTE_SIZE>();
    // A page has 512 of them.
    let entry = |index: u64| u64::from_le_bytes(entries[index as usize]);
    let valid = |index: u64| entry(index) & PG_V != 0;
    let is_own = |index: u64| valid(index) && entry(index) & PG_FRAME == pa;
    if pa == 0 {
        return;
    }
    if is_own(PML4PML4I) && valid(NPTEPG - 1) {
        findings.roots += 1;
        let user = (0..NPTEPG / 2).any(valid);
        if !user && findings.kernel_roots.len() < STRINGS {
            findings.kernel_roots.push(pa);
        }
    }
    // The third of four entries, or the last, for the directory that has them all: 12.1, 10.4.
    if is_own(510) && valid(508) && valid(509) && valid(511) {
        findings.directories_pae.add(pa);
    }
    let (words, _) = page.as_chunks::<4>();
    let word = |index: usize| u64::from(u32::from_le_bytes(words[index]));
    let valid = |index: usize| word(index) & i386::PG_V != 0;
    let is_own = |index: usize| valid(index) && word(index) & i386::PG_FRAME == pa;
    // 12.1: below the trampoline's entry, and nothing at address 0. 10.4: below the kernel's.
    let of_12 = is_own(1022) && valid(1023) && valid(2) && !valid(0);
    let of_10 = is_own(767) && valid(768) && valid(769);
    if of_12 || of_10 {
        findings.directories.add(pa);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_version_string_is_found_at_any_place() {
        for len in [8, 9, 255, 256, 263, 264, 600] {
            for at in 0..=len - START.len() {
                let mut bytes = b"FreeB"
                    .iter()
                    .copied()
                    .cycle()
                    .take(len)
                    .collect::<Vec<_>>();
                assert_eq!(next_start(&bytes), None);
                bytes[at..at + START.len()].copy_from_slice(START);
                assert_eq!(next_start(&bytes), Some(at), "{at} of {len}");
            }
        }
        assert_eq!(next_start(b"FreeBSD"), None);
    }

    #[test]
    fn a_version_string_has_a_release_and_ends_as_a_line() {
        let line = |text: &[u8]| first_line(text).map(String::from);
        let text = b"FreeBSD 12.1-RELEASE r354233 GENERIC\n\0";
        assert_eq!(line(text).unwrap(), "FreeBSD 12.1-RELEASE r354233 GENERIC");
        let text = b"FreeBSD 10.4-RELEASE-p1 #0: Tue Oct\n    root@\0";
        assert_eq!(line(text).unwrap(), "FreeBSD 10.4-RELEASE-p1 #0: Tue Oct");
        for no in [
            &b"FreeBSD is a registered trademark\n"[..],
            b"FreeBSD 12\n",
            b"FreeBSD 12.1-RELEASE",
            b"FreeBSD 12.1-RELEASE\xff",
            b"FreeBSD ",
        ] {
            assert_eq!(line(no), None);
        }
    }
}
