//! Writes ELF core files: header, program headers and notes.
//!
//! ```text
//!  file header · program headers · [section header 0, beyond 65,534 segments] · notes · …
//! ```

use crate::elf::headers::Segment;
use crate::{ByteOrder, ElfMachine};
use livecore_defs::elf::{Class, EI_CLASS, EI_DATA, EI_OSABI, EI_VERSION, ET_CORE, MAGIC, PN_XNUM};

/// The header of a core file, without the counts and offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreHead {
    /// The class, with its field offsets.
    pub class: &'static Class,
    /// The byte order.
    pub order: ByteOrder,
    /// `EI_OSABI`
    pub osabi: u8,
    /// `e_machine`
    pub machine: ElfMachine,
    /// `e_flags`
    pub flags: u32,
    /// `e_version`: 1, or 0 in cores of FreeBSD kernels.
    pub version: u32,
}

impl CoreHead {
    /// The length of the headers, with `count` program headers.
    pub fn len(&self, count: u64) -> u64 {
        let headers = self.class.ehdr as u64 + count * self.class.phdr as u64;
        let section = if count >= u64::from(PN_XNUM) {
            self.class.shdr as u64
        } else {
            0
        };
        headers + section
    }

    /// Encodes the first [`CoreHead::len`] bytes of the file.
    pub fn encode(&self, segments: impl ExactSizeIterator<Item = Segment>) -> Vec<u8> {
        let class = self.class;
        let count = segments.len() as u64;
        // The segments are in memory, so this length fits in `usize`.
        let mut out = vec![0; self.len(count) as usize];
        out[..4].copy_from_slice(&MAGIC);
        out[EI_CLASS] = class.number;
        out[EI_DATA] = match self.order {
            ByteOrder::Little => 1,
            ByteOrder::Big => 2,
        };
        out[EI_VERSION] = 1;
        out[EI_OSABI] = self.osabi;
        let extended = count >= u64::from(PN_XNUM);
        let sections = if extended {
            class.ehdr as u64 + count * class.phdr as u64
        } else {
            0
        };
        for (field, value) in [
            (class.e_type, u64::from(ET_CORE)),
            (class.e_machine, self.machine.0.into()),
            (class.e_version, self.version.into()),
            (class.e_phoff, class.ehdr as u64),
            (class.e_shoff, sections),
            (class.e_flags, self.flags.into()),
            (class.e_ehsize, class.ehdr as u64),
            (class.e_phentsize, class.phdr as u64),
            (class.e_phnum, count.min(PN_XNUM.into())),
            (class.e_shentsize, class.shdr as u64),
            (class.e_shnum, extended.into()),
        ] {
            self.order.put_field(&mut out, field, value);
        }
        let headers = out[class.ehdr..].chunks_exact_mut(class.phdr);
        for (header, segment) in headers.zip(segments) {
            for (field, value) in [
                (class.p_type, u64::from(segment.kind)),
                (class.p_flags, segment.flags.into()),
                (class.p_offset, segment.offset),
                (class.p_vaddr, segment.vaddr),
                (class.p_paddr, segment.paddr),
                (class.p_filesz, segment.filesz),
                (class.p_memsz, segment.memsz),
                (class.p_align, segment.align),
            ] {
                self.order.put_field(header, field, value);
            }
        }
        if extended {
            let section = &mut out[sections as usize..];
            self.order.put_field(section, class.sh_info, count);
            self.order.put_field(section, class.sh_size, 1);
        }
        out
    }
}

/// Appends a note. Name and description are padded to 4 bytes.
pub fn put_note(out: &mut Vec<u8>, order: ByteOrder, name: &[u8], kind: u32, description: &[u8]) {
    let mut head = [0; 12];
    let lengths = [name.len() as u64 + 1, description.len() as u64, kind.into()];
    for (word, value) in head.chunks_exact_mut(4).zip(lengths) {
        order.put(word, value);
    }
    out.extend(head);
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend(name);
    out.push(0);
    pad(out);
    out.extend(description);
    pad(out);
}
