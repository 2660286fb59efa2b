//! ELF cores: QEMU's, VirtualBox's, and the full dumps of FreeBSD's kernel.

use super::append::{pad, put};
use super::memory::Memory;
use super::registers::{PUSHED, control, controls, register, segment_base, selector};

/// A `PT_LOAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Virtual address.
    pub va: u64,
    /// Physical address.
    pub pa: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
}

/// An ELF core to write: headers, notes, memory.
#[derive(Debug, Clone)]
pub struct Core {
    /// `EI_CLASS`: 64 bits, or 32.
    pub wide: bool,
    /// `EI_OSABI`.
    pub osabi: u8,
    /// `e_machine`.
    pub machine: u16,
    /// Notes, if there is a `PT_NOTE`.
    pub notes: Option<Vec<u8>>,
    /// Segments; offsets are relative to `bytes`.
    pub loads: Vec<Load>,
    /// Contents of the segments.
    pub bytes: Vec<u8>,
    /// `PN_XNUM`: the number of program headers is in section 0.
    pub xnum: bool,
    /// Alignment of `bytes` in the file.
    pub align: usize,
}

impl Core {
    /// A core of `memory`, one segment for each range.
    #[must_use]
    pub fn of(memory: &Memory) -> Self {
        let mut loads = Vec::new();
        let mut bytes = Vec::new();
        for (start, range) in &memory.ranges {
            loads.push(Load {
                va: 0,
                pa: *start,
                offset: bytes.len() as u64,
                filesz: range.len() as u64,
                memsz: range.len() as u64,
            });
            bytes.extend(range);
        }
        Self {
            wide: true,
            osabi: 0,
            machine: 62,
            notes: None,
            loads,
            bytes,
            xnum: false,
            align: 1,
        }
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let word = if self.wide { 8 } else { 4 };
        let (ehsize, phentsize, shentsize) = if self.wide {
            (64, 56, 64)
        } else {
            (52, 32, 40)
        };
        let count = self.loads.len() + usize::from(self.notes.is_some());
        let shoff = ehsize + count * phentsize;
        let headers = shoff + if self.xnum { shentsize } else { 0 };
        let notes = self.notes.clone().unwrap_or_default();
        let data = (headers + notes.len()).next_multiple_of(self.align);

        let mut out = b"\x7fELF".to_vec();
        out.extend([1 + u8::from(self.wide), 1, 1, self.osabi]);
        out.resize(16, 0);
        put(&mut out, 2, &[4, u64::from(self.machine)]);
        put(&mut out, 4, &[1]);
        let shoff = if self.xnum { shoff as u64 } else { 0 };
        put(&mut out, word, &[0, ehsize as u64, shoff]);
        put(&mut out, 4, &[0]);
        let phnum = if self.xnum { 0xffff } else { count as u64 };
        let (shentsize, shnum) = if self.xnum {
            (shentsize as u64, 1)
        } else {
            (0, 0)
        };
        put(
            &mut out,
            2,
            &[ehsize as u64, phentsize as u64, phnum, shentsize, shnum, 0],
        );

        if self.notes.is_some() {
            self.header(
                &mut out,
                4,
                &Load {
                    va: 0,
                    pa: 0,
                    offset: headers as u64,
                    filesz: notes.len() as u64,
                    memsz: notes.len() as u64,
                },
            );
        }
        for load in &self.loads {
            let offset = load.offset + data as u64;
            self.header(&mut out, 1, &Load { offset, ..*load });
        }
        if self.xnum {
            // Name, type, flags, address, offset, size, link, info, alignment, entry size.
            put(&mut out, 4, &[0, 0]);
            put(&mut out, word, &[0, 0, 0, 1]);
            put(&mut out, 4, &[0, count as u64]);
            put(&mut out, word, &[0, 0]);
        }
        out.extend(notes);
        out.resize(data, 0);
        out.extend(&self.bytes);
        out
    }

    fn header(&self, out: &mut Vec<u8>, kind: u64, load: &Load) {
        put(out, 4, &[kind]);
        if self.wide {
            put(out, 4, &[0]);
            put(
                out,
                8,
                &[load.offset, load.va, load.pa, load.filesz, load.memsz, 0],
            );
        } else {
            put(
                out,
                4,
                &[load.offset, load.va, load.pa, load.filesz, load.memsz, 0, 0],
            );
        }
    }
}

