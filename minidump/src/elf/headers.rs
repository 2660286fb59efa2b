//! Reads the headers of ELF files of either class and byte order: the file header, program headers
//! and section headers.
//!
//! goblin parses the fields. The readers of this crate and of memory images check that a table is in
//! the file, and limit its size, before they read it.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::section_header::{SHF_COMPRESSED, SHN_XINDEX, SHT_NOBITS, SHT_STRTAB};
use goblin::elf::{Elf, ProgramHeader, SectionHeader};
use livecore_compress::ReadAt;
use livecore_defs::elf::{CLASS32, CLASS64, Class, EI_CLASS, EI_DATA, EI_OSABI, ET_CORE, PN_XNUM};

use crate::{ByteOrder, ElfMachine, Error};

/// The maximum length of a name of a section or symbol. Longer names are ignored.
const NAME_LIMIT: usize = 4096;
/// The maximum total length of the names that are copied from a string table.
const NAMES_LIMIT: usize = 16 << 20;

/// Reads a table: its name, for errors; its offset in the file; its length.
pub type ReadTable<'a> = dyn Fn(&str, u64, u64) -> Result<Vec<u8>, Error> + 'a;

/// The header of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The class, with its field offsets.
    pub class: &'static Class,
    /// The byte order.
    pub order: ByteOrder,
    /// `EI_OSABI`
    pub osabi: u8,
    /// `e_type`
    pub elf_type: u16,
    /// `e_machine`
    pub machine: ElfMachine,
    /// `e_flags`
    pub flags: u32,
    /// `e_entry`
    pub entry: u64,
    /// `e_phoff`
    pub phoff: u64,
    /// `e_shoff`
    pub shoff: u64,
    /// `e_phentsize`
    pub phentsize: u16,
    /// `e_phnum`, which can be `PN_XNUM`.
    pub phnum: u16,
    /// `e_shnum`; 0 if section header 0 has the number.
    pub shnum: u16,
    /// `e_shstrndx`, which can be `SHN_XINDEX`.
    pub shstrndx: u16,
}

/// A program header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`
    pub kind: u32,
    /// `p_flags`
    pub flags: u32,
    /// `p_offset`
    pub offset: u64,
    /// `p_vaddr`
    pub vaddr: u64,
    /// `p_paddr`
    pub paddr: u64,
    /// `p_filesz`
    pub filesz: u64,
    /// `p_memsz`
    pub memsz: u64,
    /// `p_align`
    pub align: u64,
}

/// A section header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty if it has none or the names were not read.
    pub name: String,
    /// `sh_type`
    pub kind: u32,
    /// `sh_flags`
    pub flags: u64,
    /// `sh_addr`
    pub address: u64,
    /// `sh_offset`
    pub offset: u64,
    /// `sh_size`
    pub size: u64,
    /// `sh_link`: for a symbol table, the section with its names.
    pub link: u32,
    /// `sh_info`: for relocations, the section that they apply to.
    pub info: u32,
    /// `sh_addralign`
    pub align: u64,
}

impl Section {
    /// Its size in the file: 0 for `.bss` and if contents were removed.
    pub fn file_size(&self) -> u64 {
        match self.kind {
            SHT_NOBITS => 0,
            _ => self.size,
        }
    }

    /// Whether the contents start with a `Chdr`.
    pub fn is_compressed(&self) -> bool {
        self.flags & u64::from(SHF_COMPRESSED) != 0
    }
}

/// The error for a table that goblin refuses, although it has the length of its headers.
fn refused(region: &str, offset: u64) -> impl Fn(goblin::error::Error) -> Error {
    move |e| Error::broken(region, offset, e.to_string(), "valid table")
}

impl Head {
    /// Parses the first bytes of a file. Returns `None` if they are not a complete ELF header.
    pub fn parse(head: &[u8]) -> Option<Self> {
        Self::read(head).ok()
    }

    /// Parses the first bytes of a file.
    pub(super) fn read(head: &[u8]) -> Result<Self, goblin::error::Error> {
        let header = Elf::parse_header(head)?;
        // goblin accepts only the values 1 and 2 of class and byte order.
        Ok(Self {
            class: match header.e_ident[EI_CLASS] {
                1 => &CLASS32,
                _ => &CLASS64,
            },
            order: match header.e_ident[EI_DATA] {
                1 => ByteOrder::Little,
                _ => ByteOrder::Big,
            },
            osabi: header.e_ident[EI_OSABI],
            elf_type: header.e_type,
            machine: ElfMachine(header.e_machine),
            flags: header.e_flags,
            entry: header.e_entry,
            phoff: header.e_phoff,
            shoff: header.e_shoff,
            phentsize: header.e_phentsize,
            phnum: header.e_phnum,
            shnum: header.e_shnum,
            shstrndx: header.e_shstrndx,
        })
    }

    /// Whether it is a core file.
    pub fn is_core(&self) -> bool {
        self.elf_type == ET_CORE
    }

