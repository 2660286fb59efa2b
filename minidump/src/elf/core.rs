//! Reads ELF core files: header, program headers, notes.
//!
//! Both classes, both byte orders and any number of segments are supported. The file is not trusted: a
//! table that is not completely in the file is an error before memory is allocated, and tables are
//! read in pieces.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::ReadAt;

use crate::elf::headers::{Head, Segment};
use crate::{ByteOrder, Error};
use livecore_defs::elf::PT_NOTE;

/// The number of program headers read at once.
const BATCH: u64 = 1024;

/// The maximum number of bytes read of a note's description.
const NOTE_LIMIT: u64 = 1 << 20;

/// The maximum number of notes.
const NOTES_LIMIT: u32 = 1 << 20;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its name, without the NUL.
    pub name: Vec<u8>,
    /// Its type.
    pub kind: u32,
    /// The offset of the description in the file.
    pub offset: u64,
    /// The description.
    pub description: Vec<u8>,
}

fn bad(region: &str, offset: u64, found: impl Into<String>, expected: &str) -> Error {
    Error::broken(format!("ELF core, {region}"), offset, found, expected)
}

/// An ELF core file.
#[derive(Clone)]
pub struct ElfCore {
    file: Arc<dyn ReadAt>,
    head: Head,
    count: u64,
}

impl ElfCore {
    /// Opens a core file. Another file is [`Error::NotADump`]. The program headers must be in the file;
    /// the caller checks their contents.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotADump`] if it is not an ELF core, [`Error::Broken`] if the program headers are not in the
    /// file, [`Error::Io`] if it cannot be read.
    pub fn parse(file: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let mut head = [0; 64];
        let got = file.read_full_at(&mut head, 0)?;
        let not = |found: &str| Error::NotADump {
            found: found.into(),
        };
        let head = Head::parse(&head[..got]).ok_or_else(|| not("not an ELF file"))?;
        if !head.is_core() {
            return Err(not("an ELF file that is not a core dump"));
        }
        let count = head.segment_count(&*file, "ELF core")?;
        let core = Self { file, head, count };
        if core.count > 0 {
            core.check_table()?;
        }
        Ok(core)
    }

    fn check_table(&self) -> Result<(), Error> {
        let class = self.head.class;
        if usize::from(self.head.phentsize) != class.phdr {
            return Err(bad(
                "e_phentsize",
                class.e_phentsize.offset as u64,
                self.head.phentsize.to_string(),
                &class.phdr.to_string(),
            ));
        }
        // At most 2^32 headers of 56 bytes.
        let len = self.count * class.phdr as u64;
        let end = self.head.phoff.checked_add(len);
        let last = end.filter(|_| self.head.phoff >= class.ehdr as u64);
        let in_file = match last {
            Some(end) => self.file.read_full_at(&mut [0], end - 1)? == 1,
            None => false,
        };
        if !in_file {
            return Err(bad(
                "program headers",
                self.head.phoff,
                format!("{} headers", self.count),
                "table after the ELF header and within the file",
            ));
        }
        Ok(())
    }

