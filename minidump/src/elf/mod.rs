//! Reads kernel files in ELF: symbols and contents.
//!
//! Opening reads only the headers, the symbol table and its strings. Contents are read when needed.
//! A file can have symbols only, without contents and program headers.

pub mod core;
mod descriptors;
pub mod export;
pub mod notes;
pub mod sections;
pub mod write;

use std::ops::Range;
use std::sync::Arc;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::section_header::{SHF_ALLOC, SHF_EXECINSTR, SHN_ABS, SHN_UNDEF};
use goblin::elf::section_header::{SHT_NOBITS, SHT_STRTAB, SHT_SYMTAB};
use goblin::elf::sym::{STT_FILE, STT_FUNC, STT_NOTYPE, STT_OBJECT, STT_SECTION};
use goblin::elf::{Elf, Header, ProgramHeader, SectionHeader, Sym};
use livecore_compress::ReadAt;

use crate::elf::descriptors::Descriptors;
use crate::{ByteOrder, ElfMachine, Error};

/// The maximum number of labels in one function.
const LABELS_OF_FUNCTION: usize = 256;
/// The maximum size of a table (symbols, their names, headers).
const TABLE_LIMIT: u64 = 256 << 20;

/// The kind of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A variable.
    Object,
    /// A label of the assembler or the linker.
    Label,
    /// Anything else.
    Other,
}

/// A symbol of the kernel, global or local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its linked address, or its value if it is absolute.
    pub value: u64,
    /// Its size in bytes; 0 if unknown.
    pub size: u64,
    /// Whether it is a constant and not an address (`SHN_ABS`), like `kernphys` of 12.1.
    pub absolute: bool,
    /// Its kind.
    pub kind: SymbolKind,
}

/// Linked contents of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether all of them are in the file. Bytes of `.bss` are not; they are zero only when the
    /// kernel starts.
    pub in_file: bool,
}

struct Entry {
    /// The range of the name in the strings.
    name: Range<u32>,
    symbol: Symbol,
    /// The address of its code: the value of a symbol in an executable section (or in a file without
    /// sections), or the address in a function descriptor.
    code: Option<u64>,
    global: bool,
}

/// A section or segment in the address space.
struct Piece {
    va: u64,
    len: u64,
    /// The offset of its contents in the file, and their length. The remaining bytes are zero.
    offset: u64,
    file_len: u64,
}

/// A section of a kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its offset in the file.
    pub offset: u64,
    /// Its size in the file: 0 for `.bss` and if contents were removed.
    pub size: u64,
    /// `SHF_COMPRESSED`: the contents start with a `Chdr`.
    pub compressed: bool,
}

/// A kernel's ELF file.
pub struct KernelElf {
    file: Arc<dyn ReadAt>,
    class64: bool,
    order: ByteOrder,
    machine: ElfMachine,
    osabi: u8,
    elf_type: u16,
    flags: u32,
    entry: u64,
    strings: Vec<u8>,
    symbols: Vec<Entry>,
    /// Indices into `symbols`, sorted by name. A global symbol precedes local ones of the same name.
    by_name: Vec<u32>,
    /// Indices of functions and labels in text, sorted by address.
    by_value: Vec<u32>,
    sections: Vec<Piece>,
    segments: Vec<Piece>,
    named: Vec<Section>,
    /// Executable sections, or executable segments in a file without sections; ascending.
    text: Vec<Range<u64>>,
    /// The end of the highest executable section or segment.
    text_end: u64,
    /// Whether functions have descriptors but none could be read.
    unread_descriptors: bool,
}

fn bad(region: &str, offset: u64, found: impl Into<String>, expected: &str) -> Error {
    Error::broken(format!("kernel ELF, {region}"), offset, found, expected)
}

