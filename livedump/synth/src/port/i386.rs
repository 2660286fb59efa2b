//! 32-bit x86, with and without PAE. Since 12.0 the kernel's virtual addresses equal its physical
//! ones, and it shares no address space with processes. Up to 11 they are 3 GiB higher.
//!
//! FreeBSD `sys/i386/include/{pmap.h,pmap_pae.h,pmap_nopae.h,vmparam.h,pcb.h,frame.h}`,
//! `sys/i386/i386/pmap.c`. There is no direct map. Emulated processes have no memory of their own.

use std::ops::Range;

use super::amd64::AMD64;

use crate::boot::Boot;
use crate::builder::Builder;
use crate::chains::{KTHREAD, Names};
use crate::code::Code;
use crate::description::Description;
use crate::error::Error;
use crate::i386_link;
use crate::kernel::{Kernel, Variable};
use crate::layout::{Layout, PhysSegLayout, Release, VmPageLayout};
use crate::processor::{FrameAt, Processor, Registers, Space, Trap, TrapAt};
use crate::tables::Format;
use crate::truth::Prot;

/// The architecture, with one page table format.
pub(crate) struct I386Form {
    pae: bool,
}

/// Two levels, entries of 32 bits.
pub(crate) static I386: I386Form = I386Form { pae: false };
/// Three levels, entries of 64 bits.
pub(crate) static I386_PAE: I386Form = I386Form { pae: true };

const V: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const M: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Upper limit of physical addresses.
const PHYSICAL: u64 = 1 << 52;
/// `VM_MAXUSER_ADDRESS`: below the trampoline's entry.
const USER_END: u64 = 0xffc0_0000;
/// `sizeof(struct trapframe)`.
const TRAP_FRAME: u64 = 72;
/// Pages of `crashdumpmap`.
const WINDOW: u64 = 16;

/// The variable that contains the root table: with PAE a page of pointers to directories, then the
/// directories.
const ROOT: &str = "boot_directories";

impl Format for I386Form {
    fn shifts(&self) -> &'static [u32] {
        if self.pae { &[30, 21, 12] } else { &[22, 12] }
    }

    fn va_bits(&self) -> u32 {
        32
    }

    fn index_bits(&self) -> u32 {
        if self.pae { 9 } else { 10 }
    }

    fn entry_size(&self) -> u64 {
        if self.pae { 8 } else { 4 }
    }

    fn table(&self, pa: u64) -> u64 {
        pa | M | A | W | V
    }

    fn next(&self, level: usize, entry: u64) -> Option<u64> {
        (level + 1 < self.shifts().len() && entry & V != 0 && entry & PS == 0)
            .then_some(entry & FRAME)
    }

    fn user(&self, entry: u64) -> u64 {
        entry | U
    }

    fn leaf(&self, level: usize, pa: u64, prot: Prot) -> u64 {
        let mut entry = pa | A | V;
        if level + 1 != self.shifts().len() {
            entry |= PS;
        }
        if prot.write {
            entry |= M | W;
        }
        if self.pae && !prot.execute {
            entry |= NX;
        }
        entry
    }
}

impl I386Form {
    /// Returns the level whose entries are those of a page directory.
    fn directory(&self) -> usize {
        usize::from(self.pae)
    }

    /// `NBPDR`.
    fn span(&self) -> u64 {
        1 << self.shifts()[self.directory()]
    }

    /// Maps what is below `KERNBASE` or above `kernel_vm_end` and therefore in no dump: low memory
    /// again, and the trampoline that kernel and processes share.
    fn beyond(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        for pa in (0..self.span()).step_by(4096) {
            self.put(builder, self.span() + pa, pa)?;
        }
        for i in 0..4 {
            let pa = builder.frames.one("trampoline", 4096)?;
            builder.store.write(pa, &[0xcc; 64]);
            self.put(builder, (1 << 32) - self.span() + i * 4096, pa)?;
        }
        Ok(())
    }

