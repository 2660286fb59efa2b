//! A loaded kernel file and the addresses of its sections.
//!
//! A module of amd64 is an object file (`ET_REL`): the kernel places its sections one after the
//! other (`sys/kern/link_elf_obj.c`). On other architectures, a module is a shared object, and its
//! sections keep their linked offsets (`sys/kern/link_elf.c`).

use livecore_compress::ReadAt;
use livecore_defs::text::hex;
use livecore_minidump::{ElfMachine, Error, VirtAddr};

use crate::kernel::Functions;
use livecore_minidump::elf::sections::{
    ET_REL, SHF_ALLOC, SHT_FINI_ARRAY, SHT_INIT_ARRAY, SHT_NOBITS, SHT_PROGBITS, SHT_X86_64_UNWIND,
    Sections,
};

/// A loaded kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Address of its `struct linker_file`.
    pub at: VirtAddr,
    /// `filename`: `kernel`, `zfs.ko`.
    pub name: String,
    /// `pathname`: `/boot/kernel/zfs.ko`.
    pub path: String,
    /// `id`, as kldstat(8) shows it.
    pub id: u32,
    /// `address`: the start of its image.
    pub address: VirtAddr,
    /// `size` of the image.
    pub size: u64,
    /// Whether it is the kernel: `linker_kernel_file`, or the first in the list.
    pub is_kernel: bool,
}

/// The loaded files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// The files in load order. The kernel is first.
    pub list: Vec<Module>,
    /// Address and name of the modules' functions, in ascending order. Only functions whose names
    /// the kernel linker keeps in memory are included.
    pub functions: Vec<(VirtAddr, String)>,
    /// Messages about what could not be read.
    pub problems: Vec<String>,
}

/// Returns the function's name if known, otherwise the name of the module (`zfs.ko`) and the offset
/// from its load address.
impl Functions for Modules {
    fn function(&self, at: VirtAddr) -> Option<(String, u64)> {
        let module = self.list.iter().find(|m| {
            let skip = at.offset_from(m.address);
            !m.is_kernel && skip.is_some_and(|skip| skip < m.size)
        })?;
        let after = self.functions.partition_point(|(start, _)| *start <= at);
        let nearest = after.checked_sub(1).and_then(|i| self.functions.get(i));
        Some(match nearest {
            Some((start, name)) if *start >= module.address => (name.clone(), at.0 - start.0),
            _ => (module.name.clone(), at.0 - module.address.0),
        })
    }
}

/// A section of a module's file and its address in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedSection {
    /// Its index in the file.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: VirtAddr,
    /// Its length.
    pub size: u64,
}

/// The reason why a file is not the loaded module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotLoaded {
    /// The file cannot be read as ELF.
    #[error(transparent)]
    Elf(#[from] Error),
    /// The file is for another architecture.
    #[error("module is for ELF machine {found}, kernel for {expected}")]
    Machine {
        /// The file's.
        found: ElfMachine,
        /// The kernel's.
        expected: ElfMachine,
    },
    /// The file is from another build.
    #[error("build-id of the file is {}, of the loaded module {}", hex(.found), hex(.expected))]
    BuildId {
        /// The file's.
        found: Vec<u8>,
        /// The loaded module's.
        expected: Vec<u8>,
    },
    /// The contents of the file and of the loaded module differ.
    #[error("section {section} differs from the loaded module at {at}")]
    Contents {
        /// The section.
        section: String,
        /// The first address that differs.
        at: VirtAddr,
    },
    /// The sizes of the file and of the loaded module differ.
    #[error("sections of the file are {found:#x} bytes, the loaded module is {expected:#x} bytes")]
    Size {
        /// The file's.
        found: u64,
        /// `size` of the loaded module.
        expected: u64,
    },
}

impl Module {
    /// Returns the addresses of the sections, if their total size is that of the loaded image.
    pub(crate) fn sections(&self, sections: &Sections) -> Result<Vec<PlacedSection>, NotLoaded> {
        if sections.head.elf_type != ET_REL {
            return self.place_linked(sections);
        }
        // Kernels since 14 also load constructor arrays. The size shows whether this one does.
        let (placed, end) = self.place_objects(sections, &OBJECTS);
        if end == self.size {
            return Ok(placed);
        }
        let (placed, with_arrays) = self.place_objects(sections, &OBJECTS_AND_ARRAYS);
        if with_arrays == self.size {
            return Ok(placed);
        }
        Err(NotLoaded::Size {
            found: end,
            expected: self.size,
        })
    }

    /// Returns address and name of the functions of `file`, whose sections are at `placed`, in
    /// ascending order.
    pub fn functions(
        &self,
        file: &dyn ReadAt,
        placed: &[PlacedSection],
    ) -> Vec<(VirtAddr, String)> {
        let Ok(sections) = Sections::read(file) else {
            return Vec::new();
        };
        let objects = sections.head.elf_type == ET_REL;
        let mut found: Vec<(VirtAddr, String)> = sections
            .functions(file)
            .into_iter()
            .filter_map(|function| {
                let section = placed.iter().find(|p| p.index == function.section)?;
                let base = if objects {
                    section.address
                } else {
                    self.address
                };
                Some((base.wrapping_add(function.value), function.name))
            })
            .collect();
        found.sort();
        found
    }

    fn place_objects(&self, sections: &Sections, kinds: &[u32]) -> (Vec<PlacedSection>, u64) {
        let mut at = 0_u64;
        let mut placed = Vec::new();
        for (index, section) in sections.list.iter().enumerate() {
            if section.flags & SHF_ALLOC == 0 || !kinds.contains(&section.kind) {
                continue;
            }
            let align = section.align.max(1);
            at = at.checked_next_multiple_of(align).unwrap_or(u64::MAX);
            placed.push(PlacedSection {
                index,
                name: section.name.clone(),
                address: self.address.wrapping_add(at),
                size: section.size,
            });
            at = at.saturating_add(section.size);
        }
        (placed, at)
    }

    fn place_linked(&self, sections: &Sections) -> Result<Vec<PlacedSection>, NotLoaded> {
        let all = sections.list.iter().enumerate();
        let here = || all.clone().filter(|(_, s)| s.flags & SHF_ALLOC != 0);
        let end = here()
            .map(|(_, s)| s.address.saturating_add(s.size))
            .max()
            .unwrap_or(0);
        let pages = |len: u64| len.div_ceil(4096);
        if pages(end) != pages(self.size) {
            return Err(NotLoaded::Size {
                found: end,
                expected: self.size,
            });
        }
        Ok(here()
            .map(|(index, s)| PlacedSection {
                index,
                name: s.name.clone(),
                address: self.address.wrapping_add(s.address),
                size: s.size,
            })
            .collect())
    }
}

const OBJECTS: [u32; 3] = [SHT_PROGBITS, SHT_NOBITS, SHT_X86_64_UNWIND];
const OBJECTS_AND_ARRAYS: [u32; 5] = [
    SHT_PROGBITS,
    SHT_NOBITS,
    SHT_X86_64_UNWIND,
    SHT_INIT_ARRAY,
    SHT_FINI_ARRAY,
];
