//! i386, with and without PAE.
//!
//! FreeBSD `sys/i386/include/minidump.h` (header), `pmap_pae.h`, `pmap_nopae.h` (entries);
//! little-endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::architecture::{Chain, FrameCode, machine_arch};
use crate::debuggers::{Debuggers, Feature, X86_CORE, X87, X87_CONTROL};
use crate::elf_machine::ElfMachine;
use crate::minidump::{HeaderFields, PAGE_SIZE};
use crate::paging::{
    Direct, Frame, Geometry, Means, Rule, Section, When, any_of, level, none_of, rule,
};
use crate::pcb::{ALWAYS, PcbFields};
use crate::prstatus::{Prstatus, slots};
use crate::registers::{RegisterSet, registers};
use crate::trapframe::{
    Cause, Codes, Entry, FramePosition, Line, Mode, TrapFields, Traps, entries, entry,
};
use crate::{Architecture, ByteOrder, at};

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/i386",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(48, 4),
    dumpavail_since: 2,
    kernbase: at(40, 4),
    kernend: None,
    dmapphys: None,
    dmapbase: None,
    dmapend: None,
    flags: None,
    flags_since: u32::MAX,
    paemode: Some(at(44, 4)),
    arm_arch: None,
    mmuformat: None,
    kernvirtaddr: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[48, 52],
};

/// Size of an entry without PAE.
pub const PTE_SIZE: usize = 4;
/// Size of an entry with PAE.
pub const PTE_SIZE_PAE: usize = 8;
/// Entry: valid.
pub const PG_V: u64 = 1 << 0;
/// Entry: writable.
pub const PG_RW: u64 = 1 << 1;
/// Directory entry: a leaf of 4 MiB; with PAE, of 2 MiB.
pub const PG_PS: u64 = 1 << 7;
/// Entry, PAE only: not executable.
pub const PG_NX: u64 = 1 << 63;
/// Frame of an entry without PAE.
pub const PG_FRAME: u64 = 0xffff_f000;
/// Frame of an entry with PAE.
pub const PG_FRAME_PAE: u64 = 0x000f_ffff_ffff_f000;
/// Bits that the kernel adds to the frame when it splits a large leaf into PTEs: valid, writable,
/// accessed, modified. The leaf's other bits are lost.
pub const SYNTHETIC_PTE: u64 = 0x63;
/// Size that a directory entry maps without PAE.
pub const NBPDR: u64 = 1 << 22;
/// Size that a directory entry maps with PAE.
pub const NBPDR_PAE: u64 = 1 << 21;

const TABLE: Rule = rule(PG_V, PG_V, Means::Table);
const BLOCK: Rule = rule(PG_V | PG_PS, PG_V | PG_PS, Means::Leaf);
const PAGE: Rule = rule(PG_V, PG_V, Means::Leaf);
const PDP_INVALID: &str = "its directory-pointer entry is not valid";
const PD_INVALID: &str = "its page-directory entry is not valid";
const PT_INVALID: &str = "its page-table entry is not valid";

/// Page tables without PAE.
pub static PAGING: Geometry = Geometry {
    name: "i386",
    entry_size: PTE_SIZE,
    levels: &[
        level(22, 1024, PD_INVALID, &[BLOCK, TABLE]),
        level(12, 1024, PT_INVALID, &[PAGE]),
    ],
    frame: Frame::in_place(PG_FRAME),
    write: any_of(PG_RW),
    // Entries without PAE have no such bit; it reads as zero.
    execute: none_of(PG_NX),
    restricts: true,
    user_end: None,
};

/// Page tables with PAE, from the table of four pointers (`IdlePDPT`). The pointers do not restrict
/// permissions.
pub static PAGING_PAE: Geometry = Geometry {
    name: "i386 with PAE",
    entry_size: PTE_SIZE_PAE,
    levels: &[
        level(30, 4, PDP_INVALID, &[TABLE]),
        level(21, 512, PD_INVALID, &[BLOCK, TABLE]),
        level(12, 512, PT_INVALID, &[PAGE]),
    ],
    frame: Frame::in_place(PG_FRAME_PAE),
    restricts: false,
    ..PAGING
};

/// Page tables with PAE, from the four contiguous directories (`IdlePTD`).
pub static PAGING_PAE_DIRECTORIES: Geometry = Geometry {
    name: "i386 with PAE, directories",
    levels: &[
        level(21, 2048, PD_INVALID, &[BLOCK, TABLE]),
        level(12, 512, PT_INVALID, &[PAGE]),
    ],
    restricts: true,
    ..PAGING_PAE
};

