//! Registers by processor: their roles in the kernel, and their names in a `struct pcb`.
//!
//! | processor | `struct pcpu` in the kernel | pc in a pcb |
//! |---|---|---|
//! | amd64, i386 | GS, or its other base; FS | `rip`, `eip` |
//! | others | [`CpuFields::pcpu`](livecore_defs::cpu::CpuFields) | [`PcbFields::pc`] |
//!
//! FreeBSD `sys/*/include/pcpu.h`, `mp_machdep.c`. A pcb of the last has the return address of the
//! function that saved it, where debuggers begin. So the program counter is stored there, and the
//! return address of the innermost function is lost.

use std::ops::Range;

use livecore_defs::pcb::PcbFields;
use livecore_defs::{Architecture, ElfMachine, PhysAddr, VirtAddr, amd64};

use crate::image::{Registers, X86};
use crate::take::note::Left;

/// Whether the registers are of a processor of ELF `machine`.
pub(super) fn is_of(registers: &Registers, machine: ElfMachine) -> bool {
    match registers {
        Registers::X86(_) => [ElfMachine::EM_X86_64, ElfMachine::EM_386].contains(&machine),
        Registers::Named(r) => r.arch().machine == machine,
        Registers::Unknown => false,
    }
}

/// Why a CPU does not run the kernel any more, if its registers show that: it was reset, it runs
/// firmware, or the image has zeros for it. `is_64` is whether the kernel is 64-bit; `memory` is
/// the machine's RAM.
pub(super) fn left(registers: &Registers, is_64: bool, memory: &[Range<PhysAddr>]) -> Option<Left> {
    let (pc, sp) = registers.place()?;
    if (pc, sp) == (VirtAddr(0), VirtAddr(0)) {
        return Some(Left::Zero);
    }
    let (is_upper, is_lower) = (pc.0 >> 63 == 1, pc.0 >> 63 == 0);
    match registers {
        Registers::X86(r) => {
            if let Some(control) = r.control {
                if !control.paging() {
                    return Some(Left::PagingOff);
                }
                if control.root() == PhysAddr(0) {
                    return Some(Left::NoTables);
                }
            }
            // A selector of 0 means that the format does not have it.
            let selector = r.segments.map_or(0, |segments| segments.cs.selector);
            let user = match selector {
                0 => is_lower,
                selector => selector & 3 == 3,
            };
            // Addresses have at most 57 bits. An i386 kernel may be at any address.
            let outside = if user {
                pc.0 >> 56 != 0
            } else {
                pc.0 >> 56 != 0xff
            };
            (is_64 && outside).then_some(Left::Outside)
        }
        Registers::Named(r) if r.fields().user_mode.is_some() => match r.is_user() {
            true => is_upper.then_some(Left::Outside),
            // Kernel addresses are in the upper half; others are physical.
            false => is_lower.then_some(Left::MmuOff),
        },
        Registers::Named(_) => {
            // The mode is unknown. A user program's stack is at an address without RAM.
            let is_ram = |at: VirtAddr| memory.iter().any(|range| range.contains(&PhysAddr(at.0)));
            (is_lower && (sp == VirtAddr(0) || is_ram(pc) && is_ram(sp))).then_some(Left::MmuOff)
        }
        Registers::Unknown => None,
    }
}

