//! What QEMU's `dump-guest-memory` says of processors: notes of its own, and `NT_PRSTATUS`.
//!
//! Facts: QEMU `target/i386/arch_dump.c`, `struct QEMUCPUState`, version 1, and Linux's
//! `struct elf_prstatus`. QEMU writes an `NT_PRSTATUS` for each processor, then a note of its own
//! for each; both say the same of the general registers. makedumpfile and other producers write
//! the first kind alone. The notes are little-endian, as the processor is.

use minidump::Error;
use minidump::elf::core::Note;

use super::cpu::{Control, CpuState, Segment, Segments};
use super::pt_regs;
use super::source::{le16, le32, le64};

const NT_PRSTATUS: u32 = 1;
/// The one version of `struct QEMUCPUState`.
const VERSION: u32 = 1;
/// `struct QEMUCPUState` without `kernel_gs_base`, which came later.
const SIZE: usize = 432;
/// `struct elf_prstatus` of 64-bit processors, its registers at 112.
const PRSTATUS_64: usize = 336;
/// `struct elf_prstatus` of i386, its registers at 72.
const PRSTATUS_32: usize = 144;

/// Whether QEMU wrote these notes.
pub(super) fn is_author(notes: &[Note]) -> bool {
    notes
        .iter()
        .any(|note| note.name == b"QEMU" && note.kind == 0)
}

/// The processors that these notes tell of, in their order.
pub(super) fn cpus(notes: &[Note]) -> Result<Vec<CpuState>, Error> {
    let own: Vec<_> = notes
        .iter()
        .filter(|note| note.name == b"QEMU" && note.kind == 0)
        .collect();
    let states = notes
        .iter()
        .filter(|note| note.name == b"CORE" && note.kind == NT_PRSTATUS)
        .collect::<Vec<_>>();
    if own.is_empty() {
        return Ok((0..).zip(states).filter_map(prstatus).collect());
    }
    (0..)
        .zip(own)
        .map(|(number, note)| {
            let of_32 = states
                .get(number as usize)
                .is_some_and(|state| state.description.len() == PRSTATUS_32);
            cpu_state(number, note, of_32)
        })
        .collect()
}

/// `struct QEMUCPUState`: version and size (8 bytes), sixteen general registers, `rip`, `rflags`,
/// ten segments of 24 bytes, CR0 to CR4, `kernel_gs_base`.
fn cpu_state(number: u32, note: &Note, is_32: bool) -> Result<CpuState, Error> {
    let d = &note.description;
    let (version, size) = (le32(d, 0), le32(d, 4));
    if version != VERSION || d.len() < SIZE || (size as usize) < SIZE {
        return Err(Error::broken(
            "QEMU's processor note",
            note.offset,
            format!("version {version}, {size} of {} bytes", d.len()),
            format!("version {VERSION}, at least {SIZE} bytes"),
        ));
    }
    let segment = |index: usize| {
        let at = 152 + 24 * index;
        Segment {
            selector: le16(d, at),
            limit: le32(d, at + 4),
            flags: le32(d, at + 8),
            base: le64(d, at + 16),
        }
    };
    Ok(CpuState {
        number,
        is_32,
        rax: le64(d, 8),
        rbx: le64(d, 16),
        rcx: le64(d, 24),
        rdx: le64(d, 32),
        rsi: le64(d, 40),
        rdi: le64(d, 48),
        rsp: le64(d, 56),
        rbp: le64(d, 64),
        r8: le64(d, 72),
        r9: le64(d, 80),
        r10: le64(d, 88),
        r11: le64(d, 96),
        r12: le64(d, 104),
        r13: le64(d, 112),
        r14: le64(d, 120),
        r15: le64(d, 128),
        rip: le64(d, 136),
        rflags: le64(d, 144),
        segments: Some(Segments {
            cs: segment(0),
            ds: segment(1),
            es: segment(2),
            fs: segment(3),
            gs: segment(4),
            ss: segment(5),
            ldt: segment(6),
            tr: segment(7),
            gdt: segment(8),
            idt: segment(9),
            kernel_gs_base: (d.len() >= SIZE + 8 && size as usize >= SIZE + 8)
                .then(|| le64(d, SIZE)),
        }),
        control: Some(Control {
            cr0: le64(d, 392),
            cr2: le64(d, 408),
            cr3: le64(d, 416),
            cr4: le64(d, 424),
        }),
    })
}

/// `struct elf_prstatus`, of either width; others are not of x86.
fn prstatus((number, note): (u32, &Note)) -> Option<CpuState> {
    let d = &note.description;
    match d.len() {
        PRSTATUS_64 => {
            // Behind what all have: fs_base, gs_base, ds, es, fs, gs.
            let frame = &d[112..];
            let s = |index: usize| pt_regs::selector(frame, pt_regs::WORDS + index);
            let base = |index: usize| le64(frame, 8 * (pt_regs::WORDS + index));
            let state = pt_regs::parse(number, frame);
            Some(CpuState {
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
            })
        }
        PRSTATUS_32 => {
            let r = |index: usize| u64::from(le32(d, 72 + 4 * index));
            let s = |index: usize| Segment {
                selector: le16(d, 72 + 4 * index),
                ..Segment::default()
            };
            Some(CpuState {
                number,
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
                ..CpuState::default()
            })
        }
        _ => None,
    }
}
