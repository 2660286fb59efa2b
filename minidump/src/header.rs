//! Parses and encodes the minidump header, which is in the first page.

use crate::{Architecture, ByteOrder, DumpAvail, Error};
use livecore_defs::minidump::{MAGIC_PREFIX, PAGE_SIZE};
use livecore_defs::paging::{Section, When};
use livecore_defs::powerpc64::{self, HASHED_MMUS, RADIX_MMU};
use livecore_defs::text::escaped;
use livecore_defs::{Field, arm64};

/// `struct minidumphdr` of any architecture.
///
/// A field that the architecture or the version does not have is 0. Each field has the width of the
/// widest architecture. The fields have the values of the file, so addresses are integers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MinidumpHeader {
    /// The architecture.
    pub arch: &'static Architecture,
    /// The kernel's byte order.
    pub order: ByteOrder,
    /// The version of the format, from 1.
    pub version: u32,
    /// The size of the message buffer, before page rounding.
    pub msgbufsize: u32,
    /// The size of the bitmap.
    pub bitmapsize: u32,
    /// The size of the page-table section: `pmapsize`, or `ptesize` on i386, arm and mips.
    pub pmapsize: u32,
    /// The size of the `dump_avail` section; 0 in versions without it.
    pub dumpavailsize: u32,
    /// The lowest kernel address in the page-table section.
    pub kernbase: u64,
    /// powerpc64: the end of the kernel map.
    pub kernend: u64,
    /// The physical address of `dmapbase`; 0 on architectures without this field.
    pub dmapphys: u64,
    /// The first address of the direct map.
    pub dmapbase: u64,
    /// The end of the direct map: exclusive, on powerpc64 inclusive.
    pub dmapend: u64,
    /// arm64 version 3: the page size code.
    pub flags: u32,
    /// i386: whether page-table entries have 8 bytes.
    pub paemode: u32,
    /// arm: the compiler's architecture level.
    pub arm_arch: u32,
    /// arm: the format of page-table entries.
    pub mmuformat: u32,
    /// arm: the address that the kernel is linked at; 0 if the header does not have it, or if it is
    /// not a page of the kernel map.
    pub kernvirtaddr: u32,
    /// powerpc64: the name of the pmap, padded with NUL.
    pub mmu_name: [u8; 32],
    /// powerpc64: whether the direct map has no page-table entries.
    pub hw_direct_map: u32,
    /// powerpc64: the start of the kernel image.
    pub startkernel: u64,
    /// powerpc64: the end of the kernel image.
    pub endkernel: u64,
}

/// The number of bytes that are sufficient for the header of any architecture.
pub(crate) const HEADER_BYTES: usize = 144;

const _: () = assert!(powerpc64::HEADER.sizeof[1] == HEADER_BYTES);

impl MinidumpHeader {
    /// Whether `head`, the first bytes of a file, has the magic of a minidump of any architecture.
    pub fn probe(head: &[u8]) -> bool {
        head.starts_with(&MAGIC_PREFIX)
    }