    /// Maps one page without recording it.
    fn put(&self, builder: &mut Builder<'_>, va: u64, pa: u64) -> Result<(), Error> {
        let bottom = builder.bottom();
        let (store, frames) = (&mut builder.store, &mut builder.frames);
        let tables = &mut builder.tables;
        tables.map(store, frames, bottom, va, pa, Prot::RW)
    }

    /// Fills `crashdumpmap`. A kernel maps pages there for short accesses, and leaves the last ones
    /// mapped: a page that is not the kernel's, and firmware's tables.
    fn window(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        // It follows an unmapped page.
        let va = builder.kva + 4096;
        let stale = builder.frames.one("crashdumpmap", 4096)?;
        builder.store.write(stale, &[0x77; 64]);
        self.put(builder, va, stale)?;
        self.put(builder, va + 3 * 4096, 0xf_5000)?;
        builder.set_word("crashdumpmap", va)?;
        builder.kva = va + (WINDOW + 1) * 4096;
        Ok(())
    }
}

impl Processor for I386Form {
    fn format(&self) -> &'static dyn Format {
        if self.pae { &I386_PAE } else { &I386 }
    }

    fn layout(&self, release: Release) -> Layout {
        layout(release, self.pae)
    }

    fn code(&self) -> &'static Code {
        &CODE
    }

    fn names(&self, _: &Description) -> &'static Names {
        &NAMES
    }

    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>> {
        AMD64.firmware(ram)
    }

    fn space(&self, _: &[Range<u64>], description: &Description) -> Space {
        let (release, pae) = (description.release(), self.pae);
        let kernbase = i386_link::kernbase(release, pae);
        Space {
            page_size: 4096,
            vm_min: kernbase,
            kernbase,
            kernstart: i386_link::kernstart(release, pae),
            dmap: 0..0,
            dmap_phys: 0,
            dmaplimit: PHYSICAL,
            user_end: USER_END,
        }
    }

    fn variables(&self, description: &Description) -> Vec<Variable> {
        let mut variables = vec![
            Variable::absolute(
                "kernbase",
                i386_link::kernbase(description.release(), self.pae),
            ),
            Variable::zero(ROOT, if self.pae { 5 * 4096 } else { 4096 }),
            Variable::zero("KPTmap", 4),
            Variable::zero("crashdumpmap", 4),
            Variable::zero("virtual_avail", 4),
            Variable::zero("setidt_disp", 4),
        ];
        let names: &[&'static str] = match (description.release(), self.pae) {
            (Release::R10 | Release::R12, false) => &["IdlePTD"],
            (Release::R10 | Release::R12, true) => &["IdlePTD", "IdlePDPT"],
            // The same kernel for both.
            _ => &["pae_mode", "IdlePTD_nopae", "IdlePTD_pae", "IdlePDPT"],
        };
        variables.extend(names.iter().map(|name| Variable::zero(name, 4)));
        variables
    }

    fn root(&self, kernel: &Kernel, load: u64) -> Result<Option<u64>, Error> {
        Ok(Some(kernel.address(ROOT)? - kernel.start + load))
    }

    fn large(&self) -> Option<usize> {
        Some(self.directory())
    }

    fn devices(&self, _: &Space) -> Vec<(u64, u64)> {
        // The local interrupt controller, and a frame buffer in the PC hole.
        vec![(0xfee0_0000, 1), (0xf000_0000, 16)]
    }

    fn pmap(&self, _: Release, root: u64, _: u64) -> Vec<(u64, u64)> {
        // `pm_pdir`, after the lock of 16 bytes.
        vec![(16, root)]
    }

    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>) {
        let [ebx, edi, esi, ..] = r.saved;
        let named = vec![
            ("edi", edi),
            ("esi", esi),
            ("ebp", r.fp),
            ("esp", r.sp),
            ("ebx", ebx),
            ("eip", r.pc),
        ];
        let mut bytes: Vec<u8> = named
            .iter()
            .flat_map(|(_, v)| (*v as u32).to_le_bytes())
            .collect();
        bytes.resize(size, 0);
        (bytes, named)
    }

    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8> {
        let mut frame = vec![0; TRAP_FRAME as usize];
        let mut put = |at: usize, v: u64| {
            frame[at..at + 4].copy_from_slice(&(v as u32).to_le_bytes());
        };
        let number = match trap {
            Trap::Fault(_) => 12,
            Trap::Nmi => 19,
            Trap::Interrupt | Trap::User => 0,
        };
        let user = trap == Trap::User;
        put(12, r.saved[1]);
        put(16, r.saved[2]);
        put(20, r.fp);
        put(28, r.saved[0]);
        put(44, number);
        put(52, r.pc);
        put(56, if user { 0x33 } else { 0x20 });
        put(60, 0x10246);
        put(64, r.sp);
        put(68, 0x3b);
        if !user {
            frame.truncate(64);
        }
        frame
    }

    fn frame(&self, sp: u64, locals: u64) -> FrameAt {
        let record = sp - 8;
        FrameAt {
            fp: record,
            record,
            locals: record - locals,
            sp: record - locals,
        }
    }

    fn trap(&self, sp: u64, user: bool) -> TrapAt {
        // The processor pushes the stack pointer and its segment only if they change.
        let len = if user { TRAP_FRAME } else { TRAP_FRAME - 8 };
        TrapAt {
            frame: (sp - len) & !3,
            record: None,
        }
    }

    fn arguments(&self, entry: &str, frame: u64) -> Vec<u64> {
        match entry {
            "Xcpustop" => Vec::new(),
            // The interrupt vector.
            "Xapic_isr1" => vec![frame, 0x31],
            // A thread's first function and its arguments.
            "fork_trampoline" => vec![frame, 0, 0],
            _ => vec![frame],
        }
    }

    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>) {
        (sp - 4, Some(sp - 4))
    }

    fn window(&self) -> Option<(&'static str, u64)> {
        // Each table in turn is mapped at its first page.
        Some(("crashdumpmap", self.span()))
    }

    fn dumps_table(&self, _level: usize) -> bool {
        false
    }
}

