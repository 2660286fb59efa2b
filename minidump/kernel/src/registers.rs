//! Registers of any processor: a name and perhaps a value.

use livecore_defs::registers::{Register, RegisterSet};
use livecore_defs::{Architecture, ElfMachine};

/// The registers of a thread or of an interrupted context, in GDB's order.
///
/// What was not saved is unknown: `None`, never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    set: &'static RegisterSet,
    values: Vec<Option<u64>>,
}

impl Registers {
    /// Registers of which nothing is known.
    pub fn unknown(set: &'static RegisterSet) -> Self {
        Self {
            set,
            values: vec![None; set.registers.len()],
        }
    }

    /// The registers, of `word` bytes, that kernels of ELF machine `machine` have.
    pub fn set_of(machine: ElfMachine, word: usize) -> Option<&'static RegisterSet> {
        Architecture::of_machine(machine)?.registers(word)
    }

    /// Names and sizes.
    pub fn set(&self) -> &'static RegisterSet {
        self.set
    }

    /// The value of the register that GDB calls `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.index(name).and_then(|at| self.values[at])
    }

    /// Gives register `name` a value; whether there is one of that name.
    pub fn put(&mut self, name: &str, value: u64) -> bool {
        let at = self.index(name);
        if let Some(at) = at {
            self.values[at] = Some(value);
        }
        at.is_some()
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.set.registers.iter().position(|r| r.name == name)
    }

    /// Every register with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Register, Option<u64>)> + '_ {
        self.set.registers.iter().zip(self.values.iter().copied())
    }

    /// The registers whose values are known.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.iter().filter_map(|(r, v)| v.map(|v| (r.name, v)))
    }

    /// Whether no register is known.
    pub fn is_unknown(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// The program counter.
    pub fn pc(&self) -> Option<u64> {
        self.get(self.set.pc)
    }

    /// The stack pointer, as it was saved. On amd64 and i386 a switched-out context's points at the
    /// slot of the return address, one word below what it is at `pc`.
    pub fn sp(&self) -> Option<u64> {
        self.get(self.set.sp)
    }

    /// The frame pointer.
    pub fn fp(&self) -> Option<u64> {
        self.get(self.set.fp)
    }
}
