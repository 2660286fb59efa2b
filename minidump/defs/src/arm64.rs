//! arm64.
//!
//! FreeBSD `sys/arm64/include/minidump.h` (header), `pte.h` and `vmparam.h` (the rest);
//! little-endian.
//!
//! | version | change                                                               |
//! |---------|----------------------------------------------------------------------|
//! | 1       |                                                                      |
//! | 2       | adds `dumpavailsize`; the bitmap indexes those ranges                |
//! | 3       | adds `flags`, where version 2 has zero padding: pages may be 16 KiB  |

use crate::architecture::{Chain, machine_arch};
use crate::cpu::CpuFields;
use crate::debuggers::{Debuggers, Feature};
use crate::elf_machine::ElfMachine;
use crate::minidump::HeaderFields;
use crate::paging::{Direct, Frame, Geometry, Means, Rule, Section, When, level, none_of, rule};
use crate::pcb::{ALWAYS, PcbFields, Trapped};
use crate::pmap::PmapFields;
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Line, Mode, NumberFormat, TrapFields, Traps, entries, entry,
};
use crate::{Architecture, ByteOrder, VirtAddr, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/arm64",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 3,
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
    flags: Some(at(76, 4)),
    flags_since: 3,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    kernvirtaddr: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[72, 80, 80],
};

/// `flags`: mask of the page size code.
pub const FLAG_PS_MASK: u32 = 3;
/// `flags`: pages of 4 KiB.
pub const FLAG_PS_4K: u32 = 0;
/// `flags`: pages of 16 KiB.
pub const FLAG_PS_16K: u32 = 1;
/// `flags`: reserved for pages of 64 KiB, which no kernel uses.
pub const FLAG_PS_64K: u32 = 2;

/// Size of an entry.
pub const PTE_SIZE: usize = 8;
/// Type bits of a descriptor.
pub const ATTR_DESCR_MASK: u64 = 3;
/// Type of a page descriptor at L3, and of a table descriptor above L3.
pub const L3_PAGE: u64 = 3;
/// Type that is reserved at L3, and a block above L3.
pub const L3_RESERVED: u64 = 1;
/// Type of a block descriptor at L1 or L2.
pub const L2_BLOCK: u64 = 1;
/// `ATTR_AP(ATTR_AP_RO)`: not writable.
pub const ATTR_AP_RO: u64 = 1 << 7;
/// Privileged execute never.
pub const ATTR_PXN: u64 = 1 << 53;
/// Unprivileged execute never.
pub const ATTR_UXN: u64 = 1 << 54;
/// Frame of a descriptor: bits 12 to 49.
pub const ATTR_FRAME: u64 = !0xfffc_0000_0000_0fff;
/// Bits that the kernel adds to the frame when it splits a block into L3 descriptors: accessed, inner
/// shareable, page. The block's other bits are lost.
pub const SYNTHETIC_L3: u64 = 0x703;
/// [`SYNTHETIC_L3`] of kernels that use LPA2 (`pmap_sh_attr` is 0).
pub const SYNTHETIC_L3_LPA2: u64 = 0x403;
/// LPA2: bits 51 and 50 of the address, which replace the shareability of a descriptor
/// (`ATTR_OA_51_50_MASK`; 15.0).
pub const ATTR_OA_51_50: u64 = 3 << 8;
/// Distance of these bits from their position in an address (`ATTR_OA_51_50_DELTA`).
pub const ATTR_OA_51_50_DELTA: u32 = 50 - 8;
/// End of the physical addresses of processors without LPA2.
pub const PHYS_END_WITHOUT_LPA2: u64 = 1 << 48;

/// L2 shift, 4 KiB pages.
pub const L2_SHIFT_4K: u32 = 21;
/// L3 shift, 4 KiB pages.
pub const L3_SHIFT_4K: u32 = 12;
/// L2 shift, 16 KiB pages.
pub const L2_SHIFT_16K: u32 = 25;
/// L3 shift, 16 KiB pages.
pub const L3_SHIFT_16K: u32 = 14;

/// `VM_MIN_KERNEL_ADDRESS`
pub const VM_MIN_KERNEL_ADDRESS: VirtAddr = VirtAddr(0xffff_0000_0000_0000);
/// `VM_MAX_KERNEL_ADDRESS`
pub const VM_MAX_KERNEL_ADDRESS: VirtAddr = VirtAddr(0xffff_0080_0000_0000);
/// `DMAP_MIN_ADDRESS` in 12.1.
pub const DMAP_MIN_ADDRESS_12: VirtAddr = VirtAddr(0xffff_fd00_0000_0000);
/// `DMAP_MIN_ADDRESS` after 12.1.
pub const DMAP_MIN_ADDRESS: VirtAddr = VirtAddr(0xffff_a000_0000_0000);
/// `DMAP_MAX_ADDRESS`
pub const DMAP_MAX_ADDRESS: VirtAddr = VirtAddr(0xffff_ff00_0000_0000);

