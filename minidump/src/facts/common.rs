//! The facts that dumps of every kind have.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use livecore_compress::{Stream, StreamKind};
use serde::{Serialize, Serializer};

use crate::info;
use crate::{HeaderOrigin, KernelDumpHeader};

/// The frame index of a seal.
#[derive(Debug, Serialize)]
pub struct Frames {
    pub count: u64,
    /// Content bytes of the largest frame.
    pub content_size: u64,
}

/// The sizes of the payload.
#[derive(Debug, Serialize)]
pub struct PayloadFacts {
    /// Uncompressed, if known without decompressing.
    pub size: Option<u64>,
    /// According to header and bitmap.
    pub expected: u64,
    /// Compressed.
    pub stored: Option<u64>,
    pub ratio: Option<f64>,
}

/// The kerneldumpheader.
#[derive(Debug, Serialize)]
pub struct HeaderFacts {
    pub offset: Option<u64>,
    pub info_file: Option<String>,
    pub magic: &'static str,
    pub version: u32,
    pub architecture: String,
    pub architectureversion: u32,
    pub dumplength: u64,
    pub dumpextent: u64,
    pub dumptime: u64,
    pub dumptime_utc: Option<String>,
    pub dumpkeysize: u32,
    pub blocksize: u32,
    pub hostname: String,
    pub versionstring: String,
    pub panicstring: String,
    pub compression: u8,
    pub parity_ok: bool,
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

pub(super) fn ratio((size, stored): (u64, u64)) -> Option<f64> {
    // Two digits suffice, and are the same on every machine.
    (stored > 0).then(|| (size as f64 / stored as f64 * 100.0).round() / 100.0)
}

/// The time as RFC 3339 has it. `None` after the year 9999, which it cannot have.
fn utc(seconds: u64) -> Option<String> {
    let text = info::utc(seconds);
    let (date, rest) = text.split_once(' ')?;
    let (clock, _) = rest.split_once(' ')?;
    (date.len() == "2024-05-01".len()).then(|| format!("{date}T{clock}Z"))
}

/// Serializes an address in hexadecimal with `0x`.
pub(super) fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

/// Serializes an address, which is present, in hexadecimal.
pub(super) fn hex_option<S: Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
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
