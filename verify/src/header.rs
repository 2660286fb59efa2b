//! The verifier's own reader of the minidump header, and the offsets of the sections.
//!
//! It uses only the definitions of [`livecore_defs`]. With every length rounded up to the page size,
//! the payload is: header (one page), message buffer, `dump_avail`, page bitmap, page tables, and
//! one page of data for each set bit.

use livecore_defs::Architecture;
use livecore_defs::minidump::{HeaderFields, MAGIC_PREFIX, PAGE_SIZE};
use livecore_defs::paging::Direct;
use livecore_defs::{Field, amd64, arm64, powerpc64};

use crate::finding::{Location, Sink};
use crate::input::{big, field, little, quoted};
use crate::rules;

/// Number of bytes to parse as a header: more than any version of any architecture has.
pub(crate) const HEAD: usize = 256;
/// The common prefix of all magics.
const FAMILY: &[u8] = b"minidump FreeBSD/";

/// The header of a minidump.
#[derive(Debug, Clone)]
pub(crate) struct MinidumpHeader {
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
    /// powerpc64: the address of the kernel's first byte.
    pub(crate) startkernel: u64,
    /// arm: the format of page-table entries.
    pub(crate) mmuformat: u32,
    /// i386: whether page-table entries have 8 bytes.
    pub(crate) pae: bool,
    /// powerpc64: whether the page tables are radix page tables.
    pub(crate) radix: bool,
    /// Whether the page tables are not padded to a page, as the kernel of 32-bit arm writes them.
    /// This follows from the payload's length, not from the header.
    pub(crate) unpadded: bool,
}

/// Why a header could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An unsupported kind or version; which.
    Unsupported(String),
    /// Not a minidump.
    Foreign,
    /// A damaged header; a finding describes the damage.
    Broken,
}

