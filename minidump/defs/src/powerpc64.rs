//! powerpc64 with hashed page tables.
//!
//! FreeBSD `sys/powerpc/include/minidump.h` (header), `sys/powerpc/aim/moea64_native.c` (entries).
//! The header is in the kernel's byte order, big- or little-endian; the page table is always
//! big-endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::architecture::{Chain, machine_arch};
use crate::elf_machine::ElfMachine;
use crate::minidump::{HeaderFields, PAGE_SIZE};
use crate::paging::{Direct, Frame, Geometry, Means, Rule, Section, When, any_of, level, rule};
use crate::pcb::{ALWAYS, PcbFields};
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Label, Line, Mode, TrapFields, Traps, entry,
};
use crate::{Architecture, ByteOrder, VirtAddr, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/powerpc64",
    magic: at(0, 32),
    version: at(64, 4),
    last_version: 2,
    msgbufsize: at(68, 4),
    bitmapsize: at(72, 4),
    pmapsize: at(76, 4),
    dumpavailsize: at(136, 4),
    dumpavail_since: 2,
    kernbase: at(80, 8),
    kernend: Some(at(88, 8)),
    dmapphys: None,
    dmapbase: Some(at(96, 8)),
    dmapend: Some(at(104, 8)),
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    kernvirtaddr: None,
    mmu_name: Some(at(32, 32)),
    hw_direct_map: Some(at(112, 4)),
    startkernel: Some(at(120, 8)),
    endkernel: Some(at(128, 8)),
    sizeof: &[136, 144],
};

/// The pmap modules with hashed page tables.
pub const HASHED_MMUS: [&str; 2] = ["mmu_g5", "mmu_phyp"];

/// The pmap module with radix page tables. 15.0 writes no minidumps of it.
pub const RADIX_MMU: &str = "mmu_radix";
/// Size in bytes of the root of radix page tables, which is the page-table section
/// (`lib/libkvm/kvm_minidump_powerpc64_radix.c` of 2026).
pub const RADIX_ROOT_SIZE: u64 = 1 << 16;
/// Size in bytes of an entry of a radix page table, which is big-endian in all kernels.
pub const RPTE_SIZE: usize = 8;
/// Radix entry: valid.
pub const RPTE_VALID: u64 = 1 << 63;
/// Radix entry: maps a page; otherwise it points to a table.
pub const RPTE_LEAF: u64 = 1 << 62;
/// Radix entry that points to a table: the binary logarithm of the table's number of entries.
pub const RPDE_NLS_MASK: u64 = 0x1f;
/// The value of these bits that the kernel writes (`sys/powerpc/aim/mmu_radix.c`, `RPTE_SHIFT`).
pub const RPDE_NLS: u64 = 9;
/// Radix entry: frame of a page or of a table.
pub const RPTE_RPN_MASK: u64 = 0x00ff_ffff_ffff_f000;
/// Radix entry: writable.
pub const RPTE_EAA_W: u64 = 2;
/// Radix entry: executable.
pub const RPTE_EAA_X: u64 = 1;

/// Meaning of radix entries above the last level.
const UPPER: &[Rule] = &[
    rule(RPTE_VALID | RPTE_LEAF, RPTE_VALID | RPTE_LEAF, Means::Leaf),
    rule(RPTE_VALID | RPTE_LEAF, RPTE_VALID, Means::Table),
];
/// Radix page tables: Power ISA, book III, "Radix Tree Translation"; the root has 64 KiB.
pub static RADIX: Geometry = Geometry {
    name: "powerpc64 radix",
    entry_size: 8,
    levels: &[
        level(39, 8192, "no entry of the root table", UPPER),
        level(30, 512, "no entry of the second level", UPPER),
        level(21, 512, "no entry of the third level", UPPER),
        level(
            12,
            512,
            "no entry of the last level",
            &[rule(
                RPTE_VALID | RPTE_LEAF,
                RPTE_VALID | RPTE_LEAF,
                Means::Leaf,
            )],
        ),
    ],
    frame: Frame::in_place(RPTE_RPN_MASK),
    write: any_of(RPTE_EAA_W),
    execute: any_of(RPTE_EAA_X),
    restricts: false,
    user_end: None,
};