/// The possible addresses of `struct pcpu`. In user mode these registers belong to the program;
/// amd64's `swapgs` has saved the kernel's.
pub(super) fn pcpus(registers: &Registers) -> Vec<u64> {
    match registers {
        Registers::X86(X86 {
            segments: Some(segments),
            ..
        }) => {
            let other = segments.kernel_gs_base;
            let bases = [Some(segments.gs.base), other, Some(segments.fs.base)];
            bases.into_iter().flatten().collect()
        }
        Registers::Named(r) if !r.is_user() => r.get(r.fields().pcpu).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The functions in which a stopped CPU of ELF `machine` waits.
pub(super) fn waits_in(machine: ElfMachine) -> &'static [&'static str] {
    Architecture::of_machine(machine).map_or(&[], |row| row.stopped_in)
}

/// The registers in a pcb of this layout: those saved at a switch, then the others.
pub(super) fn registers_of(layout: &PcbFields) -> impl Iterator<Item = (&'static str, usize)> {
    let more = layout.trapped.map_or(&[][..], |trapped| trapped.registers);
    layout.registers.iter().chain(more).copied()
}

/// The value for `name` in a pcb of this layout; `None` if unknown.
pub(super) fn value(registers: &Registers, layout: &PcbFields, name: &str) -> Option<u64> {
    if name == layout.pc {
        return registers.place().map(|(pc, _)| pc.0);
    }
    match registers {
        Registers::X86(r) => x86(r, name),
        Registers::Named(r) => r.get(name),
        Registers::Unknown => None,
    }
}

fn x86(r: &X86, name: &str) -> Option<u64> {
    Some(match name {
        "rbx" | "ebx" => r.rbx,
        "rbp" | "ebp" => r.rbp,
        "rsp" | "esp" => r.rsp,
        "r12" => r.r12,
        "r13" => r.r13,
        "r14" => r.r14,
        "r15" => r.r15,
        "esi" => r.rsi,
        "edi" => r.rdi,
        _ => return None,
    })
}

/// Other contents of a pcb of this layout: offsets and values.
pub(super) fn other_fields(registers: &Registers, layout: &PcbFields) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let Registers::X86(r) = registers else {
        return all;
    };
    if layout.word != 8 {
        return all;
    }
    if let Some(segments) = &r.segments {
        all.push((amd64::PCB_FSBASE, segments.fs.base));
        all.push((amd64::PCB_GSBASE, segments.gs.base));
        all.extend(
            segments
                .kernel_gs_base
                .map(|base| (amd64::PCB_KGSBASE, base)),
        );
    }
    if let Some(control) = r.control {
        let values = [control.cr0, control.cr2, control.cr3, control.cr4];
        all.extend((0..).step_by(8).map(|i| amd64::PCB_CR0 + i).zip(values));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Named;
    use livecore_defs::riscv;

    /// Register numbers of the RISC-V calling convention, volume I, chapter "RISC-V Assembly
    /// Programmer's Handbook".
    #[test]
    fn riscv64_registers_have_the_calling_conventions_numbers() {
        let numbers = (0..32).map(|x| if x == 0 { 100 } else { x });
        let registers = Registers::from(Named::new(&riscv::ARCHITECTURE, numbers).unwrap());
        let find = |name| value(&registers, &riscv::PCB_OLD, name);
        for (name, number) in [
            ("sp", 2),
            ("gp", 3),
            ("tp", 4),
            ("t0", 5),
            ("t2", 7),
            ("fp", 8),
            ("s1", 9),
            ("a0", 10),
            ("a7", 17),
            ("s2", 18),
            ("s11", 27),
            ("t3", 28),
            ("t6", 31),
        ] {
            assert_eq!(find(name), Some(number), "{name}");
        }
        assert_eq!(find("ra"), Some(100), "the program counter");
        for name in ["t7", "a8", "s12", "s0", "x1", "", "é1"] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn every_register_of_a_pcb_has_a_value() {
        let named = |row: &'static Architecture| Named::new(row, []).map(Registers::from);
        let mut states: Vec<_> = Architecture::ALL.into_iter().filter_map(named).collect();
        assert_eq!(states.len(), 2);
        states.extend([Registers::X86(X86::default()), Registers::Unknown]);
        let all = Architecture::ALL.into_iter();
        for (row, layout) in all.flat_map(|row| row.pcbs.iter().map(move |pcb| (row, *pcb))) {
            for registers in &states {
                let fits = is_of(registers, row.machine);
                for (name, _) in registers_of(layout) {
                    let found = value(registers, layout, name);
                    assert!(!fits || found.is_some(), "{name} of {row}");
                }
            }
        }
    }
}
