//! amd64.
//!
//! FreeBSD `sys/amd64/include/minidump.h` (header), `pmap.h` and `vmparam.h` (the rest);
//! little-endian.
//!
//! | version | change                                                        |
//! |---------|---------------------------------------------------------------|
//! | 1       | the page map has one PTE per kernel page                      |
//! | 2       | the page map has one PDE per 2 MiB; same header               |
//! | 3       | adds `dumpavailsize`; the bitmap indexes those ranges         |

use crate::architecture::{Chain, FrameCode, FullDelta, machine_arch};
use crate::debuggers::{Debuggers, Feature, X86_CORE, X87, X87_CONTROL};
use crate::elf_machine::ElfMachine;
use crate::minidump::HeaderFields;
use crate::paging::{
    Direct, Frame, Geometry, Level, Means, Rule, Section, When, any_of, level, none_of, rule,
};
use crate::pcb::{ALWAYS, PcbFields};
use crate::pmap::PmapFields;
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Line, Mode, TrapFields, Traps, entries, entry,
};
use crate::{Architecture, ByteOrder, PhysAddr, VirtAddr, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/amd64",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 3,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(64, 4),
    dumpavail_since: 3,
    kernbase: at(40, 8),
    kernend: None,
    dmapphys: None,
    dmapbase: Some(at(48, 8)),
    dmapend: Some(at(56, 8)),
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    kernvirtaddr: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[64, 64, 72],
};

/// Page size.
pub const PAGE_SIZE: u64 = 4096;
/// Size that a PDE maps: 2 MiB.
pub const NBPDR: u64 = 1 << 21;
/// Size that a PDPTE maps: 1 GiB.
pub const NBPDP: u64 = 1 << 30;
/// Number of entries in a page table of any level.
pub const NPTEPG: u64 = 512;
/// Size of an entry.
pub const PTE_SIZE: usize = 8;
/// Shift of the page-table index.
pub const PAGE_SHIFT: u32 = 12;
/// Shift of the page-directory index.
pub const PDRSHIFT: u32 = 21;
/// Shift of the page-directory-pointer index.
pub const PDPSHIFT: u32 = 30;
/// Shift of the PML4 index.
pub const PML4SHIFT: u32 = 39;

/// Entry: valid.
pub const PG_V: u64 = 1 << 0;
/// Entry: writable.
pub const PG_RW: u64 = 1 << 1;
/// Entry: a leaf of 2 MiB or 1 GiB.
pub const PG_PS: u64 = 1 << 7;
/// Entry: not executable.
pub const PG_NX: u64 = 1 << 63;
/// Frame of an entry: bits 12 to 51.
pub const PG_FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Frame of a 2 MiB leaf.
pub const PG_PS_FRAME: u64 = 0x000f_ffff_ffe0_0000;
/// Frame of a 1 GiB leaf.
pub const PG_PS_PDP_FRAME: u64 = 0x000f_ffff_c000_0000;

/// `VM_MIN_KERNEL_ADDRESS`: `kernbase` in headers of version 2 and 3.
pub const VM_MIN_KERNEL_ADDRESS: VirtAddr = VirtAddr(0xffff_fe00_0000_0000);
/// `KERNBASE`: link-time base of the kernel image. `kernbase` in headers of version 1.
pub const KERNBASE: VirtAddr = VirtAddr(0xffff_ffff_8000_0000);
/// `KERNSTART`: the kernel image begins one PDE above [`KERNBASE`], and is mapped to physical memory
/// from `kernphys`.
pub const KERNSTART: VirtAddr = VirtAddr(KERNBASE.0 + NBPDR);
/// `kernphys` of a kernel that was not relocated.
pub const KERNPHYS_USUAL: PhysAddr = PhysAddr(0x20_0000);
/// `DMAP_MIN_ADDRESS` of the 48-bit layout, independent of the size of memory.
pub const DMAP_MIN_ADDRESS: VirtAddr = VirtAddr(0xffff_f800_0000_0000);
/// `DMAP_MAX_ADDRESS` of the 48-bit layout, exclusive.
pub const DMAP_MAX_ADDRESS: VirtAddr = VirtAddr(0xffff_fc00_0000_0000);
/// First address of the direct map in the 57-bit layout (`kva_layout_la57`).
pub const DMAP_MIN_ADDRESS_LA57: VirtAddr = VirtAddr(0xff01_0000_0000_0000);
/// Exclusive end of the direct map in the 57-bit layout.
pub const DMAP_MAX_ADDRESS_LA57: VirtAddr = VirtAddr(0xff21_0000_0000_0000);
/// `PML4PML4I`: the recursive entry of `KPML4phys`.
pub const PML4PML4I: u64 = 256;

