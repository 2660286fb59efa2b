//! Which pages a kernel would dump (`vm_phys_is_dumpable`, and `PHYS_IN_DMAP` before it).
//!
//! A page with a `struct vm_page` is dumped unless that says PG_NODUMP; others are dumped because
//! they are in `dump_avail`. The structure's layout is nowhere exported. It is found by its own
//! evidence: under the right layout `vm_page.phys_addr` is the page's address, for every page.

use std::ops::Range;

use minidump::defs::amd64::PAGE_SIZE;
use minidump::{KernelMemory, VirtAddr};

use super::kernel::Variables;

/// A layout of `struct vm_page`: the fields that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct VmPage {
    /// `sizeof`
    size: u64,
    /// Offset of `phys_addr`, 8 bytes.
    phys_addr: u64,
    /// Offset of `flags`.
    flags: u64,
    /// `PG_NODUMP`, in the low byte of `flags`.
    nodump: u8,
}

/// Known layouts of LP64 kernels, with the lowest `osreldate` that each is looked for in.
const VM_PAGES: [(u32, VmPage); 3] = [
    // 15: 88 bytes.
    (
        1_400_000,
        VmPage {
            size: 88,
            phys_addr: 32,
            flags: 78,
            nodump: 0x10,
        },
    ),
    // 13 and 14: 104 bytes, `flags` of 8 bits in `struct vm_page_astate`'s neighbourhood.
    (
        1_300_000,
        VmPage {
            size: 104,
            phys_addr: 48,
            flags: 94,
            nodump: 0x10,
        },
    ),
    // 10.4 and 12.1: 104 bytes, `flags` of 16 bits.
    (
        0,
        VmPage {
            size: 104,
            phys_addr: 48,
            flags: 90,
            nodump: 0x80,
        },
    ),
];

/// Sizes of `struct vm_phys_seg` on LP64: with and without `first_reserv`. `start` is at 0, `end`
/// at 8, `first_page` at 16 in both.
const VM_PHYS_SEGS: [u64; 2] = [48, 40];

/// More segments than any port has (`VM_PHYSSEG_MAX`).
const SEGS_LIMIT: u32 = 256;

/// One `struct vm_phys_seg`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seg {
    pages: Range<u64>,
    first_page: u64,
}

/// Answers whether a page may be dumped.
pub(super) struct Dumpable<'a> {
    memory: &'a dyn KernelMemory,
    dmaplimit: u64,
    segs: Vec<Seg>,
    layout: Option<VmPage>,
    /// The page of `vm_page_array` read last: its number, and its bytes if it could be read.
    cached: Option<(u64, Option<Box<[u8; PAGE_SIZE as usize]>>)>,
    /// Pages whose `struct vm_page` could not be read; they count as dumpable.
    pub(super) unread: u64,
}

impl<'a> Dumpable<'a> {
    /// Reads `vm_phys_segs` and finds the layout. What is missing is said in `notes`.
    pub(super) fn new(
        variables: Variables<'a>,
        osreldate: u32,
        dmaplimit: u64,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut this = Self {
            memory: variables.memory,
            dmaplimit,
            segs: Vec::new(),
            layout: None,
            cached: None,
            unread: 0,
        };
        let array = variables
            .find("vm_page_array")
            .and_then(|at| variables.u64_at("vm_page_array", at).ok());
        if array.is_none_or(|array| array == 0) {
            notes.push("no vm_page_array: all of dump_avail counts as dumpable".into());
            return this;
        }
        let (Some(segs), Some(count)) = (
            variables.find("vm_phys_segs"),
            variables
                .find("vm_phys_nsegs")
                .and_then(|at| variables.u32_at("vm_phys_nsegs", at).ok())
                .filter(|count| *count <= SEGS_LIMIT),
        ) else {
            notes.push("no vm_phys_segs: pages marked PG_NODUMP are in the dump".into());
            return this;
        };
        for size in VM_PHYS_SEGS.into_iter().filter(|_| osreldate != 0) {
            let Some(segs) = read_segs(&variables, segs, count, size) else {
                continue;
            };
            this.segs = segs;
            let known = VM_PAGES.iter().filter(|(since, _)| *since <= osreldate);
            for (_, layout) in known {
                if this.fits(layout) {
                    this.layout = Some(*layout);
                    return this;
                }
            }
        }
        this.segs.clear();
        notes.push(
            "struct vm_page is not as in any known release: pages marked PG_NODUMP are in the dump"
                .into(),
        );
        this
    }

