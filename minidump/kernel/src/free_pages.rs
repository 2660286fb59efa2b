//! Finds free pages, in the buddy allocator of FreeBSD `sys/vm/vm_phys.c`.
//!
//! The first page of a free block of 2^n pages has `order` n. `vm_page_init` and `vm_phys_alloc_*` set
//! `order` of all other pages to `VM_NFREEORDER`. Free pages in the caches of CPUs and in partial
//! reservations are not in a block, and are not found.

use std::ops::Range;

use livecore_defs::vm_page::{ILP32, ILP32_NO_PAE, LP64};
use livecore_minidump::{ByteOrder, DumpMemory, PhysAddr, VirtAddr};

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::structure::Member;
use crate::vm_pages::VmPages;

/// The structure that the search reads.
const STRUCTURE: &str = "vm_page";
/// `VM_NFREEORDER` is lower in all kernels.
const ORDERS: u64 = 32;
/// Maximum number of bytes of `vm_page_array` to read at a time.
const CHUNK: u64 = 1 << 16;
/// Number of pages by which a layout of `struct vm_page` is checked, in each segment.
const SAMPLES: usize = 16;

/// The members of `struct vm_page`.
struct Layout {
    byte_order: ByteOrder,
    size: u64,
    phys_addr: Member,
    object: Member,
    references: Member,
    order: Member,
}

/// The state of a page.
struct State {
    order: u64,
    is_used: bool,
}

impl Layout {
    fn of(kernel: &Kernel<'_>) -> Result<Self, KernelError> {
        let types = kernel.types().and_then(|types| types.structure(STRUCTURE));
        let missing = |member: &str| KernelError::NoMember(format!("{STRUCTURE}.{member}"));
        let types = types.ok_or_else(|| missing("order"))?;
        let member = |name: &str| {
            let member = types.member(name);
            let inside = member.filter(|member| {
                let end = member.offset.checked_add(member.size);
                (1..=8).contains(&member.size) && end.is_some_and(|end| end <= types.size)
            });
            inside.ok_or_else(|| missing(name))
        };
        Ok(Self {
            byte_order: kernel.elf().order(),
            size: types.size,
            phys_addr: member("phys_addr")?,
            object: member("object")?,
            references: member("ref_count")?,
            order: member("order")?,
        })
    }

    /// The state in the `struct vm_page` of the page at `pa`. `None` if the kernel has not initialized it.
    fn state(&self, bytes: &[u8], pa: u64) -> Option<State> {
        let value = |member: Member| {
            let at = usize::try_from(member.offset).ok()?;
            self.byte_order
                .uint_at(bytes, at, usize::try_from(member.size).ok()?)
        };
        let is_used = value(self.object)? != 0 || value(self.references)? != 0;
        let order = value(self.order)?;
        (value(self.phys_addr)? == pa).then_some(State { order, is_used })
    }
}

/// Returns the frame numbers of the free pages of `memory`, ascending. `kernel` needs the type `vm_page`
/// ([`Kernel::detailed_with`]).
///
/// # Errors
///
/// [`KernelError::NoMember`] if the kernel has no type information, or no `vm_page_array`.
pub fn free_pages(
    kernel: &Kernel<'_>,
    memory: &dyn DumpMemory,
) -> Result<Vec<Range<u64>>, KernelError> {
    let layout = Layout::of(kernel)?;
    let models = match kernel.elf().is_64() {
        true => &[LP64][..],
        false => &[ILP32, ILP32_NO_PAE],
    };
    let in_use = |pages: Range<PhysAddr>| sample(memory, &pages);
    let release = kernel.osreldate().unwrap_or(0);
    let pages = (models.iter())
        .find_map(|model| VmPages::find(kernel, *model, release, &in_use).ok())
        .filter(|pages| pages.size() == layout.size)
        .ok_or_else(|| KernelError::NoMember("vm_page_array".into()))?;
    // `order` of a page that is not the first of a free block.
    let mut none = None;
    each(kernel, &pages, &layout, &mut |_, state, _| {
        if state.is_used {
            none = none.max(Some(state.order));
        }
    });
    let none = none.filter(|none| *none < ORDERS).unwrap_or(0);
    let mut blocks: Vec<Range<u64>> = Vec::new();
    each(kernel, &pages, &layout, &mut |frame, state, end| {
        if !state.is_used && state.order < none && frame.is_multiple_of(1 << state.order) {
            let block = frame..end.min(frame + (1 << state.order));
            match blocks.last_mut() {
                Some(last) if last.end >= block.start => last.end = last.end.max(block.end),
                _ => blocks.push(block),
            }
        }
    });
    Ok(blocks)
}

/// Calls `sink` with the frame number and the state of every page whose `struct vm_page` is initialized and
/// can be read, and with the end of its segment.
fn each(
    kernel: &Kernel<'_>,
    pages: &VmPages,
    layout: &Layout,
    sink: &mut dyn FnMut(u64, State, u64),
) {
    let page = kernel.memory().page_size();
    let together = (CHUNK / layout.size).max(1);
    let mut bytes = vec![0; (together * layout.size) as usize];
    for (range, first) in pages.segments() {
        let count = (range.end - range.start) / page;
        for start in (0..count).step_by(together as usize) {
            let n = together.min(count - start);
            let at = VirtAddr(first.wrapping_add(start.wrapping_mul(layout.size)));
            let piece = &mut bytes[..(n * layout.size) as usize];
            if kernel.memory().read_virt(at, piece).is_err() {
                continue;
            }
            for (index, element) in piece.chunks_exact(layout.size as usize).enumerate() {
                let pa = range.start + (start + index as u64) * page;
                if let Some(state) = layout.state(element, pa) {
                    sink(pa / page, state, range.end / page);
                }
            }
        }
    }
}

/// Some pages of `pages` that are in the dump.
fn sample(memory: &dyn DumpMemory, pages: &Range<PhysAddr>) -> Vec<PhysAddr> {
    let mut found = Vec::new();
    let mut at = pages.start;
    while at < pages.end && found.len() < SAMPLES {
        let run = memory.run_at(at);
        if run.present {
            found.push(at);
        }
        match run.end {
            Some(next) if next > at => at = next,
            _ => break,
        }
    }
    found
}