    /// The ELF header.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn ReadAt> {
        &self.file
    }

    /// The number of program headers.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Passes every program header to `sink` with its index, in the order of the file.
    ///
    /// # Errors
    ///
    /// Returns [`Error`] if the program headers cannot be read.
    pub fn walk(&self, sink: &mut dyn FnMut(u64, Segment) -> ControlFlow<()>) -> Result<(), Error> {
        let class = self.head.class;
        let mut number = 0;
        while number < self.count {
            let batch = BATCH.min(self.count - number);
            let mut bytes = vec![0; batch as usize * class.phdr];
            self.file
                .read_exact_at(&mut bytes, self.head.phoff + number * class.phdr as u64)?;
            for segment in self.head.segments(&bytes)? {
                if sink(number, segment).is_break() {
                    return Ok(());
                }
                number += 1;
            }
        }
        Ok(())
    }

    /// Returns the program headers. More than `limit` are an error.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Options`] if there are more than `limit`, and those of [`ElfCore::walk`].
    pub fn segments(&self, limit: u64) -> Result<Vec<Segment>, Error> {
        if self.count > limit {
            return Err(Error::Options(format!(
                "ELF core with {} segments, limit is {limit}",
                self.count
            )));
        }
        let mut all = Vec::new();
        self.walk(&mut |_, segment| {
            all.push(segment);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// Passes every note to `sink`, in the order of the file.
    ///
    /// A note that exceeds its segment is an error. A description is truncated at 1 MiB. Notes after
    /// the first 2^20 are ignored.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Broken`] if a note is not in its segment or not in the file, [`Error`] if it cannot be read.
    pub fn notes(&self, sink: &mut dyn FnMut(Note) -> ControlFlow<()>) -> Result<(), Error> {
        let mut found = Vec::new();
        self.walk(&mut |_, segment| {
            if segment.kind == PT_NOTE {
                found.push(segment);
            }
            match found.len() {
                0..64 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        let mut left = NOTES_LIMIT;
        let mut flow = ControlFlow::Continue(());
        for segment in found {
            let region = Region {
                file: &*self.file,
                order: self.head.order,
                start: segment.offset,
                len: segment.filesz,
            };
            if flow.is_continue() {
                flow = region.walk(&mut left, sink)?;
            }
        }
        Ok(())
    }
}

/// Passes the notes in `len` bytes from `start` of a file to `sink`, with the limits of
/// [`ElfCore::notes`].
///
/// # Errors
///
/// Returns [`Error::Broken`] if a note is not in these bytes or not in the file, [`Error`] if it cannot be read.
pub fn notes_at(
    file: &dyn ReadAt,
    order: ByteOrder,
    start: u64,
    len: u64,
    sink: &mut dyn FnMut(Note) -> ControlFlow<()>,
) -> Result<(), Error> {
    let region = Region {
        file,
        order,
        start,
        len,
    };
    region.walk(&mut { NOTES_LIMIT }, sink).map(drop)
}

/// Bytes of a file that are notes.
struct Region<'a> {
    file: &'a dyn ReadAt,
    order: ByteOrder,
    start: u64,
    len: u64,
}

impl Region<'_> {
    /// Fills `buf` with bytes of a note at `at`. It is an error if the file does not have them.
    fn fill(&self, buf: &mut [u8], at: u64) -> Result<(), Error> {
        let got = self.file.read_full_at(buf, at)?;
        if got == buf.len() {
            return Ok(());
        }
        let found = format!("end at {:#x}", at.saturating_add(got as u64));
        Err(bad("notes", at, found, "note within the file"))
    }

    /// Passes at most `left` notes to `sink`.
    fn walk(
        &self,
        left: &mut u32,
        sink: &mut dyn FnMut(Note) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let end = self.start.checked_add(self.len).ok_or_else(|| {
            let found = format!("{:#x} bytes", self.len);
            bad("notes", self.start, found, "end within the file")
        })?;
        let mut at = self.start;
        while end - at >= 12 && *left > 0 {
            *left -= 1;
            let mut head = [0; 12];
            self.fill(&mut head, at)?;
            let word = |i: usize| self.order.uint(&head[4 * i..4 * i + 4]).unwrap_or(0);
            let (name_len, len, kind) = (word(0), word(1), word(2) as u32);
            let name_at = at + 12;
            // Both lengths are below 2^32 and `at` is in the file, so this cannot overflow.
            let offset = name_at + name_len.next_multiple_of(4);
            let next = offset + len.next_multiple_of(4);
            if offset + len > end || name_len > 256 {
                return Err(bad(
                    "note",
                    at,
                    format!("name of {name_len} bytes, description of {len} bytes"),
                    "a name of at most 256 bytes, and name and contents within the segment",
                ));
            }
            let mut name = vec![0; name_len as usize];
            self.fill(&mut name, name_at)?;
            while name.last() == Some(&0) {
                name.pop();
            }
            let mut description = vec![0; len.min(NOTE_LIMIT) as usize];
            self.fill(&mut description, offset)?;
            let note = Note {
                name,
                kind,
                offset,
                description,
            };
            if sink(note).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at = next.min(end);
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl std::fmt::Debug for ElfCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElfCore")
            .field("head", &self.head)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ElfMachine;
    use crate::elf::write::{CoreHead, put_note};
    use livecore_defs::elf::{CLASS32, CLASS64, Class, ELFOSABI_STANDALONE, PT_LOAD};

    fn head(class: &'static Class, order: ByteOrder) -> CoreHead {
        CoreHead {
            class,
            order,
            osabi: ELFOSABI_STANDALONE,
            machine: ElfMachine::EM_X86_64,
            flags: 7,
            version: 1,
        }
    }

    fn segment(number: u64) -> Segment {
        Segment {
            kind: PT_LOAD,
            flags: 4,
            offset: 0x1000 * number,
            vaddr: 0x8000_0000 + number,
            paddr: 0x2000 * number,
            filesz: 0x1000,
            memsz: 0x1000,
            align: 0x1000,
        }
    }

    fn write(head: &CoreHead, count: u64, notes: &[u8]) -> Vec<u8> {
        let at = head.len(count);
        let note = Segment {
            kind: PT_NOTE,
            offset: at,
            filesz: notes.len() as u64,
            align: 4,
            ..Segment::default()
        };
        let mut all: Vec<_> = (1..count).map(segment).collect();
        all.push(note);
        let mut file = head.encode(all.into_iter());
        assert_eq!(file.len() as u64, at);
        file.extend(notes);
        file
    }

    #[test]
    fn written_cores_of_every_class_order_and_over_65535_segments_are_read() {
        for class in [&CLASS32, &CLASS64] {
            for order in [ByteOrder::Little, ByteOrder::Big] {
                for count in [1, 2, 65_534, 65_535, 65_536, 70_000] {
                    let head = head(class, order);
                    let mut notes = Vec::new();
                    put_note(&mut notes, order, b"CORE", 1, b"12345");
                    put_note(&mut notes, order, b"Livecore", 0x4c43_0001, b"");
                    let file = write(&head, count, &notes);
                    let core = ElfCore::parse(Arc::new(file)).unwrap();
                    assert_eq!((core.count(), core.head().order), (count, order));
                    let segments = core.segments(count).unwrap();
                    for (i, found) in segments[..count as usize - 1].iter().enumerate() {
                        let mut expected = segment(i as u64 + 1);
                        if class.word == 4 {
                            expected.offset &= u64::from(u32::MAX);
                        }
                        assert_eq!(*found, expected);
                    }
                    let mut found = Vec::new();
                    core.notes(&mut |note| {
                        found.push((note.name, note.kind, note.description));
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                    let expected = [
                        (b"CORE".to_vec(), 1, b"12345".to_vec()),
                        (b"Livecore".to_vec(), 0x4c43_0001, Vec::new()),
                    ];
                    assert_eq!(found, expected);
                    assert!(core.segments(count - 1).is_err());
                }
            }
        }
    }

    #[test]
    fn goblin_reads_written_cores() {
        for (class, order) in [(&CLASS64, ByteOrder::Little), (&CLASS32, ByteOrder::Big)] {
            let mut notes = Vec::new();
            put_note(&mut notes, order, b"CORE", 1, b"12345");
            let file = write(&head(class, order), 3, &notes);
            let elf = goblin::elf::Elf::parse(&file).unwrap();
            assert_eq!(elf.is_64, class.word == 8);
            assert_eq!(elf.little_endian, order == ByteOrder::Little);
            assert_eq!((elf.header.e_type, elf.header.e_machine), (4, 62));
            assert_eq!(elf.header.e_flags, 7);
            assert_eq!(elf.program_headers.len(), 3);
            let second = &elf.program_headers[1];
            assert_eq!((second.p_offset, second.p_paddr), (0x2000, 0x4000));
            assert_eq!((second.p_vaddr, second.p_flags), (0x8000_0002, 4));
            let note = elf.iter_note_headers(&file).unwrap().next().unwrap();
            let note = note.unwrap();
            assert_eq!(
                (note.name, note.n_type, note.desc),
                ("CORE", 1, &b"12345"[..])
            );
        }
    }

    #[test]
    fn truncated_tables_and_notes_are_errors() {
        let mut notes = Vec::new();
        put_note(&mut notes, ByteOrder::Little, b"CORE", 1, b"12345");
        let file = write(&head(&CLASS64, ByteOrder::Little), 65_600, &notes);
        let behind = file.len() - notes.len();
        for len in (0..200).chain(behind - 130..file.len() - 3) {
            let core = ElfCore::parse(Arc::new(file[..len].to_vec()));
            let read = core.and_then(|core| core.notes(&mut |_| ControlFlow::Continue(())));
            assert!(read.is_err(), "{len}");
        }
        let mut huge = file.clone();
        huge[behind..behind + 4].fill(0xff);
        let core = ElfCore::parse(Arc::new(huge)).unwrap();
        let error = core.notes(&mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }
}
