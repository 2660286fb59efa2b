//! ELF cores whose segments are physical memory, by QEMU and by FreeBSD's kernels.

use livecore_defs::elf::ELFOSABI_STANDALONE;
use livecore_minidump::Error;

use super::candidate::{Candidate, Row};
use super::cpu::CpuState;
use super::format::Format;
use super::memory_image::Image;
use super::qemu;

/// A full dump by a FreeBSD kernel, which has no notes.
pub(super) const FREEBSD_FULL: Row = Row {
    probe: |candidate| {
        let is_kernels = candidate
            .elf()?
            .is_some_and(|elf| elf.core.head().osabi == ELFOSABI_STANDALONE);
        Ok(is_kernels && candidate.notes()?.is_empty())
    },
    open: |candidate| image(candidate, Format::FreeBsdFull, Vec::new()),
};

/// A core with physical addresses, as QEMU writes it.
pub(super) const ELF: Row = Row {
    probe: |candidate| Ok(candidate.elf()?.is_some()),
    open: |candidate| {
        let cpus = qemu::cpus(candidate.notes()?)?;
        image(candidate, Format::Elf, cpus)
    },
};

/// Opens the image in the segments of a core.
pub(super) fn image(
    candidate: &Candidate<'_>,
    format: Format,
    cpus: Vec<CpuState>,
) -> Result<Image, Error> {
    let source = candidate.source()?;
    let of_qemu = qemu::is_author(candidate.notes()?);
    let elf = candidate.elf()?.ok_or_else(not_elf)?;
    Ok(Image {
        cpus,
        ..Image::new(
            format,
            source,
            elf.memory(source, candidate.options, of_qemu)?,
        )
    })
}

/// The error for a file that is not ELF when it is opened, after its probe succeeded.
pub(super) fn not_elf() -> Error {
    Error::broken("ELF header", 0, "no ELF magic", "an ELF file")
}
