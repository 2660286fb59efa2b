//! 64-bit RISC-V: three levels with Sv39, four with Sv48. All roots share the kernel's half.
//!
//! With Sv48 the root directly follows the image, and its last entry points at `pagetable_l1`: the
//! kernel's addresses are the same.
//!
//! FreeBSD `sys/riscv/include/{vmparam.h,pte.h,pcb.h,frame.h}`, `sys/riscv/riscv/pmap.c`.

use std::ops::Range;

use crate::boot::Boot;
use crate::builder::Builder;
use crate::chains::{KTHREAD, Names};
use crate::code::{Code, word};
use crate::description::Description;
use crate::error::Error;
use crate::kernel::{Kernel, Variable};
use crate::layout::{Layout, Release};
use crate::processor::{FrameAt, Processor, Registers, Space, Trap, TrapAt};
use crate::tables::Format;
use crate::truth::Prot;

/// The architecture.
pub(crate) struct Riscv {
    /// Whether addresses have 48 bits.
    sv48: bool,
}

/// With three levels.
pub(crate) static SV39: Riscv = Riscv { sv48: false };
/// With four levels.
pub(crate) static SV48: Riscv = Riscv { sv48: true };

const V: u64 = 1;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
const U: u64 = 1 << 4;
const G: u64 = 1 << 5;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;

const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_ffc0_0000_0000;
const DMAP_MIN: u64 = 0xffff_ffd0_0000_0000;
const DMAP_MAX: u64 = 0xffff_fff0_0000_0000;
const USER_END: u64 = 0x0000_0040_0000_0000;
const USER_END_SV48: u64 = 0x0000_8000_0000_0000;
/// Bytes of a table.
const TABLE: u64 = 4096;
const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

/// `sizeof(struct trapframe)`, by which the stack pointer moves.
const TRAP_FRAME: u64 = 288;

/// Levels, from `pagetable_l1`.
const L1: usize = 0;
const L2: usize = 1;
const L3: usize = 2;

impl Riscv {
    /// Converts a level counted from `pagetable_l1` to one counted from the root.
    fn level(&self, from_l1: usize) -> usize {
        from_l1 + usize::from(self.sv48)
    }

    /// Returns the address of the root with Sv48.
    fn l0(kernel: &Kernel) -> u64 {
        kernel.end.next_multiple_of(TABLE)
    }
}

impl Format for Riscv {
    fn shifts(&self) -> &'static [u32] {
        if self.sv48 {
            &[39, 30, 21, 12]
        } else {
            &[30, 21, 12]
        }
    }

    fn va_bits(&self) -> u32 {
        if self.sv48 { 48 } else { 39 }
    }

    fn index_bits(&self) -> u32 {
        9
    }

    fn table(&self, pa: u64) -> u64 {
        pa >> 12 << 10 | V
    }

    fn next(&self, _level: usize, entry: u64) -> Option<u64> {
        (entry & V != 0 && entry & (R | W | X) == 0).then_some(entry >> 10 << 12)
    }

    fn user(&self, entry: u64) -> u64 {
        if entry & (R | W | X) == 0 {
            entry
        } else {
            entry & !G | U
        }
    }

    fn leaf(&self, _level: usize, pa: u64, prot: Prot) -> u64 {
        let mut entry = pa >> 12 << 10 | V | R | G | A | D;
        if prot.write {
            entry |= W;
        }
        if prot.execute {
            entry |= X;
        }
        entry
    }
}

