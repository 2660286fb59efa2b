//! Full dumps: the headers of the ELF core that all of memory is stored as.
//!
//! FreeBSD `sys/kern/kern_dump.c`, `dumpsys_generic`: ELF header, program headers, zeros up to a
//! page, then every range of `dump_avail`, one behind the other.

use minidump::defs::Field;
use minidump::defs::elf::{
    CLASS32, CLASS64, Class, EI_CLASS, EI_DATA, EI_OSABI, EI_VERSION, ELFOSABI_STANDALONE, ET_CORE,
    MAGIC, PN_XNUM, PT_LOAD,
};

use crate::finding::{Place, Region, Sink};
use crate::input::{big, little};
use crate::report::Stop;
use crate::rules;

/// The ports with full dumps: `e_machine`, class, the name of the port.
const MACHINES: [(u64, u8, &str); 10] = [
    (62, 2, "amd64"),
    (183, 2, "arm64"),
    (243, 2, "riscv"),
    (3, 1, "i386"),
    (40, 1, "arm"),
    (21, 2, "powerpc64"),
    (20, 1, "powerpc"),
    (8, 1, "mips"),
    (8, 2, "mips"),
    (43, 2, "sparc64"),
];

/// Everything in front of a full dump's memory.
pub(crate) struct Full {
    class: &'static Class,
    big: bool,
    /// The payload's first bytes, as many as came by and are needed.
    bytes: Vec<u8>,
    /// The most bytes that are kept.
    memory: u64,
}

/// A program header that describes memory.
struct Load {
    number: u64,
    offset: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

impl Full {
    /// Whether a payload that begins with `head` is a full dump.
    pub(crate) fn probe(head: &[u8]) -> bool {
        let Some(ident) = head.get(..18).filter(|head| head.starts_with(&MAGIC)) else {
            return false;
        };
        let core = match ident[EI_DATA] {
            1 => u16::from_le_bytes([ident[16], ident[17]]),
            2 => u16::from_be_bytes([ident[16], ident[17]]),
            _ => return false,
        };
        core == ET_CORE
            && ident[EI_OSABI] == ELFOSABI_STANDALONE
            && matches!(ident[EI_CLASS], 1 | 2)
    }

