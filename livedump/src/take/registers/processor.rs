//! A processor's registers, by what the kernel keeps in them and by the names that a `struct pcb` has
//! for them.
//!
//! | processor | `struct pcpu` in the kernel | waits stopped in | its place in a pcb |
//! |---|---|---|---|
//! | amd64, i386 | GS, or its other base; FS | `cpustop_handler` | `rip`, `eip` |
//! | arm64 | `x18` | `ipi_stop` | `x30` |
//! | riscv64 | `tp` | `ipi_stop`; 12.1 `ipi_handler` | `ra` |
//!
//! FreeBSD `sys/*/include/pcpu.h`, `mp_machdep.c`. A pcb of the last two has the return address of the
//! function that saved it, and debuggers begin there; so the program counter goes there, and where
//! the innermost function would have returned to is lost.

use std::ops::Range;

use livecore_defs::pcb::PcbFields;
use livecore_defs::{Architecture, ElfMachine, amd64};

use crate::image::{Arm64, Registers, Riscv64, X86};

/// Whether these are registers of a kernel's processor: of ELF `machine`.
pub(super) fn is_of(registers: &Registers, machine: ElfMachine) -> bool {
    match registers {
        Registers::X86(_) => [ElfMachine::EM_X86_64, ElfMachine::EM_386].contains(&machine),
        Registers::Arm64(_) => machine == ElfMachine::EM_AARCH64,
        Registers::Riscv64(_) => machine == ElfMachine::EM_RISCV,
        Registers::Unknown => false,
    }
}

/// Why a processor no longer runs the kernel, if its registers say so: it was reset, it runs
/// firmware, or the image has zeros for it. `is_64`: the kernel is; `memory` is the machine's RAM.
pub(super) fn left(
    registers: &Registers,
    is_64: bool,
    memory: &[Range<u64>],
) -> Option<&'static str> {
    const OFF: &str = "paging is off";
    const OUTSIDE: &str = "its program counter is neither in the kernel nor in a program";
    let (pc, sp) = registers.place()?;
    if (pc, sp) == (0, 0) {
        return Some("its registers are zero");
    }
    let (is_upper, is_lower) = (pc >> 63 == 1, pc >> 63 == 0);
    match registers {
        Registers::X86(r) => {
            if let Some(control) = r.control {
                if !control.paging() {
                    return Some(OFF);
                }
                if control.root() == 0 {
                    return Some("CR3 is 0");
                }
            }
            // A selector of 0 is one that the format does not have.
            let selector = r.segments.map_or(0, |segments| segments.cs.selector);
            let user = match selector {
                0 => is_lower,
                selector => selector & 3 == 3,
            };
            // Addresses have 57 bits at most. An i386 kernel may be at any address.
            let outside = if user {
                pc >> 56 != 0
            } else {
                pc >> 56 != 0xff
            };
            (is_64 && outside).then_some(OUTSIDE)
        }
        Registers::Arm64(r) if r.is_user() => is_upper.then_some(OUTSIDE),
        // The kernel's addresses are in the upper half; others are physical.
        Registers::Arm64(_) => is_lower.then_some("its MMU is off"),
        Registers::Riscv64(_) => {
            // Nothing says which mode it was in. A program has its stack where no RAM is.
            let is_ram = |at: u64| memory.iter().any(|range| range.contains(&at));
            (is_lower && (sp == 0 || is_ram(pc) && is_ram(sp))).then_some("its MMU is off")
        }
        Registers::Unknown => None,
    }
}

/// Where the `struct pcpu` may be. In user mode the registers that lead there are a program's; amd64's
/// `swapgs` has put it aside.
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
        Registers::Arm64(r) if !r.is_user() => vec![r.x[Arm64::PCPU]],
        Registers::Riscv64(r) if !r.is_user() => vec![r.x[Riscv64::TP]],
        _ => Vec::new(),
    }
}

/// Functions in which a processor of ELF `machine` waits when it has been stopped.
pub(super) fn waits_in(machine: ElfMachine) -> &'static [&'static str] {
    Architecture::of_machine(machine).map_or(&[], |row| row.stopped_in)
}

/// The registers that a trap's pcb of this layout has: those that a switch saves, then the others.
pub(super) fn registers_of(layout: &PcbFields) -> impl Iterator<Item = (&'static str, usize)> {
    let more = layout.trapped.map_or(&[][..], |trapped| trapped.registers);
    layout.registers.iter().chain(more).copied()
}

/// What a pcb of this layout has for `name`; `None` if nobody knows.
pub(super) fn value(registers: &Registers, layout: &PcbFields, name: &str) -> Option<u64> {
    if name == layout.pc {
        return registers.place().map(|(pc, _)| pc);
    }
    match registers {
        Registers::X86(r) => x86(r, name),
        Registers::Arm64(r) => arm64(r, name),
        Registers::Riscv64(r) => riscv64(r, name),
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

fn arm64(r: &Arm64, name: &str) -> Option<u64> {
    if name == "sp" {
        return Some(r.sp);
    }
    let number: usize = name.strip_prefix('x')?.parse().ok()?;
    r.x.get(number).copied()
}

fn riscv64(r: &Riscv64, name: &str) -> Option<u64> {
    // The standard calling convention's names.
    let number = match name {
        "ra" => Riscv64::RA,
        "sp" => Riscv64::SP,
        "gp" => 3,
        "tp" => Riscv64::TP,
        "fp" => Riscv64::FP,
        "s1" => 9,
        _ => {
            let (kind, number) = name.split_at_checked(1)?;
            match (kind, number.parse::<usize>().ok()?) {
                ("t", number @ 0..=2) => 5 + number,
                ("t", number @ 3..=6) => 25 + number,
                ("a", number @ 0..=7) => 10 + number,
                ("s", number @ 2..=11) => 16 + number,
                _ => return None,
            }
        }
    };
    r.x.get(number).copied()
}

/// What a pcb of this layout has beside registers with names: offsets and values.
pub(super) fn beside(registers: &Registers, layout: &PcbFields) -> Vec<(u64, u64)> {
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
    use livecore_defs::riscv;

    /// Numbers of registers by the RISC-V calling convention, volume I, chapter "RISC-V Assembly
    /// Programmer's Handbook".
    #[test]
    fn registers_of_riscv64_have_the_calling_convention_s_numbers() {
        let registers = Registers::Riscv64(Riscv64 {
            pc: 100,
            x: std::array::from_fn(|number| number as u64),
        });
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
        assert_eq!(find("ra"), Some(100), "where it was");
        for name in ["t7", "a8", "s12", "s0", "x1", "", "é1"] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn every_register_of_a_pcb_is_one_of_its_processor_s() {
        let arm64 = Registers::Arm64(Arm64::default());
        let riscv64 = Registers::Riscv64(Riscv64::default());
        let x86 = Registers::X86(X86::default());
        let all = Architecture::ALL.into_iter();
        for (row, layout) in all.flat_map(|row| row.pcbs.iter().map(move |pcb| (row, *pcb))) {
            for registers in [arm64, riscv64, x86, Registers::Unknown] {
                let fits = is_of(&registers, row.machine);
                for (name, _) in registers_of(layout) {
                    let found = value(&registers, layout, name);
                    assert!(!fits || found.is_some(), "{name} of {row}");
                }
            }
        }
    }
}
