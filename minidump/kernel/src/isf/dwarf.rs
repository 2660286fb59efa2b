//! Types and variables from DWARF.

use gimli::{AttributeValue, DwTag, Dwarf, Unit, UnitOffset};

use livecore_minidump::{ByteOrder, Error, KernelElf};

use super::{Id, Isf, MEMBERS, Member, NAME, Node, Types};
use crate::dwarf::{SECTIONS, location, within};
use crate::dwarf_file::{DwarfFile, Slice, broken};

/// How many times the size of all sections is read: types are read again for each use.
const PASSES: u64 = 64;
/// The work for an entry, besides its name. In a kernel, entries have about this size.
const ENTRY: usize = 16;
/// The maximum number of dimensions of an array.
const DIMENSIONS: usize = 16;
/// The maximum number of typedefs and qualifiers followed for a size.
const HOPS: u32 = 64;

/// Adds the types and variables of all units. Returns whether there are any.
pub(super) fn read(elf: &KernelElf, isf: &mut Isf) -> Result<bool, Error> {
    let Some(file) = DwarfFile::read(elf, &SECTIONS, PASSES, 0)? else {
        return Ok(false);
    };
    let dwarf = file.dwarf();
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(broken)? {
        let unit = file.unit(&dwarf, header)?;
        let view = View {
            file: &file,
            dwarf: &dwarf,
            unit: &unit,
            order: elf.order(),
        };
        view.add(isf)?;
        // Fails if the types of this unit took all of the work.
        file.count(ENTRY)?;
    }
    Ok(true)
}

/// The attributes of an entry that are used.
#[derive(Default)]
struct Entry<'a> {
    tag: Option<DwTag>,
    name: Option<Slice<'a>>,
    size: Option<u64>,
    ty: Option<Id>,
    encoding: Option<gimli::DwAte>,
    bits: Option<u64>,
    /// `DW_AT_data_bit_offset`, and `DW_AT_bit_offset` of DWARF 2 and 3.
    bit_at: Option<u64>,
    old_bit_at: Option<u64>,
    at: Option<u64>,
    is_declaration: bool,
    count: Option<u64>,
    value: Option<i64>,
    address: Option<u64>,
}

/// The types of a unit. The number of a type is its offset in the unit.
struct View<'s, 'a> {
    file: &'s DwarfFile,
    dwarf: &'s Dwarf<Slice<'a>>,
    unit: &'s Unit<Slice<'a>>,
    order: ByteOrder,
}

