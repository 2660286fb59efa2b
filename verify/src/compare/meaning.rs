//! Virtual addresses and symbols of pages and page-table entries that differ.

use livecore_defs::VirtAddr;

use super::{PageDifference, SectionDifference, Side};
use crate::entry;
use crate::header::MinidumpHeader;
use crate::memory::Memory;
use crate::options::Options;
use crate::symbols::KernelFacts;

/// Maximum size of a kernel image to search for a page.
const IMAGE_MAX: u64 = 512 << 20;

/// Sets the direct-map address of each page, and its symbol if `options` has a kernel.
pub(super) fn of_pages(pages: &mut [PageDifference], side: &Side, options: &Options<'_>) {
    let Some(header) = side.intake.header() else {
        return;
    };
    for page in &mut *pages {
        let start = direct(header, page.pa.0).map(VirtAddr);
        page.direct = start.and_then(|va| va.checked_add(page.offset as u64));
    }
    let (Some(kernel), Some(scanned), false) = (options.kernel, &side.scanned, pages.is_empty())
    else {
        return;
    };
    let memory = Memory::new(
        &scanned.input,
        &scanned.layout,
        &scanned.walked,
        &side.intake,
        options.memory,
    );
    if let Some(memory) = memory.filter(Memory::is_random) {
        symbols(pages, kernel, &memory);
    }
}

/// The direct-map address of the page at `pa`.
fn direct(header: &MinidumpHeader, pa: u64) -> Option<u64> {
    let offset = pa.checked_sub(header.dmapphys)?;
    let at = header.dmapbase.checked_add(offset)?;
    (header.has_direct_map() && at < header.dmapend).then_some(at)
}

/// Searches the kernel image for the pages. The image extends from the first symbol to the last, and
/// maps each page once.
fn symbols(pages: &mut [PageDifference], kernel: &dyn KernelFacts, memory: &Memory<'_>) {
    let mut named: Vec<(u64, &str)> = kernel
        .symbols()
        .into_iter()
        .map(|(at, name)| (at.0, name))
        .filter(|(at, name)| *at >= memory.header.kernbase && !name.is_empty())
        .collect();
    named.sort_unstable();
    let page = memory.header.page;
    let (Some(first), Some(last)) = (named.first(), named.last()) else {
        return;
    };
    let (from, to) = (first.0 / page * page, last.0);
    if to - from > IMAGE_MAX {
        return;
    }
    let mut missing = pages.len();
    let mut va = from;
    while va <= to && missing > 0 {
        if let Ok(pa) = memory.translate(va)
            && let Some(found) = pages
                .iter_mut()
                .find(|p| p.pa.0 == pa && p.symbol.is_none())
        {
            let at = va.saturating_add(found.offset as u64);
            let after = named.partition_point(|(value, _)| *value <= at);
            let name = after.checked_sub(1).map(|i| named[i]);
            found.symbol = Some(match name {
                Some((value, name)) if value == at => format!("{at:#x} {name}"),
                Some((value, name)) => format!("{at:#x} {name}+{:#x}", at - value),
                None => format!("{at:#x}"),
            });
            missing -= 1;
        }
        let Some(next) = va.checked_add(page) else {
            return;
        };
        va = next;
    }
}

/// A description of the first byte that differs.
pub(super) fn of_section(found: &SectionDifference, side: &Side) -> Option<String> {
    let header = side.intake.header()?;
    let entry = match found.what {
        "page tables" if header.has_direct_map() => entry::size(header)? as u64,
        "dump_avail" => return Some(format!("range {}", found.offset / 16)),
        _ => return None,
    };
    let index = found.offset / entry;
    let va = index
        .checked_mul(entry::span(header))?
        .checked_add(header.kernbase)?;
    Some(format!("entry {index}, for {va:#x}"))
}
