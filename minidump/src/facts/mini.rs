//! The facts of a minidump, as docs/schemas/info.schema.json describes them.

use std::path::Path;

use serde::Serialize;

use super::common::{
    Frames, HeaderFacts, PayloadFacts, disk_size, hex, hex_option, origin, ratio, stream_name,
};
use crate::encryption::Cipher;
use crate::provenance::Provenance;
use crate::{Dump, Layout};

/// The facts of a minidump.
#[derive(Debug, Serialize)]
pub struct MinidumpFacts {
    pub dump: String,
    pub file_size: u64,
    /// Disk space of the file; `None` for a stream.
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
    pub minidump: Minidump,
    pub header_origin: &'static str,
    pub header: Option<HeaderFacts>,
    pub sections: Vec<SectionFacts>,
    pub dump_avail: Vec<AvailFacts>,
    pub pages: PageCounts,
    pub torn: Option<TornFacts>,
    pub pause: Option<PauseFacts>,
    pub cpu_state: Vec<CpuFacts>,
    /// Pages that were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<ExcludedFacts>,
    /// Memory that was overwritten on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<RedactedFacts>,
    pub seal_records: Vec<SealRecordFacts>,
    pub short: Option<Short>,
    /// Of the warnings, in their order.
    pub warning_ids: Vec<String>,
    pub warnings: Vec<String>,
}

/// Excluded pages of a class.
#[derive(Debug, Serialize)]
pub struct ExcludedFacts {
    pub class: String,
    pub pages: u64,
}

/// Redacted memory.
#[derive(Debug, Serialize)]
pub struct RedactedFacts {
    pub name: String,
    #[serde(serialize_with = "hex")]
    pub start: u64,
    #[serde(serialize_with = "hex")]
    pub end: u64,
}

/// The minidump header.
#[derive(Debug, Serialize)]
pub struct Minidump {
    pub version: u32,
    pub msgbufsize: u32,
    pub dumpavailsize: u32,
    pub bitmapsize: u32,
    pub pmapsize: u32,
    #[serde(serialize_with = "hex")]
    pub kernbase: u64,
    /// Only arm has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hex_option")]
    pub kernvirtaddr: Option<u64>,
    #[serde(serialize_with = "hex")]
    pub dmapbase: u64,
    #[serde(serialize_with = "hex")]
    pub dmapend: u64,
}

/// A section of the minidump.
#[derive(Debug, Serialize)]
pub struct SectionFacts {
    pub name: &'static str,
    pub offset: u64,
    pub size: u64,
}

/// A range of `dump_avail`.
#[derive(Debug, Serialize)]
pub struct AvailFacts {
    #[serde(serialize_with = "hex")]
    pub start: u64,
    #[serde(serialize_with = "hex")]
    pub end: u64,
    pub pages: u64,
    pub saved: u64,
}

/// Page counts.
#[derive(Debug, Serialize)]
pub struct PageCounts {
    pub saved: u64,
    pub holes: u64,
    pub total: u64,
}

/// Pages that changed while the dump was taken, if the producer checked.
#[derive(Debug, Serialize)]
pub struct TornFacts {
    pub pages: u64,
    pub torn: u64,
    pub read_again: u64,
    pub rounds: u32,
    /// Nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
}

/// How the guest was paused for its dump.
#[derive(Debug, Serialize)]
pub struct PauseFacts {
    pub how: &'static str,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds.
    pub length: u64,
    pub compared: u64,
    pub changed: u64,
    pub new: u64,
    /// As a sentence for the text output.
    #[serde(skip)]
    pub sentence: String,
}

/// A CPU whose registers livecore added to the dump.
#[derive(Debug, Serialize)]
pub struct CpuFacts {
    pub number: u32,
    pub cpuid: Option<u32>,
    pub tid: Option<i32>,
    pub place: &'static str,
}

/// A record of the seal other than header and index.
#[derive(Debug, Serialize)]
pub struct SealRecordFacts {
    pub kind: u32,
    pub size: u64,
}

/// Missing page data.
#[derive(Debug, Serialize)]
pub struct Short {
    pub expected: u64,
    pub actual: u64,
    pub pages: u64,
}

