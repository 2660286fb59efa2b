//! The facts of a full dump, as docs/schemas/info-full.schema.json describes them.

use std::path::Path;

use serde::Serialize;

use super::common::{
    Frames, HeaderFacts, PayloadFacts, disk_size, hex, origin, ratio, stream_name,
};
use crate::encryption::Cipher;
use crate::{FullDump, KernelMemory};

/// The most ranges that are listed: a file can state millions.
const RANGES: usize = 4096;

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The facts of a full dump.
#[derive(Debug, Serialize)]
pub struct FullFacts {
    pub kind: &'static str,
    pub dump: String,
    pub file_size: u64,
    pub disk_size: Option<u64>,
    pub container: &'static str,
    pub encryption: Option<&'static str>,
    pub codec: &'static str,
    pub stream: &'static str,
    pub frames: Option<Frames>,
    pub payload: PayloadFacts,
    pub architecture: &'static str,
    pub byte_order: &'static str,
    pub page_size: u64,
    pub elf: Elf,
    /// Version of the minidump that the full dump carries.
    pub carried_minidump: Option<u32>,
    pub header_origin: &'static str,
    pub header: Option<HeaderFacts>,
    pub ranges: Vec<MemoryRangeFacts>,
    pub memory: u64,
    /// Ranges that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub ranges_left_out: usize,
    /// Of the warnings, in their order.
    pub warning_ids: Vec<String>,
    pub warnings: Vec<String>,
}

/// The ELF header.
#[derive(Debug, Serialize)]
pub struct Elf {
    pub class: u8,
    pub machine: u16,
    pub program_headers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
}

/// `PT_DUMP_DELTA` of arm and amd64.
#[derive(Debug, Serialize)]
pub struct Delta {
    #[serde(serialize_with = "hex")]
    pub linked: u64,
    #[serde(serialize_with = "hex")]
    pub loaded: u64,
}

/// A range of memory.
#[derive(Debug, Serialize)]
pub struct MemoryRangeFacts {
    #[serde(serialize_with = "hex")]
    pub start: u64,
    #[serde(serialize_with = "hex")]
    pub end: u64,
    pub offset: u64,
}

impl FullFacts {
    /// The facts of `dump`, whose name is `path`.
    pub fn of(dump: &FullDump, path: &Path, warnings: Vec<(String, String)>) -> Self {
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
                    linked: match dump.arch().name {
                        "amd64" => delta.vaddr.saturating_add(delta.align),
                        _ => delta.vaddr,
                    },
                    loaded: delta.paddr,
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
                    start: range.start.0,
                    end: range.end().0,
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
