//! The payload of a minidump: sections in order, every size derived.

use std::collections::{BTreeMap, BTreeSet};

use super::arch::{Arch, Field, Tables};
use super::content::put_number;
use super::cursor::Names;
use super::error::{BuildError, Result};
use super::ranges::Ranges;
use super::recipe::{Recipe, Value};
use super::{hpt, msgbuf, radix, tables};

/// The payload and its layout.
#[derive(Debug)]
pub(crate) struct Payload {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The saved pages by physical address.
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
    /// Name, offset and length of every section.
    pub(crate) sections: Vec<(&'static str, u64, u64)>,
}

/// Lays out a minidump and adds `section.NAME.start|middle|end|size`, `bits` and `saved` to
/// `names`.
pub(crate) fn build(
    recipe: &Recipe,
    arch: &Arch,
    version: u32,
    names: &mut Names,
) -> Result<Payload> {
    let page = recipe.page_size;
    let old = version < arch.avail_since;
    let avail = Ranges::new(recipe.avail.clone(), page, old);
    let mut pages = recipe.pages.clone();
    let pmap = match arch.tables {
        Tables::Hashed if recipe.radix => radix::build(recipe, &avail, &mut pages)?,
        Tables::Hashed => hpt::build(recipe, &avail)?,
        _ => tables::build(recipe, version, &avail, &mut pages)?,
    };
    let bits = bits(recipe, &avail, &pages, &pmap.found)?;
    let saved: BTreeMap<u64, Vec<u8>> = bits
        .iter()
        .map(|(_, pa)| {
            let zero = || vec![0; page as usize];
            (*pa, pages.get(pa).cloned().unwrap_or_else(zero))
        })
        .collect();

    let mut data = Vec::with_capacity(saved.len() * page as usize);
    for (_, pa) in &bits {
        data.extend_from_slice(&saved[pa]);
    }
    let mut bitmap_size = avail.bitset_bytes(arch.long as u64).next_multiple_of(page);
    let mut set: BTreeSet<u64> = bits.iter().map(|(bit, _)| *bit).collect();
    garbage(recipe, page, bitmap_size * 8, &saved, &mut set, &mut data)?;
    if bitmap_size == 0 {
        bitmap_size = page;
    }
    let bitmap = bitmap(arch, word(arch, version), bitmap_size as usize, &set);

    let mut derived = vec![
        ("header", vec![0; page as usize]),
        ("msgbuf", msgbuf::section(recipe, names)?),
        (
            "dump_avail",
            if old {
                Vec::new()
            } else {
                dump_avail(recipe, arch)?
            },
        ),
        ("bitmap", bitmap),
        ("pmap", pmap.bytes),
        ("data", data),
    ];
    // arm kernels write the entries without padding.
    if arch.tables != Tables::Arm {
        let pmap = &mut derived[4].1;
        pmap.resize(pmap.len().next_multiple_of(page as usize), 0);
    }
    names.insert("bits".to_owned(), avail.bits());
    names.insert("saved".to_owned(), bits.len() as u64);
    names.insert("page".to_owned(), page);
    let sizes: Vec<u64> = derived
        .iter()
        .map(|(_, bytes)| bytes.len() as u64)
        .collect();
    for (name, bytes) in &derived {
        names.insert(format!("section.{name}.size"), bytes.len() as u64);
    }
    resize(recipe, &mut derived, names)?;
    let sections = lay_out(&derived, names);

    set_avail(recipe, arch, names, &mut derived[2].1)?;
    derived[0].1 = header(recipe, arch, version, &sizes, names, derived[0].1.len())?;
    let bytes = derived.into_iter().flat_map(|(_, bytes)| bytes).collect();
    Ok(Payload {
        bytes,
        pages: saved,
        sections,
    })
}

/// Bit and physical address of every saved page, by bit.
fn bits(
    recipe: &Recipe,
    avail: &Ranges,
    pages: &BTreeMap<u64, Vec<u8>>,
    found: &[u64],
) -> Result<Vec<(u64, u64)>> {
    let mut saved = BTreeMap::new();
    for pa in pages.keys().chain(found) {
        let excluded = recipe
            .nodump
            .iter()
            .any(|(start, end)| (*start..*end).contains(pa));
        if excluded {
            continue;
        }
        match avail.bit(*pa) {
            Some(bit) => saved.insert(bit, *pa),
            None => {
                let expected = "a page in a range of avail".to_owned();
                return Err(BuildError::Value {
                    line: 0,
                    what: "page",
                    found: *pa,
                    expected,
                });
            }
        };
    }
    Ok(saved.into_iter().collect())
}

fn garbage(
    recipe: &Recipe,
    page: u64,
    capacity: u64,
    saved: &BTreeMap<u64, Vec<u8>>,
    set: &mut BTreeSet<u64>,
    data: &mut Vec<u8>,
) -> Result<()> {
    for garbage in &recipe.garbage {
        if garbage.to > capacity {
            return Err(BuildError::Value {
                line: garbage.line,
                what: "bit",
                found: garbage.to,
                expected: format!("at most {capacity:#x}, the bitmap's end"),
            });
        }
        for bit in garbage.from..garbage.to {
            // The kernel writes physical page 0 for a bit without an address.
            if set.insert(bit) && garbage.pages {
                match saved.get(&0) {
                    Some(zero) => data.extend_from_slice(zero),
                    None => data.resize(data.len() + page as usize, 0),
                }
            }
        }
    }
    Ok(())
}

/// Size of a bitmap word: the kernel's `long`, but 4 bytes on all mips before version 2.
fn word(arch: &Arch, version: u32) -> usize {
    match arch.tables {
        Tables::Mips { .. } if version == 1 => 4,
        _ => arch.long,
    }
}

/// Words in the kernel's byte order, bit 0 the least significant.
fn bitmap(arch: &Arch, word: usize, size: usize, set: &BTreeSet<u64>) -> Vec<u8> {
    let mut bytes = vec![0u8; size];
    for bit in set {
        let (byte, mask) = ((*bit / 8) as usize, 1u8 << (*bit % 8));
        let at = if arch.big { byte ^ (word - 1) } else { byte };
        bytes[at] |= mask;
    }
    bytes
}

fn dump_avail(recipe: &Recipe, arch: &Arch) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (start, end) in &recipe.avail {
        put_number(&mut out, *start, 8, arch.big, 0)?;
        put_number(&mut out, *end, 8, arch.big, 0)?;
    }
    if out.len() + 16 > recipe.page_size as usize {
        return Err(BuildError::Invalid {
            line: 0,
            what: "dump_avail does not fit in a page",
        });
    }
    out.resize(recipe.page_size as usize, 0);
    Ok(out)
}

