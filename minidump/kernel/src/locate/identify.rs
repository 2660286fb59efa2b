//! Identifies the kernel in memory without its file: its release and its page tables.
//!
//! A kernel's `version` is in its data and wherever it was printed: `FreeBSD `, a number, and the end
//! of the line. Entry 256 of an amd64 PML4 points at the PML4 itself (FreeBSD
//! `sys/amd64/include/pmap.h`, `PML4PML4I`), which is true for no other page. The PML4 of
//! `kernel_pmap` is the one without user entries. It maps the kernel image, so it also gives the
//! image's address. The page directories of an i386 kernel also point at themselves (`PTDPTDI`), from
//! different entries in 10.4 and 12.1.

use std::sync::Arc;

use livecore_defs::amd64::{KERNSTART, NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I, PTE_SIZE};
use livecore_defs::i386;
use livecore_minidump::mmu::{MachineView, Paging, Root};
use livecore_minidump::{KernelMemory, PhysAddr, PhysMemory, VirtAddr};

/// The number of bytes read at once.
const PIECE: usize = 1 << 20;
/// The start of every version string.
const START: &[u8; 8] = b"FreeBSD ";
/// The maximum length of a version string.
const LONGEST: usize = 256;
/// The maximum number of different strings in the result.
const STRINGS: usize = 8;

/// A version string in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionString {
    /// Its first line.
    pub text: String,
    /// Its first occurrence.
    pub at: PhysAddr,
    /// The number of occurrences.
    pub count: u32,
}

/// The result of searching memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Version strings, the most frequent first.
    pub versions: Vec<VersionString>,
    /// The amd64 root tables without user entries. `KPML4phys` is one.
    pub kernel_roots: Vec<PhysAddr>,
    /// The number of all amd64 root tables: one for each process.
    pub roots: u64,
    /// The kernel image, from the first of `kernel_roots`.
    pub kernphys: Option<PhysAddr>,
    /// i386 page directories without PAE: one for the kernel and one for each process.
    pub directories: Directories,
    /// i386 page directories with PAE: the last of each group of four.
    pub directories_pae: Directories,
}

/// Page directories that point at themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directories {
    /// The number of page directories.
    pub count: u64,
    /// The first, or 0 if there is none.
    pub first: PhysAddr,
}

impl Directories {
    fn add(&mut self, pa: PhysAddr) {
        if self.count == 0 {
            self.first = pa;
        }
        self.count += 1;
    }
}

impl Findings {
    /// Formats the findings as text.
    pub fn sentences(&self) -> Vec<String> {
        let mut text = Vec::new();
        match self.versions.as_slice() {
            [] => text.push("no FreeBSD version string in memory".into()),
            all => text.extend(all.iter().take(3).map(|version| {
                let VersionString { text, at, count } = version;
                format!("version {text:?} in memory: {count} times, first at {at:#x}")
            })),
        }
        if let Some(root) = self.kernel_roots.first() {
            text.push(format!(
                "amd64 kernel page tables at {root:#x} (root tables: {})",
                self.roots
            ));
        }
        if let Some(at) = self.kernphys {
            text.push(format!("kernel image at {at:#x}"));
        }
        if self.roots == 0 {
            for (found, with) in [(self.directories, ""), (self.directories_pae, " with PAE")] {
                let Directories { count, first } = found;
                if count > 0 {
                    text.push(format!(
                        "i386 page directories{with}: {count}, first at {first:#x}"
                    ));
                }
            }
        }
        text
    }
}

/// Searches all of memory. Ranges that are known to be zero, and pages that cannot be read, are
/// skipped.
pub fn identify(memory: &Arc<dyn PhysMemory>) -> Findings {
    survey(memory, &mut |_, _| {})
}