    /// Returns the architecture whose magic is at the start of `head`.
    pub fn probe_arch(head: &[u8]) -> Option<&'static Architecture> {
        Architecture::ALL.into_iter().find(|arch| {
            let fields = arch.header;
            let Some(magic) = head.get(..fields.magic.len) else {
                return false;
            };
            let text = fields.magic_text.as_bytes();
            // Every magic text is shorter than its field, so this index is valid.
            magic.starts_with(text) && magic[text.len()] == 0
        })
    }

    /// Parses the first 144 bytes of a payload.
    ///
    /// This checks the magic, the version and the page size. [`crate::Layout`] and the readers of the
    /// sections check the sizes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotADump`] if it is not a minidump's header, [`Error::Unsupported`] for an unknown
    /// version, [`Error::Broken`] if a field is invalid.
    pub fn parse(head: &[u8]) -> Result<Self, Error> {
        if !Self::probe(head) {
            return Err(Error::NotADump {
                found: format!("the payload starts with {}", escaped(head, 24)),
            });
        }
        let Some(arch) = Self::probe_arch(head) else {
            return Err(Error::Unsupported {
                what: format!("minidump for unknown architecture {}", escaped(head, 32)),
            });
        };
        let fields = arch.header;
        let version = |order: ByteOrder| order.field(head, fields.version);
        let (Some(little), Some(big)) = (version(ByteOrder::Little), version(ByteOrder::Big))
        else {
            return Err(Error::broken(
                "minidump header, version",
                fields.version.offset as u64,
                format!("end at {:#x}", head.len()),
                format!("{} bytes", fields.version.len),
            ));
        };
        let known = 1..=u64::from(fields.last_version);
        let (order, version) = if known.contains(&little) {
            (ByteOrder::Little, little)
        } else if arch.orders.contains(&ByteOrder::Big) && known.contains(&big) {
            (ByteOrder::Big, big)
        } else {
            return Err(Error::Unsupported {
                what: format!(
                    "{arch} minidump version {little} (supported: 1 to {})",
                    fields.last_version
                ),
            });
        };
        // `version` is at most `last_version`, a u32, and at least 1.
        let version = version as u32;
        let sizeof = fields.sizeof[version as usize - 1];
        if head.len() < sizeof {
            return Err(Error::broken(
                "minidump header",
                0,
                format!("{:#x} bytes", head.len()),
                format!("{sizeof:#x} bytes"),
            ));
        }
        let long =
            |field: Option<Field>| field.and_then(|f| order.field(head, f)).unwrap_or_default();
        // `word` is called for fields of 4 bytes.
        let word = |field: Option<Field>| long(field) as u32;
        let since = |first: u32, field: Option<Field>| field.filter(|_| version >= first);
        let mut mmu_name = [0; 32];
        if let Some(field) = fields.mmu_name {
            mmu_name.copy_from_slice(&head[field.offset..field.offset + field.len]);
        }
        let kernbase = long(Some(fields.kernbase));
        let linked = long(fields.kernvirtaddr);
        let is_linked = linked >= kernbase && linked.is_multiple_of(PAGE_SIZE);
        let header = Self {
            arch,
            order,
            version,
            msgbufsize: word(Some(fields.msgbufsize)),
            bitmapsize: word(Some(fields.bitmapsize)),
            pmapsize: word(Some(fields.pmapsize)),
            dumpavailsize: word(since(fields.dumpavail_since, Some(fields.dumpavailsize))),
            kernbase,
            kernend: long(fields.kernend),
            dmapphys: long(fields.dmapphys),
            dmapbase: long(fields.dmapbase),
            dmapend: long(fields.dmapend),
            flags: word(since(fields.flags_since, fields.flags)),
            paemode: word(fields.paemode),
            arm_arch: word(fields.arm_arch),
            mmuformat: word(fields.mmuformat),
            kernvirtaddr: word(fields.kernvirtaddr.filter(|_| is_linked)),
            mmu_name,
            hw_direct_map: word(fields.hw_direct_map),
            startkernel: long(fields.startkernel),
            endkernel: long(fields.endkernel),
        };
        let mmu = header
            .mmu_name
            .split(|b| *b == 0)
            .next()
            .unwrap_or_default();
        if fields.mmu_name.is_some()
            && mmu != RADIX_MMU.as_bytes()
            && !HASHED_MMUS.iter().any(|name| name.as_bytes() == mmu)
        {
            return Err(Error::Unsupported {
                what: format!(
                    "{arch} minidump with page tables that are neither hashed nor radix: pmap {}",
                    escaped(mmu, 32)
                ),
            });
        }
        let code = header.flags & arm64::FLAG_PS_MASK;
        if code > arm64::FLAG_PS_16K {
            return Err(Error::Unsupported {
                what: format!("{arch} minidump with page size code {code}"),
            });
        }
        Ok(header)
    }

    /// Encodes the header as a page, padded with zeros.
    pub fn encode(&self) -> Vec<u8> {
        let fields = self.arch.header;
        let mut page = vec![0; self.page_size() as usize];
        let text = fields.magic_text.as_bytes();
        page[..text.len()].copy_from_slice(text);
        let mut put = |field: Option<Field>, value: u64| {
            if let Some(field) = field {
                self.order.put_field(&mut page, field, value);
            }
        };
        put(Some(fields.version), self.version.into());
        put(Some(fields.msgbufsize), self.msgbufsize.into());
        put(Some(fields.bitmapsize), self.bitmapsize.into());
        put(Some(fields.pmapsize), self.pmapsize.into());
        if self.has_dump_avail() {
            put(Some(fields.dumpavailsize), self.dumpavailsize.into());
        }
        put(Some(fields.kernbase), self.kernbase);
        put(fields.kernend, self.kernend);
        put(fields.dmapphys, self.dmapphys);
        put(fields.dmapbase, self.dmapbase);
        put(fields.dmapend, self.dmapend);
        if self.version >= fields.flags_since {
            put(fields.flags, self.flags.into());
        }
        put(fields.paemode, self.paemode.into());
        put(fields.arm_arch, self.arm_arch.into());
        put(fields.mmuformat, self.mmuformat.into());
        put(fields.kernvirtaddr, self.kernvirtaddr.into());
        put(fields.hw_direct_map, self.hw_direct_map.into());
        put(fields.startkernel, self.startkernel);
        put(fields.endkernel, self.endkernel);
        if let Some(field) = fields.mmu_name {
            page[field.offset..field.offset + field.len].copy_from_slice(&self.mmu_name);
        }
        page
    }

    /// The page size of the dump in bytes.
    pub fn page_size(&self) -> u64 {
        match self.flags & arm64::FLAG_PS_MASK {
            arm64::FLAG_PS_16K => 16384,
            _ => PAGE_SIZE,
        }
    }

    /// Whether this version has the `dump_avail` section.
    pub fn has_dump_avail(&self) -> bool {
        self.version >= self.arch.header.dumpavail_since
    }

    /// The size of a kernel pointer in bytes. If the architecture has two sizes, `kernbase` decides:
    /// its upper 32 bits are 0 in kernels with the smaller size.
    pub fn pointer_size(&self) -> usize {
        match *self.arch.words {
            [only] => only,
            _ if self.kernbase >> 32 == 0 => 4,
            _ => 8,
        }
    }

    /// The name of the port in a kerneldumpheader, as far as this header determines it.
    pub fn machine_arch(&self) -> &'static str {
        self.arch.machine_arch(self.order, self.pointer_size())
    }

    /// The word size of the bitmap in bytes. It is the size of `long` except in some old versions.
    pub fn long_size(&self) -> usize {
        let mut all = self.arch.bitmap_words.iter();
        let found = all.find(|(when, _)| self.is(*when));
        found.map_or_else(|| self.pointer_size(), |(_, size)| *size)
    }

    /// The layout of the page-table section.
    pub fn section(&self) -> Section {
        let mut all = self.arch.sections.iter();
        let found = all.find(|(when, _)| self.is(*when));
        // The last element of every list matches always.
        found.map_or(Section::Unread(8, "unknown page tables"), |row| row.1)
    }

    /// Whether this header matches `when`.
    pub(crate) fn is(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Version(version) => self.version == version,
            When::PageSize(size) => self.page_size() == size,
            When::PaeMode => self.paemode != 0,
            When::MmuFormat(first, last) => (first..=last).contains(&self.mmuformat),
            When::Word(size) => self.pointer_size() == size,
            When::PageSizeAndDmapPhys(size, first) => {
                self.page_size() == size && self.dmapphys >= first
            }
            When::Mmu(name) => {
                let mut own = self.mmu_name.split(|b| *b == 0);
                own.next() == Some(name.as_bytes())
            }
        }
    }

    /// The size of the bitmap of `ranges` as the kernel computes it, in bytes: whole words, rounded up
    /// to a page. `None` if this version has no `dump_avail`, or the size does not fit its field.
    pub(crate) fn needed_bitmap_size(&self, ranges: &DumpAvail) -> Option<u32> {
        let word = self.long_size() as u64;
        let len = ranges.bits().div_ceil(word * 8).checked_mul(word)?;
        let size = u32::try_from(len.checked_next_multiple_of(self.page_size())?).ok()?;
        ranges.is_known().then_some(size)
    }

    /// The length of the page-table section, if the kernel does not pad it.
    pub(crate) fn unpadded_entries(&self) -> Option<u64> {
        let len = u64::from(self.pmapsize);
        (self.arch.unpadded && !len.is_multiple_of(self.page_size())).then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An amd64 version 3 header. The offsets are those of FreeBSD 15's compiled structure.
    fn amd64_v3() -> Vec<u8> {
        let mut page = vec![0_u8; 4096];
        page[..22].copy_from_slice(b"minidump FreeBSD/amd64");
        page[24] = 3;
        page[28..32].copy_from_slice(&98232_u32.to_le_bytes());
        page[32..36].copy_from_slice(&0x20000_u32.to_le_bytes());
        page[36..40].copy_from_slice(&0x7ff000_u32.to_le_bytes());
        page[40..48].copy_from_slice(&0xffff_fe00_0000_0000_u64.to_le_bytes());
        page[48..56].copy_from_slice(&0xffff_f800_0000_0000_u64.to_le_bytes());
        page[56..64].copy_from_slice(&0xffff_fc00_0000_0000_u64.to_le_bytes());
        page[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        page
    }

    #[test]
    fn a_header_that_ends_before_its_version_is_truncated_not_unsupported() {
        for len in [24, 27] {
            let error = MinidumpHeader::parse(&amd64_v3()[..len]).unwrap_err();
            assert!(matches!(error, Error::Broken { .. }), "{len}: {error}");
        }
    }

    #[test]
    fn amd64_header_is_read_at_upstream_offsets_and_written_back() {
        let page = amd64_v3();
        let header = MinidumpHeader::parse(&page[..HEADER_BYTES]).unwrap();
        assert_eq!(header.arch.name, "amd64");
        assert_eq!(header.version, 3);
        assert_eq!(header.msgbufsize, 98232);
        assert_eq!(header.pmapsize, 0x7ff000);
        assert_eq!(header.dumpavailsize, 4096);
        assert_eq!(header.dmapend, 0xffff_fc00_0000_0000);
        assert_eq!(header.encode(), page);
    }

    #[test]
    fn dumpavailsize_does_not_exist_before_its_version() {
        let mut page = amd64_v3();
        page[24] = 2;
        let header = MinidumpHeader::parse(&page).unwrap();
        assert_eq!(header.dumpavailsize, 0);
        assert!(!header.has_dump_avail());
    }

    #[test]
    fn kernvirtaddr_of_arm_is_read_if_it_is_a_page_of_the_kernel_map() {
        let arch = Architecture::named("arm").unwrap();
        let plain = MinidumpHeader {
            arch,
            version: 2,
            kernbase: 0xc000_0000,
            ..MinidumpHeader::default()
        };
        for (stated, read) in [
            (0xc020_0000, 0xc020_0000),
            (0xc000_0000, 0xc000_0000),
            (0, 0),
            (0xbff0_0000, 0),
            (0xc020_0004, 0),
        ] {
            let mut page = plain.encode();
            page[56..60].copy_from_slice(&u32::to_le_bytes(stated));
            let header = MinidumpHeader::parse(&page).unwrap();
            assert_eq!(header.kernvirtaddr, read, "{stated:#x}");
            assert_eq!(header.encode() == page, stated == read, "{stated:#x}");
        }
        // A header that ends before the field.
        let header = MinidumpHeader::parse(&plain.encode()[..56]).unwrap();
        assert_eq!(header, plain);
    }

    #[test]
    fn headers_of_every_architecture_are_encoded_and_parsed() {
        for arch in Architecture::ALL {
            for version in 1..=arch.header.last_version {
                for &order in arch.orders {
                    let mut mmu_name = [0; 32];
                    if arch.header.mmu_name.is_some() {
                        mmu_name[..6].copy_from_slice(b"mmu_g5");
                    }
                    let header = MinidumpHeader {
                        arch,
                        order,
                        version,
                        msgbufsize: 1,
                        bitmapsize: 2,
                        pmapsize: 3,
                        kernbase: 0x8000_1000,
                        flags: u32::from(version >= arch.header.flags_since),
                        mmu_name,
                        ..MinidumpHeader::default()
                    };
                    let page = header.encode();
                    assert_eq!(page.len() as u64, header.page_size());
                    assert_eq!(MinidumpHeader::parse(&page).unwrap(), header);
                }
            }
        }
    }

    #[test]
    fn unknown_is_unsupported_and_foreign_is_not_a_dump() {
        let mut page = amd64_v3();
        page[24] = 9;
        let error = MinidumpHeader::parse(&page).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        page[17..22].copy_from_slice(b"vax42");
        let error = MinidumpHeader::parse(&page).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = MinidumpHeader::parse(b"\x7fELF").unwrap_err();
        assert!(matches!(error, Error::NotADump { .. }), "{error}");
        let error = MinidumpHeader::parse(&amd64_v3()[..70]).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }
}
