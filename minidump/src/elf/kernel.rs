//! A kernel file: its symbols and contents.

use std::ops::Range;
use std::sync::Arc;

use goblin::elf::Sym;
use goblin::elf::section_header::{SHN_ABS, SHN_UNDEF, SHT_STRTAB, SHT_SYMTAB};
use goblin::elf::sym::{STB_LOCAL, STT_FILE, STT_FUNC, STT_NOTYPE, STT_OBJECT, STT_SECTION};
use livecore_compress::ReadAt;
use livecore_defs::elf::{PF_X, PT_LOAD};

use crate::elf::descriptors::Descriptors;
use crate::elf::headers::{Head, Section, Segment, name_at};
use crate::elf::memory::Memory;
use crate::elf::sections::{SHF_ALLOC, SHF_EXECINSTR};
use crate::elf::table::{Piece, bad, open, read_sections, table};
use crate::{ByteOrder, ElfMachine, Error, VirtAddr};

/// The maximum number of labels in one function.
const LABELS_OF_FUNCTION: usize = 256;
/// The memory limit of [`KernelElf::parse`].
const MEMORY: u64 = 256 << 20;
/// Maximum total size of the names of all symbols, as a multiple of the size of the string table.
/// Names can overlap, but a linker shares only their ends.
const SHARED_NAMES: u64 = 8;

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
    /// Whether it is global or weak, and not local to one source file.
    pub global: bool,
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
}

/// A kernel's ELF file.
pub struct KernelElf {
    file: Arc<dyn ReadAt>,
    /// The number of bytes that sections may use in memory.
    memory: u64,
    head: Head,
    strings: Vec<u8>,
    symbols: Vec<Entry>,
    /// Indices into `symbols`, sorted by name. A global symbol precedes local ones of the same name.
    by_name: Vec<u32>,
    /// Indices of functions and labels in text, sorted by address.
    by_value: Vec<u32>,
    sections: Vec<Section>,
    /// The contents of sections, then those of segments.
    pieces: Vec<Piece>,
    /// Executable sections, or executable segments in a file without sections; ascending.
    text: Vec<Range<VirtAddr>>,
    /// The end of the highest executable section or segment.
    text_end: VirtAddr,
    /// Whether functions have descriptors but none could be read.
    unread_descriptors: bool,
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

    /// Opens an ELF file of either class and byte order, with at most 256 MiB of memory for its tables.
    ///
    /// # Errors
    ///
    /// Those of [`KernelElf::parse_within`].
    pub fn parse(file: Arc<dyn ReadAt>) -> Result<Self, Error> {
        Self::parse_within(file, MEMORY)
    }

    /// Opens an ELF file of either class and byte order. `memory` is the maximum number of bytes for
    /// tables of the file and for sections that are read later.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the tables need more memory, [`Error::Unsupported`] if it is not an ELF
    /// file, [`Error::Broken`] if a table of it is not in the file, [`Error::Io`] if it cannot be read.
    pub fn parse_within(file: Arc<dyn ReadAt>, memory: u64) -> Result<Self, Error> {
        let memory = Memory::new(memory);
        let head = open(&*file, "kernel file")?;
        let sections = read_sections(&*file, &head, &memory)?;
        let segments = read_segments(&*file, &head, &memory)?;
        let descriptors = Descriptors::read(&*file, &head, &sections, &memory);
        let symbols = read_symbols(&*file, &head, &sections, descriptors.as_ref(), &memory);
        let (symbols, strings) = symbols?;
        let range = |start: u64, len: u64| VirtAddr(start)..VirtAddr(start.saturating_add(len));
        let code = sections.iter().filter(|s| s.flags & SHF_EXECINSTR != 0);
        let mut text: Vec<_> = code.map(|s| range(s.address, s.size)).collect();
        let code = segments.iter().filter(|p| p.flags & PF_X != 0);
        let text_end = text
            .iter()
            .map(|range| range.end)
            .chain(code.clone().map(|p| range(p.vaddr, p.memsz).end))
            .max()
            .unwrap_or(VirtAddr::MAX);
        if sections.is_empty() {
            let loads = code.filter(|p| p.kind == PT_LOAD);
            text.extend(loads.map(|p| range(p.vaddr, p.memsz)));
        }
        text.retain(|range| !range.is_empty());
        text.sort_by_key(|range| range.start);
        let pieces = sections.iter().filter_map(section_piece);
        let mut elf = Self {
            head,
            strings,
            symbols,
            by_name: Vec::new(),
            by_value: Vec::new(),
            pieces: pieces
                .chain(segments.iter().filter_map(segment_piece))
                .collect(),
            sections,
            file,
            memory: memory.left(),
            text,
            text_end,
            unread_descriptors: descriptors.is_some_and(|d| d.is_empty()),
        };
        elf.index();
        Ok(elf)
    }

