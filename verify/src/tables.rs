//! The page-table section, and the leaf tables among the data pages.
//!
//! | architecture      | an entry of the section          | leaf tables        |
//! |-------------------|----------------------------------|--------------------|
//! | amd64 from v2     | maps 2 MiB or points to a table  | pages of the dump  |
//! | powerpc64         | maps one page, found by its hash | the section itself |
//! | powerpc64, radix  | of the root, [`radix`](crate::radix) | pages of the dump |
//! | all others        | maps one page                    | the section itself |
//!
//! A leaf table must be in the dump, since the kernel adds it while it walks the tables. A mapped
//! page within `dump_avail` that is not in the dump was allocated with `M_NODUMP`, as buffers are,
//! or is lost; the kernel's `struct vm_page` shows which. A mapped page outside of `dump_avail` is a device or
//! the hole below 1 MiB, which is normal.

use livecore_defs::powerpc64::{LPTE_SIZE, LPTEG_ENTRIES, RPTE_SIZE};
use livecore_defs::{PhysAddr, amd64, arm};

use crate::avail::Avail;
use crate::bits::{Bits, Marks};
use crate::entry::{self, Entry};
use crate::finding::{Location, Region, Sink};
use crate::hashed::{GROUP, Lpte};
use crate::header::MinidumpHeader;
use crate::input::count;
use crate::radix::{self, ROOT_ENTRIES, Rpte, SHIFTS};
use crate::report::Stop;
use crate::rules;

/// A leaf table in the data section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    /// Index of its page in the data section.
    pub(crate) rank: u64,
    /// The first virtual address that it maps.
    pub(crate) va: u64,
}

/// Minimum number of pages outside of the kernel map for [`Tables::check_eighth`]: with fewer, all of
/// them may be in the first eighth by chance.
const EIGHTH_LEAST: u64 = 16;
/// Average number of addresses per page above which mapped pages are no longer marked.
const MOST_ADDRESSES: u64 = 64;

/// The result of walking the tables.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Leaf tables to walk when their pages are received.
    pub(crate) wanted: Vec<Table>,
    /// The bits of all pages that the kernel map reaches.
    pub(crate) reached: Marks,
    /// Number of mapped pages in the dump.
    pub(crate) present: u64,
    /// Number of mapped pages within `dump_avail` that are not in the dump.
    pub(crate) absent: u64,
    /// Number of mapped pages outside `dump_avail`.
    pub(crate) outside: u64,
    /// The first of the `absent` pages: virtual address, and payload offset of its entry.
    first_absent: Option<(u64, u64)>,
    valid: u64,
    /// Number of pages that the entries marked as reached, each time that one did.
    marked: u64,
    /// Whether the tables below the root of radix page tables were walked.
    below_root: bool,
    /// Radix page tables: the tables of the next level, and the bits of their pages.
    next_level: Vec<Table>,
    in_next_level: Marks,
    /// Valid directory entries of the kernel image: first, last, and their number.
    image: Option<(u64, u64, u64)>,
}

/// The sections that a page-table entry is compared with.
pub(crate) struct Lookup<'a> {
    pub(crate) header: &'a MinidumpHeader,
    pub(crate) avail: &'a Avail,
    pub(crate) bits: &'a Bits,
}

impl Lookup<'_> {
    /// Whether the format of this section is supported.
    fn is_walked(&self) -> bool {
        self.header.is_powerpc64() || entry::size(self.header).is_some()
    }

    /// Whether the section contains the directory entries of amd64's kernel image.
    fn maps_image(&self) -> bool {
        let header = self.header;
        let entries = header.pmapsize / amd64::PTE_SIZE as u64;
        let end = header.kernbase.checked_add(entries * amd64::NBPDR);
        header.is_amd64()
            && header.version >= 2
            && header.kernbase <= amd64::KERNBASE.0
            // On overflow the section maps up to the end of the address space.
            && end.is_none_or(|end| end > amd64::KERNBASE.0)
    }
}

