//! The section headers of any ELF file: of kernels, their debug files and modules.
//!
//! What names two files as of one build stands in sections, too: `.note.gnu.build-id` and
//! `.gnu_debuglink`.

use livecore_compress::ReadAt;

use livecore_minidump::{ByteOrder, ElfMachine, Error};

/// `SHF_ALLOC`: the section takes room in memory.
pub const SHF_ALLOC: u64 = 2;
/// `SHF_WRITE`: the section can be written to.
pub const SHF_WRITE: u64 = 1;
/// `SHF_EXECINSTR`: the section is code.
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

/// The most sections of one file.
const LIMIT: u64 = 1 << 16;
/// The most bytes of a section that is read whole.
const CONTENT_LIMIT: u64 = 64 << 20;
/// `STT_FUNC`
const STT_FUNC: u64 = 2;
/// `NT_GNU_BUILD_ID`
const NT_GNU_BUILD_ID: u64 = 3;

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
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
    /// `sh_link`: of a symbol table, the section with its names.
    pub link: u32,
    /// `sh_info`: of relocations, the section that they are for.
    pub info: u32,
    /// `sh_addralign`
    pub align: u64,
}

/// A function that a symbol table names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `st_value`: of object files, from the start of its section.
    pub value: u64,
    /// `st_shndx`: which section it lies in.
    pub section: usize,
}

/// The sections of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sections {
    /// Whether it is ELF64.
    pub is_64: bool,
    /// Its byte order.
    pub order: ByteOrder,
    /// `e_machine`
    pub machine: ElfMachine,
    /// `e_type`
    pub elf_type: u16,
    /// In the order of their headers.
    pub list: Vec<Section>,
}

impl Sections {
    /// Reads them. A file without sections has none.
    pub fn read(file: &dyn ReadAt) -> Result<Self, Error> {
        let mut head = [0; 64];
        let got = file.read_full_at(&mut head, 0)?;
        if got < 52 || !head.starts_with(b"\x7fELF") {
            return Err(Error::Unsupported {
                what: "file that is no ELF".into(),
            });
        }
        let is_64 = head[4] == 2;
        let order = match head[5] {
            2 => ByteOrder::Big,
            _ => ByteOrder::Little,
        };
        // `head` is longer than any offset below.
        let uint = |at: usize, len: usize| order.uint(&head[at..at + len]).unwrap_or(0);
        let (shoff, entry, mut count, names) = if is_64 {
            (uint(40, 8), uint(58, 2), uint(60, 2), uint(62, 2))
        } else {
            (uint(32, 4), uint(46, 2), uint(48, 2), uint(50, 2))
        };
        let mut found = Self {
            is_64,
            order,
            machine: ElfMachine(uint(18, 2) as u16),
            elf_type: uint(16, 2) as u16,
            list: Vec::new(),
        };
        let size = if is_64 { 64 } else { 40 };
        if shoff == 0 {
            return Ok(found);
        }
        if entry != size {
            return Err(Error::broken(
                "ELF header, e_shentsize",
                0,
                entry.to_string(),
                size.to_string(),
            ));
        }
        if count == 0 {
            // More than 65279 sections: section 0 says how many. None here has so many.
            count = found.header(&bytes(file, shoff, size)?).0.size;
        }
        let table = bytes(file, shoff, count.min(LIMIT + 1) * size)?;
        if count > LIMIT {
            return Err(Error::broken(
                "ELF section headers",
                shoff,
                format!("{count} of them"),
                format!("at most {LIMIT}"),
            ));
        }
        let mut headers: Vec<_> = table
            .chunks_exact(size as usize)
            .map(|h| found.header(h))
            .collect();
        if let Some((strings, _)) = headers.get(names as usize)
            && strings.size <= CONTENT_LIMIT
        {
            let strings = bytes(file, strings.offset, strings.size)?;
            for (section, name) in &mut headers {
                let tail = strings.get(*name as usize..).unwrap_or_default();
                let text = tail.split(|b| *b == 0).next().unwrap_or_default();
                section.name = String::from_utf8_lossy(text).into_owned();
            }
        }
        found.list = headers.into_iter().map(|(section, _)| section).collect();
        Ok(found)
    }