const TABLE: Rule = rule(ATTR_DESCR_MASK, L3_PAGE, Means::Table);
const BLOCK: Rule = rule(ATTR_DESCR_MASK, L2_BLOCK, Means::Leaf);
const PAGE: Rule = rule(ATTR_DESCR_MASK, L3_PAGE, Means::Leaf);
const L0_INVALID: &str = "its L0 entry is not valid";
const L1_INVALID: &str = "its L1 entry is not valid";
const L2_INVALID: &str = "its L2 entry is not valid";
const L3_INVALID: &str = "its L3 entry is not valid";

/// Page tables with pages of 4 KiB.
pub static PAGING: Geometry = Geometry {
    name: "arm64",
    entry_size: PTE_SIZE,
    levels: &[
        level(39, 512, L0_INVALID, &[TABLE]),
        level(30, 512, L1_INVALID, &[TABLE, BLOCK]),
        level(L2_SHIFT_4K, 512, L2_INVALID, &[TABLE, BLOCK]),
        level(L3_SHIFT_4K, 512, L3_INVALID, &[PAGE]),
    ],
    frame: Frame::in_place(ATTR_FRAME),
    write: none_of(ATTR_AP_RO),
    execute: none_of(ATTR_PXN | ATTR_UXN),
    restricts: false,
    user_end: Some(VirtAddr(1 << 48)),
};

/// Page tables with pages of 16 KiB.
pub static PAGING_16K: Geometry = Geometry {
    name: "arm64 with pages of 16 KiB",
    levels: &[
        level(47, 2, L0_INVALID, &[TABLE]),
        level(36, 2048, L1_INVALID, &[TABLE]),
        level(L2_SHIFT_16K, 2048, L2_INVALID, &[TABLE, BLOCK]),
        level(L3_SHIFT_16K, 2048, L3_INVALID, &[PAGE]),
    ],
    frame: Frame::in_place(FRAME_16K),
    ..PAGING
};

/// LPA2: bits 49 to 12 and 51 to 50 of an address.
const fn lpa2(mask: u64) -> Frame {
    Frame {
        high: ATTR_OA_51_50,
        high_up: ATTR_OA_51_50_DELTA,
        ..Frame::in_place(mask)
    }
}

/// `minidumpsys` splits a block without moving bits 51 and 50 of its address (15.0). Its descriptors
/// have no attributes, as no descriptor of the kernel map has.
const fn split_page(mask: u64) -> Rule {
    rule(
        !(mask | PA_51_50),
        SYNTHETIC_L3_LPA2,
        Means::LeafAt(Frame::in_place(mask | PA_51_50)),
    )
}

/// Bits 51 and 50 of an address, in their own position.
pub const PA_51_50: u64 = 3 << 50;
const FRAME_16K: u64 = ATTR_FRAME & !((1 << L3_SHIFT_16K) - 1);

/// [`PAGING`] of kernels that use LPA2 (`pmap_lpa_enabled`).
pub static PAGING_LPA2: Geometry = Geometry {
    name: "arm64 with LPA2",
    levels: &[
        level(39, 512, L0_INVALID, &[TABLE]),
        level(30, 512, L1_INVALID, &[TABLE, BLOCK]),
        level(L2_SHIFT_4K, 512, L2_INVALID, &[TABLE, BLOCK]),
        level(
            L3_SHIFT_4K,
            512,
            L3_INVALID,
            &[split_page(ATTR_FRAME), PAGE],
        ),
    ],
    frame: lpa2(ATTR_FRAME),
    ..PAGING
};

/// [`PAGING_16K`] of kernels that use LPA2, which has blocks at level 1.
pub static PAGING_16K_LPA2: Geometry = Geometry {
    name: "arm64 with LPA2 and pages of 16 KiB",
    levels: &[
        level(47, 2, L0_INVALID, &[TABLE]),
        level(36, 2048, L1_INVALID, &[TABLE, BLOCK]),
        level(L2_SHIFT_16K, 2048, L2_INVALID, &[TABLE, BLOCK]),
        level(
            L3_SHIFT_16K,
            2048,
            L3_INVALID,
            &[split_page(FRAME_16K), PAGE],
        ),
    ],
    frame: lpa2(FRAME_16K),
    ..PAGING
};