impl Processor for Riscv {
    fn format(&self) -> &'static dyn Format {
        if self.sv48 { &SV48 } else { &SV39 }
    }

    fn code(&self) -> &'static Code {
        &CODE
    }

    fn names(&self, _: &Description) -> &'static Names {
        &NAMES
    }

    fn layout(&self, release: Release) -> Layout {
        Layout {
            pcb_size: 0x190,
            ..Layout::pcb_on_stack(release)
        }
    }

    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>> {
        // The machine-mode firmware.
        let start = ram.first().map_or(0, |range| range.start);
        std::iter::once(start..start + 0x80000).collect()
    }

    fn space(&self, ram: &[Range<u64>], _: &Description) -> Space {
        Space {
            page_size: 4096,
            vm_min: VM_MIN_KERNEL_ADDRESS,
            kernbase: VM_MIN_KERNEL_ADDRESS,
            kernstart: VM_MIN_KERNEL_ADDRESS,
            dmap: DMAP_MIN..DMAP_MAX,
            dmap_phys: ram.first().map_or(0, |range| range.start) & !(GIB - 1),
            dmaplimit: ram.last().map_or(0, |range| range.end),
            user_end: if self.sv48 { USER_END_SV48 } else { USER_END },
        }
    }

    fn variables(&self, _description: &Description) -> Vec<Variable> {
        vec![
            Variable::absolute("kernbase", VM_MIN_KERNEL_ADDRESS),
            Variable::zero("pagetable_l1", 4096),
            Variable::zero("dmap_phys_base", 8),
            Variable::zero("dmap_phys_max", 8),
            Variable::zero("dmap_max_addr", 8),
            Variable::zero("virtual_avail", 8),
        ]
    }

    fn root(&self, kernel: &Kernel, load: u64) -> Result<Option<u64>, Error> {
        let table = match self.sv48 {
            true => Self::l0(kernel),
            false => kernel.address("pagetable_l1")?,
        };
        Ok(Some(table - kernel.start + load))
    }

    fn behind_image(&self) -> u64 {
        if self.sv48 { TABLE } else { 0 }
    }

    fn large(&self) -> Option<usize> {
        Some(self.level(L2))
    }

    fn devices(&self, _space: &Space) -> Vec<(u64, u64)> {
        // The interrupt controller and the console.
        vec![(0x0c00_0000, 4), (0x1000_0000, 1)]
    }

    fn pmap(&self, _: Release, root: u64, direct: u64) -> Vec<(u64, u64)> {
        // satp: the mode, Sv39 or Sv48, and the root's frame.
        let mode = if self.sv48 { 9 } else { 8 };
        vec![(48, direct), (56, mode << 60 | root >> 12)]
    }

    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>) {
        const NAMES: [&str; 16] = [
            "ra", "sp", "gp", "tp", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9",
            "s10", "s11",
        ];
        let [a, b, c, d, e] = r.saved;
        let values = [r.pc, r.sp, 0, 0, r.fp, a, b, c, d, e, 0, 0, 0, 0, 0, 0];
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.resize(size, 0);
        (bytes, NAMES.into_iter().zip(values).collect())
    }

    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8> {
        let mut frame = vec![0; TRAP_FRAME as usize];
        let mut put = |at: usize, v: u64| frame[at..at + 8].copy_from_slice(&v.to_le_bytes());
        // sstatus: SPIE, and SPP if it came from the kernel. scause: a load page fault, a software
        // interrupt, a call from user mode.
        let (sstatus, stval, scause) = match trap {
            Trap::Fault(address) => (0x120, address, 13),
            Trap::Nmi | Trap::Interrupt => (0x120, 0, 1 << 63 | 1),
            Trap::User => (0x20, 0, 8),
        };
        put(0, r.saved[2]);
        put(8, r.sp);
        put(88, r.fp);
        for (i, &v) in r.saved.iter().enumerate() {
            put(96 + 8 * i, v);
        }
        put(248, r.pc);
        put(256, sstatus);
        put(264, stval);
        put(272, scause);
        frame
    }

    fn frame(&self, sp: u64, locals: u64) -> FrameAt {
        let record = sp - 16;
        FrameAt {
            fp: sp,
            record,
            locals: record - locals,
            sp: record - locals,
        }
    }

    fn trap(&self, sp: u64, _user: bool) -> TrapAt {
        TrapAt {
            frame: (sp - TRAP_FRAME) & !15,
            record: None,
        }
    }

    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>) {
        (sp, None)
    }

    fn dumps_table(&self, _level: usize) -> bool {
        false
    }
}