/// Appends a note: name with a NUL, name and contents padded to 4 bytes.
pub(super) fn note(out: &mut Vec<u8>, name: &str, kind: u64, contents: &[u8]) {
    put(
        out,
        4,
        &[name.len() as u64 + 1, contents.len() as u64, kind],
    );
    out.extend(name.bytes());
    out.push(0);
    pad(out, 4);
    out.extend(contents);
    pad(out, 4);
}

/// `NT_PRSTATUS` of an amd64 processor.
fn prstatus(cpu: u32) -> Vec<u8> {
    let mut out = vec![0; 112];
    let r = |name: &str| register(cpu, name);
    put(&mut out, 8, &PUSHED.map(r));
    put(
        &mut out,
        8,
        &[0, r("rip"), selector(cpu, "cs"), r("rflags"), r("rsp")],
    );
    put(&mut out, 8, &[selector(cpu, "ss")]);
    put(
        &mut out,
        8,
        &[segment_base(cpu, "fs"), segment_base(cpu, "gs")],
    );
    put(
        &mut out,
        8,
        &["ds", "es", "fs", "gs"].map(|s| selector(cpu, s)),
    );
    out.resize(336, 0);
    out
}

/// `NT_PRSTATUS` of an i386 processor.
fn prstatus_32(cpu: u32) -> Vec<u8> {
    let mut out = vec![0; 72];
    let r = |name: &str| register(cpu, name);
    put(
        &mut out,
        4,
        &["rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rax"].map(r),
    );
    put(
        &mut out,
        4,
        &["ds", "es", "fs", "gs"].map(|s| selector(cpu, s)),
    );
    put(
        &mut out,
        4,
        &[0, r("rip"), selector(cpu, "cs"), r("rflags"), r("rsp")],
    );
    put(&mut out, 4, &[selector(cpu, "ss")]);
    out.resize(144, 0);
    out
}

/// QEMU's own note.
fn qemu_note(cpu: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 4, &[1, 440]);
    let order = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip", "rflags",
    ];
    put(&mut out, 8, &order.map(|name| register(cpu, name)));
    for name in [
        "cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt",
    ] {
        put(&mut out, 4, &[selector(cpu, name), 0xffff, 0x93, 0]);
        put(&mut out, 8, &[segment_base(cpu, name)]);
    }
    put(&mut out, 8, &controls(cpu));
    put(&mut out, 8, &[segment_base(cpu, "kernel_gs")]);
    out
}

/// The notes of `cpus` processors: `NT_PRSTATUS`, then QEMU's notes if `qemu` is set.
pub(super) fn notes(cpus: u32, wide: bool, qemu: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for cpu in 0..cpus {
        let status = if wide {
            prstatus(cpu)
        } else {
            prstatus_32(cpu)
        };
        note(&mut out, "CORE", 1, &status);
    }
    for cpu in (0..cpus).filter(|_| qemu) {
        note(&mut out, "QEMU", 0, &qemu_note(cpu));
    }
    out
}

/// QEMU's core of an arm64 guest: for each of `cpus` processors a status of 392 bytes, then its
/// vector registers.
#[must_use]
pub fn qemu_arm64(memory: &Memory, cpus: u32) -> Core {
    let mut out = Vec::new();
    for cpu in 0..cpus {
        let mut status = vec![0; 32];
        put(&mut status, 4, &[u64::from(cpu) + 1]);
        status.resize(112, 0);
        for number in 0..31 {
            put(&mut status, 8, &[register(cpu, &format!("x{number}"))]);
        }
        put(
            &mut status,
            8,
            &["sp", "pc", "pstate"].map(|name| register(cpu, name)),
        );
        put(&mut status, 4, &[1, 0]);
        note(&mut out, "CORE", 1, &status);
        note(&mut out, "CORE", 2, &[cpu as u8; 528]);
    }
    Core {
        machine: 183,
        notes: Some(out),
        ..Core::of(memory)
    }
}

/// QEMU's core of a riscv64 guest: for each of `cpus` processors a status of 376 bytes.
#[must_use]
pub fn qemu_riscv64(memory: &Memory, cpus: u32) -> Core {
    let mut out = Vec::new();
    for cpu in 0..cpus {
        let mut status = vec![0; 32];
        put(&mut status, 4, &[u64::from(cpu) + 1]);
        status.resize(112, 0);
        put(&mut status, 8, &[register(cpu, "pc")]);
        for number in 1..32 {
            put(&mut status, 8, &[register(cpu, &format!("x{number}"))]);
        }
        status.resize(376, 0);
        note(&mut out, "CORE", 1, &status);
    }
    Core {
        machine: 243,
        notes: Some(out),
        ..Core::of(memory)
    }
}

