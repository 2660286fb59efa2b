//! riscv64.
//!
//! FreeBSD `sys/riscv/include/minidump.h` (header), `pte.h` and `vmparam.h` (the rest);
//! little-endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::architecture::{Chain, machine_arch};
use crate::cpu::CpuFields;
use crate::debuggers::{Debuggers, Feature};
use crate::elf_machine::ElfMachine;
use crate::minidump::{HeaderFields, PAGE_SIZE};
use crate::paging::{Direct, Frame, Geometry, Means, Rule, Section, When, any_of, level, rule};
use crate::pcb::{ALWAYS, PcbFields, Trapped};
use crate::pmap::PmapFields;
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Line, Mode, NumberFormat, TrapFields, Traps, entries,
};
use crate::{Architecture, ByteOrder, VirtAddr, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/riscv",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(72, 4),
    dumpavail_since: 2,
    kernbase: at(40, 8),
    kernend: None,
    dmapphys: Some(at(48, 8)),
    dmapbase: Some(at(56, 8)),
    dmapend: Some(at(64, 8)),
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
    sizeof: &[72, 80],
};

/// Size of an entry.
pub const PTE_SIZE: usize = 8;
/// Entry: valid.
pub const PTE_V: u64 = 1 << 0;
/// Entry: readable.
pub const PTE_R: u64 = 1 << 1;
/// Entry: writable.
pub const PTE_W: u64 = 1 << 2;
/// Entry: executable.
pub const PTE_X: u64 = 1 << 3;
/// Any of these makes a valid entry a leaf.
pub const PTE_RWX: u64 = PTE_R | PTE_W | PTE_X;
/// Lowest bit of the frame number.
pub const PTE_PPN0_S: u32 = 10;
/// Mask of the frame number in an entry: 44 bits. Bits 54 to 63 are for extensions.
pub const PTE_PPN_MASK: u64 = ((1 << 44) - 1) << PTE_PPN0_S;
/// L2 shift.
pub const L2_SHIFT: u32 = 21;
/// L3 shift.
pub const L3_SHIFT: u32 = 12;

/// `VM_MIN_KERNEL_ADDRESS`, also `KERNBASE`.
pub const VM_MIN_KERNEL_ADDRESS: VirtAddr = VirtAddr(0xffff_ffc0_0000_0000);
/// `VM_MAX_KERNEL_ADDRESS`
pub const VM_MAX_KERNEL_ADDRESS: VirtAddr = VirtAddr(0xffff_ffc8_0000_0000);
/// `DMAP_MIN_ADDRESS`
pub const DMAP_MIN_ADDRESS: VirtAddr = VirtAddr(0xffff_ffd0_0000_0000);
/// `DMAP_MAX_ADDRESS`
pub const DMAP_MAX_ADDRESS: VirtAddr = VirtAddr(0xffff_fff0_0000_0000);

const L0_INVALID: &str = "its L0 entry is not valid";
const L1_INVALID: &str = "its L1 entry is not valid";
const L2_INVALID: &str = "its L2 entry is not valid";
const L3_INVALID: &str = "its L3 entry is not valid";

/// At every level, a valid entry with a permission is a leaf.
const fn leaf(permission: u64) -> Rule {
    rule(PTE_V | permission, PTE_V | permission, Means::Leaf)
}

const PAGE: &[Rule] = &[leaf(PTE_R), leaf(PTE_W), leaf(PTE_X)];
const UPPER: &[Rule] = &[
    leaf(PTE_R),
    leaf(PTE_W),
    leaf(PTE_X),
    rule(PTE_V, PTE_V, Means::Table),
];

/// Page tables of three levels.
pub static PAGING_SV39: Geometry = Geometry {
    name: "Sv39",
    entry_size: PTE_SIZE,
    levels: &[
        level(30, 512, L1_INVALID, UPPER),
        level(L2_SHIFT, 512, L2_INVALID, UPPER),
        level(L3_SHIFT, 512, L3_INVALID, PAGE),
    ],
    // Extensions use bits above the frame number; libkvm includes them in the frame number.
    frame: Frame::shifted(PTE_PPN_MASK, PTE_PPN0_S, L3_SHIFT),
    write: any_of(PTE_W),
    execute: any_of(PTE_X),
    restricts: false,
    // `VM_MAX_USER_ADDRESS_SV39`
    user_end: Some(VirtAddr(1 << 38)),
};

