//! Lines of source files, from the line number programs of DWARF (DWARF 5, 6.2).

use gimli::{AttributeValue, DebugLine, DebugLineOffset, Dwarf, Reader, Section as _, Unit};

use crate::dwarf_file::{Slice, Work};

/// The maximum length of a name and of a path.
pub(crate) const NAME: usize = 1024;
/// The maximum size of the header of a line number program. In memory, it is up to 50 times larger.
const LINE_HEADER: u64 = 256 << 10;

/// A line of a source file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceLine {
    /// The path that the compiler recorded.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
}

impl std::fmt::Display for SourceLine {
    /// Formats as `/usr/src/sys/kern/kern_synch.c:531`. Control characters are escaped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = livecore_defs::text::printable(&self.file);
        write!(f, "{file}:{}", self.line)
    }
}

/// The line of the instruction at `pc`, and the file names of the unit.
pub(crate) fn line<'a>(
    work: &Work,
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    pc: u64,
) -> Option<(Option<SourceLine>, gimli::LineProgramHeader<Slice<'a>>)> {
    let mut entries = unit.entries_raw(None).ok()?;
    let mut stmt_list = None;
    for spec in entries.read_abbreviation().ok()??.attributes() {
        let attribute = entries.read_attribute(*spec).ok()?;
        if attribute.name() == gimli::DW_AT_stmt_list
            && let AttributeValue::DebugLineRef(at) = attribute.value()
        {
            stmt_list = Some(at);
        }
    }
    let section = lines(work, dwarf, stmt_list?)?;
    let size = unit.header.address_size();
    let program = section.program(DebugLineOffset(0), size, unit.comp_dir, unit.name);
    let program = program.ok()?;
    let header = program.header().clone();
    let mut rows = program.rows();
    let mut found: Option<(u64, Option<u64>)> = None;
    let mut before: Option<(u64, (u64, Option<u64>))> = None;
    // The rows before malformed ones are used.
    while let Ok(Some((_, row))) = rows.next_row() {
        if let Some((address, place)) = before
            && (address..row.address()).contains(&pc)
        {
            found = Some(place);
            break;
        }
        let place = (row.file_index(), row.line().map(std::num::NonZero::get));
        before = (!row.end_sequence()).then_some((row.address(), place));
    }
    let line = found.and_then(|(file, line)| {
        Some(SourceLine {
            file: path(dwarf, unit, &header, file)?,
            line: line?,
        })
    });
    Some((line, header))
}

/// The line number program at `at`, if its header is not too large.
fn lines<'a>(
    work: &Work,
    dwarf: &Dwarf<Slice<'a>>,
    at: DebugLineOffset,
) -> Option<DebugLine<Slice<'a>>> {
    let section = dwarf.debug_line.reader();
    let rest = section.range_from(at.0.min(section.len())..);
    let mut head = rest;
    let (len, format) = head.read_initial_length().ok()?;
    let version = head.read_u16().ok()?;
    if version >= 5 {
        head.read_u16().ok()?;
    }
    let header = head.read_length(format).ok()?;
    if header as u64 > LINE_HEADER || !work.take(len) {
        return None;
    }
    Some(DebugLine::from(rest))
}

/// The path of a file in a line number program.
pub(crate) fn path<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    header: &gimli::LineProgramHeader<Slice<'a>>,
    file: u64,
) -> Option<String> {
    let text = |value| {
        let bytes: Slice<'_> = dwarf.attr_string(unit, value).ok()?;
        let bytes = bytes.slice();
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(NAME)]).into_owned())
    };
    let file = header.file(file)?;
    let mut path = text(file.path_name())?;
    let directory = file.directory(header).and_then(text);
    let base = unit.comp_dir.map(AttributeValue::String).and_then(text);
    for before in directory.into_iter().chain(base) {
        if path.starts_with('/') {
            break;
        }
        if !before.is_empty() && !path.starts_with(&format!("{before}/")) {
            path = format!("{before}/{path}");
        }
    }
    Some(path)
}
