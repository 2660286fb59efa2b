//! Reads the section headers of ELF files: kernels, debug files and modules.
//!
//! The sections `.note.gnu.build-id` and `.gnu_debuglink` show whether two files are from the same
//! build.

use goblin::elf::Sym;
use goblin::elf::sym::STT_FUNC;
use livecore_compress::ReadAt;

use super::headers::{Head, Names, Section};
use super::memory::Memory;
use super::table::{open, read_sections, table};
use crate::{ByteOrder, Error};

/// `SHF_ALLOC`: the section is loaded into memory.
pub const SHF_ALLOC: u64 = 2;
/// `SHF_WRITE`: the section is writable.
pub const SHF_WRITE: u64 = 1;
/// `SHF_EXECINSTR`: the section has code.
pub const SHF_EXECINSTR: u64 = 4;
/// `SHT_PROGBITS`
pub const SHT_PROGBITS: u32 = 1;
/// `SHT_SYMTAB`
pub const SHT_SYMTAB: u32 = 2;
/// `SHT_RELA`
pub const SHT_RELA: u32 = 4;
/// `SHT_NOBITS`
pub const SHT_NOBITS: u32 = 8;
/// `SHT_REL`
pub const SHT_REL: u32 = 9;
/// `SHT_INIT_ARRAY`
pub const SHT_INIT_ARRAY: u32 = 14;
/// `SHT_FINI_ARRAY`
pub const SHT_FINI_ARRAY: u32 = 15;
/// `SHT_X86_64_UNWIND`
pub const SHT_X86_64_UNWIND: u32 = 0x7000_0001;
/// `ET_REL`
pub const ET_REL: u16 = 1;

/// The maximum size of a section that is read.
const CONTENT_LIMIT: u64 = 64 << 20;
/// `NT_GNU_BUILD_ID`
const NT_GNU_BUILD_ID: u64 = 3;

/// A function in a symbol table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `st_value`: in object files, the offset in its section.
    pub value: u64,
    /// `st_shndx`: the index of its section.
    pub section: usize,
}

/// The sections of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sections {
    /// The file header.
    pub head: Head,
    /// The sections, in the order of their headers.
    pub list: Vec<Section>,
}

impl Sections {
    /// Reads the section headers of a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not an ELF file or its section headers are not in the file.
    pub fn read(file: &dyn ReadAt) -> Result<Self, Error> {
        let head = open(file, "file")?;
        let list = read_sections(file, &head, &Memory::new(CONTENT_LIMIT))?;
        Ok(Self { head, list })
    }

    /// Returns the section with this name.
    pub fn named(&self, name: &str) -> Option<&Section> {
        self.list.iter().find(|s| s.name == name)
    }

    /// Returns the functions of the symbol table, in its order.
    pub fn functions(&self, file: &dyn ReadAt) -> Vec<Function> {
        let found = self.list.iter().find(|s| s.kind == SHT_SYMTAB);
        let strings = found.and_then(|s| self.list.get(s.link as usize));
        let tables = found
            .and_then(|s| contents(file, s))
            .zip(strings.and_then(|s| contents(file, s)));
        let Some((symbols, strings)) = tables else {
            return Vec::new();
        };
        let ctx = self.head.context();
        let count = symbols.len() / Sym::size(ctx.container);
        let Ok(symbols) = Sym::parse(&symbols, 0, count, ctx) else {
            return Vec::new();
        };
        let mut names = Names::new(&strings);
        let function = |symbol: &Sym| {
            Some(Function {
                name: names.copy(symbol.st_name)?,
                value: symbol.st_value,
                section: symbol.st_shndx,
            })
        };
        let functions = symbols.iter().filter(|symbol| symbol.st_type() == STT_FUNC);
        functions.filter_map(function).collect()
    }

    /// Returns the GNU build-id and the address of its note (0 if it is not in memory).
    pub fn build_id(&self, file: &dyn ReadAt) -> Option<(Vec<u8>, u64)> {
        let section = self.named(".note.gnu.build-id")?;
        let note = contents(file, section)?;
        let in_memory = section.flags & SHF_ALLOC != 0;
        let address = if in_memory { section.address } else { 0 };
        Some((build_id_of_note(self.head.order, &note)?, address))
    }

    /// Returns the contents of `.gnu_debuglink`: the name of the debug file and its CRC-32.
    pub fn debug_link(&self, file: &dyn ReadAt) -> Option<(String, u32)> {
        let link = contents(file, self.named(".gnu_debuglink")?)?;
        let len = link.iter().position(|b| *b == 0)?;
        let name = std::str::from_utf8(&link[..len]).ok()?;
        let crc = link.get((len + 1).next_multiple_of(4)..)?.get(..4)?;
        let plain = !name.is_empty() && !name.contains('/');
        // The CRC has four bytes.
        plain.then(|| {
            (
                name.to_owned(),
                self.head.order.uint(crc).unwrap_or(0) as u32,
            )
        })
    }
}

/// Returns the build-id in the first note of a note section.
pub fn build_id_of_note(order: ByteOrder, note: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| order.uint(note.get(at..at + 4)?);
    let (name, len, kind) = (word(0)?, word(4)?, word(8)?);
    if name != 4 || kind != NT_GNU_BUILD_ID || note.get(12..16)? != b"GNU\0" {
        return None;
    }
    let id = note.get(16..)?.get(..usize::try_from(len).ok()?)?;
    (1..=64).contains(&id.len()).then(|| id.to_vec())
}

/// Reads the contents of a section. Returns `None` if it has no contents, has more than 64 MiB or
/// cannot be read.
pub fn contents(file: &dyn ReadAt, section: &Section) -> Option<Vec<u8>> {
    if section.kind == SHT_NOBITS || section.size > CONTENT_LIMIT {
        return None;
    }
    let memory = Memory::new(CONTENT_LIMIT);
    table(file, &memory, &section.name, section.offset, section.size).ok()
}