/// Size of a page-table entry: two big-endian doublewords.
pub const LPTE_SIZE: usize = 16;
/// Number of entries in a group.
pub const LPTEG_ENTRIES: u64 = 8;
/// First doubleword: valid.
pub const LPTE_VALID: u64 = 1;
/// First doubleword: the entry is in its secondary group.
pub const LPTE_HID: u64 = 2;
/// First doubleword: a large page of 16 MiB.
pub const LPTE_BIG: u64 = 4;
/// First doubleword: bits for software.
pub const LPTE_SWBITS: u64 = 0x78;
/// First doubleword: abbreviated page index.
pub const LPTE_AVPN_API: u64 = 0xf80;
/// Shift of [`LPTE_AVPN_API`].
pub const LPTE_API_SHIFT: u32 = 7;
/// First doubleword: virtual segment id.
pub const LPTE_VSID: u64 = 0x3fff_ffff_ffff_f000;
/// Shift of [`LPTE_VSID`].
pub const LPTE_VSID_SHIFT: u32 = 12;
/// First doubleword: bits that are zero in a 256 MiB segment's entry.
pub const LPTE_SEGMENT: u64 = 0xc000_0000_0000_0000;
/// Second doubleword: protection.
pub const LPTE_PP: u64 = 3;
/// Protection: read-only, for the kernel too.
pub const LPTE_BR: u64 = 3;
/// Second doubleword: not executable.
pub const LPTE_NOEXEC: u64 = 4;
/// Second doubleword: frame of a small page.
pub const LPTE_RPGN: u64 = 0x0fff_ffff_ffff_f000;
/// Second doubleword of a large page's entry: page size code.
pub const LPTE_LP_MASK: u64 = 0x000f_f000;
/// Value of [`LPTE_LP_MASK`]: one of the 4096 entries of a 16 MiB page in a segment of 4 KiB pages,
/// hashed by the number of its small page (since 13).
pub const LPTE_LP_4K_16M: u64 = 0x0003_8000;
/// Second doubleword: frame of a 16 MiB page.
pub const LPTE_LP_RPGN: u64 = 0x0fff_ffff_ff00_0000;

/// Shift of the segment number of an address.
pub const ADDR_SR_SHIFT: u32 = 28;
/// Multiplier of the segment hash.
pub const VSID_HASH_MULTIPLIER: u64 = 0x13bb;
/// Bits of the segment hash.
pub const VSID_HASH_BITS: u32 = 36;
/// Bits of the page-table hash.
pub const PTEG_HASH_BITS: u32 = 39;
/// Shift of a large page.
pub const LARGE_PAGE_SHIFT: u32 = 24;
/// Link-time address of the kernel. It runs at `startkernel`.
pub const KERNBASE: VirtAddr = VirtAddr(0x10_0100);

/// powerpc64, both byte orders. `org.gnu.gdb.power.core`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_PPC64,
    class64: true,
    registers: registers!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "pc" "msr";
        4: "cr";
        8: "lr" "ctr";
        4: "xer"),
    pc: "pc",
    sp: "r1",
    fp: "r1",
    // Power Architecture 64-bit ELF V2 ABI, table 2.26: 65 is the link register.
    dwarf: &[
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26",
        "r27", "r28", "r29", "r30", "r31", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
        "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "lr",
    ],
};

/// powerpc64, both byte orders.
pub static PCB: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("r12", 0),
        ("r14", 16),
        ("r15", 24),
        ("r16", 32),
        ("r17", 40),
        ("r18", 48),
        ("r19", 56),
        ("r20", 64),
        ("r21", 72),
        ("r22", 80),
        ("r23", 88),
        ("r24", 96),
        ("r25", 104),
        ("r26", 112),
        ("r27", 120),
        ("r28", 128),
        ("r29", 136),
        ("r30", 144),
        ("r31", 152),
        ("cr", 160),
        ("r1", 168),
        ("r2", 176),
        ("lr", 184),
    ],
    pc: "lr",
    trapped: None,
};

