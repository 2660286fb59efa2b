//! The minidump's own header, and where it puts the sections.
//!
//! Definitions from [`livecore_defs`]; the arithmetic is here. With a page size of P, and every
//! length rounded up to it, the payload is: header (one page), message buffer, `dump_avail`, page
//! bitmap, page tables, and one page of data for each set bit.

use livecore_defs::minidump::{ALL, HeaderFields, PAGE_SIZE};
use livecore_defs::{Field, amd64, arm64, i386, powerpc64, riscv};

use crate::container::resembles_payload;
use crate::entry;
use crate::finding::{Place, Sink};
use crate::hashed::{GROUP, LEAST_GROUPS};
use crate::input::{big, field, little, quoted};
use crate::rules;

/// Bytes of a header that are looked at first: more than any version of any architecture has.
pub(crate) const HEAD: usize = 256;
/// What all magics begin with.
const FAMILY: &[u8] = b"minidump FreeBSD/";

/// What the header says, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) fields: &'static HeaderFields,
    pub(crate) big: bool,
    pub(crate) version: u32,
    pub(crate) page: u64,
    pub(crate) msgbufsize: u64,
    pub(crate) dumpavailsize: u64,
    pub(crate) bitmapsize: u64,
    pub(crate) pmapsize: u64,
    pub(crate) kernbase: u64,
    pub(crate) dmapphys: u64,
    pub(crate) dmapbase: u64,
    pub(crate) dmapend: u64,
    /// powerpc64: the last address of the kernel map.
    pub(crate) kernend: u64,
    /// powerpc64: where the kernel's first byte is.
    pub(crate) startkernel: u64,
    /// arm: the form of page-table entries.
    pub(crate) mmuformat: u32,
    /// i386: whether page-table entries have 8 bytes.
    pub(crate) pae: bool,
    /// Whether the page tables are not padded to a page: 32-bit arm's, as a kernel writes them.
    /// Not in the header; whoever knows the payload's length finds out.
    pub(crate) unpadded: bool,
}

/// Why there is no header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A kind or version that is not known; which.
    Unsupported(String),
    /// Nothing like a minidump.
    Foreign,
    /// A damaged one; the finding says how.
    Broken,
}

