//! Compares a file with a loaded module.
//!
//! If both have a build-id, only that is compared. Otherwise, contents that loading does not change
//! are compared: the names and hashes of the dynamic symbols of a shared object, or the constants
//! without relocations (strings) of an object file. Memory that cannot be read is skipped. Code and
//! variables are not compared, because the kernel patches code and writes variables.

use livecore_compress::ReadAt;
use livecore_minidump::VirtAddr;

use crate::kernel::Kernel;
use crate::module::{Module, NotLoaded, PlacedSection};
use livecore_minidump::elf::headers::Section;
use livecore_minidump::elf::sections::{
    ET_REL, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_PROGBITS, SHT_REL, SHT_RELA, Sections,
    contents,
};

/// The maximum number of bytes compared of a section.
const LIMIT: usize = 1 << 20;
/// The smallest page size.
const PAGE: usize = 4096;

impl Kernel<'_> {
    /// Returns the addresses of the sections of `file`, if it is the file of `module`.
    ///
    /// Architecture, size and the contents that loading does not change must be equal.
    ///
    /// # Errors
    ///
    /// Returns [`NotLoaded`] if it is another file.
    pub fn place(
        &self,
        module: &Module,
        file: &dyn ReadAt,
    ) -> Result<Vec<PlacedSection>, NotLoaded> {
        let sections = Sections::read(file)?;
        let expected = self.elf().machine();
        if sections.head.machine != expected {
            return Err(NotLoaded::Machine {
                found: sections.head.machine,
                expected,
            });
        }
        let placed = module.sections(&sections)?;
        self.compare_contents(file, &sections, &placed)?;
        Ok(placed)
    }

    /// Compares the contents of `file`, whose sections are at `placed`, with memory.
    fn compare_contents(
        &self,
        file: &dyn ReadAt,
        sections: &Sections,
        placed: &[PlacedSection],
    ) -> Result<(), NotLoaded> {
        if let Some((found, expected)) = self.build_ids(file, sections, placed) {
            return match found == expected {
                true => Ok(()),
                false => Err(NotLoaded::BuildId { found, expected }),
            };
        }
        for place in placed {
            let Some(section) = sections.list.get(place.index) else {
                continue;
            };
            if !is_unchanged(sections, place.index, section) {
                continue;
            }
            let bytes = contents(file, section).unwrap_or_default();
            if let Some(at) = self.differs(place.address, &bytes) {
                let section = section.name.clone();
                return Err(NotLoaded::Contents { section, at });
            }
        }
        Ok(())
    }

    /// Returns the build-ids of the file and of the loaded module, if both have one.
    fn build_ids(
        &self,
        file: &dyn ReadAt,
        sections: &Sections,
        placed: &[PlacedSection],
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let (found, _) = sections.build_id(file)?;
        let name = |place: &&PlacedSection| place.name == ".note.gnu.build-id";
        let at = placed.iter().find(name)?.address;
        // The note's header, its name and the id.
        let mut note = vec![0; 16 + found.len()];
        self.memory().read_virt(at, &mut note).ok()?;
        Some((
            found,
            livecore_minidump::elf::sections::build_id_of_note(sections.head.order, &note)?,
        ))
    }

    /// Returns the first address from `at` where memory differs from `bytes`.
    fn differs(&self, at: VirtAddr, bytes: &[u8]) -> Option<VirtAddr> {
        let mut piece = [0; PAGE];
        let mut done = 0;
        while done < bytes.len().min(LIMIT) {
            let here = at.wrapping_add(done as u64);
            // No piece crosses a page boundary.
            let len = (PAGE - here.offset_in(PAGE as u64) as usize).min(bytes.len() - done);
            let (known, found) = (&bytes[done..done + len], &mut piece[..len]);
            if self.memory().read_virt(here, found).is_ok() {
                let differs = known.iter().zip(&*found).position(|(a, b)| a != b);
                if let Some(skip) = differs {
                    return Some(here.wrapping_add(skip as u64));
                }
            }
            done += len;
        }
        None
    }
}

