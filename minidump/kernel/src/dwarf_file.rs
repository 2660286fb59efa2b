//! The DWARF sections of a kernel file, and the units in them.
//!
//! Everything that a reader does is counted as [`Work`], because a damaged file can refer to the same
//! bytes any number of times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugAddrBase, Dwarf,
    DwarfFileType, DwarfSections, EndianSlice, Reader, RunTimeEndian, Section as _, SectionId,
    Unit, UnitHeader,
};

use livecore_minidump::{ByteOrder, Error, KernelElf};

use crate::section;

/// The maximum size of all sections together. A stock kernel has about 100 MiB.
const LIMIT: u64 = 512 << 20;
/// The maximum size of the abbreviations of a unit. In memory, they are up to 50 times larger.
const ABBREVIATIONS: usize = 1 << 20;

/// A slice of a section.
pub(crate) type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// The error of malformed DWARF.
pub(crate) fn broken(error: gimli::Error) -> Error {
    let found = error.to_string();
    Error::broken("kernel ELF, DWARF", 0, found, "well-formed entries")
}

/// The byte order of the sections of `elf`.
pub(crate) fn endian(elf: &KernelElf) -> RunTimeEndian {
    match elf.order() {
        ByteOrder::Little => RunTimeEndian::Little,
        ByteOrder::Big => RunTimeEndian::Big,
    }
}

/// The maximum number of bytes for the sections of `elf`.
pub(crate) fn limit(elf: &KernelElf) -> u64 {
    LIMIT.min(elf.memory())
}

/// The number of bytes that a reader may still read.
#[derive(Debug)]
pub(crate) struct Work(AtomicU64);

impl Work {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// Counts `len` bytes. Returns whether they may be read.
    pub(crate) fn take(&self, len: usize) -> bool {
        let less = |left: u64| left.checked_sub(len as u64);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_update(set, get, less).is_ok()
    }
}

/// The DWARF sections of a kernel file, in memory.
pub(crate) struct DwarfFile {
    sections: DwarfSections<Vec<u8>>,
    endian: RunTimeEndian,
    pub(crate) work: Work,
    /// The abbreviations of the previous unit, which several units can share.
    shared: Mutex<Option<(DebugAbbrevOffset, Arc<Abbreviations>)>>,
}

impl DwarfFile {
    /// Reads the sections `needed`. Returns `None` if the file has no `.debug_info`. The work is
    /// limited to `passes` times the size of the sections and `extra` bytes.
    pub(crate) fn read(
        elf: &KernelElf,
        needed: &[SectionId],
        passes: u64,
        extra: u64,
    ) -> Result<Option<Self>, Error> {
        if !section::exists(elf, SectionId::DebugInfo.name()) {
            return Ok(None);
        }
        let limit = limit(elf);
        let mut left = limit;
        let sections = DwarfSections::load(|id| {
            if !needed.contains(&id) {
                return Ok(Vec::new());
            }
            let bytes = section::read(elf, id.name(), left)?.unwrap_or_default();
            left -= bytes.len() as u64;
            Ok::<_, Error>(bytes)
        })?;
        let size = limit - left;
        Ok(Some(Self {
            sections,
            endian: endian(elf),
            work: Work::new(size.saturating_mul(passes).saturating_add(extra)),
            shared: Mutex::new(None),
        }))
    }

