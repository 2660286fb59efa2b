//! x86-64: 4-level tables, the direct map at PML4 entry 496, the kernel map in entries 508 to 511.
//!
//! With 57-bit addresses there is a root above the PML4: entries 257 to 288 are the direct map, the
//! last one is the PML4, and 256 is its own recursive map. The kernel map does not move (since 15;
//! `create_pagetables`, `kva_layout_la57`).
//!
//! FreeBSD `sys/amd64/include/{pmap.h,vmparam.h,pcb.h,frame.h}`, `sys/amd64/amd64/pmap.c`.

use std::ops::Range;

use crate::boot::Boot;
use crate::builder::Builder;
use crate::chains::{self, Names};
use crate::code::{self, Code};
use crate::description::{Description, Kernphys};
use crate::error::Error;
use crate::kernel::{Kernel, Section, Variable};
use crate::layout::{Layout, Release};
use crate::processor::{FrameAt, Processor, Registers, Space, Trap, TrapAt};
use crate::tables::Format;
use crate::truth::Prot;

/// The architecture.
pub(crate) struct Amd64 {
    /// Whether addresses have 57 bits.
    la57: bool,
    /// Whether the processor enters the kernel by FRED.
    fred: bool,
}

/// With 4 levels.
pub(crate) static AMD64: Amd64 = Amd64 {
    la57: false,
    fred: false,
};
/// With 5 levels.
pub(crate) static AMD64_LA57: Amd64 = Amd64 {
    la57: true,
    fred: false,
};
/// The same with FRED.
static AMD64_FRED: Amd64 = Amd64 {
    la57: false,
    fred: true,
};
static AMD64_LA57_FRED: Amd64 = Amd64 {
    la57: true,
    fred: true,
};

/// Returns the port of a description's machine.
pub(crate) fn of(description: &Description) -> &'static Amd64 {
    match (description.kernel.la57, description.kernel.fred) {
        (false, false) => &AMD64,
        (true, false) => &AMD64_LA57,
        (false, true) => &AMD64_FRED,
        (true, true) => &AMD64_LA57_FRED,
    }
}

const V: u64 = 1;
const W: u64 = 1 << 1;
const A: u64 = 1 << 5;
const M: u64 = 1 << 6;
const U: u64 = 1 << 2;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

const KERNBASE: u64 = 0xffff_ffff_8000_0000;
const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_fe00_0000_0000;
const DMAP_MIN: u64 = 0xffff_f800_0000_0000;
const DMAP_MAX: u64 = 0xffff_fc00_0000_0000;
const DMAP_MIN_LA57: u64 = 0xff01_0000_0000_0000;
const DMAP_MAX_LA57: u64 = 0xff21_0000_0000_0000;
/// First address of the upper half with 57-bit addresses.
const KVA_MIN_LA57: u64 = 0xff00_0000_0000_0000;
/// `sizeof(struct kva_layout_s)`: fifteen words.
const KVA_LAYOUT: usize = 15 * 8;
/// `VM_MAXUSER_ADDRESS`.
const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// PML4 entry of the recursive map.
const RECURSIVE: u64 = 256;
/// Pages of `crashdumpmap`.
const WINDOW: u64 = 16;

/// `sizeof(struct trapframe)`.
const TRAP_FRAME: u64 = 192;
/// `tf_err`, where FRED's own frame starts, and its size, which is also its alignment. Its last two
/// words are after the trap frame (`struct trapframe_fred`).
const TF_ERR: u64 = 144;
const FRED_FRAME: u64 = 64;
/// `TF_FRED_EVINFO2_TYPE_NMI`, `_EXC` and `_SYSCALL`, in the upper half of the word of `tf_ss`. The type
/// of an interrupt is 0.
const FRED_NMI: u64 = 2 << 48;
const FRED_EXCEPTION: u64 = 3 << 48;
const FRED_SYSCALL: u64 = 7 << 48;
/// `T_PAGEFLT`, `T_NMI`.
const T_PAGEFLT: u64 = 12;
/// The vector of a page fault.
const T_PAGEFLT_VECTOR: u64 = 14;
const T_NMI: u64 = 19;