/// Reads bytes `offset..offset + len` of the file. It is an error if the file does not have them.
fn table(file: &dyn ReadAt, region: &str, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let size = file.size()?;
    if offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(bad(
            region,
            offset,
            format!("{len:#x} bytes"),
            &format!("an end of at most {size:#x}, the file size"),
        ));
    }
    let len = usize::try_from(len.min(TABLE_LIMIT + 1)).unwrap_or(usize::MAX);
    if len as u64 > TABLE_LIMIT {
        return Err(Error::Options(format!(
            "kernel ELF, {region}: larger than the limit of {TABLE_LIMIT:#x} bytes"
        )));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn goblin_error(region: &'static str, offset: u64) -> impl Fn(goblin::error::Error) -> Error {
    move |e| bad(region, offset, e.to_string(), "valid table")
}

/// The header of an ELF file and the format of its tables.
struct Opened {
    header: Header,
    ctx: Ctx,
    order: ByteOrder,
}

/// Reads the header of a file. `what` names the file in errors.
fn open(file: &dyn ReadAt, what: &str) -> Result<Opened, Error> {
    let mut head = [0; 64];
    let got = file.read_full_at(&mut head, 0)?;
    if !head[..got].starts_with(b"\x7fELF") {
        return Err(Error::Unsupported {
            what: format!(
                "{what} is not an ELF file: it starts with {}",
                crate::header::escaped(&head[..got], 8)
            ),
        });
    }
    let header = Elf::parse_header(&head[..got]).map_err(goblin_error("header", 0))?;
    let order = match header.e_ident[5] {
        2 => ByteOrder::Big,
        _ => ByteOrder::Little,
    };
    let ctx = context(header.e_ident[4] == 2, order);
    Ok(Opened { header, ctx, order })
}

/// Returns the format of tables of a class and byte order.
fn context(is_64: bool, order: ByteOrder) -> Ctx {
    let container = match is_64 {
        true => Container::Big,
        false => Container::Little,
    };
    let endian = match order {
        ByteOrder::Big => Endian::Big,
        ByteOrder::Little => Endian::Little,
    };
    Ctx::new(container, endian)
}

impl KernelElf {
    /// Opens an ELF file that is in memory.
    ///
    /// # Errors
    ///
    /// Those of [`KernelElf::parse`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(Arc::new(bytes))
    }

    /// Opens an ELF file of either class and byte order.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is not an ELF file, [`Error::Broken`] if a table of it is not in the file,
    /// [`Error::Io`] if it cannot be read.
    pub fn parse(file: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let Opened { header, ctx, order } = open(&*file, "kernel file")?;
        let class64 = ctx.container == Container::Big;
        let sections = read_sections(&*file, &header, ctx)?;
        let segments = read_segments(&*file, &header, ctx)?;
        let named = named_sections(&*file, &header, &sections);
        let descriptors = Descriptors::read(&*file, &header, order, &sections, &named);
        let (symbols, strings) = read_symbols(&*file, &sections, descriptors.as_ref(), ctx)?;
        let text_end = sections
            .iter()
            .filter(|s| s.sh_flags & u64::from(SHF_EXECINSTR) != 0)
            .map(|s| s.sh_addr.saturating_add(s.sh_size))
            .chain(
                segments
                    .iter()
                    .filter(|p| p.is_executable())
                    .map(|p| p.p_vaddr.saturating_add(p.p_memsz)),
            )
            .max()
            .unwrap_or(u64::MAX);
        let range = |start: u64, len: u64| start..start.saturating_add(len);
        let mut text: Vec<_> = sections
            .iter()
            .filter(|s| s.sh_flags & u64::from(SHF_EXECINSTR) != 0 && s.sh_size > 0)
            .map(|s| range(s.sh_addr, s.sh_size))
            .collect();
        if sections.is_empty() {
            let loads = segments.iter().filter(|p| {
                p.p_type == goblin::elf::program_header::PT_LOAD
                    && p.is_executable()
                    && p.p_memsz > 0
            });
            text.extend(loads.map(|p| range(p.p_vaddr, p.p_memsz)));
        }
        text.sort_by_key(|range| range.start);
        let mut elf = Self {
            class64,
            order,
            machine: ElfMachine(header.e_machine),
            osabi: header.e_ident[7],
            elf_type: header.e_type,
            flags: header.e_flags,
            entry: header.e_entry,
            strings,
            symbols,
            by_name: Vec::new(),
            by_value: Vec::new(),
            sections: sections.iter().filter_map(section_piece).collect(),
            segments: segments.iter().filter_map(segment_piece).collect(),
            named,
            file,
            text,
            text_end,
            unread_descriptors: descriptors.is_some_and(|d| d.is_empty()),
        };
        elf.index();
        Ok(elf)
    }

    fn index(&mut self) {
        // There are fewer than 2^32 symbols, because their table has at most TABLE_LIMIT bytes.
        let mut by_name: Vec<u32> = (0..self.symbols.len() as u32).collect();
        by_name.sort_by(|&a, &b| {
            let (a, b) = (&self.symbols[a as usize], &self.symbols[b as usize]);
            (self.name_bytes(a), b.global).cmp(&(self.name_bytes(b), a.global))
        });
        let mut by_value: Vec<u32> = (0..self.symbols.len() as u32)
            .filter(|&i| {
                let entry = &self.symbols[i as usize];
                !entry.symbol.absolute
                    && entry.code.is_some()
                    && match entry.symbol.kind {
                        SymbolKind::Function => true,
                        SymbolKind::Label => !is_marker(self.name_bytes(entry)),
                        _ => false,
                    }
            })
            .collect();
        // The last of several names for one address is used: functions before labels, then larger
        // ones, then global ones.
        by_value.sort_by_key(|&i| {
            let entry = &self.symbols[i as usize];
            (
                entry.code,
                entry.symbol.kind == SymbolKind::Function,
                entry.symbol.size,
                entry.global,
            )
        });
        // Without readable descriptors, only labels of assembly code remain, and all other code would
        // get the name of a label.
        let named = |i: &u32| self.symbols[*i as usize].symbol.kind == SymbolKind::Function;
        if self.unread_descriptors && !by_value.iter().any(named) {
            by_value.clear();
        }
        self.by_name = by_name;
        self.by_value = by_value;
    }

    fn name_bytes(&self, entry: &Entry) -> &[u8] {
        // The range is in the strings.
        &self.strings[entry.name.start as usize..entry.name.end as usize]
    }

    fn name(&self, entry: &Entry) -> &str {
        std::str::from_utf8(self.name_bytes(entry)).unwrap_or("?")
    }

    /// Returns the symbol with this name; a global one if there are several.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let first = self
            .by_name
            .partition_point(|&i| self.name_bytes(&self.symbols[i as usize]) < name.as_bytes());
        let entry = &self.symbols[*self.by_name.get(first)? as usize];
        (self.name_bytes(entry) == name.as_bytes()).then_some(entry.symbol)
    }

    /// Iterates over the defined symbols with their names, in the order of the file.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Symbol)> + '_ {
        self.symbols.iter().map(|e| (self.name(e), e.symbol))
    }

    /// Whether the file has a function or a label in text.
    pub fn has_functions(&self) -> bool {
        !self.by_value.is_empty()
    }

    /// Returns the last function (or label in text) that starts at or before `va`, and the offset of
    /// `va` from it.
    pub fn lookup(&self, va: u64) -> Option<(&str, u64)> {
        if va >= self.text_end {
            return None;
        }
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let index = *self.by_value.get(after.checked_sub(1)?)?;
        let name = self.name(&self.symbols[index as usize]);
        Some((code_name(self.machine, name), va - self.code(index)))
    }

    /// The address of the code of a symbol in `by_value`.
    fn code(&self, index: u32) -> u64 {
        // All symbols in `by_value` have code.
        self.symbols[index as usize].code.unwrap_or(0)
    }

    /// Returns the start of the last function at or before `va`. Labels are not functions.
    pub fn function_start(&self, va: u64) -> Option<u64> {
        if va >= self.text_end {
            return None;
        }
        let is_function = |i: &&u32| self.symbols[**i as usize].symbol.kind == SymbolKind::Function;
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let mut near = self.by_value[..after].iter().rev().take(LABELS_OF_FUNCTION);
        near.find(is_function).map(|&i| self.code(i))
    }

    /// The linked addresses of code, ascending: the executable sections, or the executable segments
    /// of a file without sections. They can overlap in a damaged file.
    pub fn text(&self) -> &[Range<u64>] {
        &self.text
    }

    /// The end of the highest executable section or segment, or the highest address without one.
    pub fn text_end(&self) -> u64 {
        self.text_end
    }

    /// The lowest linked address of a section or segment.
    pub fn lowest_address(&self) -> Option<u64> {
        let pieces = self.sections.iter().chain(&self.segments);
        pieces.map(|piece| piece.va).min()
    }

    /// Returns `len` bytes of contents at linked address `va`, or `None` if no section or segment has
    /// all of them or they cannot be read.
    pub fn bytes_at(&self, va: u64, len: usize) -> Option<Contents> {
        let end = va.checked_add(len as u64)?;
        let piece = self
            .sections
            .iter()
            .chain(&self.segments)
            .find(|p| p.va <= va && p.len >= end - p.va)?;
        let skip = va - piece.va;
        let in_file = piece.file_len.saturating_sub(skip).min(len as u64);
        // A piece without contents can have any length, so limit the memory.
        if len as u64 > TABLE_LIMIT {
            return None;
        }
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(
                &mut bytes[..in_file as usize],
                piece.offset.checked_add(skip)?,
            )
            .ok()?;
        Some(Contents {
            bytes,
            in_file: in_file == len as u64,
        })
    }

    /// The sections that have names, in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.named
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn ReadAt> {
        &self.file
    }

    /// Whether the file is ELF64.
    pub fn is_64(&self) -> bool {
        self.class64
    }

    /// The size of a pointer in bytes.
    pub fn pointer_size(&self) -> usize {
        if self.class64 { 8 } else { 4 }
    }

    /// The byte order.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// `e_machine`
    pub fn machine(&self) -> ElfMachine {
        self.machine
    }

    /// `EI_OSABI`: 9 for FreeBSD.
    pub fn osabi(&self) -> u8 {
        self.osabi
    }

    /// `e_type`: 2 for an executable, 3 for a shared object (powerpc's kernel).
    pub fn elf_type(&self) -> u16 {
        self.elf_type
    }

    /// `e_flags`.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// `e_entry`: the entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }
}