fn set_avail(recipe: &Recipe, arch: &Arch, names: &Names, section: &mut [u8]) -> Result<()> {
    for set in recipe.sets.iter().filter(|set| set.area == "dump_avail") {
        let unknown = || BuildError::UnknownName {
            line: set.line,
            kind: "dump_avail element",
            name: set.field.clone(),
        };
        let index: usize = set.field.parse().map_err(|_| unknown())?;
        let Value::Number(value) = &set.value else {
            return Err(unknown());
        };
        let at = index.checked_mul(8).ok_or_else(unknown)?;
        let element = section.get_mut(at..at + 8).ok_or_else(unknown)?;
        let mut bytes = Vec::new();
        put_number(
            &mut bytes,
            value.value(set.line, names)?,
            8,
            arch.big,
            set.line,
        )?;
        element.copy_from_slice(&bytes);
    }
    Ok(())
}

/// Applies the `length` statements.
fn resize(recipe: &Recipe, derived: &mut [(&str, Vec<u8>)], names: &Names) -> Result<()> {
    for (line, name, length) in &recipe.lengths {
        let found = length.value(*line, names)?;
        let section = derived
            .iter_mut()
            .find(|(section, _)| section == name)
            .ok_or_else(|| BuildError::UnknownName {
                line: *line,
                kind: "section",
                name: name.clone(),
            })?;
        if found > 1 << 28 {
            let expected = "at most 256 MiB".to_owned();
            return Err(BuildError::Value {
                line: *line,
                what: "length",
                found,
                expected,
            });
        }
        section.1.resize(found as usize, 0);
    }
    Ok(())
}