/// A section: its name and its range of the payload, including padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl MinidumpHeader {
    /// Parses the first bytes of a payload.
    pub(crate) fn parse(bytes: &[u8], sink: &mut Sink) -> Result<Self, Refusal> {
        let fields = architecture(bytes, sink)?;
        let (low, high) = (little(bytes, fields.version), big(bytes, fields.version));
        let known = 1..=u64::from(fields.last_version);
        let swapped = known.contains(&high) && may_be_big(fields);
        if !known.contains(&low) && !swapped {
            return Err(Refusal::Unsupported(format!(
                "unsupported version {low} of \"{}\" (supported: 1 to {})",
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
        let mut radix = false;
        if let Some(at) = fields.mmu_name {
            let name = field(bytes, at).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            radix = name == powerpc64::RADIX_MMU.as_bytes();
            if !radix && !powerpc64::HASHED_MMUS.iter().any(|m| m.as_bytes() == name) {
                return Err(Refusal::Unsupported(format!(
                    "unsupported page tables {}",
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
            radix,
            unpadded: false,
        })
    }

    /// The architecture's name: `amd64`, `arm64`.
    pub(crate) fn architecture(&self) -> &'static str {
        let text = self.fields.magic_text;
        text.rsplit('/').next().unwrap_or(text)
    }

    /// The architecture's definitions.
    pub(crate) fn row(&self) -> &'static Architecture {
        let mut all = Architecture::ALL.into_iter();
        // Every header comes from a row.
        all.find(|row| row.header.magic_text == self.fields.magic_text)
            .unwrap_or_default()
    }

    /// Whether the kernel maps all of memory linearly between `dmapbase` and `dmapend`.
    pub(crate) fn has_direct_map(&self) -> bool {
        let direct = self.row().direct;
        matches!(
            direct,
            Direct::Linear {
                inclusive: false,
                ..
            }
        )
    }

    pub(crate) fn is_amd64(&self) -> bool {
        self.fields.magic_text == amd64::HEADER.magic_text
    }

    /// Whether the page tables are one hashed table.
    pub(crate) fn is_hashed(&self) -> bool {
        self.is_powerpc64() && !self.radix
    }

    pub(crate) fn is_powerpc64(&self) -> bool {
        self.fields.magic_text == powerpc64::HEADER.magic_text
    }

    /// Whether the version has the `dump_avail` section.
    pub(crate) fn has_avail(&self) -> bool {
        self.version >= self.fields.dumpavail_since
    }

    /// Whether a mips kernel is a 64-bit one. The addresses of 32-bit kernels fit in 32 bits.
    pub(crate) fn is_wide_mips(&self) -> bool {
        u32::try_from(self.kernbase).is_err()
    }

    /// Whether the kernel's pointers have 64 bits.
    pub(crate) fn is_wide(&self) -> bool {
        match self.architecture() {
            "i386" | "arm" => false,
            "mips" => self.is_wide_mips(),
            _ => true,
        }
    }

    /// `bits`, rounded up to whole words of the kernel.
    pub(crate) fn whole_words(&self, bits: u64) -> u64 {
        let word = self.word_bits();
        bits.div_ceil(word).saturating_mul(word)
    }

    /// Bits per word of the bitmap: those of the kernel's `long`, except for mips before version 2.
    pub(crate) fn word_bits(&self) -> u64 {
        match self.architecture() {
            "i386" | "arm" => 32,
            // Version 1 of mips used 32-bit words even in 64-bit kernels.
            "mips" if self.version == 1 || !self.is_wide_mips() => 32,
            _ => 64,
        }
    }

    fn rounded(&self, len: u64) -> u64 {
        // All lengths are 32-bit numbers.
        len.div_ceil(self.page) * self.page
    }

    /// The sections before the page data, in order.
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

    /// Size of the optional padding of the page tables: arm's kernel writes none, but libkvm expects
    /// it.
    pub(crate) fn slack(&self) -> u64 {
        match self.architecture() {
            "arm" => self.rounded(self.pmapsize) - self.pmapsize,
            _ => 0,
        }
    }

    /// Offset of the page data.
    pub(crate) fn data(&self) -> u64 {
        self.sections()[4].end
    }
}

/// Whether `head` begins with the prefix of a minidump's magic, of which two bytes may be damaged.
pub(crate) fn resembles_payload(head: &[u8]) -> bool {
    head.len() >= MAGIC_PREFIX.len()
        && MAGIC_PREFIX
            .iter()
            .zip(head)
            .filter(|(a, b)| a == b)
            .count()
            >= MAGIC_PREFIX.len() - 2
}

fn may_be_big(fields: &HeaderFields) -> bool {
    fields.magic_text.ends_with("/powerpc64") || fields.magic_text.ends_with("/mips")
}

/// The header layout of the architecture whose magic is closest to the first `bytes`.
fn architecture(bytes: &[u8], sink: &mut Sink) -> Result<&'static HeaderFields, Refusal> {
    let wrong = |fields: &HeaderFields| {
        let text = fields.magic_text.as_bytes();
        let found = field(bytes, fields.magic).unwrap_or_default();
        let pairs = text.iter().zip(found);
        pairs.filter(|(a, b)| a != b).count() + text.len().saturating_sub(found.len())
    };
    // `arm` is a prefix of `arm64`: the longest match wins.
    let closest = Architecture::ALL
        .into_iter()
        .map(|row| row.header)
        .min_by_key(|f| (wrong(f), std::cmp::Reverse(f.magic_text.len())));
    if let Some(fields) = closest
        && wrong(fields) <= 2
    {
        // An exact match that continues is the name of another architecture.
        let next = bytes.get(fields.magic_text.len()).copied().unwrap_or(0);
        if next == 0 || wrong(fields) > 0 {
            return Ok(fields);
        }
    }
    let found = &bytes[..bytes.len().min(24)];
    if bytes.starts_with(FAMILY) {
        let why = format!("unsupported minidump architecture: {}", quoted(found));
        return Err(Refusal::Unsupported(why));
    }
    if !resembles_payload(bytes) {
        return Err(Refusal::Foreign);
    }
    let place = Location::payload("minidump header", 0);
    sink.broken(&rules::MD_MAGIC, &place, |f| {
        f.found(quoted(found))
            .expected(format!("{} followed by an architecture", quoted(FAMILY)))
            .bytes(0, found)
    });
    Err(Refusal::Broken)
}

fn page_size(flags: u64, at: Field, sink: &mut Sink) -> Result<u64, Refusal> {
    let place = Location::payload("minidump header", at.offset as u64);
    let mask = u64::from(arm64::FLAG_PS_MASK);
    let page = match flags as u32 & arm64::FLAG_PS_MASK {
        arm64::FLAG_PS_4K => 4096,
        arm64::FLAG_PS_16K => 16384,
        code => {
            let why = format!("unsupported page size code {code}");
            return Err(Refusal::Unsupported(why));
        }
    };
    sink.check(&rules::MD_FLAGS, flags & !mask == 0, &place, |f| {
        f.found(format!("flags {flags:#x}"))
            .expected("no bits except those of the page size")
    });
    Ok(page)
}
