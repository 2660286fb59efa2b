//! Where the hole of a PC begins in a raw image, by the kernel's own word.
//!
//! A file of RAM leaves out the addresses below 4 GiB that are no RAM, and says nowhere how many they
//! are. The kernel knows: its `dump_avail` has the end of the memory below 4 GiB and that of all
//! memory. It lies below 2 GiB, and there every layout gives the same addresses. A file that holds
//! memory up to the end `H` and is shorter than `H` has a hole, which begins where what is behind it
//! just fits; and it begins close to the end of the low memory, whose last pages are the firmware's
//! tables.

use livecore_defs::amd64::PAGE_SIZE;
use livecore_kernel::Kernel;
use livecore_kernel::locate::{bitmap_follows_dump_avail, port_of};
use livecore_minidump::{DumpAvail, Error, KernelElf};

use super::linear::{Linear, Version};
use crate::image::{FOUR_GIB, Image, RawLayout};
use crate::take::state::avail::dump_avail;

/// Where hypervisors begin it: QEMU's q35; QEMU's pc, bhyve and VMware; VirtualBox and QEMU's pc
/// with less memory; Xen; Hyper-V.
const USUAL: [u64; 5] = [
    0x8000_0000,
    0xc000_0000,
    0xe000_0000,
    0xf000_0000,
    0xf800_0000,
];
/// So much below the hole may be the firmware's at most.
const FIRMWARE: u64 = 128 << 20;
/// Holes begin at multiples of this.
const STEP: u64 = 1 << 20;

/// The layout of `image`, a file of `len` bytes, and what a person should know of it; `None` if the
/// kernel does not tell.
pub(super) fn layout(
    image: &mut Image,
    elf: &KernelElf,
    len: u64,
) -> Result<Option<(RawLayout, Option<String>)>, Error> {
    let avail = known(image, elf, len);
    // Page tables count only where the file holds more than the kernel knows of.
    let sure = avail.as_ref().and_then(|avail| {
        let layout = decide(len, avail, &RawLayout::Flat, 0)?;
        let is_all = len.saturating_sub(low_end(avail)?) <= FIRMWARE;
        (layout != RawLayout::Flat || is_all).then_some(layout)
    });
    let layout = match (sure, avail) {
        (Some(layout), _) => Some(layout),
        (None, avail) => {
            image.look()?;
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
            "by the kernel's dump_avail, a hole begins at {below:#x}: --layout pc:{below:#x}"
        )),
        _ => None,
    };
    Ok(Some((layout, note)))
}

/// The end of the memory below 4 GiB.
fn low_end(avail: &DumpAvail) -> Option<u64> {
    let low = avail.segments().iter().filter(|s| s.start < FOUR_GIB);
    low.map(|s| s.end.min(FOUR_GIB)).max()
}

