//! A loaded kernel file, and where the sections of its file are in memory.
//!
//! A module of amd64 is an object file (`ET_REL`): the kernel lays its sections one behind the
//! other (`sys/kern/link_elf_obj.c`). Elsewhere it is a shared object, loaded as it was linked
//! (`sys/kern/link_elf.c`).

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
    pub at: u64,
    /// `filename`: `kernel`, `zfs.ko`.
    pub name: String,
    /// `pathname`: `/boot/kernel/zfs.ko`.
    pub path: String,
    /// `id`, as kldstat(8) shows it.
    pub id: u32,
    /// `address`: where its image begins.
    pub address: u64,
    /// `size` of the image.
    pub size: u64,
    /// Whether it is the kernel: `linker_kernel_file`, or the first of the list.
    pub is_kernel: bool,
}

/// The loaded files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// In the order of loading; the kernel first.
    pub list: Vec<Module>,
    /// Functions of all but the kernel, where the kernel's linker has their names in memory: address
    /// and name, ascending.
    pub functions: Vec<(u64, String)>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

/// By name where the kernel knows it; else `zfs.ko`, and how far from its address.
impl Functions for Modules {
    fn function(&self, at: u64) -> Option<(String, u64)> {
        let module = self.list.iter().find(|m| {
            let skip = at.checked_sub(m.address);
            !m.is_kernel && skip.is_some_and(|skip| skip < m.size)
        })?;
        let after = self.functions.partition_point(|(start, _)| *start <= at);
        let nearest = after.checked_sub(1).and_then(|i| self.functions.get(i));
        Some(match nearest {
            Some((start, name)) if *start >= module.address => (name.clone(), at - start),
            _ => (module.name.clone(), at - module.address),
        })
    }
}

/// A section of a module's file and where it is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its number in the file.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: u64,
    /// Its length.
    pub size: u64,
}

/// Why a file is not the one that was loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotLoaded {
    /// It cannot be read as ELF.
    #[error(transparent)]
    Elf(#[from] Error),
    /// It is of another processor.
    #[error("it is of ELF machine {found}, the kernel of {expected}")]
    Machine {
        /// The file's.
        found: ElfMachine,
        /// The kernel's.
        expected: ElfMachine,
    },
    /// It is of another build.
    #[error("its build-id is {}, that of what was loaded {}", hex(.found), hex(.expected))]
    BuildId {
        /// The file's.
        found: Vec<u8>,
        /// The one in memory.
        expected: Vec<u8>,
    },
    /// It has other contents than what was loaded.
    #[error("its {section} differs from what was loaded at {at}")]
    Contents {
        /// The section.
        section: String,
        /// The first address that differs.
        at: VirtAddr,
    },
    /// It takes other room than what was loaded.
    #[error("its sections take {found:#x} bytes, what was loaded has {expected:#x}")]
    Size {
        /// The file's.
        found: u64,
        /// `size` of the loaded file.
        expected: u64,
    },
}

impl Module {
    /// Where sections are in memory, if they take the room that the loaded image has.
    pub(crate) fn sections(&self, sections: &Sections) -> Result<Vec<Placed>, NotLoaded> {
        if sections.elf_type != ET_REL {
            return self.place_linked(sections);
        }
        // Kernels since 14 load constructors' arrays, too; which one it was tells the size.
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

    /// The functions of `file`, whose sections are at `placed`: address and name, ascending.
    pub fn functions(&self, file: &dyn ReadAt, placed: &[Placed]) -> Vec<(u64, String)> {
        let Ok(sections) = Sections::read(file) else {
            return Vec::new();
        };
        let objects = sections.elf_type == ET_REL;
        let mut found: Vec<(u64, String)> = sections
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

    fn place_objects(&self, sections: &Sections, kinds: &[u32]) -> (Vec<Placed>, u64) {
        let mut at = 0_u64;
        let mut placed = Vec::new();
        for (index, section) in sections.list.iter().enumerate() {
            if section.flags & SHF_ALLOC == 0 || !kinds.contains(&section.kind) {
                continue;
            }
            let align = section.align.max(1);
            at = at.checked_next_multiple_of(align).unwrap_or(u64::MAX);
            placed.push(Placed {
                index,
                name: section.name.clone(),
                address: self.address.wrapping_add(at),
                size: section.size,
            });
            at = at.saturating_add(section.size);
        }
        (placed, at)
    }

    fn place_linked(&self, sections: &Sections) -> Result<Vec<Placed>, NotLoaded> {
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
            .map(|(index, s)| Placed {
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
