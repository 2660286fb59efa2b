//! Xen's cores.

use super::append::{pad, put};
use super::elf::note;
use super::memory::Memory;
use super::registers::{PUSHED, controls, register, segment_base, selector};

/// How to write a core.
#[derive(Debug, Clone, Copy)]
pub struct Xen {
    /// Paravirtualised guest: `.xen_p2m` instead of `.xen_pfn`.
    pub paravirtual: bool,
    /// Write the pages in descending order.
    pub reversed: bool,
    /// Number of processors.
    pub cpus: u32,
}

fn context(cpu: u32) -> Vec<u8> {
    let mut out = vec![0; 512];
    put(&mut out, 8, &[5]);
    put(&mut out, 8, &PUSHED.map(|name| register(cpu, name)));
    // error_code and entry_vector
    put(&mut out, 4, &[1, 2]);
    put(
        &mut out,
        8,
        &[
            register(cpu, "rip"),
            selector(cpu, "cs"),
            register(cpu, "rflags"),
        ],
    );
    put(&mut out, 8, &[register(cpu, "rsp")]);
    put(
        &mut out,
        8,
        &["ss", "es", "ds", "fs", "gs"].map(|s| selector(cpu, s)),
    );
    // trap_ctxt, then ldt_base, ldt_ents, gdt_frames, gdt_ents, kernel_ss, kernel_sp
    out.resize(out.len() + 256 * 16 + 8 * (1 + 1 + 16 + 1 + 1 + 1), 0);
    put(&mut out, 8, &controls(cpu));
    // ctrlreg 5 to 7, debugreg, three callbacks, vm_assist
    out.resize(out.len() + 8 * (3 + 8 + 3 + 1), 0);
    put(
        &mut out,
        8,
        &["fs", "gs", "kernel_gs"].map(|s| segment_base(cpu, s)),
    );
    assert_eq!(out.len(), 5168);
    out
}

/// The file.
#[must_use]
pub fn xen(memory: &Memory, how: Xen) -> Vec<u8> {
    let mut pages = memory.pages().collect::<Vec<_>>();
    if how.reversed {
        pages.reverse();
    }
    let mut notes = Vec::new();
    note(&mut notes, "Xen", 0x0200_0000, &[]);
    let mut header = Vec::new();
    let magic = if how.paravirtual {
        0xf00f_ebed
    } else {
        0xf00f_ebee
    };
    // The last page is one without a frame number.
    let count = pages.len() as u64 + 1;
    put(&mut header, 8, &[magic, u64::from(how.cpus), count, 4096]);
    note(&mut notes, "Xen", 0x0200_0001, &header);
    note(&mut notes, "Xen", 0x0200_0003, &1_u64.to_le_bytes());

    let frames = pages.iter().map(|(number, _)| *number).chain([u64::MAX]);
    let mut table = Vec::new();
    for frame in frames {
        put(&mut table, 8, &[frame]);
        if how.paravirtual {
            put(&mut table, 8, &[frame ^ 0x5555]);
        }
    }
    let mut bytes = pages
        .iter()
        .map(|(_, page)| *page)
        .collect::<Vec<_>>()
        .concat();
    bytes.resize(bytes.len() + 4096, 0xee);
    let frames = if how.paravirtual {
        ".xen_p2m"
    } else {
        ".xen_pfn"
    };
    let status = (0..how.cpus).flat_map(context).collect();
    let sections = [
        (".note.Xen", 7, notes),
        (".xen_prstatus", 1, status),
        (".xen_shared_info", 1, vec![0; 4096]),
        (".xen_pages", 1, bytes),
        (frames, 1, table),
    ];
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut headers = vec![0; 64];
    let mut body = Vec::new();
    let start = 64 + 64 * (sections.len() + 2);
    for (name, kind, contents) in &sections {
        pad(&mut body, 8);
        section(
            &mut headers,
            names.len(),
            *kind,
            start + body.len(),
            contents.len(),
        );
        names.extend(name.bytes());
        names.push(0);
        body.extend(contents);
    }
    section(&mut headers, 1, 3, start + body.len(), names.len());
    body.extend(names);

    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    put(&mut out, 2, &[4, 62]);
    put(&mut out, 4, &[1]);
    put(&mut out, 8, &[0, 0, 64]);
    put(&mut out, 4, &[0]);
    let count = sections.len() as u64 + 2;
    put(&mut out, 2, &[64, 0, 0, 64, count, count - 1]);
    out.extend(headers);
    out.extend(body);
    out
}

/// Name, type, flags, address, offset, size, link, info, alignment, entry size.
fn section(out: &mut Vec<u8>, name: usize, kind: u64, offset: usize, size: usize) {
    put(out, 4, &[name as u64, kind]);
    put(out, 8, &[0, 0, offset as u64, size as u64]);
    put(out, 4, &[0, 0]);
    put(out, 8, &[8, 0]);
}