impl Boot for I386Form {
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error> {
        let root = builder.tables.root;
        let level = self.directory();
        let directories = if self.pae { 4 } else { 1 };
        let first = if self.pae { root + 4096 } else { root };
        if self.pae {
            for i in 0..directories {
                let pa = first + i * 4096;
                let entry = (pa | V).to_le_bytes();
                builder.store.write(root + 8 * i, &entry);
                builder.store.page(pa / 4096);
                builder.tables.made.push((level, i << 30, pa));
            }
        }
        // The directories map themselves: up to 11 directly below the kernel, since 12.0 below the
        // last entry, which is that of the trampoline.
        let ten = builder.description.release() == Release::R10;
        let slot = if ten {
            builder.space.kernbase - directories * self.span()
        } else {
            (1u64 << 32) - (directories + 1) * self.span()
        };
        let recursive = slot / self.span() * self.entry_size() + first;
        for i in 0..directories {
            let entry = self.table(first + i * 4096).to_le_bytes();
            let len = self.entry_size();
            builder
                .store
                .write(recursive + i * len, &entry[..len as usize]);
        }

        let load = builder.description.load().0;
        let start = builder.space.kernstart;
        let len = builder.kernel.end - start;
        if ten {
            // Physical memory from 0 up to the image.
            builder.map(level + 1, builder.space.kernbase, 0, load, Prot::RW)?;
        } else {
            self.beyond(builder)?;
        }
        if self.pae {
            let len = len.next_multiple_of(self.span());
            builder.map(level, start, load, len, Prot::RWX)?;
        } else {
            let len = len.next_multiple_of(4096);
            builder.map(level + 1, start, load, len, Prot::RWX)?;
        }
        builder.load_kernel()?;
        builder.kva = start + len.next_multiple_of(self.span());
        self.window(builder)?;
        builder.set_word("virtual_avail", builder.kva)
    }

    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error> {
        let root = builder.kernel.address(ROOT)?;
        let first = if self.pae { root + 4096 } else { root };
        let old = builder.description.release().is_old();
        // Up to 11 these were physical addresses.
        let pa = |va: u64| match builder.description.release() {
            Release::R10 => va - builder.space.kernbase,
            _ => va,
        };
        let (root, first) = (pa(root), pa(first));
        let name = match (old, self.pae) {
            (true, _) => "IdlePTD",
            (false, true) => "IdlePTD_pae",
            (false, false) => "IdlePTD_nopae",
        };
        builder.set_u32(name, first as u32)?;
        if self.pae {
            builder.set_u32("IdlePDPT", root as u32)?;
        }
        if !old {
            builder.set_u32("pae_mode", u32::from(self.pae))?;
        }
        let end = builder.kva.next_multiple_of(self.span());
        if end > USER_END - (5 * self.span()) {
            return Err(Error::NoSpace {
                what: "kernel addresses",
                need: end,
                left: USER_END,
            });
        }
        builder.set_word("kernel_vm_end", end)?;
        builder.kva = end;
        Ok(end)
    }
}

