//! Reads structures from CTF, FreeBSD's Compact C Type Format: `sys/sys/ctf.h`, ctf(5).
//!
//! The section `.SUNW_ctf` is a header and, usually compressed with zlib, labels, objects,
//! functions, types and strings. Integers have the kernel's byte order. Offsets count from the end
//! of the header.
//!
//! | | version 2 (to 13) | version 3 (14 on) |
//! |---|---|---|
//! | type: name, info, size or type | 4 + 2 + 2 | 4 + 4 + 4 |
//! | info: kind, root, vlen | 5, 1, 10 bits | 6, 1, 25 bits, of which vlen uses 24 |
//! | size that means "8 more bytes" | `0xffff` | `0xffffffff` |
//! | member: name, type, offset in bits | 4 + 2 + 2 | 4 + 4 + 4 |
//! | large structures | from 2^13 bytes | from 2^29 bytes |
//! | large member | 4 + 2 + 2 unused + 8 | 4 + 4 + 8 |
//! | first type of a module | `0x8000` | `0x80000000` |
//!
//! Only a module has a parent (`cth_parname`), the kernel. The parent's types have lower numbers than
//! the module's first own type. They are not read, so members of these types have no size. The CTF
//! of `gcc -gctf` is another format, in another section (`.ctf`).

use std::collections::BTreeMap;

use livecore_minidump::{ByteOrder, Error, KernelElf};

use crate::section;
use crate::structure::{DEPTH_LIMIT, Listing, Member, Structure, TypeSource};

const SECTION: &str = ".SUNW_ctf";
/// The maximum size of decompressed CTF. A stock kernel has 3 MiB.
const LIMIT: u64 = 64 << 20;

const CTF_MAGIC: u64 = 0xcff1;
const CTF_F_COMPRESS: u64 = 1;
/// `sizeof(ctf_header_t)`: preamble, then eight 4-byte words.
const HEADER: usize = 36;

pub(crate) const CTF_K_INTEGER: u64 = 1;
pub(crate) const CTF_K_FLOAT: u64 = 2;
pub(crate) const CTF_K_POINTER: u64 = 3;
pub(crate) const CTF_K_ARRAY: u64 = 4;
pub(crate) const CTF_K_FUNCTION: u64 = 5;
pub(crate) const CTF_K_STRUCT: u64 = 6;
pub(crate) const CTF_K_UNION: u64 = 7;
pub(crate) const CTF_K_ENUM: u64 = 8;
pub(crate) const CTF_K_FORWARD: u64 = 9;
pub(crate) const CTF_K_TYPEDEF: u64 = 10;
pub(crate) const CTF_K_RESTRICT: u64 = 13;

/// The maximum length of a name. Longer ones are not read, because names can overlap.
const NAME: usize = 512;

/// The maximum number of typedefs and qualifiers followed.
const HOPS: u32 = 64;

/// The differences between versions.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// The size in bytes of a type number, of info and of size.
    word: usize,
    kind_shift: u32,
    vlen_mask: u64,
    sentinel: u64,
    /// `CTF_LSTRUCT_THRESH`
    large: u64,
    /// The bit set in numbers of a module's own types.
    child: u64,
}

const V2: Shape = Shape {
    word: 2,
    kind_shift: 11,
    vlen_mask: 0x3ff,
    sentinel: 0xffff,
    large: 1 << 13,
    child: 0x8000,
};

const V3: Shape = Shape {
    word: 4,
    kind_shift: 26,
    vlen_mask: 0xff_ffff,
    sentinel: 0xffff_ffff,
    large: 1 << 29,
    child: 0x8000_0000,
};

fn broken(offset: usize, found: impl Into<String>, expected: &str) -> Error {
    Error::broken("kernel ELF, CTF", offset as u64, found, expected)
}

/// Returns the structures and unions with these names from the CTF of `elf`, if any.
pub(crate) fn structures(
    elf: &KernelElf,
    wanted: &[&str],
) -> Result<BTreeMap<String, Structure>, Error> {
    match open(elf)? {
        Some(ctf) => ctf.structures(wanted),
        None => Ok(BTreeMap::new()),
    }
}