/// powerpc64, both byte orders and ABIs; FreeBSD 12.1 and 14 `sys/powerpc/aim/trap_subr64.S`.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 0,
    word: 8,
    size: 336,
    position: FramePosition::AboveFrame(48),
    registers: &[
        ("r0", 0, 8),
        ("r1", 8, 8),
        ("r2", 16, 8),
        ("r3", 24, 8),
        ("r4", 32, 8),
        ("r5", 40, 8),
        ("r6", 48, 8),
        ("r7", 56, 8),
        ("r8", 64, 8),
        ("r9", 72, 8),
        ("r10", 80, 8),
        ("r11", 88, 8),
        ("r12", 96, 8),
        ("r13", 104, 8),
        ("r14", 112, 8),
        ("r15", 120, 8),
        ("r16", 128, 8),
        ("r17", 136, 8),
        ("r18", 144, 8),
        ("r19", 152, 8),
        ("r20", 160, 8),
        ("r21", 168, 8),
        ("r22", 176, 8),
        ("r23", 184, 8),
        ("r24", 192, 8),
        ("r25", 200, 8),
        ("r26", 208, 8),
        ("r27", 216, 8),
        ("r28", 224, 8),
        ("r29", 232, 8),
        ("r30", 240, 8),
        ("r31", 248, 8),
        ("lr", 256, 8),
        ("cr", 264, 8),
        ("xer", 272, 8),
        ("ctr", 280, 8),
        ("pc", 288, 8),
        ("msr", 296, 8),
    ],
    link: None,
    // PSL_PR of srr1.
    mode: Mode {
        at: 296,
        mask: 0x4000,
        user_has_one: true,
    },
    number: Some((304, 8)),
    address: Some(312),
    ..TrapFields::PLAIN
};

/// powerpc64
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "lr" "cr" "xer" "ctr" "pc"),
    linux: slots!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "pc" "msr" "orig_r3" "ctr" "lr" "xer" "cr" "mq" "trap" "dar" "dsisr" "result"
           "pad0" "pad1" "pad2" "pad3"),
    always: &[],
};

/// `EXC_SC` of `exc`: a system call.
const EXC_SC: u64 = 0xc00;

const ENTRIES: &[Entry] = &[
    entry("trapexit", Cause::Trap),
    entry("asttrapexit", Cause::Trap),
    entry("dbtrap", Cause::Trap),
];

/// The definitions of powerpc64.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "powerpc64",
    machine: ElfMachine::EM_PPC64,
    machine_archs: &[
        machine_arch("powerpc64", ByteOrder::Big, 8),
        machine_arch("powerpc64le", ByteOrder::Little, 8),
    ],
    machine_arch_prefix: Some("powerpc64"),
    architectureversion: 1,
    words: &[8],
    orders: &[ByteOrder::Little, ByteOrder::Big],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[
        (When::Mmu(RADIX_MMU), Section::Root(&RADIX)),
        (When::Always, Section::Hashed),
    ],
    unpadded: false,
    kernbase_align: &[(When::Always, 1)],
    kernbase: None,
    direct: Direct::Linear {
        first: true,
        inclusive: true,
    },
    direct_maps: &[],
    linked_at: Some(KERNBASE),
    full_without_vaddr: true,
    full_delta: None,
    registers: &[&REGISTERS],
    wide_registers: 0,
    pcbs: &[&PCB],
    traps: Traps {
        frames: &[&TRAPFRAME],
        entries: ENTRIES,
        labels: &[
            Label {
                name: "trapexit",
                slot: 4,
            },
            Label {
                name: "asttrapexit",
                slot: 4,
            },
        ],
        interrupt_handlers: &[],
        codes: Codes {
            decides: true,
            // External interrupt, decrementer, hypervisor interrupt.
            interrupts: &[0x500, 0x900, 0xea0],
            syscall: Some(EXC_SC),
            // Exceptions that set `dar`: `EXC_DSI`, `EXC_DSE`, `EXC_ALI`.
            addressed: Some(&[0x300, 0x380, 0x600]),
            always: true,
            ..Codes::NONE
        },
        line: Line::TRAP,
    },
    prstatus: Some(&PRSTATUS),
    cpu: None,
    chain: Some(Chain {
        caller: 0,
        back: 2,
        in_caller: true,
        cfa: None,
    }),
    frame_code: None,
    entry_copy: None,
    stopped_in: &["cpustop_handler"],
    pmap: None,
    time_t: 8,
    ram_at_zero: true,
    memory_ranges: false,
    debuggers: None,
};
