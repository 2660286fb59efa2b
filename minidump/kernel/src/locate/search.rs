//! Searches physical memory for a kernel.
//!
//! The image is contiguous: `pa = va - link + X`, where `link` is the linked address of its start
//! and `X` is its load address. [`Port`] lists the possible values of `X` and checks the kernel's
//! variables. A value is accepted if `version` is at its address and the variables agree with each
//! other. (The bytes of `version` occur several times in memory.) Then pages from all parts of the
//! code are compared. If most of them differ, memory has another build of the same version. If the
//! kernel is at no possible address, all of memory is searched for its code.

use std::sync::Arc;

use livecore_minidump::{KernelElf, PhysAddr, PhysMemory, VirtAddr};

use super::error::LocateError;
use super::identify::{Findings, survey};
use super::image::{KernelImage, Located};
use super::port::Port;
use super::symbols::address;
use super::text::Samples;

/// Locates the kernel `elf` in `memory`.
pub(super) fn locate(
    memory: &Arc<dyn PhysMemory>,
    elf: &KernelElf,
    port: &dyn Port,
) -> Result<Located, LocateError> {
    if elf.symbols().next().is_none() {
        return Err(LocateError::Unsupported {
            what: "kernel file without a symbol table (stripped)".into(),
        });
    }
    // Without `version`, only the kernel's page tables are checked.
    let version = elf.symbol("version").filter(|symbol| !symbol.absolute);
    for name in port.roots() {
        address(elf, name)?;
    }
    let link = port.link(elf);
    let at = version.map_or(link, |version| VirtAddr(version.value));
    let offset = at
        .offset_from(link)
        .ok_or_else(|| LocateError::Contradiction {
            what: "version",
            found: format!("address {at:#x}"),
            expected: format!("address in the kernel's image, from {link:#x}"),
        })?;
    let len = match version.map_or(0, |version| version.size) {
        size @ 1..=512 => size as usize,
        _ => 64,
    };
    let own = version
        .and_then(|version| elf.bytes_at(VirtAddr(version.value), len))
        .filter(|contents| contents.in_file && contents.bytes.iter().any(|b| *b != 0))
        .map(|contents| contents.bytes);

    let samples = Samples::of(elf);
    let image = |kernphys| KernelImage::new(memory, elf, link, kernphys);
    let identity = Identity {
        memory,
        offset,
        own,
        len,
    };

    let mut found = Vec::new();
    let mut with_version = 0_u32;
    for kernphys in port.places(&**memory) {
        if identity.own.is_some() {
            if identity.is_at(kernphys) != Some(true) {
                continue;
            }
            with_version += 1;
        }
        found.extend(port.confirm(&image(kernphys)));
    }
    // A stale copy of an image (from an earlier boot) is not mapped at its address.
    if found.len() > 1 {
        found.retain(|here: &Located| image(here.kernphys).is_mapped_by(here.root, here.paging));
    }
    let roots = port.roots().join(" or ");
    let mut misplaced = found.is_empty() && with_version > 0;
    let why = match found.as_slice() {
        [one] => {
            // On i386, `kernphys` is the address of the first directory entry, not of the image.
            let start = match port.is_moved() {
                true => one.kernphys,
                false => PhysAddr(0),
            };
            let agreement = samples.compare(memory, |va| image(start).pa(va));
            if !agreement.is_other() {
                return Ok(*one);
            }
            format!(
                "version {:?} is at {:#x}, but only {} of {} compared code pages match: memory has \
                 another build of the same version",
                identity.line(),
                one.kernphys,
                agreement.same,
                agreement.compared
            )
        }
        [] => {
            let mut search = samples.search(link);
            let findings = survey(memory, &mut |pa, page| search.add_page(pa, page));
            let places = search.places();
            for (kernphys, votes) in places.iter().take(PLACES) {
                // A quarter of the samples must be there. A known version must match.
                let enough = *votes as usize >= samples.len().div_ceil(4);
                if !enough || identity.is_at(*kernphys) == Some(false) {
                    continue;
                }
                if let Some(located) = port.confirm(&image(*kernphys)) {
                    return Ok(located);
                }
            }
            match places.first() {
                Some((at, votes)) if with_version == 0 => format!(
                    "{votes} of {} code pages match an image at {at:#x}, but {}",
                    samples.len(),
                    match identity.is_at(*at) {
                        Some(false) => identity.describe_mismatch(&findings, port),
                        _ => {
                            misplaced = true;
                            format!("{roots} at this address is not a valid page table")
                        }
                    }
                ),
                None if identity.own.is_some() && with_version == 0 => {
                    identity.describe_mismatch(&findings, port)
                }
                _ => format!(
                    "{roots} is not a valid page table at any possible address ({with_version} \
                     had the version string)"
                ),
            }
        }
        [first, second, ..] => format!(
            "ambiguous: possible kernels at {:#x} and {:#x}",
            first.kernphys, second.kernphys
        ),
    };
    Err(LocateError::NoKernel { why, misplaced })
}

/// The maximum number of load addresses tried after a search for code.
const PLACES: usize = 8;

/// A kernel's version string and its offset in the image.
struct Identity<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    /// The offset from the start of the image.
    offset: u64,
    /// The string in the file; `None` if the file does not have its contents.
    own: Option<Vec<u8>>,
    len: usize,
}

impl Identity<'_> {
    /// Whether memory has the file's string for an image at `kernphys`. Returns `None` if the file
    /// does not have the string or the memory cannot be read.
    fn is_at(&self, kernphys: PhysAddr) -> Option<bool> {
        let own = self.own.as_ref()?;
        let at = kernphys.checked_add(self.offset)?;
        if self.memory.known_zero(at, self.len as u64) {
            return Some(false);
        }
        let mut found = vec![0; self.len];
        self.memory.read(at, &mut found).ok()?;
        Some(found == *own)
    }

    /// The first line of the string.
    fn line(&self) -> String {
        let own = self.own.as_deref().unwrap_or_default();
        let line = own.split(|b| matches!(b, 0 | b'\n')).next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    /// Describes the versions of the file and of memory, if the file's string is at no possible
    /// address.
    fn describe_mismatch(&self, found: &Findings, port: &dyn Port) -> String {
        let line = self.line();
        let mut why = format!(
            "version {line:?} is not at {}; {}",
            port.expected_address(),
            found.sentences().join("; ")
        );
        if found.versions.iter().any(|version| version.text == line) {
            why += "; memory has another build of the same version, or the kernel is at an \
                    unexpected address";
        }
        why
    }
}