impl Tables {
    /// Walks one page of the section, which is at payload offset `at`.
    pub(crate) fn section_page(
        &mut self,
        bytes: &[u8],
        at: u64,
        memory: u64,
        lookup: &Lookup<'_>,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        let header = lookup.header;
        let within = at.saturating_sub(header.sections()[4].start);
        if header.is_hashed() {
            self.hashed_page(bytes, at, within, lookup, sink);
            return Ok(());
        }
        if header.radix {
            for (i, bytes) in bytes.chunks_exact(RPTE_SIZE).enumerate() {
                let index = within / RPTE_SIZE as u64 + i as u64;
                // MD-RADIX-ROOT reports another size. An entry beyond the address space maps nothing.
                let va = header.dmapbase.checked_add(index << SHIFTS[0]);
                let Some(va) = va.filter(|_| index < ROOT_ENTRIES) else {
                    break;
                };
                let offset = at + (i * RPTE_SIZE) as u64;
                self.radix_entry((va, 0), bytes, offset, lookup, sink);
            }
            return Ok(());
        }
        let Some(size) = entry::size(header) else {
            return Ok(());
        };
        self.large_pages(bytes, at, lookup, sink);
        let (first, span) = (within / size as u64, entry::span(header));
        for (i, bytes) in bytes.chunks_exact(size).enumerate() {
            let entry = entry::number(header, bytes);
            if entry == 0 {
                continue;
            }
            let offset = at + (i * size) as u64;
            let index = first + i as u64;
            let va = index.checked_mul(span);
            // An entry beyond the address space maps nothing; MD-KERNEL-MAP reports it.
            let Some(va) = va.and_then(|skip| header.kernbase.checked_add(skip)) else {
                break;
            };
            match entry::parse(header, entry, va) {
                Entry::Absent => continue,
                Entry::Leaf { pa, len } => self.leaf(va, pa, len, offset, lookup),
                Entry::Table { pa } => self.table(va, pa, offset, lookup, sink),
                Entry::Invalid(what) => invalid(va, what, entry, offset, sink),
            }
            self.valid += 1;
            if header.is_amd64() {
                self.amd64_entry(va, entry, offset, lookup, sink);
            }
            if !entry::is_global(header, entry) {
                let place = Location::payload(Region::For("page-table entry", va), offset);
                sink.broken(&rules::PT_GLOBAL, &place, |f| {
                    f.found(format!("{entry:#x}")).expected("bit 0 set")
                });
            }
        }
        self.check_memory(self.wanted.len(), memory)
    }

    /// Applies the rule about arm's 64 KiB pages.
    fn large_pages(&self, bytes: &[u8], at: u64, lookup: &Lookup<'_>, sink: &mut Sink) {
        let unit = arm::PTE_SIZE * ENTRIES_OF_LARGE_PAGE;
        for (i, bytes) in bytes.chunks(unit).enumerate() {
            let Some(wrong) = entry::torn_large_page(lookup.header, bytes) else {
                continue;
            };
            let offset = at + (i * unit + wrong * arm::PTE_SIZE) as u64;
            let place = Location::payload("page-table entry", offset);
            sink.broken(&rules::PT_LARGE_PAGE, &place, |f| {
                f.found("a descriptor of a 64 KiB page that differs from the others")
                    .expected("16 identical descriptors")
                    .bytes(offset, &bytes[wrong * arm::PTE_SIZE..])
            });
        }
    }

    /// Walks one page of powerpc64's hashed table, at offset `within` of the section.
    fn hashed_page(
        &mut self,
        bytes: &[u8],
        at: u64,
        within: u64,
        lookup: &Lookup<'_>,
        sink: &mut Sink,
    ) {
        let header = lookup.header;
        let groups = header.pmapsize / GROUP;
        // With a wrong number of groups a group cannot be computed; MD-HASH-GROUPS reports it.
        let countable = groups.is_power_of_two() && !sink.broke(&rules::MD_HASH_GROUPS);
        // A group is 128 bytes.
        for (i, bytes) in bytes.chunks(GROUP as usize).enumerate() {
            let group = within / GROUP + i as u64;
            let mut tags = Vec::new();
            for (slot, bytes) in bytes.chunks_exact(LPTE_SIZE).enumerate() {
                let entry = Lpte::parse(bytes);
                if !entry.is_valid() {
                    continue;
                }
                self.valid += 1;
                let offset = at + i as u64 * GROUP + (slot * LPTE_SIZE) as u64;
                let place = Location::payload(
                    Region::Nth("hash table entry", group * LPTEG_ENTRIES + slot as u64),
                    offset,
                );
                let mut broken = |rule, found: &str, expected: &str| {
                    sink.broken(rule, &place, |f| {
                        f.found(found).expected(expected).bytes(offset, bytes)
                    });
                };
                if !entry.has_known_segment() {
                    let what = "a segment size other than 256 MiB";
                    broken(&rules::PT_ENTRY, what, "zeros in the two upper bits");
                    continue;
                }
                if tags.contains(&entry.tag()) {
                    let what = "a second entry for the same page";
                    broken(&rules::PT_HASH_TWICE, what, "one entry");
                }
                tags.push(entry.tag());
                if !countable {
                    continue;
                }
                if !entry.belongs(group, groups) {
                    let what = "an entry for a page with another hash";
                    let expected = "a page that hashes to this group";
                    broken(&rules::PT_HASH_GROUP, what, expected);
                    continue;
                }
                if let Some((va, pa, len)) = entry.kernel_page(group)
                    && (header.kernbase..=header.kernend).contains(&va)
                    && !(header.dmapbase..=header.dmapend).contains(&va)
                {
                    self.leaf(va, pa, len, offset, lookup);
                }
            }
        }
    }

