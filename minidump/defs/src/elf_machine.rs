//! The numbers of processors in ELF files.

use std::fmt;

/// `e_machine`: the processor of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElfMachine(pub u16);

impl ElfMachine {
    /// `EM_386`
    pub const EM_386: Self = Self(3);
    /// `EM_MIPS`
    pub const EM_MIPS: Self = Self(8);
    /// `EM_PPC`
    pub const EM_PPC: Self = Self(20);
    /// `EM_PPC64`
    pub const EM_PPC64: Self = Self(21);
    /// `EM_ARM`
    pub const EM_ARM: Self = Self(40);
    /// `EM_SPARCV9`
    pub const EM_SPARCV9: Self = Self(43);
    /// `EM_X86_64`
    pub const EM_X86_64: Self = Self(62);
    /// `EM_AARCH64`
    pub const EM_AARCH64: Self = Self(183);
    /// `EM_RISCV`
    pub const EM_RISCV: Self = Self(243);
}

impl fmt::Display for ElfMachine {
    /// The number, and FreeBSD's name of the port: `62 (amd64)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::EM_386 => "i386",
            Self::EM_MIPS => "mips",
            Self::EM_PPC => "powerpc",
            Self::EM_PPC64 => "powerpc64",
            Self::EM_ARM => "arm",
            Self::EM_SPARCV9 => "sparc64",
            Self::EM_X86_64 => "amd64",
            Self::EM_AARCH64 => "arm64",
            Self::EM_RISCV => "riscv",
            Self(number) => return number.fmt(f),
        };
        write!(f, "{} ({name})", self.0)
    }
}
