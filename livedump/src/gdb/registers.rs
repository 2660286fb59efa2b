//! The registers of an amd64 CPU.
//!
//! The answer to `g` begins with those of gdb's `amd64.xml`: sixteen general registers and RIP with 8 bytes each, the
//! flags and six selectors with 4 bytes each. Both stubs number the others equally, and `p` reads them: from 24 on, the
//! bases of FS and GS and `MSR_KGSBASE`, then CR0, CR2, CR3 and CR4. bhyve has these since FreeBSD 15.0.

use crate::image::{Control, Segment, Segments, X86};

/// The size of the registers of `g` that are used.
const SIZE: usize = 17 * 8 + 7 * 4;

/// The numbers of the registers for [`parse`]'s `more`.
pub(super) const MORE: std::ops::Range<u32> = 24..31;

/// Parses the answer to `g`, and the values of the registers [`MORE`]. `None` if there are too few registers.
pub(super) fn parse(bytes: &[u8], more: &[Option<u64>]) -> Option<X86> {
    let bytes = bytes.get(..SIZE)?;
    let general = bytes[..17 * 8].as_chunks::<8>().0;
    let general = |index: usize| u64::from_le_bytes(general[index]);
    let others = bytes[17 * 8..].as_chunks::<4>().0;
    let word = |index: usize| u32::from_le_bytes(others[index]);
    let selector = |index: usize, base: Option<u64>| Segment {
        selector: word(index) as u16, // a selector has 16 bits
        base: base.unwrap_or(0),
        ..Segment::default()
    };
    let more = |index: usize| more.get(index).copied().flatten();
    // Without the bases, the structure of the CPU cannot be found by them.
    let segments = more(1).map(|gs| Segments {
        cs: selector(1, None),
        ss: selector(2, None),
        ds: selector(3, None),
        es: selector(4, None),
        fs: selector(5, more(0)),
        gs: selector(6, Some(gs)),
        kernel_gs_base: more(2),
        ..Segments::default()
    });
    let control = || {
        Some(Control {
            cr0: more(3)?,
            cr2: more(4)?,
            cr3: more(5)?,
            cr4: more(6)?,
        })
    };
    Some(X86 {
        is_32: false,
        rax: general(0),
        rbx: general(1),
        rcx: general(2),
        rdx: general(3),
        rsi: general(4),
        rdi: general(5),
        rbp: general(6),
        rsp: general(7),
        r8: general(8),
        r9: general(9),
        r10: general(10),
        r11: general(11),
        r12: general(12),
        r13: general(13),
        r14: general(14),
        r15: general(15),
        rip: general(16),
        rflags: word(0).into(),
        segments,
        control: control(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_in_the_order_of_gdb() {
        let mut bytes: Vec<u8> = (1..=17_u64).flat_map(u64::to_le_bytes).collect();
        bytes.extend((18..=24_u32).flat_map(u32::to_le_bytes));
        let all: Vec<_> = (25..=31).map(Some).collect();
        let found = parse(&bytes, &all).unwrap();
        assert_eq!((found.rax, found.rbx, found.rcx, found.rdx), (1, 2, 3, 4));
        assert_eq!((found.rsi, found.rdi, found.rbp, found.rsp), (5, 6, 7, 8));
        assert_eq!(
            (found.r8, found.r15, found.rip, found.rflags),
            (9, 16, 17, 18)
        );
        let segments = found.segments.unwrap();
        assert_eq!((segments.cs.selector, segments.gs.selector), (19, 24));
        assert_eq!((segments.fs.base, segments.gs.base), (25, 26));
        assert_eq!(segments.kernel_gs_base, Some(27));
        let control = found.control.unwrap();
        assert_eq!(
            (control.cr0, control.cr2, control.cr3, control.cr4),
            (28, 29, 30, 31)
        );
        // An older stub has only the first.
        let found = parse(&bytes, &[]).unwrap();
        assert_eq!((found.segments, found.control), (None, None));
        assert_eq!(parse(&bytes[..bytes.len() - 1], &all), None);
    }
}