impl std::fmt::Debug for KernelElf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelElf")
            .field("machine", &self.machine)
            .field("class64", &self.class64)
            .field("order", &self.order)
            .field("symbols", &self.symbols.len())
            .finish_non_exhaustive()
    }
}

fn read_sections(
    file: &dyn ReadAt,
    header: &Header,
    ctx: Ctx,
) -> Result<Vec<SectionHeader>, Error> {
    if header.e_shoff == 0 {
        return Ok(Vec::new());
    }
    let error = goblin_error("section headers", header.e_shoff);
    let entry = SectionHeader::size(ctx) as u64;
    let mut count = u64::from(header.e_shnum);
    if count == 0 {
        // With more than 65279 sections, section 0 has the number.
        let first = table(file, "section headers", header.e_shoff, entry)?;
        let zero = SectionHeader::parse_from(&first, 0, 1, ctx).map_err(&error)?;
        count = zero.first().map_or(0, |s| s.sh_size);
    }
    let len = count.saturating_mul(entry);
    let bytes = table(file, "section headers", header.e_shoff, len)?;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    // `table` has checked that `count` headers are in the file, so this does not truncate.
    SectionHeader::parse_from(&bytes, 0, count as usize, ctx).map_err(error)
}

fn read_segments(
    file: &dyn ReadAt,
    header: &Header,
    ctx: Ctx,
) -> Result<Vec<ProgramHeader>, Error> {
    if header.e_phoff == 0 || header.e_phnum == 0 {
        return Ok(Vec::new());
    }
    let count = usize::from(header.e_phnum);
    let len = (count * ProgramHeader::size(ctx)) as u64;
    let bytes = table(file, "program headers", header.e_phoff, len)?;
    ProgramHeader::parse(&bytes, 0, count, ctx)
        .map_err(goblin_error("program headers", header.e_phoff))
}

