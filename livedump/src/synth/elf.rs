//! A kernel ELF file, written.
//!
//! ELF-64, little endian, ET_EXEC, OSABI FreeBSD: program headers for what is loaded, sections for
//! what tools look for, a symbol table with local symbols first.

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In the section of this index (0 is the first that was added).
    Section(usize),
    /// SHN_ABS.
    Absolute,
}

/// A symbol to be written.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) function: bool,
    pub(crate) global: bool,
    pub(crate) home: Home,
}

/// A loaded section. Each is its own PT_LOAD.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) va: u64,
    pub(crate) pa: u64,
    /// Bytes in the file; empty for `.bss`.
    pub(crate) bytes: Vec<u8>,
    /// Bytes in memory.
    pub(crate) size: u64,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
const SYM: usize = 24;
const PAGE: usize = 4096;

/// Bytes, grown at the end.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn align(&mut self, to: usize) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self.0.len() as u64
    }
    fn section(&mut self, h: &Header) {
        self.u32(h.name)
            .u32(h.kind)
            .u64(h.flags)
            .u64(h.addr)
            .u64(h.offset)
            .u64(h.size)
            .u32(h.link)
            .u32(h.info)
            .u64(h.align)
            .u64(h.entsize);
    }
}

/// One section header.
#[derive(Default)]
struct Header {
    name: u32,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entsize: u64,
}

/// A table of NUL-terminated names.
struct Names(Vec<u8>);

impl Names {
    fn new() -> Self {
        Self(vec![0])
    }
    fn add(&mut self, name: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend(name.as_bytes());
        self.0.push(0);
        at
    }
}

/// Writes the file. `machine` is `e_machine`.
pub(crate) fn write(machine: u16, entry: u64, sections: &[Section], symbols: &[Symbol]) -> Vec<u8> {
    let mut names = Names::new();
    let mut headers = vec![Header::default()];
    let mut out = Out::default();
    out.0.resize(EHDR + PHDR * sections.len(), 0);

    for section in sections {
        let nobits = section.bytes.is_empty();
        let offset = if nobits {
            // Nothing lies there, but address and offset agree within a page.
            out.0.len().next_multiple_of(PAGE) as u64
        } else {
            out.align(PAGE)
        };
        out.0.extend(&section.bytes);
        headers.push(Header {
            name: names.add(section.name),
            kind: if nobits { 8 } else { 1 },
            flags: 2 | u64::from(section.write) | u64::from(section.execute) << 2,
            addr: section.va,
            offset,
            size: section.size,
            align: 4096,
            ..Header::default()
        });
    }

    let mut strings = Names::new();
    let mut table = Out::default();
    table.0.resize(SYM, 0);
    let mut locals = 1;
    for global in [false, true] {
        for symbol in symbols.iter().filter(|s| s.global == global) {
            let kind = match symbol.home {
                Home::Absolute => 0,
                Home::Section(_) if symbol.function => 2,
                // A mark such as `_end`.
                Home::Section(_) if symbol.size == 0 => 0,
                Home::Section(_) => 1,
            };
            let index = match symbol.home {
                Home::Absolute => 0xfff1,
                Home::Section(i) => i as u16 + 1,
            };
            table.u32(strings.add(&symbol.name));
            table.0.extend([u8::from(global) << 4 | kind, 0]);
            table.u16(index).u64(symbol.value).u64(symbol.size);
        }
        if !global {
            locals = (table.0.len() / SYM) as u32;
        }
    }

    let symtab = out.align(8);
    out.0.extend(&table.0);
    headers.push(Header {
        name: names.add(".symtab"),
        kind: 2,
        offset: symtab,
        size: table.0.len() as u64,
        link: sections.len() as u32 + 2,
        info: locals,
        align: 8,
        entsize: SYM as u64,
        ..Header::default()
    });
    let strtab = out.0.len() as u64;
    out.0.extend(&strings.0);
    headers.push(Header {
        name: names.add(".strtab"),
        kind: 3,
        offset: strtab,
        size: strings.0.len() as u64,
        align: 1,
        ..Header::default()
    });
    let name = names.add(".shstrtab");
    headers.push(Header {
        name,
        kind: 3,
        offset: out.0.len() as u64,
        size: names.0.len() as u64,
        align: 1,
        ..Header::default()
    });
    out.0.extend(&names.0);
    let shoff = out.align(8);
    for header in &headers {
        out.section(header);
    }

    let mut head = Out::default();
    head.0
        .extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.u16(2).u16(machine).u32(1).u64(entry);
    head.u64(EHDR as u64).u64(shoff).u32(0);
    head.u16(EHDR as u16)
        .u16(PHDR as u16)
        .u16(sections.len() as u16);
    head.u16(SHDR as u16)
        .u16(headers.len() as u16)
        .u16(headers.len() as u16 - 1);
    for (section, header) in sections.iter().zip(&headers[1..]) {
        let flags = 4 | u32::from(section.write) << 1 | u32::from(section.execute);
        head.u32(1).u32(flags).u64(header.offset);
        head.u64(section.va).u64(section.pa);
        head.u64(section.bytes.len() as u64).u64(section.size);
        head.u64(4096);
    }
    out.0[..head.0.len()].copy_from_slice(&head.0);
    out.0
}
