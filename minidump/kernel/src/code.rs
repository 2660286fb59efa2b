//! Source lines, inlined functions and calls, from the DWARF of a kernel file.
//!
//! A look-up reads one unit: the entries of one function and the line number program. Of the other
//! units, only the addresses are read, once. The results are kept.
//!
//! Calls: DWARF 5, 3.4, or in version 4 the GNU extensions that preceded them
//! (`DW_TAG_GNU_call_site`, `DW_AT_GNU_tail_call`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::{
    Abbreviation, AttributeValue, DebugInfoOffset, Dwarf, EntriesRaw, Reader, SectionId, Unit,
    UnitOffset,
};

use livecore_minidump::elf::SymbolKind;
use livecore_minidump::{Error, KernelElf};

use crate::dwarf_file::{DwarfFile, Slice, Work, broken};
use crate::source_line::{NAME, SourceLine, line, path};

/// The sections that are read.
const SECTIONS: [SectionId; 9] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugLineStr,
    SectionId::DebugLine,
    SectionId::DebugAddr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
];
/// How many times the size of the sections may be read, and the bytes that all look-ups may read in
/// addition. A look-up reads some 10 KiB.
const PASSES: u64 = 8;
const LOOKUPS: u64 = 2 << 30;
/// The maximum number of inlined functions at one address.
const INLINED: usize = 64;
/// The maximum number of references followed to the name of a function.
const HOPS: u32 = 8;
/// The maximum number of ranges of all units, and of functions of all units.
const RANGES: usize = 1 << 20;
/// The maximum number of results kept.
const KEPT: usize = 1 << 14;

/// The function that a call enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The function that starts at this linked address.
    Function(u64),
    /// Any function: the call is indirect, or the function is not known.
    Any,
}

/// An inlined function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inlined {
    pub(crate) name: String,
    pub(crate) line: Option<SourceLine>,
}

/// What the debug information has about an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The inlined functions at the instruction, innermost first.
    pub(crate) inlined: Vec<Inlined>,
    /// The line of the function that contains the instruction.
    pub(crate) line: Option<SourceLine>,
    /// The entry point of that function.
    pub(crate) entry: u64,
    /// The function that the call entered that returns to the instruction.
    pub(crate) target: Option<Target>,
}

/// A call that replaces the frame of its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailCall {
    /// The address of the call, or the address after it.
    pub(crate) pc: u64,
    /// Whether `pc` is the address after it.
    pub(crate) after: bool,
    pub(crate) target: Target,
}

/// An instruction to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct At {
    pub(crate) pc: u64,
    /// Whether `pc` is the address after the instruction.
    pub(crate) after: bool,
}

impl At {
    fn instruction(self) -> u64 {
        self.pc.wrapping_sub(u64::from(self.after))
    }
}

struct CodeUnit {
    offset: DebugInfoOffset,
    /// Sorted by start.
    functions: OnceLock<Vec<Function>>,
}

#[derive(Debug, Clone, Copy)]
struct Function {
    start: u64,
    end: u64,
    entry: u64,
    /// Its entry in the unit.
    at: UnitOffset,
    /// The entry of the function that this is an instance of.
    origin: Option<UnitOffset>,
    /// Whether the entry lists all its tail calls.
    all_calls: bool,
}

/// The debug information about the code of a kernel file.
pub(crate) struct Code {
    file: DwarfFile,
    /// The number of functions that may still be kept.
    memory: Work,
    units: Vec<CodeUnit>,
    /// Start, end and unit, sorted by start.
    ranges: Vec<(u64, u64, usize)>,
    places: Mutex<HashMap<At, Option<Arc<Place>>>>,
    tail_calls: Mutex<HashMap<u64, Option<Arc<[TailCall]>>>>,
}

type Entries<'a, 'u> = EntriesRaw<'u, Slice<'a>>;