/// End of the memory below 640 KiB that a PC's firmware leaves to programs.
const LOW_END: u64 = 0x9f000;
/// End of the memory that the loader and the kernel's start used above 1 MiB.
const LOADER_END: u64 = 0x103000;
/// Bytes that firmware reserves at the top of low memory.
const TOP: u64 = 0x24000;

/// Levels, from the PML4.
const PDPE: usize = 1;
const PDE: usize = 2;
const PTE: usize = 3;

impl Format for Amd64 {
    fn shifts(&self) -> &'static [u32] {
        if self.la57 {
            &[48, 39, 30, 21, 12]
        } else {
            &[39, 30, 21, 12]
        }
    }

    fn va_bits(&self) -> u32 {
        if self.la57 { 57 } else { 48 }
    }

    fn index_bits(&self) -> u32 {
        9
    }

    fn table(&self, pa: u64) -> u64 {
        pa | M | A | W | V
    }

    fn next(&self, _level: usize, entry: u64) -> Option<u64> {
        (entry & V != 0 && entry & PS == 0).then_some(entry & FRAME)
    }

    fn user(&self, entry: u64) -> u64 {
        entry & !G | U
    }

    fn leaf(&self, level: usize, pa: u64, prot: Prot) -> u64 {
        let mut entry = pa | G | A | V;
        if level != self.level(PTE) {
            entry |= PS;
        }
        if prot.write {
            entry |= M | W;
        }
        if !prot.execute {
            entry |= NX;
        }
        entry
    }
}

impl Amd64 {
    /// Converts a level counted from the PML4 to one counted from the root.
    fn level(&self, from_pml4: usize) -> usize {
        from_pml4 + usize::from(self.la57)
    }

    /// Returns the number of 2 MiB slots above KERNBASE for the identity map and the kernel.
    fn kernel_slots(builder: &Builder<'_>) -> u64 {
        1 + (builder.kernel.end - builder.space.kernstart).div_ceil(MIB2)
    }

    /// Returns the first kernel address after the image.
    fn virtual_avail(builder: &Builder<'_>) -> u64 {
        KERNBASE + Self::kernel_slots(builder) * MIB2
    }

    /// `nkpt`: the tables above KERNBASE that exist from the start.
    fn nkpt(builder: &Builder<'_>) -> u64 {
        Self::kernel_slots(builder) + 2
    }
}