/// Like [`identify`], and calls `visit` with the physical address and contents of every 4 KiB page.
pub(super) fn survey(
    memory: &Arc<dyn PhysMemory>,
    visit: &mut dyn FnMut(PhysAddr, &[u8]),
) -> Findings {
    let mut findings = Findings::default();
    let mut buf = vec![0; PIECE + LONGEST];
    for range in memory.ranges() {
        let range = range.start.0..range.end.0;
        for start in range.clone().step_by(PIECE) {
            let end = range.end.min(start.saturating_add(PIECE as u64));
            if memory.known_zero(PhysAddr(start), end - start) {
                continue;
            }
            // A string may continue in the next piece.
            let more = range.end.min(end.saturating_add(LONGEST as u64));
            let bytes = &mut buf[..(more - start) as usize];
            if memory.read(PhysAddr(start), bytes).is_err() {
                // Part of the piece cannot be read: read each page.
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
            strings(bytes, PhysAddr(start), here, &mut findings.versions);
            let pages = bytes[..here].chunks_exact(PAGE_SIZE as usize);
            for (page, pa) in pages.zip((start..end).step_by(PAGE_SIZE as usize)) {
                roots(page, PhysAddr(pa), &mut findings);
                visit(PhysAddr(pa), page);
            }
        }
    }
    findings
        .versions
        .sort_by_key(|v| (std::cmp::Reverse(v.count), v.at));
    findings.kernphys = findings.kernel_roots.first().and_then(|table| {
        let root = Root {
            covers: VirtAddr(0)..=VirtAddr::MAX,
            table: *table,
            paging: Paging::Amd64,
        };
        let view = MachineView::new(memory.clone(), vec![root], PAGE_SIZE);
        view.translate(KERNSTART).ok()
    });
    findings
}

/// Returns the first line of the version string at the start of `bytes`.
pub(super) fn first_line(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let len = bytes.iter().position(|b| !(b' '..=b'~').contains(b))?;
    let line = std::str::from_utf8(&bytes[..len]).ok()?;
    let digit = line.as_bytes().get(START.len())?.is_ascii_digit();
    // A release has a branch: `12.1-RELEASE`.
    let release = line.split(' ').nth(1)?;
    let is_release = digit && release.contains('.') && release.contains('-');
    (is_release && matches!(bytes[len], 0 | b'\n')).then_some(line)
}

/// Adds the version strings that start in the first `here` bytes.
fn strings(bytes: &[u8], at: PhysAddr, here: usize, versions: &mut Vec<VersionString>) {
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
                at: at.wrapping_add(start as u64),
                count: 1,
            });
        }
    }
}

/// Returns the offset of the next [`START`]. This runs over all of memory, so blocks are first
/// checked for two of its bytes with a loop that compiles to vector instructions.
fn next_start(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 256;
    let (first, other) = (START[0], START[4]);
    let mut at = 0;
    while at + START.len() <= bytes.len() {
        let end = bytes.len().min(at + BLOCK + START.len() - 1);
        let block = &bytes[at..end];
        let hints = block.iter().zip(&block[4..]);
        let hint = hints.fold(false, |any, (a, b)| any | ((*a == first) & (*b == other)));
        if hint && let Some(found) = block.windows(START.len()).position(|w| w == START) {
            return Some(at + found);
        }
        at += BLOCK;
    }
    None
}

/// Adds the page at `pa` to the findings if it is an amd64 root table or an i386 page directory.
fn roots(page: &[u8], pa: PhysAddr, findings: &mut Findings) {
    let (entries, _) = page.as_chunks::<PTE_SIZE>();
    // A page has 512 entries.
    let entry = |index: u64| u64::from_le_bytes(entries[index as usize]);
    let valid = |index: u64| entry(index) & PG_V != 0;
    let is_own = |index: u64| valid(index) && entry(index) & PG_FRAME == pa.0;
    if pa == PhysAddr(0) {
        return;
    }
    if is_own(PML4PML4I) && valid(NPTEPG - 1) {
        findings.roots += 1;
        let user = (0..NPTEPG / 2).any(valid);
        if !user && findings.kernel_roots.len() < STRINGS {
            findings.kernel_roots.push(pa);
        }
    }
    // The directory that maps all four is mapped by the third (12.1) or last (10.4) entry.
    if is_own(510) && valid(508) && valid(509) && valid(511) {
        findings.directories_pae.add(pa);
    }
    let (words, _) = page.as_chunks::<4>();
    let word = |index: usize| u64::from(u32::from_le_bytes(words[index]));
    let valid = |index: usize| word(index) & i386::PG_V != 0;
    let is_own = |index: usize| valid(index) && word(index) & i386::PG_FRAME == pa.0;
    // 12.1: the entry below the trampoline's, and address 0 is not mapped. 10.4: the entry below
    // the kernel's.
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
    fn the_start_of_a_version_string_is_found_at_any_offset() {
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
    fn a_version_string_has_a_release_and_an_end_of_line() {
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
