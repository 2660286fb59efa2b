//! 64-bit Arm: pages of 4 or 16 KiB, four levels. The kernel's half has its own root.
//!
//! FreeBSD `sys/arm64/include/{vmparam.h,pte.h,pcb.h,frame.h}`, `sys/arm64/arm64/pmap.c`.

use std::ops::Range;

use crate::boot::Boot;
use crate::builder::Builder;
use crate::chains::{KTHREAD, Names};
use crate::code::{Code, word};
use crate::description::Description;
use crate::error::Error;
use crate::kernel::{Kernel, Variable};
use crate::layout::{Layout, PhysSegLayout, Release};
use crate::processor::{FrameAt, Processor, Registers, Space, Trap, TrapAt};
use crate::tables::Format;
use crate::truth::Prot;

/// The architecture, with one page size, with or without LPA2.
pub(crate) struct Arm64 {
    shifts: [u32; 4],
    index_bits: u32,
    lpa2: bool,
}

/// Pages of 4 KiB.
static ARM64_4K: Arm64 = Arm64 {
    shifts: [39, 30, 21, 12],
    index_bits: 9,
    lpa2: false,
};
/// Pages of 16 KiB.
static ARM64_16K: Arm64 = Arm64 {
    shifts: [47, 36, 25, 14],
    index_bits: 11,
    lpa2: false,
};
static ARM64_4K_LPA2: Arm64 = Arm64 {
    lpa2: true,
    ..ARM64_4K
};
static ARM64_16K_LPA2: Arm64 = Arm64 {
    lpa2: true,
    ..ARM64_16K
};

/// Returns the port of a description's machine.
pub(super) fn of(description: &Description) -> &'static Arm64 {
    match (description.page_size(), description.kernel.lpa2) {
        (4096, false) => &ARM64_4K,
        (4096, true) => &ARM64_4K_LPA2,
        (_, false) => &ARM64_16K,
        (_, true) => &ARM64_16K_LPA2,
    }
}

const TABLE: u64 = 3;
const BLOCK: u64 = 1;
const PAGE: u64 = 3;
/// Access flag, normal memory.
const ATTRS: u64 = AF | 2 << 2;
/// Inner shareable. With LPA2, these are bits 51 and 50 of the address.
const SHARED: u64 = 3 << 8;
const AF: u64 = 1 << 10;
const AP_USER: u64 = 1 << 6;
const AP_RO: u64 = 1 << 7;
const NG: u64 = 1 << 11;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const ADDRESS: u64 = 0x0003_ffff_ffff_f000;

const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_0000_0000_0000;
const DMAP_MIN: u64 = 0xffff_a000_0000_0000;
const DMAP_MAX: u64 = 0xffff_ff00_0000_0000;
const USER_END: u64 = 0x0001_0000_0000_0000;
const MIB2: u64 = 2 << 20;

/// `sizeof(struct trapframe)`. On the stack a frame record follows it.
const TRAP_FRAME: u64 = 288;

const L1: usize = 1;
const L2: usize = 2;
const L3: usize = 3;

impl Format for Arm64 {
    fn shifts(&self) -> &'static [u32] {
        &self.same().shifts
    }

    fn va_bits(&self) -> u32 {
        48
    }

    fn index_bits(&self) -> u32 {
        self.index_bits
    }

    fn table(&self, pa: u64) -> u64 {
        self.address(pa) | TABLE
    }

    fn next(&self, level: usize, entry: u64) -> Option<u64> {
        let high = if self.lpa2 { (entry & SHARED) << 42 } else { 0 };
        (level != L3 && entry & 3 == TABLE).then_some(entry & ADDRESS | high)
    }

    fn user(&self, entry: u64) -> u64 {
        if entry & AF == 0 {
            return entry;
        }
        let kernel_only = entry & PXN != 0;
        let entry = entry & !UXN | PXN | AP_USER | NG;
        if kernel_only { entry | UXN } else { entry }
    }

    fn leaf(&self, level: usize, pa: u64, prot: Prot) -> u64 {
        let shared = if self.lpa2 { 0 } else { SHARED };
        let kind = if level == L3 { PAGE } else { BLOCK };
        let mut entry = self.address(pa) | ATTRS | shared | UXN | kind;
        if !prot.write {
            entry |= AP_RO;
        }
        if !prot.execute {
            entry |= PXN;
        }
        entry
    }
}

impl Arm64 {
    fn page(&self) -> u64 {
        1 << self.shifts[L3]
    }