    /// A full dump whose first bytes, at least an ELF header, are `head`.
    pub(crate) fn new(head: &[u8], memory: u64) -> Self {
        Self {
            class: match head[EI_CLASS] {
                1 => &CLASS32,
                _ => &CLASS64,
            },
            big: head[EI_DATA] == 2,
            bytes: head.to_vec(),
            memory,
        }
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

    /// How many program headers there are; `None` while that is not known.
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

    /// Where what is needed ends, as far as that is known.
    fn needed(&self) -> u64 {
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

    /// Bytes that are still needed.
    pub(crate) fn missing(&self) -> u64 {
        self.needed().saturating_sub(self.bytes.len() as u64)
    }

    /// Sees the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while self.missing() > 0 && !bytes.is_empty() {
            if self.needed() > self.memory {
                return Err(Stop::Failed(format!(
                    "program headers up to {:#x} need more memory than the limit of {} bytes allows",
                    self.needed(),
                    self.memory
                )));
            }
            let n = usize::try_from(self.missing()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(n.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// The name of the port, if machine and class are one's.
    pub(crate) fn architecture(&self) -> Option<&'static str> {
        let machine = self.head(self.class.e_machine);
        let known = |m: &&(u64, u8, &str)| m.0 == machine && m.1 == self.class.number;
        MACHINES.iter().find(known).map(|m| m.2)
    }

    /// Every program header that describes memory, as far as the table is there.
    fn loads(&self) -> impl Iterator<Item = Load> + '_ {
        let phoff = usize::try_from(self.head(self.class.e_phoff)).unwrap_or(usize::MAX);
        let table = self.bytes.get(phoff..).unwrap_or_default();
        let count = usize::try_from(self.count().unwrap_or(0)).unwrap_or(usize::MAX);
        let headers = table.chunks_exact(self.class.phdr).take(count);
        headers.enumerate().filter_map(|(number, header)| {
            let field = |at| self.number(header, at);
            (field(self.class.p_type) == u64::from(PT_LOAD)).then(|| Load {
                number: number as u64,
                offset: field(self.class.p_offset),
                paddr: field(self.class.p_paddr),
                filesz: field(self.class.p_filesz),
                memsz: field(self.class.p_memsz),
            })
        })
    }

    /// Where the last segment ends, if all program headers are there.
    pub(crate) fn end(&self) -> Option<u64> {
        if self.missing() > 0 {
            return None;
        }
        self.loads()
            .try_fold(0, |end: u64, load| {
                Some(end.max(load.offset.checked_add(load.filesz)?))
            })
            .filter(|end| *end > 0)
    }

    /// Applies the rules, to a payload of `len` bytes all of which came by if it is `whole`.
    pub(crate) fn check(&self, len: u64, whole: bool, sink: &mut Sink) {
        let class = self.class;
        let head = |at: Field| Place::payload("ELF header", at.offset as u64);
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
            .expected("the machine and the class of a port")
        });
        let count = self.count();
        let there = self.missing() == 0 && count.is_some_and(|count| count > 0);
        if !there && !whole {
            return;
        }
        sink.check(&rules::FULL_TABLE, there, &head(class.e_phnum), |f| {
            let found = count.map_or("a number of them that is nowhere".into(), |count| {
                format!("{count} program headers, to {:#x}", self.needed())
            });
            f.found(found)
                .expected(format!("at least one, and an end within {len:#x} bytes"))
        });
        if there && self.head(class.e_phentsize) == phdr {
            self.check_loads(sink);
            self.check_length(len, whole, sink);
        }
    }

    fn check_loads(&self, sink: &mut Sink) {
        let class = self.class;
        let phoff = self.head(class.e_phoff);
        let (mut offset, mut address) = (None, 0);
        for load in self.loads() {
            let start = phoff.saturating_add(load.number.saturating_mul(class.phdr as u64));
            let place = |at: Field| {
                let region = Region::Nth("program header", load.number);
                Place::payload(region, start.saturating_add(at.offset as u64))
            };
            let same = load.filesz == load.memsz && load.filesz > 0;
            sink.check(&rules::FULL_SIZES, same, &place(class.p_filesz), |f| {
                f.found(format!(
                    "p_filesz {:#x}, p_memsz {:#x}",
                    load.filesz, load.memsz
                ))
                .expected("the same, and not 0")
            });
            let end = load.paddr.checked_add(load.memsz);
            let ascends = load.paddr >= address && end.is_some();
            sink.check(&rules::FULL_ORDER, ascends, &place(class.p_paddr), |f| {
                f.found(format!("memory from {:#x} on", load.paddr))
                    .expected(format!("an address from {address:#x} on"))
            });
            address = end.unwrap_or(u64::MAX);
            // The first range follows the headers, rounded up to a page and to a block.
            let headers = self.needed();
            let follows = match offset {
                Some(offset) => load.offset == offset,
                None => load.offset >= headers && load.offset - headers < 1 << 16,
            };
            sink.check(&rules::FULL_PLACE, follows, &place(class.p_offset), |f| {
                let expected = match offset {
                    Some(offset) => format!("{offset:#x}, where the one before ends"),
                    None => format!("the page behind the headers, which end at {headers:#x}"),
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
        let place = Place::payload("memory", len.min(end));
        let told = |f: crate::Finding| {
            f.found(format!("a payload of {len:#x} bytes"))
                .expected(format!("{end:#x}, where the last range ends"))
        };
        sink.check(&rules::FULL_SHORT, len >= end, &place, told);
        sink.check(&rules::FULL_LONG, len <= end, &place, told);
    }
}

/// A byte of `e_ident`.
fn ident(offset: usize) -> Field {
    Field { offset, len: 1 }
}
