//! A kernel's variables, read through the dump's page tables and compared with the dump.
//!
//! If the kernel is the one that was running, its variables agree with the dump. A kernel that
//! contradicts the dump is an error. A kernel that cannot be compared is a warning: symbols or
//! contents are absent, or the pages are zero or not in the dump.

use std::collections::HashSet;

use livecore_defs::msgbuf::{ILP32, LP64, MSG_MAGIC};
use livecore_defs::{Architecture, ElfMachine, VirtAddr};

use crate::finding::{Location, Region, Sink};
use crate::input::quoted;
use crate::kdh::Kdh;
use crate::memory::{Memory, Unreadable};
use crate::rules;
use crate::symbols::KernelFacts;

/// Maximum number of bytes of `version` to compare.
const VERSION_MAX: usize = 256;
/// Maximum size of a message ring to read.
const RING_MAX: usize = 16 << 20;
/// Minimum number of structures in a hash table for a statement about most of them.
const HASHED_LEAST: u64 = 8;
/// Maximum number of links of a list to follow.
const LIST_MAX: usize = 1 << 17;

/// Compares `kernel` with `memory`, `header` and the sum of the dumped message ring. `deep` also
/// checks lists.
pub(crate) fn check(
    kernel: &dyn KernelFacts,
    memory: &Memory<'_>,
    header: Option<&Kdh>,
    ring_sum: Option<u32>,
    deep: bool,
    sink: &mut Sink,
) {
    if !machine(kernel, memory, sink) {
        return;
    }
    let mut checks = Checks {
        kernel,
        memory,
        sink,
    };
    checks.version(header);
    checks.pages();
    checks.avail();
    checks.msgbuf(ring_sum.filter(|_| deep));
    checks.bitmap();
    if deep && checks.can_follow() {
        checks.hashed("pidhashtbl", "pidhash", "processes");
        checks.hashed("tidhashtbl", "tidhash", "threads");
        checks.allproc();
        checks.threads();
    }
}

/// Compares the file of `kernel` with a dump whose page tables the verifier does not read: a full dump
/// of the ELF machine and address size `port`, or a minidump without its sections.
pub(crate) fn check_file(
    kernel: &dyn KernelFacts,
    port: Option<(ElfMachine, usize)>,
    header: Option<&Kdh>,
    sink: &mut Sink,
) {
    if let Some((number, word)) = port {
        let place = Location::payload("ELF header", 0);
        let stated = format!("machine {number}");
        if !same_machine(kernel, number, &[word], &stated, &place, sink) {
            return;
        }
    }
    if let Some(header) = header
        && let Some(symbol) = kernel.symbol("version")
        && let Some(contents) = kernel.contents(symbol.address, symbol.size.min(256) as usize)
        && contents.iter().any(|b| *b != 0)
        && !header.versionstring().is_empty()
    {
        let (own, stated) = (line(&contents), line(header.versionstring()));
        let place = header.at_versionstring();
        let right = own.starts_with(stated);
        sink.check(&rules::KRN_VERSION, right, &place, |f| {
            f.found(quoted(stated)).expected(quoted(own))
        });
    }
    sink.broken(
        &rules::KRN_COMPARABLE,
        &Location::dump("page tables"),
        |f| {
            f.found("page tables that the verifier does not read: no variable was compared")
                .expected("a minidump with its sections")
        },
    );
}

/// Checks that the kernel has the dump's architecture.
fn machine(kernel: &dyn KernelFacts, memory: &Memory<'_>, sink: &mut Sink) -> bool {
    let architecture = memory.header.architecture();
    // Every header's architecture has a row.
    let row = Architecture::named(architecture).unwrap_or_default();
    let place = Location::payload("minidump header", 0);
    let stated = format!("{architecture}, machine {}", row.machine);
    same_machine(kernel, row.machine, row.words, &stated, &place, sink)
}