/// FreeBSD `sys/i386/i386/{exception.s,trap.c}`.
static NAMES: Names = Names {
    entries: &["calltrap", "Xapic_isr1", "Xcpustop"],
    assembly: &[
        "alltraps",
        "calltrap",
        "Xapic_isr1",
        "Xcpustop",
        "Xtimerint",
        "Xint0x80_syscall",
        "fork_trampoline",
        "btext",
    ],
    local: "Xint0x80_syscall",
    first: "btext",
    kthread: &KTHREAD,
    cfi: &[],
    syscall: &["syscall", "Xint0x80_syscall"],
    fault: &["trap_pfault", "trap", "calltrap"],
    fatal: &["trap_fatal"],
    stop: [
        &["cpustop_handler", "Xcpustop"],
        &["cpustop_handler", "ipi_nmi_handler", "trap", "calltrap"],
    ],
    idle: &["acpi_cpu_c1", "acpi_cpu_idle", "cpu_idle", "sched_idletd"],
    others: &["Xtimerint", "alltraps", "btext"],
};

/// 32-bit x86.
static CODE: Code = Code {
    prologue: &[0x55, 0x89, 0xe5],
    epilogue: &[0x5d, 0xc3],
    filler: &[
        &[0x8b, 0x45, 0x08],
        &[0x89, 0x45, 0xf0],
        &[0x31, 0xc0],
        &[0x85, 0xc0],
        &[0x83, 0xfe, 0x01],
        &[0x01, 0xd8],
        &[0x0f, 0xb6, 0xc0],
    ],
    pad: 0xcc,
    call_len: 5,
    step: 1,
    call: |at, target| {
        let [a, b, c, d] = (target.wrapping_sub(at + 5) as u32).to_le_bytes();
        [0xe8, a, b, c, d]
    },
};

/// Returns the structures of an i386 kernel that a dump depends on. There are no modules. Exported
/// offsets are amd64's. `struct vm_page` is computed from its field list.
fn layout(release: Release, pae: bool) -> Layout {
    let old = release.is_old();
    // 12.1 without PAE: physical addresses have 32 bits.
    let narrow = old && !pae;
    let (size, phys_addr, flags) = match release {
        _ if narrow => (68, 28, 54),
        Release::R10 | Release::R12 => (72, 28, 58),
        Release::R14 => (68, 28, 62),
        Release::R15 | Release::R152 => (60, 20, 54),
    };
    let amd64 = Layout::amd64(release);
    Layout {
        vm_page: VmPageLayout {
            size,
            phys_addr,
            flags,
            ..amd64.vm_page
        },
        phys_seg: PhysSegLayout {
            size: if narrow {
                20
            } else if old {
                28
            } else {
                32
            },
            first_page: if narrow { 8 } else { 16 },
            domain: if narrow {
                12
            } else if old {
                20
            } else {
                24
            },
        },
        physseg_max: 17,
        pcb_size: 192,
        msgbuf_size: 56,
        dump_avail: if old { 34 } else { 36 },
        word: 4,
        paddr: if narrow { 4 } else { 8 },
        maxcpu: if release == Release::R10 { 32 } else { 256 },
        ..amd64
    }
}