/// The attributes of an entry that are used.
#[derive(Default)]
struct Entry<'a> {
    low: Option<u64>,
    high: Option<AttributeValue<Slice<'a>>>,
    ranges: Option<AttributeValue<Slice<'a>>>,
    origin: Option<AttributeValue<Slice<'a>>>,
    name: Option<AttributeValue<Slice<'a>>>,
    call_file: Option<u64>,
    call_line: Option<u64>,
    call_pc: Option<u64>,
    return_pc: Option<u64>,
    indirect: bool,
    tail: bool,
    declaration: bool,
    all_calls: bool,
}

/// An inlined function at an address.
struct Inline<'a> {
    depth: isize,
    origin: Option<AttributeValue<Slice<'a>>>,
    file: Option<u64>,
    line: Option<u64>,
}

impl Code {
    /// Reads the DWARF of `elf` and the addresses of its units. Returns `None` without DWARF.
    pub(crate) fn read(elf: &KernelElf) -> Result<Option<Self>, Error> {
        let Some(file) = DwarfFile::read(elf, &SECTIONS, PASSES, LOOKUPS)? else {
            return Ok(None);
        };
        let (mut units, mut ranges) = (Vec::new(), Vec::new());
        let dwarf = file.dwarf();
        let mut headers = dwarf.units();
        while let Some(header) = headers.next().map_err(broken)? {
            let Some(offset) = header.debug_info_offset() else {
                continue;
            };
            if units.len() >= RANGES || ranges.len() >= RANGES {
                break;
            }
            let unit = file.unit(&dwarf, header)?;
            let mut entries = unit.entries_raw(None).map_err(broken)?;
            let root = entries.read_abbreviation().map_err(broken)?;
            let root = root.and_then(|root| entry(&dwarf, &unit, &mut entries, root).ok());
            let number = units.len();
            for_each_range(
                &file,
                &dwarf,
                &unit,
                &root.unwrap_or_default(),
                |start, end| {
                    ranges.push((start, end, number));
                    ranges.len() < RANGES
                },
            );
            units.push(CodeUnit {
                offset,
                functions: OnceLock::new(),
            });
        }
        ranges.sort_unstable();
        Ok(Some(Self {
            file,
            memory: Work::new(RANGES as u64),
            units,
            ranges,
            places: Mutex::default(),
            tail_calls: Mutex::default(),
        }))
    }

