//! The facts of a minidump, as docs/schemas/info.schema.json describes them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use livecore_compress::{Stream, StreamKind};
use livecore_minidump::HeaderOrigin;
use livecore_minidump::encryption::Cipher;
use livecore_minidump::provenance::Provenance;
use livecore_minidump::{Dump, KernelDumpHeader, Layout};
use serde::Serialize;

use crate::id::Id;
use crate::json::Hex;

/// The facts of a minidump.
#[derive(Debug, Serialize)]
pub(crate) struct MinidumpFacts {
    pub(super) dump: String,
    pub(super) file_size: u64,
    /// Disk space of the file; `None` for a stream.
    pub(super) disk_size: Option<u64>,
    pub(super) container: &'static str,
    pub(super) encryption: Option<&'static str>,
    pub(super) codec: &'static str,
    pub(super) stream: &'static str,
    pub(super) frames: Option<Frames>,
    pub(super) payload: PayloadFacts,
    pub(super) architecture: &'static str,
    pub(super) byte_order: &'static str,
    pub(super) page_size: u64,
    pub(super) minidump: Minidump,
    pub(super) header_origin: &'static str,
    pub(super) header: Option<HeaderFacts>,
    pub(super) sections: Vec<SectionFacts>,
    pub(super) dump_avail: Vec<AvailFacts>,
    pub(super) pages: PageCounts,
    pub(super) torn: Option<TornFacts>,
    pub(super) pause: Option<PauseFacts>,
    pub(super) cpu_state: Vec<CpuFacts>,
    pub(super) seal_records: Vec<SealRecordFacts>,
    pub(super) short: Option<Short>,
    /// Of the warnings, in their order.
    pub(super) warning_ids: Vec<Id>,
    pub(super) warnings: Vec<String>,
}

/// The frame index of a seal.
#[derive(Debug, Serialize)]
pub(super) struct Frames {
    pub(super) count: u64,
    /// Content bytes of the largest frame.
    pub(super) content_size: u64,
}

/// The sizes of the payload.
#[derive(Debug, Serialize)]
pub(super) struct PayloadFacts {
    /// Uncompressed, if known without decompressing.
    pub(super) size: Option<u64>,
    /// According to header and bitmap.
    pub(super) expected: u64,
    /// Compressed.
    pub(super) stored: Option<u64>,
    pub(super) ratio: Option<f64>,
}

/// The minidump header.
#[derive(Debug, Serialize)]
pub(super) struct Minidump {
    pub(super) version: u32,
    pub(super) msgbufsize: u32,
    pub(super) dumpavailsize: u32,
    pub(super) bitmapsize: u32,
    pub(super) pmapsize: u32,
    pub(super) kernbase: Hex,
    /// Only arm has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernvirtaddr: Option<Hex>,
    pub(super) dmapbase: Hex,
    pub(super) dmapend: Hex,
}

/// The kerneldumpheader.
#[derive(Debug, Serialize)]
pub(super) struct HeaderFacts {
    pub(super) offset: Option<u64>,
    pub(super) info_file: Option<String>,
    pub(super) magic: &'static str,
    pub(super) version: u32,
    pub(super) architecture: String,
    pub(super) architectureversion: u32,
    pub(super) dumplength: u64,
    pub(super) dumpextent: u64,
    pub(super) dumptime: u64,
    pub(super) dumptime_utc: Option<String>,
    pub(super) dumpkeysize: u32,
    pub(super) blocksize: u32,
    pub(super) hostname: String,
    pub(super) versionstring: String,
    pub(super) panicstring: String,
    pub(super) compression: u8,
    pub(super) parity_ok: bool,
}

