//! Which pages a kernel would dump (`vm_phys_is_dumpable`, and `PHYS_IN_DMAP` before it).
//!
//! A page with a `struct vm_page` is dumped unless that says PG_NODUMP; others are dumped because
//! they are in `dump_avail`. The structure's layout is nowhere exported. The kernel's type
//! information tells it (CTF, DWARF), or it is one of those of known releases. Neither is believed
//! before memory agrees: under the right layout `vm_page.phys_addr` is the page's address, for every
//! page.

use std::ops::Range;

use livecore_kernel::Types;
use livecore_kernel::locate::Variables;
use livecore_minidump::{ByteOrder, KernelMemory, VirtAddr};

/// A layout of `struct vm_page`: the fields that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct VmPage {
    /// `sizeof`
    size: u64,
    /// Offset of `phys_addr`.
    phys_addr: u64,
    /// Offset of `flags`.
    flags: u64,
    /// `PG_NODUMP`, in the low byte of `flags`.
    nodump: u8,
}

const fn vm_page(size: u64, phys_addr: u64, flags: u64, nodump: u8) -> VmPage {
    VmPage {
        size,
        phys_addr,
        flags,
        nodump,
    }
}

/// What a kernel's structures depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    /// Whether its pointers have 8 bytes.
    pub(super) is_64: bool,
    /// Bytes of its `vm_paddr_t`.
    pub(super) paddr: usize,
}

const LP64: Model = Model {
    is_64: true,
    paddr: 8,
};
const ILP32: Model = Model {
    is_64: false,
    paddr: 8,
};
const ILP32_NO_PAE: Model = Model {
    is_64: false,
    paddr: 4,
};

/// Known layouts, with the lowest `osreldate` that each is looked for in. Those of 32-bit kernels
/// are computed from the field lists; none was held against debug information.
const VM_PAGES: [(u32, Model, VmPage); 7] = [
    // 15: no `listq`.
    (1_400_000, LP64, vm_page(88, 32, 78, 0x10)),
    (1_400_000, ILP32, vm_page(60, 20, 54, 0x10)),
    // 13 and 14: `flags` of 8 bits behind `struct vm_page_astate`.
    (1_300_000, LP64, vm_page(104, 48, 94, 0x10)),
    (1_300_000, ILP32, vm_page(68, 28, 62, 0x10)),
    // 10.4 and 12.1: `flags` of 16 bits.
    (0, LP64, vm_page(104, 48, 90, 0x80)),
    (0, ILP32, vm_page(72, 28, 58, 0x80)),
    (0, ILP32_NO_PAE, vm_page(68, 28, 54, 0x80)),
];

/// Sizes of `struct vm_phys_seg`, with and without `first_reserv`, on arm64 with `md_first` too,
/// and the offset of `first_page`. `start` is at 0, `end` behind it.
const VM_PHYS_SEGS: [(Model, u64, usize); 7] = [
    (LP64, 48, 16),
    (LP64, 40, 16),
    (LP64, 56, 16),
    (ILP32, 32, 16),
    (ILP32, 28, 16),
    (ILP32_NO_PAE, 20, 8),
    (ILP32_NO_PAE, 24, 8),
];

/// The layout that the kernel's type information tells. `PG_NODUMP` is no type: it was 0x80 as long
/// as `flags` had 16 bits, and is 0x10 since they have 8.
fn vm_page_of(types: &Types, model: Model) -> Option<VmPage> {
    let page = types.structure("vm_page")?;
    let (phys_addr, flags) = (page.member("phys_addr")?, page.member("flags")?);
    let nodump = match flags.size {
        1 => 0x10,
        2 => 0x80,
        _ => return None,
    };
    let inside = |end: u64| end <= page.size && page.size <= 4096;
    let right = phys_addr.size == model.paddr as u64
        && inside(phys_addr.offset.checked_add(phys_addr.size)?)
        && inside(flags.offset.checked_add(flags.size)?);
    right.then(|| vm_page(page.size, phys_addr.offset, flags.offset, nodump))
}

/// `sizeof(struct vm_phys_seg)` and the offset of `first_page`, by the kernel's type information.
fn vm_phys_seg_of(types: &Types, model: Model) -> Option<(u64, usize)> {
    let seg = types.structure("vm_phys_seg")?;
    let (start, end) = (seg.member("start")?, seg.member("end")?);
    let first_page = seg.member("first_page")?.offset;
    // What is read of it are its first 24 bytes.
    let right = start.offset == 0
        && end.offset == model.paddr as u64
        && first_page <= 16
        && (24..=4096).contains(&seg.size.max(24));
    right.then_some((seg.size, first_page as usize))
}

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
    phys_in_dmap: Range<u64>,
    page_size: u64,
    model: Model,
    segs: Vec<Seg>,
    layout: Option<VmPage>,
    /// The page of `vm_page_array` read last: its number, and its bytes if it could be read.
    cached: Option<(u64, Option<Box<[u8]>>)>,
    /// Pages whose `struct vm_page` could not be read; they count as dumpable.
    pub(super) unread: u64,
}

impl<'a> Dumpable<'a> {
    /// By `dump_avail` and the direct map alone.
    pub(super) fn new(variables: Variables<'a>, phys_in_dmap: Range<u64>, model: Model) -> Self {
        Self {
            memory: variables.memory,
            phys_in_dmap,
            page_size: variables.memory.page_size(),
            model,
            segs: Vec::new(),
            layout: None,
            cached: None,
            unread: 0,
        }
    }