    /// Walks an entry at payload offset `offset`, which maps addresses from `va`, of a table at `depth`
    /// below the root.
    fn radix_entry(
        &mut self,
        (va, depth): (u64, usize),
        bytes: &[u8],
        offset: u64,
        lookup: &Lookup<'_>,
        sink: &mut Sink,
    ) {
        let (header, span) = (lookup.header, 1 << SHIFTS[depth]);
        // The tables also map the direct map.
        if va.saturating_add(span - 1) < header.kernbase {
            return;
        }
        match Rpte::parse(bytes, depth) {
            Rpte::Absent => return,
            Rpte::Leaf(pa) if va >= header.kernbase => self.leaf(va, pa, span, offset, lookup),
            Rpte::Leaf(_) => return,
            Rpte::Table(pa) => {
                if let Some((bit, rank)) = table_page(va, pa, offset, lookup, sink)
                    && self.in_next_level.insert(bit)
                {
                    self.reached.set(bit, bit + 1);
                    self.next_level.push(Table { rank, va });
                }
            }
            Rpte::Invalid(what) => invalid(va, what, radix::number(bytes), offset, sink),
        }
        self.valid += 1;
    }

    /// Walks the tables below the root of radix page tables. `read` reads the payload at an offset.
    /// `memory` limits the memory for the list of tables.
    ///
    /// # Errors
    ///
    /// [`Stop::Failed`] if the list exceeds the limit.
    pub(crate) fn walk_radix(
        &mut self,
        lookup: &Lookup<'_>,
        memory: u64,
        read: impl Fn(u64, &mut [u8]) -> Option<()>,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        self.below_root = true;
        let header = lookup.header;
        let mut page = vec![0; usize::try_from(header.page).unwrap_or_default()];
        for (depth, shift) in SHIFTS.iter().enumerate().skip(1) {
            // A table that several entries of a level point to is walked once.
            self.in_next_level = Marks::default();
            let mut level = std::mem::take(&mut self.next_level);
            level.sort_unstable();
            for table in level {
                let skip = table.rank.checked_mul(header.page);
                let at = skip.and_then(|skip| header.data().checked_add(skip));
                // Other rules report a page that is lost.
                let Some(at) = at.filter(|at| read(*at, &mut page).is_some()) else {
                    continue;
                };
                for (i, bytes) in page.chunks_exact(RPTE_SIZE).enumerate() {
                    let va = table.va.saturating_add((i as u64) << shift);
                    let offset = at + (i * RPTE_SIZE) as u64;
                    self.radix_entry((va, depth), bytes, offset, lookup, sink);
                }
                self.check_memory(self.next_level.len(), memory)?;
            }
        }
        Ok(())
    }

    /// Whether all tables of the dump were walked.
    pub(crate) fn is_walked(&self, lookup: &Lookup<'_>) -> bool {
        self.below_root || !lookup.header.radix
    }

    fn check_memory(&self, tables: usize, memory: u64) -> Result<(), Stop> {
        if tables as u64 * size_of::<Table>() as u64 > memory / 4 {
            return Err(Stop::Failed(format!(
                "{tables} leaf tables need more memory than the limit of {memory} bytes; raise --memory"
            )));
        }
        Ok(())
    }