fn lay_out(
    derived: &[(&'static str, Vec<u8>)],
    names: &mut Names,
) -> Vec<(&'static str, u64, u64)> {
    let mut sections = Vec::new();
    let mut start = 0;
    for (name, bytes) in derived {
        let size = bytes.len() as u64;
        for (part, value) in [
            ("start", start),
            ("middle", start + size / 2),
            ("end", start + size),
            ("size", size),
        ] {
            names.insert(format!("section.{name}.{part}"), value);
        }
        sections.push((*name, start, size));
        start += size;
    }
    sections
}

fn header(
    recipe: &Recipe,
    arch: &Arch,
    version: u32,
    sizes: &[u64],
    names: &Names,
    len: usize,
) -> Result<Vec<u8>> {
    let mut out = vec![0u8; len.max(recipe.page_size as usize)];
    out[..arch.magic.len()].copy_from_slice(arch.magic.as_bytes());
    for field in arch.fields.iter().filter(|field| field.since <= version) {
        if field.name == "mmu_name" {
            let name: &[u8] = match recipe.radix {
                true => b"mmu_radix",
                false => b"mmu_phyp",
            };
            field.put_text(&mut out, name, 0)?;
        } else {
            let value = default(recipe, field.name, version, sizes);
            field.put(&mut out, value, arch.big, 0)?;
        }
    }
    let magic = Field {
        name: "magic",
        offset: 0,
        size: arch.magic_size,
        since: 1,
    };
    for set in recipe.sets.iter().filter(|set| set.area == "header") {
        let field = match set.field.as_str() {
            "magic" => &magic,
            name => arch
                .field(name, version)
                .ok_or_else(|| BuildError::UnknownName {
                    line: set.line,
                    kind: "header field of this version",
                    name: name.to_owned(),
                })?,
        };
        match &set.value {
            Value::Text(bytes) => field.put_text(&mut out, bytes, set.line)?,
            Value::Number(value) => {
                let value = value.value(set.line, names)?;
                field.put(&mut out, value, arch.big, set.line)?;
            }
        }
    }
    out.truncate(len);
    Ok(out)
}

fn default(recipe: &Recipe, name: &str, version: u32, sizes: &[u64]) -> u64 {
    let arch = recipe.kind.arch();
    match name {
        "version" => u64::from(version),
        "msgbufsize" => msgbuf::ring_size(recipe),
        "dumpavailsize" => sizes[2],
        "bitmapsize" => sizes[3],
        "pmapsize" | "ptesize" => sizes[4],
        "kernbase" => recipe.kernbase(),
        "kernend" => recipe.kernend.unwrap_or(0xc008_0007_ffff_ffff),
        "dmapbase" => recipe.dmap.0,
        "dmapend" if arch.tables == Tables::Hashed => recipe.dmap.1 - 1,
        "dmapend" => recipe.dmap.1,
        "dmapphys" => recipe.dmapphys(),
        "flags" => u64::from(recipe.page_size == 0x4000),
        "paemode" => u64::from(arch.tables == Tables::I386 { pae: true }),
        // ARMv7 with the v6 page-table format.
        "arch" => 7,
        "mmuformat" => 2,
        "hw_direct_map" => 1,
        "startkernel" => recipe.startkernel,
        "endkernel" => recipe.startkernel.wrapping_add(0x100_0000),
        _ => 0,
    }
}