impl Boot for Riscv {
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        let load = builder.description.load().0;
        if self.sv48 {
            let l1 = builder.kernel.address("pagetable_l1")? - builder.kernel.start + load;
            let last = self.table(l1);
            let (store, frames) = (&mut builder.store, &mut builder.frames);
            store.page(l1 / TABLE);
            builder
                .tables
                .set(store, frames, 0, VM_MIN_KERNEL_ADDRESS, last)?;
            builder.tables.made.push((1, u64::MAX << 39, l1));
        }
        builder.map_ram_directly(&[L1, L2, L3].map(|level| self.level(level)))?;
        let end = Self::l0(&builder.kernel) + self.behind_image();
        let len = (end - builder.kernel.start).next_multiple_of(MIB2);
        builder.map(self.level(L2), VM_MIN_KERNEL_ADDRESS, load, len, Prot::RWX)?;
        builder.load_kernel()?;
        builder.kva = VM_MIN_KERNEL_ADDRESS + len;
        builder.set_u64("virtual_avail", builder.kva)
    }

    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error> {
        let root = builder.tables.root;
        builder.set_u64("dmap_phys_base", builder.space.dmap_phys)?;
        builder.set_u64("dmap_phys_max", builder.space.dmaplimit)?;
        builder.set_u64("dmap_max_addr", builder.dmap(builder.space.dmaplimit))?;
        let pmap = builder.kernel.address("kernel_pmap_store")?;
        let top = match self.sv48 {
            true => Self::l0(&builder.kernel),
            false => builder.kernel.address("pagetable_l1")?,
        };
        builder.poke_u64(pmap + 48, top)?;
        let mut entries = [0; 2048];
        builder.store.read(root + 2048, &mut entries);
        for user in std::mem::take(&mut builder.user_roots) {
            builder.store.write(user + 2048, &entries);
        }
        let end = builder.kva.next_multiple_of(MIB2);
        builder.set_u64("kernel_vm_end", end)?;
        builder.kva = end;
        Ok(end)
    }
}

/// FreeBSD `sys/riscv/riscv/{exception.S,trap.c}`.
static NAMES: Names = Names {
    entries: &["cpu_exception_handler_supervisor"],
    assembly: &[
        "cpu_exception_handler_supervisor",
        "cpu_exception_handler_user",
        "fork_trampoline",
        "_start",
    ],
    local: "cpu_exception_handler",
    first: "_start",
    kthread: &KTHREAD,
    cfi: &[],
    syscall: &[
        "ecall_handler",
        "do_trap_user",
        "cpu_exception_handler_user",
    ],
    fault: &[
        "page_fault_handler",
        "do_trap_supervisor",
        "cpu_exception_handler_supervisor",
    ],
    fatal: &[],
    stop: [
        &[
            "ipi_stop",
            "intr_irq_handler",
            "do_trap_supervisor",
            "cpu_exception_handler_supervisor",
        ],
        &[
            "ipi_stop",
            "intr_irq_handler",
            "do_trap_supervisor",
            "cpu_exception_handler_supervisor",
        ],
    ],
    idle: &["cpu_idle", "sched_idletd"],
    others: &["cpu_exception_handler", "_start"],
};

/// RISC-V without compressed instructions: a frame of 32 bytes with ra and s0 at its top.
static CODE: Code = Code {
    prologue: &[
        0x13, 0x01, 0x01, 0xfe, // addi sp, sp, -32
        0x23, 0x3c, 0x11, 0x00, // sd ra, 24(sp)
        0x23, 0x38, 0x81, 0x00, // sd s0, 16(sp)
        0x13, 0x04, 0x01, 0x02, // addi s0, sp, 32
    ],
    epilogue: &[
        0x83, 0x30, 0x81, 0x01, // ld ra, 24(sp)
        0x03, 0x34, 0x01, 0x01, // ld s0, 16(sp)
        0x13, 0x01, 0x01, 0x02, // addi sp, sp, 32
        0x67, 0x80, 0x00, 0x00, // ret
    ],
    filler: &[
        &[0x13, 0x05, 0x15, 0x00], // addi a0, a0, 1
        &[0x93, 0x05, 0x05, 0x00], // mv a1, a0
        &[0x13, 0x00, 0x00, 0x00], // nop
        &[0x03, 0x35, 0x84, 0xfe], // ld a0, -24(s0)
        &[0x33, 0x05, 0xb5, 0x00], // add a0, a0, a1
    ],
    pad: 0,
    call_len: 4,
    step: 4,
    call: |at, target| {
        // jal ra: imm[20|10:1|11|19:12].
        let d = target.wrapping_sub(at) as u32;
        let imm =
            (d >> 20 & 1) << 31 | (d >> 1 & 0x3ff) << 21 | (d >> 11 & 1) << 20 | (d & 0xf_f000);
        word(imm | 1 << 7 | 0x6f)
    },
};