/// One section: its name and its bytes, padding included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Header {
    /// Reads the first bytes of a payload.
    pub(crate) fn parse(bytes: &[u8], sink: &mut Sink) -> Result<Self, Refusal> {
        let fields = architecture(bytes, sink)?;
        let (low, high) = (little(bytes, fields.version), big(bytes, fields.version));
        let known = 1..=u64::from(fields.last_version);
        let swapped = known.contains(&high) && may_be_big(fields);
        if !known.contains(&low) && !swapped {
            return Err(Refusal::Unsupported(format!(
                "version {low} of \"{}\": 1 to {} are known",
                fields.magic_text, fields.last_version
            )));
        }
        let version = if swapped { high } else { low } as u32;
        let number = |at| {
            if swapped {
                big(bytes, at)
            } else {
                little(bytes, at)
            }
        };
        let optional = |at: Option<Field>| at.map_or(0, number);
        let page = match fields.flags {
            Some(at) if version >= fields.flags_since => page_size(number(at), at, sink)?,
            _ => PAGE_SIZE,
        };
        if let Some(at) = fields.mmu_name {
            let name = field(bytes, at).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            if !powerpc64::HASHED_MMUS.iter().any(|m| m.as_bytes() == name) {
                return Err(Refusal::Unsupported(format!(
                    "page tables of {}, which no minidump describes",
                    quoted(name)
                )));
            }
        }
        Ok(Self {
            fields,
            big: swapped,
            version,
            page,
            msgbufsize: number(fields.msgbufsize),
            dumpavailsize: if version >= fields.dumpavail_since {
                number(fields.dumpavailsize)
            } else {
                0
            },
            bitmapsize: number(fields.bitmapsize),
            pmapsize: number(fields.pmapsize),
            kernbase: number(fields.kernbase),
            dmapphys: optional(fields.dmapphys),
            dmapbase: optional(fields.dmapbase),
            dmapend: optional(fields.dmapend),
            kernend: optional(fields.kernend),
            startkernel: optional(fields.startkernel),
            // A field of four bytes.
            mmuformat: optional(fields.mmuformat) as u32,
            pae: optional(fields.paemode) != 0,
            unpadded: false,
        })
    }

    /// `amd64` and so on.
    pub(crate) fn architecture(&self) -> &'static str {
        let text = self.fields.magic_text;
        text.rsplit('/').next().unwrap_or(text)
    }

    pub(crate) fn is_amd64(&self) -> bool {
        self.fields.magic_text == amd64::HEADER.magic_text
    }

    /// Whether the page tables are one hashed table.
    pub(crate) fn is_hashed(&self) -> bool {
        self.fields.magic_text == powerpc64::HEADER.magic_text
    }

    /// Whether the version has the `dump_avail` section.
    pub(crate) fn has_avail(&self) -> bool {
        self.version >= self.fields.dumpavail_since
    }

    /// Whether the kernel's pointers have 64 bits.
    pub(crate) fn is_wide(&self) -> bool {
        match self.architecture() {
            "i386" | "arm" => false,
            "mips" => entry::is_wide(self),
            _ => true,
        }
    }

    /// Bits of the bitmap's words: the kernel's `long`, but for mips before version 2.
    pub(crate) fn word_bits(&self) -> u64 {
        match self.architecture() {
            "i386" | "arm" => 32,
            // A 32-bit kernel's addresses fit into 32 bits; old ones used words of 32 anyway.
            "mips" if self.version == 1 || !entry::is_wide(self) => 32,
            _ => 64,
        }
    }

    fn rounded(&self, len: u64) -> u64 {
        // All lengths are 32-bit numbers.
        len.div_ceil(self.page) * self.page
    }

    /// The sections in front of the data, in order.
    pub(crate) fn sections(&self) -> [Section; 5] {
        let mut end = 0;
        let tables = match self.unpadded {
            true => self.pmapsize,
            false => self.rounded(self.pmapsize),
        };
        [
            ("minidump header", self.page),
            ("message buffer", self.rounded(self.msgbufsize)),
            ("dump_avail", self.rounded(self.dumpavailsize)),
            ("page bitmap", self.rounded(self.bitmapsize)),
            ("page tables", tables),
        ]
        .map(|(name, len)| {
            let start = end;
            end += len;
            Section { name, start, end }
        })
    }

    /// Bytes that pad the page tables, or that are left out: arm's kernel writes no padding, libkvm
    /// expects it.
    pub(crate) fn slack(&self) -> u64 {
        match self.architecture() {
            "arm" => self.rounded(self.pmapsize) - self.pmapsize,
            _ => 0,
        }
    }

    /// Where the data begins.
    pub(crate) fn data(&self) -> u64 {
        self.sections()[4].end
    }

    /// Applies the rules about the header page, of which `bytes` are all.
    pub(crate) fn check(&self, bytes: &[u8], sink: &mut Sink) {
        let fields = self.fields;
        self.check_magic(bytes, sink);
        self.check_reserved(bytes, sink);
        let at = |f: Field| Place::payload("minidump header", f.offset as u64);
        let page = self.page;
        let mut sizes = vec![("bitmapsize", fields.bitmapsize, self.bitmapsize)];
        // arm counts tables of 1 KiB, and rounds nothing.
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
            |f| f.found("msgbufsize 0").expected("a ring of some size"),
        );
        if let (Some(base), Some(_)) = (fields.dmapbase, fields.dmapend) {
            let (low, high) = (self.dmapbase, self.dmapend);
            // mips never fills them.
            let right = low < high || self.architecture() == "mips";
            sink.check(&rules::MD_DMAP, right, &at(base), |f| {
                f.found(format!("direct map {low:#x}..{high:#x}"))
                    .expected("a start before the end")
            });
        }
        let step = match self.architecture() {
            "amd64" if self.version >= 2 => amd64::NBPDP,
            "i386" => i386::NBPDR_PAE,
            "arm64" | "riscv" => page * (page / 8),
            _ => page,
        };
        let aligned = self.kernbase.is_multiple_of(step)
            || matches!(self.architecture(), "mips" | "powerpc64");
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
    }

    fn check_magic(&self, bytes: &[u8], sink: &mut Sink) {
        let magic = field(bytes, self.fields.magic).unwrap_or_default();
        let text = self.fields.magic_text.as_bytes();
        let padded = magic.len() > text.len()
            && magic.starts_with(text)
            && magic[text.len()..].iter().all(|b| *b == 0);
        let place = Place::payload("minidump header", 0);
        sink.check(&rules::MD_MAGIC, padded, &place, |f| {
            f.found(quoted(magic))
                .expected(format!("\"{}\", NUL padded", self.fields.magic_text))
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
        let inside = |i: usize| {
            known
                .iter()
                .any(|k| (k.offset..k.offset + k.len).contains(&i))
        };
        let stray = (0..bytes.len()).find(|i| bytes[*i] != 0 && (*i >= HEAD || !inside(*i)));
        let offset = stray.unwrap_or(0);
        let place = Place::payload("minidump header", offset as u64);
        sink.check(&rules::MD_RESERVED, stray.is_none(), &place, |f| {
            f.found(format!("byte {:#04x}", bytes[offset]))
                .expected("zeros wherever the header has no field")
                .bytes(offset as u64, &bytes[offset..])
        });
    }

    /// The rules about addresses that a kernel is built with.
    fn check_layout(&self, sink: &mut Sink) {
        let fields = self.fields;
        let at = |f: Field| Place::payload("minidump header", f.offset as u64);
        let riscv_dmap = [(riscv::DMAP_MIN_ADDRESS, riscv::DMAP_MAX_ADDRESS)];
        let (layouts, kernbase): (&[(u64, u64)], _) = match self.architecture() {
            "amd64" => (
                &[
                    (amd64::DMAP_MIN_ADDRESS, amd64::DMAP_MAX_ADDRESS),
                    (amd64::DMAP_MIN_ADDRESS_LA57, amd64::DMAP_MAX_ADDRESS_LA57),
                ],
                None,
            ),
            "arm64" => (
                &[
                    (arm64::DMAP_MIN_ADDRESS, arm64::DMAP_MAX_ADDRESS),
                    (arm64::DMAP_MIN_ADDRESS_12, arm64::DMAP_MAX_ADDRESS),
                ],
                Some(arm64::VM_MIN_KERNEL_ADDRESS),
            ),
            "riscv" => (&riscv_dmap, Some(riscv::VM_MIN_KERNEL_ADDRESS)),
            _ => return,
        };
        let found = (self.dmapbase, self.dmapend);
        let right = layouts.contains(&found);
        let place = at(fields.dmapbase.unwrap_or(fields.kernbase));
        sink.check(&rules::MD_DMAP_LAYOUT, right, &place, |f| {
            f.found(format!("direct map {:#x}..{:#x}", found.0, found.1))
                .expected(format!("{:#x}..{:#x}", layouts[0].0, layouts[0].1))
        });
        if let Some(usual) = kernbase {
            let found = self.kernbase;
            let place = at(fields.kernbase);
            sink.check(&rules::MD_KERNBASE_FIXED, found == usual, &place, |f| {
                f.found(format!("kernbase {found:#x}"))
                    .expected(format!("{usual:#x}"))
            });
        }
    }

    /// Whether the direct map reaches what `dump_avail` describes, from `start` to `end`.
    pub(crate) fn check_dmap_phys(&self, start: u64, end: u64, sink: &mut Sink) {
        let Some(at) = self.fields.dmapphys else {
            return;
        };
        let (phys, page) = (self.dmapphys, self.page);
        let place = Place::payload("minidump header", at.offset as u64);
        // Kernels begin it where an L1 entry does; an L2 block is the least that could map it.
        let block = page * (page / 8);
        let len = self.dmapend.saturating_sub(self.dmapbase);
        let reaches = phys <= start && end.checked_sub(phys).is_some_and(|most| most <= len);
        let right = reaches && phys.is_multiple_of(block);
        sink.check(&rules::MD_DMAP_PHYS, right, &place, |f| {
            f.found(format!("dmapphys {phys:#x}, {len:#x} bytes"))
                .expected(format!(
                    "a multiple of {block:#x}, and all of {start:#x}..{end:#x}"
                ))
        });
    }

    fn check_amd64(&self, sink: &mut Sink) {
        let fields = self.fields;
        let at = |f: Field| Place::payload("minidump header", f.offset as u64);
        let usual = match self.version {
            1 => amd64::KERNBASE,
            _ => amd64::VM_MIN_KERNEL_ADDRESS,
        };
        let found = self.kernbase;
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
            .expected(format!("a range around {:#x}", amd64::KERNBASE))
        });
        if self.version >= 2 && self.kernbase == amd64::VM_MIN_KERNEL_ADDRESS {
            // From VM_MIN_KERNEL_ADDRESS to KERNBASE in steps of 1 GiB, and one or two more.
            let least = (amd64::KERNBASE - amd64::VM_MIN_KERNEL_ADDRESS) / amd64::NBPDP + 1;
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

fn may_be_big(fields: &HeaderFields) -> bool {
    fields.magic_text.ends_with("/powerpc64") || fields.magic_text.ends_with("/mips")
}

/// The architecture whose magic `bytes` begin with, or come closest to.
fn architecture(bytes: &[u8], sink: &mut Sink) -> Result<&'static HeaderFields, Refusal> {
    let wrong = |fields: &HeaderFields| {
        let text = fields.magic_text.as_bytes();
        let found = field(bytes, fields.magic).unwrap_or_default();
        let pairs = text.iter().zip(found);
        pairs.filter(|(a, b)| a != b).count() + text.len().saturating_sub(found.len())
    };
    // Of several the longest: `arm` begins like `arm64`.
    let closest = ALL
        .into_iter()
        .min_by_key(|f| (wrong(f), std::cmp::Reverse(f.magic_text.len())));
    if let Some(fields) = closest
        && wrong(fields) <= 2
    {
        // A magic that goes on names something else.
        let behind = bytes.get(fields.magic_text.len()).copied().unwrap_or(0);
        if behind == 0 || wrong(fields) > 0 {
            return Ok(fields);
        }
    }
    let found = &bytes[..bytes.len().min(24)];
    if bytes.starts_with(FAMILY) {
        let why = format!("a minidump of an unknown architecture: {}", quoted(found));
        return Err(Refusal::Unsupported(why));
    }
    if !resembles_payload(bytes) {
        return Err(Refusal::Foreign);
    }
    let place = Place::payload("minidump header", 0);
    sink.broken(&rules::MD_MAGIC, &place, |f| {
        f.found(quoted(found))
            .expected(format!("{} and an architecture", quoted(FAMILY)))
            .bytes(0, found)
    });
    Err(Refusal::Broken)
}

fn page_size(flags: u64, at: Field, sink: &mut Sink) -> Result<u64, Refusal> {
    let place = Place::payload("minidump header", at.offset as u64);
    let mask = u64::from(arm64::FLAG_PS_MASK);
    let page = match flags as u32 & arm64::FLAG_PS_MASK {
        arm64::FLAG_PS_4K => 4096,
        arm64::FLAG_PS_16K => 16384,
        code => {
            let why = format!("pages of size code {code}, which no kernel writes");
            return Err(Refusal::Unsupported(why));
        }
    };
    sink.check(&rules::MD_FLAGS, flags & !mask == 0, &place, |f| {
        f.found(format!("flags {flags:#x}"))
            .expected("no bit but the page size's")
    });
    Ok(page)
}