/// `pm_l0` and `pm_l0_paddr`; 12.1 has only the first, at [`PM_L0_12`].
pub static PMAP: PmapFields = PmapFields {
    top: 64,
    also: &[56],
    also_shift: 0,
    also_mask: u64::MAX,
};

/// Offset of `pm_l0` in `struct pmap` of 12.1, which has no `pm_l0_paddr`.
pub const PM_L0_12: u64 = 48;

/// arm64. `org.gnu.gdb.aarch64.core`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_AARCH64,
    class64: true,
    registers: registers!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc";
        4: "cpsr"),
    pc: "pc",
    sp: "sp",
    fp: "x29",
    // DWARF for the Arm 64-bit architecture, 4.1.
    dwarf: &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "x29", "x30", "sp",
    ],
};

/// arm64 since 1400084: only callee-saved registers.
pub static PCB: PcbFields = PcbFields {
    since: 1_400_084,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("x19", 0),
        ("x20", 8),
        ("x21", 16),
        ("x22", 24),
        ("x23", 32),
        ("x24", 40),
        ("x25", 48),
        ("x26", 56),
        ("x27", 64),
        ("x28", 72),
        ("x29", 80),
        ("x30", 88),
        ("sp", 96),
    ],
    pc: "x30",
    trapped: None,
};

/// arm64 before 1400084: x0 to x30 and a program counter, of which a context switch saves only the
/// callee-saved registers.
pub static PCB_OLD: PcbFields = PcbFields {
    since: 0,
    until: 1_400_084,
    size: 0,
    word: 8,
    registers: &[
        ("x19", 152),
        ("x20", 160),
        ("x21", 168),
        ("x22", 176),
        ("x23", 184),
        ("x24", 192),
        ("x25", 200),
        ("x26", 208),
        ("x27", 216),
        ("x28", 224),
        ("x29", 232),
        ("x30", 240),
        ("sp", 256),
    ],
    pc: "x30",
    trapped: Some(&Trapped {
        pc: 248,
        registers: &[
            ("x0", 0),
            ("x1", 8),
            ("x2", 16),
            ("x3", 24),
            ("x4", 32),
            ("x5", 40),
            ("x6", 48),
            ("x7", 56),
            ("x8", 64),
            ("x9", 72),
            ("x10", 80),
            ("x11", 88),
            ("x12", 96),
            ("x13", 104),
            ("x14", 112),
            ("x15", 120),
            ("x16", 128),
            ("x17", 136),
            ("x18", 144),
        ],
    }),
};

macro_rules! trap_registers {
    ($x:literal) => {
        &[
            ("sp", 0, 8),
            ("x30", 8, 8),
            ("pc", 16, 8),
            ("cpsr", 24, 4),
            ("x0", $x, 8),
            ("x1", $x + 8, 8),
            ("x2", $x + 16, 8),
            ("x3", $x + 24, 8),
            ("x4", $x + 32, 8),
            ("x5", $x + 40, 8),
            ("x6", $x + 48, 8),
            ("x7", $x + 56, 8),
            ("x8", $x + 64, 8),
            ("x9", $x + 72, 8),
            ("x10", $x + 80, 8),
            ("x11", $x + 88, 8),
            ("x12", $x + 96, 8),
            ("x13", $x + 104, 8),
            ("x14", $x + 112, 8),
            ("x15", $x + 120, 8),
            ("x16", $x + 128, 8),
            ("x17", $x + 136, 8),
            ("x18", $x + 144, 8),
            ("x19", $x + 152, 8),
            ("x20", $x + 160, 8),
            ("x21", $x + 168, 8),
            ("x22", $x + 176, 8),
            ("x23", $x + 184, 8),
            ("x24", $x + 192, 8),
            ("x25", $x + 200, 8),
            ("x26", $x + 208, 8),
            ("x27", $x + 216, 8),
            ("x28", $x + 224, 8),
            ("x29", $x + 232, 8),
        ]
    };
}

/// arm64 with `tf_far`.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 1_201_001,
    word: 8,
    size: 288,
    position: FramePosition::BelowRecord,
    registers: trap_registers!(48),
    link: Some(8),
    mode: Mode {
        at: 24,
        mask: 0xf,
        user_has_one: false,
    },
    number: Some((32, 8)),
    address: Some(40),
    ..TrapFields::PLAIN
};

/// arm64 without `tf_far`: 12.1. The version that added it is unknown; the link register identifies
/// the layout.
pub static TRAPFRAME_OLD: TrapFields = TrapFields {
    since: 0,
    size: 272,
    registers: trap_registers!(32),
    number: Some((28, 4)),
    address: None,
    ..TRAPFRAME
};

/// arm64
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc" "cpsr"),
    linux: slots!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc" "cpsr"),
    always: &[],
};

