//! Finds the start of a PC's hole in a raw image, with the kernel's help.
//!
//! A file of RAM omits the addresses below 4 GiB that are not RAM, and does not record how many
//! they are. The kernel's `dump_avail` has the end of the memory below 4 GiB and the end of all
//! memory. It is below 2 GiB, where all layouts give the same addresses. A file with memory up to
//! the end `H` that is shorter than `H` has a hole, which begins where the memory above it just
//! fits. It begins close to the end of low memory, whose last pages are the firmware's tables.

use livecore_defs::amd64::PAGE_SIZE;
use livecore_kernel::Kernel;
use livecore_kernel::locate::{bitmap_follows_dump_avail, port_of};
use livecore_minidump::{DumpAvail, Error, KernelElf, PhysAddr};

use super::linear::{Linear, Version};
use crate::image::{FOUR_GIB, Image, RawLayout};
use crate::take::state::avail::dump_avail;

/// The usual starts: QEMU's q35; QEMU's pc, bhyve and VMware; VirtualBox and QEMU's pc with less
/// memory; Xen; Hyper-V.
const USUAL: [u64; 5] = [
    0x8000_0000,
    0xc000_0000,
    0xe000_0000,
    0xf000_0000,
    0xf800_0000,
];
/// The most memory below the hole that the firmware may use.
const FIRMWARE: u64 = 128 << 20;
/// Holes begin at multiples of this.
const STEP: u64 = 1 << 20;

/// The layout of `image`, a file of `len` bytes, and a message about it; `None` if the kernel does
/// not show it.
pub(super) fn layout(
    image: &mut Image,
    elf: &KernelElf,
    len: u64,
) -> Result<Option<(RawLayout, Option<String>)>, Error> {
    let avail = known(image, elf, len);
    // Use page tables only if the file contains more memory than the kernel knows.
    let sure = avail.as_ref().and_then(|avail| {
        let layout = decide(len, avail, &RawLayout::Flat, 0)?;
        let is_all = len.saturating_sub(low_end(avail)?) <= FIRMWARE;
        (layout != RawLayout::Flat || is_all).then_some(layout)
    });
    let layout = match (sure, avail) {
        (Some(layout), _) => Some(layout),
        (None, avail) => {
            image.search_layout()?;
            let votes = image.guess().map_or(0, |(_, votes)| votes);
            let guess = image.layout.clone().unwrap_or(RawLayout::Flat);
            avail.and_then(|avail| decide(len, &avail, &guess, votes))
        }
    };
    let Some(layout) = layout else {
        return Ok(None);
    };
    let note = match &layout {
        RawLayout::Hole { below } => Some(format!(
            "the kernel's dump_avail shows that a hole begins at {below:#x}; using --layout pc:{below:#x}"
        )),
        _ => None,
    };
    Ok(Some((layout, note)))
}

/// The end of the memory below 4 GiB.
fn low_end(avail: &DumpAvail) -> Option<u64> {
    let low = avail
        .ranges()
        .iter()
        .filter(|s| s.start < PhysAddr(FOUR_GIB));
    low.map(|s| s.end.0.min(FOUR_GIB)).max()
}

/// The kernel's `dump_avail`, read from its linear image, since its page tables may lead to unknown
/// addresses.
fn known(image: &Image, elf: &KernelElf, len: u64) -> Option<DumpAvail> {
    let (memory, port) = (image.low()?, port_of(elf).ok()?);
    // 4-byte addresses may look plausible as larger ones; the reverse does not occur.
    let sizes = match elf.is_64() || bitmap_follows_dump_avail(elf) {
        true => &[8][..],
        false => &[4, 8],
    };
    let link = port.link(elf);
    let top = PhysAddr(len.checked_add(FOUR_GIB)?);
    let version = Version::of(elf)?;
    // A file with symbols only cannot distinguish the kernel from a copy.
    let positions = port.places(&*memory);
    let mut positions = positions.take(if version.has_text() { usize::MAX } else { 1 });
    positions.find_map(|start| {
        let linear = Linear {
            memory: memory.clone(),
            link,
            start,
        };
        if !version.is_in(&linear) {
            return None;
        }
        let found = dump_avail(&Kernel::new(&linear, elf), top, sizes, PAGE_SIZE);
        found.ok().map(|(avail, _)| avail)
    })
}

