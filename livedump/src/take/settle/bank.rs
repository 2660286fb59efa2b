//! Finds the physical address at which a raw image of RAM begins, from the kernel in it.
//!
//! RAM begins at an address that depends on the board (QEMU's `virt`: 1 GiB, 2 GiB) and that the
//! file does not contain. The kernel's version string locates the kernel in the file at any address.
//! Its `dump_avail` has the physical addresses of all memory. A file of one bank contains all of
//! them, which leaves few possible start addresses. With the correct one, the kernel's page tables
//! map its variables to their position in the file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_kernel::Kernel;
use livecore_kernel::locate::{KernelImage, Port, port_of};
use livecore_minidump::{Architecture, KernelElf, PhysAddr, PhysMemory};

use super::linear::{Linear, Version};
use crate::image::{Image, RawLayout};
use crate::take::state::avail::dump_avail;

/// Banks begin at multiples of this.
const STEP: u64 = 2 << 20;

/// The most start addresses that are tried, those of 2 TiB for one kernel. A hostile file may have
/// more.
const TRIES: usize = 1 << 20;

/// Whether the kernel's architecture has RAM at other addresses than 0.
pub(super) fn is_of(elf: &KernelElf) -> bool {
    Architecture::of_machine(elf.machine()).is_some_and(|row| !row.ram_at_zero)
}

/// The layout of `image`, a file of `len` bytes, and a message about it. `None` if the kernel is
/// not in the file, the file is not one bank, more than one start address is possible, or there are
/// too many candidates.
pub(super) fn layout(
    image: &Image,
    elf: &KernelElf,
    len: u64,
) -> Option<(RawLayout, Option<String>)> {
    let (memory, port) = (image.flat()?, port_of(elf).ok()?);
    let version = Version::of(elf)?;
    let (mut found, mut tries) = (None, 0);
    for start in port.places(&*memory) {
        let here = Linear {
            memory: memory.clone(),
            link: port.link(elf),
            start,
        };
        if !version.is_in(&here) {
            continue;
        }
        for base in bases(&here, elf, len) {
            tries += 1;
            if tries > TRIES {
                return None;
            }
            if !is_right(&memory, elf, port, start, base) {
                continue;
            }
            if found.is_some_and(|other| other != base) {
                return None;
            }
            found = Some(base);
        }
    }
    Some(match found? {
        0 => (RawLayout::Flat, None),
        base => {
            let layout = RawLayout::Ranges(vec![(PhysAddr(base)..PhysAddr(base + len), 0)]);
            let note = format!(
                "the kernel's page tables show that RAM begins at {base:#x}; using --layout {layout}"
            );
            (layout, Some(note))
        }
    })
}

/// The possible start addresses of a file of `len` bytes that contains all of the kernel's
/// `dump_avail`.
fn bases(here: &Linear, elf: &KernelElf, len: u64) -> impl Iterator<Item = u64> + use<> {
    // Accept any address, since the file's range is not known yet.
    let avail = dump_avail(&Kernel::new(here, elf), PhysAddr::MAX, &[8], PAGE_SIZE);
    let all = avail.ok().and_then(|(avail, _)| {
        let first = avail.ranges().first()?.start.0;
        let lowest = avail.end().0.saturating_sub(len);
        let lowest = lowest.checked_next_multiple_of(STEP)?;
        // The file's addresses end below 2^64.
        let highest = first.min(u64::MAX - len);
        Some(lowest..=highest)
    });
    all.into_iter()
        .flat_map(|range| range.step_by(STEP as usize))
}

/// Whether the kernel, at `start` in the file, is consistent if the file begins at `base`.
fn is_right(
    memory: &Arc<dyn PhysMemory>,
    elf: &KernelElf,
    port: &dyn Port,
    start: PhysAddr,
    base: u64,
) -> bool {
    let ranges = memory.ranges().iter();
    let shifted: Arc<dyn PhysMemory> = Arc::new(Shifted {
        memory: memory.clone(),
        base,
        ranges: ranges
            .map(|r| r.start.wrapping_add(base)..r.end.wrapping_add(base))
            .collect(),
    });
    let image = KernelImage::new(&shifted, elf, port.link(elf), start.wrapping_add(base));
    port.confirm(&image).is_some()
}

/// Memory that begins at address `base`.
struct Shifted {
    memory: Arc<dyn PhysMemory>,
    base: u64,
    ranges: Vec<Range<PhysAddr>>,
}

impl Shifted {
    fn inside(&self, at: PhysAddr) -> io::Result<PhysAddr> {
        at.checked_sub(self.base)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no memory at {at:#x}")))
    }
}

impl PhysMemory for Shifted {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.memory.read(self.inside(at)?, buf)
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        self.inside(at)
            .is_ok_and(|inside| self.memory.known_zero(inside, len))
    }
}
