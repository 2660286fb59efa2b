//! Trap frames on a kernel stack.

use std::fmt;

use livecore_minidump::VirtAddr;

use crate::kernel::Kernel;
use crate::registers::Registers;
use livecore_defs::Architecture;
use livecore_defs::trapframe::{
    Cause, Codes, Entry, FRED_TYPE, FRED_TYPE_EXTINT, FRED_TYPE_SYSCALL, FramePosition,
    NumberFormat, TrapFields,
};

/// A trap, an interrupt or a system call between two frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// Address of the `struct trapframe`.
    pub at: VirtAddr,
    /// Its cause.
    pub cause: Cause,
    /// The processor's trap number: `tf_trapno`, `tf_esr` or the like. Interrupts of amd64, i386 and
    /// arm64 have none, and arm never has one.
    pub number: Option<u64>,
    /// The faulting address, if the trap was a fault and the frame has the address.
    pub address: Option<VirtAddr>,
    /// Whether user mode was interrupted. The kernel's part of the stack ends here.
    pub from_user: bool,
    /// The interrupted context.
    pub registers: Registers,
}

impl fmt::Display for Trap {
    /// Formats the line that ddb prints between the frames.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.registers.set();
        let number = self.number.unwrap_or(0);
        let traps = Architecture::of_machine(set.machine).map(|row| &row.traps);
        f.write_str("--- ")?;
        match (self.cause, traps) {
            (Cause::Interrupt, Some(traps)) if traps.line.interrupt_number => {
                write!(f, "interrupt {}", number & !traps.codes.interrupt_bits)?;
            }
            (Cause::Interrupt, _) => f.write_str("interrupt")?,
            (Cause::Syscall, _) => f.write_str("syscall")?,
            (Cause::Trap, None) => write!(f, "trap {}", Radix(number))?,
            (Cause::Trap, Some(traps)) => {
                let line = traps.line;
                f.write_str(line.trap)?;
                match line.number {
                    Some(NumberFormat::Hex) => write!(f, "{number:#x}")?,
                    Some(NumberFormat::HexOrZero) => write!(f, "{}", Radix(number))?,
                    Some(NumberFormat::Decimal) => write!(f, "{number}")?,
                    None => {}
                }
                if let (Some(before), Some(address)) = (line.address, self.address) {
                    write!(f, "{before}{address:#x}")?;
                }
            }
        }
        let mut printed = Vec::new();
        for name in [set.pc, set.sp, set.fp] {
            if let Some(value) = self.registers.get(name)
                && !printed.contains(&name)
            {
                write!(f, ", {name} = {}", Radix(value))?;
                printed.push(name);
            }
        }
        f.write_str(" ---")
    }
}

/// Formats a number like ddb: hexadecimal with `0x`, but zero without it.
struct Radix(u64);

impl fmt::Display for Radix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            value => write!(f, "{value:#x}"),
        }
    }
}

/// The frames around trap entry code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryContext<'a> {
    /// The name of the function that the entry code called.
    pub(crate) handler: &'a str,
    /// The frame pointer of that function.
    pub(crate) callee: VirtAddr,
    /// The frame pointer of the entry code.
    pub(crate) entry: VirtAddr,
}

