//! Memory: reads of virtual and physical addresses, and the map of readable regions.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use livecore_minidump::{Address, DumpMemory, PhysAddr, VirtAddr};

/// The most regions of the kernel map that are stored.
const REGIONS_MAX: usize = 1 << 18;

/// The address `at` in physical or virtual memory.
pub(crate) fn address(at: u64, physical: bool) -> Address {
    match physical {
        true => Address::Phys(PhysAddr(at)),
        false => Address::Virt(VirtAddr(at)),
    }
}

/// A range of addresses with its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: u64,
    /// One past the last address; 0 is the end of the address space.
    pub(crate) end: u64,
    /// `r`, `rw`, `rwx`, …; `None` if nothing can be read.
    pub(crate) permissions: Option<Permissions>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// The readable ranges of the kernel map, in ascending order.
#[derive(Debug)]
pub(crate) struct Regions {
    list: Vec<(u64, u64, Permissions)>,
    /// Whether the list was truncated to [`REGIONS_MAX`].
    cut: bool,
}

impl Regions {
    fn of(dump: &dyn DumpMemory) -> Self {
        let page = dump.page_size();
        let mut list: Vec<(u64, u64, Permissions)> = Vec::new();
        let mut cut = false;
        // Page tables that cannot be read end the list.
        let walked = dump.walk(&mut |mapping| {
            let permissions = Permissions {
                write: mapping.protection.write,
                execute: mapping.protection.execute,
            };
            for skip in (0..mapping.len).step_by(page as usize) {
                let (Some(va), Some(pa)) =
                    (mapping.va.checked_add(skip), mapping.pa.checked_add(skip))
                else {
                    break;
                };
                if dump.offset_of(pa).is_none() {
                    continue;
                }
                let end = va.0.wrapping_add(page);
                let full = list.len() >= REGIONS_MAX;
                match list.last_mut() {
                    Some((_, last, same)) if *last == va.0 && *same == permissions => *last = end,
                    _ if full => {
                        cut = true;
                        return ControlFlow::Break(());
                    }
                    _ => list.push((va.0, end, permissions)),
                }
            }
            ControlFlow::Continue(())
        });
        cut |= walked.is_err();
        // Only hashed page tables are walked in another order.
        list.sort_unstable_by_key(|(start, ..)| *start);
        Self { list, cut }
    }

    /// The range that contains `at`, readable or not.
    fn at(&self, at: u64, page: u64) -> Region {
        let after = self.list.partition_point(|(start, ..)| *start <= at);
        let before = after.checked_sub(1).and_then(|i| self.list.get(i));
        if let Some(&(start, end, permissions)) = before
            && (at < end || end == 0)
        {
            return Region {
                start,
                end,
                permissions: Some(permissions),
            };
        }
        let end = match self.list.get(after) {
            Some((start, ..)) => *start,
            None if self.cut => (at - at % page).wrapping_add(page),
            None => 0,
        };
        Region {
            start: before.map_or(0, |(_, end, _)| *end),
            end,
            permissions: None,
        }
    }
}

/// The range that contains `at`.
pub(crate) fn region(
    dump: &dyn DumpMemory,
    regions: &OnceLock<Regions>,
    at: u64,
    physical: bool,
) -> Region {
    let readable = Permissions {
        write: true,
        execute: false,
    };
    if physical {
        return run(dump, at, 0).map_permissions(readable);
    }
    let regions = regions.get_or_init(|| Regions::of(dump));
    let mut found = regions.at(at, dump.page_size());
    let Some(direct) = dump.direct_map().filter(|_| found.permissions.is_none()) else {
        return found;
    };
    let (first, direct_end) = (direct.addresses.start.0, direct.addresses.end.0);
    if (first..direct_end).contains(&at) {
        let base = first.wrapping_sub(direct.phys.0);
        let found = run(dump, at.wrapping_sub(base), base).map_permissions(readable);
        let end = match found.end {
            0 => direct_end,
            end => end.min(direct_end),
        };
        let start = found.start.max(first);
        return Region {
            start,
            end,
            ..found
        };
    }
    // An unmapped range ends at the start of the direct map, and begins at its end.
    if at < first && (found.end == 0 || found.end > first) {
        found.end = first;
    }
    if at >= direct_end {
        found.start = found.start.max(direct_end);
    }
    found
}

impl Region {
    fn map_permissions(self, to: Permissions) -> Self {
        Self {
            permissions: self.permissions.map(|_| to),
            ..self
        }
    }
}

/// The range of physical pages around `at` that are all in the dump or all missing, shifted by
/// `base`.
fn run(dump: &dyn DumpMemory, at: u64, base: u64) -> Region {
    let start = at - at % dump.page_size();
    let run = dump.run_at(PhysAddr(start));
    Region {
        start: start.wrapping_add(base),
        end: run.end.map_or(0, |end| end.0.wrapping_add(base)),
        permissions: run.present.then_some(Permissions {
            write: false,
            execute: false,
        }),
    }
}
