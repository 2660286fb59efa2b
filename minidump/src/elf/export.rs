//! A minidump as an ELF core that debuggers open: the whole payload, and headers before it that say
//! at which kernel addresses its pages are.
//!
//! ```text
//!  ELF header · program headers · notes · zeros up to a page · the minidump, byte for byte
//! ```
//!
//! Segments lie at kernel addresses and point into the minidump's pages: a page that the direct map
//! and the kernel map have is there once, with two segments. Pages that follow each other in
//! memory, in the file and in the address space are one segment. A note of our own says where the
//! minidump lies, so that the core is a dump as good as the one it was made of.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::ReadAt;

use crate::elf::core::Segment;
use crate::elf::notes::{NoteContext, NoteStyle, ThreadNote, put_threads};
use crate::elf::write::{CoreHead, put_note};
use crate::mmu::section;
use crate::{
    Architecture, ByteOrder, Dump, DumpMemory, Error, FullDump, HeaderOrigin, PhysAddr, Protection,
    ReadError,
};
use livecore_defs::elf::{
    CLASS32, CLASS64, NOTE_KERNELDUMPHEADER, NOTE_NAME, NOTE_PAYLOAD, NOTE_PAYLOAD_VERSION, PF_R,
    PF_W, PF_X, PT_LOAD, PT_NOTE,
};

/// What an exported core says besides memory.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Whose notes.
    pub style: NoteStyle,
    /// The threads; the first is the one that debuggers select.
    pub threads: Vec<ThreadNote>,
    /// `osreldate`; 0 if it is not known.
    pub osreldate: u32,
    /// `e_entry` of the kernel; 0 if it is not known.
    pub entry: u64,
    /// `e_flags` of the kernel.
    pub flags: u32,
    /// The most addresses per page in the kernel map, on average; 0 for 4. A kernel maps most pages
    /// once besides the direct map.
    pub addresses: u32,
}

/// Bytes in memory before bytes that are elsewhere.
pub(crate) struct Joined {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Arc<dyn ReadAt>,
}

impl ReadAt for Joined {
    fn size(&self) -> io::Result<u64> {
        Ok((self.head.len() as u64).saturating_add(self.body.size()?))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.head.len() as u64;
        match offset.checked_sub(len) {
            Some(behind) => self.body.read_at(buf, behind),
            None => self.head.as_slice().read_at(buf, offset),
        }
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let behind = offset.checked_sub(self.head.len() as u64);
        behind.is_some_and(|behind| self.body.known_zero(behind, len))
    }
}

/// An ELF core that is about to be written.
pub struct Export {
    /// Its bytes.
    pub core: Arc<dyn ReadAt>,
    /// Segments of memory.
    pub segments: u64,
    /// Bytes before the minidump.
    pub head_len: u64,
    /// Page-table pages that are not in the dump; what they map has no segment.
    pub tables_missing: u64,
}

/// A run of pages that is one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    va: u64,
    pa: u64,
    /// Offset in the minidump.
    offset: u64,
    len: u64,
    flags: u32,
}

impl Run {
    /// Whether `next` goes on where this one ends.
    fn goes_on(&self, next: &Self) -> bool {
        let ends = |start: u64| start.checked_add(self.len);
        ends(self.va) == Some(next.va)
            && ends(self.pa) == Some(next.pa)
            && ends(self.offset) == Some(next.offset)
            && self.flags == next.flags
    }
}

fn flags(protection: Protection) -> u32 {
    let mut flags = PF_R;
    if protection.write {
        flags |= PF_W;
    }
    if protection.execute {
        flags |= PF_X;
    }
    flags
}

/// Appends a run to ascending ones, which it may lengthen.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.goes_on(&run) => last.len += run.len,
        _ => runs.push(run),
    }
}

/// Leaves what a dump of `len` bytes has: where its end is lost, a debugger gets an error, not what
/// lies elsewhere in the core.
fn clip(runs: &mut Vec<Run>, len: u64) {
    runs.retain_mut(|run| {
        run.len = run.len.min(len.saturating_sub(run.offset));
        run.len > 0
    });
}

/// What a core is made of.
struct Source<'a> {
    memory: &'a dyn DumpMemory,
    arch: &'static Architecture,
    order: ByteOrder,
    /// Whether addresses have 64 bits.
    wide: bool,
    payload: Arc<dyn ReadAt>,
    /// Where the payload ends, as its own headers say.
    end: u64,
    /// Pages in the dump.
    pages: u64,
    /// Where page tables are in the payload, for errors.
    tables: u64,
    /// The direct map.
    direct: Vec<Run>,
    /// The minidump that the payload is.
    mini: Option<&'a Dump>,
}

