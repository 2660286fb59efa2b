//! The minidump's own header, and where it puts the sections.
//!
//! Definitions from [`minidump::defs`]; the arithmetic is here. With a page size of P, and every
//! length rounded up to it, the payload is: header (one page), message buffer, `dump_avail`, page
//! bitmap, page tables, and one page of data for each set bit.

use minidump::defs::minidump::{ALL, HeaderFields, MAGIC_PREFIX, PAGE_SIZE};
use minidump::defs::{Field, amd64, arm64};

use crate::finding::{Place, Sink};
use crate::input::{big, field, little, quoted};
use crate::rules;

/// Bytes of a header that are looked at first: more than any version of any architecture has.
pub(crate) const HEAD: usize = 256;

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
}

/// One section: its name and its bytes, padding included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Header {
    /// Reads the first bytes of a payload. `None`: no minidump, or one of a version or byte order
    /// that is not known; the finding says which.
    pub(crate) fn parse(bytes: &[u8], sink: &mut Sink) -> Option<Self> {
        let fields = architecture(bytes, sink)?;
        let (low, high) = (little(bytes, fields.version), big(bytes, fields.version));
        let known = 1..=u64::from(fields.last_version);
        let place = Place::payload("minidump header", fields.version.offset as u64);
        let swapped = known.contains(&high) && may_be_big(fields);
        let right = known.contains(&low) || swapped;
        let fits = sink.check(&rules::MD_VERSION, right, &place, |f| {
            f.found(low.to_string())
                .expected(format!("1 to {}", fields.last_version))
                .bytes(
                    place_of(fields.version),
                    field(bytes, fields.version).unwrap_or_default(),
                )
        });
        if !fits {
            return None;
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
        Some(Self {
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

    /// Whether the version has the `dump_avail` section.
    pub(crate) fn has_avail(&self) -> bool {
        self.version >= self.fields.dumpavail_since
    }

    /// Bits per `long` of the kernel: the bitmap is an array of those.
    pub(crate) fn word_bits(&self) -> u64 {
        match self.architecture() {
            "i386" | "arm" | "mips" => 32,
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
        [
            ("minidump header", self.page),
            ("message buffer", self.rounded(self.msgbufsize)),
            ("dump_avail", self.rounded(self.dumpavailsize)),
            ("page bitmap", self.rounded(self.bitmapsize)),
            ("page tables", self.rounded(self.pmapsize)),
        ]
        .map(|(name, len)| {
            let start = end;
            end += len;
            Section { name, start, end }
        })
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
        if self.is_amd64() {
            self.check_amd64(sink);
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

    fn check_amd64(&self, sink: &mut Sink) {
        let fields = self.fields;
        let at = |f: Field| Place::payload("minidump header", f.offset as u64);
        let usual = match self.version {
            1 => amd64::KERNBASE,
            _ => amd64::VM_MIN_KERNEL_ADDRESS,
        };
        let found = self.kernbase;
        sink.check(
            &rules::MD_KERNBASE,
            found == usual,
            &at(fields.kernbase),
            |f| {
                f.found(format!("kernbase {found:#x}"))
                    .expected(format!("{usual:#x}"))
            },
        );
        let layouts = [
            (amd64::DMAP_MIN_ADDRESS, amd64::DMAP_MAX_ADDRESS),
            (amd64::DMAP_MIN_ADDRESS_LA57, amd64::DMAP_MAX_ADDRESS_LA57),
        ];
        let found = (self.dmapbase, self.dmapend);
        let place = at(fields.dmapbase.unwrap_or(fields.kernbase));
        sink.check(
            &rules::MD_DMAP_LAYOUT,
            layouts.contains(&found),
            &place,
            |f| {
                f.found(format!("direct map {:#x}..{:#x}", found.0, found.1))
                    .expected(format!("{:#x}..{:#x}", layouts[0].0, layouts[0].1))
            },
        );
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

fn place_of(at: Field) -> u64 {
    at.offset as u64
}

fn may_be_big(fields: &HeaderFields) -> bool {
    fields.magic_text.ends_with("/powerpc64") || fields.magic_text.ends_with("/mips")
}

/// The architecture whose magic `bytes` begin with, or come closest to.
fn architecture(bytes: &[u8], sink: &mut Sink) -> Option<&'static HeaderFields> {
    let wrong = |fields: &HeaderFields| {
        let text = fields.magic_text.as_bytes();
        let found = field(bytes, fields.magic).unwrap_or_default();
        let padded = text.iter().copied().chain(std::iter::repeat(0));
        let pairs = padded.zip(found.iter().copied());
        pairs.filter(|(a, b)| a != b).count() + fields.magic.len - found.len()
    };
    let closest = ALL.into_iter().min_by_key(|fields| wrong(fields))?;
    if wrong(closest) <= 2 {
        return Some(closest);
    }
    let place = Place::payload("minidump header", 0);
    let found = &bytes[..bytes.len().min(24)];
    sink.report(
        place
            .breaks(&rules::MD_MAGIC)
            .found(quoted(found))
            .expected(format!(
                "\"{} FreeBSD/\" and an architecture",
                MAGIC_PREFIX.escape_ascii()
            ))
            .bytes(0, found),
    );
    None
}

fn page_size(flags: u64, at: Field, sink: &mut Sink) -> Option<u64> {
    let place = Place::payload("minidump header", at.offset as u64);
    let code = flags as u32 & arm64::FLAG_PS_MASK;
    let page = match code {
        arm64::FLAG_PS_4K => Some(4096),
        arm64::FLAG_PS_16K => Some(16384),
        _ => None,
    };
    let right = page.is_some() && flags <= u64::from(arm64::FLAG_PS_MASK);
    sink.check(&rules::MD_FLAGS, right, &place, |f| {
        f.found(format!("flags {flags:#x}"))
            .expected("0 (pages of 4 KiB) or 1 (16 KiB)")
    });
    page
}
