//! Registers of a thread in ELF cores of FreeBSD and Linux.
//!
//! FreeBSD `sys/sys/procfs.h` and `sys/*/include/reg.h`; Linux `include/linux/elfcore.h` and
//! `arch/*/include/uapi/asm/ptrace.h`. Names are GDB's.

/// Consecutive bytes of a structure: a register's name and its size. A name without a register
/// represents zeros.
pub type Slot = (&'static str, usize);

/// One architecture's `NT_PRSTATUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prstatus {
    /// `struct reg` of FreeBSD.
    pub freebsd: &'static [Slot],
    /// `elf_gregset_t` of Linux.
    pub linux: &'static [Slot],
    /// Registers with the same value in every kernel context: the code and stack segments.
    pub always: &'static [(&'static str, u64)],
}

macro_rules! slots {
    ($($size:literal: $($name:literal)*);*) => { &[$($(($name, $size)),*),*] };
}
pub(crate) use slots;
