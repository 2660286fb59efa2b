//! The registers of a processor, by GDB's names and in GDB's order.
//!
//! GDB `gdb/features/*.xml`: the core feature of each processor's target description.

use crate::elf_machine::ElfMachine;

/// One register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// GDB's name.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
}

/// The registers of one processor.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisterSet {
    /// `e_machine` of the kernels.
    pub machine: ElfMachine,
    /// Whether registers have 64 bits; `e_machine` of mips does not distinguish them.
    pub class64: bool,
    /// All registers, in GDB's order.
    pub registers: &'static [Register],
    /// The program counter.
    pub pc: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer in FreeBSD's kernels. Where it is the stack pointer, that links the frames.
    pub fp: &'static str,
    /// Names by DWARF number, or none if call frame information is not supported. An empty name is a
    /// number without a register here.
    pub dwarf: &'static [&'static str],
}

macro_rules! registers {
    ($size:literal: $($name:literal)*) => {
        &[$($crate::registers::Register { name: $name, size: $size }),*]
    };
    ($($size:literal: $($name:literal)*);*) => {
        &[$($($crate::registers::Register { name: $name, size: $size }),*),*]
    };
}
pub(crate) use registers;