/// Checks that the kernel is for an ELF machine, with addresses of one of `words` bytes; `stated`
/// names it.
fn same_machine(
    kernel: &dyn KernelFacts,
    number: ElfMachine,
    words: &[usize],
    stated: &str,
    place: &Location<'_>,
    sink: &mut Sink,
) -> bool {
    let word = if kernel.is_64() { 8 } else { 4 };
    let right = kernel.machine() == number && words.contains(&word);
    sink.check(&rules::KRN_MACHINE, right, place, |f| {
        let bits = word * 8;
        f.found(format!(
            "a kernel for machine {}, {bits} bits",
            kernel.machine()
        ))
        .expected(stated)
    })
}

struct Checks<'a, 'b> {
    kernel: &'a dyn KernelFacts,
    memory: &'a Memory<'b>,
    sink: &'a mut Sink,
}

impl Checks<'_, '_> {
    /// The run-time address of symbol `name`. Reports a finding if it is absent and `required`.
    fn symbol(&mut self, name: &str, required: bool) -> Option<u64> {
        let symbol = self.kernel.symbol(name);
        if symbol.is_none() && required {
            self.incomparable(name, 0, "no such symbol");
        }
        symbol.map(|s| s.address.wrapping_add(self.memory.displacement()).0)
    }

    fn incomparable(&mut self, name: &str, va: u64, why: &str) {
        let place = self.place(name, va);
        self.sink.broken(&rules::KRN_COMPARABLE, &place, |f| {
            f.found(why)
                .expected(format!("{name} in both kernel and dump"))
        });
    }

