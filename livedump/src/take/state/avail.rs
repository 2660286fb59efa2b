//! A kernel's `dump_avail`: the memory that it may dump.

use livecore_kernel::Kernel;
use livecore_kernel::locate::LocateError;
use livecore_minidump::{DumpAvail, PhysAddr, VirtAddr};

use crate::take::error::TakeError;

/// The kernel's `dump_avail`, up to its terminator, and the size of its elements: the one of
/// `paddr_sizes` with which it is valid. Memory ends at `top`.
pub(in crate::take) fn dump_avail(
    kernel: &Kernel<'_>,
    top: PhysAddr,
    paddr_sizes: &[usize],
    page_size: u64,
) -> Result<(DumpAvail, usize), TakeError> {
    let mut first = None;
    for size in paddr_sizes {
        match dump_avail_of(kernel, top, *size, page_size) {
            Ok(avail) => return Ok((avail, *size)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        LocateError::NoSymbol {
            name: "dump_avail".into(),
        }
        .into()
    }))
}

fn dump_avail_of(
    kernel: &Kernel<'_>,
    top: PhysAddr,
    paddr_size: usize,
    page_size: u64,
) -> Result<DumpAvail, TakeError> {
    let symbol = kernel
        .elf()
        .symbol("dump_avail")
        .ok_or(LocateError::NoSymbol {
            name: "dump_avail".into(),
        })?;
    // PHYS_AVAIL_COUNT elements; the section is at most a page.
    let half = paddr_size as u64;
    let size = match symbol.size {
        size if (2 * half..4096).contains(&size) => size,
        _ => 4096,
    };
    let mut ranges = Vec::new();
    for index in 0..size / (2 * half) {
        let at = VirtAddr(symbol.value).saturating_add(2 * half * index);
        let start = kernel.uint_at("dump_avail", at, paddr_size)?;
        let end = kernel.uint_at("dump_avail", at.saturating_add(half), paddr_size)?;
        if end == 0 {
            break;
        }
        ranges.push(PhysAddr(start)..PhysAddr(end));
    }
    let avail = DumpAvail::from_ranges(&ranges, page_size)?;
    if avail.ranges().is_empty() || avail.end() > top {
        return Err(TakeError::Contradiction {
            what: "dump_avail",
            found: format!("{} ranges up to {:#x}", ranges.len(), avail.end()),
            expected: format!("ranges below {top:#x}, the end of memory"),
        });
    }
    Ok(avail)
}