/// The output of QEMU's `dump-guest-memory` without paging, for `cpus` processors.
#[must_use]
pub fn qemu(memory: &Memory, cpus: u32) -> Core {
    Core {
        notes: Some(notes(cpus, true, true)),
        ..Core::of(memory)
    }
}

/// [`qemu`] for an i386 guest with memory below 4 GiB: a 32-bit ELF core.
#[must_use]
pub fn qemu_32(memory: &Memory, cpus: u32) -> Core {
    Core {
        wide: false,
        machine: 3,
        notes: Some(notes(cpus, false, true)),
        ..Core::of(memory)
    }
}

/// [`qemu`] with paging: a segment for each of `mappings` (virtual address, physical address,
/// bytes), in the order given. Mappings may overlap.
///
/// # Panics
///
/// If a mapping is not within one range.
#[must_use]
pub fn qemu_paging(memory: &Memory, cpus: u32, mappings: &[(u64, u64, u64)]) -> Core {
    let core = qemu(memory, cpus);
    let loads = mappings.iter().map(|&(va, pa, len)| {
        let inside = |load: &&Load| (load.pa..load.pa + load.filesz).contains(&pa);
        let range = core.loads.iter().find(inside).unwrap();
        assert!(pa + len <= range.pa + range.filesz, "{pa:#x} {len:#x}");
        Load {
            va,
            pa,
            offset: range.offset + (pa - range.pa),
            filesz: len,
            memsz: len,
        }
    });
    Core {
        loads: loads.collect(),
        ..core.clone()
    }
}

/// The full dump of a FreeBSD kernel with `debug.minidump=0`.
#[must_use]
pub fn freebsd_full(memory: &Memory) -> Core {
    Core {
        osabi: 255,
        align: 4096,
        ..Core::of(memory)
    }
}

/// The output of `VBoxManage debugvm dumpvmcore`, format version 0x00010006.
#[must_use]
pub fn virtualbox(memory: &Memory, cpus: u32) -> Core {
    let mut out = Vec::new();
    let mut core = Vec::new();
    put(
        &mut core,
        4,
        &[
            0xc01a_c0de,
            0x0001_0006,
            24,
            0x0007_0000,
            150_000,
            u64::from(cpus),
        ],
    );
    note(&mut out, "VBCORE", 0xb00, &core);
    for cpu in 0..cpus {
        note(&mut out, "VBCPU", 0xb01, &vbox_cpu(cpu));
    }
    Core {
        notes: Some(out),
        align: 4096,
        ..Core::of(memory)
    }
}

fn vbox_cpu(cpu: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let order = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
        "r15", "rip", "rsp", "rbp", "rflags",
    ];
    put(&mut out, 8, &order.map(|name| register(cpu, name)));
    let segment = |out: &mut Vec<u8>, name: &str| {
        put(out, 8, &[segment_base(cpu, name)]);
        put(out, 4, &[0xffff, 0x93]);
        put(out, 2, &[selector(cpu, name), 0]);
        put(out, 4, &[0]);
    };
    for name in ["cs", "ds", "es", "fs", "gs", "ss"] {
        segment(&mut out, name);
    }
    put(
        &mut out,
        8,
        &[0, 2, 3, 4].map(|number| control(cpu, number)),
    );
    put(&mut out, 8, &[0; 8]);
    for name in ["gdt", "idt"] {
        put(&mut out, 8, &[segment_base(cpu, name)]);
        put(&mut out, 4, &[0xffff, 0]);
    }
    segment(&mut out, "ldt");
    segment(&mut out, "tr");
    // SYSENTER_CS, _ESP and _EIP, EFER, STAR, PAT, LSTAR, CSTAR, SFMASK, KernelGSBase.
    put(
        &mut out,
        8,
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, segment_base(cpu, "kernel_gs")],
    );
    // ApicBase, TscAux, XCRs, and an XSAVE area.
    out.resize(out.len() + 8 * 5 + 8192, 0);
    out
}
