//! The order in which an x86-64 processor's general registers lie where an interrupt has pushed
//! them: `struct pt_regs`.
//!
//! Linux `arch/x86/include/asm/ptrace.h`, whose `struct elf_prstatus` has them in this order, and
//! with other words in the gap Xen `xen/include/public/arch-x86/xen-x86_64.h`, `struct
//! cpu_user_regs`. Words of 8 bytes: `r15` to `r12`, `rbp`, `rbx`, `r11` to `r8`, `rax`, `rcx`, `rdx`,
//! `rsi`, `rdi`, one that says why (`orig_rax`; Xen's error code and vector), `rip`, `cs`, `rflags`,
//! `rsp`, `ss`. What follows differs.

use super::cpu::{Segment, Segments, X86};
use super::source::{le16, le64};

/// Words that all have.
pub(super) const WORDS: usize = 21;

/// The registers of `frame`, which has at least [`WORDS`] words, and of segments `cs` and `ss`.
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

/// A segment of which word `index` has the selector, and nobody the rest.
pub(super) fn selector(frame: &[u8], index: usize) -> Segment {
    Segment {
        selector: le16(frame, 8 * index),
        ..Segment::default()
    }
}