/// Whether loading does not change the contents of a section.
fn is_unchanged(sections: &Sections, index: usize, section: &Section) -> bool {
    if section.flags & SHF_ALLOC == 0 {
        return false;
    }
    if sections.head.elf_type != ET_REL {
        return matches!(section.name.as_str(), ".dynstr" | ".hash" | ".gnu.hash");
    }
    let relocates = |s: &Section| matches!(s.kind, SHT_REL | SHT_RELA) && s.info as usize == index;
    section.kind == SHT_PROGBITS
        && section.flags & (SHF_WRITE | SHF_EXECINSTR) == 0
        && !sections.list.iter().any(relocates)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, ReadError};

    /// The load address of the module.
    const AT: u64 = 0x10_0000;

    /// Memory that has only the module.
    struct Memory(Vec<u8>);

    impl KernelMemory for Memory {
        fn page_size(&self) -> u64 {
            4096
        }
        fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            let skip = at.0.checked_sub(AT).map(|skip| skip as usize);
            let found = skip.and_then(|skip| self.0.get(skip..skip + buf.len()));
            buf.copy_from_slice(found.ok_or(ReadError::Hole { at })?);
            Ok(())
        }
        fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
            Ok(PhysAddr(at.0))
        }
    }

    fn compile(dir: &Path, name: &str, text: &str, args: &[&str]) -> Vec<u8> {
        std::fs::write(dir.join("a.c"), text).unwrap();
        let status = Command::new("cc")
            .args(args)
            .args(["-o", name, "a.c"])
            .current_dir(dir)
            .status();
        assert!(status.unwrap().success(), "cc {args:?}");
        std::fs::read(dir.join(name)).unwrap()
    }

    /// Returns the memory of a loaded file and its entry in the module list.
    fn load(file: &[u8]) -> (Memory, Module) {
        let sections = Sections::read(&file).unwrap();
        let mut module = Module {
            at: VirtAddr(0),
            name: "a.ko".into(),
            path: String::new(),
            id: 2,
            address: VirtAddr(AT),
            size: 0,
            is_kernel: false,
        };
        // The size comes from the error for a wrong one.
        let placed = match module.sections(&sections) {
            Err(NotLoaded::Size { found, .. }) => {
                module.size = found;
                module.sections(&sections).unwrap()
            }
            other => other.unwrap(),
        };
        let mut memory = vec![0; module.size.next_multiple_of(4096) as usize];
        for place in placed {
            if let Some(bytes) = contents(&file, &sections.list[place.index]) {
                let at = (place.address.0 - AT) as usize;
                memory[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        (Memory(memory), module)
    }

    /// Loads `file` and compares `other` with it. Returns the number of sections.
    fn compare(file: &[u8], other: &[u8]) -> Result<usize, NotLoaded> {
        let (memory, module) = load(file);
        let elf = KernelElf::from_bytes(file.to_vec()).unwrap();
        let kernel = Kernel::new(&memory, &elf);
        kernel.place(&module, &other).map(|placed| placed.len())
    }

    const ONE: &str = "const char *one(void) { return \"the first build\"; }\n";
    const TWO: &str = "const char *one(void) { return \"the other build\"; }\n";
    const THREE: &str = "const char *two(void) { return \"the first build\"; }\n";

    #[test]
    fn object_file_of_equal_size_with_other_strings_is_not_the_loaded_module() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name, text| compile(dir.path(), name, text, &["-c", "-O2"]);
        let (one, two) = (made("one.o", ONE), made("two.o", TWO));
        assert!(compare(&one, &one).unwrap() > 1);
        let other = compare(&one, &two).unwrap_err();
        assert!(
            matches!(&other, NotLoaded::Contents { section, .. } if section.starts_with(".rodata")),
            "{other}"
        );
    }

    #[test]
    fn shared_object_of_equal_size_is_identified_by_build_id_or_else_by_symbol_names() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name, text, id: &str| {
            let id = format!("-Wl,--build-id={id}");
            compile(dir.path(), name, text, &["-shared", "-nostdlib", &id])
        };
        let (one, two) = (made("a", ONE, "0x0102"), made("b", ONE, "0x0103"));
        assert!(compare(&one, &one).is_ok());
        let other = compare(&one, &two).unwrap_err();
        let NotLoaded::BuildId { found, expected } = &other else {
            panic!("{other}");
        };
        assert_eq!((found, expected), (&vec![1, 3], &vec![1, 2]));
        let (one, two) = (made("a", ONE, "none"), made("b", THREE, "none"));
        assert!(compare(&one, &one).is_ok());
        let other = compare(&one, &two).unwrap_err();
        assert!(matches!(other, NotLoaded::Contents { .. }), "{other}");
    }
}