    /// Whether under `layout` the first, middle and last page of every segment knows its address.
    fn fits(&mut self, layout: &VmPage) -> bool {
        let samples = self
            .segs
            .iter()
            .flat_map(|seg| {
                let count = (seg.pages.end - seg.pages.start) / PAGE_SIZE;
                [0, 1, count / 3, count / 2, count.saturating_sub(1)]
                    .into_iter()
                    .filter(move |index| *index < count)
                    .map(|index| (seg.pages.start + index * PAGE_SIZE, seg.first_page, index))
            })
            .collect::<Vec<_>>();
        !samples.is_empty()
            && samples.into_iter().all(|(pa, first, index)| {
                let at = first
                    .wrapping_add(index.wrapping_mul(layout.size))
                    .wrapping_add(layout.phys_addr);
                let mut bytes = [0; 8];
                self.memory.read_virt(VirtAddr(at), &mut bytes).is_ok()
                    && u64::from_le_bytes(bytes) == pa
            })
    }

    /// Whether the page at `pa`, which is in `dump_avail`, may be dumped.
    pub(super) fn allows(&mut self, pa: u64) -> bool {
        if self.dmaplimit != 0 && pa >= self.dmaplimit {
            return false;
        }
        let Some(layout) = self.layout else {
            return true;
        };
        let after = self.segs.partition_point(|seg| seg.pages.end <= pa);
        let Some(seg) = self.segs.get(after).filter(|seg| seg.pages.contains(&pa)) else {
            return true;
        };
        let index = (pa - seg.pages.start) / PAGE_SIZE;
        let at = seg
            .first_page
            .wrapping_add(index.wrapping_mul(layout.size))
            .wrapping_add(layout.flags);
        match self.byte(at) {
            Some(flags) => flags & layout.nodump == 0,
            None => {
                self.unread += 1;
                true
            }
        }
    }

    /// Whether the page at `pa` has a `struct vm_page`.
    pub(super) fn has_page(&self, pa: u64) -> bool {
        let after = self.segs.partition_point(|seg| seg.pages.end <= pa);
        self.segs
            .get(after)
            .is_some_and(|seg| seg.pages.contains(&pa))
    }

    /// Whether there is anything to ask: without it every page below `dmaplimit` is dumpable.
    pub(super) fn knows_pages(&self) -> bool {
        self.layout.is_some()
    }

    fn byte(&mut self, at: u64) -> Option<u8> {
        let number = at / PAGE_SIZE;
        if self.cached.as_ref().is_none_or(|(n, _)| *n != number) {
            let mut page = Box::new([0; PAGE_SIZE as usize]);
            let read = self
                .memory
                .read_virt(VirtAddr(number * PAGE_SIZE), page.as_mut_slice());
            self.cached = Some((number, read.is_ok().then_some(page)));
        }
        let (_, page) = self.cached.as_ref()?;
        Some(page.as_ref()?[(at % PAGE_SIZE) as usize])
    }
}

/// The segments under one size of the structure, if they make sense: ascending, not empty, of
/// whole pages, their first page in the kernel's half of the address space.
fn read_segs(variables: &Variables<'_>, at: u64, count: u32, size: u64) -> Option<Vec<Seg>> {
    let mut segs = Vec::<Seg>::new();
    for index in 0..u64::from(count) {
        let at = at.checked_add(index * size)?;
        let mut bytes = [0; 24];
        variables.bytes("vm_phys_segs", at, &mut bytes).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [start, end, first_page] = [0, 1, 2].map(|i: usize| u64::from_le_bytes(words[i]));
        let floor = segs.last().map_or(0, |seg| seg.pages.end);
        let whole = start.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE);
        if !whole || start < floor || start >= end || first_page >> 63 == 0 {
            return None;
        }
        segs.push(Seg {
            pages: start..end,
            first_page,
        });
    }
    (!segs.is_empty()).then_some(segs)
}