    /// Applies the rules about an entry of amd64's section from version 2.
    fn amd64_entry(
        &mut self,
        va: u64,
        entry: u64,
        offset: u64,
        lookup: &Lookup<'_>,
        sink: &mut Sink,
    ) {
        if lookup.header.version == 1 {
            return;
        }
        if entry & amd64::PG_PS != 0 {
            // Bit 12 is PAT; the CPU faults on any other bit below the frame.
            let reserved = entry & (amd64::PG_FRAME & !amd64::PG_PS_FRAME & !(1 << 12));
            let place = Location::payload(Region::For("page directory entry", va), offset);
            sink.check(&rules::PT_RESERVED, reserved == 0, &place, |f| {
                f.found(format!("2 MiB leaf {entry:#x}"))
                    .expected("zeros in bits 13 to 20")
            });
        }
        if va >= amd64::KERNBASE.0 {
            let slot = (va - amd64::KERNBASE.0) / amd64::NBPDR;
            let (first, _, count) = self.image.unwrap_or((slot, slot, 0));
            self.image = Some((first, slot, count + 1));
        }
    }

    fn leaf(&mut self, va: u64, pa: u64, len: u64, offset: u64, lookup: &Lookup<'_>) {
        let page = lookup.header.page;
        let pages = len / page;
        let (from, to) = lookup.avail.bits_of(pa, len);
        // Damaged tables can map a large range any number of times.
        if self.marked / MOST_ADDRESSES <= lookup.bits.len() {
            self.marked += to - from;
            self.reached.set(from, to.min(lookup.bits.len()));
        }
        let inside = to - from;
        let present = lookup.bits.below(to) - lookup.bits.below(from);
        self.present += present;
        self.outside += pages.saturating_sub(inside);
        if inside > present && lookup.header.has_avail() {
            self.absent += inside - present;
            self.first_absent.get_or_insert((va, offset));
        }
    }

    fn table(&mut self, va: u64, pa: u64, offset: u64, lookup: &Lookup<'_>, sink: &mut Sink) {
        if let Some((bit, rank)) = table_page(va, pa, offset, lookup, sink) {
            self.reached.set(bit, bit + 1);
            self.wanted.push(Table { rank, va });
        }
    }

    /// Sorts the leaf tables by their order in the dump, without duplicates: a table that several
    /// entries point to is walked once.
    pub(crate) fn sort(&mut self) {
        self.wanted.sort_unstable();
        self.wanted.dedup_by_key(|table| table.rank);
    }

    /// Walks leaf table `table`, whose page is at payload offset `at`.
    pub(crate) fn table_page(&mut self, table: Table, bytes: &[u8], at: u64, lookup: &Lookup<'_>) {
        for (i, entry) in bytes.chunks_exact(amd64::PTE_SIZE).enumerate() {
            let entry = entry::number(lookup.header, entry);
            if entry & amd64::PG_V != 0 {
                let va = table.va.wrapping_add(i as u64 * lookup.header.page);
                let offset = at + (i * amd64::PTE_SIZE) as u64;
                let pa = entry & amd64::PG_FRAME;
                self.leaf(va, pa, lookup.header.page, offset, lookup);
            }
        }
    }

    /// Checks that the mapped pages of `dump_avail` are in the dump. `is_nodump` returns whether the
    /// kernel set PG_NODUMP of a page; without it, all pages may have the flag.
    pub(crate) fn check_absent(
        &self,
        lookup: &Lookup<'_>,
        is_nodump: Option<&dyn Fn(PhysAddr) -> bool>,
        sink: &mut Sink,
    ) {
        if !lookup.is_walked() {
            return;
        }
        let (va, offset) = self
            .first_absent
            .unwrap_or((0, lookup.header.sections()[4].start));
        let place = Location::payload(Region::For("page-table entry", va), offset);
        let Some(is_nodump) = is_nodump.filter(|_| self.absent > 0) else {
            sink.check(&rules::PT_PAGE_ABSENT, self.absent == 0, &place, |f| {
                f.found(format!(
                    "{} within dump_avail not in the dump, the first at {va:#x}",
                    count(self.absent, "mapped page")
                ))
                .expected("only pages allocated with M_NODUMP")
            });
            return;
        };
        let absent = self.reached.absent(lookup.bits);
        let mut others = absent
            .filter_map(|bit| lookup.avail.address(bit))
            .filter(|pa| !is_nodump(PhysAddr(*pa)));
        let first = others.next();
        let place = Location::dump("page tables");
        sink.check(&rules::PT_PAGE_ABSENT, first.is_none(), &place, |f| {
            f.found(format!(
                "{} without PG_NODUMP not in the dump, the first at physical address {:#x}",
                count(1 + others.count() as u64, "mapped page"),
                first.unwrap_or(0)
            ))
            .expected("only pages with PG_NODUMP")
        });
    }

