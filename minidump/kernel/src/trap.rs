//! Trap frames on a kernel stack: what was interrupted, and by what.

use std::fmt;

use crate::kernel::Kernel;
use crate::registers::Registers;
use livecore_defs::registers;
use livecore_defs::trapframe::{
    self, ARM_INTERRUPT_HANDLERS, ARM_PSR_32_MODE, ARM_USR_LR, ARM_USR_SP, Cause, ENTRIES, Entry,
    I386_EFLAGS, I386_ESP, MIPS_ADDRESSED, MIPS_EXC_SYS, POWERPC64_ADDRESSED, POWERPC64_EXC_SC,
    POWERPC64_INTERRUPTS, PSL_VM, Place, SCAUSE_ECALL_USER, SCAUSE_INTR, TrapFields,
};

/// A trap, an interrupt or a system call between two frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// Address of the `struct trapframe`.
    pub at: u64,
    /// What it was.
    pub cause: Cause,
    /// amd64, i386: `tf_trapno`; arm64: `tf_esr`; riscv: `tf_scause`; powerpc64: `exc`; mips: `cause`.
    /// Interrupts of amd64, i386 and arm64 have none, and arm has none at all.
    pub number: Option<u64>,
    /// The address that it was about, where the frame has it and it was a fault.
    pub address: Option<u64>,
    /// Whether user mode was interrupted: the kernel's part of the stack ends here.
    pub from_user: bool,
    /// The interrupted context.
    pub registers: Registers,
}

impl fmt::Display for Trap {
    /// The line that ddb prints between the frames.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.registers.set();
        let machine = set.machine;
        let number = self.number.unwrap_or(0);
        match self.cause {
            Cause::Interrupt if machine == registers::RISCV64.machine => {
                write!(f, "--- interrupt {}", number & !SCAUSE_INTR)?;
            }
            Cause::Interrupt => f.write_str("--- interrupt")?,
            Cause::Syscall => f.write_str("--- syscall")?,
            Cause::Trap if machine == registers::ARM64.machine => {
                write!(f, "--- exception, esr {number:#x}")?;
            }
            Cause::Trap if machine == registers::RISCV64.machine => {
                write!(f, "--- exception {number}")?;
                if let Some(address) = self.address {
                    write!(f, ", tval = {address:#x}")?;
                }
            }
            Cause::Trap if machine == registers::ARM.machine => f.write_str("--- exception")?,
            Cause::Trap if machine == registers::MIPS32.machine => {
                write!(f, "--- exception, cause {number:#x}")?;
                if let Some(address) = self.address {
                    write!(f, ", badvaddr {address:#x}")?;
                }
            }
            Cause::Trap => write!(f, "--- trap {}", Radix(number))?,
        }
        let mut told = Vec::new();
        for name in [set.pc, set.sp, set.fp] {
            if let Some(value) = self.registers.get(name)
                && !told.contains(&name)
            {
                write!(f, ", {name} = {}", Radix(value))?;
                told.push(name);
            }
        }
        f.write_str(" ---")
    }
}

/// A number as ddb prints it: hexadecimal, and zero is a digit.
struct Radix(u64);

impl fmt::Display for Radix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            value => write!(f, "{value:#x}"),
        }
    }
}

/// Where the frames are that lead to a trap frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The name of the function that the entry code called.
    pub(crate) handler: &'a str,
    /// The frame pointer of that function.
    pub(crate) callee: u64,
    /// That of the entry code itself, which it saved.
    pub(crate) entry: u64,
}

/// The entry code that a function's name belongs to.
pub(crate) fn entry(machine: u16, name: &str) -> Option<&'static Entry> {
    ENTRIES
        .iter()
        .find(|e| e.machine == machine && (e.name == name || e.prefix && name.starts_with(e.name)))
}

