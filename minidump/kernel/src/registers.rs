//! Registers of any architecture.

use livecore_defs::registers::{Register, RegisterSet};
use livecore_defs::{Architecture, ElfMachine, VirtAddr};

/// The registers of a thread or of an interrupted context, in GDB's order.
///
/// A register that was not saved is `None`, never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    set: &'static RegisterSet,
    values: Vec<Option<u64>>,
    /// Whether the program counter is a return address.
    left_by_call: bool,
}

impl Registers {
    /// Creates registers without values.
    pub fn unknown(set: &'static RegisterSet) -> Self {
        Self {
            set,
            values: vec![None; set.registers.len()],
            left_by_call: false,
        }
    }

    /// Returns the register set of ELF machine `machine` with registers of `word` bytes.
    pub fn set_of(machine: ElfMachine, word: usize) -> Option<&'static RegisterSet> {
        Architecture::of_machine(machine)?.registers(word)
    }

    /// The register set: names and sizes.
    pub fn set(&self) -> &'static RegisterSet {
        self.set
    }

    /// The value of the register that GDB calls `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.index(name).and_then(|at| self.values[at])
    }

    /// Sets the value of register `name`. Returns whether the register exists.
    pub fn put(&mut self, name: &str, value: u64) -> bool {
        self.set_value(name, Some(value))
    }

    /// Sets the value of register `name`, or makes it unknown. Returns whether the register exists.
    pub(crate) fn set_value(&mut self, name: &str, value: Option<u64>) -> bool {
        let at = self.index(name);
        if let Some(at) = at {
            self.values[at] = value;
        }
        at.is_some()
    }

    /// Marks registers whose program counter is a return address.
    pub(crate) fn mark_left_by_call(&mut self) {
        self.left_by_call = true;
    }

    /// Whether the program counter is a return address. On amd64 and i386, the stack pointer points at
    /// a copy of it.
    pub(crate) fn is_left_by_call(&self) -> bool {
        self.left_by_call
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.set.registers.iter().position(|r| r.name == name)
    }

    /// Every register with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Register, Option<u64>)> + '_ {
        self.set.registers.iter().zip(self.values.iter().copied())
    }

    /// The registers with known values.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.iter().filter_map(|(r, v)| v.map(|v| (r.name, v)))
    }

    /// Whether no register has a value.
    pub fn is_unknown(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// The program counter. In a user-mode context, a user address.
    pub fn pc(&self) -> Option<VirtAddr> {
        self.get(self.set.pc).map(VirtAddr)
    }

    /// The saved stack pointer. On amd64 and i386, that of a switched-out context points at the
    /// return address, one word below its value at `pc`.
    pub fn sp(&self) -> Option<VirtAddr> {
        self.get(self.set.sp).map(VirtAddr)
    }

    /// The frame pointer.
    pub fn fp(&self) -> Option<VirtAddr> {
        self.get(self.set.fp).map(VirtAddr)
    }
}