    /// The location of `name`, at `va`.
    fn place<'n>(&self, name: &'n str, va: u64) -> Location<'n> {
        self.memory.place(Region::At(name, va), va)
    }

    fn unreadable(&mut self, name: &str, va: u64, why: &Unreadable) {
        self.incomparable(name, va, &why.to_string());
    }

    /// The bytes at `va`. Reports a finding if they cannot be read, or if the page was zeroed to make
    /// the dump smaller.
    fn bytes(&mut self, name: &str, va: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.memory.read(va, &mut bytes) {
            Ok(()) if bytes.iter().any(|b| *b != 0) || !self.thinned(va) => Some(bytes),
            Ok(()) => {
                self.incomparable(name, va, "a page of zeros");
                None
            }
            Err(why) => {
                self.unreadable(name, va, &why);
                None
            }
        }
    }

    /// Whether the page at `va` was probably zeroed to make the dump smaller: the page and the
    /// message buffer are all zero.
    fn thinned(&self, va: u64) -> bool {
        if !self.sink.broke(&rules::MSG_EMPTY) {
            return false;
        }
        let page = self.memory.header.page;
        // At most 16 KiB.
        let mut bytes = vec![0; page as usize];
        let read = self.memory.read(va / page * page, &mut bytes);
        read.is_ok() && bytes.iter().all(|b| *b == 0)
    }

    fn pointer_size(&self) -> usize {
        if self.kernel.is_64() { 8 } else { 4 }
    }

    fn version(&mut self, header: Option<&Kdh>) {
        let Some(va) = self.symbol("version", true) else {
            return;
        };
        let page = self.memory.header.page;
        // Only up to the end of the page: the next one may not be mapped.
        let most = VERSION_MAX.min((page - va % page) as usize);
        let size = self.kernel.symbol("version").map_or(0, |s| s.size);
        let len = match usize::try_from(size) {
            Ok(size @ 1..) => most.min(size),
            _ => most,
        };
        let Some(found) = self.bytes("version", va, len) else {
            return;
        };
        let found = line(&found);
        let place = self.place("version", va);
        if let Some(header) = header
            && !header.versionstring().is_empty()
        {
            let stated = line(header.versionstring());
            let right = found.starts_with(stated);
            self.sink
                .check(&rules::KRN_HEADER_VERSION, right, &place, |f| {
                    f.found(quoted(stated))
                        .expected(format!("{}, the dumped kernel's version", quoted(found)))
                });
        }
        let linked = va.wrapping_sub(self.memory.displacement());
        match self.kernel.contents(VirtAddr(linked), len) {
            Some(contents) if contents.iter().any(|b| *b != 0) => {
                let expected = line(&contents);
                self.sink
                    .check(&rules::KRN_VERSION, found == expected, &place, |f| {
                        f.found(quoted(found)).expected(quoted(expected))
                    });
            }
            _ => self.incomparable(
                "version",
                va,
                "a kernel file without the contents of version",
            ),
        }
    }

    fn pages(&mut self) {
        if !self.memory.header.has_avail() {
            return;
        }
        let Some(va) = self.symbol("vm_page_dump_pages", false) else {
            return;
        };
        let size = self.pointer_size();
        if self.bytes("vm_page_dump_pages", va, size).is_none() {
            return;
        }
        let found = self.memory.number(va, size).unwrap_or(0);
        let expected = self.memory.avail.bits();
        let place = self.place("vm_page_dump_pages", va);
        self.sink
            .check(&rules::KRN_PAGES, found == expected, &place, |f| {
                f.found(found.to_string())
                    .expected(format!("{expected}, the pages of dump_avail"))
            });
    }

    fn avail(&mut self) {
        if !self.memory.header.has_avail() {
            return;
        }
        let Some(va) = self.symbol("dump_avail", false) else {
            return;
        };
        let ranges: Vec<_> = self.memory.avail.ranges().collect();
        // The kernel writes arrays of 32-bit addresses to the section as 64-bit ones.
        let size = match self.memory.header.architecture() {
            "arm" => 4,
            "mips" => self.pointer_size(),
            _ => 8,
        };
        let Some(_) = self.bytes("dump_avail", va, 2 * size * ranges.len().clamp(1, 128)) else {
            return;
        };
        for (i, (start, end)) in ranges.into_iter().chain([(0, 0)]).enumerate() {
            let at = va.wrapping_add((2 * size * i) as u64);
            let first = self.memory.number(at, size);
            let second = self.memory.number(at.wrapping_add(size as u64), size);
            let (Ok(first), Ok(second)) = (first, second) else {
                break;
            };
            let right = second == end && (first == start || end == 0);
            let place = self.place("dump_avail", at);
            self.sink.check(&rules::KRN_AVAIL, right, &place, |f| {
                f.found(format!("{first:#x}..{second:#x}"))
                    .expected(format!("{start:#x}..{end:#x}, range {i} of the section"))
            });
        }
    }

    /// Checks the message buffer, and if given compares `ring_sum` with the checksum in memory. They
    /// differ if the kernel was writing a message during the dump.
    fn msgbuf(&mut self, ring_sum: Option<u32>) {
        let Some(va) = self.symbol("msgbufp", false) else {
            return;
        };
        let size = self.pointer_size();
        if self.bytes("msgbufp", va, size).is_none() {
            return;
        }
        let at = self.memory.number(va, size).unwrap_or(0);
        let fields = if size == 8 { &LP64 } else { &ILP32 };
        if at != 0 && self.bytes("*msgbufp", at, fields.sizeof).is_none() {
            return;
        }
        let number = |f: livecore_defs::Field| {
            let va = at.wrapping_add(f.offset as u64);
            self.memory.number(va, f.len).unwrap_or(0)
        };
        let (magic, ring) = (number(fields.msg_magic), number(fields.msg_size));
        let expected = self.memory.header.msgbufsize;
        let right = magic == u64::from(MSG_MAGIC) && ring == expected;
        let place = self.place("*msgbufp", at);
        self.sink.check(&rules::KRN_MSGBUF, right, &place, |f| {
            f.found(format!("magic {magic:#x}, msg_size {ring}"))
                .expected(format!(
                    "{MSG_MAGIC:#x} and {expected}, the header's msgbufsize"
                ))
        });
        if let (true, Some(sum)) = (right, ring_sum) {
            let stated = number(fields.msg_cksum);
            // The kernel wrote the section before the pages, and may have logged messages since.
            let same =
                stated == u64::from(sum) || self.sum(number(fields.msg_ptr), ring) == Some(stated);
            self.sink.check(&rules::LIV_MSGBUF, same, &place, |f| {
                f.found(format!("msg_cksum {stated:#x}"))
                    .expected(format!("{sum:#x}, the sum of the dumped ring's bytes"))
            });
        }
    }

    /// Checks that the dump has the pages of the kernel's own bitmap. The kernel marks them at boot;
    /// where the bitmap is in the direct map, only these marks put them into a dump.
    fn bitmap(&mut self) {
        if !self.memory.header.has_avail() {
            return;
        }
        let Some(va) = self.symbol("vm_page_dump", false) else {
            return;
        };
        let size = self.pointer_size();
        if self.bytes("vm_page_dump", va, size).is_none() {
            return;
        }
        let at = self.memory.number(va, size).unwrap_or(0);
        let page = self.memory.header.page;
        // At most the pages of the section.
        let len = self.memory.avail.bits() / 8;
        let pages = len.min(self.memory.header.bitmapsize).div_ceil(page);
        let starts = (0..pages).map(|i| at.wrapping_add(i * page));
        let (lacking, checked) = self.lacking(starts);
        if checked > 0 {
            let place = self.place("vm_page_dump", va);
            self.sink
                .check(&rules::KRN_BITMAP, lacking == 0, &place, |f| {
                    f.found(format!(
                        "{lacking} of {checked} pages of the array at {at:#x} not in the dump"
                    ))
                    .expected("all of them")
                });
        }
    }

    /// Checks that the dump has most of the structures that begin the chains of hash table `table`,
    /// whose number of chains minus one is in `mask`. A running kernel may have created some after
    /// it copied its bitmap.
    fn hashed(&mut self, table: &str, mask: &str, what: &str) {
        let (Some(va), Some(mask)) = (self.symbol(table, false), self.symbol(mask, false)) else {
            return;
        };
        let size = self.pointer_size();
        let read = |va: u64| self.memory.number(va, size).ok();
        let (Some(first), Some(mask)) = (read(va), read(mask)) else {
            return;
        };
        if !mask.wrapping_add(1).is_power_of_two() || mask >= LIST_MAX as u64 {
            return;
        }
        let slots = (0..=mask).map(|i| first.wrapping_add(i * size as u64));
        let heads: Vec<u64> = slots.filter_map(read).filter(|head| *head != 0).collect();
        let (lacking, checked) = self.lacking(heads.into_iter());
        if checked >= HASHED_LEAST {
            let place = self.place(table, va);
            self.sink
                .check(&rules::KRN_BITMAP, lacking <= checked / 4, &place, |f| {
                    f.found(format!("{lacking} of {checked} {what} not in the dump"))
                        .expected("at most a quarter, if the machine was running")
                });
        }
    }

    /// How many of `addresses` are in pages that the bitmap lacks, and how many are mapped.
    fn lacking(&self, addresses: impl Iterator<Item = u64>) -> (u64, u64) {
        let (mut lacking, mut checked) = (0, 0);
        for lacks in addresses.filter_map(|va| self.memory.lacks(va)) {
            checked += 1;
            lacking += u64::from(lacks);
        }
        (lacking, checked)
    }

    /// The sum of the `len` bytes at `at`, modulo 2^32; `None` if they cannot be read or are more
    /// than [`RING_MAX`].
    fn sum(&self, at: u64, len: u64) -> Option<u64> {
        let mut left = usize::try_from(len).ok().filter(|len| *len <= RING_MAX)?;
        let (mut at, mut sum, mut piece) = (at, 0_u32, vec![0; left.min(1 << 16)]);
        while left > 0 {
            let now = &mut piece[..left.min(1 << 16)];
            self.memory.read(at, now).ok()?;
            sum = now
                .iter()
                .fold(sum, |sum, b| sum.wrapping_add(u32::from(*b)));
            at = at.checked_add(now.len() as u64)?;
            left -= now.len();
        }
        Some(sum.into())
    }

    /// Checks that lists can be followed in reasonable time.
    fn can_follow(&mut self) -> bool {
        let place = Location::dump("page data");
        let random = self.memory.is_random();
        self.sink.check(&rules::LIV_FOLLOWED, random, &place, |f| {
            f.found("a stream that can be decoded only from its beginning")
                .expected("frames, or a dump that fits within a quarter of --memory")
        })
    }

    /// Lists the threads, and checks the stack of each sleeping thread.
    fn threads(&mut self) {
        // Threads cannot be listed without the offsets that the kernel exports.
        let Some(threads) = self.kernel.threads(self.memory) else {
            return;
        };
        let place = Location::dump("threads");
        for problem in &threads.problems {
            self.sink.broken(&rules::LIV_THREADS, &place, |f| {
                f.found(problem).expected("lists that can be followed")
            });
        }
        if threads.problems.is_empty() {
            self.sink.passed(&rules::LIV_THREADS);
        }
        for thread in threads.sleeping {
            let (sp, fp) = (thread.sp, thread.fp);
            let place = Location::dump(thread.name);
            let mapped = |va: VirtAddr| va.0 == 0 || self.memory.translate(va.0).is_ok();
            let inside = thread.stack.as_ref().is_none_or(|s| s.contains(&sp));
            let right = sp.0 != 0 && mapped(sp) && mapped(fp) && inside;
            self.sink.check(&rules::LIV_STACK, right, &place, |f| {
                let stack = thread.stack.as_ref();
                let stack = stack.map(|s| format!(" within {:#x}..{:#x}", s.start, s.end));
                f.found(format!("stack pointer {sp:#x}, frame pointer {fp:#x}"))
                    .expected(format!("mapped addresses{}", stack.unwrap_or_default()))
            });
        }
    }

    /// Follows `allproc`, and checks that the `le_prev` of each process is the address of the link
    /// to it.
    fn allproc(&mut self) {
        let offset = self
            .symbol("proc_off_p_list", false)
            .and_then(|va| self.memory.number(va, 4).ok());
        let (Some(head), Some(offset)) = (self.symbol("allproc", false), offset) else {
            return;
        };
        let size = self.pointer_size();
        let (mut link, mut seen) = (head, HashSet::new());
        loop {
            let region = Region::Nth("allproc, process", seen.len() as u64);
            let place = self.memory.place(region, link);
            let process = match self.memory.number(link, size) {
                Ok(0) => break,
                Ok(process) => process,
                Err(why) => {
                    self.sink.broken(&rules::LIV_ALLPROC, &place, |f| {
                        f.found(format!("a link at {link:#x} that cannot be read: {why}"))
                            .expected("a list that can be followed to its end")
                    });
                    return;
                }
            };
            if !seen.insert(process) || seen.len() > LIST_MAX {
                self.sink.broken(&rules::LIV_ALLPROC, &place, |f| {
                    f.found(format!(
                        "process {process:#x} a second time, or too many processes"
                    ))
                    .expected("a list without a cycle")
                });
                return;
            }
            let next = process.wrapping_add(offset);
            let back = self.memory.number(next.wrapping_add(size as u64), size);
            if let Ok(back) = back {
                self.sink
                    .check(&rules::LIV_BACK_LINK, back == link, &place, |f| {
                        f.found(format!("process {process:#x} points back to {back:#x}"))
                            .expected(format!("{link:#x}, the link to it"))
                    });
            }
            link = next;
        }
        self.sink.passed(&rules::LIV_ALLPROC);
    }
}

/// The bytes before the first NUL or newline.
fn line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| matches!(b, 0 | b'\n'));
    &bytes[..end.unwrap_or(bytes.len())]
}