impl Kernel<'_> {
    /// Returns the entry code with this function name.
    pub(crate) fn entry(&self, name: &str) -> Option<&'static Entry> {
        let mut all = self.architecture()?.traps.entries.iter();
        all.find(|e| e.name == name || e.prefix && name.starts_with(e.name))
    }

    /// Returns the trap frame that entry code created.
    pub(crate) fn trap(&self, entry: &Entry, context: EntryContext<'_>) -> Option<Trap> {
        let traps = &self.architecture()?.traps;
        let version = self.osreldate().unwrap_or(u32::MAX);
        let word = self.register_size();
        let forms = traps.frames.iter().copied();
        let forms = forms.filter(|f| f.word == word && version >= f.since);
        // If all exceptions return to one label, the called function identifies the cause.
        let cause = match traps.interrupt_handlers.contains(&context.handler) {
            true => Cause::Interrupt,
            false => entry.cause,
        };
        let mut found = None;
        for form in forms {
            for at in self.frame_positions(form, context).into_iter().flatten() {
                let cause = self.event(entry, at).unwrap_or(cause);
                let Some(trap) = self.trap_at(form, &traps.codes, cause, at) else {
                    continue;
                };
                let pc = trap.registers.pc().unwrap_or_default();
                // User mode has the lower half of the 64-bit addresses.
                let plausible = match trap.from_user {
                    true => form.word < 8 || pc.0 >> 63 == 0,
                    false => self.is_code(pc),
                };
                if pc != VirtAddr(0) && plausible {
                    return Some(trap);
                }
                found = found.or(Some(trap));
            }
        }
        found
    }

    /// Returns the cause that the processor recorded in a trap frame.
    fn event(&self, entry: &Entry, at: VirtAddr) -> Option<Cause> {
        let at = at.checked_add(entry.event?)?;
        let event = self.uint_at("trap frame", at, 4).ok()?;
        Some(match event & FRED_TYPE {
            FRED_TYPE_EXTINT => Cause::Interrupt,
            FRED_TYPE_SYSCALL => Cause::Syscall,
            _ => Cause::Trap,
        })
    }

    /// Returns the possible addresses of a trap frame, most likely first.
    fn frame_positions(
        &self,
        form: &TrapFields,
        context: EntryContext<'_>,
    ) -> [Option<VirtAddr>; 2] {
        let word = form.word as u64;
        let above = |by: u64| context.callee.checked_add(by);
        let read = |at: Option<VirtAddr>| self.uint_at("trap frame", at?, form.word).ok();
        let points_at =
            |at, target: Option<VirtAddr>| target.is_some() && read(at).map(VirtAddr) == target;
        match form.position {
            FramePosition::Above(by) => [above(by), None],
            FramePosition::AfterArguments => {
                let (first, second) = (above(2 * word), above(3 * word));
                if points_at(first, second) {
                    return [second, None];
                }
                let third = above(4 * word);
                if points_at(second, third) {
                    return [third, None];
                }
                let fourth = above(5 * word);
                if points_at(third, fourth) {
                    // The frame of a kernel thread is empty at any of these addresses. ddb reads
                    // all trap frames at the fourth.
                    let mode = fourth.and_then(|at| at.checked_add(form.mode.at));
                    let empty = read(mode) == Some(0);
                    return [if empty { second } else { fourth }, None];
                }
                [first, None]
            }
            FramePosition::BelowRecord => {
                // The link register in the frame and in the record are equal if the frame has this
                // size.
                let at = context.entry.checked_sub(form.size);
                let link = read(context.entry.checked_add(word));
                let saved = form
                    .link
                    .and_then(|link| read(at?.checked_add(link)))
                    .filter(|saved| Some(*saved) == link);
                [at.filter(|_| saved.is_some()), None]
            }
            FramePosition::AboveFrame(by) => {
                let at = context.entry.checked_add(by);
                let sp = read(at.and_then(|at| at.checked_add(word)));
                let matches = sp.is_some() && read(Some(context.entry)) == sp;
                [at.filter(|_| matches), None]
            }
            FramePosition::AboveStack(by) => [context.entry.checked_add(by), None],
        }
    }

    fn trap_at(
        &self,
        form: &TrapFields,
        codes: &Codes,
        cause: Cause,
        at: VirtAddr,
    ) -> Option<Trap> {
        let field = |offset: u64, len: usize| {
            self.uint_at("trap frame", at.checked_add(offset)?, len)
                .ok()
        };
        let mut found = Registers::unknown(self.architecture()?.registers(form.word)?);
        for &(name, offset, len) in form.registers {
            found.put(name, self.address_in(field(offset, len)?));
        }
        found.put("zero", 0);
        let mode = field(form.mode.at, form.word)? & form.mode.mask;
        let mut from_user = (mode != 0) == form.mode.user_has_one;
        if let Some((offset, bits)) = form.also_user {
            from_user |= field(offset, form.word)? & bits != 0;
        }
        if form.valid != 0 && field(form.mode.at, form.word)? & form.valid == 0 {
            return None;
        }
        if from_user {
            for &(name, offset) in form.user {
                found.put(name, field(offset, form.word)?);
            }
        } else if let Some((name, offset)) = form.end {
            found.put(name, at.checked_add(offset)?.0);
        }
        // The program counter of the kernel is in code, except after a call of a null pointer.
        let pc = found.pc()?;
        if !from_user && pc != VirtAddr(0) && !self.is_code(pc) && !self.is_mapped(found.sp()?) {
            return None;
        }
        let number = match form.number {
            Some((offset, len)) => Some(field(offset, len)?),
            None => None,
        };
        let (cause, has_address) = cause_of(codes, cause, number.unwrap_or(0), from_user);
        let numbered = cause == Cause::Trap || codes.always;
        Some(Trap {
            at,
            cause,
            number: number.filter(|_| numbered),
            address: form
                .address
                .filter(|_| cause == Cause::Trap && has_address)
                .and_then(|offset| field(offset, form.word))
                .map(VirtAddr),
            from_user,
            registers: found,
        })
    }
}

/// Returns the cause of a trap from the entry code's cause and the trap number, and whether a fault
/// with this number has an address.
fn cause_of(codes: &Codes, cause: Cause, number: u64, from_user: bool) -> (Cause, bool) {
    let code = number >> codes.shift & codes.mask;
    let syscall = codes.syscall == Some(code) && (from_user || !codes.syscall_from_user);
    let interrupt = number & codes.interrupt_bits != 0 || codes.interrupts.contains(&code);
    let cause = match cause {
        _ if codes.decides && interrupt => Cause::Interrupt,
        _ if codes.decides && syscall => Cause::Syscall,
        _ if codes.decides => Cause::Trap,
        Cause::Trap if syscall => Cause::Syscall,
        other => other,
    };
    let addressed = codes.addressed;
    (cause, addressed.is_none_or(|codes| codes.contains(&code)))
}