/// A section of the minidump.
#[derive(Debug, Serialize)]
pub(super) struct SectionFacts {
    pub(super) name: &'static str,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// A range of `dump_avail`.
#[derive(Debug, Serialize)]
pub(super) struct AvailFacts {
    pub(super) start: Hex,
    pub(super) end: Hex,
    pub(super) pages: u64,
    pub(super) saved: u64,
}

/// Page counts.
#[derive(Debug, Serialize)]
pub(super) struct PageCounts {
    pub(super) saved: u64,
    pub(super) holes: u64,
    pub(super) total: u64,
}

/// Pages that changed while the dump was taken, if the producer checked.
#[derive(Debug, Serialize)]
pub(super) struct TornFacts {
    pub(super) pages: u64,
    pub(super) torn: u64,
    pub(super) read_again: u64,
    pub(super) rounds: u32,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How the guest was paused for its dump.
#[derive(Debug, Serialize)]
pub(super) struct PauseFacts {
    pub(super) how: &'static str,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    /// Nanoseconds.
    pub(super) length: u64,
    pub(super) compared: u64,
    pub(super) changed: u64,
    pub(super) new: u64,
    /// As a sentence for the text output.
    #[serde(skip)]
    pub(super) sentence: String,
}

/// A CPU whose registers livecore added to the dump.
#[derive(Debug, Serialize)]
pub(super) struct CpuFacts {
    pub(super) number: u32,
    pub(super) cpuid: Option<u32>,
    pub(super) tid: Option<i32>,
    pub(super) place: &'static str,
}

/// A record of the seal other than header and index.
#[derive(Debug, Serialize)]
pub(super) struct SealRecordFacts {
    pub(super) kind: u32,
    pub(super) size: u64,
}

/// Missing page data.
#[derive(Debug, Serialize)]
pub(super) struct Short {
    pub(super) expected: u64,
    pub(super) actual: u64,
    pub(super) pages: u64,
}

/// Disk space of the file.
pub(super) fn disk_size(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|m| m.blocks().saturating_mul(512))
}

pub(super) fn stream_name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Plain => "plain",
        StreamKind::Sealed => "sealed",
        StreamKind::Foreign => "foreign",
    }
}

impl Frames {
    pub(super) fn of(stream: &Stream) -> Option<Self> {
        stream.frames().map(|table| Self {
            count: table.count(),
            content_size: u64::from(table.largest()),
        })
    }
}

impl MinidumpFacts {
    /// The facts of `dump`, whose name is `path`.
    pub(crate) fn of(dump: &Dump, path: &Path, warnings: Vec<(Id, String)>) -> Self {
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
                kernbase: Hex(mini.kernbase),
                kernvirtaddr: match mini.kernvirtaddr {
                    0 => None,
                    address => Some(Hex(address.into())),
                },
                dmapbase: Hex(mini.dmapbase),
                dmapend: Hex(mini.dmapend),
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

impl HeaderFacts {
    pub(super) fn of(header: &KernelDumpHeader, origin: &HeaderOrigin) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        Self {
            offset: match origin {
                HeaderOrigin::File { offset } => Some(*offset),
                _ => None,
            },
            info_file: match origin {
                HeaderOrigin::Info(path) => Some(path.display().to_string()),
                _ => None,
            },
            magic: header.magic.text(),
            version: header.version,
            architecture: text(&header.architecture),
            architectureversion: header.architectureversion,
            dumplength: header.dumplength,
            dumpextent: header.dumpextent,
            dumptime: header.dumptime,
            dumptime_utc: utc(header.dumptime),
            dumpkeysize: header.dumpkeysize,
            blocksize: header.blocksize,
            hostname: text(&header.hostname),
            versionstring: text(&header.versionstring),
            panicstring: text(&header.panicstring),
            compression: header.compression,
            parity_ok: header.parity_ok,
        }
    }
}

pub(super) fn origin(origin: &HeaderOrigin) -> &'static str {
    match origin {
        HeaderOrigin::File { .. } => "file",
        HeaderOrigin::Seal => "seal",
        HeaderOrigin::SealFromInfo => "seal-from-info",
        HeaderOrigin::SealFromPayload => "seal-from-payload",
        HeaderOrigin::ElfNote => "elf-note",
        HeaderOrigin::Info(_) => "info",
        HeaderOrigin::Absent => "absent",
    }
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
            start: s.start.into(),
            end: s.end.into(),
            pages: s.pages,
            saved: bitmap.rank_below(s.first_bit + s.pages) - bitmap.rank_below(s.first_bit),
        })
        .collect()
}

pub(super) fn ratio((size, stored): (u64, u64)) -> Option<f64> {
    // Two digits suffice, and are the same on every machine.
    (stored > 0).then(|| (size as f64 / stored as f64 * 100.0).round() / 100.0)
}

fn utc(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let time = time.to_zoned(TimeZone::UTC);
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_no_calendar_has_is_a_number_only() {
        assert_eq!(utc(0).unwrap(), "1970-01-01T00:00:00Z");
        // `date -u -d @1714557600 +%FT%TZ`
        assert_eq!(utc(1_714_557_600).unwrap(), "2024-05-01T10:00:00Z");
        assert_eq!(utc(u64::MAX), None);
        assert_eq!(utc(i64::MAX as u64), None);
    }
}