    /// By `struct vm_page` too: reads `vm_phys_segs` and finds the layout. What is missing is said
    /// in `notes`.
    pub(super) fn find_pages(
        &mut self,
        variables: Variables<'a>,
        osreldate: u32,
        notes: &mut Vec<String>,
    ) {
        let model = self.model;
        let array = variables
            .find("vm_page_array")
            .and_then(|at| variables.long_at("vm_page_array", at).ok());
        if array.is_none_or(|array| array == 0) {
            notes.push("no vm_page_array: all of dump_avail counts as dumpable".into());
            return;
        }
        let (Some(segs), Some(count)) = (
            variables.find("vm_phys_segs"),
            variables
                .find("vm_phys_nsegs")
                .and_then(|at| variables.u32_at("vm_phys_nsegs", at).ok())
                .filter(|count| *count <= SEGS_LIMIT),
        ) else {
            notes.push("no vm_phys_segs: pages marked PG_NODUMP are in the dump".into());
            return;
        };
        // What the kernel's own type information says, then what is known of releases.
        let types = Types::read(variables.elf, &["vm_page", "vm_phys_seg"]);
        let told = vm_page_of(&types, model);
        let forms = VM_PHYS_SEGS.into_iter();
        let forms = forms.filter(|(of, ..)| osreldate != 0 && *of == model);
        let forms = forms.map(|(_, size, first_page)| (size, first_page));
        for (size, first_page) in vm_phys_seg_of(&types, model).into_iter().chain(forms) {
            let Some(segs) = self.read_segs(&variables, segs, count, size, first_page) else {
                continue;
            };
            self.segs = segs;
            let known = VM_PAGES.iter();
            let known = known
                .filter(|(since, of, _)| osreldate != 0 && *since <= osreldate && *of == model);
            for layout in told.iter().chain(known.map(|(_, _, layout)| layout)) {
                if self.fits(layout) {
                    self.layout = Some(*layout);
                    return;
                }
            }
        }
        self.segs.clear();
        notes.push(
            "struct vm_page is neither as the kernel's type information says nor as in any known \
             release: pages marked PG_NODUMP are in the dump"
                .into(),
        );
    }

    /// Whether under `layout` the first, middle and last page of every segment knows its address.
    fn fits(&self, layout: &VmPage) -> bool {
        let page = self.page_size;
        let samples = self
            .segs
            .iter()
            .flat_map(|seg| {
                let count = (seg.pages.end - seg.pages.start) / page;
                [0, 1, count / 3, count / 2, count.saturating_sub(1)]
                    .into_iter()
                    .filter(move |index| *index < count)
                    .map(move |index| (seg.pages.start + index * page, seg.first_page, index))
            })
            .collect::<Vec<_>>();
        !samples.is_empty()
            && samples.into_iter().all(|(pa, first, index)| {
                let at = first
                    .wrapping_add(index.wrapping_mul(layout.size))
                    .wrapping_add(layout.phys_addr);
                let mut bytes = [0; 8];
                let field = &mut bytes[..self.model.paddr];
                self.memory.read_virt(VirtAddr(at), field).is_ok()
                    && u64::from_le_bytes(bytes) == pa
            })
    }

    /// Whether the page at `pa`, which is in `dump_avail`, may be dumped.
    pub(super) fn allows(&mut self, pa: u64) -> bool {
        if !self.phys_in_dmap.contains(&pa) {
            return false;
        }
        let Some(layout) = self.layout else {
            return true;
        };
        let after = self.segs.partition_point(|seg| seg.pages.end <= pa);
        let Some(seg) = self.segs.get(after).filter(|seg| seg.pages.contains(&pa)) else {
            return true;
        };
        let index = (pa - seg.pages.start) / self.page_size;
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

    /// Whether there is anything to ask: without it every page of the direct map is dumpable.
    pub(super) fn knows_pages(&self) -> bool {
        self.layout.is_some()
    }

    fn byte(&mut self, at: u64) -> Option<u8> {
        let number = at / self.page_size;
        if self.cached.as_ref().is_none_or(|(n, _)| *n != number) {
            let mut page = vec![0; self.page_size as usize];
            let read = self
                .memory
                .read_virt(VirtAddr(number * self.page_size), &mut page);
            self.cached = Some((number, read.is_ok().then(|| page.into())));
        }
        let (_, page) = self.cached.as_ref()?;
        Some(page.as_ref()?[(at % self.page_size) as usize])
    }

    /// The segments under one size of the structure, if they make sense: ascending, not empty, of
    /// whole pages, their first page in the kernel's part of the address space.
    fn read_segs(
        &self,
        variables: &Variables<'_>,
        at: u64,
        count: u32,
        size: u64,
        first_page: usize,
    ) -> Option<Vec<Seg>> {
        let mut segs = Vec::<Seg>::new();
        for index in 0..u64::from(count) {
            let at = at.checked_add(index * size)?;
            let mut bytes = [0; 24];
            variables.bytes("vm_phys_segs", at, &mut bytes).ok()?;
            let order = ByteOrder::Little;
            let paddr = self.model.paddr;
            // The fields end within the first 24 bytes.
            let start = order.uint(&bytes[..paddr])?;
            let end = order.uint(&bytes[paddr..2 * paddr])?;
            let pointer = if self.model.is_64 { 8 } else { 4 };
            let first_page = order.uint(&bytes[first_page..first_page + pointer])?;
            let floor = segs.last().map_or(0, |seg| seg.pages.end);
            let whole = start.is_multiple_of(self.page_size) && end.is_multiple_of(self.page_size);
            let kernel = first_page != 0 && (!self.model.is_64 || first_page >> 63 == 1);
            if !whole || start < floor || start >= end || !kernel {
                return None;
            }
            segs.push(Seg {
                pages: start..end,
                first_page,
            });
        }
        (!segs.is_empty()).then_some(segs)
    }
}
