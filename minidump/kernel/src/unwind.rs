//! Finds the caller of a frame by call frame information.

use livecore_minidump::VirtAddr;

use crate::cfi::{Caller, Machine, Return};
use crate::kernel::Kernel;
use crate::registers::Registers;

/// The maximum size of a frame. Kernel stacks have at most 64 KiB.
const FRAME: u64 = 1 << 20;

/// The caller of a frame.
pub(crate) enum Unwound {
    /// The caller's registers, and the stack pointer before the call.
    Caller(Registers, VirtAddr),
    /// The registers of the context that a trap interrupted.
    Interrupted(Registers),
    /// There is none.
    Outermost,
}

/// A frame whose caller is wanted.
struct Frame<'k, 'a> {
    kernel: &'k Kernel<'a>,
    registers: &'k Registers,
}

impl Machine for Frame<'_, '_> {
    fn register(&self, number: u16) -> Option<u64> {
        let name = self.registers.set().dwarf.get(usize::from(number))?;
        self.registers.get(name)
    }

    fn memory(&self, at: u64, len: usize) -> Option<u64> {
        let len = [1, 2, 4, 8].into_iter().find(|fits| *fits == len)?;
        self.kernel.uint_at("frame", VirtAddr(at), len).ok()
    }
}

impl Kernel<'_> {
    /// Returns the caller of the frame with these registers, or `None` if there is no call frame
    /// information or it does not match the stack. `instruction` is the address of the instruction
    /// that the frame executes, and `is_call` whether it is a call.
    pub(crate) fn unwound(
        &self,
        registers: &Registers,
        instruction: VirtAddr,
        is_call: bool,
    ) -> Option<Unwound> {
        let set = registers.set();
        if set.dwarf.is_empty() {
            return None;
        }
        let frame = Frame {
            kernel: self,
            registers,
        };
        let found = self
            .debug()
            .cfi(self.elf())?
            .caller(self.linked(instruction).0, &frame)?;
        let Caller {
            cfa, back, is_trap, ..
        } = found;
        let word = self.elf().pointer_size() as u64;
        if let Some(sp) = registers.sp() {
            let size = cfa.checked_sub(sp.0)?;
            if size > FRAME || size == 0 && is_call {
                return None;
            }
        }
        let to = match back {
            Return::To(to) => VirtAddr(to),
            Return::Outermost => return Some(Unwound::Outermost),
            Return::Unknown => return None,
        };
        // A trap from user mode, which has the lower half of the 64-bit addresses.
        if is_trap && word == 8 && to.0 >> 63 == 0 && to != VirtAddr(0) {
            return Some(Unwound::Outermost);
        }
        if cfa % word != 0 || to == VirtAddr(0) || !self.is_code(to) {
            return None;
        }
        let mut caller = registers.clone();
        caller.put(set.sp, cfa);
        for (number, value) in found.registers {
            let name = set.dwarf.get(usize::from(number));
            if let Some(name) = name.filter(|name| **name != set.pc) {
                caller.set_value(name, value);
            }
        }
        caller.put(set.pc, to.0);
        if is_trap {
            return Some(Unwound::Interrupted(caller));
        }
        Some(Unwound::Caller(caller, VirtAddr(cfa)))
    }
}