/// Returns the CTF of `elf`, if any.
pub(crate) fn open(elf: &KernelElf) -> Result<Option<Ctf>, Error> {
    let bytes = section::read(elf, SECTION, LIMIT.min(elf.memory()))?;
    bytes.map(|bytes| Ctf::parse(bytes, elf)).transpose()
}

/// The encoding of an integer: `CTF_INT_ENCODING`, `CTF_INT_BITS`.
pub(crate) struct Integer {
    pub(crate) bits: u64,
    pub(crate) is_signed: bool,
    pub(crate) is_char: bool,
    pub(crate) is_bool: bool,
}

/// A type's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    pub(crate) name: u64,
    pub(crate) kind: u64,
    vlen: u64,
    /// `ctt_size`, or `ctt_type` if the type refers to another one.
    pub(crate) size: u64,
    /// Offset of the data that depends on the kind.
    body: usize,
}

/// The types of a file.
pub(crate) struct Ctf {
    order: ByteOrder,
    pointer: u64,
    shape: Shape,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// The bit set in numbers of this file's own types.
    own: u64,
    /// The offset of each type. The first has number 1.
    index: Vec<u32>,
}

impl Ctf {
    fn parse(raw: Vec<u8>, elf: &KernelElf) -> Result<Self, Error> {
        let order = elf.order();
        let number = |at, len| order.uint_at(&raw, at, len);
        let word = |i: usize| number(4 + 4 * i, 4).unwrap_or(0);
        if raw.len() < HEADER || number(0, 2) != Some(CTF_MAGIC) {
            let found = format!("{} bytes, {:02x?}", raw.len(), &raw[..raw.len().min(4)]);
            return Err(broken(0, found, "header with magic 0xcff1"));
        }
        let shape = match raw[2] {
            2 => V2,
            3 => V3,
            other => {
                return Err(Error::Unsupported {
                    what: format!("CTF version {other} (supported: 2 and 3)"),
                });
            }
        };
        let [parent, types, strings, len] = [1, 5, 6, 7].map(word);
        let (Some(end), true) = (strings.checked_add(len), types <= strings) else {
            let found = format!("types at {types:#x}, strings at {strings:#x}");
            return Err(broken(20, found, "types before strings"));
        };
        let data = if u64::from(raw[3]) & CTF_F_COMPRESS != 0 {
            let name = elf.sections().iter().find(|s| s.name == SECTION);
            // `raw` was read from this section, so it exists.
            let Some(section) = name else {
                return Err(broken(0, "no section", SECTION));
            };
            section::inflate(section, &raw[HEADER..], end, LIMIT)?
        } else {
            raw[HEADER..].to_vec()
        };
        let piece = |from: u64, to: u64| {
            let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
            data.get(from..to).map(<[u8]>::to_vec)
        };
        let (Some(types), Some(strings)) = (piece(types, strings), piece(strings, end)) else {
            let expected = format!("{end:#x} bytes of types and strings");
            return Err(broken(HEADER, format!("{:#x}", data.len()), &expected));
        };
        let mut ctf = Self {
            order,
            pointer: elf.pointer_size() as u64,
            own: if parent == 0 { 0 } else { shape.child },
            shape,
            types,
            strings,
            index: Vec::new(),
        };
        ctf.index = ctf.index()?;
        Ok(ctf)
    }

    fn number(&self, at: usize, len: usize) -> Result<u64, Error> {
        self.order
            .uint_at(&self.types, at, len)
            .ok_or_else(|| broken(at, "end of the types", "type"))
    }

    /// Returns the offset of each type. Each type has at least 8 bytes, so the index is small.
    fn index(&self) -> Result<Vec<u32>, Error> {
        let mut index = Vec::new();
        let mut at = 0;
        while at < self.types.len() {
            let next = self.next(at)?;
            // All types together are smaller than LIMIT.
            index.push(at as u32);
            at = next;
        }
        Ok(index)
    }

