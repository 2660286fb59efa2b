//! Writes `.SUNW_ctf`, uncompressed, version 3: FreeBSD `sys/sys/ctf.h`, ctf(5).

use std::collections::BTreeMap;

const MAGIC: u16 = 0xcff1;
const VERSION: u8 = 3;
const KIND_INTEGER: u32 = 1;
const KIND_ARRAY: u32 = 4;
const KIND_STRUCT: u32 = 6;
/// Words of the header after magic, version and flags.
const WORDS: usize = 8;

/// A structure: its name, its size, and the name, offset and size of each member.
pub(crate) struct Structure {
    pub(crate) name: &'static str,
    pub(crate) size: u32,
    pub(crate) members: Vec<(&'static str, u32, u32)>,
}

/// The section while it is written.
#[derive(Default)]
struct Section {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    /// The numbers of the unsigned integers and byte arrays, by size.
    scalars: BTreeMap<u32, u32>,
}

impl Section {
    fn name(&mut self, name: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|w| w.to_le_bytes()));
    }

    /// Adds the start of a type, and returns its number.
    fn begin(&mut self, name: &str, kind: u32, vlen: u32, size: u32) -> u32 {
        let name = if name.is_empty() { 0 } else { self.name(name) };
        self.words(&[name, kind << 26 | vlen, size]);
        self.count += 1;
        self.count
    }

    /// Returns the number of the type of a member of `size` bytes.
    fn scalar(&mut self, size: u32) -> u32 {
        if let Some(number) = self.scalars.get(&size) {
            return *number;
        }
        let number = match size {
            1 | 2 | 4 | 8 => {
                let number = self.begin(&format!("uint{}_t", 8 * size), KIND_INTEGER, 0, size);
                self.words(&[8 * size]);
                number
            }
            _ => {
                let byte = self.scalar(1);
                let number = self.begin("", KIND_ARRAY, 0, 0);
                self.words(&[byte, byte, size]);
                number
            }
        };
        self.scalars.insert(size, number);
        number
    }
}

/// Returns the contents of `.SUNW_ctf` with these structures. Pointers are unsigned integers.
pub(crate) fn section(structures: &[Structure]) -> Vec<u8> {
    let mut out = Section::default();
    out.strings.push(0);
    for structure in structures {
        let members: Vec<[u32; 3]> = structure
            .members
            .iter()
            .map(|(name, offset, size)| [out.name(name), out.scalar(*size), 8 * offset])
            .collect();
        let vlen = members.len() as u32;
        out.begin(structure.name, KIND_STRUCT, vlen, structure.size);
        out.words(&members.concat());
    }
    let (types, strings) = (out.types.len() as u32, out.strings.len() as u32);
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([VERSION, 0]);
    let mut words = [0; WORDS];
    // The offsets of types and of strings, and the length of strings.
    words[5] = 0;
    words[6] = types;
    words[7] = strings;
    bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    bytes.extend(out.types);
    bytes.extend(out.strings);
    bytes
}