    /// A header without its name, and where that is in the strings.
    fn header(&self, header: &[u8]) -> (Section, u64) {
        let uint = |at: usize, len: usize| {
            let field = header.get(at..at + len);
            field.and_then(|f| self.order.uint(f)).unwrap_or(0)
        };
        let word = if self.is_64 { 8 } else { 4 };
        let section = Section {
            name: String::new(),
            kind: uint(4, 4) as u32,
            flags: uint(8, word),
            address: uint(8 + word, word),
            offset: uint(8 + 2 * word, word),
            size: uint(8 + 3 * word, word),
            link: uint(8 + 4 * word, 4) as u32,
            info: uint(12 + 4 * word, 4) as u32,
            align: uint(16 + 4 * word, word),
        };
        (section, uint(0, 4))
    }

    /// The section of this name.
    pub fn named(&self, name: &str) -> Option<&Section> {
        self.list.iter().find(|s| s.name == name)
    }

    /// The functions of the symbol table, in its order.
    pub fn functions(&self, file: &dyn ReadAt) -> Vec<Function> {
        let found = self.list.iter().find(|s| s.kind == SHT_SYMTAB);
        let strings = found.and_then(|s| self.list.get(s.link as usize));
        let tables = found
            .and_then(|s| contents(file, s))
            .zip(strings.and_then(|s| contents(file, s)));
        let Some((symbols, strings)) = tables else {
            return Vec::new();
        };
        // Elf32_Sym and Elf64_Sym.
        let (size, value, word, info, section) = if self.is_64 {
            (24, 8, 8, 4, 6)
        } else {
            (16, 4, 4, 12, 14)
        };
        let function = |symbol: &[u8]| {
            let uint = |at: usize, len: usize| self.order.uint(symbol.get(at..at + len)?);
            if uint(info, 1)? & 15 != STT_FUNC {
                return None;
            }
            let name = strings
                .get(uint(0, 4)? as usize..)?
                .split(|b| *b == 0)
                .next()?;
            Some(Function {
                name: String::from_utf8_lossy(name).into_owned(),
                value: uint(value, word)?,
                section: uint(section, 2)? as usize,
            })
        };
        symbols.chunks_exact(size).filter_map(function).collect()
    }

    /// The GNU build-id and the address at which its note is in memory (0 if it is not).
    pub fn build_id(&self, file: &dyn ReadAt) -> Option<(Vec<u8>, u64)> {
        let section = self.named(".note.gnu.build-id")?;
        let note = contents(file, section)?;
        let in_memory = section.flags & SHF_ALLOC != 0;
        let address = if in_memory { section.address } else { 0 };
        Some((build_id_of_note(self.order, &note)?, address))
    }

    /// `.gnu_debuglink`: the debug file's name and the CRC-32 of its bytes.
    pub fn debug_link(&self, file: &dyn ReadAt) -> Option<(String, u32)> {
        let link = contents(file, self.named(".gnu_debuglink")?)?;
        let len = link.iter().position(|b| *b == 0)?;
        let name = std::str::from_utf8(&link[..len]).ok()?;
        let crc = link.get((len + 1).next_multiple_of(4)..)?.get(..4)?;
        let plain = !name.is_empty() && !name.contains('/');
        // Four bytes were read.
        plain.then(|| (name.to_owned(), self.order.uint(crc).unwrap_or(0) as u32))
    }
}

/// The build-id in the bytes of a note section: its note is the first.
pub fn build_id_of_note(order: ByteOrder, note: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| order.uint(note.get(at..at + 4)?);
    let (name, len, kind) = (word(0)?, word(4)?, word(8)?);
    if name != 4 || kind != NT_GNU_BUILD_ID || note.get(12..16)? != b"GNU\0" {
        return None;
    }
    let id = note.get(16..)?.get(..usize::try_from(len).ok()?)?;
    (1..=64).contains(&id.len()).then(|| id.to_vec())
}

/// The bytes of a section; `None` if it has none in the file, more than 64 MiB, or they cannot be read.
pub fn contents(file: &dyn ReadAt, section: &Section) -> Option<Vec<u8>> {
    if section.kind == SHT_NOBITS || section.size > CONTENT_LIMIT {
        return None;
    }
    bytes(file, section.offset, section.size).ok()
}

/// `len` bytes at `offset`, which the file must have.
fn bytes(file: &dyn ReadAt, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let size = file.size()?;
    let there = offset.checked_add(len).is_some_and(|end| end <= size);
    let room = usize::try_from(len).ok().filter(|_| there);
    let Some(room) = room else {
        return Err(Error::broken(
            "ELF file",
            offset,
            format!("a table of {len:#x} bytes"),
            format!("an end within the file's {size:#x} bytes"),
        ));
    };
    let mut bytes = vec![0; room];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