impl MinidumpFacts {
    /// The facts of `dump`, whose name is `path`.
    pub fn of(dump: &Dump, path: &Path, warnings: Vec<(String, String)>) -> Self {
        let (warning_ids, warnings) = warnings.into_iter().unzip();
        let stream = dump.envelope().stream();
        let size = dump.envelope().known_len();
        let stored = stream.data_len();
        let frames = Frames::of(stream);
        // Only sizes that are known without decoding; `Dump::shortness` would decode.
        let expected = dump.layout().end();
        let short = size.filter(|size| *size < expected).map(|actual| Short {
            expected,
            actual,
            pages: (expected - actual).div_ceil(dump.layout().page_size()),
        });
        let mini = dump.header();
        let provenance = dump
            .envelope()
            .seal()
            .map(Provenance::of)
            .unwrap_or_default();
        Self {
            dump: path.display().to_string(),
            file_size: dump.envelope().file_len(),
            disk_size: disk_size(path),
            container: dump.envelope().container().name(),
            encryption: dump.envelope().encryption().map(Cipher::name),
            codec: dump.envelope().codec().name(),
            stream: stream_name(stream.kind()),
            frames,
            payload: PayloadFacts {
                size,
                expected,
                stored,
                ratio: size.zip(stored).and_then(ratio),
            },
            architecture: mini.arch.name,
            byte_order: mini.order.name(),
            page_size: dump.layout().page_size(),
            minidump: Minidump {
                version: mini.version,
                msgbufsize: mini.msgbufsize,
                dumpavailsize: mini.dumpavailsize,
                bitmapsize: mini.bitmapsize,
                pmapsize: mini.pmapsize,
                kernbase: mini.kernbase,
                kernvirtaddr: match mini.kernvirtaddr {
                    0 => None,
                    address => Some(address.into()),
                },
                dmapbase: mini.dmapbase,
                dmapend: mini.dmapend,
            },
            header_origin: origin(dump.envelope().header_origin()),
            header: dump
                .envelope()
                .kerneldumpheader()
                .map(|h| HeaderFacts::of(h, dump.envelope().header_origin())),
            sections: sections(&dump.layout()),
            dump_avail: ranges(dump),
            pages: PageCounts {
                saved: dump.bitmap().count(),
                holes: dump.dump_avail().bits() - dump.bitmap().count(),
                total: dump.dump_avail().bits(),
            },
            torn: provenance.torn.map(|torn| TornFacts {
                pages: torn.pages,
                torn: torn.torn,
                read_again: torn.again,
                rounds: torn.rounds,
                start: torn.start,
                end: torn.end,
            }),
            pause: provenance.pause.map(|pause| PauseFacts {
                how: pause.how.name(),
                start: pause.start,
                length: pause.length,
                compared: pause.compared,
                changed: pause.changed,
                new: pause.new,
                sentence: pause.sentence(),
            }),
            cpu_state: provenance
                .cpus
                .iter()
                .map(|cpu| CpuFacts {
                    number: cpu.number,
                    cpuid: cpu.cpuid,
                    tid: cpu.tid,
                    place: cpu.place.name(),
                })
                .collect(),
            excluded: excluded(dump),
            redacted: redacted(dump),
            seal_records: dump.envelope().seal().map_or_else(Vec::new, |seal| {
                let record = |(kind, value): &(u32, Vec<u8>)| SealRecordFacts {
                    kind: *kind,
                    size: value.len() as u64,
                };
                seal.records.iter().map(record).collect()
            }),
            short,
            warning_ids,
            warnings,
        }
    }
}

fn excluded(dump: &Dump) -> Vec<ExcludedFacts> {
    let excluded = dump
        .envelope()
        .seal()
        .and_then(|seal| seal.excluded.as_ref());
    let classes = excluded.map_or(&[][..], |excluded| &excluded.classes);
    let facts = classes.iter().map(|class| ExcludedFacts {
        class: class.name.clone(),
        pages: class.pages,
    });
    facts.collect()
}

fn redacted(dump: &Dump) -> Vec<RedactedFacts> {
    // `verify` reports an invalid record.
    let ranges = dump.envelope().seal().and_then(|seal| seal.redacted().ok());
    let facts = ranges
        .unwrap_or_default()
        .into_iter()
        .map(|redacted| RedactedFacts {
            name: redacted.name,
            start: redacted.range.start,
            end: redacted.range.end,
        });
    facts.collect()
}

fn sections(layout: &Layout) -> Vec<SectionFacts> {
    let page = layout.page_size();
    [
        ("header", 0, layout.msgbuf_offset()),
        ("msgbuf", layout.msgbuf_offset(), layout.msgbuf_len()),
        (
            "dump_avail",
            layout.dump_avail_offset(),
            layout.dump_avail_len(),
        ),
        ("bitmap", layout.bitmap_offset(), layout.bitmap_len()),
        ("pmap", layout.pmap_offset(), layout.pmap_len()),
        ("pages", layout.data_offset(), layout.pages() * page),
    ]
    .into_iter()
    .filter(|(_, _, size)| *size > 0)
    .map(|(name, offset, size)| SectionFacts { name, offset, size })
    .collect()
}

fn ranges(dump: &Dump) -> Vec<AvailFacts> {
    let bitmap = dump.bitmap();
    let ranges = dump.dump_avail().ranges().iter();
    ranges
        .map(|s| AvailFacts {
            start: s.start.0,
            end: s.end.0,
            pages: s.pages,
            saved: bitmap.rank_below(s.first_bit + s.pages) - bitmap.rank_below(s.first_bit),
        })
        .collect()
}
