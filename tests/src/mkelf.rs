//! `mkelf`: kernel files from text.
//!
//! ```text
//! elf amd64                                  # ARCH as in mkdump
//! section .text 0xffffffff80200000 hex 55 48 89 e5
//! bss .bss 0xffffffff80300000 0x1000
//! symbol main 0xffffffff80200000 size 4 func # object (default), func, notype; local
//! symbol kernphys 0x200000 abs
//! type dyn                                   # exec (default), dyn, rel
//! entry 0xffffffff80200000
//! flags 0x20                                 # e_flags
//! nosegments                                 # no program headers
//! ```
//!
//! Sections named `.text*` are executable, others writable; those named `.rela*` are relocations.
//! The file has one PT_LOAD per section, `.symtab`, `.strtab` and `.shstrtab`. Numbers and contents
//! are written as in [`mkdump`](crate::mkdump).

use crate::mkdump::{BuildError, Content, Cursor, put_number};

type Result<T> = std::result::Result<T, BuildError>;

/// `SHN_ABS`.
const ABSOLUTE: u64 = 0xfff1;

#[derive(Debug)]
struct Section {
    name: String,
    va: u64,
    bytes: Vec<u8>,
    /// Size in memory.
    size: u64,
    /// `SHT_NOBITS`: no bytes in the file.
    bss: bool,
}

#[derive(Debug)]
struct Symbol {
    name: String,
    value: u64,
    size: u64,
    kind: u8,
    local: bool,
    absolute: bool,
}

#[derive(Debug, Default)]
struct Kernel {
    machine: u64,
    wide: bool,
    big: bool,
    kind: u64,
    entry: u64,
    flags: u64,
    segments: bool,
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
}

/// Builds the kernel file that `text` describes.
///
/// # Errors
///
/// The first invalid statement, with its line.
pub fn build(text: &str) -> Result<Vec<u8>> {
    let mut names = std::collections::BTreeMap::new();
    let mut kernel: Option<Kernel> = None;
    for (index, line) in text.lines().enumerate() {
        let known = names.clone();
        let mut cursor = Cursor::new(index + 1, line, &known);
        if cursor.is_empty() {
            continue;
        }
        let Some(kernel) = &mut kernel else {
            kernel = Some(first(&mut cursor)?);
            continue;
        };
        if cursor.eat("let") {
            let name = cursor.word("a name")?.to_owned();
            cursor.symbol('=', "=")?;
            names.insert(name, cursor.number()?);
            cursor.end()?;
        } else {
            statement(kernel, &mut cursor)?;
        }
    }
    match kernel {
        Some(kernel) => write(&kernel),
        None => Err(Cursor::new(0, "", &names).expected("elf ARCHITECTURE")),
    }
}

fn first(cursor: &mut Cursor<'_>) -> Result<Kernel> {
    if !cursor.eat("elf") {
        return Err(cursor.expected("elf ARCHITECTURE"));
    }
    let name = cursor.word("an architecture")?;
    let (machine, wide, big) = match name {
        "amd64" => (62, true, false),
        "arm64" => (183, true, false),
        "riscv64" => (243, true, false),
        "i386" | "i386pae" => (3, false, false),
        "arm" => (40, false, false),
        "powerpc64" => (21, true, true),
        "powerpc64le" => (21, true, false),
        "mips" => (8, false, true),
        "mipsel" => (8, false, false),
        "mips64" => (8, true, true),
        "mips64el" => (8, true, false),
        _ => {
            let (line, name) = (cursor.line, name.to_owned());
            return Err(BuildError::UnknownName {
                line,
                kind: "architecture",
                name,
            });
        }
    };
    cursor.end()?;
    // powerpc64 kernels are position independent: ET_DYN.
    let kind = if machine == 21 { 3 } else { 2 };
    Ok(Kernel {
        machine,
        wide,
        big,
        kind,
        segments: true,
        ..Kernel::default()
    })
}

