//! VirtualBox cores, as written by `VBoxManage debugvm NAME dumpvmcore`.
//!
//! An ELF core with a `VBCORE` note (`DBGFCOREDESCRIPTOR`), a `VBCPU` note for each processor
//! (`DBGFCORECPU`), and a `PT_LOAD` for each range of RAM. Facts: VirtualBox
//! `include/VBox/vmm/dbgfcorefmt.h`, format version 0x00010006.

use livecore_minidump::Error;
use livecore_minidump::elf::core::Note;

use super::candidate::Row;
use super::cpu::{Control, CpuState, Segment, Segments, X86};
use super::elf_core;
use super::format::Format;

use super::source::{le16, le32, le64};

/// `NT_VBOXCORE`.
const NT_VBOXCORE: u32 = 0xb00;
/// `NT_VBOXCPU`.
const NT_VBOXCPU: u32 = 0xb01;
/// `DBGFCORE_MAGIC`.
const MAGIC: u32 = 0xc01a_c0de;
/// In this version the CPU notes are `CPUMCTX`, which differs between releases.
const FIRST: u32 = 0x0001_0000;
/// `DBGFCORECPU` up to `msrKernelGSBase`.
const CPU: usize = 544;

fn descriptor(notes: &[Note]) -> Option<&Note> {
    notes
        .iter()
        .find(|note| note.name == b"VBCORE" && note.kind == NT_VBOXCORE)
}

/// The CPUs.
fn cpus(notes: &[Note]) -> Result<Vec<CpuState>, Error> {
    let Some(core) = descriptor(notes) else {
        return Ok(Vec::new());
    };
    // Magic, version, its own size, VirtualBox's version and revision, number of CPUs.
    let d = &core.description;
    if d.len() < 24 || le32(d, 0) != MAGIC {
        return Err(Error::broken(
            "VBCORE note",
            core.offset,
            format!("magic {:#x} in {} bytes", le32(d, 0), d.len()),
            format!("magic {MAGIC:#x} in 24 bytes"),
        ));
    }
    if le32(d, 4) <= FIRST {
        return Ok(Vec::new());
    }
    let states = notes
        .iter()
        .filter(|note| note.name == b"VBCPU" && note.kind == NT_VBOXCPU);
    (0..)
        .zip(states)
        .map(|(number, note)| {
            if note.description.len() < CPU {
                return Err(Error::broken(
                    "VBCPU note",
                    note.offset,
                    format!("{} bytes", note.description.len()),
                    format!("at least {CPU}"),
                ));
            }
            Ok(CpuState::new(number, state(&note.description)))
        })
        .collect()
}

/// `DBGFCORECPU`: eighteen registers, six selectors of 24 bytes, CR0, CR2, CR3, CR4, eight debug
/// registers, GDTR and IDTR of 16 bytes, LDTR and TR of 24, sysenter's three, MSRs.
fn state(d: &[u8]) -> X86 {
    let r = |index: usize| le64(d, 8 * index);
    let selector = |at: usize| Segment {
        base: le64(d, at),
        limit: le32(d, at + 8),
        flags: le32(d, at + 12),
        selector: le16(d, at + 16),
    };
    let s = |index: usize| selector(144 + 24 * index);
    let table = |at: usize| Segment {
        base: le64(d, at),
        limit: le32(d, at + 8),
        ..Segment::default()
    };
    X86 {
        is_32: false,
        rax: r(0),
        rbx: r(1),
        rcx: r(2),
        rdx: r(3),
        rsi: r(4),
        rdi: r(5),
        r8: r(6),
        r9: r(7),
        r10: r(8),
        r11: r(9),
        r12: r(10),
        r13: r(11),
        r14: r(12),
        r15: r(13),
        rip: r(14),
        rsp: r(15),
        rbp: r(16),
        rflags: r(17),
        segments: Some(Segments {
            cs: s(0),
            ds: s(1),
            es: s(2),
            fs: s(3),
            gs: s(4),
            ss: s(5),
            gdt: table(384),
            idt: table(400),
            ldt: selector(416),
            tr: selector(440),
            kernel_gs_base: Some(le64(d, 536)),
        }),
        control: Some(Control {
            cr0: le64(d, 288),
            cr2: le64(d, 296),
            cr3: le64(d, 304),
            cr4: le64(d, 312),
        }),
    }
}

/// The table row of the format.
pub(super) const VIRTUALBOX: Row = Row {
    probe: |candidate| Ok(descriptor(candidate.notes()?).is_some()),
    open: |candidate| {
        let cpus = cpus(candidate.notes()?)?;
        elf_core::image(candidate, Format::VirtualBox, cpus)
    },
};