    fn index(&mut self) {
        // There are fewer than 2^32 symbols, because a string table of 4 GiB is refused.
        let mut by_name: Vec<u32> = (0..self.symbols.len() as u32).collect();
        by_name.sort_by(|&a, &b| {
            let (a, b) = (&self.symbols[a as usize], &self.symbols[b as usize]);
            (self.name_bytes(a), b.symbol.global).cmp(&(self.name_bytes(b), a.symbol.global))
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
                entry.symbol.global,
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
    pub fn lookup(&self, va: VirtAddr) -> Option<(&str, u64)> {
        if va >= self.text_end {
            return None;
        }
        let va = va.0;
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let index = *self.by_value.get(after.checked_sub(1)?)?;
        let name = self.name(&self.symbols[index as usize]);
        Some((code_name(self.head.machine, name), va - self.code(index)))
    }

    /// The address of the code of a symbol in `by_value`.
    fn code(&self, index: u32) -> u64 {
        // All symbols in `by_value` have code.
        self.symbols[index as usize].code.unwrap_or(0)
    }

    /// Returns the start of the last function at or before `va`. Labels are not functions.
    pub fn function_start(&self, va: VirtAddr) -> Option<VirtAddr> {
        if va >= self.text_end {
            return None;
        }
        let va = va.0;
        let is_function = |i: &&u32| self.symbols[**i as usize].symbol.kind == SymbolKind::Function;
        let after = self.by_value.partition_point(|&i| self.code(i) <= va);
        let mut near = self.by_value[..after].iter().rev().take(LABELS_OF_FUNCTION);
        near.find(is_function).map(|&i| VirtAddr(self.code(i)))
    }

    /// The linked addresses of code, ascending: the executable sections, or the executable segments
    /// of a file without sections. They can overlap in a damaged file.
    pub fn text(&self) -> &[Range<VirtAddr>] {
        &self.text
    }

    /// The end of the highest executable section or segment, or the highest address without one.
    pub fn text_end(&self) -> VirtAddr {
        self.text_end
    }

    /// The lowest linked address of a section or segment.
    pub fn lowest_address(&self) -> Option<VirtAddr> {
        self.pieces.iter().map(|piece| VirtAddr(piece.va)).min()
    }

    /// Returns `len` bytes of contents at linked address `va`, or `None` if no section or segment has
    /// all of them or they cannot be read.
    pub fn bytes_at(&self, va: VirtAddr, len: usize) -> Option<Contents> {
        let va = va.0;
        let end = va.checked_add(len as u64)?;
        let has_all = |p: &&Piece| p.va <= va && p.len >= end - p.va;
        let piece = self.pieces.iter().find(has_all)?;
        let skip = va - piece.va;
        let in_file = piece.file_len.saturating_sub(skip).min(len as u64);
        // A piece without contents can have any length.
        let mut bytes = Memory::new(self.memory)
            .zeros("contents", len as u64)
            .ok()?;
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

    /// The sections, in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The number of bytes that contents of sections may use in memory: the limit of
    /// [`KernelElf::parse_within`] without the symbols and headers.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn ReadAt> {
        &self.file
    }

    /// Whether the file is ELF64.
    pub fn is_64(&self) -> bool {
        self.head.class.word == 8
    }

    /// The size of a pointer in bytes.
    pub fn pointer_size(&self) -> usize {
        self.head.class.word
    }

    /// The byte order.
    pub fn order(&self) -> ByteOrder {
        self.head.order
    }

    /// `e_machine`
    pub fn machine(&self) -> ElfMachine {
        self.head.machine
    }

    /// `EI_OSABI`: 9 for FreeBSD.
    pub fn osabi(&self) -> u8 {
        self.head.osabi
    }

    /// `e_type`: 2 for an executable, 3 for a shared object (powerpc's kernel).
    pub fn elf_type(&self) -> u16 {
        self.head.elf_type
    }

    /// `e_flags`.
    pub fn flags(&self) -> u32 {
        self.head.flags
    }

    /// `e_entry`: the entry point.
    pub fn entry(&self) -> VirtAddr {
        VirtAddr(self.head.entry)
    }
}

impl std::fmt::Debug for KernelElf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelElf")
            .field("head", &self.head)
            .field("symbols", &self.symbols.len())
            .finish_non_exhaustive()
    }
}

fn read_segments(file: &dyn ReadAt, head: &Head, memory: &Memory) -> Result<Vec<Segment>, Error> {
    if head.phoff == 0 || head.phnum == 0 {
        return Ok(Vec::new());
    }
    let len = head.segment_count(file, "kernel ELF")? * head.class.phdr as u64;
    // A header takes at most four times its size in memory.
    memory.take("program headers", len.saturating_mul(4))?;
    head.segments(&table(file, memory, "program headers", head.phoff, len)?)
}

/// Reads the defined symbols and the string table.
fn read_symbols(
    file: &dyn ReadAt,
    head: &Head,
    sections: &[Section],
    descriptors: Option<&Descriptors>,
    memory: &Memory,
) -> Result<(Vec<Entry>, Vec<u8>), Error> {
    // The parsed symbol, its entry, and its place in two indices.
    const PARSED: usize = size_of::<Sym>() + size_of::<Entry>() + 2 * size_of::<u32>();
    let Some(symtab) = sections.iter().find(|s| s.kind == SHT_SYMTAB) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let Some(strtab) = sections
        .get(symtab.link as usize)
        .filter(|s| s.kind == SHT_STRTAB)
    else {
        return Err(bad(
            "symbol table",
            symtab.offset,
            format!("sh_link {}", symtab.link),
            "index of a string table",
        ));
    };
    let ctx = head.context();
    let symbol = Sym::size(ctx.container);
    let count = symtab.size / symbol as u64;
    memory.take("symbol table", count.saturating_mul(PARSED as u64))?;
    let strings = table(file, memory, "symbol names", strtab.offset, strtab.size)?;
    let bytes = table(file, memory, "symbol table", symtab.offset, symtab.size)?;
    let count = bytes.len() / symbol;
    let mut names = strtab.size.saturating_mul(SHARED_NAMES);
    let raw = Sym::parse(&bytes, 0, count, ctx)
        .map_err(|e| bad("symbol table", symtab.offset, e.to_string(), "valid table"))?;
    let entries = raw
        .iter()
        .filter(|sym| sym.st_shndx != SHN_UNDEF as usize)
        .filter(|sym| !matches!(sym.st_type(), STT_FILE | STT_SECTION))
        .filter_map(|sym| {
            if names == 0 {
                return None;
            }
            let len = name_at(&strings, sym.st_name)?.len();
            names = names.saturating_sub(len as u64);
            if len == 0 {
                return None;
            }
            // `Memory` allows less than 4 GiB.
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
                    global: sym.st_bind() != STB_LOCAL,
                },
                code: match descriptors.filter(|d| d.contains(sym.st_value)) {
                    Some(descriptors) => descriptors.code(sym.st_value),
                    None => sections
                        .get(sym.st_shndx)
                        .is_none_or(|s| s.flags & SHF_EXECINSTR != 0)
                        .then_some(sym.st_value),
                },
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

fn section_piece(section: &Section) -> Option<Piece> {
    let is_loaded = section.flags & SHF_ALLOC != 0 && section.size > 0;
    is_loaded.then_some(Piece {
        va: section.address,
        len: section.size,
        offset: section.offset,
        file_len: section.file_size(),
    })
}

fn segment_piece(segment: &Segment) -> Option<Piece> {
    let is_loaded = segment.kind == PT_LOAD && segment.memsz > 0;
    is_loaded.then_some(Piece {
        va: segment.vaddr,
        len: segment.memsz,
        offset: segment.offset,
        file_len: segment.filesz.min(segment.memsz),
    })
}