    fn header(&self, at: usize) -> Result<Type, Error> {
        let Shape {
            word, kind_shift, ..
        } = self.shape;
        let info = self.number(at + 4, word)?;
        let mut body = at + 4 + 2 * word;
        let mut size = self.number(at + 4 + word, word)?;
        if size == self.shape.sentinel {
            size = self.number(body, 4)? << 32 | self.number(body + 4, 4)?;
            body += 8;
        }
        Ok(Type {
            name: self.number(at, 4)?,
            kind: info >> kind_shift,
            vlen: info & self.shape.vlen_mask,
            size,
            body,
        })
    }

    /// Returns the size of a member entry in a structure of `size` bytes, and the position of its
    /// offset field.
    fn member_shape(&self, size: u64) -> (usize, usize) {
        let word = self.shape.word;
        if size < self.shape.large {
            (4 + 2 * word, 4 + word)
        } else {
            (16, 8)
        }
    }

    /// Returns the offset of the type after the one at `at`.
    fn next(&self, at: usize) -> Result<usize, Error> {
        let ty = self.header(at)?;
        let word = self.shape.word as u64;
        let len = match ty.kind {
            CTF_K_INTEGER | CTF_K_FLOAT => 4,
            CTF_K_ARRAY => 2 * word + 4,
            CTF_K_FUNCTION => (ty.vlen * word).next_multiple_of(4),
            CTF_K_STRUCT | CTF_K_UNION => ty.vlen * self.member_shape(ty.size).0 as u64,
            CTF_K_ENUM => ty.vlen * 8,
            0 | CTF_K_POINTER | CTF_K_FORWARD..=CTF_K_RESTRICT => 0,
            other => return Err(broken(at, format!("kind {other}"), "kind 0 to 13")),
        };
        // At most 2^24 elements of 16 bytes.
        let end = ty.body as u64 + len;
        if end > self.types.len() as u64 {
            let expected = format!("end within {:#x} bytes of types", self.types.len());
            return Err(broken(at, format!("{len:#x} bytes"), &expected));
        }
        Ok(end as usize)
    }

    /// Returns the type with this number, if it is in this file.
    pub(crate) fn by_number(&self, number: u64) -> Option<Type> {
        let index = (number & !self.shape.child).checked_sub(1)?;
        if number & self.shape.child != self.own {
            return None;
        }
        let at = *self.index.get(usize::try_from(index).ok()?)?;
        self.header(at as usize).ok()
    }

    pub(crate) fn name(&self, name: u64) -> Option<&str> {
        // A name with the highest bit set is in the ELF string table, which is not read.
        let tail = self.strings.get(usize::try_from(name).ok()?..)?;
        let len = tail.iter().take(NAME + 1).position(|b| *b == 0)?;
        std::str::from_utf8(&tail[..len]).ok()
    }

    /// Returns a type without typedefs and qualifiers.
    pub(crate) fn resolve(&self, mut number: u64) -> Option<Type> {
        for _ in 0..HOPS {
            let ty = self.by_number(number)?;
            match ty.kind {
                CTF_K_TYPEDEF..=CTF_K_RESTRICT => number = ty.size,
                _ => return Some(ty),
            }
        }
        None
    }

    pub(crate) fn size_of(&self, number: u64, depth: u32) -> u64 {
        let Some(ty) = self.resolve(number) else {
            return 0;
        };
        match ty.kind {
            CTF_K_POINTER => self.pointer,
            CTF_K_ARRAY if depth < DEPTH_LIMIT => {
                let word = self.shape.word;
                let contents = self.number(ty.body, word).unwrap_or(0);
                let count = self.number(ty.body + 2 * word, 4).unwrap_or(0);
                self.size_of(contents, depth + 1).saturating_mul(count)
            }
            CTF_K_INTEGER | CTF_K_FLOAT | CTF_K_STRUCT | CTF_K_UNION | CTF_K_ENUM => ty.size,
            _ => 0,
        }
    }

    /// The number of types.
    pub(crate) fn count(&self) -> u64 {
        self.index.len() as u64
    }