impl Processor for Amd64 {
    fn format(&self) -> &'static dyn Format {
        if self.la57 { &AMD64_LA57 } else { &AMD64 }
    }

    fn layout(&self, release: Release) -> Layout {
        Layout::amd64(release)
    }

    fn code(&self) -> &'static Code {
        &code::AMD64
    }

    fn names(&self, description: &Description) -> &'static Names {
        match description.release() {
            Release::R10 => &chains::AMD64_10,
            Release::R12 | Release::R14 | Release::R15 => &chains::AMD64,
            Release::R152 if self.fred => &chains::AMD64_FRED,
            Release::R152 => &chains::AMD64_15_2,
        }
    }

    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>> {
        let low = ram.get(1).map_or(0, |range| range.end);
        vec![LOW_END..0xa0000, 0x100000..LOADER_END, low - TOP..low]
    }

    fn space(&self, ram: &[Range<u64>], _: &Description) -> Space {
        let top = ram.last().map_or(0, |range| range.end);
        Space {
            page_size: 4096,
            vm_min: VM_MIN_KERNEL_ADDRESS,
            kernbase: KERNBASE,
            kernstart: KERNBASE + MIB2,
            dmap: match self.la57 {
                true => DMAP_MIN_LA57..DMAP_MAX_LA57,
                false => DMAP_MIN..DMAP_MAX,
            },
            dmap_phys: 0,
            dmaplimit: top.next_multiple_of(GIB).max(4 * GIB),
            user_end: USER_END,
        }
    }

    fn root(&self, _kernel: &Kernel, _load: u64) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    fn large(&self) -> Option<usize> {
        Some(self.level(PDE))
    }

    fn devices(&self, space: &Space) -> Vec<(u64, u64)> {
        // The local interrupt controller, a frame buffer in the PC hole, and an address above the
        // end of the direct map.
        vec![
            (0xfee0_0000, 1),
            (0xf000_0000, 16),
            (space.dmaplimit + GIB, 2),
        ]
    }

    fn variables(&self, description: &Description) -> Vec<Variable> {
        let mut variables = vec![
            Variable::absolute("kernbase", KERNBASE),
            Variable::zero("KPML4phys", 8),
            Variable::zero("KPDPphys", 8),
            Variable::zero("dmaplimit", 8),
            Variable::zero("nkpt", 4),
            Variable::zero("pti", 4),
            Variable::zero("la57", 4),
            Variable::zero("virtual_avail", 8),
            Variable::zero("crashdumpmap", 8),
        ];
        if self.la57 {
            variables.push(Variable::zero("KPML5phys", 8));
            variables.push(Variable::zero("kva_layout", KVA_LAYOUT as u64));
        }
        variables.push(match description.kernphys() {
            Kernphys::Absolute => Variable::absolute("kernphys", MIB2),
            Kernphys::Variable => Variable {
                section: Section::Data,
                ..Variable::data("kernphys", [0; 8])
            },
        });
        variables
    }

    fn pmap(&self, release: Release, root: u64, direct: u64) -> Vec<(u64, u64)> {
        match release {
            // `pm_cr3` follows immediately: processes have no second root.
            Release::R10 => vec![(32, direct), (40, root)],
            _ => vec![(32, direct), (40, 0), (48, root), (56, u64::MAX)],
        }
    }

    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>) {
        let [rbx, r12, r13, r14, r15] = r.saved;
        let named = vec![
            ("r15", r15),
            ("r14", r14),
            ("r13", r13),
            ("r12", r12),
            ("rbp", r.fp),
            ("rsp", r.sp),
            ("rbx", rbx),
            ("rip", r.pc),
        ];
        let mut bytes: Vec<u8> = named.iter().flat_map(|(_, v)| v.to_le_bytes()).collect();
        bytes.resize(size, 0);
        if let Some(cr3) = bytes.get_mut(104..112) {
            cr3.copy_from_slice(&r.root.to_le_bytes());
        }
        (bytes, named)
    }

    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8> {
        let mut frame = vec![0; TRAP_FRAME as usize];
        let mut put = |at: usize, v: u64| frame[at..at + 8].copy_from_slice(&v.to_le_bytes());
        let (number, address) = match trap {
            Trap::Fault(address) => (T_PAGEFLT, address),
            Trap::Nmi => (T_NMI, 0),
            // Set only for traps.
            Trap::Interrupt | Trap::User => (0, 0),
        };
        let (cs, flags, ss) = match trap {
            Trap::User => (0x43, 0x202, 0x3b),
            _ => (0x20, 0x10246, 0x28),
        };
        let event = match trap {
            _ if !self.fred => 0,
            Trap::Fault(_) => FRED_EXCEPTION | T_PAGEFLT_VECTOR << 32,
            Trap::Nmi => FRED_NMI | 2 << 32,
            Trap::Interrupt => 0,
            Trap::User => FRED_SYSCALL | 1 << 32,
        };
        put(0, address);
        put(8, 0x10);
        put(56, r.saved[0]);
        put(64, r.fp);
        for (i, &v) in r.saved[1..].iter().enumerate() {
            put(88 + 8 * i, v);
        }
        // tf_trapno, tf_fs, tf_gs.
        put(120, number | 0x1b_0013 << 32);
        put(128, address);
        put(152, r.pc);
        put(160, cs);
        put(168, flags);
        put(176, r.sp);
        put(184, ss | event);
        frame
    }

    fn frame(&self, sp: u64, locals: u64) -> FrameAt {
        let record = sp - 16;
        FrameAt {
            fp: record,
            record,
            locals: record - locals,
            sp: record - locals,
        }
    }

    fn trap(&self, sp: u64, _user: bool) -> TrapAt {
        let frame = match self.fred {
            true => ((sp - FRED_FRAME) & !(FRED_FRAME - 1)) - TF_ERR,
            false => (sp - TRAP_FRAME) & !15,
        };
        TrapAt {
            frame,
            record: None,
        }
    }

    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>) {
        (sp - 8, Some(sp - 8))
    }

    fn dumps_table(&self, level: usize) -> bool {
        level == self.level(PTE)
    }
}

impl Boot for Amd64 {
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        let root = builder.tables.root;
        builder.store.write(
            root + RECURSIVE * 8,
            &(root | NX | M | A | W | V).to_le_bytes(),
        );