/// The layout of a file of `len` bytes that contains the memory in `avail`. `guess`, from `votes`
/// page tables, decides if several layouts do.
fn decide(len: u64, avail: &DumpAvail, guess: &RawLayout, votes: u64) -> Option<RawLayout> {
    let low = low_end(avail)?;
    let high = avail.end().0;
    let is_flat = high <= len;
    // The memory above the hole must fit in the file, and little may be lost below it.
    let fits = |below: u64| {
        let above = len.checked_sub(below).filter(|_| below < FOUR_GIB);
        low <= below && above.is_some_and(|above| FOUR_GIB + above >= high)
    };
    let is_near = |below: u64| below - low <= FIRMWARE;
    if let RawLayout::Hole { below } = *guess
        && fits(below)
        && (is_near(below) && (votes > 1 || !is_flat) || votes > 2 && !is_flat)
    {
        return Some(guess.clone());
    }
    if is_flat {
        return Some(RawLayout::Flat);
    }
    // The latest start is given by the end of memory; it is earlier if the last part of memory is
    // the firmware's.
    let latest = (len + FOUR_GIB).checked_sub(high)?;
    let latest = latest - latest % STEP;
    let usual = USUAL.into_iter().rev().filter(|below| *below <= latest);
    usual
        .chain([latest])
        .find(|below| fits(*below) && is_near(*below))
        .map(|below| RawLayout::Hole { below })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    /// The memory that SeaBIOS uses at the top of low memory.
    const TABLES: u64 = 0x24000;

    fn decided(len: u64, low: u64, high: u64, guess: Option<(u64, u64)>) -> Option<RawLayout> {
        let mut ranges = vec![
            PhysAddr(0)..PhysAddr(0x9f000),
            PhysAddr(0x10_3000)..PhysAddr(low),
        ];
        if high > 0 {
            ranges.push(PhysAddr(FOUR_GIB)..PhysAddr(high));
        }
        let avail = DumpAvail::from_ranges(&ranges, 4096).unwrap();
        let (guess, votes) = match guess {
            Some((below, votes)) => (RawLayout::Hole { below }, votes),
            None => (RawLayout::Flat, 0),
        };
        decide(len, &avail, &guess, votes)
    }

    #[track_caller]
    fn check(len: u64, low: u64, high: u64, below: u64) {
        let found = decided(len, low, high, None);
        assert_eq!(found, Some(RawLayout::Hole { below }), "{len:#x}");
    }

    #[test]
    fn file_shorter_than_the_memory_has_a_hole() {
        // QEMU's pc with 4 and 6 GiB, q35 with 6 GiB.
        check(4 * GIB, 3 * GIB - TABLES, 5 * GIB, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB, 3 * GIB);
        check(6 * GIB, 2 * GIB - TABLES, 8 * GIB, 2 * GIB);
        // UEFI uses more; other software may use the last pages too.
        check(6 * GIB, 3 * GIB - 90 * MIB, 7 * GIB, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB - 0x5000, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB - 20 * MIB, 3 * GIB);
        // An unusual start.
        check(96 * MIB, 64 * MIB, FOUR_GIB + 32 * MIB, 64 * MIB);
        check(5 * GIB, GIB - TABLES, 8 * GIB, GIB);
    }

    #[test]
    fn file_with_all_addresses_has_no_hole() {
        // Less memory than any start of a hole; pmemsave of all addresses.
        for (len, low, high) in [
            (512 * MIB, 512 * MIB - TABLES, 0),
            (2560 * MIB, 2560 * MIB - TABLES, 0),
            (3 * GIB, 3 * GIB - TABLES, 0),
            (7 * GIB, 3 * GIB - TABLES, 7 * GIB),
            // i386 without PAE does not see memory above 4 GiB.
            (6 * GIB, 3 * GIB - TABLES, 0),
        ] {
            let found = decided(len, low, high, None);
            assert_eq!(found, Some(RawLayout::Flat), "{len:#x}");
            // One page that looks like a table does not make a hole.
            let found = decided(len, low, high, Some((3 * GIB, 1)));
            assert_eq!(found, Some(RawLayout::Flat), "{len:#x}");
        }
        // Neither do several below the kernel's memory.
        let found = decided(3 * GIB, 3 * GIB - TABLES, 0, Some((2 * GIB, 5)));
        assert_eq!(found, Some(RawLayout::Flat));
    }

    #[test]
    fn page_tables_decide_between_possible_layouts() {
        // A kernel configured to use less memory.
        let guess = Some((3 * GIB, 4));
        let found = decided(6 * GIB, 3 * GIB - TABLES, 5 * GIB, guess);
        assert_eq!(found, Some(RawLayout::Hole { below: 3 * GIB }));
        // An impossible hole is ignored.
        let found = decided(6 * GIB, 3 * GIB - TABLES, 7 * GIB, Some((2 * GIB, 9)));
        assert_eq!(found, Some(RawLayout::Hole { below: 3 * GIB }));
    }

    #[test]
    fn layout_that_does_not_fit_is_not_changed() {
        assert_eq!(decided(GIB, 2 * GIB, 0, None), None);
        assert_eq!(decided(4 * GIB, 3 * GIB, 9 * GIB, None), None);
        let all = DumpAvail::from_ranges(&[PhysAddr(0x1000)..PhysAddr(8 * GIB)], 4096).unwrap();
        assert_eq!(decide(6 * GIB, &all, &RawLayout::Flat, 0), None);
        let none = DumpAvail::from_ranges(&[], 4096).unwrap();
        assert_eq!(decide(6 * GIB, &none, &RawLayout::Flat, 0), None);
    }
}
