//! The CPUs in a VMware state: the tags of the group `cpu`.
//!
//! `cpu:numVCPUs` is their number. The tags `rax` to `r15`, `rip` (8 bytes) and `eflags` (4) have
//! the CPU number as index, `CR64` (8 bytes) has that and the register's number. Facts: crash's
//! `vmware_vmss.c` and illumos's `mdb_kvm` agree about them; Volatility's listing of a real file
//! shows the same names and sizes.
//!
//! The block `gpregs`, in which newer states have the general registers, is not used: only one
//! reader knows its order, which is not the processor's. Segments are not read, since their tags
//! are not documented.

use std::collections::BTreeMap;

use livecore_minidump::Error;

use super::cpu::{Control, CpuState, X86};

/// The most CPUs of a file; VMware's guests have some hundreds at most.
const CPUS: u32 = 4096;

/// The tags, in the order of [`Seen::values`].
const NAMES: [&[u8]; 18] = [
    b"rax", b"rbx", b"rcx", b"rdx", b"rsi", b"rdi", b"rsp", b"rbp", b"r8", b"r9", b"r10", b"r11",
    b"r12", b"r13", b"r14", b"r15", b"rip", b"eflags",
];
const EFLAGS: usize = 17;

/// The values of one CPU.
#[derive(Default)]
struct Seen {
    values: [Option<u64>; NAMES.len()],
    control: [Option<u64>; 5],
}

impl Seen {
    /// The registers, if all of them are present.
    fn state(&self) -> Option<X86> {
        let [
            a,
            b,
            c,
            d,
            si,
            di,
            sp,
            bp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            ip,
            flags,
        ] = self.values;
        let [cr0, _, cr2, cr3, cr4] = self.control;
        let control = cr0.zip(cr2).zip(cr3.zip(cr4));
        Some(X86 {
            is_32: false,
            rax: a?,
            rbx: b?,
            rcx: c?,
            rdx: d?,
            rsi: si?,
            rdi: di?,
            rsp: sp?,
            rbp: bp?,
            r8: r8?,
            r9: r9?,
            r10: r10?,
            r11: r11?,
            r12: r12?,
            r13: r13?,
            r14: r14?,
            r15: r15?,
            rip: ip?,
            rflags: flags?,
            segments: None,
            control: control.map(|((cr0, cr2), (cr3, cr4))| Control { cr0, cr2, cr3, cr4 }),
        })
    }
}

/// Collects the tags of the group `cpu`.
#[derive(Default)]
pub(super) struct Cpus {
    stated: u64,
    seen: BTreeMap<u32, Seen>,
}

impl Cpus {
    /// Adds the value of a tag, `width` bytes long.
    pub(super) fn number(
        &mut self,
        name: &[u8],
        indices: &[u32],
        width: u16,
        value: u64,
        at: u64,
    ) -> Result<(), Error> {
        if name == b"cpu:numVCPUs" && indices.is_empty() {
            self.stated = value;
            return Ok(());
        }
        let register = NAMES.iter().position(|of| *of == name);
        let control = name == b"CR64";
        let (cpu, slot) = match (indices, register) {
            ([cpu], Some(index)) if width == if index == EFLAGS { 4 } else { 8 } => {
                (*cpu, &mut self.at(*cpu, at)?.values[index])
            }
            ([cpu, number @ 0..5], None) if control && width == 8 => {
                (*cpu, &mut self.at(*cpu, at)?.control[*number as usize])
            }
            _ => return Ok(()),
        };
        if slot.replace(value).is_some_and(|before| before != value) {
            let name = String::from_utf8_lossy(name);
            return Err(Error::broken(
                "VMware processor",
                at,
                format!("a second {name} of processor {cpu}"),
                "each register once",
            ));
        }
        Ok(())
    }

    fn at(&mut self, cpu: u32, at: u64) -> Result<&mut Seen, Error> {
        if cpu >= CPUS {
            return Err(Error::broken(
                "VMware processor",
                at,
                format!("CPU number {cpu}"),
                format!("a number below {CPUS}"),
            ));
        }
        Ok(self.seen.entry(cpu).or_default())
    }

    /// The CPUs with all registers, and a message about the others.
    pub(super) fn finish(self) -> (Vec<CpuState>, Option<String>) {
        let states = self
            .seen
            .iter()
            .map(|(number, seen)| Some(CpuState::new(*number, seen.state()?)));
        let states: Vec<_> = states.flatten().collect();
        let known = states.len() as u64;
        let note = (self.stated > known).then(|| {
            format!(
                "read registers of {known} of {} CPUs; those of the others are in an unsupported format",
                self.stated
            )
        });
        (states, note)
    }
}