    /// The static value that equals this one.
    fn same(&self) -> &'static Self {
        match (self.index_bits, self.lpa2) {
            (9, false) => &ARM64_4K,
            (9, true) => &ARM64_4K_LPA2,
            (_, false) => &ARM64_16K,
            (_, true) => &ARM64_16K_LPA2,
        }
    }

    /// The address `pa` in an entry: bits 51 and 50 are in bits 9 and 8.
    fn address(&self, pa: u64) -> u64 {
        pa & ADDRESS | pa >> 42 & SHARED
    }

    /// Returns the bytes that one entry of `level` maps.
    fn span(&self, level: usize) -> u64 {
        1 << self.shifts[level]
    }
}

impl Processor for Arm64 {
    fn format(&self) -> &'static dyn Format {
        self.same()
    }

    fn code(&self) -> &'static Code {
        &CODE
    }

    fn names(&self, _: &Description) -> &'static Names {
        &NAMES
    }

    fn layout(&self, release: Release) -> Layout {
        // Differs from amd64 in the location and size of a pcb, and in `struct vm_phys_seg`.
        Layout {
            phys_seg: PhysSegLayout {
                size: 56,
                first_page: 16,
                domain: 40,
            },
            pcb_size: 0x4b0,
            ..Layout::pcb_on_stack(release)
        }
    }

    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>> {
        // The device tree, and the memory of EFI runtime services.
        let first = ram.first().map_or(0..0, Clone::clone);
        vec![
            first.start..first.start + 0x10000,
            first.end - 0x40000..first.end,
        ]
    }

    fn space(&self, ram: &[Range<u64>], _: &Description) -> Space {
        Space {
            page_size: self.page(),
            vm_min: VM_MIN_KERNEL_ADDRESS,
            kernbase: VM_MIN_KERNEL_ADDRESS,
            kernstart: VM_MIN_KERNEL_ADDRESS,
            dmap: DMAP_MIN..DMAP_MAX,
            dmap_phys: ram.first().map_or(0, |range| range.start) & !(self.span(L1) - 1),
            dmaplimit: ram.last().map_or(0, |range| range.end),
            user_end: USER_END,
        }
    }

    fn variables(&self, description: &Description) -> Vec<Variable> {
        let mut list = vec![
            Variable::absolute("kernbase", VM_MIN_KERNEL_ADDRESS),
            Variable::zero("pagetable_l0_ttbr1", self.page()),
            Variable::zero("dmap_phys_base", 8),
            Variable::zero("dmap_phys_max", 8),
            Variable::zero("dmap_max_addr", 8),
            Variable::zero("virtual_avail", 8),
        ];
        if description.release() >= Release::R15 {
            list.push(Variable::zero("pmap_lpa_enabled", 1));
        }
        list
    }

    fn root(&self, kernel: &Kernel, load: u64) -> Result<Option<u64>, Error> {
        Ok(Some(
            kernel.address("pagetable_l0_ttbr1")? - kernel.start + load,
        ))
    }

    fn large(&self) -> Option<usize> {
        (self.index_bits == 9).then_some(L2)
    }

    fn devices(&self, _space: &Space) -> Vec<(u64, u64)> {
        // The interrupt controller and the console.
        vec![(0x0800_0000, 4), (0x0900_0000, 1)]
    }

    fn pmap(&self, _: Release, root: u64, direct: u64) -> Vec<(u64, u64)> {
        vec![(48, root), (56, root), (64, direct)]
    }

    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>) {
        const NAMES: [&str; 13] = [
            "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp",
        ];
        let [a, b, c, d, e] = r.saved;
        let values = [a, b, c, d, e, 0, 0, 0, 0, 0, r.fp, r.pc, r.sp];
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.resize(size, 0);
        (bytes, NAMES.into_iter().zip(values).collect())
    }

    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8> {
        let mut frame = vec![0; TRAP_FRAME as usize];
        let mut put = |at: usize, v: u64| frame[at..at + 8].copy_from_slice(&v.to_le_bytes());
        // Exception class 0x25: a data abort of this level; 0x15: a system call.
        let (spsr, esr, far) = match trap {
            Trap::Fault(address) => (0x6000_0005, 0x9600_0045, address),
            Trap::Nmi | Trap::Interrupt => (0x6000_0005, 0, 0),
            Trap::User => (0x6000_0000, 0x5600_0000, 0),
        };
        put(0, r.sp);
        put(8, r.saved[2]);
        put(16, r.pc);
        put(24, spsr);
        put(32, esr);
        put(40, far);
        for (i, &v) in r.saved.iter().enumerate() {
            put(48 + 8 * (19 + i), v);
        }
        put(48 + 8 * 29, r.fp);
        frame
    }

    fn frame(&self, sp: u64, locals: u64) -> FrameAt {
        let fp = sp - 16 - locals;
        FrameAt {
            fp,
            record: fp,
            locals: fp + 16,
            sp: fp,
        }
    }

    fn trap(&self, sp: u64, _user: bool) -> TrapAt {
        let frame = (sp - TRAP_FRAME - 16) & !15;
        TrapAt {
            frame,
            record: Some(frame + TRAP_FRAME),
        }
    }

    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>) {
        (sp, None)
    }

    fn dumps_table(&self, _level: usize) -> bool {
        false
    }
}