/// The kernel's `dump_avail`, read from its image, which is linear: its tables may lead anywhere.
fn known(image: &Image, elf: &KernelElf, len: u64) -> Option<DumpAvail> {
    let (memory, port) = (image.low()?, port_of(elf).ok()?);
    // Read as the larger ones, addresses of 4 bytes may make sense; the other way round they do not.
    let sizes = match elf.is_64() || bitmap_follows_dump_avail(elf) {
        true => &[8][..],
        false => &[4, 8],
    };
    let link = port.link(elf);
    let top = len.checked_add(FOUR_GIB)?;
    let version = Version::of(elf)?;
    // A file of symbols alone does not tell the kernel from a copy of it.
    let places = port.places(&*memory);
    let mut places = places.take(if version.has_text() { usize::MAX } else { 1 });
    places.find_map(|start| {
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

/// The layout of a file of `len` bytes under which it holds the memory that `avail` tells of.
/// `guess` is what page tables told, `votes` of them, and counts where more than one layout does.
fn decide(len: u64, avail: &DumpAvail, guess: &RawLayout, votes: u64) -> Option<RawLayout> {
    let low = low_end(avail)?;
    let high = avail.end();
    let is_flat = high <= len;
    // What is behind the hole has its room in the file, and little is lost in front of it.
    let fits = |below: u64| {
        let behind = len.checked_sub(below).filter(|_| below < FOUR_GIB);
        low <= below && behind.is_some_and(|behind| FOUR_GIB + behind >= high)
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
    // It begins here if the end that the kernel knows is the file's, and earlier if the last of the
    // memory is the firmware's.
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
    /// What SeaBIOS keeps at the top of the low memory.
    const TABLES: u64 = 0x24000;

    fn decided(len: u64, low: u64, high: u64, guess: Option<(u64, u64)>) -> Option<RawLayout> {
        let mut pairs = vec![(0, 0x9f000), (0x10_3000, low)];
        if high > 0 {
            pairs.push((FOUR_GIB, high));
        }
        let avail = DumpAvail::from_pairs(&pairs, 4096).unwrap();
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
    fn a_file_that_is_shorter_than_the_memory_has_a_hole() {
        // QEMU's pc with 4 and 6 GiB, q35 with 6 GiB.
        check(4 * GIB, 3 * GIB - TABLES, 5 * GIB, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB, 3 * GIB);
        check(6 * GIB, 2 * GIB - TABLES, 8 * GIB, 2 * GIB);
        // UEFI keeps more; the last pages may be somebody's, too.
        check(6 * GIB, 3 * GIB - 90 * MIB, 7 * GIB, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB - 0x5000, 3 * GIB);
        check(6 * GIB, 3 * GIB - TABLES, 7 * GIB - 20 * MIB, 3 * GIB);
        // Where nobody usually begins it.
        check(96 * MIB, 64 * MIB, FOUR_GIB + 32 * MIB, 64 * MIB);
        check(5 * GIB, GIB - TABLES, 8 * GIB, GIB);
    }

    #[test]
    fn a_file_that_holds_all_addresses_has_none() {
        // Less memory than any hole leaves room for; pmemsave of all addresses.
        for (len, low, high) in [
            (512 * MIB, 512 * MIB - TABLES, 0),
            (2560 * MIB, 2560 * MIB - TABLES, 0),
            (3 * GIB, 3 * GIB - TABLES, 0),
            (7 * GIB, 3 * GIB - TABLES, 7 * GIB),
            // i386 without PAE has lost what is above 4 GiB.
            (6 * GIB, 3 * GIB - TABLES, 0),
        ] {
            let found = decided(len, low, high, None);
            assert_eq!(found, Some(RawLayout::Flat), "{len:#x}");
            // One page that looks like a table declares no hole.
            let found = decided(len, low, high, Some((3 * GIB, 1)));
            assert_eq!(found, Some(RawLayout::Flat), "{len:#x}");
        }
        // Nor do several below what the kernel has as memory.
        let found = decided(3 * GIB, 3 * GIB - TABLES, 0, Some((2 * GIB, 5)));
        assert_eq!(found, Some(RawLayout::Flat));
    }

    #[test]
    fn page_tables_decide_where_the_kernel_leaves_a_choice() {
        // A kernel that was told to use less memory than there is.
        let told = Some((3 * GIB, 4));
        let found = decided(6 * GIB, 3 * GIB - TABLES, 5 * GIB, told);
        assert_eq!(found, Some(RawLayout::Hole { below: 3 * GIB }));
        // A table that cannot be right is none.
        let found = decided(6 * GIB, 3 * GIB - TABLES, 7 * GIB, Some((2 * GIB, 9)));
        assert_eq!(found, Some(RawLayout::Hole { below: 3 * GIB }));
    }

    #[test]
    fn what_fits_nowhere_is_left_as_it_is() {
        assert_eq!(decided(GIB, 2 * GIB, 0, None), None);
        assert_eq!(decided(4 * GIB, 3 * GIB, 9 * GIB, None), None);
        let all = DumpAvail::from_pairs(&[(0x1000, 8 * GIB)], 4096).unwrap();
        assert_eq!(decide(6 * GIB, &all, &RawLayout::Flat, 0), None);
        let none = DumpAvail::from_pairs(&[], 4096).unwrap();
        assert_eq!(decide(6 * GIB, &none, &RawLayout::Flat, 0), None);
    }
}
