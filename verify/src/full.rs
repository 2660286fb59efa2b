//! The ELF headers of full dumps, and of ELF cores that contain a minidump.
//!
//! FreeBSD `sys/kern/kern_dump.c`, `dumpsys_generic`: ELF header, program headers, zeros up to a
//! page, then every range of `dump_avail`, one after the other.

use std::collections::HashMap;

use livecore_defs::elf::{
    CLASS32, CLASS64, Class, EI_CLASS, EI_DATA, EI_OSABI, EI_VERSION, ELFOSABI_STANDALONE, ET_CORE,
    MAGIC, NOTE_NAME, NOTE_PAYLOAD, NOTE_PAYLOAD_VERSION, PN_XNUM, PT_DUMP_DELTA, PT_LOAD, PT_NOTE,
};
use livecore_defs::{Architecture, ElfMachine, Field};

use crate::finding::{Location, Region, Sink};
use crate::input::{big, little};
use crate::report::Stop;
use crate::rules;

/// Ports that write full dumps and no minidumps: `e_machine`, pointer size, name.
const OTHERS: [(ElfMachine, usize, &str); 2] = [
    (ElfMachine::EM_PPC, 4, "powerpc"),
    (ElfMachine::EM_SPARCV9, 8, "sparc64"),
];

/// The headers and notes before a full dump's memory.
pub(crate) struct Full {
    class: &'static Class,
    big: bool,
    /// The bytes received so far, up to the end of headers and notes.
    bytes: Vec<u8>,
    /// End of the notes, once the program headers are complete.
    notes_end: u64,
    /// Whether `notes_end` is known.
    has_notes_end: bool,
    /// Maximum number of bytes to store.
    memory: u64,
}

/// A program header that describes memory.
pub(crate) struct Load {
    number: u64,
    pub(crate) offset: u64,
    pub(crate) paddr: u64,
    pub(crate) filesz: u64,
    memsz: u64,
    align: u64,
}

impl Full {
    /// Whether a payload that begins with `head` is an ELF core.
    pub(crate) fn probe(head: &[u8]) -> bool {
        let Some(ident) = head.get(..18).filter(|head| head.starts_with(&MAGIC)) else {
            return false;
        };
        let core = match ident[EI_DATA] {
            1 => u16::from_le_bytes([ident[16], ident[17]]),
            2 => u16::from_be_bytes([ident[16], ident[17]]),
            _ => return false,
        };
        core == ET_CORE && matches!(ident[EI_CLASS], 1 | 2)
    }

    /// Begins with `head`, which contains at least the ELF header.
    pub(crate) fn new(head: &[u8], memory: u64) -> Self {
        let class = match head[EI_CLASS] {
            1 => &CLASS32,
            _ => &CLASS64,
        };
        let mut full = Self {
            class,
            big: head[EI_DATA] == 2,
            bytes: head[..class.ehdr.min(head.len())].to_vec(),
            notes_end: 0,
            has_notes_end: false,
            memory,
        };
        full.find_notes_end();
        full
    }