/// Page tables of four levels.
pub static PAGING_SV48: Geometry = Geometry {
    name: "Sv48",
    levels: &[
        level(39, 512, L0_INVALID, UPPER),
        level(30, 512, L1_INVALID, UPPER),
        level(L2_SHIFT, 512, L2_INVALID, UPPER),
        level(L3_SHIFT, 512, L3_INVALID, PAGE),
    ],
    // `VM_MAX_USER_ADDRESS_SV48`
    user_end: Some(VirtAddr(1 << 47)),
    ..PAGING_SV39
};

/// `pm_top`, and `pm_satp`, whose lower 44 bits are the root's frame number.
pub static PMAP: PmapFields = PmapFields {
    top: 48,
    also: &[56],
    also_shift: L3_SHIFT,
    also_mask: (1 << 44) - 1,
};

/// riscv64. `org.gnu.gdb.riscv.cpu`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_RISCV,
    class64: true,
    registers: registers!(
        8: "zero" "ra" "sp" "gp" "tp" "t0" "t1" "t2" "fp" "s1" "a0" "a1" "a2" "a3" "a4" "a5" "a6"
           "a7" "s2" "s3" "s4" "s5" "s6" "s7" "s8" "s9" "s10" "s11" "t3" "t4" "t5" "t6" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "fp",
    // RISC-V ABIs specification, DWARF register numbers.
    dwarf: &[
        "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4",
        "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
        "t5", "t6",
    ],
};

/// riscv of 15: only callee-saved registers.
pub static PCB: PcbFields = PcbFields {
    since: 1_201_001,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("ra", 0),
        ("sp", 8),
        ("gp", 16),
        ("tp", 24),
        ("fp", 32),
        ("s1", 40),
        ("s2", 48),
        ("s3", 56),
        ("s4", 64),
        ("s5", 72),
        ("s6", 80),
        ("s7", 88),
        ("s8", 96),
        ("s9", 104),
        ("s10", 112),
        ("s11", 120),
    ],
    pc: "ra",
    trapped: None,
};

/// riscv of 12.1, with unused space for t0 to t6 before s0. The version that changed it to [`PCB`] is
/// unknown.
pub static PCB_OLD: PcbFields = PcbFields {
    since: 0,
    until: 1_500_000,
    // 31 registers, 32 floating-point ones of 16 bytes, and four words.
    size: 31 * 8 + 32 * 16 + 4 * 8,
    word: 8,
    registers: &[
        ("ra", 0),
        ("sp", 8),
        ("gp", 16),
        ("tp", 24),
        ("fp", 88),
        ("s1", 96),
        ("s2", 104),
        ("s3", 112),
        ("s4", 120),
        ("s5", 128),
        ("s6", 136),
        ("s7", 144),
        ("s8", 152),
        ("s9", 160),
        ("s10", 168),
        ("s11", 176),
    ],
    pc: "ra",
    trapped: Some(&Trapped {
        pc: 31 * 8 + 32 * 16 + 2 * 8,
        registers: &[
            ("t0", 32),
            ("t1", 40),
            ("t2", 48),
            ("t3", 56),
            ("t4", 64),
            ("t5", 72),
            ("t6", 80),
            ("a0", 184),
            ("a1", 192),
            ("a2", 200),
            ("a3", 208),
            ("a4", 216),
            ("a5", 224),
            ("a6", 232),
            ("a7", 240),
        ],
    }),
};

/// riscv64.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 0,
    word: 8,
    size: 280,
    position: FramePosition::Above(0),
    registers: &[
        ("ra", 0, 8),
        ("sp", 8, 8),
        ("gp", 16, 8),
        ("tp", 24, 8),
        ("t0", 32, 8),
        ("t1", 40, 8),
        ("t2", 48, 8),
        ("t3", 56, 8),
        ("t4", 64, 8),
        ("t5", 72, 8),
        ("t6", 80, 8),
        ("fp", 88, 8),
        ("s1", 96, 8),
        ("s2", 104, 8),
        ("s3", 112, 8),
        ("s4", 120, 8),
        ("s5", 128, 8),
        ("s6", 136, 8),
        ("s7", 144, 8),
        ("s8", 152, 8),
        ("s9", 160, 8),
        ("s10", 168, 8),
        ("s11", 176, 8),
        ("a0", 184, 8),
        ("a1", 192, 8),
        ("a2", 200, 8),
        ("a3", 208, 8),
        ("a4", 216, 8),
        ("a5", 224, 8),
        ("a6", 232, 8),
        ("a7", 240, 8),
        ("pc", 248, 8),
    ],
    link: None,
    // sstatus.SPP: set if the interrupted mode was not user mode.
    mode: Mode {
        at: 256,
        mask: 0x100,
        user_has_one: false,
    },
    number: Some((272, 8)),
    address: Some(264),
    ..TrapFields::PLAIN
};

