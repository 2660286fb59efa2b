//! Registers of a thread as ELF cores of FreeBSD and of Linux have them.
//!
//! FreeBSD `sys/sys/procfs.h` and `sys/*/include/reg.h`; Linux `include/linux/elfcore.h` and
//! `arch/*/include/uapi/asm/ptrace.h`. Names are GDB's.

/// A run of bytes in a structure: a register's name and its bytes. A name of nobody's is zeros.
pub type Slot = (&'static str, usize);

/// One architecture's `NT_PRSTATUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prstatus {
    /// `struct reg` of FreeBSD.
    pub freebsd: &'static [Slot],
    /// `elf_gregset_t` of Linux.
    pub linux: &'static [Slot],
    /// What every kernel context has in these registers: the code and stack segments.
    pub always: &'static [(&'static str, u64)],
}

macro_rules! slots {
    ($($size:literal: $($name:literal)*);*) => { &[$($(($name, $size)),*),*] };
}
pub(crate) use slots;