/// Plans the core of `dump`.
///
/// # Errors
///
/// If page tables cannot be read, or the core would have more segments than pages of the dump allow
/// or be too long for its class.
pub fn export(dump: &Dump, options: &ExportOptions) -> Result<Export, Error> {
    let mini = dump.header();
    plan(
        Source {
            memory: dump,
            arch: mini.arch,
            order: mini.order,
            // Entry points and addresses of a 32-bit kernel have no upper half.
            wide: mini.pointer_size() == 8,
            payload: dump.payload(),
            end: dump.layout().end(),
            pages: dump.bitmap().count(),
            tables: dump.layout().pmap_offset(),
            direct: direct_runs(dump),
            mini: Some(dump),
        },
        options,
    )
}

/// Plans the core of a full dump, whose kernel map `memory` translates by. It carries no minidump.
///
/// # Errors
///
/// As [`export`].
pub fn export_full(
    dump: &FullDump,
    memory: &dyn DumpMemory,
    options: &ExportOptions,
) -> Result<Export, Error> {
    let pages: u64 = dump.ranges().iter().map(|range| range.len).sum();
    plan(
        Source {
            memory,
            arch: dump.arch(),
            order: dump.order(),
            wide: dump.head().class.word == 8,
            payload: dump.payload(),
            end: dump.end(),
            pages: pages / memory.page_size(),
            tables: 0,
            direct: direct_runs_of_full(dump, memory),
            mini: None,
        },
        options,
    )
}

fn plan(source: Source<'_>, options: &ExportOptions) -> Result<Export, Error> {
    let page = source.memory.page_size();
    let wide = source.wide;
    let (mut runs, tables_missing) = runs(&source, options)?;
    let payload = source.payload;
    let payload_len = payload.size()?;
    clip(&mut runs, payload_len);
    let head = CoreHead {
        class: if wide { &CLASS64 } else { &CLASS32 },
        order: source.order,
        osabi: options.style.osabi(),
        machine: source.arch.machine,
        flags: options.flags,
        version: 1,
    };
    let word = head.class.word;
    let mut notes = Vec::new();
    let context = NoteContext {
        style: options.style,
        arch: source.arch,
        order: source.order,
        word,
        osreldate: options.osreldate,
        entry: options.entry,
    };
    put_threads(&mut notes, context, &options.threads);
    let mut place_len = 0;
    if let Some(dump) = source.mini {
        notes.extend(own_notes(dump));
        // The note about the minidump's place is as long wherever that is.
        place_len = place_note(source.order, 0, 0).len();
    }
    let notes_len = (notes.len() + place_len) as u64;
    let count = runs.len() as u64 + 1;
    let notes_at = head.len(count);
    let start = (notes_at + notes_len).next_multiple_of(page);
    if source.mini.is_some() {
        notes.extend(place_note(source.order, start, payload_len));
    }

    let end = start.saturating_add(source.end);
    if !wide && end > u64::from(u32::MAX) {
        return Err(Error::Options(format!(
            "an ELF core of a 32-bit kernel ends below 4 GiB, this one would at {end:#x}"
        )));
    }
    let note = Segment {
        kind: PT_NOTE,
        flags: PF_R,
        offset: notes_at,
        filesz: notes.len() as u64,
        align: 4,
        ..Segment::default()
    };
    let loads = Loads {
        runs: runs.iter(),
        start,
        page,
        wide,
        note: Some(note),
    };
    let mut bytes = head.encode(loads);
    bytes.extend(notes);
    // `start` was computed from these lengths.
    bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    Ok(Export {
        core: Arc::new(Joined {
            head: bytes,
            body: payload,
        }),
        segments: runs.len() as u64,
        head_len: start,
        tables_missing,
    })
}

/// The note with the dump's own kerneldumpheader, if it has one.
pub(crate) fn own_notes(dump: &Dump) -> Vec<u8> {
    let mut notes = Vec::new();
    let has_own = !matches!(
        dump.envelope().header_origin(),
        HeaderOrigin::Absent | HeaderOrigin::SealFromPayload
    );
    if let Some(header) = dump.envelope().kerneldumpheader().filter(|_| has_own) {
        let (order, block) = (dump.header().order, header.encode());
        put_note(&mut notes, order, NOTE_NAME, NOTE_KERNELDUMPHEADER, &block);
    }
    notes
}

/// The note that says that `len` bytes from `start` on are a minidump.
pub(crate) fn place_note(order: ByteOrder, start: u64, len: u64) -> Vec<u8> {
    let mut note = [0; 24];
    for (at, size, value) in [(0, 4, NOTE_PAYLOAD_VERSION), (8, 8, start), (16, 8, len)] {
        order.put(&mut note[at..at + size], value);
    }
    let mut notes = Vec::new();
    put_note(&mut notes, order, NOTE_NAME, NOTE_PAYLOAD, &note);
    notes
}

/// The program headers: the notes', then one per run.
struct Loads<'a> {
    runs: std::slice::Iter<'a, Run>,
    start: u64,
    page: u64,
    wide: bool,
    note: Option<Segment>,
}

