//! Opens full dumps: checks the program headers against the content of the file.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::FullDump;
use super::overlap::{Overlap, separate};
use super::range::MemoryRange;
use crate::container::Opened;
use crate::dump::carried::{self, CarriedRange};
use crate::dump::envelope::Port;
use crate::dump::open::read_header;
use crate::dump::{Envelope, OpenOptions, Warning};
use crate::elf::core::ElfCore;
use crate::elf::headers::{Head, Segment};
use crate::info::InfoFile;
use crate::{Architecture, Dump, Error, KernelMemory, PhysAddr};
use livecore_defs::elf::{PT_DUMP_DELTA, PT_LOAD};

/// `p_paddr` of segments that have virtual addresses only; the second value is that of 32-bit
/// powerpc.
const NONE: [u64; 2] = [u64::MAX, 0xffff_ffff];

impl FullDump {
    pub(crate) fn build(
        opened: Opened,
        info_file: Option<InfoFile>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let content = opened.stream.content();
        let core = ElfCore::parse(content.clone())?;
        let head = *core.head();
        let arch = arch_of(&head)?;
        let limit = options.bitmap_limit / size_of::<MemoryRange>() as u64;
        let found = read_segments(&core, limit)?;
        let port = (arch, head.order);
        let mut envelope = Envelope::new(opened, info_file, port);
        let mut end = found.end;
        let mini = match carried::find(&core) {
            Ok(None) => None,
            Ok(Some(place)) => {
                end = end.max(place.offset.saturating_add(place.len));
                if let Some(header) = &place.header {
                    envelope.take_header(header, port);
                }
                match open_carried(&envelope, place, port, &found.ranges, options) {
                    Ok(mini) => Some(Arc::new(mini)),
                    Err(why) => {
                        envelope.warnings.push(Warning::Carried { why });
                        None
                    }
                }
            }
            Err(error) => {
                let why = error.to_string();
                envelope.warnings.push(Warning::Carried { why });
                None
            }
        };
        if let Some(actual) = envelope.known_len() {
            let expected = end;
            if actual < expected {
                let warning = envelope.explain_loss(Warning::CutSegments { expected, actual });
                envelope.warnings.push(warning);
            } else if actual > expected {
                envelope.warnings.push(Warning::Trailing {
                    offset: expected,
                    len: actual - expected,
                });
            }
        }
        for overlap in &found.overlaps {
            // Later reads report the error of content that cannot be read.
            if let Ok(Some(at)) = overlap.difference(&*content) {
                envelope.warnings.push(Warning::Overlap {
                    at,
                    used: overlap.used + (at.0 - overlap.at.0),
                    other: overlap.other + (at.0 - overlap.at.0),
                });
                break;
            }
        }
        Ok(Self {
            envelope,
            head,
            arch,
            page_size: found.page_size,
            delta: found.delta,
            ranges: found.ranges,
            segments: core.count(),
            end,
            zero_tail: options.zero_tail,
            mini,
        })
    }
}

/// Opens the minidump at `place`. It must be of the same port, and its pages must be where the
/// program headers say. Returns the reason if it cannot be used.
fn open_carried(
    envelope: &Envelope,
    place: CarriedRange,
    port: Port,
    ranges: &[MemoryRange],
    options: &OpenOptions,
) -> Result<Dump, String> {
    let start = place.offset;
    let carried = place.carried(&envelope.content);
    let open = || {
        let mini = read_header(&*carried.content)?;
        if (mini.arch, mini.order) != port {
            let found = format!("{}, {}-endian", mini.arch, mini.order.name());
            let expected = format!("{}, {}-endian", port.0, port.1.name());
            return Err(Error::broken("carried minidump", start, found, expected));
        }
        Dump::build(envelope.around(carried, port), mini, options)
    };
    let dump = open().map_err(|e| e.to_string())?;
    let page = dump.page_size();
    let lies_at = |pa: PhysAddr, offset: u64| {
        let own = dump.offset_of(pa);
        own.and_then(|own| own.checked_add(start)) == Some(offset)
    };
    for range in ranges {
        let last = (range.len - 1) / page * page;
        let last_page = range.start.wrapping_add(last);
        if !lies_at(range.start, range.offset) || !lies_at(last_page, range.offset + last) {
            return Err(format!(
                "pages from {:#x} on are not at the offsets in the program headers",
                range.start
            ));
        }
    }
    let bytes: u64 = ranges.iter().map(|range| range.len).sum();
    let pages = dump.bitmap().count();
    if pages.checked_mul(page) != Some(bytes) {
        return Err(format!(
            "bitmap has {pages} pages, program headers describe {bytes:#x} bytes"
        ));
    }
    Ok(dump)
}

