//! The kernel's variables, read before the plan.

pub(super) mod avail;
pub(super) mod facts;
mod msgbuf;
pub(super) mod page_dump;

use std::ops::Range;

use livecore_defs::vm_page::Model;
use livecore_kernel::VmPages;
use livecore_kernel::locate::{Machine, bitmap_follows_dump_avail};
use livecore_minidump::mmu::Root;
use livecore_minidump::{DumpAvail, KernelElf, PhysAddr, VirtAddr};

use super::error::TakeError;
use super::marks::Marks;
use super::note::Note;
use super::port::{self, Port};
use facts::Facts;
use msgbuf::Ring;

/// The number of pages in use by which a layout of `struct vm_page` is checked, in each segment.
const SAMPLES: u64 = 16;

/// The kernel's variables.
pub(super) struct KernelState {
    /// The minidump format of the architecture.
    pub(super) port: &'static dyn Port,
    /// Version, host name, panic, time.
    pub(super) facts: Facts,
    /// `dump_avail`.
    pub(super) avail: DumpAvail,
    /// Whether the bits of the kernel's own bitmap follow `dump_avail`.
    pub(super) follows_avail: bool,
    /// `vm_page_array`, if the kernel checks it and its layout is known.
    pub(super) vm_pages: Option<VmPages>,
    /// The addresses of the kernel map.
    pub(super) kernel_map: Range<VirtAddr>,
    /// The root of the page tables.
    pub(super) root: Root,
    /// The first address of `crashdumpmap`.
    pub(super) crashdumpmap: Option<VirtAddr>,
    /// The message buffer.
    pub(super) msgbuf: Ring,
    /// Notes for the user about missing data.
    pub(super) notes: Vec<Note>,
}

impl KernelState {
    /// Reads the variables, and the pages that the kernel has marked, without those of the kernel
    /// map.
    pub(super) fn read(machine: &Machine, elf: &KernelElf) -> Result<(Self, Marks), TakeError> {
        let mut notes = Vec::new();
        let (kernel, page_size) = (&machine.kernel(elf), machine.page_size());
        let port = port::of(machine.arch)?;
        let facts = Facts::read(kernel, &mut notes)?;
        let follows_avail = bitmap_follows_dump_avail(elf);
        let memory = machine.view.memory();
        let top = match memory.ranges().last() {
            // The kernel has more memory than the image.
            _ if memory.is_partial() => PhysAddr::MAX,
            last => last.map_or(PhysAddr(0), |range| range.end),
        };
        let paddr_sizes = if follows_avail {
            &[8][..]
        } else {
            port.old_paddr_sizes(machine.located.paging)
        };
        let (avail, paddr) = avail::dump_avail(kernel, top, paddr_sizes, page_size)?;
        let is_partial = memory.is_partial();
        let marks = page_dump::read(kernel, &avail, page_size, is_partial, &mut notes)?;
        let model = Model {
            is_64: elf.is_64(),
            paddr,
        };
        let vm_pages = if port.asks_pages(follows_avail) {
            let in_use = |pages: Range<PhysAddr>| {
                let sample = marks.sample(pages.start.0..pages.end.0, SAMPLES);
                sample.into_iter().map(PhysAddr).collect()
            };
            VmPages::find(kernel, model, facts.osreldate, &in_use)
                .map_err(|why| notes.push(why.into()))
                .ok()
        } else {
            None
        };
        let (kernel_map, root) = machine.kernel_map(elf)?;
        let state = Self {
            port,
            avail,
            follows_avail,
            vm_pages,
            kernel_map,
            root: root.clone(),
            crashdumpmap: kernel.pointer("crashdumpmap").ok(),
            msgbuf: msgbuf::read(kernel, page_size, is_partial, &mut notes)?,
            facts,
            notes,
        };
        Ok((state, marks))
    }
}
