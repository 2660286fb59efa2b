//! mips, 32 and 64 bit. Removed from FreeBSD after 13.
//!
//! FreeBSD `sys/mips/include/minidump.h` (header), `cpuregs.h` and `pte.h` (the rest); in the
//! kernel's byte order. The kernel leaves `dmapbase` and `dmapend` zero.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::architecture::machine_arch;
use crate::elf_machine::ElfMachine;
use crate::minidump::{HeaderFields, PAGE_SIZE};
use crate::paging::{
    Bits, Direct, Frame, Geometry, Means, Section, When, Window, any_of, level, rule,
};
use crate::pcb::{ALWAYS, PcbFields};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Line, Mode, NumberFormat, TrapFields, Traps, entry,
};
use crate::{Architecture, ByteOrder, VirtAddr, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/mips",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(64, 4),
    dumpavail_since: 2,
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
    sizeof: &[64, 72],
};

/// Entry: global. All entries of the kernel map are global, even invalid ones, since the TLB has one
/// such bit for two pages.
pub const PTE_G: u64 = 0x1;
/// Entry: valid.
pub const PTE_V: u64 = 0x2;
/// Entry: dirty, that is, writable.
pub const PTE_D: u64 = 0x4;
/// Mask of the frame number in a 32-bit entry.
pub const PTE_PFN_MASK_32: u64 = 0x1fff_ffc0;
/// Mask of the frame number in a 64-bit entry.
pub const PTE_PFN_MASK_64: u64 = 0x3_ffff_ffc0;
/// Shift of the frame number.
pub const PTE_PFN_SHIFT: u32 = 6;

/// `e_flags` of an ELF32 kernel: the n32 ABI, with 64-bit registers and page-table entries.
pub const EF_MIPS_ABI2: u32 = 0x20;

/// First address of XKPHYS (64-bit kernels), cached or not; the low 40 bits are the physical address.
pub const XKPHYS_START: VirtAddr = VirtAddr(0x8000_0000_0000_0000);
/// Last address of XKPHYS.
pub const XKPHYS_END: VirtAddr = VirtAddr(0xbfff_ffff_ffff_ffff);
/// First address of the part of XKPHYS that is cached without coherence.
pub const XKPHYS_CACHED: VirtAddr = VirtAddr(0x9800_0000_0000_0000);
/// Physical part of an XKPHYS address.
pub const XKPHYS_PHYS_MASK: u64 = (1 << 40) - 1;
/// First address of KSEG0 on 32-bit kernels; 64-bit kernels extend the sign.
pub const KSEG0_START: VirtAddr = VirtAddr(0x8000_0000);
/// First address after KSEG1 on 32-bit kernels; 64-bit kernels extend the sign.
pub const KSEG1_END: VirtAddr = VirtAddr(0xc000_0000);
/// Physical part of a KSEG0 or KSEG1 address.
pub const KSEG_PHYS_MASK: u64 = (1 << 29) - 1;
/// Upper bits of a sign-extended KSEG address of a 64-bit kernel.
pub const KSEG_SIGN: u64 = 0xffff_ffff_0000_0000;

const PT_INVALID: &str = "its page-table entry is not valid";

/// The last level of kernels with 32-bit registers.
pub static PAGING_32: Geometry = Geometry {
    name: "mips, 32 bits",
    entry_size: 4,
    levels: &[level(
        12,
        1024,
        PT_INVALID,
        &[rule(PTE_V, PTE_V, Means::Leaf)],
    )],
    frame: Frame::shifted(PTE_PFN_MASK_32, PTE_PFN_SHIFT, 12),
    write: any_of(PTE_D),
    execute: Bits::ALWAYS,
    restricts: false,
    user_end: None,
};

/// The last level of kernels with 64-bit registers.
pub static PAGING_64: Geometry = Geometry {
    name: "mips, 64 bits",
    entry_size: 8,
    levels: &[level(
        12,
        512,
        PT_INVALID,
        &[rule(PTE_V, PTE_V, Means::Leaf)],
    )],
    frame: Frame::shifted(PTE_PFN_MASK_64, PTE_PFN_SHIFT, 12),
    ..PAGING_32
};