/// Reads the defined symbols and the string table.
fn read_symbols(
    file: &dyn ReadAt,
    sections: &[SectionHeader],
    descriptors: Option<&Descriptors>,
    ctx: Ctx,
) -> Result<(Vec<Entry>, Vec<u8>), Error> {
    let Some(symtab) = sections.iter().find(|s| s.sh_type == SHT_SYMTAB) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let Some(strtab) = sections
        .get(symtab.sh_link as usize)
        .filter(|s| s.sh_type == SHT_STRTAB)
    else {
        return Err(bad(
            "symbol table",
            symtab.sh_offset,
            format!("sh_link {}", symtab.sh_link),
            "index of a string table",
        ));
    };
    let strings = table(file, "symbol names", strtab.sh_offset, strtab.sh_size)?;
    let bytes = table(file, "symbol table", symtab.sh_offset, symtab.sh_size)?;
    let count = bytes.len() / Sym::size(ctx.container);
    let raw = Sym::parse(&bytes, 0, count, ctx)
        .map_err(goblin_error("symbol table", symtab.sh_offset))?;
    let entries = raw
        .iter()
        .filter(|sym| sym.st_shndx != SHN_UNDEF as usize)
        .filter(|sym| !matches!(sym.st_type(), STT_FILE | STT_SECTION))
        .filter_map(|sym| {
            let tail = strings.get(sym.st_name..)?;
            let len = tail.iter().position(|b| *b == 0)?;
            if len == 0 {
                return None;
            }
            // The string table has at most TABLE_LIMIT bytes.
            let name = sym.st_name as u32..(sym.st_name + len) as u32;
            Some(Entry {
                name,
                symbol: Symbol {
                    value: sym.st_value,
                    size: sym.st_size,
                    absolute: sym.st_shndx == SHN_ABS as usize,
                    kind: match sym.st_type() {
                        STT_FUNC => SymbolKind::Function,
                        STT_OBJECT => SymbolKind::Object,
                        STT_NOTYPE => SymbolKind::Label,
                        _ => SymbolKind::Other,
                    },
                },
                code: match descriptors.filter(|d| d.contains(sym.st_value)) {
                    Some(descriptors) => descriptors.code(sym.st_value),
                    None => sections
                        .get(sym.st_shndx)
                        .is_none_or(|s| s.sh_flags & u64::from(SHF_EXECINSTR) != 0)
                        .then_some(sym.st_value),
                },
                global: sym.st_bind() != goblin::elf::sym::STB_LOCAL,
            })
        })
        .collect();
    Ok((entries, strings))
}

