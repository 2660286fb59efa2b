//! A kernel's `struct vm_page` array: its pages and their flags.
//!
//! The structure's layout is not exported. It comes from the kernel's type information (CTF,
//! DWARF), or is one of known releases. It is checked against memory: with the correct layout
//! `vm_page.phys_addr` is the page's address, for every initialized page.

use std::ops::Range;

use livecore_defs::vm_page::{
    Model, PG_NODUMP_8, PG_NODUMP_16, VM_PAGES, VM_PHYS_SEGS, VM_PHYSSEG_LIMIT, VmPage, VmPhysSeg,
};
use livecore_minidump::{ByteOrder, KernelMemory, PhysAddr, VirtAddr};

use crate::kernel::Kernel;
use crate::types::Types;

/// The segments of the array, and the layout of its elements.
#[derive(Debug)]
pub struct VmPages {
    /// Sorted.
    segs: Vec<Seg>,
    layout: VmPage,
    page_size: u64,
}

/// Why the flags of pages are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoVmPages {
    /// The kernel has no `vm_page_array`.
    Array,
    /// The kernel has no `vm_phys_segs`.
    Segments,
    /// The layout of `struct vm_page` is unknown.
    Layout,
}

/// A `struct vm_phys_seg`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seg {
    pages: Range<u64>,
    /// The address of the `struct vm_page` of its first page.
    first_page: u64,
}

impl VmPages {
    /// Reads `vm_phys_segs` and finds the layout, for a kernel with the version `osreldate`; 0 if it
    /// is not known. `in_use` returns some pages of a range that the kernel uses: a page that is
    /// mapped, or in the kernel's bitmap.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn find(
        kernel: &Kernel<'_>,
        model: Model,
        osreldate: u32,
        in_use: &dyn Fn(Range<PhysAddr>) -> Vec<PhysAddr>,
    ) -> Result<Self, NoVmPages> {
        let array = kernel.pointer("vm_page_array").ok();
        if array.is_none_or(|array| array == VirtAddr(0)) {
            return Err(NoVmPages::Array);
        }
        let (Some(segs), Some(count)) = (
            kernel.address("vm_phys_segs").ok(),
            (kernel.variable("vm_phys_nsegs", 4).ok())
                .filter(|count| *count <= u64::from(VM_PHYSSEG_LIMIT)),
        ) else {
            return Err(NoVmPages::Segments);
        };
        // Try the kernel's type information, then known releases.
        let types = Types::read(kernel.elf(), &["vm_page", "vm_phys_seg"]);
        let of_types = vm_page_of(&types, model);
        let forms = VM_PHYS_SEGS.into_iter();
        let forms = forms.filter(|(of, _)| osreldate != 0 && *of == model);
        let forms = forms.map(|(_, form)| form);
        for form in vm_phys_seg_of(&types, model).into_iter().chain(forms) {
            let Some(segs) = read_segs(kernel, segs, count, form, model) else {
                continue;
            };
            let known = VM_PAGES.iter();
            let known = known
                .filter(|(since, of, _)| osreldate != 0 && *since <= osreldate && *of == model);
            let mut layouts = of_types.iter().chain(known.map(|(_, _, layout)| layout));
            if let Some(layout) =
                layouts.find(|layout| fits(kernel.memory(), &segs, layout, model, in_use))
            {
                return Ok(Self {
                    segs,
                    layout: *layout,
                    page_size: kernel.memory().page_size(),
                });
            }
        }
        Err(NoVmPages::Layout)
    }

    /// The physical addresses of the segments, ascending, with the address of their first `struct vm_page`.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (Range<u64>, u64)> + '_ {
        self.segs
            .iter()
            .map(|seg| (seg.pages.clone(), seg.first_page))
    }

    /// The size of a `struct vm_page`.
    pub(crate) fn size(&self) -> u64 {
        self.layout.size
    }

    /// The address of the flags of the page at `pa`; `None` if it has no `struct vm_page`.
    pub fn flags(&self, pa: PhysAddr) -> Option<VirtAddr> {
        let pa = pa.0;
        let after = self.segs.partition_point(|seg| seg.pages.end <= pa);
        let seg = self.segs.get(after).filter(|seg| seg.pages.contains(&pa))?;
        let index = (pa - seg.pages.start) / self.page_size;
        let at = element(seg, index, &self.layout).wrapping_add(self.layout.flags);
        Some(VirtAddr(at))
    }

    /// Whether the kernel set `PG_NODUMP` of the page at `pa`; `None` if it has no `struct vm_page` or
    /// that is not in `memory`.
    pub fn is_nodump(&self, memory: &dyn KernelMemory, pa: PhysAddr) -> Option<bool> {
        let mut flags = [0];
        memory.read_virt(self.flags(pa)?, &mut flags).ok()?;
        Some(flags[0] & self.nodump() != 0)
    }

    /// `PG_NODUMP`, in the first byte of a page's flags.
    pub fn nodump(&self) -> u8 {
        self.layout.nodump
    }
}

/// The address of the `struct vm_page` of page `index` of `seg`.
fn element(seg: &Seg, index: u64, layout: &VmPage) -> u64 {
    seg.first_page.wrapping_add(index.wrapping_mul(layout.size))
}