/// mips with 32-bit registers (o32), in GDB's order and by GDB's names.
pub static REGISTERS_32: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_MIPS,
    class64: false,
    registers: registers!(
        4: "zero" "at" "v0" "v1" "a0" "a1" "a2" "a3" "t0" "t1" "t2" "t3" "t4" "t5" "t6" "t7"
           "s0" "s1" "s2" "s3" "s4" "s5" "s6" "s7" "t8" "t9" "k0" "k1" "gp" "sp" "s8" "ra"
           "sr" "lo" "hi" "bad" "cause" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "sp",
    // Backtraces decode the prologues of functions.
    dwarf: &[],
};

/// mips with 32-bit registers (o32): `pcb_context`, after the trap frame of 40 registers, 32
/// floating-point registers and their two words.
///
/// FreeBSD 12.1 `sys/mips/include/pcb.h`, `regnum.h`, `_types.h`; `swtch.S` saves the registers. `PC`
/// of the context is an address in `cpu_switch` or `savectx`, but the saved stack pointer is that of
/// the caller.
pub static PCB_32: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 296 + 14 * 4 + 4 + 4,
    word: 4,
    registers: &[
        ("s0", 296),
        ("s1", 300),
        ("s2", 304),
        ("s3", 308),
        ("s4", 312),
        ("s5", 316),
        ("s6", 320),
        ("s7", 324),
        ("sp", 328),
        ("s8", 332),
        ("ra", 336),
        ("sr", 340),
        ("gp", 344),
    ],
    pc: "ra",
    trapped: None,
};

macro_rules! trap_registers {
    ($word:literal; $($name:literal = $index:literal),*) => {
        &[$(($name, $index * $word, $word as usize)),*]
    };
}

/// mips with 32-bit registers. FreeBSD 12.1 `sys/mips/include/regnum.h`; `exception.S` does not save k0
/// and k1. The frame follows the call frame of six words (`abi.h`).
pub static TRAPFRAME_32: TrapFields = TrapFields {
    since: 0,
    word: 4,
    size: 160,
    position: FramePosition::AboveStack(24),
    registers: trap_registers!(4;
        "at" = 1, "v0" = 2, "v1" = 3, "a0" = 4, "a1" = 5, "a2" = 6, "a3" = 7,
        "t0" = 8, "t1" = 9, "t2" = 10, "t3" = 11, "t4" = 12, "t5" = 13, "t6" = 14, "t7" = 15,
        "s0" = 16, "s1" = 17, "s2" = 18, "s3" = 19, "s4" = 20, "s5" = 21, "s6" = 22, "s7" = 23,
        "t8" = 24, "t9" = 25, "gp" = 28, "sp" = 29, "s8" = 30, "ra" = 31,
        "sr" = 32, "lo" = 33, "hi" = 34, "bad" = 35, "cause" = 36, "pc" = 37),
    link: None,
    // MIPS_SR_KSU_USER of the status register.
    mode: Mode {
        at: 32 * 4,
        mask: 0x10,
        user_has_one: true,
    },
    number: Some((36 * 4, 4)),
    address: Some(35 * 4),
    ..TrapFields::PLAIN
};

/// mips with 64-bit registers (n64, n32), with other names for registers 8 to 15.
pub static REGISTERS_64: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_MIPS,
    class64: true,
    registers: registers!(
        8: "zero" "at" "v0" "v1" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7" "t0" "t1" "t2" "t3"
           "s0" "s1" "s2" "s3" "s4" "s5" "s6" "s7" "t8" "t9" "k0" "k1" "gp" "sp" "s8" "ra"
           "sr" "lo" "hi" "bad" "cause" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "sp",
    // Backtraces decode the prologues of functions.
    dwarf: &[],
};

/// mips with 64-bit registers (n64, n32).
pub static PCB_64: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 592 + 14 * 8 + 8 + 8,
    word: 8,
    registers: &[
        ("s0", 592),
        ("s1", 600),
        ("s2", 608),
        ("s3", 616),
        ("s4", 624),
        ("s5", 632),
        ("s6", 640),
        ("s7", 648),
        ("sp", 656),
        ("s8", 664),
        ("ra", 672),
        ("sr", 680),
        ("gp", 688),
    ],
    pc: "ra",
    trapped: None,
};

