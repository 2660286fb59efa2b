//! Exports a minidump as an ELF core for debuggers. The core has the complete payload, and headers
//! with the kernel addresses of its pages.
//!
//! ```text
//!  ELF header · program headers · notes · zeros up to a page boundary · the minidump
//! ```
//!
//! Segments have kernel addresses and refer to pages of the minidump. A page in the direct map and in
//! the kernel map is stored once and has two segments. Pages that are contiguous in memory, in the
//! file and in the address space are one segment. A note of livecore has the offset of the minidump,
//! so the core can be converted back without loss.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::ReadAt;

use crate::elf::headers::Segment;
use crate::elf::notes::{NoteContext, NoteStyle, ThreadNote, put_threads};
use crate::elf::write::{CoreHead, put_note};
use crate::mmu::{Protection, section};
use crate::{
    Architecture, ByteOrder, Dump, DumpMemory, Error, FullDump, HeaderOrigin, ReadError, VirtAddr,
};
use livecore_defs::elf::{
    CLASS32, CLASS64, NOTE_KERNELDUMPHEADER, NOTE_NAME, NOTE_PAYLOAD, NOTE_PAYLOAD_VERSION, PF_R,
    PF_W, PF_X, PT_LOAD, PT_NOTE,
};

/// Options of an exported core.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The style of the notes.
    pub style: NoteStyle,
    /// The threads. Debuggers select the first.
    pub threads: Vec<ThreadNote>,
    /// `osreldate`; 0 if unknown.
    pub osreldate: u32,
    /// `e_entry` of the kernel; 0 if unknown.
    pub entry: VirtAddr,
    /// `e_flags` of the kernel.
    pub flags: u32,
    /// The maximum average number of addresses per page in the kernel map; 0 for 4. Kernels map most
    /// pages once, besides the direct map.
    pub addresses: u32,
}

