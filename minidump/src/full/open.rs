//! Opening a full dump: what its program headers promise, against what is there.

use std::ops::ControlFlow;

use super::{FullDump, Range};
use crate::container::Opened;
use crate::defs::elf::{PT_DUMP_DELTA, PT_LOAD};
use crate::dump::beside::Beside;
use crate::dump::open::{find_header, usable_info, warn_of_header, warn_of_seal};
use crate::dump::{OpenOptions, Warning};
use crate::elf::core::{ElfCore, Segment};
use crate::{Arch, Error};

/// `p_paddr` of the segments of a dump by virtual addresses, and `p_vaddr` of powerpc's other one.
const NONE: [u64; 2] = [u64::MAX, 0xffff_ffff];

impl FullDump {
    pub(crate) fn build(
        opened: Opened,
        beside: Option<Beside>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let content = opened.stream.content();
        let core = ElfCore::parse(content.clone())?;
        let head = *core.head();
        let arch = Arch::ALL
            .into_iter()
            .find(|arch| arch.elf_machine() == head.machine)
            .ok_or_else(|| Error::Unsupported {
                what: format!("full dump of ELF machine {}", head.machine),
            })?;
        let limit = options.bitmap_limit / size_of::<Range>() as u64;
        let found = read_segments(&core, limit)?;
        let mut warnings = Vec::new();
        if let Some(why) = opened.seal_damage.clone() {
            warnings.push(Warning::Seal { why });
        }
        let port = (arch, head.order);
        let (info, info_path) = usable_info(beside, &opened, port, &mut warnings);
        let (header, origin) = find_header(&opened, info.as_ref(), info_path);
        warn_of_header(header.as_ref(), port, &mut warnings);
        warn_of_seal(opened.seal.as_ref(), &mut warnings);
        if let Some(actual) = opened.stream.known_len() {
            let expected = found.end;
            if actual < expected {
                warnings.push(Warning::CutSegments { expected, actual });
            } else if actual > expected {
                warnings.push(Warning::Trailing {
                    offset: expected,
                    len: actual - expected,
                });
            }
        }
        Ok(Self {
            container: opened.container,
            stream: opened.stream,
            file_len: opened.file_len,
            header,
            origin,
            info,
            seal: opened.seal,
            content,
            head,
            arch,
            page_size: found.page_size,
            delta: found.delta,
            ranges: found.ranges,
            segments: core.count(),
            end: found.end,
            warnings,
        })
    }
}

struct Found {
    ranges: Vec<Range>,
    delta: Option<Segment>,
    page_size: u64,
    end: u64,
}

fn read_segments(core: &ElfCore, limit: u64) -> Result<Found, Error> {
    let head = core.head();
    let place = |number: u64| head.phoff + number * head.class.phdr as u64;
    let broken = |number: u64, field: &str, found: String, expected: &str| {
        let region = format!("program header {number}, {field}");
        Error::broken(region, place(number), found, expected)
    };
    let mut ranges: Vec<Range> = Vec::new();
    let (mut delta, mut page_size) = (None, 4096);
    let mut end = head.class.ehdr as u64;
    let mut failure = None;
    core.walk(&mut |number, segment| {
        match take(&segment, number, &broken) {
            Ok(Some(range)) if ranges.len() as u64 >= limit => {
                failure = Some(Error::Options(format!(
                    "full dump of more than {limit} ranges, at {:#x}",
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
    ranges.sort_unstable_by_key(|range| range.start);
    if let Some([first, second]) = ranges
        .array_windows()
        .find(|[first, second]| second.start < first.end())
    {
        return Err(Error::broken(
            "program headers",
            head.phoff,
            format!(
                "memory at {:#x} twice, in the ranges from {:#x} and from {:#x}",
                second.start, first.start, second.start
            ),
            "ranges that do not overlap",
        ));
    }
    Ok(Found {
        ranges,
        delta,
        page_size,
        end,
    })
}

/// The memory that a segment describes; `None` if it describes none.
fn take(
    segment: &Segment,
    number: u64,
    broken: &dyn Fn(u64, &str, String, &str) -> Error,
) -> Result<Option<Range>, Error> {
    if segment.kind != PT_LOAD || segment.filesz == 0 {
        return Ok(None);
    }
    if NONE.contains(&segment.paddr) {
        return Err(Error::Unsupported {
            what: "full dump by virtual addresses, as 32-bit powerpc's".into(),
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
            "an end within the address space and the file",
        ));
    }
    Ok(Some(Range {
        start: segment.paddr,
        len: segment.filesz,
        offset: segment.offset,
    }))
}