/// i386. `org.gnu.gdb.i386.core`.
pub static REGISTERS: RegisterSet = RegisterSet {
    machine: ElfMachine::EM_386,
    class64: false,
    registers: registers!(
        4: "eax" "ecx" "edx" "ebx" "esp" "ebp" "esi" "edi" "eip"
           "eflags" "cs" "ss" "ds" "es" "fs" "gs"),
    pc: "eip",
    sp: "esp",
    fp: "ebp",
    // System V ABI, i386 supplement, table 2.14.
    dwarf: &[
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip",
    ],
};

/// i386.
pub static PCB: PcbFields = PcbFields {
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 4,
    registers: &[
        ("ebx", 16),
        ("esp", 12),
        ("ebp", 8),
        ("esi", 4),
        ("edi", 0),
        ("eip", 20),
    ],
    pc: "eip",
    trapped: None,
};

/// i386. Stack pointer and segment are valid only if user mode was interrupted.
pub static TRAPFRAME: TrapFields = TrapFields {
    since: 0,
    word: 4,
    size: 60,
    position: FramePosition::AfterArguments,
    registers: &[
        ("fs", 0, 2),
        ("es", 4, 2),
        ("ds", 8, 2),
        ("edi", 12, 4),
        ("esi", 16, 4),
        ("ebp", 20, 4),
        ("ebx", 28, 4),
        ("edx", 32, 4),
        ("ecx", 36, 4),
        ("eax", 40, 4),
        ("eip", 52, 4),
        ("cs", 56, 2),
        ("eflags", 60, 4),
    ],
    link: None,
    mode: Mode {
        at: 56,
        mask: 3,
        user_has_one: true,
    },
    number: Some((44, 4)),
    address: None,
    // `PSL_VM` of `tf_eflags`: virtual 8086 mode, in which segments are not selectors.
    also_user: Some((60, 1 << 17)),
    user: &[("esp", 64)],
    end: Some(("esp", 64)),
    ..TrapFields::PLAIN
};

/// i386
pub static PRSTATUS: Prstatus = Prstatus {
    freebsd: slots!(
        4: "fs" "es" "ds" "edi" "esi" "ebp" "isp" "ebx" "edx" "ecx" "eax" "trapno" "err" "eip" "cs"
           "eflags" "esp" "ss" "gs"),
    linux: slots!(
        4: "ebx" "ecx" "edx" "esi" "edi" "ebp" "eax" "ds" "es" "fs" "gs" "orig_eax" "eip" "cs"
           "eflags" "esp" "ss"),
    always: &[("cs", 0x20), ("ss", 0x28)],
};

const ENTRIES: &[Entry] = &[
    entry("calltrap", Cause::Trap),
    entry("fork_trampoline", Cause::Trap),
    entry("Xlcall_syscall", Cause::Syscall),
    entry("Xint0x80_syscall", Cause::Syscall),
    entries("X", Cause::Interrupt),
];

/// The registers and names of i386 in debuggers.
pub static DEBUGGERS: Debuggers = Debuggers {
    gdb: "i386",
    triple: "i386-unknown-freebsd",
    features: &[
        Feature {
            name: X86_CORE,
            bits: 32,
            registers: "eax ecx edx ebx esp ebp esi edi eip eflags cs ss ds es fs gs",
        },
        X87,
        X87_CONTROL,
    ],
    dwarf: "eax ecx edx ebx esp ebp esi edi eip",
    roles: &[
        ("eip", "pc", "code_ptr"),
        ("esp", "sp", "data_ptr"),
        ("ebp", "fp", "data_ptr"),
        ("eflags", "flags", "int"),
    ],
};

/// The definitions of i386.
pub static ARCHITECTURE: Architecture = Architecture {
    name: "i386",
    machine: ElfMachine::EM_386,
    machine_archs: &[machine_arch("i386", ByteOrder::Little, 4)],
    machine_arch_prefix: None,
    architectureversion: 2,
    words: &[4],
    orders: &[ByteOrder::Little],
    page_sizes: &[PAGE_SIZE],
    header: &HEADER,
    bitmap_words: &[],
    sections: &[
        (When::PaeMode, Section::Pages(&PAGING_PAE)),
        (When::Always, Section::Pages(&PAGING)),
    ],
    unpadded: false,
    kernbase_align: &[(When::Always, NBPDR_PAE)],
    kernbase: None,
    direct: Direct::None,
    direct_maps: &[],
    linked_at: None,
    full_without_vaddr: false,
    full_delta: None,
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
        push: &[0x55, 0x89, 0xe5],
        set: &[0x89, 0xe5],
        leave: &[0xc3],
    }),
    // Since 12.0 the kernel runs a copy of its entry code.
    entry_copy: Some("setidt_disp"),
    stopped_in: &["cpustop_handler"],
    // The root has no direct-map address.
    pmap: None,
    // `sys/x86/include/_types.h`
    time_t: 4,
    ram_at_zero: true,
    memory_ranges: true,
    debuggers: Some(&DEBUGGERS),
};
