//! Where in physical memory a kernel lies, before there are page tables to ask.
//!
//! The image is linear: `pa = va - link + X`, where `link` is the address that its start is linked
//! at and `X` is what is looked for. The bytes of `version` occur several times in memory; the
//! right `X` is the one under which they are where the file has them, and under which the kernel's
//! own variables agree with each other. What may be `X`, and which variables say so, is the
//! port's: [`Port`]. Then pages from all parts of the file's code are compared: most of them must be
//! the same, or it is another build of the same version. If the kernel is at none of the port's
//! places, all of memory is read once, and what code is found there says where to look.

use std::sync::Arc;

use livecore_minidump::{KernelElf, PhysAddr, PhysMemory};

use super::error::LocateError;
use super::identify::{Findings, survey};
use super::image::{Image, Located};
use super::port::Port;
use super::symbols::address;
use super::text::Samples;

/// Finds `elf`'s kernel in `memory`.
pub(super) fn locate(
    memory: &Arc<dyn PhysMemory>,
    elf: &KernelElf,
    port: &dyn Port,
) -> Result<Located, LocateError> {
    if elf.symbols().next().is_none() {
        return Err(LocateError::Unsupported {
            what: "a kernel file without symbols: it was stripped of its symbol table".into(),
        });
    }
    // Without it, the kernel's own tables tell.
    let version = elf.symbol("version").filter(|symbol| !symbol.absolute);
    for name in port.roots() {
        address(elf, name)?;
    }
    let link = port.link(elf);
    let at = version.map_or(link, |version| version.value);
    let offset = at
        .checked_sub(link)
        .ok_or_else(|| LocateError::Contradiction {
            what: "version",
            found: format!("address {at:#x}"),
            expected: format!("an address of the kernel's image, from {link:#x} up"),
        })?;
    let len = match version.map_or(0, |version| version.size) {
        size @ 1..=512 => size as usize,
        _ => 64,
    };
    let own = version
        .and_then(|version| elf.bytes_at(version.value, len))
        .filter(|contents| contents.in_file && contents.bytes.iter().any(|b| *b != 0))
        .map(|contents| contents.bytes);

    let samples = Samples::of(elf);
    let image = |kernphys| Image::new(memory, elf, link, kernphys);
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
    // A copy of an image that lies about (an earlier boot's) is not mapped where it lies.
    if found.len() > 1 {
        found.retain(|here: &Located| image(here.kernphys).is_mapped_by(here.root, here.paging));
    }
    let roots = port.roots().join(" or ");
    let mut misplaced = found.is_empty() && with_version > 0;
    let why = match found.as_slice() {
        [one] => {
            // i386's is where its start is linked to be: the image begins elsewhere.
            let start = if port.is_moved() { one.kernphys } else { 0 };
            let agreement = samples.compare(memory, |va| image(start).pa(va));
            if !agreement.is_other() {
                return Ok(*one);
            }
            format!(
                "its version string, {:?}, is at {:#x}, but of {} pages of its code that were \
                 compared {} are the same: another build of the same version runs",
                identity.line(),
                one.kernphys,
                agreement.compared,
                agreement.same
            )
        }
        [] => {
            let mut search = samples.search(link);
            let findings = survey(memory, &mut |pa, page| search.look(pa, page));
            let places = search.places();
            for (kernphys, votes) in places.iter().take(PLACES) {
                // Of a quarter of what was looked for; a version string that is there is the file's.
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
                    "{votes} of {} pages of its code are where an image at {at:#x} has them, and {}",
                    samples.len(),
                    match identity.is_at(*at) {
                        Some(false) => identity.elsewhere(&findings, port),
                        _ => {
                            misplaced = true;
                            format!("{roots} there is no page table of it")
                        }
                    }
                ),
                None if identity.own.is_some() && with_version == 0 => {
                    identity.elsewhere(&findings, port)
                }
                _ => format!(
                    "{roots} is no page table of it at any place ({with_version} had the version string)"
                ),
            }
        }
        [first, second, ..] => format!(
            "it seems to be at {:#x} and at {:#x}",
            first.kernphys, second.kernphys
        ),
    };
    Err(LocateError::NoKernel { why, misplaced })
}

/// How many places that code was found for are tried.
const PLACES: usize = 8;

/// A kernel's version string, and where the file has it.
struct Identity<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    /// Bytes behind the start of the image.
    offset: u64,
    /// What the file has there; `None` if it has no contents.
    own: Option<Vec<u8>>,
    len: usize,
}

impl Identity<'_> {
    /// Whether memory has the file's string where an image at `kernphys` has it. `None` if nobody
    /// knows: the file does not have it, or the memory is not there.
    fn is_at(&self, kernphys: u64) -> Option<bool> {
        let own = self.own.as_ref()?;
        let at = kernphys.checked_add(self.offset)?;
        if self.memory.known_zero(PhysAddr(at), self.len as u64) {
            return Some(false);
        }
        let mut there = vec![0; self.len];
        self.memory.read(PhysAddr(at), &mut there).ok()?;
        Some(there == *own)
    }

    /// Its first line.
    fn line(&self) -> String {
        let own = self.own.as_deref().unwrap_or_default();
        let line = own.split(|b| matches!(b, 0 | b'\n')).next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    /// What is said when the string is nowhere where it should be: what the file has, and what the
    /// memory has.
    fn elsewhere(&self, found: &Findings, port: &dyn Port) -> String {
        let line = self.line();
        let mut why = format!(
            "its version string, {line:?}, is at {}; {}",
            port.nowhere(),
            found.sentences().join("; ")
        );
        if found.versions.iter().any(|version| version.text == line) {
            why +=
                "; another build of the same version runs, or the kernel is not where it should be";
        }
        why
    }
}
