//! A kernel's ELF file: symbols, and the contents that it was linked with.
//!
//! Only headers, the symbol table and its strings are read; contents are read on demand. Real
//! kernels are stripped of debug information, and a reduced file may have symbols only: no
//! contents, no program headers.

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

/// The most labels that are taken for parts of one function.
const LABELS_OF_FUNCTION: usize = 256;
/// The most bytes of a table (symbols, their names, headers) that are read into memory.
const TABLE_LIMIT: u64 = 256 << 20;

/// What a symbol names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A variable.
    Object,
    /// A label of the assembler's or the linker's.
    Label,
    /// Anything else.
    Other,
}

/// A symbol of the kernel, global or local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its link-time address, or its value if it is absolute.
    pub value: u64,
    /// Bytes, as far as the linker knew; 0 otherwise.
    pub size: u64,
    /// A number and no address (`SHN_ABS`): `kernphys` of 12.1.
    pub absolute: bool,
    /// What it names.
    pub kind: SymbolKind,
}

/// Bytes that a kernel was linked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether all of them are in the file. The others (`.bss`) are the zeros that a kernel starts
    /// with, and say nothing about what is there later.
    pub in_file: bool,
}

struct Entry {
    /// Where the name lies in the strings.
    name: Range<u32>,
    symbol: Symbol,
    /// Where its code is, if it names any: it lies in an executable section (or there are no
    /// sections to ask), or a function's descriptor leads there.
    code: Option<u64>,
    global: bool,
}

/// A piece of the address space and where its contents are.
struct Piece {
    va: u64,
    len: u64,
    /// Offset in the file, and how many bytes are there; the rest is zero.
    offset: u64,
    file_len: u64,
}

/// Where a section's contents are in a kernel's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The section's name.
    pub name: String,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file: none of `.bss`, and none where contents were taken out.
    pub size: u64,
    /// `SHF_COMPRESSED`: the contents begin with a `Chdr`.
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
    /// Indices into `symbols`, by name; of one name the global first.
    by_name: Vec<u32>,
    /// Indices of functions and labels in text, by value.
    by_value: Vec<u32>,
    sections: Vec<Piece>,
    segments: Vec<Piece>,
    named: Vec<Section>,
    /// Executable sections, or segments where there are no sections; ascending.
    text: Vec<Range<u64>>,
    /// The end of the highest executable section or segment.
    text_end: u64,
    /// Whether functions have descriptors of which none could be read.
    unread_descriptors: bool,
}

fn bad(region: &str, offset: u64, found: impl Into<String>, expected: &str) -> Error {
    Error::broken(format!("kernel ELF, {region}"), offset, found, expected)
}