impl<'a> View<'_, 'a> {
    fn add(&self, isf: &mut Isf) -> Result<(), Error> {
        isf.unnamed.clear();
        let mut entries = self.unit.entries_raw(None).map_err(broken)?;
        while !entries.is_empty() {
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            let Some(abbrev) = entries.read_abbreviation().map_err(broken)? else {
                continue;
            };
            entries
                .skip_attributes(abbrev.attributes())
                .map_err(broken)?;
            match abbrev.tag() {
                gimli::DW_TAG_structure_type
                | gimli::DW_TAG_union_type
                | gimli::DW_TAG_enumeration_type => isf.define(self, offset.0 as Id)?,
                gimli::DW_TAG_variable if depth == 1 => {
                    if let Some(variable) = self.entry(offset)
                        && let (Some(name), Some(address)) = (variable.name, variable.address)
                        && let Some(name) = self.text(name)
                    {
                        isf.variable(self, &name, address, variable.ty)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(&self, at: UnitOffset) -> Option<Entry<'a>> {
        if !self.file.work.take(ENTRY) {
            return None;
        }
        let mut entries = self.unit.entries_at_offset(at).ok()?;
        Some(self.read(entries.next_dfs().ok()??))
    }

    fn read(&self, entry: &gimli::DebuggingInformationEntry<Slice<'a>>) -> Entry<'a> {
        let mut read = Entry {
            tag: Some(entry.tag()),
            ..Entry::default()
        };
        for attribute in entry.attrs() {
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_name => read.name = self.dwarf.attr_string(self.unit, value).ok(),
                gimli::DW_AT_byte_size => read.size = value.udata_value(),
                gimli::DW_AT_type => read.ty = self.id(value),
                gimli::DW_AT_encoding => {
                    if let AttributeValue::Encoding(encoding) = value {
                        read.encoding = Some(encoding);
                    }
                }
                gimli::DW_AT_bit_size => read.bits = value.udata_value(),
                gimli::DW_AT_data_bit_offset => read.bit_at = value.udata_value(),
                gimli::DW_AT_bit_offset => read.old_bit_at = value.udata_value(),
                gimli::DW_AT_data_member_location => read.at = location(self.unit, value),
                gimli::DW_AT_declaration => read.is_declaration = true,
                gimli::DW_AT_count => read.count = value.udata_value(),
                gimli::DW_AT_upper_bound => {
                    read.count = value.udata_value().and_then(|last| last.checked_add(1));
                }
                gimli::DW_AT_const_value => {
                    let unsigned = || value.udata_value().map(u64::cast_signed);
                    read.value = value.sdata_value().or_else(unsigned);
                }
                gimli::DW_AT_location => read.address = self.address(value),
                _ => {}
            }
        }
        read
    }

    fn id(&self, value: AttributeValue<Slice<'a>>) -> Option<Id> {
        let at = match value {
            AttributeValue::UnitRef(at) => at,
            AttributeValue::DebugInfoRef(at) => within(self.unit, at)?,
            _ => return None,
        };
        Some(at.0 as Id)
    }

    /// The address of a variable that has one.
    fn address(&self, value: AttributeValue<Slice<'a>>) -> Option<u64> {
        let AttributeValue::Exprloc(expression) = value else {
            return None;
        };
        let mut operations = expression.operations(self.unit.encoding());
        match operations.next().ok()?? {
            gimli::Operation::Address { address } => Some(address),
            gimli::Operation::AddressIndex { index } => self.dwarf.address(self.unit, index).ok(),
            _ => None,
        }
    }

    fn text(&self, name: Slice<'a>) -> Option<String> {
        if !self.file.work.take(name.len()) {
            return None;
        }
        let text = std::str::from_utf8(name.slice()).ok()?;
        (!text.is_empty() && text.len() <= NAME).then(|| text.into())
    }

    fn named(&self, entry: &Entry<'a>) -> Option<String> {
        self.text(entry.name?)
    }

    /// Passes the children of the entry `id` to `each`.
    fn children(&self, id: Id, mut each: impl FnMut(Entry<'a>)) -> Option<()> {
        let at = UnitOffset(usize::try_from(id).ok()?);
        let mut entries = self.unit.entries_at_offset(at).ok()?;
        let level = entries.next_dfs().ok()??.depth();
        for _ in 0..MEMBERS {
            if !self.file.work.take(ENTRY) {
                break;
            }
            let entry = entries.next_dfs().ok()??;
            if entry.depth() <= level {
                break;
            }
            if entry.depth() == level + 1 {
                each(self.read(entry));
            }
        }
        Some(())
    }
}

impl Types for View<'_, '_> {
    fn node(&self, id: Id) -> Option<Node> {
        let entry = self.entry(UnitOffset(usize::try_from(id).ok()?))?;
        let size = entry.size.filter(|_| !entry.is_declaration);
        let composite = |kind| Node::Composite {
            kind,
            name: self.named(&entry),
            size,
        };
        Some(match entry.tag? {
            gimli::DW_TAG_base_type => {
                let (kind, signed) = match entry.encoding {
                    Some(gimli::DW_ATE_boolean) => ("bool", false),
                    Some(gimli::DW_ATE_float | gimli::DW_ATE_complex_float) => ("float", true),
                    Some(gimli::DW_ATE_signed_char) => ("char", true),
                    Some(gimli::DW_ATE_unsigned_char | gimli::DW_ATE_UTF) => ("char", false),
                    Some(gimli::DW_ATE_signed) => ("int", true),
                    _ => ("int", false),
                };
                let name = self.named(&entry)?;
                Node::Base {
                    name,
                    size: entry.size?,
                    kind,
                    signed,
                }
            }
            gimli::DW_TAG_pointer_type => Node::Pointer(entry.ty),
            gimli::DW_TAG_array_type => {
                let mut dimensions = Vec::new();
                self.children(id, |child| {
                    if child.tag == Some(gimli::DW_TAG_subrange_type)
                        && dimensions.len() < DIMENSIONS
                    {
                        dimensions.push(child.count.unwrap_or(0));
                    }
                });
                Node::Array(entry.ty, dimensions)
            }
            gimli::DW_TAG_structure_type => composite("struct"),
            gimli::DW_TAG_union_type => composite("union"),
            gimli::DW_TAG_enumeration_type => Node::Enum {
                name: self.named(&entry),
                size: entry.size.unwrap_or(4),
            },
            gimli::DW_TAG_subroutine_type => Node::Function,
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type => Node::Alias(entry.ty),
            _ => Node::Void,
        })
    }

    fn members(&self, id: Id) -> Vec<Member> {
        let mut members = Vec::new();
        self.children(id, |child| {
            if child.tag != Some(gimli::DW_TAG_member) {
                return;
            }
            let mut at = child.at.unwrap_or(0).saturating_mul(8);
            if let Some(bit) = child.bit_at {
                at = bit;
            } else if let (Some(bit), Some(bits)) = (child.old_bit_at, child.bits) {
                let unit = child.size.or_else(|| self.size(child.ty?)).unwrap_or(4);
                // Counts from the most significant bit.
                let bit = match self.order {
                    ByteOrder::Little => {
                        (unit.saturating_mul(8)).saturating_sub(bit.saturating_add(bits))
                    }
                    ByteOrder::Big => bit,
                };
                at = at.saturating_add(bit);
            }
            members.push(Member {
                name: self.named(&child),
                at,
                bits: child.bits,
                ty: child.ty,
            });
        });
        members
    }

    fn constants(&self, id: Id) -> Vec<(String, i64)> {
        let mut constants = Vec::new();
        self.children(id, |child| {
            if let (Some(name), Some(value)) = (self.named(&child), child.value) {
                constants.push((name, value));
            }
        });
        constants
    }

    fn size(&self, id: Id) -> Option<u64> {
        let mut id = id;
        for _ in 0..HOPS {
            match self.node(id)? {
                Node::Alias(of) => id = of?,
                Node::Base { size, .. } | Node::Enum { size, .. } => return Some(size),
                Node::Composite { size, .. } => return size,
                Node::Pointer(_) => return Some(self.unit.encoding().address_size.into()),
                _ => return None,
            }
        }
        None
    }
}
