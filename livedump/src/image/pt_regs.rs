//! The order of an x86-64 CPU's general registers after an interrupt has pushed them: `struct
//! pt_regs`.
//!
//! Linux `arch/x86/include/asm/ptrace.h`; `struct elf_prstatus` uses this order, and so does Xen,
//! with other words in the gap: `xen/include/public/arch-x86/xen-x86_64.h`, `struct cpu_user_regs`.
//! Words of 8 bytes: `r15` to `r12`, `rbp`, `rbx`, `r11` to `r8`, `rax`, `rcx`, `rdx`, `rsi`,
//! `rdi`, the reason (`orig_rax`; Xen's error code and vector), `rip`, `cs`, `rflags`, `rsp`, `ss`.
//! The words after these differ.

use super::cpu::{Segment, Segments, X86};
use super::source::{le16, le64};

/// The number of common words.
pub(super) const WORDS: usize = 21;

/// Parses the registers of `frame`, which has at least [`WORDS`] words, including the segments `cs`
/// and `ss`.
pub(super) fn parse(frame: &[u8]) -> X86 {
    let r = |index: usize| le64(frame, 8 * index);
    X86 {
        r15: r(0),
        r14: r(1),
        r13: r(2),
        r12: r(3),
        rbp: r(4),
        rbx: r(5),
        r11: r(6),
        r10: r(7),
        r9: r(8),
        r8: r(9),
        rax: r(10),
        rcx: r(11),
        rdx: r(12),
        rsi: r(13),
        rdi: r(14),
        rip: r(16),
        rflags: r(18),
        rsp: r(19),
        segments: Some(Segments {
            cs: selector(frame, 17),
            ss: selector(frame, 20),
            ..Segments::default()
        }),
        ..X86::default()
    }
}

/// The segment with the selector in word `index`; its other fields are unknown.
pub(super) fn selector(frame: &[u8], index: usize) -> Segment {
    Segment {
        selector: le16(frame, 8 * index),
        ..Segment::default()
    }
}