    /// The encoding of an integer type.
    pub(crate) fn integer(&self, ty: &Type) -> Option<Integer> {
        if ty.kind != CTF_K_INTEGER {
            return None;
        }
        let data = self.number(ty.body, 4).ok()?;
        let encoding = data >> 24;
        Some(Integer {
            bits: data & 0xffff,
            is_signed: encoding & 1 != 0,
            is_char: encoding & 2 != 0,
            is_bool: encoding & 4 != 0,
        })
    }

    /// The element type and the number of elements of an array.
    pub(crate) fn array(&self, ty: &Type) -> Option<(u64, u64)> {
        let word = self.shape.word;
        let contents = self.number(ty.body, word).ok()?;
        Some((contents, self.number(ty.body + 2 * word, 4).ok()?))
    }

    /// The name, type and offset in bits of each member of a structure.
    pub(crate) fn entries<'a>(
        &'a self,
        ty: &'a Type,
    ) -> impl Iterator<Item = (&'a str, u64, u64)> + 'a {
        (0..ty.vlen as usize).map_while(|number| self.member(ty, number).ok())
    }

    /// The names and values of an enumeration.
    pub(crate) fn enumerators<'a>(
        &'a self,
        ty: &'a Type,
    ) -> impl Iterator<Item = (&'a str, i64)> + 'a {
        let entry = move |number: usize| {
            let at = ty.body + 8 * number;
            let value = self.number(at + 4, 4).ok()? as u32;
            let name = self.name(self.number(at, 4).ok()?)?;
            Some((name, value.cast_signed().into()))
        };
        (0..ty.vlen as usize).map_while(entry)
    }

    /// The name, type and offset in bits of the member `number` of a structure.
    fn member(&self, ty: &Type, number: usize) -> Result<(&str, u64, u64), Error> {
        let (len, offset_at) = self.member_shape(ty.size);
        let word = self.shape.word;
        let at = ty.body + number * len;
        let name = self.name(self.number(at, 4)?).unwrap_or("");
        let bits = if len == 16 {
            self.number(at + offset_at, 4)? << 32 | self.number(at + offset_at + 4, 4)?
        } else {
            self.number(at + offset_at, word)?
        };
        Ok((name, self.number(at + 4, word)?, bits))
    }

    fn structures(&self, wanted: &[&str]) -> Result<BTreeMap<String, Structure>, Error> {
        let mut found = BTreeMap::new();
        for at in &self.index {
            let ty = self.header(*at as usize)?;
            if !matches!(ty.kind, CTF_K_STRUCT | CTF_K_UNION) || ty.vlen == 0 {
                continue;
            }
            let Some(name) = self.name(ty.name).filter(|name| wanted.contains(name)) else {
                continue;
            };
            if !found.contains_key(name) {
                let mut listing = Listing::new();
                self.members(ty, "", 0, 0, &mut listing)?;
                found.insert(name.to_owned(), listing.finish(ty.size, TypeSource::Ctf));
            }
        }
        Ok(found)
    }

    /// Adds the members of `ty`, which is at offset `base`, with names that start with `prefix`.
    fn members(
        &self,
        ty: Type,
        prefix: &str,
        base: u64,
        depth: u32,
        into: &mut Listing,
    ) -> Result<(), Error> {
        for i in 0..ty.vlen as usize {
            if !into.step() {
                break;
            }
            let (name, number, bits) = self.member(&ty, i)?;
            let offset = base.saturating_add(bits / 8);
            let full = format!("{prefix}{name}");
            let inner = self
                .resolve(number)
                .filter(|ty| matches!(ty.kind, CTF_K_STRUCT | CTF_K_UNION));
            if let Some(inner) = inner.filter(|_| depth < DEPTH_LIMIT) {
                let prefix = if name.is_empty() {
                    prefix.to_owned()
                } else {
                    format!("{full}.")
                };
                self.members(inner, &prefix, offset, depth + 1, into)?;
            }
            if !name.is_empty() {
                let whole = bits.is_multiple_of(8);
                let size = if whole { self.size_of(number, 0) } else { 0 };
                into.add(full, Member { offset, size });
            }
        }
        Ok(())
    }
}