    /// Checks that not only the first eighth of the kernel's bitmap was copied to the dump: some
    /// page after it is reached through the direct map alone.
    pub(crate) fn check_eighth(&self, lookup: &Lookup<'_>, sink: &mut Sink) {
        let header = lookup.header;
        if !header.has_avail() || !header.has_direct_map() {
            return;
        }
        let bits = lookup.avail.bits();
        // BIT_COPY_STORE_REL copied as many bits as the bitmap has bytes, in whole words.
        let bytes = header.whole_words(bits) / 8;
        let copied = header.whole_words(bytes);
        let before = self.reached.unmarked(lookup.bits, 0..copied);
        let after = self.reached.unmarked(lookup.bits, copied..bits);
        if before + after < EIGHTH_LEAST {
            return;
        }
        let start = header.sections()[3].start;
        let place = Location::payload("page bitmap", start.saturating_add(copied / 8));
        sink.check(&rules::BM_EIGHTH, after > 0, &place, |f| {
            f.found(format!(
                "{} outside of the kernel map, all below bit {copied} of {bits}",
                count(before, "page")
            ))
            .expected("some after it, such as those of vm_page_dump")
        });
    }

    /// Applies the rules about the tables as a whole.
    pub(crate) fn finish(&self, lookup: &Lookup<'_>, sink: &mut Sink) {
        if !lookup.is_walked() {
            return;
        }
        let hashed = lookup.header.is_hashed();
        let [arm, mips] = ["arm", "mips"].map(|port| lookup.header.architecture() == port);
        for (rule, about) in [
            (&rules::PT_ENTRY, true),
            (&rules::PT_LARGE_PAGE, arm),
            (&rules::PT_GLOBAL, mips),
            (&rules::PT_HASH_GROUP, hashed),
            (&rules::PT_HASH_TWICE, hashed),
        ] {
            if about && !sink.broke(rule) {
                sink.passed(rule);
            }
        }
        let start = lookup.header.sections()[4].start;
        let place = Location::payload("page tables", start);
        sink.check(&rules::PT_EMPTY, self.valid > 0, &place, |f| {
            f.found("no valid entry")
                .expected("entries of the kernel map")
        });
        if self.image.is_none() && self.valid > 0 && lookup.maps_image() {
            let place = Location::payload("page directory of KERNBASE", start);
            sink.broken(&rules::PT_IMAGE_GAP, &place, |f| {
                f.found(format!("no valid entry from {:#x}", amd64::KERNBASE))
                    .expected("entries that map the kernel image")
            });
        }
        if let Some((first, last, count)) = self.image {
            let whole = last - first + 1;
            let at = amd64::KERNBASE.0 + first * amd64::NBPDR;
            let place = Location::payload("page directory of KERNBASE", start);
            sink.check(&rules::PT_IMAGE_GAP, count == whole, &place, |f| {
                f.found(format!(
                    "{} zero entries among {whole} from {at:#x}",
                    whole - count
                ))
                .expected("a kernel image without gaps")
            });
        }
    }
}

/// Number of 4 KiB pages in a 64 KiB page of arm.
const ENTRIES_OF_LARGE_PAGE: usize = 16;

/// The bit and the rank in the dump of the page of a table that the entry at `offset` points to.
fn table_page(
    va: u64,
    pa: u64,
    offset: u64,
    lookup: &Lookup<'_>,
    sink: &mut Sink,
) -> Option<(u64, u64)> {
    let place = Location::payload(Region::For("page directory entry", va), offset);
    let bit = lookup.avail.bit(pa);
    let inside = sink.check(&rules::PT_TABLE_OUTSIDE, bit.is_some(), &place, |f| {
        f.found(format!("a leaf table at {pa:#x}"))
            .expected("a page within dump_avail")
    });
    let rank = bit.and_then(|bit| lookup.bits.rank(bit));
    if !inside {
        return None;
    }
    sink.check(&rules::PT_TABLE_ABSENT, rank.is_some(), &place, |f| {
        f.found(format!("a leaf table at {pa:#x}, which is not in the dump"))
            .expected("a leaf table in the dump")
    });
    Some((bit?, rank?))
}

/// Reports an entry of a type that its format does not define.
fn invalid(va: u64, what: &str, entry: u64, offset: u64, sink: &mut Sink) {
    let place = Location::payload(Region::For("page-table entry", va), offset);
    sink.broken(&rules::PT_ENTRY, &place, |f| {
        f.found(format!("{entry:#x}, {what}")).expected("a page")
    });
}
