//! Reads structures from DWARF, versions 2 to 5.
//!
//! This is one pass over `.debug_info`. It ends when the definitions of all requested structures
//! have been found; entries with `DW_AT_declaration` are not definitions. Attributes of other
//! entries are skipped.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{AttributeValue, DebugInfoOffset, Dwarf, Reader, SectionId, Unit, UnitOffset};

use livecore_minidump::{Error, KernelElf};

use crate::dwarf_file::{DwarfFile, Slice, broken};
use crate::structure::{DEPTH_LIMIT, Listing, Member, Structure, TypeSource};

/// The sections that are read.
pub(crate) const SECTIONS: [SectionId; 6] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugLineStr,
    SectionId::DebugAddr,
];
/// How many times the size of all sections the search reads: names and abbreviations of units can
/// overlap.
const PASSES: u64 = 8;
/// The maximum number of typedefs and qualifiers followed.
const HOPS: u32 = 64;
/// The maximum number of dimensions of an array.
const DIMENSIONS: u32 = 16;

/// Returns the structures and unions with these names from the DWARF of `elf`, if any.
pub(crate) fn structures(
    elf: &KernelElf,
    wanted: &[&str],
) -> Result<BTreeMap<String, Structure>, Error> {
    let Some(file) = DwarfFile::read(elf, &SECTIONS, PASSES, 0)? else {
        return Ok(BTreeMap::new());
    };
    let dwarf = file.dwarf();
    let mut search = Search {
        file: &file,
        dwarf: &dwarf,
        wanted: wanted.iter().copied().collect(),
        found: BTreeMap::new(),
    };
    let mut units = dwarf.units();
    while !search.wanted.is_empty() {
        let Some(header) = units.next().map_err(broken)? else {
            break;
        };
        let unit = file.unit(&dwarf, header)?;
        search.unit(&unit)?;
    }
    Ok(search.found)
}

/// The attributes of an entry that are used.
#[derive(Default)]
struct Entry<'a> {
    name: Option<Slice<'a>>,
    byte_size: Option<u64>,
    location: Option<u64>,
    bit_offset: Option<u64>,
    bit_field: bool,
    declaration: bool,
    ty: Option<AttributeValue<Slice<'a>>>,
    count: Option<u64>,
}

struct Search<'a, 'd> {
    file: &'d DwarfFile,
    dwarf: &'d Dwarf<Slice<'a>>,
    wanted: BTreeSet<&'d str>,
    found: BTreeMap<String, Structure>,
}