/// `pcb_fsbase` of `struct pcb`; `savectx` saves it and the next fields too (FreeBSD
/// `sys/amd64/include/pcb.h`).
pub const PCB_FSBASE: u64 = 64;
/// `pcb_gsbase`
pub const PCB_GSBASE: u64 = 72;
/// `pcb_kgsbase`
pub const PCB_KGSBASE: u64 = 80;
/// `pcb_cr0`, followed by `pcb_cr2`, `pcb_cr3` and `pcb_cr4`.
pub const PCB_CR0: u64 = 88;

const TABLE: Rule = rule(PG_V, PG_V, Means::Table);
const BLOCK: Rule = rule(PG_V | PG_PS, PG_V | PG_PS, Means::Leaf);
const PML5: Level = level(48, NPTEPG, "its PML5 entry is not valid", &[TABLE]);
const PML4: Level = level(PML4SHIFT, NPTEPG, "its PML4 entry is not valid", &[TABLE]);
const PDP: Level = level(
    PDPSHIFT,
    NPTEPG,
    "its PDP entry is not valid",
    &[BLOCK, TABLE],
);
const PD: Level = level(
    PDRSHIFT,
    NPTEPG,
    "its page-directory entry is not valid",
    &[BLOCK, TABLE],
);
const PT: Level = level(
    PAGE_SHIFT,
    NPTEPG,
    "its page-table entry is not valid",
    &[rule(PG_V, PG_V, Means::Leaf)],
);

/// Page tables from a PML4.
pub static PAGING: Geometry = Geometry {
    name: "amd64",
    entry_size: PTE_SIZE,
    levels: &[PML4, PDP, PD, PT],
    frame: Frame::in_place(PG_FRAME),
    write: any_of(PG_RW),
    execute: none_of(PG_NX),
    restricts: true,
    // `VM_MAXUSER_ADDRESS_LA48`
    user_end: Some(VirtAddr(1 << 47)),
};

/// Page tables from a PML5.
pub static PAGING_LA57: Geometry = Geometry {
    name: "amd64 with five levels",
    levels: &[PML5, PML4, PDP, PD, PT],
    // `VM_MAXUSER_ADDRESS_LA57`
    user_end: Some(VirtAddr(1 << 56)),
    ..PAGING
};

/// `pm_pmltop` (`pm_pml4` in 10.4) and `pm_cr3`, at the offsets since 12.1 and of 10.4.
pub static PMAP: PmapFields = PmapFields {
    top: 32,
    also: &[48, 40],
    also_shift: 0,
    also_mask: u64::MAX,
};

/// amd64. `org.gnu.gdb.i386.core` and `.segments`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_X86_64,
    class64: true,
    registers: registers!(
        8: "rax" "rbx" "rcx" "rdx" "rsi" "rdi" "rbp" "rsp"
           "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15" "rip";
        4: "eflags" "cs" "ss" "ds" "es" "fs" "gs";
        8: "fs_base" "gs_base"),
    pc: "rip",
    sp: "rsp",
    fp: "rbp",
    // System V ABI, AMD64 supplement, figure 3.36.
    dwarf: &[
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip",
    ],
};

/// amd64.
pub static PCB: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("rbx", 48),
        ("rbp", 32),
        ("rsp", 40),
        ("r12", 24),
        ("r13", 16),
        ("r14", 8),
        ("r15", 0),
        ("rip", 56),
    ],
    pc: "rip",
    trapped: None,
};

/// amd64.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 0,
    word: 8,
    size: 192,
    position: FramePosition::Above(16),
    registers: &[
        ("rdi", 0, 8),
        ("rsi", 8, 8),
        ("rdx", 16, 8),
        ("rcx", 24, 8),
        ("r8", 32, 8),
        ("r9", 40, 8),
        ("rax", 48, 8),
        ("rbx", 56, 8),
        ("rbp", 64, 8),
        ("r10", 72, 8),
        ("r11", 80, 8),
        ("r12", 88, 8),
        ("r13", 96, 8),
        ("r14", 104, 8),
        ("r15", 112, 8),
        ("rip", 152, 8),
        ("cs", 160, 2),
        ("eflags", 168, 4),
        ("rsp", 176, 8),
        ("ss", 184, 2),
    ],
    link: None,
    mode: Mode {
        at: 160,
        mask: 3,
        user_has_one: true,
    },
    number: Some((120, 4)),
    address: Some(128),
    ..TrapFields::PLAIN
};