fn statement(kernel: &mut Kernel, cursor: &mut Cursor<'_>) -> Result<()> {
    let line = cursor.line;
    match cursor.word("a statement")? {
        "section" => {
            let name = cursor.word("a section name")?.to_owned();
            let va = cursor.number()?;
            let content = Content::parse(cursor)?;
            let bytes = content.bytes(va, kernel.big, &std::collections::BTreeMap::new())?;
            let size = bytes.len() as u64;
            kernel.sections.push(Section {
                name,
                va,
                bytes,
                size,
                bss: false,
            });
        }
        "bss" => {
            let name = cursor.word("a section name")?.to_owned();
            let (va, size) = (cursor.number()?, cursor.number()?);
            kernel.sections.push(Section {
                name,
                va,
                bytes: Vec::new(),
                size,
                bss: true,
            });
        }
        "symbol" => kernel.symbols.push(symbol(cursor)?),
        "type" => {
            kernel.kind = match cursor.word("exec, dyn or rel")? {
                "exec" => 2,
                "dyn" => 3,
                "rel" => 1,
                _ => return Err(cursor.expected("exec, dyn or rel")),
            }
        }
        "entry" => kernel.entry = cursor.number()?,
        "flags" => kernel.flags = cursor.number()?,
        "nosegments" => kernel.segments = false,
        word => {
            let name = word.to_owned();
            return Err(BuildError::UnknownName {
                line,
                kind: "statement",
                name,
            });
        }
    }
    cursor.end()
}

fn symbol(cursor: &mut Cursor<'_>) -> Result<Symbol> {
    // Arm's mapping symbols: `$a`, `$d`.
    let prefix = if cursor.eat_symbol('$') { "$" } else { "" };
    let name = format!("{prefix}{}", cursor.word("a symbol name")?);
    let value = cursor.number()?;
    let mut symbol = Symbol {
        name,
        value,
        size: 0,
        kind: 1,
        local: false,
        absolute: false,
    };
    while !cursor.is_empty() {
        match cursor.word("size, func, object, notype, local or abs")? {
            "size" => symbol.size = cursor.number()?,
            "notype" => symbol.kind = 0,
            "object" => symbol.kind = 1,
            "func" => symbol.kind = 2,
            "local" => symbol.local = true,
            "abs" => symbol.absolute = true,
            _ => return Err(cursor.expected("size, func, object, notype, local or abs")),
        }
    }
    Ok(symbol)
}

/// Output in the kernel's ELF class and byte order.
struct Out<'a> {
    kernel: &'a Kernel,
    bytes: Vec<u8>,
}

impl Out<'_> {
    fn put(&mut self, value: u64, width: usize) -> Result<()> {
        put_number(&mut self.bytes, value, width, self.kernel.big, 0)
    }

    fn long(&mut self, value: u64) -> Result<()> {
        self.put(value, if self.kernel.wide { 8 } else { 4 })
    }

    fn align(&mut self, to: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
        self.bytes.len() as u64
    }
}

/// The fields of a section header.
struct Header {
    name: u64,
    kind: u64,
    flags: u64,
    va: u64,
    offset: u64,
    size: u64,
    link: u64,
    info: u64,
    align: u64,
    entry: u64,
}

fn write(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut out = Out {
        kernel,
        bytes: Vec::new(),
    };
    let wide = kernel.wide;
    let (ehdr, phdr, shdr): (u64, u64, u64) = if wide { (64, 56, 64) } else { (52, 32, 40) };
    let loads = if kernel.segments {
        kernel.sections.len() as u64
    } else {
        0
    };

    // Write the contents first: the headers need their offsets.
    out.bytes.resize((ehdr + phdr * loads) as usize, 0);
    let mut headers = Vec::new();
    let mut strings = vec![0u8];
    for section in &kernel.sections {
        // Offset and address are congruent modulo the page size, as loaders require.
        let page = (section.va % 0x1000) as usize;
        let at = out.bytes.len().next_multiple_of(0x1000) + page;
        if !section.bss {
            out.bytes.resize(at, 0);
            out.bytes.extend_from_slice(&section.bytes);
        }
        headers.push(Header {
            name: intern(&mut strings, &section.name),
            kind: match (section.bss, section.name.starts_with(".rela")) {
                (true, _) => 8,
                (false, true) => 4,
                (false, false) => 1,
            },
            // ALLOC and EXECINSTR, or ALLOC and WRITE.
            flags: if section.name.starts_with(".text") {
                6
            } else {
                3
            },
            va: section.va,
            offset: if section.bss {
                out.bytes.len() as u64
            } else {
                at as u64
            },
            size: section.size,
            link: 0,
            info: 0,
            align: 1,
            entry: 0,
        });
    }
    symbols(&mut out, &mut headers, &mut strings)?;
    let name = intern(&mut strings, ".shstrtab");
    let offset = out.align(1);
    out.bytes.extend_from_slice(&strings);
    headers.push(table(name, offset, strings.len()));

    let shoff = out.align(8);
    let count = headers.len() as u64 + 1;
    out.bytes.resize(out.bytes.len() + shdr as usize, 0);
    for header in &headers {
        section_header(&mut out, header)?;
    }
    let body = std::mem::take(&mut out.bytes);
    elf_header(&mut out, [ehdr, phdr, shdr], loads, shoff, count)?;
    for header in headers.iter().take(loads as usize) {
        segment(&mut out, header)?;
    }
    out.bytes.extend_from_slice(&body[out.bytes.len()..]);
    Ok(out.bytes)
}

