//! The facts of a full dump, as text and as docs/schemas/info-full.schema.json describes them.

use std::io::{self, Write};
use std::path::Path;

use livecore_minidump::encryption::Cipher;
use livecore_minidump::{FullDump, KernelMemory};
use serde::Serialize;

use super::facts::{Frames, HeaderFacts, PayloadFacts, disk_size, origin, ratio, stream_name};
use super::text::{self, Lines};
use crate::id::Id;
use crate::json::Hex;
use crate::text::Bytes;

/// The most ranges that are listed: a file may claim millions.
const RANGES: usize = 4096;

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The facts of a full dump.
#[derive(Debug, Serialize)]
pub(super) struct FullFacts {
    kind: &'static str,
    dump: String,
    file_size: u64,
    disk_size: Option<u64>,
    container: &'static str,
    encryption: Option<&'static str>,
    codec: &'static str,
    stream: &'static str,
    frames: Option<Frames>,
    payload: PayloadFacts,
    architecture: &'static str,
    byte_order: &'static str,
    page_size: u64,
    elf: Elf,
    /// Version of the minidump that the full dump carries.
    carried_minidump: Option<u32>,
    header_origin: &'static str,
    header: Option<HeaderFacts>,
    ranges: Vec<MemoryRangeFacts>,
    memory: u64,
    /// Ranges beyond [`RANGES`].
    #[serde(skip_serializing_if = "is_zero")]
    ranges_left_out: usize,
    /// Of the warnings, in their order.
    warning_ids: Vec<Id>,
    warnings: Vec<String>,
}

/// The ELF header.
#[derive(Debug, Serialize)]
struct Elf {
    class: u8,
    machine: u16,
    program_headers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
}

/// `PT_DUMP_DELTA` of arm and amd64.
#[derive(Debug, Serialize)]
struct Delta {
    linked: Hex,
    loaded: Hex,
}

/// A range of memory.
#[derive(Debug, Serialize)]
struct MemoryRangeFacts {
    start: Hex,
    end: Hex,
    offset: u64,
}

impl FullFacts {
    /// The facts of `dump`, whose name is `path`.
    pub(super) fn of(dump: &FullDump, path: &Path, warnings: Vec<(Id, String)>) -> Self {
        let (warning_ids, warnings) = warnings.into_iter().unzip();
        let stream = dump.envelope().stream();
        let (size, stored) = (dump.envelope().known_len(), stream.data_len());
        let head = dump.head();
        Self {
            kind: "full",
            dump: path.display().to_string(),
            file_size: dump.envelope().file_len(),
            disk_size: disk_size(path),
            container: dump.envelope().container().name(),
            encryption: dump.envelope().encryption().map(Cipher::name),
            codec: dump.envelope().codec().name(),
            stream: stream_name(stream.kind()),
            frames: Frames::of(stream),
            payload: PayloadFacts {
                size,
                expected: dump.end(),
                stored,
                ratio: size.zip(stored).and_then(ratio),
            },
            architecture: dump.arch().name,
            byte_order: dump.order().name(),
            page_size: dump.page_size(),
            elf: Elf {
                class: if head.class.word == 8 { 64 } else { 32 },
                machine: head.machine.0,
                program_headers: dump.segments(),
                delta: dump.delta().map(|delta| Delta {
                    // On amd64, the image begins `p_align` above KERNBASE.
                    linked: Hex(match dump.arch().name {
                        "amd64" => delta.vaddr.saturating_add(delta.align),
                        _ => delta.vaddr,
                    }),
                    loaded: Hex(delta.paddr),
                }),
            },
            carried_minidump: dump.minidump().map(|mini| mini.header().version),
            header_origin: origin(dump.envelope().header_origin()),
            header: dump
                .envelope()
                .kerneldumpheader()
                .map(|h| HeaderFacts::of(h, dump.envelope().header_origin())),
            ranges: dump
                .ranges()
                .iter()
                .take(RANGES)
                .map(|range| MemoryRangeFacts {
                    start: range.start.into(),
                    end: range.end().into(),
                    offset: range.offset,
                })
                .collect(),
            memory: dump.ranges().iter().map(|range| range.len).sum(),
            ranges_left_out: dump.ranges().len().saturating_sub(RANGES),
            warning_ids,
            warnings,
        }
    }
}

/// Prints the facts as text.
pub(super) fn print(facts: &FullFacts, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { out };
    lines.line("dump", &facts.dump)?;
    lines.line("file size", Bytes(facts.file_size))?;
    if let Some(size) = facts.disk_size {
        lines.line("disk size", Bytes(size))?;
    }
    lines.line("container", facts.container)?;
    if let Some(cipher) = facts.encryption {
        lines.line("encryption", cipher)?;
    }
    let codec = text::codec(facts.codec, facts.frames.as_ref(), facts.stream);
    lines.line("codec", codec)?;
    text::payload(facts.codec, "program headers", &facts.payload, &mut lines)?;
    let order = match facts.byte_order {
        "big" => ", big-endian",
        _ => "",
    };
    lines.line("architecture", format!("{}{order}", facts.architecture))?;
    lines.line(
        "full dump",
        format!(
            "ELF{} core of machine {}, {} program headers",
            facts.elf.class, facts.elf.machine, facts.elf.program_headers
        ),
    )?;
    if let Some(version) = facts.carried_minidump {
        lines.line("carries", format!("a minidump, version {version}"))?;
    }
    text::kerneldumpheader(facts.header_origin, facts.header.as_ref(), &mut lines)?;
    if let Some(delta) = &facts.elf.delta {
        let value = format!(
            "linked at {:#x}, loaded at {:#x}",
            delta.linked.0, delta.loaded.0
        );
        lines.line("kernel", value)?;
    }
    lines.title("memory")?;
    for range in &facts.ranges {
        let place = format!("[{:#x}, {:#x})", range.start.0, range.end.0);
        writeln!(lines.out, "  {place:38} at {:#x}", range.offset)?;
    }
    if facts.ranges_left_out > 0 {
        writeln!(lines.out, "  and {} more", facts.ranges_left_out)?;
    }
    lines.line("total", Bytes(facts.memory))
}
