//! `struct kerneldumpheader`: 512 bytes, big-endian integers.
//!
//! FreeBSD `sys/sys/kerneldump.h`. Four versions; the parity word is at 508 in all.

use super::arch::Field;
use super::cursor::Names;
use super::error::{BuildError, Result};
use super::recipe::{Recipe, Value};

/// Size of the header.
pub(crate) const SIZE: usize = 512;

/// The magic that savecore writes over the header of a dump it has saved.
const CLEARED: &[u8; 20] = b"Cleared Kernel Dump\0";

/// Default `versionstring`.
const RELEASE: &str = "FreeBSD 14.1-RELEASE GENERIC\n";

const fn at(name: &'static str, offset: usize, size: usize) -> Field {
    Field {
        name,
        offset,
        size,
        since: 1,
    }
}

const COMMON: [Field; 5] = [
    at("magic", 0, 20),
    at("architecture", 20, 12),
    at("version", 32, 4),
    at("architectureversion", 36, 4),
    at("dumplength", 40, 8),
];

const V1: &[Field] = &[
    at("dumptime", 48, 8),
    at("blocksize", 56, 4),
    at("hostname", 60, 64),
    at("versionstring", 124, 192),
    at("panicstring", 316, 192),
];

const V2: &[Field] = &[
    at("dumptime", 48, 8),
    at("dumpkeysize", 56, 4),
    at("blocksize", 60, 4),
    at("hostname", 64, 64),
    at("versionstring", 128, 192),
    at("panicstring", 320, 188),
];

const V3: &[Field] = &[
    at("dumpextent", 48, 8),
    at("dumptime", 56, 8),
    at("dumpkeysize", 64, 4),
    at("blocksize", 68, 4),
    at("compression", 72, 1),
    at("hostname", 73, 64),
    at("versionstring", 137, 192),
    at("panicstring", 329, 179),
];

const V4: &[Field] = &[
    at("dumptime", 48, 8),
    at("dumpkeysize", 56, 4),
    at("blocksize", 60, 4),
    at("hostname", 64, 64),
    at("versionstring", 128, 192),
    at("panicstring", 320, 175),
    at("compression", 495, 1),
    at("dumpextent", 496, 8),
    at("unused", 504, 4),
];

/// The fields of header version `version`.
pub(crate) fn fields(version: u32) -> impl Iterator<Item = &'static Field> {
    let own = match version {
        1 => V1,
        2 => V2,
        3 => V3,
        _ => V4,
    };
    COMMON.iter().chain(own)
}

/// Default values of the header.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// A text dump instead of a kernel dump.
    pub(crate) text: bool,
    /// MACHINE_ARCH.
    pub(crate) machine: &'static str,
    /// `architectureversion`.
    pub(crate) machine_version: u32,
    /// Bytes stored.
    pub(crate) length: u64,
    /// Bytes reserved.
    pub(crate) extent: u64,
    /// Bytes of the key block.
    pub(crate) key: u64,
    /// Block size of the dumper.
    pub(crate) block: u64,
    /// 0 none, 1 gzip, 2 zstd.
    pub(crate) compression: u8,
}

/// The header with its parity. `set kdh.parity` is applied last.
pub(crate) fn header(recipe: &Recipe, facts: &Facts, names: &Names) -> Result<[u8; SIZE]> {
    let mut out = [0u8; SIZE];
    for field in fields(recipe.kdh_version) {
        match field.name {
            "magic" if facts.text => field.put_text(&mut out, b"FreeBSD Text Dump", 0)?,
            "magic" => field.put_text(&mut out, b"FreeBSD Kernel Dump", 0)?,
            "architecture" => field.put_text(&mut out, facts.machine.as_bytes(), 0)?,
            "hostname" => field.put_text(&mut out, b"host.example", 0)?,
            "versionstring" => field.put_text(&mut out, RELEASE.as_bytes(), 0)?,
            "panicstring" | "unused" => {}
            name => {
                let value = match name {
                    "version" => u64::from(recipe.kdh_version),
                    "architectureversion" if facts.text => 4,
                    "architectureversion" => u64::from(facts.machine_version),
                    "dumplength" => facts.length,
                    "dumptime" => 1_700_000_000,
                    "dumpkeysize" => facts.key,
                    "blocksize" => facts.block,
                    "compression" => u64::from(facts.compression),
                    _ => facts.extent,
                };
                field.put(&mut out, value, true, 0)?;
            }
        }
    }
    change(recipe, "kdh", names, &mut out)?;
    let sum = parity(&out);
    out[508..].copy_from_slice(&sum);
    for set in recipe
        .sets
        .iter()
        .filter(|s| s.area == "kdh" && s.field == "parity")
    {
        one(recipe.kdh_version, set, names, &mut out)?;
    }
    Ok(out)
}