/// riscv64
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        8: "ra" "sp" "gp" "tp" "t0" "t1" "t2" "t3" "t4" "t5" "t6" "fp" "s1" "s2" "s3" "s4" "s5" "s6"
           "s7" "s8" "s9" "s10" "s11" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7" "pc" "sstatus"),
    linux: slots!(
        8: "pc" "ra" "sp" "gp" "tp" "t0" "t1" "t2" "fp" "s1" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7"
           "s2" "s3" "s4" "s5" "s6" "s7" "s8" "s9" "s10" "s11" "t3" "t4" "t5" "t6"),
    always: &[],
};

/// riscv64
pub static CPU: CpuFields = CpuFields {
    monitor: slots!(
        8: "pc" "x1/" "x2/" "x3/" "x4/" "x5/" "x6/" "x7/" "x8/" "x9/" "x10/" "x11/" "x12/" "x13/"
           "x14/" "x15/" "x16/" "x17/" "x18/" "x19/" "x20/" "x21/" "x22/" "x23/" "x24/" "x25/" "x26/"
           "x27/" "x28/" "x29/" "x30/" "x31/" "x0/"),
    pcpu: "tp",
    user_mode: None,
    shown: &[
        ("pc", "pc"),
        ("ra", "ra"),
        ("sp", "sp"),
        ("tp", "tp"),
        ("fp", "fp"),
    ],
};

/// The bit of `tf_scause` that indicates an interrupt.
const SCAUSE_INTR: u64 = 1 << 63;
/// `tf_scause` of a system call.
const SCAUSE_ECALL_USER: u64 = 8;

const ENTRIES: &[Entry] = &[entries("cpu_exception_handler", Cause::Trap)];

/// The registers and names of riscv64 in debuggers.
pub static DEBUGGERS: Debuggers = Debuggers {
    gdb: "riscv:rv64",
    triple: "riscv64-unknown-freebsd",
    features: &[Feature {
        name: "org.gnu.gdb.riscv.cpu",
        bits: 64,
        registers: "zero ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 \
                        s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6 pc",
    }],
    dwarf: "zero ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 \
             s9 s10 s11 t3 t4 t5 t6",
    roles: &[
        ("pc", "pc", "code_ptr"),
        ("sp", "sp", "data_ptr"),
        ("fp", "fp", "data_ptr"),
        ("ra", "ra", "code_ptr"),
    ],
};

/// The definitions of riscv64.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "riscv",
    machine: ElfMachine::EM_RISCV,
    machine_archs: &[machine_arch("riscv64", ByteOrder::Little, 8)],
    machine_arch_prefix: None,
    architectureversion: 1,
    words: &[8],
    orders: &[ByteOrder::Little],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[(When::Always, Section::Pages(&PAGING_SV39))],
    unpadded: false,
    kernbase_align: &[(When::Always, 1 << L2_SHIFT)],
    kernbase: Some(VM_MIN_KERNEL_ADDRESS),
    direct: Direct::Linear {
        first: true,
        inclusive: false,
    },
    direct_maps: &[(DMAP_MIN_ADDRESS, DMAP_MAX_ADDRESS)],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: None,
    registers: &[&REGISTERS],
    wide_registers: 0,
    pcbs: &[&PCB, &PCB_OLD],
    traps: Traps {
        frames: &[&TRAPFRAME],
        entries: ENTRIES,
        labels: &[],
        interrupt_handlers: &[],
        codes: Codes {
            decides: true,
            interrupt_bits: SCAUSE_INTR,
            syscall: Some(SCAUSE_ECALL_USER),
            syscall_from_user: false,
            always: true,
            ..Codes::NONE
        },
        line: Line {
            trap: "exception ",
            number: Some(NumberFormat::Decimal),
            address: Some(", tval = "),
            interrupt_number: true,
        },
    },
    prstatus: Some(&PRSTATUS),
    cpu: Some(&CPU),
    chain: Some(Chain {
        caller: -2,
        back: -1,
        in_caller: false,
        cfa: Some(0),
    }),
    frame_code: None,
    entry_copy: None,
    // 12.1 has the second.
    stopped_in: &["ipi_stop", "ipi_handler"],
    pmap: Some(&PMAP),
    time_t: 8,
    ram_at_zero: false,
    memory_ranges: false,
    debuggers: Some(&DEBUGGERS),
};