    /// The format of the tables.
    pub(super) fn context(&self) -> Ctx {
        let container = match self.class.word {
            8 => Container::Big,
            _ => Container::Little,
        };
        let endian = match self.order {
            ByteOrder::Big => Endian::Big,
            ByteOrder::Little => Endian::Little,
        };
        Ctx::new(container, endian)
    }

    /// Returns the number of program headers, if necessary from section header 0. `what` names the
    /// file in errors.
    pub(crate) fn segment_count(&self, file: &dyn ReadAt, what: &str) -> Result<u64, Error> {
        if self.phnum != PN_XNUM {
            return Ok(self.phnum.into());
        }
        let mut section = vec![0; self.class.shdr];
        if self.shoff == 0 || file.read_full_at(&mut section, self.shoff)? < section.len() {
            return Err(Error::broken(
                format!("{what}, e_shoff"),
                self.class.e_shoff.offset as u64,
                format!("{:#x}", self.shoff),
                "section header 0, with the number of program headers",
            ));
        }
        let zero = self.parse_sections(&section)?;
        Ok(zero.first().map_or(0, |zero| zero.sh_info.into()))
    }

    /// Parses program headers.
    pub(super) fn segments(&self, table: &[u8]) -> Result<Vec<Segment>, Error> {
        let count = table.len() / self.class.phdr;
        let headers = ProgramHeader::parse(table, 0, count, self.context())
            .map_err(refused("program headers", self.phoff))?;
        let segment = |header: &ProgramHeader| Segment {
            kind: header.p_type,
            flags: header.p_flags,
            offset: header.p_offset,
            vaddr: header.p_vaddr,
            paddr: header.p_paddr,
            filesz: header.p_filesz,
            memsz: header.p_memsz,
            align: header.p_align,
        };
        Ok(headers.iter().map(segment).collect())
    }

    fn parse_sections(&self, table: &[u8]) -> Result<Vec<SectionHeader>, Error> {
        match table.len() / self.class.shdr {
            0 => Ok(Vec::new()),
            count => SectionHeader::parse_from(table, 0, count, self.context())
                .map_err(refused("section headers", self.shoff)),
        }
    }

    /// Reads the section headers with `read`, and the string table of their names with `read_names`.
    ///
    /// # Errors
    ///
    /// Returns the errors of `read` and `read_names`.
    pub fn sections(
        &self,
        read: &ReadTable<'_>,
        read_names: &ReadTable<'_>,
    ) -> Result<Vec<Section>, Error> {
        let region = "section headers";
        if self.shoff == 0 {
            return Ok(Vec::new());
        }
        let entry = self.class.shdr as u64;
        let mut count = u64::from(self.shnum);
        if count == 0 {
            // With more than 65279 sections, section 0 has the number.
            let first = self.parse_sections(&read(region, self.shoff, entry)?)?;
            count = first.first().map_or(0, |zero| zero.sh_size);
        }
        let table = read(region, self.shoff, count.saturating_mul(entry))?;
        let headers = self.parse_sections(&table)?;
        let index = match (u32::from(self.shstrndx), headers.first()) {
            (SHN_XINDEX, Some(zero)) => zero.sh_link as usize,
            (index, _) => index as usize,
        };
        let strings = match headers.get(index).filter(|s| s.sh_type == SHT_STRTAB) {
            Some(strings) => read_names("section names", strings.sh_offset, strings.sh_size)?,
            None => Vec::new(),
        };
        let mut names = Names::new(&strings);
        let section = |header: &SectionHeader| Section {
            name: names.copy(header.sh_name).unwrap_or_default(),
            kind: header.sh_type,
            flags: header.sh_flags,
            address: header.sh_addr,
            offset: header.sh_offset,
            size: header.sh_size,
            link: header.sh_link,
            info: header.sh_info,
            align: header.sh_addralign,
        };
        Ok(headers.iter().map(section).collect())
    }
}

/// Copies names from a string table.
///
/// Any number of headers can have the same long name, so the total length is limited.
pub(super) struct Names<'a> {
    strings: &'a [u8],
    left: usize,
}

impl<'a> Names<'a> {
    pub(super) fn new(strings: &'a [u8]) -> Self {
        let left = NAMES_LIMIT;
        Self { strings, left }
    }

    /// Returns the name at `at`, if it is UTF-8 and the limit is not reached.
    pub(super) fn copy(&mut self, at: usize) -> Option<String> {
        let name = name_at(self.strings, at)?;
        self.left = self.left.checked_sub(name.len())?;
        String::from_utf8(name.to_vec()).ok()
    }
}

/// Returns the NUL-terminated name at `at` of `strings`.
pub(super) fn name_at(strings: &[u8], at: usize) -> Option<&[u8]> {
    let tail = strings.get(at..)?;
    let len = tail.iter().take(NAME_LIMIT + 1).position(|b| *b == 0)?;
    Some(&tail[..len])
}