impl Iterator for Loads<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if let Some(note) = self.note.take() {
            return Some(note);
        }
        let run = self.runs.next()?;
        let offset = self.start + run.offset;
        let congruent = offset % self.page == run.va % self.page;
        Some(Segment {
            kind: PT_LOAD,
            flags: run.flags,
            offset,
            vaddr: run.va,
            // PAE has more memory than its ELF class has addresses.
            paddr: if self.wide || run.pa <= u64::from(u32::MAX) {
                run.pa
            } else {
                0
            },
            filesz: run.len,
            memsz: run.len,
            align: if congruent { self.page } else { 1 },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.runs.len() + usize::from(self.note.is_some());
        (n, Some(n))
    }
}

impl ExactSizeIterator for Loads<'_> {}

/// Every kernel address of every page in the dump, ascending, none twice; and how many page tables
/// are missing.
fn runs(source: &Source<'_>, options: &ExportOptions) -> Result<(Vec<Run>, u64), Error> {
    let mut runs = source.direct.clone();
    let direct = runs.len();
    let addresses = match options.addresses {
        0 => 4,
        n => n,
    };
    let room = (source.pages + 1).saturating_mul(addresses.into());
    let tables_missing = kernel_runs(source, room, &mut runs)?;
    // All architectures but powerpc64 give them in this order already.
    runs[direct..].sort_unstable();
    let (direct, kernel) = runs.split_at(direct);
    let (mut direct, mut kernel) = (direct.iter().peekable(), kernel.iter().peekable());
    let mut merged: Vec<Run> = Vec::new();
    loop {
        let run = match (direct.peek(), kernel.peek()) {
            (Some(a), Some(b)) if a.va <= b.va => direct.next(),
            (_, Some(_)) => kernel.next(),
            (_, None) => direct.next(),
        };
        let Some(run) = run else { break };
        // What two tables say of one address: the first counts.
        let free = merged.last().is_none_or(|last| {
            last.va
                .checked_add(last.len)
                .is_some_and(|end| end <= run.va)
        });
        if free {
            push(&mut merged, *run);
        }
    }
    Ok((merged, tables_missing))
}

/// The direct map, as far as its pages are in the dump.
fn direct_runs(dump: &Dump) -> Vec<Run> {
    let mini = dump.header();
    let page = dump.layout().page_size();
    let mut runs = Vec::new();
    for (rank, bit) in dump.bitmap().iter().enumerate() {
        let pa = dump.dump_avail().addr_of(bit);
        let offset = dump.layout().page_offset(rank as u64);
        let (Some(pa), Some(offset)) = (pa, offset) else {
            continue;
        };
        if let Some(va) = section::direct_map_of(mini, pa) {
            let run = Run {
                va: va.0,
                pa: pa.0,
                offset,
                len: page,
                flags: PF_R | PF_W,
            };
            push(&mut runs, run);
        }
    }
    // mips has two windows for one memory, so the lowest page may have the highest address.
    runs.sort_unstable();
    runs
}

/// The same of a full dump.
fn direct_runs_of_full(dump: &FullDump, memory: &dyn DumpMemory) -> Vec<Run> {
    let page = memory.page_size();
    let mut runs = Vec::new();
    for range in dump.ranges() {
        for skip in (0..range.len).step_by(page as usize) {
            let pa = PhysAddr(range.start + skip);
            if let Some(va) = memory.direct_map_of(pa) {
                let run = Run {
                    va: va.0,
                    pa: pa.0,
                    offset: range.offset + skip,
                    len: page.min(range.len - skip),
                    flags: PF_R | PF_W,
                };
                push(&mut runs, run);
            }
        }
    }
    runs.sort_unstable();
    runs
}

/// The kernel map, appended to `runs`, which get at most `room` more.
fn kernel_runs(source: &Source<'_>, room: u64, runs: &mut Vec<Run>) -> Result<u64, Error> {
    let (dump, page) = (source.memory, source.memory.page_size());
    let mut own: Vec<Run> = Vec::new();
    let mut full = false;
    let end = dump.walk(&mut |mapping| {
        for skip in (0..mapping.len).step_by(page as usize) {
            let (Some(pa), Some(va)) = (mapping.pa.checked_add(skip), mapping.va.checked_add(skip))
            else {
                break;
            };
            let Some(offset) = dump.offset_of(pa) else {
                continue;
            };
            let run = Run {
                va: va.0,
                pa: pa.0,
                offset,
                len: page,
                flags: flags(mapping.protection),
            };
            push(&mut own, run);
            if own.len() as u64 > room {
                full = true;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if full {
        return Err(Error::Options(format!(
            "the kernel map has more than {room} pieces, too many for the pages of the dump"
        )));
    }
    let end = end.map_err(|e| match e {
        ReadError::Io { source, .. } | ReadError::Tables { source, .. } => source.into(),
        other => Error::broken(
            "page tables",
            source.tables,
            other.to_string(),
            "tables that can be read",
        ),
    })?;
    runs.append(&mut own);
    Ok(end.tables_missing)
}
