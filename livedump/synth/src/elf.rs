//! Writes a kernel ELF file.
//!
//! ELF-64, or ELF-32 on i386: little-endian, ET_EXEC, OSABI FreeBSD, with program headers for what
//! is loaded, sections for what tools read, and a symbol table with local symbols first.

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

/// Sizes that depend on the ELF class.
struct Class {
    wide: bool,
    ehdr: usize,
    phdr: usize,
    shdr: usize,
    sym: usize,
}

const ELF64: Class = Class {
    wide: true,
    ehdr: 64,
    phdr: 56,
    shdr: 64,
    sym: 24,
};
const ELF32: Class = Class {
    wide: false,
    ehdr: 52,
    phdr: 32,
    shdr: 40,
    sym: 16,
};
/// The only supported machine with ELF-32 kernels.
const EM_386: u16 = 3;
const PAGE: usize = 4096;

/// A growing byte buffer.
struct Out {
    bytes: Vec<u8>,
    wide: bool,
}

impl Out {
    fn new(class: &Class) -> Self {
        Self {
            bytes: Vec::new(),
            wide: class.wide,
        }
    }
    /// An address, an offset or a size.
    fn word(&mut self, v: u64) -> &mut Self {
        if self.wide {
            self.u64(v)
        } else {
            self.u32(v as u32)
        }
    }
    fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes.extend(v.to_le_bytes());
        self
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes.extend(v.to_le_bytes());
        self
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes.extend(v.to_le_bytes());
        self
    }
    fn align(&mut self, to: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
        self.bytes.len() as u64
    }
    fn section(&mut self, h: &Header) {
        self.u32(h.name)
            .u32(h.kind)
            .word(h.flags)
            .word(h.addr)
            .word(h.offset)
            .word(h.size)
            .u32(h.link)
            .u32(h.info)
            .word(h.align)
            .word(h.entsize);
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

/// Writes the file. `machine` is `e_machine`, `extra` are names and contents of sections that are not
/// loaded.
pub(crate) fn write(
    machine: u16,
    entry: u64,
    sections: &[Section],
    symbols: &[Symbol],
    extra: &[(&'static str, Vec<u8>)],
) -> Vec<u8> {
    let class = if machine == EM_386 { ELF32 } else { ELF64 };
    let mut names = Names::new();
    let mut headers = vec![Header::default()];
    let mut out = Out::new(&class);
    out.bytes
        .resize(class.ehdr + class.phdr * sections.len(), 0);

    for section in sections {
        let nobits = section.bytes.is_empty();
        let offset = if nobits {
            // No bytes here, but address and offset must agree modulo the page size.
            out.bytes.len().next_multiple_of(PAGE) as u64
        } else {
            out.align(PAGE)
        };
        out.bytes.extend(&section.bytes);
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
    let mut table = Out::new(&class);
    table.bytes.resize(class.sym, 0);
    let mut locals = 1;
    for global in [false, true] {
        for symbol in symbols.iter().filter(|s| s.global == global) {
            let kind = match symbol.home {
                Home::Absolute => 0,
                Home::Section(_) if symbol.function => 2,
                // A marker such as `_end`.
                Home::Section(_) if symbol.size == 0 => 0,
                Home::Section(_) => 1,
            };
            let index = match symbol.home {
                Home::Absolute => 0xfff1,
                Home::Section(i) => i as u16 + 1,
            };
            table.u32(strings.add(&symbol.name));
            let info = [u8::from(global) << 4 | kind, 0];
            if class.wide {
                table.bytes.extend(info);
                table.u16(index).u64(symbol.value).u64(symbol.size);
            } else {
                table.word(symbol.value).word(symbol.size);
                table.bytes.extend(info);
                table.u16(index);
            }
        }
        if !global {
            locals = (table.bytes.len() / class.sym) as u32;
        }
    }

    let symtab = out.align(8);
    out.bytes.extend(&table.bytes);
    headers.push(Header {
        name: names.add(".symtab"),
        kind: 2,
        offset: symtab,
        size: table.bytes.len() as u64,
        link: sections.len() as u32 + 2,
        info: locals,
        align: 8,
        entsize: class.sym as u64,
        ..Header::default()
    });
    let strtab = out.bytes.len() as u64;
    out.bytes.extend(&strings.0);
    headers.push(Header {
        name: names.add(".strtab"),
        kind: 3,
        offset: strtab,
        size: strings.0.len() as u64,
        align: 1,
        ..Header::default()
    });
    for (section, bytes) in extra {
        let offset = out.align(8);
        out.bytes.extend(bytes);
        headers.push(Header {
            name: names.add(section),
            kind: 1,
            offset,
            size: bytes.len() as u64,
            align: 8,
            ..Header::default()
        });
    }
    let name = names.add(".shstrtab");
    headers.push(Header {
        name,
        kind: 3,
        offset: out.bytes.len() as u64,
        size: names.0.len() as u64,
        align: 1,
        ..Header::default()
    });
    out.bytes.extend(&names.0);
    let shoff = out.align(8);
    for header in &headers {
        out.section(header);
    }

    let mut head = Out::new(&class);
    head.bytes.extend([
        0x7f,
        b'E',
        b'L',
        b'F',
        if class.wide { 2 } else { 1 },
        1,
        1,
        9,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    head.u16(2).u16(machine).u32(1).word(entry);
    head.word(class.ehdr as u64).word(shoff).u32(0);
    head.u16(class.ehdr as u16)
        .u16(class.phdr as u16)
        .u16(sections.len() as u16);
    head.u16(class.shdr as u16)
        .u16(headers.len() as u16)
        .u16(headers.len() as u16 - 1);
    for (section, header) in sections.iter().zip(&headers[1..]) {
        let flags = 4 | u32::from(section.write) << 1 | u32::from(section.execute);
        head.u32(1);
        if class.wide {
            head.u32(flags);
        }
        head.word(header.offset).word(section.va).word(section.pa);
        head.word(section.bytes.len() as u64).word(section.size);
        if !class.wide {
            head.u32(flags);
        }
        head.word(4096);
    }
    out.bytes[..head.bytes.len()].copy_from_slice(&head.bytes);
    out.bytes
}