    /// Returns what is known about the instruction at a linked address.
    pub(crate) fn place(&self, elf: &KernelElf, at: At) -> Option<Arc<Place>> {
        let mut kept = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&at) {
            return found.clone();
        }
        drop(kept);
        let found = self.find(elf, at).map(Arc::new);
        kept = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.insert(at, found.clone());
        }
        found
    }

    /// Returns the tail calls of the function that starts at `entry`. Returns `None` if not all of
    /// them are known.
    pub(crate) fn tail_calls(&self, elf: &KernelElf, entry: u64) -> Option<Arc<[TailCall]>> {
        let mut kept = self
            .tail_calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&entry) {
            return found.clone();
        }
        drop(kept);
        let found = self.find_tail_calls(elf, entry).map(Arc::from);
        kept = self
            .tail_calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.insert(entry, found.clone());
        }
        found
    }

    /// The unit with the code at `pc`.
    fn unit_of(&self, pc: u64) -> Option<usize> {
        let after = self.ranges.partition_point(|(start, ..)| *start <= pc);
        let near = self.ranges[..after].iter().rev().take(INLINED);
        let mut found = near.filter(|(_, end, _)| pc < *end);
        found.next().map(|(.., unit)| *unit)
    }

    fn open<'a>(&self, dwarf: &Dwarf<Slice<'a>>, unit: usize) -> Option<Unit<Slice<'a>>> {
        let header = dwarf.debug_info.header_from_offset(self.units[unit].offset);
        self.file.unit(dwarf, header.ok()?).ok()
    }

    /// The function of a unit that contains `pc`.
    fn function(
        &self,
        dwarf: &Dwarf<Slice<'_>>,
        unit: &Unit<Slice<'_>>,
        number: usize,
        pc: u64,
    ) -> Option<Function> {
        let all = self.functions(dwarf, unit, number);
        let after = all.partition_point(|function| function.start <= pc);
        let found = all.get(after.checked_sub(1)?)?;
        (pc < found.end).then_some(*found)
    }

    fn functions(
        &self,
        dwarf: &Dwarf<Slice<'_>>,
        unit: &Unit<Slice<'_>>,
        number: usize,
    ) -> &[Function] {
        self.units[number].functions.get_or_init(|| {
            let mut found = Vec::new();
            if self.file.work.take(unit.header.length_including_self()) {
                // The functions before malformed entries are kept.
                let _ = self.read_functions(dwarf, unit, &mut found);
            }
            found.sort_by_key(|function| function.start);
            found.shrink_to_fit();
            found
        })
    }

    fn read_functions<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        unit: &Unit<Slice<'a>>,
        found: &mut Vec<Function>,
    ) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let at = entries.next_offset();
            let Some(abbrev) = entries.read_abbreviation()? else {
                continue;
            };
            if abbrev.tag() != gimli::DW_TAG_subprogram {
                entries.skip_attributes(abbrev.attributes())?;
                continue;
            }
            let read = entry(dwarf, unit, &mut entries, abbrev)?;
            let mut first = read.low;
            for_each_range(&self.file, dwarf, unit, &read, |start, end| {
                let kept = self.memory.take(1);
                found.extend(kept.then(|| Function {
                    start,
                    end,
                    entry: *first.get_or_insert(start),
                    at,
                    origin: read.origin.and_then(|origin| within(unit, origin)),
                    all_calls: read.all_calls,
                }));
                kept
            });
        }
        Ok(())
    }

    fn find(&self, elf: &KernelElf, at: At) -> Option<Place> {
        let pc = at.instruction();
        let number = self.unit_of(pc)?;
        let dwarf = self.file.dwarf();
        let unit = self.open(&dwarf, number)?;
        let function = self.function(&dwarf, &unit, number, pc)?;
        // Outermost first.
        let mut inlined: Vec<Inline<'_>> = Vec::new();
        let mut target = None;
        let walked = self.walk(&dwarf, &unit, function, |depth, tag, read| {
            if tag != gimli::DW_TAG_inlined_subroutine {
                if at.after && read.return_pc == Some(at.pc) && !read.tail {
                    target = Some(self.target(&dwarf, &unit, elf, number, &read));
                }
                return;
            }
            let mut here = false;
            for_each_range(&self.file, &dwarf, &unit, &read, |start, end| {
                here = (start..end).contains(&pc);
                !here
            });
            // Siblings cannot both contain the address.
            if here
                && inlined.len() < INLINED
                && inlined.last().is_none_or(|last| last.depth < depth)
            {
                inlined.push(Inline {
                    depth,
                    origin: read.origin,
                    file: read.call_file,
                    line: read.call_line,
                });
            }
        });
        walked?;
        let (found, files) = line(&self.file.work, &dwarf, &unit, pc).unzip();
        let mut line = found.flatten();
        let mut functions = Vec::new();
        for inline in inlined.iter().rev() {
            let name = inline
                .origin
                .and_then(|origin| self.name(&dwarf, &unit, origin));
            functions.push(Inlined {
                name: name.unwrap_or_else(|| "?".into()),
                line: line.take(),
            });
            let file = inline.file.zip(files.as_ref());
            let file = file.and_then(|(file, header)| path(&dwarf, &unit, header, file));
            line = file
                .zip(inline.line.filter(|line| *line != 0))
                .map(|(file, line)| SourceLine { file, line });
        }
        Some(Place {
            inlined: functions,
            line,
            entry: function.entry,
            target,
        })
    }

    fn find_tail_calls(&self, elf: &KernelElf, start: u64) -> Option<Vec<TailCall>> {
        let number = self.unit_of(start)?;
        let dwarf = self.file.dwarf();
        let unit = self.open(&dwarf, number)?;
        let function = self.function(&dwarf, &unit, number, start)?;
        if function.entry != start || !function.all_calls {
            return None;
        }
        let mut found = Vec::new();
        let mut unknown = false;
        self.walk(&dwarf, &unit, function, |_, tag, read| {
            if tag == gimli::DW_TAG_inlined_subroutine || !read.tail {
                return;
            }
            let Some(pc) = read.return_pc.or(read.call_pc) else {
                unknown = true;
                return;
            };
            found.push(TailCall {
                pc,
                after: read.return_pc.is_some(),
                target: self.target(&dwarf, &unit, elf, number, &read),
            });
        })?;
        (!unknown).then_some(found)
    }

    /// Calls `visit` with the inlined functions and calls in a function. Returns `None` if its entries
    /// are malformed.
    fn walk<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        unit: &Unit<Slice<'a>>,
        function: Function,
        mut visit: impl FnMut(isize, gimli::DwTag, Entry<'a>),
    ) -> Option<()> {
        let mut entries = unit.entries_raw(Some(function.at)).ok()?;
        let first = entries.next_offset();
        let abbrev = entries.read_abbreviation().ok()??;
        entries.skip_attributes(abbrev.attributes()).ok()?;
        if !abbrev.has_children() {
            return Some(());
        }
        while entries.next_depth() > 0 && !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(abbrev) = entries.read_abbreviation().ok()? else {
                continue;
            };
            match abbrev.tag() {
                gimli::DW_TAG_inlined_subroutine
                | gimli::DW_TAG_call_site
                | gimli::DW_TAG_GNU_call_site => {
                    let read = entry(dwarf, unit, &mut entries, abbrev).ok()?;
                    visit(depth, abbrev.tag(), read);
                }
                _ => entries.skip_attributes(abbrev.attributes()).ok()?,
            }
        }
        let len = entries.next_offset().0 - first.0;
        self.file.work.take(len).then_some(())
    }

    /// The function that a call enters.
    fn target(
        &self,
        dwarf: &Dwarf<Slice<'_>>,
        unit: &Unit<Slice<'_>>,
        elf: &KernelElf,
        number: usize,
        call: &Entry<'_>,
    ) -> Target {
        let find = || {
            let origin = call.origin.filter(|_| !call.indirect)?;
            let at = within(unit, origin)?;
            let mut entries = unit.entries_raw(Some(at)).ok()?;
            let abbrev = entries.read_abbreviation().ok()??;
            let callee = entry(dwarf, unit, &mut entries, abbrev).ok()?;
            if let Some(low) = callee.low {
                return Some(low);
            }
            if callee.declaration {
                let name = self.text(dwarf.attr_string(unit, callee.name?).ok()?);
                let symbol = elf.symbol(&name)?;
                let plain = symbol.kind == SymbolKind::Function && !symbol.absolute;
                return plain.then_some(symbol.value);
            }
            // The function is inlined elsewhere, and this is its abstract entry.
            let all = self.functions(dwarf, unit, number);
            let mut instances = all.iter().filter(|f| f.origin == Some(at));
            let first = instances.next()?.entry;
            instances.all(|f| f.entry == first).then_some(first)
        };
        find().map_or(Target::Any, Target::Function)
    }

    /// The name of a function.
    fn name<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        unit: &Unit<Slice<'a>>,
        mut origin: AttributeValue<Slice<'a>>,
    ) -> Option<String> {
        for _ in 0..HOPS {
            let Some(at) = within(unit, origin) else {
                return self.foreign_name(dwarf, origin);
            };
            let mut entries = unit.entries_raw(Some(at)).ok()?;
            let abbrev = entries.read_abbreviation().ok()??;
            let read = entry(dwarf, unit, &mut entries, abbrev).ok()?;
            if let Some(name) = read.name {
                return Some(self.text(dwarf.attr_string(unit, name).ok()?));
            }
            origin = read.origin?;
        }
        None
    }

    /// The name of a function in another unit, where link-time optimization inlined it from.
    fn foreign_name<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        origin: AttributeValue<Slice<'a>>,
    ) -> Option<String> {
        let AttributeValue::DebugInfoRef(at) = origin else {
            return None;
        };
        let after = self.units.partition_point(|unit| unit.offset.0 <= at.0);
        let unit = self.open(dwarf, after.checked_sub(1)?)?;
        let mut entries = unit.entries_raw(Some(within(&unit, origin)?)).ok()?;
        let abbrev = entries.read_abbreviation().ok()??;
        let read = entry(dwarf, &unit, &mut entries, abbrev).ok()?;
        let name = dwarf.attr_string(&unit, read.name?).ok()?;
        Some(self.text(name))
    }

    fn text(&self, bytes: Slice<'_>) -> String {
        self.file.work.take(bytes.len());
        let bytes = bytes.slice();
        String::from_utf8_lossy(&bytes[..bytes.len().min(NAME)]).into_owned()
    }
}

