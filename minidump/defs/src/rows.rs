//! The definitions of all architectures, and lookup by machine or name.

use crate::architecture::Architecture;
use crate::elf_machine::ElfMachine;
use crate::{amd64, arm, arm64, i386, kerneldump, mips, powerpc64, riscv};

impl Architecture {
    /// Every architecture.
    pub const ALL: [&'static Self; 7] = [
        &amd64::ARCHITECTURE,
        &arm64::ARCHITECTURE,
        &riscv::ARCHITECTURE,
        &i386::ARCHITECTURE,
        &arm::ARCHITECTURE,
        &powerpc64::ARCHITECTURE,
        &mips::ARCHITECTURE,
    ];

    /// The architecture with this `e_machine`.
    pub fn of_machine(machine: ElfMachine) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|row| row.machine == machine)
    }

    /// The architecture called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|row| row.name == name)
    }

    /// The `architectureversion` in the kerneldumpheader of a port, by its `MACHINE_ARCH`.
    pub fn architectureversion(machine_arch: &str) -> Option<u32> {
        let is = |row: &&Self| {
            row.machine_archs
                .iter()
                .any(|arch| arch.name == machine_arch)
        };
        let row = Self::ALL.into_iter().find(is);
        let others = kerneldump::OTHER_PORTS.iter();
        row.map(|row| row.architectureversion).or_else(|| {
            others
                .clone()
                .find(|port| port.0 == machine_arch)
                .map(|port| port.1)
        })
    }
}

impl Default for &'static Architecture {
    /// amd64
    fn default() -> Self {
        &amd64::ARCHITECTURE
    }
}
