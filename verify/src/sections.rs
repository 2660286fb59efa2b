//! The rules about the minidump header.

use livecore_defs::VirtAddr;
use livecore_defs::paging::When;
use livecore_defs::powerpc64::RADIX_ROOT_SIZE;
use livecore_defs::{Field, amd64};

use crate::entry;
use crate::finding::{Location, Sink};
use crate::hashed::{GROUP, LEAST_GROUPS};
use crate::header::{HEAD, MinidumpHeader};
use crate::input::{field, quoted};
use crate::rules;

impl MinidumpHeader {
    /// Applies the rules about the header page, which is `bytes`.
    pub(crate) fn check(&self, bytes: &[u8], sink: &mut Sink) {
        let fields = self.fields;
        self.check_magic(bytes, sink);
        self.check_reserved(bytes, sink);
        let at = |f: Field| Location::payload("minidump header", f.offset as u64);
        let page = self.page;
        let mut sizes = vec![("bitmapsize", fields.bitmapsize, self.bitmapsize)];
        // pmapsize of arm is a multiple of 1 KiB tables, not rounded to pages.
        if self.architecture() != "arm" {
            sizes.push(("pmapsize", fields.pmapsize, self.pmapsize));
        }
        for (name, where_, size) in sizes {
            sink.check(&rules::MD_ALIGNED, size % page == 0, &at(where_), |f| {
                f.found(format!("{name} {size:#x}"))
                    .expected(format!("a multiple of the page size {page:#x}"))
            });
        }
        if self.has_avail() {
            let (size, where_) = (self.dumpavailsize, fields.dumpavailsize);
            sink.check(&rules::MD_DUMPAVAIL_SIZE, size == page, &at(where_), |f| {
                f.found(format!("dumpavailsize {size:#x}"))
                    .expected(format!("one page, {page:#x}"))
            });
        }
        let size = self.msgbufsize;
        sink.check(
            &rules::MD_MSGBUF_SIZE,
            size != 0,
            &at(fields.msgbufsize),
            |f| f.found("msgbufsize 0").expected("a size above 0"),
        );
        if let (Some(base), Some(_)) = (fields.dmapbase, fields.dmapend) {
            let (low, high) = (self.dmapbase, self.dmapend);
            // mips kernels leave both fields zero.
            let right = low < high || self.architecture() == "mips";
            sink.check(&rules::MD_DMAP, right, &at(base), |f| {
                f.found(format!("direct map {low:#x}..{high:#x}"))
                    .expected("a start below the end")
            });
        }
        let applies = |when: When| match when {
            When::Version(version) => self.version == version,
            When::PageSize(size) => page == size,
            other => other == When::Always,
        };
        let mut steps = self.row().kernbase_align.iter();
        let step = steps
            .find(|(when, _)| applies(*when))
            .map_or(page, |step| step.1);
        let aligned = self.kernbase.is_multiple_of(step);
        sink.check(&rules::MD_KERNBASE, aligned, &at(fields.kernbase), |f| {
            f.found(format!("kernbase {:#x}", self.kernbase))
                .expected(format!("a multiple of {step:#x}"))
        });
        if self.is_amd64() {
            self.check_amd64(sink);
        }
        self.check_layout(sink);
        if self.is_hashed() {
            let groups = self.pmapsize / GROUP;
            let right = groups.is_power_of_two() && groups >= LEAST_GROUPS;
            sink.check(&rules::MD_HASH_GROUPS, right, &at(fields.pmapsize), |f| {
                f.found(format!("pmapsize {:#x}, {groups} groups", self.pmapsize))
                    .expected(format!("{LEAST_GROUPS} groups, or a larger power of two"))
            });
        }
        if self.radix {
            let right = self.pmapsize == RADIX_ROOT_SIZE;
            sink.check(&rules::MD_RADIX_ROOT, right, &at(fields.pmapsize), |f| {
                f.found(format!("pmapsize {:#x}", self.pmapsize))
                    .expected(format!("{RADIX_ROOT_SIZE:#x}"))
            });
        }
    }

    fn check_magic(&self, bytes: &[u8], sink: &mut Sink) {
        let magic = field(bytes, self.fields.magic).unwrap_or_default();
        let text = self.fields.magic_text.as_bytes();
        let padded = magic.len() > text.len()
            && magic.starts_with(text)
            && magic[text.len()..].iter().all(|b| *b == 0);
        let place = Location::payload("minidump header", 0);
        sink.check(&rules::MD_MAGIC, padded, &place, |f| {
            f.found(quoted(magic))
                .expected(format!("\"{}\", padded with NUL", self.fields.magic_text))
                .bytes(0, magic)
        });
    }