/// arm64
pub static CPU: CpuFields = CpuFields {
    monitor: slots!(
        8: "X00" "X01" "X02" "X03" "X04" "X05" "X06" "X07" "X08" "X09" "X10" "X11" "X12" "X13" "X14"
           "X15" "X16" "X17" "X18" "X19" "X20" "X21" "X22" "X23" "X24" "X25" "X26" "X27" "X28" "X29"
           "X30" "SP" "PC";
        4: "PSTATE"),
    pcpu: "x18",
    // Bits 2 and 3 are the exception level.
    user_mode: Some(("cpsr", 0xc)),
    shown: &[
        ("pc", "pc"),
        ("sp", "sp"),
        ("x18", "x18"),
        ("x29", "x29"),
        ("x30", "x30"),
        ("pstate", "cpsr"),
    ],
};

const ENTRIES: &[Entry] = &[
    entry("handle_el0_sync", Cause::Trap),
    entry("handle_el1h_sync", Cause::Trap),
    entry("handle_el0_irq", Cause::Interrupt),
    entry("handle_el1h_irq", Cause::Interrupt),
    entries("handle_el", Cause::Trap),
    entry("handle_serror", Cause::Trap),
    entry("handle_empty_exception", Cause::Trap),
];

/// The registers and names of arm64 in debuggers.
pub static DEBUGGERS: Debuggers = Debuggers {
    gdb: "aarch64",
    triple: "aarch64-unknown-freebsd",
    features: &[
        Feature {
            name: "org.gnu.gdb.aarch64.core",
            bits: 64,
            registers: "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 \
                        x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc",
        },
        Feature {
            name: "org.gnu.gdb.aarch64.core",
            bits: 32,
            registers: "cpsr",
        },
    ],
    dwarf: "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 \
             x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc",
    roles: &[
        ("pc", "pc", "code_ptr"),
        ("sp", "sp", "data_ptr"),
        ("x29", "fp", "int64"),
        ("x30", "ra", "int64"),
    ],
};

/// The definitions of arm64.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "arm64",
    machine: ElfMachine::EM_AARCH64,
    machine_archs: &[machine_arch("aarch64", ByteOrder::Little, 8)],
    machine_arch_prefix: None,
    architectureversion: 1,
    words: &[8],
    orders: &[ByteOrder::Little],
    page_sizes: &[1 << L3_SHIFT_4K, 1 << L3_SHIFT_16K],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[
        (
            When::PageSizeAndDmapPhys(1 << L3_SHIFT_16K, PHYS_END_WITHOUT_LPA2),
            Section::Pages(&PAGING_16K_LPA2),
        ),
        (
            When::PageSizeAndDmapPhys(1 << L3_SHIFT_4K, PHYS_END_WITHOUT_LPA2),
            Section::Pages(&PAGING_LPA2),
        ),
        (
            When::PageSize(1 << L3_SHIFT_16K),
            Section::Pages(&PAGING_16K),
        ),
        (When::Always, Section::Pages(&PAGING)),
    ],
    unpadded: false,
    kernbase_align: &[
        (When::PageSize(1 << L3_SHIFT_16K), 1 << L2_SHIFT_16K),
        (When::Always, 1 << L2_SHIFT_4K),
    ],
    kernbase: Some(VM_MIN_KERNEL_ADDRESS),
    direct: Direct::Linear {
        first: true,
        inclusive: false,
    },
    direct_maps: &[
        (DMAP_MIN_ADDRESS, DMAP_MAX_ADDRESS),
        (DMAP_MIN_ADDRESS_12, DMAP_MAX_ADDRESS),
    ],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: None,
    registers: &[&REGISTERS],
    wide_registers: 0,
    pcbs: &[&PCB, &PCB_OLD],
    traps: Traps {
        frames: &[&TRAPFRAME, &TRAPFRAME_OLD],
        entries: ENTRIES,
        labels: &[],
        interrupt_handlers: &[],
        // The exception class in `tf_esr`; 0x15 is SVC of AArch64.
        codes: Codes {
            shift: 26,
            mask: 0x3f,
            syscall: Some(0x15),
            ..Codes::NONE
        },
        line: Line {
            trap: "exception, esr ",
            number: Some(NumberFormat::Hex),
            address: None,
            interrupt_number: false,
        },
    },
    prstatus: Some(&PRSTATUS),
    cpu: Some(&CPU),
    chain: Some(Chain::PLAIN),
    frame_code: None,
    entry_copy: None,
    stopped_in: &["ipi_stop"],
    pmap: Some(&PMAP),
    time_t: 8,
    ram_at_zero: false,
    memory_ranges: false,
    debuggers: Some(&DEBUGGERS),
};
