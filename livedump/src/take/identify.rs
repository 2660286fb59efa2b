//! What memory says of itself when nobody has the kernel's file: which release runs, and where its
//! page tables begin.
//!
//! A kernel's `version` is in its data, and once more wherever it was printed: `FreeBSD `, a number,
//! and a line's end. An amd64 kernel's PML4s point at themselves from entry 256 (FreeBSD
//! `sys/amd64/include/pmap.h`, `PML4PML4I`), and no other page does; of them `kernel_pmap`'s is the
//! one that has no user's half. It maps the kernel's image, so it also tells where that lies.

use std::ops::Range;
use std::sync::Arc;

use minidump::defs::amd64::{KERNSTART, NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I, PTE_SIZE};
use minidump::{KernelMemory, VirtAddr};

use super::paging::Paging;
use super::view::{MachineView, Root};
use crate::PhysMemory;

/// Bytes that are looked at together.
const PIECE: usize = 1 << 20;
/// What every version string begins with.
const START: &[u8] = b"FreeBSD ";
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
        text
    }
}

/// Reads all of memory once. Ranges that are known to be zero, or cannot be read, are left out.
pub fn identify(memory: &Arc<dyn PhysMemory>) -> Findings {
    let mut findings = Findings::default();
    let mut buf = vec![0; PIECE + LONGEST];
    for range in memory.ranges() {
        for start in (range.start..range.end).step_by(PIECE) {
            let end = range.end.min(start.saturating_add(PIECE as u64));
            if memory.known_zero(start, end - start) {
                continue;
            }
            // A string may go on in the next piece.
            let more = range.end.min(end.saturating_add(LONGEST as u64));
            let bytes = &mut buf[..(more - start) as usize];
            if memory.read(start, bytes).is_err() {
                continue;
            }
            let here = (end - start) as usize;
            strings(bytes, start, here, &mut findings.versions);
            roots(&bytes[..here], start..end, &mut findings);
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
    while let Some(skip) = bytes[from..]
        .windows(START.len())
        .position(|window| window == START)
    {
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

/// The pages that are root tables of amd64.
fn roots(bytes: &[u8], at: Range<u64>, findings: &mut Findings) {
    let pages = bytes.chunks_exact(PAGE_SIZE as usize);
    for (page, pa) in pages.zip(at.step_by(PAGE_SIZE as usize)) {
        let (entries, _) = page.as_chunks::<PTE_SIZE>();
        let entry = |index: u64| u64::from_le_bytes(entries[index as usize]);
        let back = entry(PML4PML4I);
        let right = back & PG_V != 0 && back & PG_FRAME == pa && entry(NPTEPG - 1) & PG_V != 0;
        if !right || pa == 0 {
            continue;
        }
        findings.roots += 1;
        let user = (0..NPTEPG / 2).any(|index| entry(index) & PG_V != 0);
        if !user && findings.kernel_roots.len() < STRINGS {
            findings.kernel_roots.push(pa);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