/// mips with 64-bit registers; the call frame has four words.
pub static TRAPFRAME_64: TrapFields = TrapFields {
    word: 8,
    size: 320,
    position: FramePosition::AboveStack(32),
    registers: trap_registers!(8;
        "at" = 1, "v0" = 2, "v1" = 3, "a0" = 4, "a1" = 5, "a2" = 6, "a3" = 7,
        "a4" = 8, "a5" = 9, "a6" = 10, "a7" = 11, "t0" = 12, "t1" = 13, "t2" = 14, "t3" = 15,
        "s0" = 16, "s1" = 17, "s2" = 18, "s3" = 19, "s4" = 20, "s5" = 21, "s6" = 22, "s7" = 23,
        "t8" = 24, "t9" = 25, "gp" = 28, "sp" = 29, "s8" = 30, "ra" = 31,
        "sr" = 32, "lo" = 33, "hi" = 34, "bad" = 35, "cause" = 36, "pc" = 37),
    mode: Mode {
        at: 32 * 8,
        mask: 0x10,
        user_has_one: true,
    },
    number: Some((36 * 8, 8)),
    address: Some(35 * 8),
    ..TRAPFRAME_32
};

const ENTRIES: &[Entry] = &[
    entry("MipsKernGenException", Cause::Trap),
    entry("MipsUserGenException", Cause::Trap),
    entry("MipsKernIntr", Cause::Interrupt),
    entry("MipsUserIntr", Cause::Interrupt),
    // The handler of a kernel stack overflow.
    entry("MipsTLBInvalidException", Cause::Trap),
];

/// The definitions of mips.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "mips",
    machine: ElfMachine::EM_MIPS,
    machine_archs: &[
        machine_arch("mips", ByteOrder::Big, 4),
        machine_arch("mipsel", ByteOrder::Little, 4),
        machine_arch("mips64", ByteOrder::Big, 8),
        machine_arch("mips64el", ByteOrder::Little, 8),
    ],
    machine_arch_prefix: Some("mips"),
    architectureversion: 1,
    words: &[4, 8],
    orders: &[ByteOrder::Little, ByteOrder::Big],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    // 64-bit kernels of 12.1 used 32-bit words; the result differs only in big-endian dumps.
    bitmap_words: &[(When::Version(1), 4)],
    sections: &[
        (When::Word(8), Section::Pages(&PAGING_64)),
        (When::Always, Section::Pages(&PAGING_32)),
    ],
    unpadded: false,
    kernbase_align: &[(When::Always, 1)],
    kernbase: None,
    direct: Direct::Windows(&[
        Window {
            when: When::Word(8),
            start: XKPHYS_START,
            last: XKPHYS_END,
            mask: XKPHYS_PHYS_MASK,
            home: Some(XKPHYS_CACHED),
        },
        Window {
            when: When::Word(8),
            start: VirtAddr(KSEG_SIGN + KSEG0_START.0),
            last: VirtAddr(KSEG_SIGN + KSEG1_END.0 - 1),
            mask: KSEG_PHYS_MASK,
            home: None,
        },
        Window {
            when: When::Word(4),
            start: KSEG0_START,
            last: VirtAddr(KSEG1_END.0 - 1),
            mask: KSEG_PHYS_MASK,
            home: Some(KSEG0_START),
        },
    ]),
    direct_maps: &[],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: None,
    registers: &[&REGISTERS_32, &REGISTERS_64],
    wide_registers: EF_MIPS_ABI2,
    pcbs: &[&PCB_64, &PCB_32],
    traps: Traps {
        frames: &[&TRAPFRAME_64, &TRAPFRAME_32],
        entries: ENTRIES,
        labels: &[],
        interrupt_handlers: &[],
        codes: Codes {
            // The exception code of the cause register.
            shift: 2,
            mask: 0x1f,
            // Sys
            syscall: Some(8),
            // TLB modified, TLB load, TLB store, address error load, address error store.
            addressed: Some(&[1, 2, 3, 4, 5]),
            always: true,
            ..Codes::NONE
        },
        line: Line {
            trap: "exception, cause ",
            number: Some(NumberFormat::Hex),
            address: Some(", badvaddr "),
            interrupt_number: false,
        },
    },
    // No debugger supports such cores.
    prstatus: None,
    cpu: None,
    // Functions have no frame pointer; their code determines the caller's frame.
    chain: None,
    frame_code: None,
    entry_copy: None,
    stopped_in: &["cpustop_handler"],
    pmap: None,
    time_t: 8,
    ram_at_zero: true,
    memory_ranges: false,
    debuggers: None,
};
