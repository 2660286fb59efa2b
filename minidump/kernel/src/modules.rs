//! Loaded kernel files: the kernel itself and its modules, in the order of loading.
//!
//! FreeBSD `sys/sys/linker.h`, `struct linker_file`, in the list `linker_files`. Where its fields
//! are, kernels since 10 export as `kld_off_*`; `size` stands right behind `address` and has no
//! exported offset.
//!
//! A module of amd64 is an object file (`ET_REL`): the kernel lays its sections one behind the
//! other (`sys/kern/link_elf_obj.c`). Elsewhere it is a shared object, loaded as it was linked
//! (`sys/kern/link_elf.c`).

use std::collections::HashSet;

use livecore_compress::ReadAt;

use crate::loaded::Room;
use crate::sections::{
    ET_REL, SHF_ALLOC, SHT_FINI_ARRAY, SHT_INIT_ARRAY, SHT_NOBITS, SHT_PROGBITS, SHT_X86_64_UNWIND,
    Sections,
};
use crate::{Functions, Kernel, KernelError};
use livecore_minidump::{Error, VirtAddr};

/// The most files that are listed: a list that goes round ends there.
const LIMIT: usize = 4096;
/// The most bytes of a name.
const NAME_LIMIT: usize = 1024;

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
        found: u16,
        /// The kernel's.
        expected: u16,
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

/// Offsets in `struct linker_file`.
struct Offsets {
    address: u64,
    filename: u64,
    pathname: u64,
    next: u64,
    id: u64,
}

impl Offsets {
    /// The exported ones, or those that all releases have had.
    fn of(kernel: Kernel<'_>) -> Self {
        let usual = if kernel.elf().is_64() {
            Self {
                next: 24,
                filename: 40,
                pathname: 48,
                id: 56,
                address: 64,
            }
        } else {
            Self {
                next: 16,
                filename: 24,
                pathname: 28,
                id: 32,
                address: 36,
            }
        };
        let get = |name, usual| kernel.variable(name, 4).unwrap_or(usual);
        Self {
            address: get("kld_off_address", usual.address),
            filename: get("kld_off_filename", usual.filename),
            pathname: get("kld_off_pathname", usual.pathname),
            next: get("kld_off_next", usual.next),
            id: usual.id,
        }
    }
}

impl Kernel<'_> {
    /// The loaded kernel files. Without `linker_files` that is an error; where the list cannot be
    /// followed further is a problem, and what was found before stays.
    pub fn modules(&self) -> Result<Modules, KernelError> {
        let head = self.address("linker_files")?;
        let offsets = Offsets::of(*self);
        let word = self.elf().pointer_size();
        let own = self
            .address("linker_kernel_file")
            .and_then(|at| self.pointer_at("linker_kernel_file", at))
            .unwrap_or(0);
        let mut found = Modules::default();
        let mut room = Room::new();
        let mut seen = HashSet::new();
        let mut at = self.pointer_at("linker_files", head)?;
        while at != 0 {
            if !seen.insert(at) || seen.len() > LIMIT {
                let what = "the list of loaded files goes round";
                found.problems.push(what.into());
                break;
            }
            match self.module(at, &offsets, word) {
                Ok((mut module, next)) => {
                    module.is_kernel = match own {
                        0 => found.list.is_empty(),
                        own => own == at,
                    };
                    if !module.is_kernel {
                        let behind = at.wrapping_add(offsets.address + 2 * word as u64);
                        let functions = self.loaded_functions(&module, behind, &mut room);
                        found.functions.extend(functions);
                    }
                    found.list.push(module);
                    at = next;
                }
                Err(error) => {
                    found.problems.push(error.to_string());
                    break;
                }
            }
        }
        found.functions.sort();
        Ok(found)
    }

    fn module(
        &self,
        at: u64,
        offsets: &Offsets,
        word: usize,
    ) -> Result<(Module, u64), KernelError> {
        let field = |offset: u64| at.wrapping_add(offset);
        let next = self.pointer_at("linker_file, next", field(offsets.next))?;
        let address = self.pointer_at("linker_file, address", field(offsets.address))?;
        let size = field(offsets.address).wrapping_add(word as u64);
        let size = self.pointer_at("linker_file, size", size)?;
        let name = self.pointer_at("linker_file, filename", field(offsets.filename))?;
        let path = self.pointer_at("linker_file, pathname", field(offsets.pathname))?;
        let id = self.uint_at("linker_file, id", field(offsets.id), 4)?;
        let module = Module {
            at,
            name: self.string_at(name),
            path: self.string_at(path),
            id: id as u32, // 4 bytes were read
            address,
            size,
            is_kernel: false,
        };
        Ok((module, next))
    }

    /// The string at `at` up to its NUL; what cannot be read of it is left out.
    pub fn string_at(&self, at: u64) -> String {
        let mut text = Vec::new();
        let mut piece = [0; 64];
        while at != 0 && text.len() < NAME_LIMIT {
            let here = VirtAddr(at.wrapping_add(text.len() as u64));
            // Pieces end where pages may.
            let len = 64 - here.offset_in(64) as usize;
            if self.memory().read_virt(here, &mut piece[..len]).is_err() {
                break;
            }
            let end = piece[..len].iter().position(|b| *b == 0);
            text.extend_from_slice(&piece[..end.unwrap_or(len)]);
            if end.is_some() {
                break;
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Kernel<'_> {
    /// Where the sections of `file` are in memory, if it is what was loaded as `module`: of the
    /// kernel's processor, as long as the loaded image, and with its contents as far as loading
    /// leaves them as they are.
    pub fn place(&self, module: &Module, file: &dyn ReadAt) -> Result<Vec<Placed>, NotLoaded> {
        let sections = Sections::read(file)?;
        let expected = self.elf().machine();
        if sections.machine != expected {
            return Err(NotLoaded::Machine {
                found: sections.machine,
                expected,
            });
        }
        let placed = module.sections(&sections)?;
        self.is_loaded(file, &sections, &placed)?;
        Ok(placed)
    }
}

impl Module {
    /// Where sections are in memory, if they take the room that the loaded image has.
    pub(super) fn sections(&self, sections: &Sections) -> Result<Vec<Placed>, NotLoaded> {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const OBJECTS: [u32; 3] = [SHT_PROGBITS, SHT_NOBITS, SHT_X86_64_UNWIND];
const OBJECTS_AND_ARRAYS: [u32; 5] = [
    SHT_PROGBITS,
    SHT_NOBITS,
    SHT_X86_64_UNWIND,
    SHT_INIT_ARRAY,
    SHT_FINI_ARRAY,
];