fn intern(strings: &mut Vec<u8>, name: &str) -> u64 {
    let at = strings.len() as u64;
    strings.extend_from_slice(name.as_bytes());
    strings.push(0);
    at
}

fn table(name: u64, offset: u64, size: usize) -> Header {
    let size = size as u64;
    Header {
        name,
        kind: 3,
        flags: 0,
        va: 0,
        offset,
        size,
        link: 0,
        info: 0,
        align: 1,
        entry: 0,
    }
}

/// `.symtab` and `.strtab`: local symbols first.
fn symbols(out: &mut Out<'_>, headers: &mut Vec<Header>, strings: &mut Vec<u8>) -> Result<()> {
    let kernel = out.kernel;
    let wide = kernel.wide;
    let entry: u64 = if wide { 24 } else { 16 };
    let (local, global): (Vec<_>, Vec<_>) = kernel.symbols.iter().partition(|s| s.local);
    let offset = out.align(8);
    let mut text = vec![0u8];
    out.bytes.resize(out.bytes.len() + entry as usize, 0);
    for symbol in local.iter().chain(&global) {
        let name = intern(&mut text, &symbol.name);
        let contains = |s: &Section| symbol.value >= s.va && symbol.value - s.va < s.size.max(1);
        let section = kernel.sections.iter().position(contains);
        // A symbol outside all sections refers to the first one.
        let index = if symbol.absolute {
            ABSOLUTE
        } else {
            section.unwrap_or(0) as u64 + 1
        };
        let info = u64::from(!symbol.local) << 4 | u64::from(symbol.kind);
        out.put(name, 4)?;
        if wide {
            out.put(info, 1)?;
            out.put(0, 1)?;
            out.put(index, 2)?;
            out.put(symbol.value, 8)?;
            out.put(symbol.size, 8)?;
        } else {
            out.put(symbol.value, 4)?;
            out.put(symbol.size, 4)?;
            out.put(info, 1)?;
            out.put(0, 1)?;
            out.put(index, 2)?;
        }
    }
    let size = out.bytes.len() as u64 - offset;
    let string_table = headers.len() as u64 + 2;
    headers.push(Header {
        name: intern(strings, ".symtab"),
        kind: 2,
        flags: 0,
        va: 0,
        offset,
        size,
        link: string_table,
        info: local.len() as u64 + 1,
        align: 8,
        entry,
    });
    let at = out.align(1);
    out.bytes.extend_from_slice(&text);
    headers.push(table(intern(strings, ".strtab"), at, text.len()));
    Ok(())
}

fn elf_header(
    out: &mut Out<'_>,
    [ehdr, phdr, shdr]: [u64; 3],
    loads: u64,
    shoff: u64,
    sections: u64,
) -> Result<()> {
    let kernel = out.kernel;
    // EI_OSABI 9 is ELFOSABI_FREEBSD.
    out.bytes = vec![0x7f, b'E', b'L', b'F', 1, 1 + u8::from(kernel.big), 1, 9];
    out.bytes[4] += u8::from(kernel.wide);
    out.bytes.resize(16, 0);
    out.put(kernel.kind, 2)?;
    out.put(kernel.machine, 2)?;
    out.put(1, 4)?;
    out.long(kernel.entry)?;
    out.long(if loads == 0 { 0 } else { ehdr })?;
    out.long(shoff)?;
    out.put(kernel.flags, 4)?;
    for value in [ehdr, phdr, loads, shdr, sections, sections - 1] {
        out.put(value, 2)?;
    }
    Ok(())
}

