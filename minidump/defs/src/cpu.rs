//! Registers of a CPU in memory images and in QEMU's monitor, for architectures whose registers all
//! have a name. x86 has segments and control registers in addition, and no such row.
//!
//! Linux `struct elf_prstatus`; QEMU `target/*/arch_dump.c`, which writes the same, and
//! `target/*/cpu.c`, `*_cpu_dump_state`.

use crate::prstatus::Slot;

/// The registers of a CPU. Their order is that of [`Prstatus::linux`](crate::prstatus::Prstatus).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuFields {
    /// The names of the registers in the output of QEMU's `info registers`, and the number of bytes
    /// that it prints of each. A name that ends in `/` is a prefix. Names beyond the order of the
    /// registers must be in the output too.
    pub monitor: &'static [Slot],
    /// The register with the address of `struct pcpu` in the kernel: FreeBSD
    /// `sys/*/include/pcpu.h`.
    pub pcpu: &'static str,
    /// A register and the bits of it that are zero in user mode. Without it, a program counter in the
    /// lower half of the address space means user mode.
    pub user_mode: Option<(&'static str, u64)>,
    /// The registers in reports: their name there, and their name.
    pub shown: &'static [(&'static str, &'static str)],
}