/// Bytes `offset..offset + len` of the file, which must have them.
fn table(file: &dyn ReadAt, region: &str, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let size = file.size()?;
    if offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(bad(
            region,
            offset,
            format!("{len:#x} bytes"),
            &format!("an end within the file's {size:#x} bytes"),
        ));
    }
    let len = usize::try_from(len.min(TABLE_LIMIT + 1)).unwrap_or(usize::MAX);
    if len as u64 > TABLE_LIMIT {
        return Err(Error::Options(format!(
            "kernel ELF, {region}: more than {TABLE_LIMIT:#x} bytes"
        )));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn goblin_error(region: &'static str, offset: u64) -> impl Fn(goblin::error::Error) -> Error {
    move |e| bad(region, offset, e.to_string(), "a well-formed table")
}

/// The header of an ELF file, and how its tables are to be read.
struct Opened {
    header: Header,
    ctx: Ctx,
    order: ByteOrder,
}

/// Reads the header of a file, which errors call `what`.
fn open(file: &dyn ReadAt, what: &str) -> Result<Opened, Error> {
    let mut head = [0; 64];
    let got = file.read_full_at(&mut head, 0)?;
    if !head[..got].starts_with(b"\x7fELF") {
        return Err(Error::Unsupported {
            what: format!(
                "{what} that is no ELF: it begins with {}",
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

/// How tables of a class and byte order are to be read.
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
        // Symbols are fewer than 2^32: their table has at most TABLE_LIMIT bytes.
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
        // Of several names for one address the last is taken: functions rank above labels, then
        // the larger, then global ones.
        by_value.sort_by_key(|&i| {
            let entry = &self.symbols[i as usize];
            (
                entry.code,
                entry.symbol.kind == SymbolKind::Function,
                entry.symbol.size,
                entry.global,
            )
        });
        // Descriptors that cannot be read leave the labels of assembly code: everything else would
        // be named after one of those.
        let named = |i: &u32| self.symbols[*i as usize].symbol.kind == SymbolKind::Function;
        if self.unread_descriptors && !by_value.iter().any(named) {
            by_value.clear();
        }
        self.by_name = by_name;
        self.by_value = by_value;
    }

    fn name_bytes(&self, entry: &Entry) -> &[u8] {
        // Ranges were made from these strings.
        &self.strings[entry.name.start as usize..entry.name.end as usize]
    }

    fn name(&self, entry: &Entry) -> &str {
        std::str::from_utf8(self.name_bytes(entry)).unwrap_or("?")
    }

    /// The symbol of this name; a global one if there are several.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let first = self
            .by_name
            .partition_point(|&i| self.name_bytes(&self.symbols[i as usize]) < name.as_bytes());
        let entry = &self.symbols[*self.by_name.get(first)? as usize];
        (self.name_bytes(entry) == name.as_bytes()).then_some(entry.symbol)
    }

    /// Every defined symbol with its name, in the order of the file.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Symbol)> + '_ {
        self.symbols.iter().map(|e| (self.name(e), e.symbol))
    }

    /// Whether it names any function or label in text.
    pub fn has_functions(&self) -> bool {
        !self.by_value.is_empty()
    }

    /// The function (or label in text) that `va` lies in or behind, and how far.
    pub fn lookup(&self, va: u64) -> Option<(&str, u64)> {
        if va >= self.text_end {
            return None;
        }
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let index = *self.by_value.get(after.checked_sub(1)?)?;
        let name = self.name(&self.symbols[index as usize]);
        Some((code_name(self.machine, name), va - self.code(index)))
    }

    /// Where the code of a symbol in `by_value` is.
    fn code(&self, index: u32) -> u64 {
        // Those have some.
        self.symbols[index as usize].code.unwrap_or(0)
    }

    /// Where the function begins that `va` lies in or behind: labels within functions are none.
    pub fn function_start(&self, va: u64) -> Option<u64> {
        if va >= self.text_end {
            return None;
        }
        let is_function = |i: &&u32| self.symbols[**i as usize].symbol.kind == SymbolKind::Function;
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let mut near = self.by_value[..after].iter().rev().take(LABELS_OF_FUNCTION);
        near.find(is_function).map(|&i| self.code(i))
    }

    /// Link-time addresses of code: the executable sections, or the executable segments of a file
    /// without sections; ascending. They may overlap in a file that is broken.
    pub fn text(&self) -> &[Range<u64>] {
        &self.text
    }

    /// The end of the highest executable section or segment; the highest address if there is none.
    pub fn text_end(&self) -> u64 {
        self.text_end
    }

    /// The lowest link-time address that a section or segment has in memory.
    pub fn lowest_address(&self) -> Option<u64> {
        let pieces = self.sections.iter().chain(&self.segments);
        pieces.map(|piece| piece.va).min()
    }

    /// `len` bytes at link-time address `va`, as the file has them; `None` if no section or
    /// segment has all of them, or they cannot be read.
    pub fn bytes_at(&self, va: u64, len: usize) -> Option<Contents> {
        let end = va.checked_add(len as u64)?;
        let piece = self
            .sections
            .iter()
            .chain(&self.segments)
            .find(|p| p.va <= va && p.len >= end - p.va)?;
        let skip = va - piece.va;
        let there = piece.file_len.saturating_sub(skip).min(len as u64);
        // A piece without contents may claim any length: nobody needs that many zeros.
        if len as u64 > TABLE_LIMIT {
            return None;
        }
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(
                &mut bytes[..there as usize],
                piece.offset.checked_add(skip)?,
            )
            .ok()?;
        Some(Contents {
            bytes,
            in_file: there == len as u64,
        })
    }

    /// Every section with a name, in the order of the file.
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

    /// Bytes of a pointer.
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

    /// `e_entry`: where the kernel starts.
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
        // More than 65279 sections: section 0 says how many.
        let first = table(file, "section headers", header.e_shoff, entry)?;
        let zero = SectionHeader::parse_from(&first, 0, 1, ctx).map_err(&error)?;
        count = zero.first().map_or(0, |s| s.sh_size);
    }
    let len = count.saturating_mul(entry);
    let bytes = table(file, "section headers", header.e_shoff, len)?;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    // `table` has proved that `count` of them are there, so the number fits.
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

/// The symbol table's entries that define something, and their names.
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
            "the number of a string table",
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
            // Strings are fewer than TABLE_LIMIT bytes.
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

/// Whether a label names no place that people know: `$a`, `$d`, `$t` and `$x` tell code from data in
/// it, `.L` and `$L` are a compiler's own.
fn is_marker(name: &[u8]) -> bool {
    match name {
        [b'$', b'a' | b'd' | b't' | b'x', rest @ ..] => {
            rest.is_empty() || rest[0] == b'.' || name.starts_with(b"$xrv")
        }
        [b'.' | b'$', b'L', ..] => true,
        _ => false,
    }
}

/// A function's name: that of powerpc64's code begins with a dot where its descriptor has the name.
fn code_name(machine: ElfMachine, name: &str) -> &str {
    match machine {
        ElfMachine::EM_PPC64 => name.strip_prefix('.').unwrap_or(name),
        _ => name,
    }
}

/// The names of the sections; `None` if they cannot be had.
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

/// The NUL-terminated name at `at` of `names`.
fn name_at(names: &[u8], at: usize) -> Option<&str> {
    let tail = names.get(at..)?;
    let len = tail.iter().position(|b| *b == 0)?;
    std::str::from_utf8(&tail[..len]).ok()
}

/// The sections and their names; none if the names cannot be had, which nothing but types needs.
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
    let there = section.sh_flags & u64::from(SHF_ALLOC) != 0 && section.sh_size > 0;
    there.then_some(Piece {
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
    let there = segment.p_type == goblin::elf::program_header::PT_LOAD && segment.p_memsz > 0;
    there.then_some(Piece {
        va: segment.p_vaddr,
        len: segment.p_memsz,
        offset: segment.p_offset,
        file_len: segment.p_filesz.min(segment.p_memsz),
    })
}

#[cfg(test)]
mod tests;