/// Applies `set AREA.FIELD` to a header without updating its parity.
pub(crate) fn change(
    recipe: &Recipe,
    area: &str,
    names: &Names,
    out: &mut [u8; SIZE],
) -> Result<()> {
    for set in recipe.sets.iter().filter(|set| set.area == area) {
        one(recipe.kdh_version, set, names, out)?;
    }
    Ok(())
}

fn one(version: u32, set: &super::recipe::Set, names: &Names, out: &mut [u8; SIZE]) -> Result<()> {
    let parity = at("parity", 508, 4);
    let field = match set.field.as_str() {
        "parity" => &parity,
        name => fields(version)
            .find(|field| field.name == name)
            .ok_or_else(|| BuildError::UnknownName {
                line: set.line,
                kind: "kerneldumpheader field of this version",
                name: name.to_owned(),
            })?,
    };
    match &set.value {
        Value::Text(bytes) => field.put_text(out, bytes, set.line),
        Value::Number(value) => field.put(out, value.value(set.line, names)?, true, set.line),
    }
}

/// Writes the "Cleared" magic without updating the parity, as savecore does.
pub(crate) fn clear(out: &mut [u8; SIZE]) {
    out[..20].copy_from_slice(CLEARED);
}

/// The exclusive or of the first 127 words, byte by byte.
pub(crate) fn parity(header: &[u8; SIZE]) -> [u8; 4] {
    let mut sum = [0u8; 4];
    for (i, byte) in header[..508].iter().enumerate() {
        sum[i % 4] ^= byte;
    }
    sum
}

/// The number in a field of a finished header.
pub(crate) fn get_number(header: &[u8; SIZE], version: u32, name: &str) -> u64 {
    fields(version)
        .find(|field| field.name == name && field.size <= 8)
        .map_or(0, |field| {
            let bytes = &header[field.offset..field.offset + field.size];
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte))
        })
}

/// The string in a field of a finished header, up to its NUL.
pub(crate) fn get_text(header: &[u8; SIZE], version: u32, name: &str) -> String {
    fields(version)
        .find(|field| field.name == name)
        .map_or_else(String::new, |field| {
            let bytes = &header[field.offset..field.offset + field.size];
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkdump::statement::parse;

    fn vector() -> [u8; SIZE] {
        let recipe = parse("raw amd64").unwrap();
        let facts = Facts {
            text: false,
            machine: "amd64",
            machine_version: 2,
            length: 0x1234_5678,
            extent: 0x2000_0000,
            key: 0,
            block: 4096,
            compression: 1,
        };
        header(&recipe, &facts, &Names::new()).unwrap()
    }

    /// The header was computed with the C struct; its SHA-256 by another tool is
    /// 3d381bddb94fc1621c886c7a96116e680e81502fb7247232fa36e806a21d5c1a. Here it is compared with a
    /// header written by offset.
    #[test]
    fn header_and_parity_match_the_c_struct() {
        let header = vector();
        assert_eq!(header[508..], [0x44, 0x26, 0xa2, 0x26]);
        assert_eq!(u32::from_le_bytes([0x44, 0x26, 0xa2, 0x26]), 648_160_836);
        let mut by_hand = [0u8; 512];
        let mut put =
            |at: usize, bytes: &[u8]| by_hand[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"FreeBSD Kernel Dump");
        put(20, b"amd64");
        put(35, &[4]);
        put(39, &[2]);
        put(44, &[0x12, 0x34, 0x56, 0x78]);
        put(52, &[0x65, 0x53, 0xf1, 0x00]);
        put(62, &[0x10, 0x00]);
        put(64, b"host.example");
        put(128, b"FreeBSD 14.1-RELEASE GENERIC\n");
        put(495, &[1]);
        put(500, &[0x20, 0, 0, 0]);
        put(508, &[0x44, 0x26, 0xa2, 0x26]);
        assert_eq!(header, by_hand);
    }

    #[test]
    fn xor_of_all_header_words_is_0() {
        let header = vector();
        let sum = header
            .chunks(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .fold(0, |sum, word| sum ^ word);
        assert_eq!(sum, 0);
    }

    #[test]
    fn fields_of_every_version_cover_the_header_without_overlap() {
        for version in 1..=4 {
            let mut used = [false; SIZE];
            for field in fields(version) {
                for byte in &mut used[field.offset..field.offset + field.size] {
                    assert!(!*byte, "version {version}: {}", field.name);
                    *byte = true;
                }
            }
            assert!(
                used[..508].iter().all(|used| *used),
                "version {version} has a gap"
            );
            assert!(
                used[508..].iter().all(|used| !used),
                "version {version} covers the parity"
            );
        }
    }
}
