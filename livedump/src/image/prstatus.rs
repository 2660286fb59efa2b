//! `NT_PRSTATUS`: `struct elf_prstatus`, whose length identifies the processor.
//!
//! Facts: Linux's `struct elf_prstatus` and `arch/*/include/uapi/asm/ptrace.h`; QEMU
//! `target/*/arch_dump.c`, which write the same. All are little-endian.
//!
//! | processor | bytes | registers from | their order |
//! |-----------|-------|----------------|-------------|
//! | x86-64    | 336   | 112            | `struct pt_regs`, bases and selectors |
//! | i386      | 144   | 72             | `ebx` … `eax`, selectors, `eip` … `ss` |
//! | others    | 120 and the registers | 112 | [`Prstatus::linux`](livecore_defs::prstatus::Prstatus) |

use livecore_defs::Architecture;

use super::cpu::{Named, Registers, Segment, Segments, X86};
use super::pt_regs;
use super::source::{le16, le32, le64};

const X86_64: usize = 336;
/// The length for i386.
pub(super) const I386: usize = 144;
/// The offset of the registers.
const REGISTERS: usize = 112;
const REGISTERS_32: usize = 72;

/// Parses the registers of `d`; `None` for an unknown processor.
pub(super) fn parse(d: &[u8]) -> Option<Registers> {
    Some(match d.len() {
        X86_64 => x86_64(d).into(),
        I386 => i386(d).into(),
        _ => Architecture::ALL
            .into_iter()
            .find_map(|row| named(row, d))?
            .into(),
    })
}

fn x86_64(d: &[u8]) -> X86 {
    // After the common part: fs_base, gs_base, ds, es, fs, gs.
    let frame = &d[REGISTERS..];
    let s = |index: usize| pt_regs::selector(frame, pt_regs::WORDS + index);
    let base = |index: usize| le64(frame, 8 * (pt_regs::WORDS + index));
    let state = pt_regs::parse(frame);
    X86 {
        segments: state.segments.map(|all| Segments {
            ds: s(2),
            es: s(3),
            fs: Segment {
                base: base(0),
                ..s(4)
            },
            gs: Segment {
                base: base(1),
                ..s(5)
            },
            ..all
        }),
        ..state
    }
}

fn i386(d: &[u8]) -> X86 {
    let r = |index: usize| u64::from(le32(d, REGISTERS_32 + 4 * index));
    let s = |index: usize| Segment {
        selector: le16(d, REGISTERS_32 + 4 * index),
        ..Segment::default()
    };
    X86 {
        is_32: true,
        rbx: r(0),
        rcx: r(1),
        rdx: r(2),
        rsi: r(3),
        rdi: r(4),
        rbp: r(5),
        rax: r(6),
        rip: r(12),
        rflags: r(14),
        rsp: r(15),
        segments: Some(Segments {
            ds: s(7),
            es: s(8),
            fs: s(9),
            gs: s(10),
            cs: s(13),
            ss: s(16),
            ..Segments::default()
        }),
        ..X86::default()
    }
}

/// The registers of `arch`, if `d` has their length. `pr_fpvalid` and padding, 8 bytes, follow them.
fn named(arch: &'static Architecture, d: &[u8]) -> Option<Named> {
    let slots = arch.prstatus_registers();
    let registers = d.get(REGISTERS..d.len().checked_sub(8)?)?;
    if registers.len() != slots.iter().map(|(_, len)| len).sum::<usize>() {
        return None;
    }
    Named::new(arch, registers.chunks_exact(8).map(|word| le64(word, 0)))
}