impl ExportOptions {
    /// Sets [`Self::style`].
    #[must_use]
    pub fn style(mut self, style: NoteStyle) -> Self {
        self.style = style;
        self
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: Vec<ThreadNote>) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::osreldate`].
    #[must_use]
    pub fn osreldate(mut self, osreldate: u32) -> Self {
        self.osreldate = osreldate;
        self
    }

    /// Sets [`Self::entry`].
    #[must_use]
    pub fn entry(mut self, entry: VirtAddr) -> Self {
        self.entry = entry;
        self
    }

    /// Sets [`Self::flags`].
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Sets [`Self::addresses`].
    #[must_use]
    pub fn addresses(mut self, addresses: u32) -> Self {
        self.addresses = addresses;
        self
    }
}

/// The concatenation of bytes in memory and another source.
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
            Some(offset) => self.body.read_at(buf, offset),
            None => self.head.as_slice().read_at(buf, offset),
        }
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let offset = offset.checked_sub(self.head.len() as u64);
        offset.is_some_and(|offset| self.body.known_zero(offset, len))
    }
}

/// An ELF core to be written.
pub struct Export {
    /// Its bytes.
    pub core: Arc<dyn ReadAt>,
    /// The number of segments of memory.
    pub segments: u64,
    /// The offset of the minidump.
    pub head_len: u64,
    /// The number of page tables that are not in the dump. Their mappings have no segments.
    pub tables_missing: u64,
}

/// A run of contiguous pages, which becomes a segment.
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
    /// Whether `next` starts at the end of this run.
    fn is_followed_by(&self, next: &Self) -> bool {
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

/// Appends a run to ascending runs, or extends the last one.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.is_followed_by(&run) => last.len += run.len,
        _ => runs.push(run),
    }
}

/// Limits runs to a dump of `len` bytes. In a truncated dump, a debugger then gets an error for the
/// missing pages.
fn clip(runs: &mut Vec<Run>, len: u64) {
    runs.retain_mut(|run| {
        run.len = run.len.min(len.saturating_sub(run.offset));
        run.len > 0
    });
}

/// The source of a core.
struct Source<'a> {
    memory: &'a dyn DumpMemory,
    arch: &'static Architecture,
    order: ByteOrder,
    /// Whether addresses have 64 bits.
    wide: bool,
    payload: Arc<dyn ReadAt>,
    /// The end of the payload by its headers.
    end: u64,
    /// The number of pages in the dump.
    pages: u64,
    /// The offset of the page tables in the payload, for errors.
    tables: u64,
    /// The runs of the direct map.
    direct: Vec<Run>,
    /// The minidump, if the payload is one.
    mini: Option<&'a Dump>,
}

/// Plans the core of `dump`.
///
/// # Errors
///
/// Returns an error if page tables cannot be read, if the core has too many segments for the pages
/// of the dump, or if it is too long for its class.
pub fn export(dump: &Dump, options: &ExportOptions) -> Result<Export, Error> {
    let mini = dump.header();
    plan(
        Source {
            memory: dump,
            arch: mini.arch,
            order: mini.order,
            // The addresses of a 32-bit kernel have 32 bits.
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

/// Plans the core of a full dump. `memory` is the dump's memory with the kernel's address translation.
/// The core does not have a minidump.
///
/// # Errors
///
/// Returns the errors of [`export`].
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
        entry: options.entry.0,
    };
    put_threads(&mut notes, context, &options.threads);
    let mut payload_note_len = 0;
    if let Some(dump) = source.mini {
        notes.extend(own_notes(dump));
        // The length of this note does not depend on the offset.
        payload_note_len = payload_note(source.order, 0, 0).len();
    }
    let notes_len = (notes.len() + payload_note_len) as u64;
    let count = runs.len() as u64 + 1;
    let notes_at = head.len(count);
    let start = (notes_at + notes_len).next_multiple_of(page);
    if source.mini.is_some() {
        notes.extend(payload_note(source.order, start, payload_len));
    }

    let end = start.saturating_add(source.end);
    if !wide && end > u64::from(u32::MAX) {
        return Err(Error::Options(format!(
            "the ELF core of a 32-bit kernel must end below 4 GiB, but would end at {end:#x}"
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

/// Returns the note with the dump's kerneldumpheader, if it has one.
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

/// Returns the note that `len` bytes from `start` are a minidump.
pub(crate) fn payload_note(order: ByteOrder, start: u64, len: u64) -> Vec<u8> {
    let mut note = [0; 24];
    for (at, size, value) in [(0, 4, NOTE_PAYLOAD_VERSION), (8, 8, start), (16, 8, len)] {
        order.put(&mut note[at..at + size], value);
    }
    let mut notes = Vec::new();
    put_note(&mut notes, order, NOTE_NAME, NOTE_PAYLOAD, &note);
    notes
}

/// Iterates over the program headers: that of the notes, then one per run.
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
            // With PAE, physical addresses can exceed those of ELF32.
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

/// Returns the runs of all kernel addresses of pages in the dump, ascending and disjoint, and the
/// number of missing page tables.
fn runs(source: &Source<'_>, options: &ExportOptions) -> Result<(Vec<Run>, u64), Error> {
    let mut runs = source.direct.clone();
    let direct = runs.len();
    let addresses = match options.addresses {
        0 => 4,
        n => n,
    };
    let max = (source.pages + 1).saturating_mul(addresses.into());
    let tables_missing = kernel_runs(source, max, &mut runs)?;
    // They are unsorted only on powerpc64.
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
        // If two runs map one address, use the first.
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

/// Returns the runs of the direct map whose pages are in the dump.
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
    // On mips, two windows map the same memory, so the addresses are not ascending.
    runs.sort_unstable();
    runs
}

/// Returns the runs of the direct map of a full dump.
fn direct_runs_of_full(dump: &FullDump, memory: &dyn DumpMemory) -> Vec<Run> {
    let page = memory.page_size();
    let mut runs = Vec::new();
    for range in dump.ranges() {
        for skip in (0..range.len).step_by(page as usize) {
            let pa = range.start.wrapping_add(skip);
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

/// Appends the runs of the kernel map, at most `max`. Returns the number of missing page tables.
fn kernel_runs(source: &Source<'_>, max: u64, runs: &mut Vec<Run>) -> Result<u64, Error> {
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
            if own.len() as u64 > max {
                full = true;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if full {
        return Err(Error::Options(format!(
            "the kernel map has more than {max} segments, too many for the pages of the dump"
        )));
    }
    let end = end.map_err(|e| match e {
        ReadError::Io { source, .. } | ReadError::Tables { source, .. } => source.into(),
        other => Error::broken(
            "page tables",
            source.tables,
            other.to_string(),
            "readable page tables",
        ),
    })?;
    runs.append(&mut own);
    Ok(end.tables_missing)
}