    fn check_reserved(&self, bytes: &[u8], sink: &mut Sink) {
        let f = self.fields;
        let mut known = vec![
            f.magic,
            f.version,
            f.msgbufsize,
            f.bitmapsize,
            f.pmapsize,
            f.kernbase,
        ];
        let others = [
            f.kernend,
            f.dmapphys,
            f.dmapbase,
            f.dmapend,
            f.paemode,
            f.arm_arch,
            f.mmuformat,
            f.mmu_name,
            f.hw_direct_map,
            f.startkernel,
            f.endkernel,
        ];
        known.extend(others.into_iter().flatten());
        if self.has_avail() {
            known.push(f.dumpavailsize);
        }
        if self.version >= f.flags_since {
            known.extend(f.flags);
        }
        // arm: no version states that the header has this field, an address of the kernel map.
        if let Some(linked) = f.kernvirtaddr
            && let Some(stored) = field(bytes, linked)
            && let address = entry::number(self, stored)
            && address >= self.kernbase
            && address.is_multiple_of(self.page)
        {
            known.push(linked);
        }
        let inside = |i: usize| {
            known
                .iter()
                .any(|k| (k.offset..k.offset + k.len).contains(&i))
        };
        let stray = (0..bytes.len()).find(|i| bytes[*i] != 0 && (*i >= HEAD || !inside(*i)));
        let offset = stray.unwrap_or(0);
        let place = Location::payload("minidump header", offset as u64);
        sink.check(&rules::MD_RESERVED, stray.is_none(), &place, |f| {
            f.found(format!("byte {:#04x}", bytes[offset]))
                .expected("zeros outside of the header's fields")
                .bytes(offset as u64, &bytes[offset..])
        });
    }

    /// Applies the rules about addresses that a kernel is compiled with.
    fn check_layout(&self, sink: &mut Sink) {
        let fields = self.fields;
        let at = |f: Field| Location::payload("minidump header", f.offset as u64);
        let (layouts, kernbase) = (self.row().direct_maps, self.row().kernbase);
        let Some(newest) = layouts.first() else {
            return;
        };
        let found = (VirtAddr(self.dmapbase), VirtAddr(self.dmapend));
        let right = layouts.contains(&found);
        let place = at(fields.dmapbase.unwrap_or(fields.kernbase));
        sink.check(&rules::MD_DMAP_LAYOUT, right, &place, |f| {
            f.found(format!("direct map {:#x}..{:#x}", found.0, found.1))
                .expected(format!("{:#x}..{:#x}", newest.0, newest.1))
        });
        if let Some(usual) = kernbase {
            let found = VirtAddr(self.kernbase);
            let place = at(fields.kernbase);
            sink.check(&rules::MD_KERNBASE_FIXED, found == usual, &place, |f| {
                f.found(format!("kernbase {found:#x}"))
                    .expected(format!("{usual:#x}"))
            });
        }
    }

    /// Checks that the direct map covers `start..end`, the range of `dump_avail`.
    pub(crate) fn check_dmap_phys(&self, start: u64, end: u64, sink: &mut Sink) {
        let Some(at) = self.fields.dmapphys else {
            return;
        };
        let (phys, page) = (self.dmapphys, self.page);
        let place = Location::payload("minidump header", at.offset as u64);
        // Kernels align the direct map to an L1 entry; the smallest possible block is that of L2.
        let block = page * (page / 8);
        let len = self.dmapend.saturating_sub(self.dmapbase);
        let reaches = phys <= start && end.checked_sub(phys).is_some_and(|most| most <= len);
        let right = reaches && phys.is_multiple_of(block);
        sink.check(&rules::MD_DMAP_PHYS, right, &place, |f| {
            f.found(format!("dmapphys {phys:#x}, {len:#x} bytes"))
                .expected(format!(
                    "a multiple of {block:#x}, and a map that covers {start:#x}..{end:#x}"
                ))
        });
    }

    fn check_amd64(&self, sink: &mut Sink) {
        let fields = self.fields;
        let at = |f: Field| Location::payload("minidump header", f.offset as u64);
        let usual = match self.version {
            1 => amd64::KERNBASE,
            _ => amd64::VM_MIN_KERNEL_ADDRESS,
        };
        let found = VirtAddr(self.kernbase);
        let place = at(fields.kernbase);
        sink.check(&rules::MD_KERNBASE_LAYOUT, found == usual, &place, |f| {
            f.found(format!("kernbase {found:#x}"))
                .expected(format!("{usual:#x}"))
        });
        let entries = self.pmapsize / amd64::PTE_SIZE as u64;
        let span = if self.version == 1 {
            self.page
        } else {
            amd64::NBPDR
        };
        let last = found.checked_add((entries * span).saturating_sub(1));
        let covers = found <= amd64::KERNBASE && last.is_some_and(|last| last >= amd64::KERNBASE);
        sink.check(&rules::MD_KERNEL_MAP, covers || entries == 0, &place, |f| {
            f.found(format!(
                "kernbase {found:#x} and {entries} entries of {span:#x} bytes"
            ))
            .expected(format!("a range that contains {:#x}", amd64::KERNBASE))
        });
        if self.version >= 2 && found == amd64::VM_MIN_KERNEL_ADDRESS {
            // One page for each GiB from VM_MIN_KERNEL_ADDRESS to KERNBASE, and one or two more.
            let least = (amd64::KERNBASE.0 - amd64::VM_MIN_KERNEL_ADDRESS.0) / amd64::NBPDP + 1;
            let pages = self.pmapsize / self.page;
            let right = pages == least || pages == least + 1;
            sink.check(&rules::MD_PMAP_SIZE, right, &at(fields.pmapsize), |f| {
                f.found(format!("pmapsize {:#x}", self.pmapsize))
                    .expected(format!(
                        "{:#x} or {:#x}",
                        least * self.page,
                        (least + 1) * self.page
                    ))
            });
        }
    }
}