impl Boot for Arm64 {
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        // 16 KiB granules have no blocks at level 1 without LPA2.
        let levels: &[usize] = if self.index_bits == 9 || self.lpa2 {
            &[L1, L2, L3]
        } else {
            &[L2, L3]
        };
        builder.map_ram_directly(levels)?;
        let len = builder.kernel.end - builder.kernel.start;
        let level = self.large().unwrap_or(L3);
        let len = len.next_multiple_of(self.span(level));
        let load = builder.description.load().0;
        builder.map(level, VM_MIN_KERNEL_ADDRESS, load, len, Prot::RWX)?;
        builder.load_kernel()?;
        builder.kva = VM_MIN_KERNEL_ADDRESS + len.next_multiple_of(MIB2);
        builder.set_u64("virtual_avail", builder.kva)
    }

    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error> {
        builder.set_u64("dmap_phys_base", builder.space.dmap_phys)?;
        builder.set_u64("dmap_phys_max", builder.space.dmaplimit)?;
        builder.set_u64("dmap_max_addr", builder.dmap(builder.space.dmaplimit))?;
        if self.lpa2 {
            builder.poke(builder.kernel.address("pmap_lpa_enabled")?, &[1])?;
        }
        let pmap = builder.kernel.address("kernel_pmap_store")?;
        builder.pmap(pmap, builder.tables.root)?;
        let l0 = builder.kernel.address("pagetable_l0_ttbr1")?;
        builder.poke_u64(pmap + 64, l0)?;
        let end = builder.kva.next_multiple_of(self.span(L2));
        builder.set_u64("kernel_vm_end", end)?;
        builder.kva = end;
        Ok(end)
    }
}

/// FreeBSD `sys/arm64/arm64/{exception.S,trap.c}`.
static NAMES: Names = Names {
    entries: &["handle_el1h_sync", "handle_el1h_irq"],
    assembly: &[
        "handle_el1h_sync",
        "handle_el1h_irq",
        "handle_el0_sync",
        "fork_trampoline",
        "_start",
    ],
    local: "handle_el1h_irq",
    first: "_start",
    kthread: &KTHREAD,
    cfi: &[],
    syscall: &[
        "syscallenter",
        "svc_handler",
        "do_el0_sync",
        "handle_el0_sync",
    ],
    fault: &["data_abort", "do_el1h_sync", "handle_el1h_sync"],
    fatal: &[],
    stop: [
        &["ipi_stop", "intr_irq_handler", "handle_el1h_irq"],
        &["ipi_stop", "intr_irq_handler", "handle_el1h_irq"],
    ],
    idle: &["cpu_idle", "sched_idletd"],
    others: &["handle_el0_irq", "_start"],
};

/// AArch64: `stp x29, x30, [sp, #-16]!; mov x29, sp`, `bl`, `ldp x29, x30, [sp], #16; ret`.
static CODE: Code = Code {
    prologue: &[0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91],
    epilogue: &[0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6],
    filler: &[
        &[0xe0, 0x03, 0x01, 0xaa], // mov x0, x1
        &[0x00, 0x04, 0x00, 0x91], // add x0, x0, #1
        &[0x20, 0x00, 0x40, 0xf9], // ldr x0, [x1]
        &[0x20, 0x00, 0x00, 0xf9], // str x0, [x1]
        &[0x1f, 0x00, 0x00, 0xf1], // cmp x0, #0
        &[0x1f, 0x20, 0x03, 0xd5], // nop
    ],
    pad: 0,
    call_len: 4,
    step: 4,
    call: |at, target| word(0x9400_0000 | (target.wrapping_sub(at) >> 2) as u32 & 0x03ff_ffff),
};