    /// Number of bytes received.
    pub(crate) fn seen(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the ELF header is that of a full dump, written by a kernel or in its format.
    pub(crate) fn is_standalone(&self) -> bool {
        self.bytes.get(EI_OSABI) == Some(&ELFOSABI_STANDALONE)
    }

    /// The ELF machine, and the bytes of an address.
    pub(crate) fn port(&self) -> (ElfMachine, usize) {
        // The field has 16 bits.
        let machine = self.head(self.class.e_machine) as u16;
        (ElfMachine(machine), self.class.word)
    }

    fn number(&self, structure: &[u8], at: Field) -> u64 {
        match self.big {
            true => big(structure, at),
            false => little(structure, at),
        }
    }

    fn head(&self, at: Field) -> u64 {
        self.number(&self.bytes, at)
    }

    /// Number of program headers; `None` if not yet known.
    fn count(&self) -> Option<u64> {
        let count = self.head(self.class.e_phnum);
        if count != u64::from(PN_XNUM) {
            return Some(count);
        }
        let start = usize::try_from(self.head(self.class.e_shoff)).ok()?;
        let end = start.checked_add(self.class.shdr)?;
        let section = self.bytes.get(start..end)?;
        Some(self.number(section, self.class.sh_info))
    }

    /// End of headers and notes, as far as known.
    fn needed(&self) -> u64 {
        self.table_end().max(self.notes_end)
    }

    /// End of the program headers, as far as known.
    fn table_end(&self) -> u64 {
        match self.count() {
            Some(count) => {
                let table = count.saturating_mul(self.class.phdr as u64);
                self.head(self.class.e_phoff).saturating_add(table)
            }
            None => {
                let start = self.head(self.class.e_shoff);
                start.saturating_add(self.class.shdr as u64)
            }
        }
    }

    /// Number of bytes still needed.
    pub(crate) fn missing(&self) -> u64 {
        self.needed().saturating_sub(self.bytes.len() as u64)
    }

    /// Receives the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while self.missing() > 0 && !bytes.is_empty() {
            if self.needed() > self.memory {
                return Err(Stop::Failed(format!(
                    "program headers up to {:#x} need more memory than the limit of {} bytes; raise \
                     --memory",
                    self.needed(),
                    self.memory
                )));
            }
            let n = usize::try_from(self.missing()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(n.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
            self.find_notes_end();
        }
        Ok(())
    }

    /// Sets `notes_end` once the program headers are complete. Ignores notes beyond the memory limit.
    fn find_notes_end(&mut self) {
        if self.has_notes_end || self.table_end() > self.bytes.len() as u64 {
            return;
        }
        self.has_notes_end = true;
        let ends = self.segments().filter(|s| s.0 == PT_NOTE);
        let ends = ends.filter_map(|(_, note)| note.offset.checked_add(note.filesz));
        self.notes_end = ends.filter(|end| *end <= self.memory).max().unwrap_or(0);
    }

    /// The range of the payload that contains a minidump, if livecore's note states one.
    pub(crate) fn carried(&self) -> Option<(u64, u64)> {
        let word = |bytes: &[u8], offset| self.number(bytes, Field { offset, len: 4 });
        // Valid notes do not overlap, so their total size is at most that of the bytes.
        let mut left = self.bytes.len();
        for (_, note) in self.segments().filter(|s| s.0 == PT_NOTE) {
            let from = usize::try_from(note.offset).ok()?;
            let len = usize::try_from(note.filesz).ok()?;
            let mut rest = self.bytes.get(from..from.checked_add(len)?)?;
            while rest.len() >= 12 {
                let [name_len, len] = [0, 4].map(|at| word(rest, at));
                let kind = word(rest, 8);
                // Lengths of 32 bits.
                let name_end = 12 + name_len as usize;
                let start = name_end.next_multiple_of(4);
                let end = start + len as usize;
                let (Some(name), Some(description)) =
                    (rest.get(12..name_end), rest.get(start..end))
                else {
                    break;
                };
                left = left.checked_sub(end)?;
                let ours = name.strip_suffix(b"\0").unwrap_or(name) == NOTE_NAME;
                if ours && kind == u64::from(NOTE_PAYLOAD) && description.len() >= 24 {
                    let long = |offset| self.number(description, Field { offset, len: 8 });
                    let known = word(description, 0) == NOTE_PAYLOAD_VERSION;
                    let end = long(8).checked_add(long(16)).filter(|_| known)?;
                    return Some((long(8), end));
                }
                rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        None
    }

    /// The page size: the alignment of the first range, if a port has such pages.
    pub(crate) fn page_size(&self) -> u64 {
        let align = self.loads().next().map_or(0, |load| load.align);
        match align {
            0x4000 | 0x1_0000 => align,
            _ => 4096,
        }
    }

    /// The port's name, if machine and class are those of a port.
    pub(crate) fn architecture(&self) -> Option<&'static str> {
        let machine = self.head(self.class.e_machine);
        let (machine, word) = (ElfMachine(u16::try_from(machine).ok()?), self.class.word);
        if let Some(row) = Architecture::of_machine(machine) {
            return row.words.contains(&word).then_some(row.name);
        }
        let mut others = OTHERS.iter();
        others
            .find(|port| (port.0, port.1) == (machine, word))
            .map(|port| port.2)
    }

    /// The name of the port, if no other verb reads its full dumps.
    pub(crate) fn unread_port(&self) -> Option<&'static str> {
        let port = self.architecture()?;
        OTHERS.iter().any(|other| other.2 == port).then_some(port)
    }

    /// The program headers of memory ranges received so far.
    pub(crate) fn loads(&self) -> impl Iterator<Item = Load> + '_ {
        let loads = self.segments().filter(|s| s.0 == PT_LOAD);
        loads.map(|(_, load)| load)
    }