fn segment(out: &mut Out<'_>, header: &Header) -> Result<()> {
    let filled = if header.kind == 8 { 0 } else { header.size };
    // R and X, or R and W.
    let flags = if header.flags == 6 { 5 } else { 6 };
    out.put(1, 4)?;
    if out.kernel.wide {
        out.put(flags, 4)?;
    }
    for value in [header.offset, header.va, header.va, filled, header.size] {
        out.long(value)?;
    }
    if !out.kernel.wide {
        out.put(flags, 4)?;
    }
    out.long(0x1000)
}

fn section_header(out: &mut Out<'_>, h: &Header) -> Result<()> {
    out.put(h.name, 4)?;
    out.put(h.kind, 4)?;
    for value in [h.flags, h.va, h.offset, h.size] {
        out.long(value)?;
    }
    out.put(h.link, 4)?;
    out.put(h.info, 4)?;
    out.long(h.align)?;
    out.long(h.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, width: usize, big: bool) -> u64 {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let bytes = &bytes[at..at + width];
        if big {
            bytes.iter().fold(0, fold)
        } else {
            bytes.iter().rev().fold(0, fold)
        }
    }

    const KERNEL: &str = "section .text 0x80200010 hex 55 48 89 e5
        bss .bss 0x80300000 0x2000
        symbol main 0x80200010 size 4 func
        symbol hidden 0x80300008 size 8 local
        symbol kernphys 0x200000 abs
        symbol nowhere 0x90000000
        entry 0x80200010";

    /// Class, offset and width of e_shoff, section header size, symbol size and the offsets of
    /// st_value and st_shndx are from the ELF specification.
    #[test]
    fn symbols_and_contents_are_at_the_offsets_in_the_headers() {
        for (arch, wide, big) in [("amd64", true, false), ("mips", false, true)] {
            let bytes = build(&format!("elf {arch}\n{KERNEL}")).unwrap();
            let get = |at: usize, width: usize| number(&bytes, at, width, big) as usize;
            let long = if wide { 8 } else { 4 };
            assert_eq!(
                (bytes[4], bytes[5]),
                (1 + u8::from(wide), 1 + u8::from(big))
            );
            let (shoff, shdr) = if wide {
                (get(40, 8), 64)
            } else {
                (get(32, 4), 40)
            };
            assert_eq!(
                get(if wide { 60 } else { 48 }, 2),
                6,
                "e_shnum: null, two sections, three tables"
            );
            let field =
                |index: usize, at: usize, width: usize| get(shoff + index * shdr + at, width);
            let offset = 8 + 2 * long;
            let text = field(1, offset, long);
            assert_eq!(bytes[text..text + 4], [0x55, 0x48, 0x89, 0xe5]);
            assert_eq!(text % 0x1000, 0x10);
            assert_eq!((field(3, 4, 4), field(2, 4, 4)), (2, 8), "SYMTAB, NOBITS");
            let (symbols, first_global) =
                (field(3, offset, long), field(3, offset + 2 * long + 4, 4));
            let strings = field(field(3, offset + 2 * long, 4), offset, long);
            assert_eq!(first_global, 2, "null and one local symbol");
            let (size, value, info, index) = if wide { (24, 8, 4, 6) } else { (16, 4, 12, 14) };
            let mut seen = Vec::new();
            for i in 1..5 {
                let at = symbols + i * size;
                let name = strings + get(at, 4);
                let end = name + bytes[name..].iter().position(|b| *b == 0).unwrap();
                let name = String::from_utf8_lossy(&bytes[name..end]).into_owned();
                seen.push((
                    name,
                    get(at + value, long),
                    get(at + info, 1),
                    get(at + index, 2),
                ));
            }
            let expected = [
                ("hidden", 0x8030_0008, 1, 2),
                ("main", 0x8020_0010, 0x12, 1),
                ("kernphys", 0x20_0000, 0x11, 0xfff1),
                ("nowhere", 0x9000_0000, 0x11, 1),
            ];
            let expected = expected.map(|(name, v, i, s)| (name.to_owned(), v, i, s));
            assert_eq!(seen, expected);
            assert_eq!(number(&bytes, 24, long, big), 0x8020_0010);
        }
    }

    #[test]
    fn nosegments_leaves_e_phnum_0() {
        let bytes = build("elf powerpc64\nnosegments\nsymbol a 1 abs").unwrap();
        assert_eq!(number(&bytes, 56, 2, true), 0);
        assert_eq!(number(&bytes, 16, 2, true), 3, "ET_DYN");
        assert!(build("elf amd64\nsymbol a").is_err());
    }
}
