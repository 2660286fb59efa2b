//! 32-bit arm.
//!
//! FreeBSD `sys/arm/include/minidump.h` (header), `pte-v6.h`, `pte-v4.h` (entries).
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges. `ptesize` is a multiple of
//! 1 KiB; the kernel writes the section without padding, but libkvm expects padding.
//!
//! Fields are added without a new version: the header page is zero after the known fields.
//! `kernvirtaddr` is such a field, which `sizeof` does not include.

use crate::architecture::{Chain, FullDelta, machine_arch};
use crate::elf_machine::ElfMachine;
use crate::minidump::{HeaderFields, PAGE_SIZE};
use crate::paging::{
    Bits, Direct, Frame, Geometry, Large, Level, Means, Section, When, any_of, level, none_of, rule,
};
use crate::pcb::{ALWAYS, PcbFields};
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Label, Line, Mode, TrapFields, Traps, entry,
};
use crate::{Architecture, ByteOrder, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/arm",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(52, 4),
    dumpavail_since: 2,
    kernbase: at(40, 4),
    kernend: None,
    dmapphys: None,
    dmapbase: None,
    dmapend: None,
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: Some(at(44, 4)),
    mmuformat: Some(at(48, 4)),
    kernvirtaddr: Some(at(56, 4)),
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[52, 56],
};

/// `MINIDUMP_MMU_FORMAT_UNKNOWN`: treated as [`MMUFORMAT_V6`].
pub const MMUFORMAT_UNKNOWN: u32 = 0;
/// `MINIDUMP_MMU_FORMAT_V4`
pub const MMUFORMAT_V4: u32 = 1;
/// `MINIDUMP_MMU_FORMAT_V6`
pub const MMUFORMAT_V6: u32 = 2;
/// `MINIDUMP_MMU_FORMAT_V6_LPAE`
pub const MMUFORMAT_V6_LPAE: u32 = 3;

/// Size of an L2 descriptor.
pub const PTE_SIZE: usize = 4;
/// Type bits of an L2 descriptor.
pub const L2_TYPE_MASK: u64 = 3;
/// Type: invalid.
pub const L2_TYPE_INV: u64 = 0;
/// Type: a page of 64 KiB.
pub const L2_TYPE_L: u64 = 1;
/// Type: a small page. With version 6 formats bit 0 is "never execute".
pub const L2_TYPE_S: u64 = 2;
/// Type: a tiny page of version 4 formats, which is not supported.
pub const L2_TYPE_T: u64 = 3;
/// Frame of a 64 KiB page.
pub const L2_L_FRAME: u64 = 0xffff_0000;
/// Address bits below a 64 KiB page's frame.
pub const L2_L_OFFSET: u64 = 0x0000_ffff;
/// Frame of a small page.
pub const L2_S_FRAME: u64 = 0xffff_f000;
/// Version 6: not writable (a bit for software).
pub const PTE2_RO_V6: u64 = 1 << 7;
/// Version 6, small pages: not executable.
pub const L2_NX_V6: u64 = 1 << 0;
/// Version 6, pages of 64 KiB: not executable (Arm's architecture manual).
pub const L2_L_NX_V6: u64 = 1 << 15;
/// Version 4: writable by the kernel.
pub const L2_S_PROT_W_V4: u64 = 1 << 4;

const L2_INVALID: &str = "its L2 descriptor is not valid";
const LARGE: u64 = 1 << 16;

const L2_V4: Level = level(
    12,
    256,
    L2_INVALID,
    &[
        rule(
            L2_TYPE_MASK,
            L2_TYPE_L,
            Means::Large(Large {
                span: LARGE,
                execute: Bits::ALWAYS,
            }),
        ),
        rule(L2_TYPE_MASK, L2_TYPE_S, Means::Leaf),
        rule(
            L2_TYPE_MASK,
            L2_TYPE_T,
            Means::Refused("its L2 descriptor is a tiny page"),
        ),
    ],
);

const L2_V6: Level = level(
    12,
    256,
    L2_INVALID,
    &[
        rule(
            L2_TYPE_MASK,
            L2_TYPE_L,
            Means::Large(Large {
                span: LARGE,
                execute: none_of(L2_L_NX_V6),
            }),
        ),
        rule(L2_TYPE_S, L2_TYPE_S, Means::Leaf),
    ],
);

/// The last level of version 4 formats.
pub static PAGING_V4: Geometry = Geometry {
    name: "arm, version 4",
    entry_size: PTE_SIZE,
    levels: &[L2_V4],
    frame: Frame::in_place(L2_S_FRAME),
    write: any_of(L2_S_PROT_W_V4),
    execute: Bits::ALWAYS,
    restricts: false,
    user_end: None,
};