/// The architecture of a full dump.
pub(crate) fn arch_of(head: &Head) -> Result<&'static Architecture, Error> {
    let machine = head.machine;
    Architecture::of_machine(machine).ok_or_else(|| Error::Unsupported {
        what: format!("full dump of ELF machine {machine}"),
    })
}

/// Contents of the program headers.
pub(crate) struct Found {
    /// Ascending by address, disjoint.
    pub(crate) ranges: Vec<MemoryRange>,
    /// Addresses that several program headers have.
    pub(crate) overlaps: Vec<Overlap>,
    pub(crate) delta: Option<Segment>,
    pub(crate) page_size: u64,
    /// End of the last range in the payload.
    pub(crate) end: u64,
}

/// Reads the program headers. Refuses more than `limit` ranges.
pub(crate) fn read_segments(core: &ElfCore, limit: u64) -> Result<Found, Error> {
    let head = core.head();
    let place = |number: u64| head.phoff + number * head.class.phdr as u64;
    let broken = |number: u64, field: &str, found: String, expected: &str| {
        let region = format!("program header {number}, {field}");
        Error::broken(region, place(number), found, expected)
    };
    let mut ranges: Vec<MemoryRange> = Vec::new();
    let (mut delta, mut page_size) = (None, 4096);
    let mut end = head.class.ehdr as u64;
    let mut failure = None;
    core.walk(&mut |number, segment| {
        match take(&segment, number, &broken) {
            Ok(Some(range)) if ranges.len() as u64 >= limit => {
                failure = Some(Error::Options(format!(
                    "range at {:#x} of the full dump exceeds the limit of {limit} ranges",
                    range.start
                )));
            }
            Ok(Some(range)) => {
                end = end.max(range.offset + range.len);
                if ranges.is_empty() && matches!(segment.align, 0x4000 | 0x1_0000) {
                    page_size = segment.align;
                }
                ranges.push(range);
            }
            Ok(None) if segment.kind == PT_DUMP_DELTA => delta = Some(segment),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
        match failure {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let Some(overlaps) = separate(&mut ranges, end) else {
        return Err(Error::broken(
            "program headers",
            head.phoff,
            format!("ranges that overlap in more than {end:#x} bytes or too often"),
            "ranges that do not overlap",
        ));
    };
    Ok(Found {
        ranges,
        overlaps,
        delta,
        page_size,
        end,
    })
}

/// The memory range of a segment, or `None` if the segment has no memory.
fn take(
    segment: &Segment,
    number: u64,
    broken: &dyn Fn(u64, &str, String, &str) -> Error,
) -> Result<Option<MemoryRange>, Error> {
    if segment.kind != PT_LOAD || segment.filesz == 0 {
        return Ok(None);
    }
    if NONE.contains(&segment.paddr) {
        return Err(Error::Unsupported {
            what: "full dump with virtual addresses only (32-bit powerpc)".into(),
        });
    }
    if segment.filesz > segment.memsz {
        return Err(broken(
            number,
            "p_filesz",
            format!("{:#x}", segment.filesz),
            "at most p_memsz",
        ));
    }
    let ends = [segment.paddr, segment.offset].map(|start| start.checked_add(segment.filesz));
    if ends.contains(&None) {
        return Err(broken(
            number,
            "p_filesz",
            format!("{:#x}", segment.filesz),
            "an end below 2^64 in memory and in the file",
        ));
    }
    Ok(Some(MemoryRange {
        start: PhysAddr(segment.paddr),
        len: segment.filesz,
        offset: segment.offset,
    }))
}