    pub(crate) fn dwarf(&self) -> Dwarf<Slice<'_>> {
        self.sections
            .borrow(|bytes| EndianSlice::new(bytes, self.endian))
    }

    /// Counts `len` bytes that are read.
    pub(crate) fn count(&self, len: usize) -> Result<(), Error> {
        if self.work.take(len) {
            return Ok(());
        }
        let found = "overlapping names or abbreviations";
        let expected = "one copy for each unit";
        Err(Error::broken("kernel ELF, DWARF", 0, found, expected))
    }

    /// Reads the root entry of a unit. The unit has no line number program.
    pub(crate) fn unit<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        header: UnitHeader<Slice<'a>>,
    ) -> Result<Unit<Slice<'a>>, Error> {
        let abbreviations = self.abbreviations(dwarf, &header)?;
        let encoding = header.encoding();
        let file = DwarfFileType::Main;
        let mut unit = Unit {
            abbreviations,
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(
                encoding, file,
            ),
            addr_base: DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file),
            line_program: None,
            dwo_id: None,
            header,
        };
        let (mut name, mut directory, mut low_pc) = (None, None, None);
        let mut entries = unit.entries_raw(None).map_err(broken)?;
        let root = entries.read_abbreviation().map_err(broken)?;
        let mut bases = (None, None, None);
        for spec in root.map_or(&[][..], |root| root.attributes()) {
            let attribute = entries.read_attribute(*spec).map_err(broken)?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => name = Some(value),
                (gimli::DW_AT_comp_dir, value) => directory = Some(value),
                (gimli::DW_AT_low_pc, value) => low_pc = Some(value),
                (_, AttributeValue::DebugStrOffsetsBase(base)) => bases.0 = Some(base),
                (_, AttributeValue::DebugAddrBase(base)) => bases.1 = Some(base),
                (_, AttributeValue::DebugRngListsBase(base)) => bases.2 = Some(base),
                _ => {}
            }
        }
        unit.str_offsets_base = bases.0.unwrap_or(unit.str_offsets_base);
        unit.addr_base = bases.1.unwrap_or(unit.addr_base);
        unit.rnglists_base = bases.2.unwrap_or(unit.rnglists_base);
        unit.name = name.and_then(|value| dwarf.attr_string(&unit, value).ok());
        unit.comp_dir = directory.and_then(|value| dwarf.attr_string(&unit, value).ok());
        let low_pc = low_pc.and_then(|value| dwarf.attr_address(&unit, value).ok()?);
        unit.low_pc = low_pc.unwrap_or(0);
        let names = [unit.name, unit.comp_dir];
        self.count(names.into_iter().flatten().map(|name| name.len()).sum())?;
        Ok(unit)
    }

    /// Reads the abbreviations of a unit.
    fn abbreviations<'a>(
        &self,
        dwarf: &Dwarf<Slice<'a>>,
        header: &UnitHeader<Slice<'a>>,
    ) -> Result<Arc<Abbreviations>, Error> {
        let offset = header.debug_abbrev_offset();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, abbreviations)) = &*shared
            && *of == offset
        {
            return Ok(Arc::clone(abbreviations));
        }
        let section = dwarf.debug_abbrev.reader();
        let start = offset.0.min(section.len());
        let len = table_len(section.range_from(start..)).map_err(broken)?;
        self.count(len)?;
        if len > ABBREVIATIONS {
            return Err(Error::broken(
                "kernel ELF, DWARF, abbreviations",
                start as u64,
                format!("{len:#x} bytes"),
                format!("at most {ABBREVIATIONS:#x} bytes for a unit"),
            ));
        }
        let table = DebugAbbrev::from(section.range_to(..start + len));
        let abbreviations = Arc::new(header.abbreviations(&table).map_err(broken)?);
        *shared = Some((offset, Arc::clone(&abbreviations)));
        Ok(abbreviations)
    }
}

/// The length of the abbreviations at the start of `table`, with their terminator. DWARF 5, 7.5.3.
fn table_len(table: Slice<'_>) -> Result<usize, gimli::Error> {
    let mut rest = table;
    while rest.read_uleb128()? != 0 {
        let _tag = rest.read_uleb128()?;
        let _has_children = rest.read_u8()?;
        loop {
            let (name, form) = (rest.read_uleb128()?, rest.read_uleb128()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                rest.read_sleb128()?;
            }
            if (name, form) == (0, 0) {
                break;
            }
        }
    }
    Ok(table.len() - rest.len())
}