/// Converts a reference to an offset in this unit.
fn within(unit: &Unit<Slice<'_>>, at: AttributeValue<Slice<'_>>) -> Option<UnitOffset> {
    match at {
        AttributeValue::UnitRef(at) => Some(at),
        AttributeValue::DebugInfoRef(at) => at.to_unit_offset(&unit.header),
        _ => None,
    }
}

/// Reads the attributes of an entry.
fn entry<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    entries: &mut Entries<'a, '_>,
    abbrev: &Abbreviation,
) -> gimli::Result<Entry<'a>> {
    let mut read = Entry::default();
    let gnu_call = abbrev.tag() == gimli::DW_TAG_GNU_call_site;
    for spec in abbrev.attributes() {
        let attribute = entries.read_attribute(*spec)?;
        let value = attribute.value();
        let address = || dwarf.attr_address(unit, value).ok().flatten();
        let flag = || value == AttributeValue::Flag(true);
        match attribute.name() {
            gimli::DW_AT_low_pc if gnu_call => read.return_pc = address(),
            gimli::DW_AT_low_pc => read.low = address(),
            gimli::DW_AT_high_pc => read.high = Some(value),
            gimli::DW_AT_ranges => read.ranges = Some(value),
            gimli::DW_AT_name => read.name = Some(value),
            gimli::DW_AT_abstract_origin
            | gimli::DW_AT_specification
            | gimli::DW_AT_call_origin => read.origin = Some(value),
            gimli::DW_AT_call_file => {
                read.call_file = match value {
                    AttributeValue::FileIndex(index) => Some(index),
                    other => other.udata_value(),
                };
            }
            gimli::DW_AT_call_line => read.call_line = value.udata_value(),
            gimli::DW_AT_call_pc => read.call_pc = address(),
            gimli::DW_AT_call_return_pc => read.return_pc = address(),
            gimli::DW_AT_call_target
            | gimli::DW_AT_call_target_clobbered
            | gimli::DW_AT_GNU_call_site_target
            | gimli::DW_AT_GNU_call_site_target_clobbered => read.indirect = true,
            gimli::DW_AT_call_tail_call | gimli::DW_AT_GNU_tail_call => read.tail = flag(),
            gimli::DW_AT_declaration => read.declaration = flag(),
            gimli::DW_AT_call_all_calls
            | gimli::DW_AT_call_all_tail_calls
            | gimli::DW_AT_GNU_all_call_sites
            | gimli::DW_AT_GNU_all_tail_call_sites => read.all_calls |= flag(),
            _ => {}
        }
    }
    Ok(read)
}

/// Calls `each` with the address ranges of an entry, until it returns false.
fn for_each_range<'a>(
    file: &DwarfFile,
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    of: &Entry<'a>,
    mut each: impl FnMut(u64, u64) -> bool,
) {
    let listed = of.ranges.map(|value| dwarf.attr_ranges(unit, value));
    if let Some(Ok(Some(mut ranges))) = listed {
        while let Ok(Some(range)) = ranges.next() {
            let is_empty = range.begin >= range.end;
            if !file.work.take(size_of::<gimli::Range>())
                || !is_empty && !each(range.begin, range.end)
            {
                break;
            }
        }
        return;
    }
    let end = match (of.low, of.high) {
        (Some(low), Some(AttributeValue::Udata(len))) => low.checked_add(len),
        (Some(low), Some(value)) => match dwarf.attr_address(unit, value) {
            Ok(Some(end)) => Some(end),
            _ => value.udata_value().and_then(|len| low.checked_add(len)),
        },
        _ => None,
    };
    if let (Some(low), Some(end)) = (of.low, end)
        && low < end
    {
        each(low, end);
    }
}
