//! FreeBSD's ports, one file for each architecture.

mod amd64;
mod arm64;
mod i386;
mod riscv;

use super::architecture::Architecture;
use super::boot::Boot;
use super::description::Description;

/// Returns the port of a description's machine.
pub(crate) fn of(description: &Description) -> &'static dyn Boot {
    match description.architecture {
        Architecture::Amd64 => amd64::of(description),
        Architecture::Aarch64 => arm64::of(description),
        Architecture::Riscv64 if description.kernel.sv48 => &riscv::SV48,
        Architecture::Riscv64 => &riscv::SV39,
        Architecture::I386 if description.kernel.pae => &i386::I386_PAE,
        Architecture::I386 => &i386::I386,
    }
}
