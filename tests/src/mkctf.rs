//! `mkctf`: FreeBSD's type information (CTF), written from ctf(5) and `sys/sys/ctf.h`.
//!
//! Versions 2 and 3, either byte order, plain or compressed with zlib. Type ids count from 1 in
//! the order in which types are added.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The id of a type.
pub type Id = u32;

/// Builder of a CTF section.
#[derive(Debug, Clone)]
pub struct Ctf {
    version: u8,
    big: bool,
    /// `cth_parname`, in the CTF of a module.
    parent: Option<String>,
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Ctf {
    /// An empty section of `version` in this byte order.
    pub fn new(version: u8, big: bool) -> Self {
        Self {
            version,
            big,
            parent: None,
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    /// CTF of a module, whose lower type ids are those of `parent`.
    pub fn of_parent(mut self, parent: &str) -> Self {
        self.parent = Some(parent.into());
        self
    }

    fn put(bytes: &mut Vec<u8>, value: u64, width: usize, big: bool) {
        if big {
            bytes.extend(&value.to_be_bytes()[8 - width..]);
        } else {
            bytes.extend(&value.to_le_bytes()[..width]);
        }
    }

    fn number(&mut self, value: u64, width: usize) {
        Self::put(&mut self.types, value, width, self.big);
    }

    fn is_wide(&self) -> bool {
        self.version == 3
    }

    fn word(&self) -> usize {
        if self.is_wide() { 4 } else { 2 }
    }

    fn string(&mut self, name: &str) -> u64 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u64;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Writes `struct ctf_type`: name, kind, `vlen`, and size or referenced type.
    fn head(&mut self, name: &str, kind: u64, vlen: u64, size: u64) -> Id {
        let name = self.string(name);
        let wide = self.is_wide();
        let word = self.word();
        self.number(name, 4);
        let info = if wide {
            kind << 26 | 1 << 25 | vlen
        } else {
            kind << 11 | 1 << 10 | vlen
        };
        self.number(info, word);
        let sentinel = if wide { 0xffff_ffff } else { 0xffff };
        if size >= sentinel {
            self.number(sentinel, word);
            self.number(size >> 32, 4);
            self.number(size & 0xffff_ffff, 4);
        } else {
            self.number(size, word);
        }
        self.count += 1;
        let child = if wide { 0x8000_0000 } else { 0x8000 };
        self.count | if self.parent.is_some() { child } else { 0 }
    }

    /// `CTF_K_INTEGER`, unsigned.
    pub fn integer(&mut self, name: &str, size: u64) -> Id {
        let id = self.head(name, 1, 0, size);
        self.number(size * 8, 4);
        id
    }

    /// `CTF_K_POINTER`
    pub fn pointer(&mut self, to: Id) -> Id {
        self.head("", 3, 0, to.into())
    }

    /// `CTF_K_ARRAY`
    pub fn array(&mut self, of: Id, count: u64) -> Id {
        let word = self.word();
        let id = self.head("", 4, 0, 0);
        self.number(of.into(), word);
        self.number(1, word);
        self.number(count, 4);
        id
    }

    /// `CTF_K_FUNCTION`
    pub fn function(&mut self, returns: Id, arguments: &[Id]) -> Id {
        let word = self.word();
        let id = self.head("", 5, arguments.len() as u64, returns.into());
        for argument in arguments {
            self.number((*argument).into(), word);
        }
        if word == 2 && !arguments.len().is_multiple_of(2) {
            self.number(0, word);
        }
        id
    }

    /// `CTF_K_STRUCT`: names, types and offsets in bits.
    pub fn structure(&mut self, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        self.composite(6, name, size, members)
    }

    /// `CTF_K_UNION`
    pub fn union(&mut self, name: &str, size: u64, members: &[(&str, Id)]) -> Id {
        let members = members.iter().map(|(name, id)| (*name, *id, 0));
        self.composite(7, name, size, &members.collect::<Vec<_>>())
    }

    fn composite(&mut self, kind: u64, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        let (wide, word) = (self.is_wide(), self.word());
        let id = self.head(name, kind, members.len() as u64, size);
        let large = size >= if wide { 1 << 29 } else { 1 << 13 };
        for (name, ty, bits) in members {
            let name = self.string(name);
            self.number(name, 4);
            self.number((*ty).into(), word);
            if large {
                if !wide {
                    self.number(0, 2);
                }
                self.number(bits >> 32, 4);
                self.number(bits & 0xffff_ffff, 4);
            } else {
                self.number(*bits, word);
            }
        }
        id
    }

    /// `CTF_K_ENUM`
    pub fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> Id {
        let id = self.head(name, 8, values.len() as u64, 4);
        for (name, value) in values {
            let name = self.string(name);
            self.number(name, 4);
            self.number((*value).into(), 4);
        }
        id
    }

    /// `CTF_K_FORWARD`
    pub fn forward(&mut self, name: &str) -> Id {
        self.head(name, 9, 0, 0)
    }

    /// `CTF_K_TYPEDEF` 10, `CTF_K_VOLATILE` 11, `CTF_K_CONST` 12, `CTF_K_RESTRICT` 13
    pub fn qualified(&mut self, kind: u64, name: &str, of: Id) -> Id {
        self.head(name, kind, 0, of.into())
    }

    /// The section's bytes: header, one label, an object, types, strings.
    pub fn bytes(&self, compressed: bool) -> Vec<u8> {
        let mut strings = self.strings.clone();
        let mut add = |name: &str| {
            let at = strings.len() as u64;
            strings.extend(name.as_bytes());
            strings.push(0);
            at
        };
        let label = add("FreeBSD");
        let parent = self.parent.as_deref().map_or(0, &mut add);
        let mut body = Vec::new();
        Self::put(&mut body, label, 4, self.big);
        Self::put(&mut body, self.count.into(), 4, self.big);
        let objects = body.len() as u64;
        Self::put(&mut body, 1, self.word(), self.big);
        let functions = body.len() as u64;
        body.resize(body.len().next_multiple_of(4), 0);
        let types = body.len() as u64;
        body.extend(&self.types);
        let at = body.len() as u64;
        body.extend(&strings);

        let mut bytes = Vec::new();
        Self::put(&mut bytes, 0xcff1, 2, self.big);
        bytes.extend([self.version, u8::from(compressed)]);
        let parent_label = if parent == 0 { 0 } else { label };
        let len = strings.len() as u64;
        for word in [parent_label, parent, 0, objects, functions, types, at, len] {
            Self::put(&mut bytes, word, 4, self.big);
        }
        if compressed {
            let mut encoder = ZlibEncoder::new(bytes, Compression::default());
            // Writing to memory does not fail.
            let _ = encoder.write_all(&body);
            encoder.finish().unwrap_or_default()
        } else {
            bytes.extend(body);
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn struct_encoding_matches_ctf_5() {
        let mut ctf = Ctf::new(2, false);
        let int = ctf.integer("int", 4);
        assert_eq!(ctf.structure("s", 8, &[("a", int, 0), ("b", int, 32)]), 2);
        let bytes = ctf.bytes(false);
        assert_eq!(bytes[..4], [0xf1, 0xcf, 2, 0]);
        // Label 8, object 2, padding 2; integer 8 + 4.
        let at = 36 + 12 + 12;
        let expected = [5, 0, 0, 0, 0x02, 0x34, 8, 0, 7, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(bytes[at..at + 16], expected);
        assert_eq!(bytes[at + 16..at + 24], [9, 0, 0, 0, 1, 0, 32, 0]);
    }
}