        // The direct map. Its first 2 MiB are split because the legacy hole has its own caching.
        let limit = builder.space.dmaplimit;
        builder.map_directly(self.level(PTE), 0, MIB2)?;
        builder.map_directly(self.level(PDE), MIB2, GIB - MIB2)?;
        builder.map_directly(self.level(PDPE), GIB, limit - GIB)?;

        // The kernel: slot 0 maps low memory, the other slots map the image.
        let load = builder.description.load().0;
        builder.map(self.level(PDE), KERNBASE, 0, MIB2, Prot::RWX)?;
        let text = builder.kernel.address("_etext")?;
        for slot in 1..Self::kernel_slots(builder) {
            let va = KERNBASE + slot * MIB2;
            let prot = if va < text { Prot::RWX } else { Prot::RW };
            builder.map(self.level(PDE), va, load + (slot - 1) * MIB2, MIB2, prot)?;
        }
        builder.load_kernel()?;

        // Tables for what follows the image: CMAP pages, the dump window, modules.
        let avail = Self::virtual_avail(builder);
        for slot in Self::kernel_slots(builder)..Self::nkpt(builder) {
            let va = KERNBASE + slot * MIB2;
            builder
                .tables
                .table(&mut builder.store, &mut builder.frames, self.level(PTE), va)?;
        }
        for i in 0..3 {
            let pa = builder.frames.one("bootstrap pages", 4096)?;
            builder.store.write(pa + i * 8, &[0x5a; 64]);
            builder.map(self.level(PTE), avail + i * 4096, pa, 4096, Prot::RW)?;
        }
        builder.set_u64("crashdumpmap", avail + 8 * 4096)?;
        builder.set_u64("virtual_avail", avail + (8 + WINDOW) * 4096)?;
        // The directory of the main kernel map.
        builder.tables.table(
            &mut builder.store,
            &mut builder.frames,
            self.level(PDE),
            VM_MIN_KERNEL_ADDRESS,
        )?;
        Ok(())
    }

    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error> {
        let root = builder.tables.root;
        if self.la57 {
            builder.set_u64("KPML5phys", root)?;
            builder.set_u32("la57", 1)?;
            // kva_min, kva_max, dmap_low, dmap_high, lm_low, lm_high, km_low, km_high, rec_pt. The
            // large map and the sanitizers' maps are empty.
            let words = [
                KVA_MIN_LA57,
                u64::MAX,
                DMAP_MIN_LA57,
                DMAP_MAX_LA57,
                0,
                0,
                VM_MIN_KERNEL_ADDRESS,
                u64::MAX,
                KVA_MIN_LA57,
            ];
            let mut layout: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            layout.resize(KVA_LAYOUT, 0);
            builder.set("kva_layout", &layout)?;
        }
        let mut table = |level| {
            builder
                .tables
                .table(&mut builder.store, &mut builder.frames, level, KERNBASE)
        };
        let (pml4, pdp) = (table(self.level(0))?, table(self.level(PDPE))?);
        builder.set_u64("KPML4phys", pml4)?;
        builder.set_u64("KPDPphys", pdp)?;
        builder.set_u64("dmaplimit", builder.space.dmaplimit)?;
        let nkpt = Self::nkpt(builder);
        builder.set_u32("nkpt", nkpt as u32)?;
        if builder.description.kernphys() == Kernphys::Variable {
            builder.set_u64("kernphys", builder.description.load().0)?;
        }
        let pmap = builder.kernel.address("kernel_pmap_store")?;
        builder.pmap(pmap, root)?;
        // Every process has the kernel's half and its own recursive entry.
        let half = RECURSIVE * 8;
        let mut entries = [0; 2048];
        builder.store.read(root + half, &mut entries);
        for user in std::mem::take(&mut builder.user_roots) {
            entries[..8].copy_from_slice(&(user | NX | M | A | W | V).to_le_bytes());
            builder.store.write(user + half, &entries);
        }
        // pmap_growkernel adds whole tables.
        let end = builder.kva.next_multiple_of(MIB2);
        builder.set_u64("kernel_vm_end", end)?;
        builder.kva = end;
        Ok(end.max(KERNBASE + nkpt * MIB2))
    }
}