/// amd64
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        8: "r15" "r14" "r13" "r12" "r11" "r10" "r9" "r8" "rdi" "rsi" "rbp" "rbx" "rdx" "rcx" "rax";
        4: "trapno"; 2: "fs" "gs"; 4: "err"; 2: "es" "ds";
        8: "rip" "cs" "eflags" "rsp" "ss"),
    linux: slots!(
        8: "r15" "r14" "r13" "r12" "rbp" "rbx" "r11" "r10" "r9" "r8" "rax" "rcx" "rdx" "rsi" "rdi"
           "orig_rax" "rip" "cs" "eflags" "rsp" "ss" "fs_base" "gs_base" "ds" "es" "fs" "gs"),
    always: &[("cs", 0x20), ("ss", 0x28)],
};

/// Entry code of FRED, after 15.0: the same frame, followed by two words of the processor (`struct
/// trapframe_fred` in `sys/x86/include/frame.h`).
const fn fred(name: &'static str) -> Entry {
    Entry {
        event: Some(188),
        ..entry(name, Cause::Trap)
    }
}

const ENTRIES: &[Entry] = &[
    entry("calltrap", Cause::Trap),
    // A thread's first code returns to user mode through this frame; that of a kernel thread is empty.
    entry("fork_trampoline", Cause::Trap),
    entry("nmi_calltrap", Cause::Trap),
    entry("mchk_calltrap", Cause::Trap),
    entries("alltraps", Cause::Trap),
    entry("fast_syscall_common", Cause::Syscall),
    // The return point in 10.4.
    entry("Xfast_syscall", Cause::Syscall),
    entry("Xfast_syscall_pti", Cause::Syscall),
    entry("Xint0x80_syscall", Cause::Syscall),
    entry("Xint0x80_syscall_pti", Cause::Syscall),
    entry("int0x80_syscall_common", Cause::Syscall),
    fred("fred_events_handlers"),
    fred("user_fred_syscall"),
    fred("user_fred_non_syscall"),
    entry("Xdblfault", Cause::Trap),
    entry("Xpage", Cause::Trap),
    entries("X", Cause::Interrupt),
];

/// The registers and names of amd64 in debuggers.
pub static DEBUGGERS: Debuggers = Debuggers {
    gdb: "i386:x86-64",
    triple: "x86_64-unknown-freebsd",
    features: &[
        Feature {
            name: X86_CORE,
            bits: 64,
            registers: "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip",
        },
        Feature {
            name: X86_CORE,
            bits: 32,
            registers: "eflags cs ss ds es fs gs",
        },
        X87,
        X87_CONTROL,
        Feature {
            name: "org.gnu.gdb.i386.segments",
            bits: 64,
            registers: "fs_base gs_base",
        },
    ],
    dwarf: "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip",
    roles: &[
        ("rip", "pc", "code_ptr"),
        ("rsp", "sp", "data_ptr"),
        ("rbp", "fp", "data_ptr"),
        ("eflags", "flags", "int"),
    ],
};

/// The definitions of amd64.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "amd64",
    machine: ElfMachine::EM_X86_64,
    machine_archs: &[machine_arch("amd64", ByteOrder::Little, 8)],
    machine_arch_prefix: None,
    architectureversion: 2,
    words: &[8],
    orders: &[ByteOrder::Little],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[
        (When::Version(1), Section::Pages(&PAGING)),
        (When::Always, Section::Directories(&PAGING)),
    ],
    unpadded: false,
    kernbase_align: &[(When::Version(1), PAGE_SIZE), (When::Always, NBPDP)],
    kernbase: None,
    direct: Direct::Linear {
        first: false,
        inclusive: false,
    },
    direct_maps: &[
        (DMAP_MIN_ADDRESS, DMAP_MAX_ADDRESS),
        (DMAP_MIN_ADDRESS_LA57, DMAP_MAX_ADDRESS_LA57),
    ],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: Some(FullDelta {
        base: Some(KERNBASE),
        hole: NBPDR,
        align: NBPDR,
    }),
    registers: &[&REGISTERS],
    wide_registers: 0,
    pcbs: &[&PCB],
    traps: Traps {
        frames: &[&TRAPFRAME],
        entries: ENTRIES,
        labels: &[],
        interrupt_handlers: &[],
        codes: Codes::NONE,
        line: Line::TRAP,
    },
    prstatus: Some(&PRSTATUS),
    cpu: None,
    chain: Some(Chain {
        cfa: Some(2),
        ..Chain::PLAIN
    }),
    frame_code: Some(FrameCode {
        push: &[0x55, 0x48, 0x89, 0xe5],
        set: &[0x48, 0x89, 0xe5],
        leave: &[0xc3],
    }),
    entry_copy: None,
    stopped_in: &["cpustop_handler"],
    pmap: Some(&PMAP),
    time_t: 8,
    ram_at_zero: true,
    memory_ranges: true,
    debuggers: Some(&DEBUGGERS),
};