impl Kernel<'_> {
    /// The trap frame that entry code made.
    pub(crate) fn trap(&self, entry: &Entry, around: Around<'_>) -> Option<Trap> {
        let machine = self.elf().machine();
        let version = self.osreldate().unwrap_or(u32::MAX);
        let word = self.register_size();
        let forms = trapframe::ALL
            .into_iter()
            .filter(|f| f.machine == machine && f.word == word && version >= f.since);
        // arm's exceptions all return to one label; what was called tells.
        let is_arm = machine == registers::ARM.machine;
        let interrupt = is_arm && ARM_INTERRUPT_HANDLERS.contains(&around.handler);
        let cause = match interrupt {
            true => Cause::Interrupt,
            false => entry.cause,
        };
        let mut found = None;
        for form in forms {
            for at in self.trap_places(form, around).into_iter().flatten() {
                let Some(trap) = self.trap_at(form, cause, at) else {
                    continue;
                };
                let pc = trap.registers.pc().unwrap_or(0);
                // Programs have the lower half of 64-bit addresses.
                let right = match trap.from_user {
                    true => form.word < 8 || pc >> 63 == 0,
                    false => self.is_code(pc),
                };
                if pc != 0 && right {
                    return Some(trap);
                }
                found = found.or(Some(trap));
            }
        }
        found
    }

    /// Where a trap frame can be, the likeliest first.
    fn trap_places(&self, form: &TrapFields, around: Around<'_>) -> [Option<u64>; 2] {
        let word = form.word as u64;
        let above = |by: u64| around.callee.checked_add(by);
        let read = |at: Option<u64>| self.uint_at("trap frame", at?, form.word).ok();
        match form.place {
            Place::Above(by) => [above(by), None],
            Place::Arguments => {
                let (first, second) = (above(2 * word), above(3 * word));
                if second.is_some() && read(first) == second {
                    return [second, None];
                }
                let third = above(4 * word);
                if third.is_some() && read(second) == third {
                    return [third, None];
                }
                let fourth = above(5 * word);
                if fourth.is_some() && read(third) == fourth {
                    // A kernel thread's is empty, wherever it is read; ddb reads all traps' here.
                    let mode = fourth.and_then(|at| at.checked_add(form.mode.at));
                    let empty = read(mode) == Some(0);
                    return [if empty { second } else { fourth }, None];
                }
                [first, None]
            }
            Place::BelowRecord => {
                // The frame's link register is the record's, too: that tells the size.
                let at = around.entry.checked_sub(form.size);
                let link = read(around.entry.checked_add(word));
                let kept = form
                    .link
                    .and_then(|link| read(at?.checked_add(link)))
                    .filter(|kept| Some(*kept) == link);
                [at.filter(|_| kept.is_some()), None]
            }
            Place::BehindFrame(by) => {
                let at = around.entry.checked_add(by);
                let sp = read(at.and_then(|at| at.checked_add(word)));
                let right = sp.is_some() && read(Some(around.entry)) == sp;
                [at.filter(|_| right), None]
            }
            Place::AboveStack(by) => [around.entry.checked_add(by), None],
        }
    }

    fn trap_at(&self, form: &TrapFields, cause: Cause, at: u64) -> Option<Trap> {
        let field = |offset: u64, len: usize| {
            self.uint_at("trap frame", at.checked_add(offset)?, len)
                .ok()
        };
        let mut found = Registers::unknown(Registers::set_of(form.machine, form.word)?);
        for &(name, offset, len) in form.registers {
            found.put(name, self.address_in(field(offset, len)?));
        }
        found.put("zero", 0);
        let mode = field(form.mode.at, form.word)? & form.mode.mask;
        let mut from_user = (mode != 0) == form.mode.user_has_one;
        if form.machine == registers::I386.machine {
            from_user |= field(I386_EFLAGS, 4)? & PSL_VM != 0;
            let esp = if from_user {
                field(I386_ESP, 4)?
            } else {
                at.checked_add(I386_ESP)?
            };
            found.put("esp", esp);
        }
        if form.machine == registers::ARM.machine {
            if field(form.mode.at, form.word)? & ARM_PSR_32_MODE == 0 {
                return None;
            }
            if from_user {
                found.put("sp", field(ARM_USR_SP, 4)?);
                found.put("lr", field(ARM_USR_LR, 4)?);
            }
        }
        // What goes on in the kernel goes on in code; a call of a null pointer does not.
        let pc = found.pc()?;
        if !from_user && pc != 0 && !self.is_code(pc) && !self.is_mapped(found.sp()?) {
            return None;
        }
        let number = match form.number {
            Some((offset, len)) => Some(field(offset, len)?),
            None => None,
        };
        let (cause, has_address) = cause_of(form.machine, cause, number.unwrap_or(0), from_user);
        // Entry code of amd64, i386 and arm64 leaves it as it was for all but traps.
        let numbered = cause == Cause::Trap
            || [
                &registers::RISCV64,
                &registers::POWERPC64,
                &registers::MIPS32,
            ]
            .iter()
            .any(|set| set.machine == form.machine);
        Some(Trap {
            at,
            cause,
            number: number.filter(|_| numbered),
            address: form
                .address
                .filter(|_| cause == Cause::Trap && has_address)
                .and_then(|offset| field(offset, form.word)),
            from_user,
            registers: found,
        })
    }
}

/// What a frame of entry code for `cause` was made for, and whether it has an address if that was a
/// fault.
fn cause_of(machine: u16, cause: Cause, number: u64, from_user: bool) -> (Cause, bool) {
    if machine == registers::RISCV64.machine {
        let cause = match number {
            n if n & SCAUSE_INTR != 0 => Cause::Interrupt,
            SCAUSE_ECALL_USER => Cause::Syscall,
            _ => Cause::Trap,
        };
        return (cause, true);
    }
    if machine == registers::POWERPC64.machine {
        let cause = match number {
            POWERPC64_EXC_SC if from_user => Cause::Syscall,
            n if POWERPC64_INTERRUPTS.contains(&n) => Cause::Interrupt,
            _ => Cause::Trap,
        };
        return (cause, POWERPC64_ADDRESSED.contains(&number));
    }
    if machine == registers::MIPS32.machine {
        let code = number >> 2 & 0x1f;
        return match cause {
            Cause::Trap if from_user && code == MIPS_EXC_SYS => (Cause::Syscall, false),
            other => (other, MIPS_ADDRESSED.contains(&code)),
        };
    }
    // Exception class 0x15 of arm64: SVC of AArch64.
    let svc = from_user && number >> 26 & 0x3f == 0x15;
    match cause {
        Cause::Trap if machine == registers::ARM64.machine && svc => (Cause::Syscall, false),
        other => (other, true),
    }
}
