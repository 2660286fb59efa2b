//! The registers of a processor by the names and in the order that GDB gives them.
//!
//! GDB `gdb/features/*.xml`: the core feature of each processor's target description.

use crate::elf::ElfMachine;

/// One register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// GDB's name of it.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
}

/// The registers of one processor.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisterSet {
    /// `e_machine` of its kernels.
    pub machine: ElfMachine,
    /// Whether its registers have 64 bits: one `e_machine` of mips has both.
    pub class64: bool,
    /// All of them, in GDB's order.
    pub registers: &'static [Register],
    /// The program counter.
    pub pc: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer, by the convention that FreeBSD's kernels are compiled with. Where it is
    /// the stack pointer, frames are chained through that.
    pub fp: &'static str,
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