/// The last level of version 6 formats.
pub static PAGING_V6: Geometry = Geometry {
    name: "arm, version 6",
    levels: &[L2_V6],
    write: none_of(PTE2_RO_V6),
    execute: none_of(L2_NX_V6),
    ..PAGING_V4
};

/// 32-bit arm. `org.gnu.gdb.arm.core`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_ARM,
    class64: false,
    registers: registers!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr"),
    pc: "pc",
    sp: "sp",
    fp: "r11",
    // DWARF for the Arm architecture, 4.1.
    dwarf: &[
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp",
        "lr", "pc",
    ],
};

/// arm.
pub static PCB: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 4,
    registers: &[
        ("r4", 0),
        ("r5", 4),
        ("r6", 8),
        ("r7", 12),
        ("r8", 16),
        ("r9", 20),
        ("r10", 24),
        ("r11", 28),
        ("r12", 32),
        ("sp", 36),
        ("lr", 40),
        ("pc", 44),
    ],
    // A context switch does not save `pc`.
    pc: "lr",
    trapped: None,
};

/// arm. The kernel's stack pointer and link register; those of user mode are in other fields.
/// FreeBSD 12.1 and 14 `sys/arm/arm/exception.S`.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 0,
    word: 4,
    size: 80,
    // The called function first pushes its link register and r11.
    position: FramePosition::Above(8),
    registers: &[
        ("cpsr", 0, 4),
        ("r0", 4, 4),
        ("r1", 8, 4),
        ("r2", 12, 4),
        ("r3", 16, 4),
        ("r4", 20, 4),
        ("r5", 24, 4),
        ("r6", 28, 4),
        ("r7", 32, 4),
        ("r8", 36, 4),
        ("r9", 40, 4),
        ("r10", 44, 4),
        ("r11", 48, 4),
        ("r12", 52, 4),
        ("sp", 64, 4),
        ("lr", 68, 4),
        ("pc", 72, 4),
    ],
    link: None,
    // Bits of PSR_MODE that are zero only in user mode.
    mode: Mode {
        at: 0,
        mask: 0xf,
        user_has_one: false,
    },
    number: None,
    address: None,
    user: &[("sp", 56), ("lr", 60)],
    // All 32-bit modes have this bit in `tf_spsr`. The frame of a thread that was never in user mode
    // is all zero.
    valid: 0x10,
    ..TrapFields::PLAIN
};

/// 32-bit arm
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr"),
    linux: slots!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr" "orig_r0"),
    always: &[],
};

const ENTRIES: &[Entry] = &[
    entry("swi_exit", Cause::Syscall),
    entry("exception_exit", Cause::Trap),
];

/// The definitions of arm.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "arm",
    machine: ElfMachine::EM_ARM,
    machine_archs: &[
        machine_arch("armv7", ByteOrder::Little, 4),
        machine_arch("armv6", ByteOrder::Little, 4),
        machine_arch("arm", ByteOrder::Little, 4),
    ],
    machine_arch_prefix: Some("arm"),
    architectureversion: 1,
    words: &[4],
    orders: &[ByteOrder::Little, ByteOrder::Big],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[
        (
            When::MmuFormat(MMUFORMAT_V6_LPAE, u32::MAX),
            Section::Unread(PTE_SIZE, "unsupported page-table format (mmuformat)"),
        ),
        (
            When::MmuFormat(MMUFORMAT_V4, MMUFORMAT_V4),
            Section::Pages(&PAGING_V4),
        ),
        (When::Always, Section::Pages(&PAGING_V6)),
    ],
    unpadded: true,
    kernbase_align: &[(When::Always, PAGE_SIZE)],
    kernbase: None,
    direct: Direct::None,
    direct_maps: &[],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: Some(FullDelta {
        base: None,
        hole: 0,
        align: 4096,
    }),
    registers: &[&REGISTERS],
    wide_registers: 0,
    pcbs: &[&PCB],
    traps: Traps {
        frames: &[&TRAPFRAME],
        entries: ENTRIES,
        labels: &[
            Label {
                name: "swi_exit",
                slot: 0,
            },
            Label {
                name: "exception_exit",
                slot: 0,
            },
        ],
        // All exception handlers return to one label.
        interrupt_handlers: &["intr_irq_handler", "arm_irq_handler"],
        codes: Codes::NONE,
        line: Line {
            trap: "exception",
            number: None,
            address: None,
            interrupt_number: false,
        },
    },
    prstatus: Some(&PRSTATUS),
    cpu: None,
    chain: Some(Chain::PLAIN),
    frame_code: None,
    entry_copy: None,
    stopped_in: &["cpustop_handler"],
    pmap: None,
    time_t: 8,
    ram_at_zero: true,
    memory_ranges: false,
    debuggers: None,
};
