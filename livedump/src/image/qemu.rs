//! CPU states in files of QEMU's `dump-guest-memory`: its own notes, and `NT_PRSTATUS`.
//!
//! Facts: QEMU `target/i386/arch_dump.c`, `struct QEMUCPUState`, version 1. QEMU writes an
//! `NT_PRSTATUS` for each CPU and then, for each x86 CPU, its own note with the same general
//! registers. makedumpfile and others write only the former. The notes are little-endian, like the
//! processors.

use livecore_minidump::Error;
use livecore_minidump::elf::core::Note;

use super::cpu::{Control, CpuState, Segment, Segments, X86};
use super::prstatus;
use super::source::{le16, le32, le64};

const NT_PRSTATUS: u32 = 1;
/// The only version of `struct QEMUCPUState`.
const VERSION: u32 = 1;
/// The size of `struct QEMUCPUState` without `kernel_gs_base`, which was added later.
const SIZE: usize = 432;

/// Whether QEMU wrote these notes.
pub(super) fn is_author(notes: &[Note]) -> bool {
    notes
        .iter()
        .any(|note| note.name == b"QEMU" && note.kind == 0)
}

/// The CPUs of these notes, in order.
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
        let all = (0..).zip(states).filter_map(|(number, note)| {
            let registers = prstatus::parse(&note.description)?;
            Some(CpuState::new(number, registers))
        });
        return Ok(all.collect());
    }
    (0..)
        .zip(own)
        .map(|(number, note)| {
            let of_32 = states
                .get(number as usize)
                .is_some_and(|state| state.description.len() == prstatus::I386);
            Ok(CpuState::new(number, cpu_state(note, of_32)?))
        })
        .collect()
}

/// `struct QEMUCPUState`: version and size (8 bytes), sixteen general registers, `rip`, `rflags`,
/// ten segments of 24 bytes, CR0 to CR4, `kernel_gs_base`.
fn cpu_state(note: &Note, is_32: bool) -> Result<X86, Error> {
    let d = &note.description;
    let (version, size) = (le32(d, 0), le32(d, 4));
    if version != VERSION || d.len() < SIZE || (size as usize) < SIZE {
        return Err(Error::broken(
            "QEMU CPU note",
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
    Ok(X86 {
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