/// The layout in the kernel's type information. `PG_NODUMP` is not in it: it was 0x80 when `flags`
/// had 16 bits, and is 0x10 with 8 bits.
fn vm_page_of(types: &Types, model: Model) -> Option<VmPage> {
    let page = types.structure("vm_page")?;
    let (phys_addr, flags) = (page.member("phys_addr")?, page.member("flags")?);
    let nodump = match flags.size {
        1 => PG_NODUMP_8,
        2 => PG_NODUMP_16,
        _ => return None,
    };
    let inside = |end: u64| end <= page.size && page.size <= 4096;
    let right = phys_addr.size == model.paddr as u64
        && inside(phys_addr.offset.checked_add(phys_addr.size)?)
        && inside(flags.offset.checked_add(flags.size)?);
    right.then_some(VmPage {
        size: page.size,
        phys_addr: phys_addr.offset,
        flags: flags.offset,
        nodump,
    })
}

/// The layout of `struct vm_phys_seg` in the kernel's type information.
fn vm_phys_seg_of(types: &Types, model: Model) -> Option<VmPhysSeg> {
    let seg = types.structure("vm_phys_seg")?;
    let (start, end) = (seg.member("start")?, seg.member("end")?);
    let first_page = seg.member("first_page")?.offset;
    // Only its first 24 bytes are used.
    let right = start.offset == 0
        && end.offset == model.paddr as u64
        && first_page <= 16
        && (24..=4096).contains(&seg.size.max(24));
    right.then_some(VmPhysSeg {
        size: seg.size,
        first_page: first_page as usize,
    })
}

/// The address in the `struct vm_page` of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageAddress {
    /// The page's own address.
    Right,
    /// Another one.
    Wrong,
    /// Zeros or garbage: the kernel has not initialized it.
    Nothing,
}

/// Whether `layout` fits the segments.
///
/// A kernel of 15.0 initializes most of the array while it runs; other entries contain zeros or
/// garbage. The first page of every segment and all pages in use, as in the kernel's bitmap, have
/// entries: none of these may have another address. Of other pages those with a correct address
/// count; one after a first page proves the size.
fn fits(
    memory: &dyn KernelMemory,
    segs: &[Seg],
    layout: &VmPage,
    model: Model,
    in_use: &dyn Fn(Range<PhysAddr>) -> Vec<PhysAddr>,
) -> bool {
    let page = memory.page_size();
    let address_in = |seg: &Seg, index: u64| {
        let at = element(seg, index, layout);
        let mut bytes = [0; 8];
        let field = &mut bytes[..model.paddr];
        let address = VirtAddr(at.wrapping_add(layout.phys_addr));
        if memory.read_virt(address, field).is_err() {
            return PageAddress::Wrong;
        }
        if u64::from_le_bytes(bytes) == seg.pages.start + index * page {
            return PageAddress::Right;
        }
        let mut all = vec![0; layout.size as usize];
        let read = memory.read_virt(VirtAddr(at), &mut all);
        match read.is_ok() && all.iter().all(|byte| *byte == 0) {
            true => PageAddress::Nothing,
            false => PageAddress::Wrong,
        }
    };
    let (mut beyond_first, mut proofs) = (false, 0);
    for seg in segs {
        let count = (seg.pages.end - seg.pages.start) / page;
        if address_in(seg, 0) != PageAddress::Right {
            return false;
        }
        let used = in_use(PhysAddr(seg.pages.start)..PhysAddr(seg.pages.end));
        let used = used.into_iter().filter(|pa| seg.pages.contains(&pa.0));
        let used = used.map(|pa| (pa.0 - seg.pages.start) / page);
        let others = [1, count / 3, count / 2, count - 1];
        let others = others
            .into_iter()
            .filter(|index| (1..count).contains(index));
        beyond_first |= count > 1;
        for (index, is_used) in used
            .map(|index| (index, true))
            .chain(others.map(|index| (index, false)))
        {
            match address_in(seg, index) {
                PageAddress::Right => proofs += u32::from(index > 0),
                PageAddress::Wrong if is_used => return false,
                PageAddress::Wrong | PageAddress::Nothing => {}
            }
        }
    }
    !segs.is_empty() && (proofs > 0 || !beyond_first)
}

/// The segments with one layout of the structure, if they are valid: sorted, not empty, complete
/// pages, with their first page in the kernel's part of the address space.
fn read_segs(
    kernel: &Kernel<'_>,
    at: VirtAddr,
    count: u64,
    form: VmPhysSeg,
    model: Model,
) -> Option<Vec<Seg>> {
    let mut segs = Vec::<Seg>::new();
    let page = kernel.memory().page_size();
    for index in 0..count {
        let at = at.checked_add(index * form.size)?;
        let mut bytes = [0; 24];
        kernel.bytes_at("vm_phys_segs", at, &mut bytes).ok()?;
        let order = ByteOrder::Little;
        let paddr = model.paddr;
        // The fields end within the first 24 bytes.
        let start = order.uint(&bytes[..paddr])?;
        let end = order.uint(&bytes[paddr..2 * paddr])?;
        let pointer = if model.is_64 { 8 } else { 4 };
        let first_page = order.uint(&bytes[form.first_page..form.first_page + pointer])?;
        let floor = segs.last().map_or(0, |seg| seg.pages.end);
        let whole = start.is_multiple_of(page) && end.is_multiple_of(page);
        let kernel = first_page != 0 && (!model.is_64 || first_page >> 63 == 1);
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
