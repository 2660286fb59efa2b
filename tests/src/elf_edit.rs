//! Adds, removes and empties sections of kernel files.
//!
//! Does to a little-endian ELF file what `ctfconvert`, `strip` and `objcopy --only-keep-debug` do
//! to a kernel. The new section header table and section names are appended; the old ones remain
//! in the file, unreferenced.

/// The ten fields of a section header.
#[derive(Debug, Clone)]
struct Header {
    name: String,
    kind: u64,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u64,
    info: u64,
    align: u64,
    entry: u64,
}

/// An ELF file to change.
#[derive(Debug, Clone)]
pub struct Elf {
    bytes: Vec<u8>,
    wide: bool,
    sections: Vec<Header>,
    /// Index of the section names.
    names: usize,
}

const SHT_NOBITS: u64 = 8;
const SHF_ALLOC: u64 = 2;
const SHF_COMPRESSED: u64 = 0x800;

fn get(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Elf {
    /// Reads the sections of a file built by a test.
    ///
    /// # Panics
    ///
    /// If it is not a little-endian ELF file with section names.
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!(
            bytes.starts_with(b"\x7fELF") && bytes[5] == 1,
            "ELF, little endian"
        );
        let wide = bytes[4] == 2;
        let long = if wide { 8 } else { 4 };
        let (shoff, count, names) = if wide {
            (get(&bytes, 40, 8), get(&bytes, 60, 2), get(&bytes, 62, 2))
        } else {
            (get(&bytes, 32, 4), get(&bytes, 48, 2), get(&bytes, 50, 2))
        };
        let entry = 16 + 6 * long;
        let header = |index: u64| {
            let at = shoff as usize + index as usize * entry;
            let after = |n: usize| at + 8 + n * long;
            (
                get(&bytes, at, 4) as usize,
                Header {
                    name: String::new(),
                    kind: get(&bytes, at + 4, 4),
                    flags: get(&bytes, after(0), long),
                    addr: get(&bytes, after(1), long),
                    offset: get(&bytes, after(2), long),
                    size: get(&bytes, after(3), long),
                    link: get(&bytes, after(4), 4),
                    info: get(&bytes, after(4) + 4, 4),
                    align: get(&bytes, after(4) + 8, long),
                    entry: get(&bytes, after(5) + 8, long),
                },
            )
        };
        let strings = header(names).1.offset as usize;
        let sections = (0..count).map(header).map(|(name, mut section)| {
            let tail = &bytes[strings + name..];
            let len = tail.iter().position(|b| *b == 0).unwrap_or(0);
            section.name = String::from_utf8_lossy(&tail[..len]).into_owned();
            section
        });
        Self {
            sections: sections.collect(),
            wide,
            names: names as usize,
            bytes,
        }
    }

    /// Adds a section that is not loaded. `compressed` sets `SHF_COMPRESSED`.
    pub fn add(mut self, name: &str, contents: &[u8], compressed: bool) -> Self {
        let offset = self.append(contents);
        self.sections.push(Header {
            name: name.into(),
            kind: 1,
            flags: if compressed { SHF_COMPRESSED } else { 0 },
            addr: 0,
            offset,
            size: contents.len() as u64,
            link: 0,
            info: 0,
            align: 1,
            entry: 0,
        });
        self
    }

    /// Removes name, type and contents of the sections that `which` selects. The headers remain,
    /// because symbols refer to sections by index.
    pub fn remove(mut self, which: impl Fn(&str) -> bool) -> Self {
        for section in self.sections.iter_mut().filter(|s| which(&s.name)) {
            section.name = String::new();
            section.kind = 0;
            section.size = 0;
        }
        self
    }

    /// `objcopy --only-keep-debug`: loaded sections become NOBITS, and segments have no bytes in
    /// the file.
    pub fn only_symbols(mut self) -> Self {
        for section in &mut self.sections {
            if section.flags & SHF_ALLOC != 0 {
                section.kind = SHT_NOBITS;
            }
        }
        let (phoff, count, entry) = if self.wide {
            (get(&self.bytes, 32, 8), get(&self.bytes, 56, 2), 56)
        } else {
            (get(&self.bytes, 28, 4), get(&self.bytes, 44, 2), 32)
        };
        let (at, width) = if self.wide { (32, 8) } else { (16, 4) };
        for index in 0..count as usize {
            let filesz = phoff as usize + index * entry + at;
            self.bytes[filesz..filesz + width].fill(0);
        }
        self
    }

    /// The contents of a section.
    pub fn contents(&self, name: &str) -> Option<&[u8]> {
        let section = self.sections.iter().find(|s| s.name == name)?;
        let from = section.offset as usize;
        self.bytes.get(from..from + section.size as usize)
    }

    fn append(&mut self, contents: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let offset = self.bytes.len() as u64;
        self.bytes.extend(contents);
        offset
    }

    /// The file.
    pub fn bytes(mut self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut names = Vec::new();
        for section in &self.sections {
            names.push(strings.len() as u64);
            strings.extend(section.name.as_bytes());
            strings.push(0);
        }
        let at = self.append(&strings);
        let names_section = &mut self.sections[self.names];
        names_section.offset = at;
        names_section.size = strings.len() as u64;
        let long = if self.wide { 8 } else { 4 };
        let mut table = Vec::new();
        let mut put = |value: u64, width: usize| table.extend(&value.to_le_bytes()[..width]);
        for (section, name) in self.sections.iter().zip(names) {
            put(name, 4);
            put(section.kind, 4);
            for value in [section.flags, section.addr, section.offset, section.size] {
                put(value, long);
            }
            put(section.link, 4);
            put(section.info, 4);
            put(section.align, long);
            put(section.entry, long);
        }
        let shoff = self.append(&table);
        let count = self.sections.len() as u64;
        let (shoff_at, count_at) = if self.wide { (40, 60) } else { (32, 48) };
        self.bytes[shoff_at..shoff_at + long].copy_from_slice(&shoff.to_le_bytes()[..long]);
        self.bytes[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes()[..2]);
        self.bytes
    }
}