/// Whether a label is a mapping symbol, which separates code from data (`$a`, `$d`, `$t`, `$x`), or a
/// local label of a compiler (`.L`, `$L`).
fn is_marker(name: &[u8]) -> bool {
    match name {
        [b'$', b'a' | b'd' | b't' | b'x', rest @ ..] => {
            rest.is_empty() || rest[0] == b'.' || name.starts_with(b"$xrv")
        }
        [b'.' | b'$', b'L', ..] => true,
        _ => false,
    }
}

/// Returns the name of a function. On powerpc64 with descriptors, the symbol of the code starts with a
/// dot.
fn code_name(machine: ElfMachine, name: &str) -> &str {
    match machine {
        ElfMachine::EM_PPC64 => name.strip_prefix('.').unwrap_or(name),
        _ => name,
    }
}

/// Reads the names of the sections, or returns `None` if they cannot be read.
fn section_names(
    file: &dyn ReadAt,
    header: &Header,
    sections: &[SectionHeader],
) -> Option<Vec<u8>> {
    const SHN_XINDEX: u16 = 0xffff;
    let index = match (header.e_shstrndx, sections.first()) {
        (SHN_XINDEX, Some(zero)) => zero.sh_link as usize,
        (index, _) => usize::from(index),
    };
    let names = sections.get(index).filter(|s| s.sh_type == SHT_STRTAB)?;
    table(file, "section names", names.sh_offset, names.sh_size).ok()
}

/// Returns the NUL-terminated name at `at` of `names`.
fn name_at(names: &[u8], at: usize) -> Option<&str> {
    let tail = names.get(at..)?;
    let len = tail.iter().position(|b| *b == 0)?;
    std::str::from_utf8(&tail[..len]).ok()
}

/// Returns the sections that have names, or none if the names cannot be read. Only type information
/// needs them.
fn named_sections(file: &dyn ReadAt, header: &Header, sections: &[SectionHeader]) -> Vec<Section> {
    const SHF_COMPRESSED: u64 = 0x800;
    let Some(names) = section_names(file, header, sections) else {
        return Vec::new();
    };
    sections
        .iter()
        .filter_map(|section| {
            Some(Section {
                name: name_at(&names, section.sh_name)
                    .filter(|name| !name.is_empty())?
                    .into(),
                offset: section.sh_offset,
                size: match section.sh_type {
                    SHT_NOBITS => 0,
                    _ => section.sh_size,
                },
                compressed: section.sh_flags & SHF_COMPRESSED != 0,
            })
        })
        .collect()
}

fn section_piece(section: &SectionHeader) -> Option<Piece> {
    let is_loaded = section.sh_flags & u64::from(SHF_ALLOC) != 0 && section.sh_size > 0;
    is_loaded.then_some(Piece {
        va: section.sh_addr,
        len: section.sh_size,
        offset: section.sh_offset,
        file_len: if section.sh_type == SHT_NOBITS {
            0
        } else {
            section.sh_size
        },
    })
}

fn segment_piece(segment: &ProgramHeader) -> Option<Piece> {
    let is_loaded = segment.p_type == goblin::elf::program_header::PT_LOAD && segment.p_memsz > 0;
    is_loaded.then_some(Piece {
        va: segment.p_vaddr,
        len: segment.p_memsz,
        offset: segment.p_offset,
        file_len: segment.p_filesz.min(segment.p_memsz),
    })
}

#[cfg(test)]
mod tests;
