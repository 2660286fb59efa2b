//! Removes marked pages that a kernel would not dump (`vm_phys_is_dumpable`, and `PHYS_IN_DMAP`
//! before it).
//!
//! A page with a `struct vm_page` is dumped unless PG_NODUMP is set; any other page is dumped if it
//! is in `dump_avail`.

use std::ops::Range;

use livecore_kernel::VmPages;
use livecore_kernel::locate::Machine;
use livecore_minidump::mmu::MachineView;
use livecore_minidump::{DumpAvail, KernelMemory, PhysAddr, VirtAddr};

use super::marks::Marks;

/// Decides whether a page may be dumped.
pub(super) struct Filter<'a> {
    view: &'a MachineView,
    phys_in_dmap: Range<PhysAddr>,
    /// `None`: all pages of the direct map are dumpable.
    pages: Option<&'a VmPages>,
    /// The last page of `vm_page_array` that was read: its number, and its bytes if it could be
    /// read.
    cached: Option<(u64, Option<Box<[u8]>>)>,
    /// Pages with an unreadable `struct vm_page`; they count as dumpable.
    unread: u64,
}

/// The counts of a filter.
pub(super) struct Filtered {
    /// Pages that are dropped because they are outside of the memory.
    pub(super) outside: u64,
    /// Pages with an unreadable `struct vm_page`, which count as dumpable.
    pub(super) unread: u64,
}

impl<'a> Filter<'a> {
    /// A filter by the direct map, and by `struct vm_page` if there is `pages`.
    pub(super) fn new(machine: &'a Machine, pages: Option<&'a VmPages>) -> Self {
        Self {
            view: &machine.view,
            phys_in_dmap: machine.phys_in_dmap.clone(),
            pages,
            cached: None,
            unread: 0,
        }
    }

    /// Whether the page at `pa`, which is in `dump_avail`, may be dumped.
    pub(super) fn allows(&mut self, pa: u64) -> bool {
        if !self.phys_in_dmap.contains(&PhysAddr(pa)) {
            return false;
        }
        let Some((flags, nodump)) = self
            .pages
            .and_then(|pages| Some((pages.flags(PhysAddr(pa))?, pages.nodump())))
        else {
            return true;
        };
        match self.byte(flags) {
            Some(flags) => flags & nodump == 0,
            None => {
                self.unread += 1;
                true
            }
        }
    }

    /// Removes pages that are beyond the direct map, not dumpable, or outside of memory.
    pub(super) fn keep(mut self, marks: &mut Marks, avail: &DumpAvail) -> Filtered {
        marks.keep_within(std::slice::from_ref(&self.phys_in_dmap));
        if let Some(pages) = self.pages {
            marks.retain(|page| {
                self.allows(page)
                    && (pages.flags(PhysAddr(page)).is_some()
                        || avail.bit_of(PhysAddr(page)).is_some())
            });
        } else if !marks.ranges().is_known() {
            let ranges = avail.ranges().iter().map(|s| s.start..s.end);
            marks.keep_within(&ranges.collect::<Vec<_>>());
        }
        let before = marks.count();
        marks.keep_within(self.view.memory().ranges());
        Filtered {
            outside: before - marks.count(),
            unread: self.unread,
        }
    }

    /// The byte at virtual address `at` in `vm_page_array`.
    fn byte(&mut self, at: VirtAddr) -> Option<u8> {
        let page_size = self.view.page_size();
        let number = at.0 / page_size;
        if self.cached.as_ref().is_none_or(|(n, _)| *n != number) {
            let mut page = vec![0; page_size as usize];
            let read = self.view.read_virt(VirtAddr(number * page_size), &mut page);
            self.cached = Some((number, read.is_ok().then(|| page.into())));
        }
        let (_, page) = self.cached.as_ref()?;
        Some(page.as_ref()?[at.offset_in(page_size) as usize])
    }
}
