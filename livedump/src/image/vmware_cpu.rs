//! The processors in a VMware state: the tags of its group `cpu`.
//!
//! `cpu:numVCPUs` is how many there are. The tags `rax` to `r15`, `rip` (8 bytes) and `eflags` (4) have
//! the processor's number for their index, `CR64` (8 bytes) that and the register's. Facts: crash's
//! `vmware_vmss.c` and illumos's `mdb_kvm` for these files agree in them; Volatility's listing of a
//! real file shows the same names and sizes.
//!
//! Not used: the block `gpregs`, in which newer states have the general registers. Its order is told
//! by one reader alone, and not as the processor numbers them. Nor are segments read, whose tags
//! nobody describes.

use std::collections::BTreeMap;

use livecore_minidump::Error;

use super::cpu::{Control, CpuState, X86};

/// Processors that a file may have: VMware's guests have some hundreds at most.
const CPUS: u32 = 4096;

/// The tags, in the order of [`Seen::values`].
const NAMES: [&[u8]; 18] = [
    b"rax", b"rbx", b"rcx", b"rdx", b"rsi", b"rdi", b"rsp", b"rbp", b"r8", b"r9", b"r10", b"r11",
    b"r12", b"r13", b"r14", b"r15", b"rip", b"eflags",
];
const EFLAGS: usize = 17;

/// What the tags have said of one processor.
#[derive(Default)]
struct Seen {
    values: [Option<u64>; NAMES.len()],
    control: [Option<u64>; 5],
}

impl Seen {
    /// The registers, if all of them were said.
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

/// Gathers the tags of the group `cpu`.
#[derive(Default)]
pub(super) struct Cpus {
    stated: u64,
    seen: BTreeMap<u32, Seen>,
}

impl Cpus {
    /// Takes a tag's value of `width` bytes.
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
        let (cpu, place) = match (indices, register) {
            ([cpu], Some(index)) if width == if index == EFLAGS { 4 } else { 8 } => {
                (*cpu, &mut self.at(*cpu, at)?.values[index])
            }
            ([cpu, number @ 0..5], None) if control && width == 8 => {
                (*cpu, &mut self.at(*cpu, at)?.control[*number as usize])
            }
            _ => return Ok(()),
        };
        if place.replace(value).is_some_and(|before| before != value) {
            let name = String::from_utf8_lossy(name);
            return Err(Error::broken(
                "VMware processor",
                at,
                format!("another {name} of processor {cpu}"),
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
                format!("number {cpu}"),
                format!("numbers below {CPUS}"),
            ));
        }
        Ok(self.seen.entry(cpu).or_default())
    }

    /// The processors of which every register is known, and what is to be said of the others.
    pub(super) fn finish(self) -> (Vec<CpuState>, Option<String>) {
        let states = self
            .seen
            .iter()
            .map(|(number, seen)| Some(CpuState::new(*number, seen.state()?)));
        let states: Vec<_> = states.flatten().collect();
        let known = states.len() as u64;
        let note = (self.stated > known).then(|| {
            format!(
                "registers of {known} of {} processors are in tags of their own; others are not read",
                self.stated
            )
        });
        (states, note)
    }
}