    /// The program headers received so far, with their types.
    fn segments(&self) -> impl Iterator<Item = (u32, Load)> + '_ {
        let phoff = usize::try_from(self.head(self.class.e_phoff)).unwrap_or(usize::MAX);
        let table = self.bytes.get(phoff..).unwrap_or_default();
        let count = usize::try_from(self.count().unwrap_or(0)).unwrap_or(usize::MAX);
        let headers = table.chunks_exact(self.class.phdr).take(count);
        headers.enumerate().map(|(number, header)| {
            let field = |at| self.number(header, at);
            let load = Load {
                number: number as u64,
                offset: field(self.class.p_offset),
                paddr: field(self.class.p_paddr),
                filesz: field(self.class.p_filesz),
                memsz: field(self.class.p_memsz),
                align: field(self.class.p_align),
            };
            // A field of 4 bytes.
            (field(self.class.p_type) as u32, load)
        })
    }

    /// End of the last segment, if all program headers were received.
    pub(crate) fn end(&self) -> Option<u64> {
        if self.missing() > 0 {
            return None;
        }
        let carried = self.carried().map_or(0, |(_, end)| end);
        self.loads()
            .try_fold(carried, |end: u64, load| {
                Some(end.max(load.offset.checked_add(load.filesz)?))
            })
            .filter(|end| *end > 0)
    }

    /// Applies the rules about a payload of `len` bytes. `whole` means that all bytes were decoded.
    /// `data` is the offset of the page data in the contained minidump.
    pub(crate) fn check(&self, len: u64, whole: bool, data: Option<u64>, sink: &mut Sink) {
        let class = self.class;
        let head = |at: Field| Location::payload("ELF header", at.offset as u64);
        let (ehdr, phdr) = (class.ehdr as u64, class.phdr as u64);
        for (name, at, expected) in [
            ("e_ehsize", class.e_ehsize, ehdr),
            ("e_phentsize", class.e_phentsize, phdr),
            ("e_phoff", class.e_phoff, ehdr),
            ("EI_VERSION", ident(EI_VERSION), 1),
        ] {
            let found = self.head(at);
            sink.check(&rules::FULL_HEADER, found == expected, &head(at), |f| {
                f.found(format!("{name} {found}"))
                    .expected(expected.to_string())
            });
        }
        let known = self.architecture().is_some();
        let at = class.e_machine;
        sink.check(&rules::FULL_MACHINE, known, &head(at), |f| {
            f.found(format!(
                "machine {} of class {}",
                self.head(at),
                8 * class.word
            ))
            .expected("machine and class of a FreeBSD port")
        });
        let count = self.count();
        let complete = self.missing() == 0 && count.is_some_and(|count| count > 0);
        if !complete && !whole {
            return;
        }
        sink.check(&rules::FULL_TABLE, complete, &head(class.e_phnum), |f| {
            let found = count.map_or("e_phnum PN_XNUM without a section header".into(), |count| {
                format!(
                    "{count} program headers, which end at {:#x}",
                    self.table_end()
                )
            });
            f.found(found)
                .expected(format!("at least one, and an end at or before {len:#x}"))
        });
        if complete && self.head(class.e_phentsize) == phdr {
            self.check_types(sink);
            self.check_loads(data, sink);
            self.check_length(len, whole, sink);
        }
    }

    /// Checks that every program header has a type that cores have, and that there is memory.
    fn check_types(&self, sink: &mut Sink) {
        let class = self.class;
        let phoff = self.head(class.e_phoff);
        let mut known = true;
        for (kind, segment) in self.segments() {
            let start = phoff.saturating_add(segment.number.saturating_mul(class.phdr as u64));
            let region = Region::Nth("program header", segment.number);
            let place = Location::payload(region, start.saturating_add(class.p_type.offset as u64));
            let right = matches!(kind, PT_LOAD | PT_NOTE | PT_DUMP_DELTA);
            known &= sink.check(&rules::FULL_TABLE, right, &place, |f| {
                f.found(format!("p_type {kind:#x}")).expected(format!(
                    "{PT_LOAD} (memory), {PT_NOTE} (notes) or {PT_DUMP_DELTA:#x} (the kernel's address)"
                ))
            });
        }
        let empty = self.loads().next().is_none() && self.carried().is_none();
        if known && empty {
            let place = Location::payload("program headers", phoff);
            sink.broken(&rules::FULL_TABLE, &place, |f| {
                f.found("no memory range").expected("at least one")
            });
        }
    }

    fn check_loads(&self, data: Option<u64>, sink: &mut Sink) {
        let class = self.class;
        let phoff = self.head(class.e_phoff);
        let carried = self.carried();
        let (mut offset, mut address) = (None, 0);
        // End of the addresses that are at the same distance from their offsets.
        let mut placed: HashMap<u64, u64> = HashMap::new();
        for load in self.loads() {
            let start = phoff.saturating_add(load.number.saturating_mul(class.phdr as u64));
            let place = |at: Field| {
                let region = Region::Nth("program header", load.number);
                Location::payload(region, start.saturating_add(at.offset as u64))
            };
            let same = load.filesz == load.memsz && load.filesz > 0;
            sink.check(&rules::FULL_SIZES, same, &place(class.p_filesz), |f| {
                f.found(format!(
                    "p_filesz {:#x}, p_memsz {:#x}",
                    load.filesz, load.memsz
                ))
                .expected("equal sizes above 0")
            });
            let place_of = place(class.p_offset);
            if !self.is_standalone() {
                // Segments by kernel address, several of which may share pages.
                let (first, end) = carried.unwrap_or((0, 0));
                let last = load.offset.checked_add(load.filesz);
                let inside = load.offset >= first && last.is_some_and(|last| last <= end);
                sink.check(&rules::FULL_PLACE, inside, &place_of, |f| {
                    f.found(format!("p_offset {:#x}", load.offset))
                        .expected(format!("a page of the minidump at {first:#x}..{end:#x}"))
                });
                continue;
            }
            let end = load.paddr.checked_add(load.memsz);
            let end = end.filter(|end| class.word == 8 || *end <= 1 << 32);
            let place_of_address = place(class.p_paddr);
            sink.check(&rules::FULL_SIZES, end.is_some(), &place_of_address, |f| {
                f.found(format!(
                    "p_paddr {:#x}, p_memsz {:#x}",
                    load.paddr, load.memsz
                ))
                .expected(format!("an end of at most 2^{}", 8 * class.word))
            });
            let ascends = load.paddr >= address;
            sink.check(&rules::FULL_ORDER, ascends, &place_of_address, |f| {
                f.found(format!("p_paddr {:#x}", load.paddr))
                    .expected(format!("at least {address:#x}, that of the previous range"))
            });
            address = load.paddr;
            // The first range follows the headers, rounded up to a page and a block, or begins at the
            // first page of the minidump.
            let headers = self.needed();
            let pages = carried.and_then(|(start, _)| start.checked_add(data?));
            let follows = match (offset, pages) {
                (Some(offset), _) => load.offset == offset,
                (None, Some(pages)) => load.offset == pages,
                (None, None) => load.offset >= headers && load.offset - headers < 1 << 16,
            };
            let origin = load.offset.wrapping_sub(load.paddr);
            let load_end = load.paddr.saturating_add(load.filesz);
            let is_again = placed.get(&origin).is_some_and(|end| load_end <= *end);
            if !follows && is_again {
                // Part of an earlier range, at the same place.
                continue;
            }
            let known = placed.entry(origin).or_default();
            *known = load_end.max(*known);
            sink.check(&rules::FULL_PLACE, follows, &place_of, |f| {
                let expected = match (offset, pages) {
                    (Some(offset), _) => format!("{offset:#x}, the end of the previous range"),
                    (None, Some(pages)) => {
                        format!("{pages:#x}, the first page of the minidump")
                    }
                    (None, None) => {
                        format!("the page after the headers, which end at {headers:#x}")
                    }
                };
                f.found(format!("p_offset {:#x}", load.offset))
                    .expected(expected)
            });
            offset = Some(load.offset.saturating_add(load.filesz));
        }
    }

    fn check_length(&self, len: u64, whole: bool, sink: &mut Sink) {
        let Some(end) = self.end().filter(|_| whole) else {
            return;
        };
        let place = Location::payload("memory", len.min(end));
        let describe = |f: crate::Finding| {
            f.found(format!("a payload of {len:#x} bytes"))
                .expected(format!("{end:#x}, the end of the last range"))
        };
        // A minidump in the core has its own rules.
        let page = self.page_size();
        let whole_page = |load: &Load| load.offset.saturating_add(load.filesz.min(page)) <= len;
        if self.carried().is_none() && !self.loads().any(|load| whole_page(&load)) {
            sink.broken(&rules::FULL_EMPTY, &place, describe);
            return;
        }
        sink.passed(&rules::FULL_EMPTY);
        sink.check(&rules::FULL_SHORT, len >= end, &place, describe);
        sink.check(&rules::FULL_LONG, len <= end, &place, describe);
    }
}

/// A byte of `e_ident`.
fn ident(offset: usize) -> Field {
    Field { offset, len: 1 }
}