impl<'a> Search<'a, '_> {
    fn unit(&mut self, unit: &Unit<Slice<'a>>) -> Result<(), Error> {
        let mut entries = unit.entries_raw(None).map_err(broken)?;
        while !entries.is_empty() {
            let offset = entries.next_offset();
            let Some(abbrev) = entries.read_abbreviation().map_err(broken)? else {
                continue;
            };
            let specs = abbrev.attributes();
            let is_structure = matches!(
                abbrev.tag(),
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type
            );
            if !is_structure || !abbrev.has_children() {
                entries.skip_attributes(specs).map_err(broken)?;
                continue;
            }
            let mut named = None;
            for spec in specs {
                let attribute = entries.read_attribute(*spec).map_err(broken)?;
                if attribute.name() == gimli::DW_AT_name {
                    named = self.dwarf.attr_string(unit, attribute.value()).ok();
                }
            }
            let Some(name) = named else {
                continue;
            };
            self.file.count(name.len())?;
            let Ok(name) = std::str::from_utf8(name.slice()) else {
                continue;
            };
            if !self.wanted.contains(name) {
                continue;
            }
            let mut listing = Listing::new();
            let size = self.members(unit, offset, "", 0, 0, &mut listing);
            if let Some(size) = size.map_err(broken)? {
                self.wanted.remove(name);
                let structure = listing.finish(size, TypeSource::Dwarf);
                self.found.insert(name.to_owned(), structure);
                if self.wanted.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &gimli::DebuggingInformationEntry<Slice<'a>>,
    ) -> Entry<'a> {
        let mut read = Entry::default();
        for attribute in entry.attrs() {
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_name => read.name = self.dwarf.attr_string(unit, value).ok(),
                gimli::DW_AT_byte_size => read.byte_size = value.udata_value(),
                gimli::DW_AT_data_member_location => read.location = location(unit, value),
                gimli::DW_AT_data_bit_offset => read.bit_offset = value.udata_value(),
                gimli::DW_AT_bit_size => read.bit_field = true,
                gimli::DW_AT_declaration => read.declaration = true,
                gimli::DW_AT_type => read.ty = Some(value),
                gimli::DW_AT_count => read.count = value.udata_value(),
                gimli::DW_AT_upper_bound => {
                    read.count = value.udata_value().and_then(|last| last.checked_add(1));
                }
                _ => {}
            }
        }
        read
    }

    /// Adds the members of the structure whose entry is at `at`, and returns its size. Returns
    /// `None` for a declaration.
    fn members(
        &self,
        unit: &Unit<Slice<'a>>,
        at: UnitOffset,
        prefix: &str,
        base: u64,
        depth: u32,
        into: &mut Listing,
    ) -> Result<Option<u64>, gimli::Error> {
        let mut entries = unit.entries_at_offset(at)?;
        let Some(entry) = entries.next_dfs()? else {
            return Ok(None);
        };
        let own = self.entry(unit, entry);
        let (Some(size), false) = (own.byte_size, own.declaration) else {
            return Ok(None);
        };
        // Only direct children are members of this structure.
        let level = entry.depth();
        while let Some(entry) = entries.next_dfs()? {
            if entry.depth() <= level || !into.step() {
                break;
            }
            if entry.depth() != level + 1 || entry.tag() != gimli::DW_TAG_member {
                continue;
            }
            let member = self.entry(unit, entry);
            let inside = match (member.location, member.bit_offset) {
                (Some(at), _) => at,
                (None, Some(bits)) => bits / 8,
                (None, None) => 0,
            };
            let offset = base.saturating_add(inside);
            let name = member.name.map(|n| n.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let full = format!("{prefix}{name}");
            let prefix = if name.is_empty() {
                prefix.to_owned()
            } else {
                format!("{full}.")
            };
            let target = member.ty.and_then(|ty| self.resolve(unit, ty));
            if let Some(Target::Structure(at, _)) = target
                && depth < DEPTH_LIMIT
            {
                self.members(unit, at, &prefix, offset, depth + 1, into)?;
            }
            if !name.is_empty() {
                let size = match target {
                    _ if member.bit_field => 0,
                    Some(target) => target.size(),
                    None => 0,
                };
                into.add(full, Member { offset, size });
            }
        }
        Ok(Some(size))
    }

    /// Returns a type without typedefs and qualifiers.
    fn resolve(&self, unit: &Unit<Slice<'a>>, ty: AttributeValue<Slice<'a>>) -> Option<Target> {
        let mut ty = ty;
        let mut elements = 1_u64;
        for _ in 0..HOPS {
            let at = match ty {
                AttributeValue::UnitRef(at) => at,
                AttributeValue::DebugInfoRef(at) => within(unit, at)?,
                _ => return None,
            };
            let mut entries = unit.entries_at_offset(at).ok()?;
            let entry = entries.next_dfs().ok()??;
            let read = self.entry(unit, entry);
            let target = match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type if elements == 1 => {
                    Target::Structure(at, read.byte_size?)
                }
                gimli::DW_TAG_pointer_type => {
                    let own = u64::from(unit.encoding().address_size);
                    Target::Bytes(read.byte_size.unwrap_or(own).saturating_mul(elements))
                }
                gimli::DW_TAG_array_type => {
                    let level = entry.depth();
                    for _ in 0..DIMENSIONS {
                        let Some(range) = entries.next_dfs().ok()? else {
                            break;
                        };
                        if range.depth() <= level {
                            break;
                        }
                        let count = self.entry(unit, range).count.unwrap_or(0);
                        elements = elements.saturating_mul(count);
                    }
                    ty = read.ty?;
                    continue;
                }
                gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_restrict_type
                | gimli::DW_TAG_atomic_type => {
                    ty = read.ty?;
                    continue;
                }
                _ => Target::Bytes(read.byte_size?.saturating_mul(elements)),
            };
            return Some(target);
        }
        None
    }
}

/// The type of a member.
#[derive(Clone, Copy)]
enum Target {
    /// A structure or union: its offset in the unit and its size.
    Structure(UnitOffset, u64),
    /// Another type, of this size.
    Bytes(u64),
}

impl Target {
    fn size(self) -> u64 {
        match self {
            Self::Structure(_, size) | Self::Bytes(size) => size,
        }
    }
}

/// Converts a section offset to an offset in this unit. Types in other units are not followed.
pub(crate) fn within(unit: &Unit<Slice<'_>>, at: DebugInfoOffset) -> Option<UnitOffset> {
    at.to_unit_offset(&unit.header)
}

/// Returns the offset of a member: a number, or in DWARF 2 the expression `DW_OP_plus_uconst N`.
pub(crate) fn location<R: Reader>(unit: &Unit<R>, value: AttributeValue<R>) -> Option<u64> {
    if let AttributeValue::Exprloc(expression) = value {
        let mut operations = expression.operations(unit.encoding());
        return match operations.next().ok()?? {
            gimli::Operation::PlusConstant { value } => Some(value),
            _ => None,
        };
    }
    value.udata_value()
}
